"""Target ``dynamo``: a DynamoGraphDeployment with a worker for each group, and DynamoModels for adapters."""

from __future__ import annotations

from scenarios.errors import Problem
from scenarios.exporters.deployment import DeployedAdapter, Deployment, ExportError, Group
from scenarios.exporters.exported import Export
from scenarios.exporters.kubernetes.in_cluster import in_cluster
from scenarios.exporters.kubernetes.names import object_name
from scenarios.exporters.kubernetes.pods import (
    Object,
    environment,
    literal,
    manifest,
    metadata,
    mounts,
    volumes,
)
from scenarios.exporters.kubernetes.sentences import base_sentence, pod_sentences
from scenarios.exporters.kubernetes.weights import hub_or_bucket
from scenarios.exporters.servers import NAMED, check_served, checked_model, head, server_flags
from scenarios.text.formatting import listed

NAME = "dynamo"
CHECKED = (
    "DynamoModel v1alpha1: ai-dynamo/dynamo deploy/operator/config/crd/bases/nvidia.com_dynamomodels.yaml "
    "@50820f5b; DynamoGraphDeployment v1alpha1: deploy/operator/api/v1alpha1/dynamographdeployment_types.go "
    "@0fddc01b"
)
STEPS = (
    "Dynamo's operator starts all workers of a graph anew where one of them is added, removed or changed "
    "(ComputeDGDWorkersSpecHash, deploy/operator/api/v1alpha1)"
)
MOST_SERVICES = 25
"""Services of a graph (ibid.); one is its frontend."""

_LORA = {"DYN_LORA_ENABLED": "true", "DYN_LORA_ALLOCATION_ENABLED": "false"}
"""Adapters are loaded when asked, and Dynamo's own placement of them is off."""


def export(deployment: Deployment) -> Export:
    """A graph of workers, and adapters."""
    deployment = in_cluster(deployment)
    lost, cautions = _sentences(deployment)
    comments = head(f"Dynamo: {deployment.settings.name}", lost, cautions)
    files = [manifest("graph.yaml", [graph(deployment)], comments)]
    steps = ["kubectl apply -f graph.yaml"]
    models = [
        model
        for group in deployment.groups
        for adapter in group.adapters
        if (model := adapter_model(adapter, group, deployment)) is not None
    ]
    if models:
        files.append(manifest("adapters.yaml", models, comments))
        steps.append("kubectl apply -f adapters.yaml")
    return Export(tuple(files), (), tuple(lost), tuple(cautions), tuple(steps))


def graph(deployment: Deployment) -> Object:
    """The graph: a frontend, and a worker for each group.

    Raises
    ------
    ExportError
        If no image is named, for releases of Dynamo's do not tell that of vLLM, or there are more engines
        than a graph holds.
    """
    if len(deployment.groups) >= MOST_SERVICES:
        most = MOST_SERVICES - 1
        message = f"are {len(deployment.groups)}, and a graph of Dynamo's has {most} engines at most"
        raise ExportError([Problem("gpus", message, "choose another target, or plan for fewer GPUs")])
    image = deployment.settings.image
    if image is None:
        message = "is missing, and Dynamo's images are numbered otherwise than vLLM's releases"
        raise ExportError([Problem("export.image", message, "name one of Dynamo's, with the release judged")])
    frontend: Object = {
        "componentType": "frontend",
        "replicas": 1,
        "dynamoNamespace": deployment.settings.name,
        "extraPodSpec": {
            "mainContainer": {
                "image": image,
                "env": [{"name": name, "value": value} for name, value in _LORA.items()],
            }
        },
    }
    services = {"Frontend": frontend}
    services |= {group.name: worker(group, deployment, image) for group in deployment.groups}
    return {
        "apiVersion": "nvidia.com/v1alpha1",
        "kind": "DynamoGraphDeployment",
        "metadata": metadata(deployment.settings.name, deployment),
        "spec": {"backendFramework": "vllm", "services": services},
    }


def worker(group: Group, deployment: Deployment, image: str) -> Object:
    """A group's worker; its modelRef is what DynamoModels of the group name as baseModelName."""
    words = ["--model", checked_model(deployment), f"--served-model-name={deployment.base_name}"]
    words += server_flags(group, deployment)
    container: Object = {
        "image": image,
        "command": ["python3", "-m", "dynamo.vllm"],
        "args": [literal(word) for word in words],
        "env": environment(deployment, _LORA),
        "volumeMounts": mounts(deployment),
    }
    return {
        "componentType": "worker",
        "replicas": 1,
        "dynamoNamespace": deployment.settings.name,
        "modelRef": {"name": group.name},
        "resources": {"limits": limits(group, deployment)},
        "extraPodSpec": {"mainContainer": container, "volumes": volumes(deployment)},
    }


def limits(group: Group, deployment: Deployment) -> Object:
    """A worker's GPUs, and which resource they are where it is not Dynamo's own (api/v1alpha1/common.go)."""
    number: Object = {"gpu": str(len(group.devices))}
    resource = deployment.settings.gpu_resource
    return number if resource == "nvidia.com/gpu" else {**number, "gpuType": resource}


def adapter_model(adapter: DeployedAdapter, group: Group, deployment: Deployment) -> Object | None:
    """An adapter on a group; None where Dynamo cannot fetch it."""
    address = hub_or_bucket(adapter.location)
    if address is None:
        return None
    return {
        "apiVersion": "nvidia.com/v1alpha1",
        "kind": "DynamoModel",
        "metadata": metadata(object_name(group.name, adapter.served_name), deployment),
        "spec": {
            "modelName": adapter.served_name,
            "baseModelName": group.name,
            "modelType": "lora",
            "source": {"uri": address},
        },
    }


def _sentences(deployment: Deployment) -> tuple[list[str], list[str]]:
    lost, cautions = pod_sentences(deployment, fetched=True)
    told = {a.name: a for group in deployment.groups for a in group.adapters}
    silent = [name for name, a in told.items() if hub_or_bucket(a.location) is None]
    check_served(deployment, silent, "Dynamo fetches from hf:// and s3:// alone")
    if silent:
        lost.append(
            f"Adapters that hf:// and s3:// cannot name, which are left out: {listed(silent, NAMED)}."
        )
    if deployment.split:
        lost.append("Shares of what several groups hold: Dynamo's router chooses among their workers.")
    cautions.append(
        "Dynamo's own allocator (DYN_LORA_ALLOCATION_ENABLED) is switched off here; switched on, it would "
        "move adapters from where the plan has them."
    )
    cautions += base_sentence(deployment)
    return lost, cautions
