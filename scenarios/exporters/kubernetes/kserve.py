"""Target ``kserve``: an LLMInferenceService for each group."""

from __future__ import annotations

import json
import shlex

from scenarios.errors import Problem
from scenarios.exporters.deployment import DeployedAdapter, Deployment, ExportError, Group
from scenarios.exporters.engine_flags import flags
from scenarios.exporters.exported import Export
from scenarios.exporters.kubernetes.in_cluster import in_cluster
from scenarios.exporters.kubernetes.names import dns_label
from scenarios.exporters.kubernetes.pods import Object, gpu_resources, literal, manifest, metadata
from scenarios.exporters.kubernetes.sentences import pod_sentences
from scenarios.exporters.kubernetes.weights import adapter_address, claim_address, hub_or_bucket
from scenarios.exporters.locations import location_of
from scenarios.exporters.servers import NAMED, check_served, head, link_name, server_arguments
from scenarios.text.display import visible
from scenarios.text.formatting import listed

NAME = "kserve"
CHECKED = (
    "LLMInferenceService v1alpha2: kserve/kserve pkg/apis/serving/v1alpha2/llm_inference_service_types.go "
    "@01b12410"
)
STEPS = (
    "KServe makes the routes of a service with its engine, so that they cannot be switched once the new one "
    "runs, and starts the engine anew for other adapters"
)

MOST_EXACT = 7
"""Adapters beside the base model that a route with exact matches holds: eight exceed its 64 matches
(KServe's guide to LoRA adapters, on routing many adapters)."""
SERVED_NAMES = "lorapack/served-names"
"""Annotation with names of adapters as clients know them, as JSON, by the name that was made of each."""
MOST_ANNOTATION = 200_000
"""Most bytes of it: all annotations of an object together have 262,144 (k8s.io/apimachinery,
pkg/api/validation/objectmeta.go, TotalAnnotationSizeLimitB)."""
STRATEGY = "serving.kserve.io/lora-model-routing-strategy"
SAID_BY_LORA = frozenset({"enable_lora", "max_loras", "max_lora_rank", "max_cpu_loras"})
"""Arguments that spec.model.lora says."""


def export(deployment: Deployment) -> Export:
    """Services of KServe."""
    deployment = in_cluster(deployment)
    lost, cautions = _sentences(deployment)
    comments = head(f"KServe: {deployment.settings.name}", lost, cautions)
    services = [service(group, deployment) for group in deployment.groups]
    file = manifest("services.yaml", services, comments)
    return Export((file,), (), tuple(lost), tuple(cautions), ("kubectl apply -f services.yaml",))


def model_address(deployment: Deployment) -> str:
    """The base model's address.

    Raises
    ------
    ExportError
        If KServe can fetch nothing of that kind.
    """
    location = location_of(deployment.model)
    address = hub_or_bucket(location)
    if location.kind == "folder":
        address = claim_address(location.path, deployment)
    if location.kind == "pvc":
        address = deployment.model
    if address is None:
        message = f'is "{visible(deployment.model)}", and KServe takes hf://, s3:// and pvc:// alone'
        remedy = "name one; a folder must lie below export.adapters_dir, in export.storage_claim"
        raise ExportError([Problem("export.model", message, remedy)])
    return address


def service(group: Group, deployment: Deployment) -> Object:
    """A group's service; where the plan sends it no requests of the base model, that has the group's name."""
    model: Object = {
        "uri": model_address(deployment),
        "name": deployment.base_name if group.base else group.name,
    }
    if group.adapters:
        model["lora"] = lora(group, deployment)
    arguments = server_arguments(group, deployment.engine_version).values
    said = {name: value for name, value in arguments.items() if name not in SAID_BY_LORA}
    words = flags(said, deployment.engine_version)
    extra = {"name": "VLLM_ADDITIONAL_ARGS", "value": literal(shlex.join(words))}
    container: Object = {"name": "main", "env": [extra], "resources": gpu_resources(group, deployment)}
    if deployment.settings.image is not None:
        container["image"] = deployment.settings.image
    spec: Object = {"model": model, "replicas": 1, "template": {"containers": [container]}}
    if len(group.adapters) > MOST_EXACT:
        spec["annotations"] = {STRATEGY: "regex"}
    spec["router"] = {"route": {}, "gateway": {}}
    about = metadata(group.name, deployment)
    renamed = _renamed(group)
    if renamed:
        names = json.dumps(renamed, ensure_ascii=False)
        if len(names.encode()) > MOST_ANNOTATION:
            message = (
                f"have {len(renamed):,} names on {group.name} that are none of a folder, and too many to keep"
            )
            raise ExportError([Problem("adapters", message, "give them served names without /")])
        about["annotations"] = {SERVED_NAMES: names}
    return {
        "apiVersion": "serving.kserve.io/v1alpha2",
        "kind": "LLMInferenceService",
        "metadata": about,
        "spec": spec,
    }


def lora_name(served_name: str) -> str:
    """The name of an adapter, or one made of it where it is none of a folder, or begins a template.

    KServe mounts each adapter at ``/mnt/lora/NAME``, and its presets are templates, which ``{{`` begins.
    """
    unfit = link_name(served_name) is None or "{{" in served_name
    return dns_label(served_name) if unfit else served_name


def _renamed(group: Group) -> dict[str, str]:
    """Names of adapters as clients know them, by the name that was made of each."""
    made = ((lora_name(adapter.served_name), adapter.served_name) for adapter in group.adapters)
    return {name: served for name, served in made if name != served}


def lora(group: Group, deployment: Deployment) -> Object:
    """A group's adapters and slots; all three numbers, for KServe's own are the number of adapters."""
    adapters = []
    for adapter in group.adapters:
        address = adapter_address(adapter, deployment)
        if address is not None:
            adapters.append({"name": lora_name(adapter.served_name), "uri": address})
    return {
        "adapters": adapters,
        "maxRank": group.gpu.max_lora_rank,
        "maxAdapters": group.gpu.max_loras,
        "maxCpuAdapters": group.gpu.max_cpu_loras or group.gpu.max_loras,
    }


def _sentences(deployment: Deployment) -> tuple[list[str], list[str]]:
    lost, cautions = pod_sentences(deployment, fetched=True)
    told: dict[str, DeployedAdapter] = {a.name: a for g in deployment.groups for a in g.adapters}
    silent = [name for name, a in told.items() if adapter_address(a, deployment) is None]
    taken = "KServe takes hf://, s3:// and pvc:// alone; of folders name the claim (export.storage_claim)"
    check_served(deployment, silent, taken)
    if silent:
        lost.append(
            f"Adapters that hf://, s3:// and pvc:// cannot name, which are left out: {listed(silent, NAMED)}."
        )
    renamed = [served for group in deployment.groups for served in _renamed(group).values()]
    if renamed:
        lost.append(
            f"Names of adapters that no folder has, or that begin a template ({listed(renamed, NAMED)}): "
            f"each is asked for by a name made of it; the annotation {SERVED_NAMES} has both."
        )
    if deployment.split:
        lost.append("Shares: of services with the same name of a model the gateway takes one.")
    cautions += [
        "maxAdapters and maxCpuAdapters stand in every service: KServe's own are the number of adapters.",
        "Arguments of vLLM stand in VLLM_ADDITIONAL_ARGS, which KServe's presets read; yours must too.",
    ]
    if any(len(group.adapters) > MOST_EXACT for group in deployment.groups):
        cautions.append(
            f"Groups of more than {MOST_EXACT} adapters are routed by a regular expression, which gateways "
            "limit (4096 characters; Envoy's re2.max_program_size)."
        )
    if deployment.settings.image is None:
        cautions.append("The image is that of KServe's preset, whose release of vLLM may be another.")
    if deployment.settings.hub_secret or deployment.settings.api_key_secret:
        cautions.append("Secrets are none of these files: attach them to the service account of the pods.")
    return lost, cautions
