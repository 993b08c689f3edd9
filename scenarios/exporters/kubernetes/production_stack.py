"""Target ``production-stack``: values of its Helm chart, and a LoraAdapter for each adapter of a group."""

from __future__ import annotations

from scenarios.errors import Problem
from scenarios.export_settings import ExportSettings
from scenarios.exporters.deployment import DeployedAdapter, Deployment, ExportError, Group
from scenarios.exporters.engine_flags import flags
from scenarios.exporters.exported import Export, ExportedFile
from scenarios.exporters.kubernetes.in_cluster import in_cluster
from scenarios.exporters.kubernetes.names import object_name
from scenarios.exporters.kubernetes.pods import (
    Object,
    engine_image,
    gpu_resources,
    literal,
    manifest,
    metadata,
)
from scenarios.exporters.kubernetes.sentences import base_sentence, pod_sentences
from scenarios.exporters.kubernetes.steps import delete_commands
from scenarios.exporters.servers import adapter_path, checked_model, head, server_arguments
from scenarios.exporters.steps_between.stepping import Change, Stepping
from scenarios.exporters.yaml_text import yaml_text

NAME = "production-stack"
CHECKED = (
    "production-stack LoraAdapter v1alpha1: vllm-project/production-stack helm/crds/crd-lora-adapter.yaml "
    "@a7d2672b; values: helm/values.schema.json @01eaf92c"
)
_VALUES = {
    "max_model_len": "maxModelLen",
    "dtype": "dtype",
    "tensor_parallel_size": "tensorParallelSize",
    "max_num_seqs": "maxNumSeqs",
    "gpu_memory_utilization": "gpuMemoryUtilization",
    "max_loras": "maxLoras",
}
"""Arguments that have a key of their own below vllmConfig; all others are extraArgs."""


def export(deployment: Deployment) -> Export:
    """Values of the chart and adapters."""
    deployment = in_cluster(deployment)
    lost, cautions = _sentences(deployment)
    comments = head(f"vLLM production stack: {deployment.settings.name}", lost, cautions)
    files = [ExportedFile("values.yaml", yaml_text([chart_values(deployment)], comments))]
    steps = [
        "helm repo add vllm https://vllm-project.github.io/production-stack",
        helm_command(deployment.settings),
    ]
    adapters = [
        lora_adapter(adapter, group, deployment) for group in deployment.groups for adapter in group.adapters
    ]
    if adapters:
        files.append(manifest("adapters.yaml", adapters, comments))
        steps.append("kubectl apply -f adapters.yaml")
    return Export(tuple(files), (), tuple(lost), tuple(cautions), tuple(steps))


def helm_command(settings: ExportSettings) -> str:
    """Install the chart, or change what it installed."""
    return f"helm upgrade --install {settings.name} vllm/vllm-stack -n {settings.namespace} -f values.yaml"


def commands(change: Change) -> list[str]:
    """What is typed for a step: engines start before adapters are loaded, and stop after.

    Engines that a step removes are deleted by helm; the adapters of a step are deleted before that.
    """
    paths = [file.path for file in change.files]
    helm = [helm_command(change.after.settings) + " --wait --timeout=1h"] * ("values.yaml" in paths)
    adapters = ["kubectl apply -f adapters.yaml"] * ("adapters.yaml" in paths)
    if change.part == "1-load":
        return [*helm, *adapters]
    return [*adapters, *delete_commands(change), *helm]


STEPS = Stepping(
    commands,
    parts=("1-load", "3-unload"),
    rewrites=True,
    cautions=(
        "values.yaml says all engines of the chart: compare it with `helm get values` first, for an engine "
        "of which it says anything else than that is started anew.",
        "A request goes to any engine that holds its adapter: to both, between the two steps of a wave.",
    ),
)


def chart_values(deployment: Deployment) -> Object:
    """Values of the chart: an entry of modelSpec for each group."""
    engines: Object = {
        "enableEngine": True,
        "modelSpec": [model_spec(group, deployment) for group in deployment.groups],
    }
    settings = deployment.settings
    if settings.api_key_secret is not None:
        engines["vllmApiKey"] = {"secretName": settings.api_key_secret, "secretKey": "api-key"}
    return {"servingEngineSpec": engines, "loraController": {"enableLoraController": True}}


def model_spec(group: Group, deployment: Deployment) -> Object:
    """A group's entry of modelSpec; its name is the label ``model`` of its pods, by which adapters find it.

    The chart writes ``--enable-lora`` for enableLoRA, and ``--no-enable-prefix-caching`` where
    enablePrefixCaching is not said (helm/templates/deployment-vllm-multi.yaml @010004ee).
    """
    settings = deployment.settings
    repository, tag = image_parts(deployment)
    given = server_arguments(group, deployment.engine_version).values
    config: Object = {key: given.pop(name) for name, key in _VALUES.items() if name in given}
    config["enablePrefixCaching"] = bool(given.pop("enable_prefix_caching", True))
    if "enable_chunked_prefill" in given:
        config["enableChunkedPrefill"] = bool(given.pop("enable_chunked_prefill"))
    given.pop("enable_lora", None)
    words = [f"--served-model-name={deployment.base_name}", *flags(given, deployment.engine_version)]
    config["extraArgs"] = [literal(word) for word in words]
    spec: Object = {
        "name": group.name,
        "repository": repository,
        "tag": tag,
        "modelURL": literal(checked_model(deployment)),
        "replicaCount": 1,
        "requestGPU": len(group.devices),
        "resources": gpu_resources(group, deployment),
        "enableLoRA": bool(group.arguments.get("enable_lora")),
        "vllmConfig": config,
        "pvcStorage": f"{settings.storage_gib}Gi",
        "env": [{"name": "VLLM_ALLOW_RUNTIME_LORA_UPDATING", "value": "True"}],
    }
    if settings.hub_secret is not None:
        spec["hf_token"] = {"secretName": settings.hub_secret, "secretKey": "token"}
    if settings.storage_claim is not None:
        claim = {"claimName": settings.storage_claim, "readOnly": True}
        spec["extraVolumes"] = [{"name": "weights", "persistentVolumeClaim": claim}]
        spec["extraVolumeMounts"] = [
            {"name": "weights", "mountPath": settings.adapters_dir, "readOnly": True}
        ]
    return spec


def image_parts(deployment: Deployment) -> tuple[str, str]:
    """The image as the chart takes it: repository and tag.

    Raises
    ------
    ExportError
        If it has no tag, or is named by a digest.
    """
    image = engine_image(deployment)
    repository, _, tag = image.rpartition(":")
    if not repository or "/" in tag or "@" in image:
        message = f'is "{image}", and the chart needs a repository and a tag'
        raise ExportError([Problem("export.image", message, "write it as REPOSITORY:TAG")])
    return repository, tag


def lora_adapter(adapter: DeployedAdapter, group: Group, deployment: Deployment) -> Object:
    """An adapter on a group: baseModel is the value of the label ``model`` of its pods."""
    settings = deployment.settings
    location = adapter.location
    source: Object = {"type": "local", "adapterName": adapter.served_name}
    if location is not None and location.kind == "hub":
        source |= {"type": "huggingface", "repository": location.path}
        if settings.hub_secret is not None:
            source["credentialsSecretRef"] = {"name": settings.hub_secret, "key": "token"}
    else:
        source["adapterPath"] = adapter_path(adapter, deployment)
    spec: Object = {
        "baseModel": group.name,
        "adapterSource": source,
        "loraAdapterDeploymentConfig": {"algorithm": "default", "replicas": 1},
    }
    if settings.api_key_secret is not None:
        spec["vllmApiKey"] = {"secretName": settings.api_key_secret, "secretKey": "api-key"}
    return {
        "apiVersion": "production-stack.vllm.ai/v1alpha1",
        "kind": "LoraAdapter",
        "metadata": metadata(object_name(group.name, adapter.served_name), deployment),
        "spec": spec,
    }


def _sentences(deployment: Deployment) -> tuple[list[str], list[str]]:
    lost, cautions = pod_sentences(deployment)
    if deployment.split:
        lost.append("Shares of what several groups hold: the chart's router knows none.")
    cautions.append(
        "The controller reads no algorithm and loads an adapter of `replicas: 1` on the first pod, by name, "
        "of its baseModel: here each group is a modelSpec of its own, with one pod."
    )
    cautions.append("The chart's engines say --enable-prefix-caching, vLLM's own default.")
    cautions += base_sentence(deployment)
    adapters = [a for group in deployment.groups for a in group.adapters]
    if deployment.settings.hub_secret is None and any(
        a.location and a.location.kind == "hub" for a in adapters
    ):
        cautions.append("Adapters of the hub need a secret with a token here: name one as export.hub_secret.")
    return lost, cautions
