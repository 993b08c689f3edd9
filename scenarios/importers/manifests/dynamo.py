"""Graphs of Dynamo: their workers, each with the name by which adapters find it.

Forms are those of ai-dynamo/dynamo examples/backends/vllm/deploy/lora/agg_lora.yaml @01c94133 (v1alpha1) and
examples/backends/vllm/deploy/lora/v1beta1/agg_lora.yaml @04521f47 (v1beta1).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from scenarios.importers.facts import SourceFacts
from scenarios.importers.manifests.adapters import MODEL_REFERENCE
from scenarios.importers.manifests.containers import Engine, device_of, engine_in, running
from scenarios.importers.manifests.documents import Document
from scenarios.importers.manifests.linking import gathered


def dynamo_graph(document: Document) -> SourceFacts | None:
    """What a graph says of its workers; None: none runs an engine that is known."""
    found = list(_workers(document))
    if not found:
        return None
    return gathered("DynamoGraphDeployment", found)


def _workers(document: Document) -> Iterator[SourceFacts]:
    for name in document.inner("spec.services").values:
        service = document.child("spec.services", name)
        pod = service.inner("extraPodSpec")
        container = pod.inner("mainContainer")
        yield from _worker(service, pod, container, name)
    for component in document.items("spec.components"):
        pod = component.inner("podTemplate.spec")
        for container in pod.items("containers"):
            yield from _worker(component, pod, container, component.needed("name"))


def _worker(service: Document, pod: Document, container: Document, name: str) -> Iterator[SourceFacts]:
    engine = engine_in(container, name)
    if engine is None:
        return
    # Dynamo loads adapters by itself, and its image is none of vLLM's.
    engine = engine._replace(server=replace(engine.server, takes_adapters=None, image=None, release=None))
    model = engine.server.model.value if engine.server.model else None
    reference = service.text("modelRef.name") or model
    labels = {} if reference is None else {MODEL_REFERENCE: reference}
    if service.value("subComponentType") == "prefill" or service.value("type") == "prefill":
        note = "It fills prompts alone, for workers that decode: the twin plays engines that do both."
        engine = Engine(
            replace(engine.server, notes=(*engine.server.notes, note)), engine.adapters, engine.base_names
        )
    yield running("Dynamo worker", engine, labels, service.replicas("replicas"), device_of(pod))
