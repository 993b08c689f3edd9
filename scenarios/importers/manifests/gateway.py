"""Routes of the Gateway API to pools and services, and the names that a header stands for.

Forms are those of kubernetes-sigs/gateway-api apis/v1 (HTTPRoute), kubernetes-sigs/
gateway-api-inference-extension api/v1/inferencepool_types.go @00a90599 and its v1alpha2 before, whose
selector is the labels themselves, and of llm-d's payload processor (base-model-to-header), which maps names
of models to the header X-Gateway-Base-Model-Name by ConfigMaps.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from scenarios.importers.facts import SourceFacts
from scenarios.importers.links import Backend, BackendReference, KeyRoute, NamedKey
from scenarios.importers.manifests.documents import Document

MANAGED = "inference.llm-d.ai/ipp-managed"
BASE_HEADER = "x-gateway-base-model-name"
"""Header with the name of the base model, or what stands for it."""
MODEL_HEADER = "x-gateway-model-name"
"""Header with the name that a client asks for."""

MOST_WEIGHT = 1_000_000
"""Largest weight of a backend (HTTPBackendRef)."""


def pool(document: Document) -> SourceFacts:
    """An InferencePool: the servers with some labels."""
    labels = "spec.selector.matchLabels"
    path = labels if document.value(labels) is not None else "spec.selector"
    return _backend("InferencePool", document, document.labels(path))


def service(document: Document) -> SourceFacts:
    """A Service: the servers with some labels."""
    return _backend("Service", document, document.labels("spec.selector"))


def _backend(kind: str, document: Document, labels: Mapping[str, str]) -> SourceFacts:
    name = document.needed("metadata.name")
    return SourceFacts(kind, links=(Backend(f"{kind}/{name}", labels),))


def is_model_map(document: Document) -> bool:
    """Whether a document maps names of models to a header."""
    labels = document.value("metadata.labels")
    return (
        document.kind == "ConfigMap"
        and isinstance(labels, dict)
        and labels.get(MANAGED) == "true"
        and document.value("data.baseModel") is not None
    )


def model_map(document: Document) -> SourceFacts:
    """A map of models: adapters, and the header that stands for them."""
    key = document.needed("data.baseModel")
    text = document.value("data.adapters")
    names: list[str] = []
    if text is not None:
        if not isinstance(text, str):
            raise document.wrong("data.adapters", "is no text", "write the list as a text of YAML")
        holder = document.embedded("data.adapters", f"names:\n{_indented(text)}")
        names = holder.words("names")
    return SourceFacts("map of models", links=(NamedKey(key, tuple(dict.fromkeys(names))),))


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.split("\n"))


def http_route(document: Document) -> SourceFacts:
    """An HTTPRoute: pools and services by the model in a header."""
    links = tuple(link for rule in document.items("spec.rules") for link in _rule(rule))
    return SourceFacts("HTTPRoute", links=links)


def _rule(rule: Document) -> Iterator[KeyRoute]:
    weights: dict[BackendReference, float] = {}
    for backend in rule.items("backendRefs"):
        weight = backend.whole("weight", 0)
        if weight is not None and weight > MOST_WEIGHT:
            raise backend.wrong("weight", f"is {weight:,}, above {MOST_WEIGHT:,}", "correct it")
        name = f"{backend.text('kind') or 'Service'}/{backend.needed('name')}"
        reference = BackendReference(name, backend.text("namespace") or "")
        weights[reference] = weights.get(reference, 0.0) + (1.0 if weight is None else float(weight))
    for match in rule.items("matches"):
        for header in match.items("headers"):
            is_exact = header.text("type") in (None, "Exact")
            name = header.needed("name").lower()
            if is_exact and name in (BASE_HEADER, MODEL_HEADER):
                is_model = name == MODEL_HEADER
                yield KeyRoute(header.needed("value"), is_model, weights, header.origin("value"))
