"""Target ``kserve``: an LLMInferenceService for each group."""

from __future__ import annotations

import shlex

from scenarios.errors import Problem
from scenarios.exporters.deployment import DeployedAdapter, Deployment, ExportError, Group
from scenarios.exporters.engine_flags import flags
from scenarios.exporters.exported import Export, ExportedFile
from scenarios.exporters.kubernetes.names import checked_names
from scenarios.exporters.kubernetes.pods import (
    Object,
    gpu_resources,
    literal,
    metadata,
    pod_sentences,
)
from scenarios.exporters.kubernetes.weights import adapter_address, claim_address, hub_or_bucket
from scenarios.exporters.locations import location_of
from scenarios.exporters.servers import NAMED, head, link_name, server_arguments
from scenarios.exporters.yaml_text import yaml_text
from scenarios.text.display import visible
from scenarios.text.formatting import listed

NAME = "kserve"
CHECKED = (
    "LLMInferenceService v1alpha2: kserve/kserve pkg/apis/serving/v1alpha2/llm_inference_service_types.go "
    "@01b12410"
)

MOST_EXACT = 7
"""Adapters beside the base model that a route with exact matches holds: eight exceed its 64 matches
(KServe's guide to LoRA adapters, on routing many adapters)."""
STRATEGY = "serving.kserve.io/lora-model-routing-strategy"
SAID_BY_LORA = frozenset({"enable_lora", "max_loras", "max_lora_rank", "max_cpu_loras"})
"""Arguments that spec.model.lora says."""


def export(deployment: Deployment) -> Export:
    """Services of KServe."""
    checked_names(deployment)
    lost, cautions = _sentences(deployment)
    comments = head(f"KServe: {deployment.settings.name}", lost, cautions)
    services = [service(group, deployment) for group in deployment.groups]
    file = ExportedFile("services.yaml", yaml_text(services, comments))
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
    return {
        "apiVersion": "serving.kserve.io/v1alpha2",
        "kind": "LLMInferenceService",
        "metadata": metadata(group.name, deployment),
        "spec": spec,
    }


def lora(group: Group, deployment: Deployment) -> Object:
    """A group's adapters and slots; all three numbers, for KServe's own are the number of adapters.

    Raises
    ------
    ExportError
        If an adapter's name is no name of a folder, for KServe mounts each at ``/mnt/lora/NAME``, or could be
        taken for a template, which KServe's presets are.
    """
    adapters = []
    for adapter in group.adapters:
        if link_name(adapter.served_name) is None:
            message = f'is "{visible(adapter.served_name)}", and KServe mounts adapters at /mnt/lora/NAME'
            raise ExportError([Problem("adapters", message, "give it a served_name without /")])
        if "{{" in adapter.served_name:
            message = f'is "{visible(adapter.served_name)}", and {{{{ begins a template of KServe\'s'
            raise ExportError([Problem("adapters", message, "give it another served_name")])
        address = adapter_address(adapter, deployment)
        if address is not None:
            adapters.append({"name": adapter.served_name, "uri": address})
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
    if silent:
        lost.append(
            f"Adapters that hf://, s3:// and pvc:// cannot name, which are left out: {listed(silent, NAMED)}."
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
