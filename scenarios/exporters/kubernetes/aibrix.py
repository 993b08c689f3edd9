"""Target ``aibrix``: a Deployment for each group and a ModelAdapter for each adapter."""

from __future__ import annotations

from hashlib import sha256

from scenarios.exporters.deployment import DeployedAdapter, Deployment
from scenarios.exporters.exported import Export
from scenarios.exporters.kubernetes.in_cluster import in_cluster
from scenarios.exporters.kubernetes.names import dns_label
from scenarios.exporters.kubernetes.pods import (
    GROUP_LABEL,
    PORT,
    SERVED_NAME,
    Object,
    engine_object,
    manifest,
    metadata,
    service_object,
)
from scenarios.exporters.kubernetes.sentences import base_sentence, pod_sentences
from scenarios.exporters.kubernetes.steps import kubectl_commands
from scenarios.exporters.servers import NAMED, adapter_path, head
from scenarios.exporters.steps_between.stepping import Stepping
from scenarios.text.formatting import listed

NAME = "aibrix"
CHECKED = (
    "AIBrix ModelAdapter v1alpha1: vllm-project/aibrix config/crd/model/model.aibrix.ai_modeladapters.yaml "
    "@3b2594e6"
)

MODEL_LABEL = "model.aibrix.ai/name"
SET_LABEL = "lorapack-set-"
"""Beginning of a label that the pods of several groups share, for adapters that they hold together: of a
selector the controller reads matchLabels alone (pkg/controller/modeladapter/modeladapter_controller.go
@0299c517)."""
MOST_SET = 40
"""Most characters that name the groups in it."""

STEPS = Stepping(
    kubectl_commands,
    parts=("1-load", "3-unload"),
    cautions=(
        "A request goes to any pod that holds its adapter: to old and new ones between the steps of a wave.",
        "AIBrix unloads an adapter from no pod that its selector does not match any more, but sends it no "
        "requests (modeladapter_controller.go @0299c517): unload it there yourself, or leave it to the "
        "engine, which drops adapters that nobody asks for when it needs room.",
        "Labels that `kubectl label` gives to pods are gone when a pod starts anew: apply engines.yaml of "
        "the whole plan when a restart of its engines does no harm.",
    ),
)


def export(deployment: Deployment) -> Export:
    """Deployments and adapters of AIBrix."""
    deployment = in_cluster(deployment)
    model = dns_label(deployment.base_name)
    sets = shared_sets(deployment)
    lost, cautions = _sentences(deployment, model)
    comments = head(f"AIBrix: {deployment.settings.name}", lost, cautions)
    engines: list[Object] = [service_object(model, deployment, {MODEL_LABEL: model})]
    for group in deployment.groups:
        labels = {
            MODEL_LABEL: model,
            "model.aibrix.ai/port": str(PORT),
            "adapter.model.aibrix.ai/enabled": "true",
        }
        labels |= {label: "true" for numbers, label in sets.items() if group.number in numbers}
        values = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
        engines.append(
            engine_object(group, deployment, modules=False, labels=labels, values=values, aliases=[model])
        )
    files = [manifest("engines.yaml", engines, comments)]
    steps = ["kubectl apply -f engines.yaml"]
    adapters = _adapters(deployment, model, sets)
    if adapters:
        files.append(manifest("adapters.yaml", adapters, comments))
        selector = f"app.kubernetes.io/part-of={deployment.settings.name}"
        steps.append(
            f"kubectl -n {deployment.settings.namespace} wait --for=condition=Available deployment "
            f"-l {selector} --timeout=1h"
        )
        steps.append("kubectl apply -f adapters.yaml")
    return Export(tuple(files), (), tuple(lost), tuple(cautions), tuple(steps))


def shared_sets(deployment: Deployment) -> dict[frozenset[int], str]:
    """A label for each set of groups that hold an adapter together; it follows from their numbers."""
    found: dict[frozenset[int], str] = {}
    for numbers in _holders(deployment).values():
        if len(numbers) > 1:
            told = "-".join(str(number) for number in sorted(numbers))
            if len(told) > MOST_SET:
                told = f"of-{len(numbers)}-{sha256(told.encode()).hexdigest()[:8]}"
            found[numbers] = f"{SET_LABEL}{told}"
    return found


def _holders(deployment: Deployment) -> dict[str, frozenset[int]]:
    """The groups that hold each adapter, by its served name."""
    found: dict[str, set[int]] = {}
    for group in deployment.groups:
        for adapter in group.adapters:
            found.setdefault(adapter.served_name, set()).add(group.number)
    return {name: frozenset(numbers) for name, numbers in found.items()}


def _adapters(deployment: Deployment, model: str, sets: dict[frozenset[int], str]) -> list[Object]:
    names = {group.number: group.name for group in deployment.groups}
    told = {a.served_name: a for group in deployment.groups for a in group.adapters}
    objects: list[Object] = []
    for served, numbers in _holders(deployment).items():
        labels = {sets[numbers]: "true"} if len(numbers) > 1 else {GROUP_LABEL: names[next(iter(numbers))]}
        spec: Object = {
            "baseModel": model,
            "podSelector": {"matchLabels": {MODEL_LABEL: model, **labels}},
            "artifactURL": artifact_url(told[served], deployment),
        }
        objects.append(
            {
                "apiVersion": "model.aibrix.ai/v1alpha1",
                "kind": "ModelAdapter",
                "metadata": metadata(dns_label(served), deployment, served_name=served),
                "spec": spec,
            }
        )
    return objects


def artifact_url(adapter: DeployedAdapter, deployment: Deployment) -> str:
    """An adapter's address: of the hub with AIBrix's scheme, else a folder.

    Without its sidecar AIBrix refuses every other scheme (pkg/controller/modeladapter/lora_client.go).
    """
    location = adapter.location
    if location is not None and location.kind == "hub":
        return f"huggingface://{location.path}"
    return adapter_path(adapter, deployment)


def _sentences(deployment: Deployment, model: str) -> tuple[list[str], list[str]]:
    lost, cautions = pod_sentences(deployment)
    if model != deployment.base_name:
        lost.append(f'The name "{deployment.base_name}" of the base model: AIBrix routes it as {model}.')
    told = {a.served_name: None for group in deployment.groups for a in group.adapters}
    renamed = [name for name in told if dns_label(name) != name]
    if renamed:
        lost.append(
            f"Names of adapters ({listed(renamed, NAMED)}): an adapter is asked for by the name of its "
            f"ModelAdapter, which is a DNS label; the annotation {SERVED_NAME} has its own."
        )
    if any(route.served_name in told for route in deployment.split):
        lost.append("Shares of split adapters: the gateway balances over all pods that hold one.")
    cautions.append(
        "A ModelAdapter is loaded by one pod or by all that its selector matches: replicas is left out for "
        "all; labels on the pods, one for each group, hold an adapter to its group."
    )
    cautions += base_sentence(deployment)
    if deployment.settings.api_key_secret is not None:
        cautions.append("The engines want a key; AIBrix takes that for loading from additionalConfig.")
    return lost, cautions
