"""Workloads of Kubernetes whose containers run an engine: what it is started with, and its adapters."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import cast

from scenarios.importers.facts import Said, SourceFacts
from scenarios.importers.manifests.documents import Document
from scenarios.importers.servers.vllm_command import server_of
from scenarios.text.formatting import shown

POD_OF = {"apps Deployment": "spec.template.spec", "apps StatefulSet": "spec.template.spec", "Pod": "spec"}
"""Where the specification of a workload's pods is, by its group and kind."""

_PRODUCT = "nvidia.com/gpu.product"


def workload(document: Document) -> SourceFacts | None:
    """The server that a workload runs; None: none of its containers runs an engine.

    Raises
    ------
    ImportSourceError
        If it is damaged.
    """
    at = POD_OF[document.kind]
    name = document.text("metadata.name") or ""
    for path, container in document.items(f"{at}.containers"):
        words = [*_words(document, container, path, "command"), *_words(document, container, path, "args")]
        alone = "command" not in container and words[:1] != ["vllm"]
        if alone and "vllm" in str(container.get("image", "")).lower():
            words = ["vllm", "serve", *words]
        server = server_of(words, dict(_environment(document, container)), name, document.origin(path))
        if server is None:
            continue
        selector = document.value(f"{at}.nodeSelector")
        product = selector.get(_PRODUCT) if isinstance(selector, Mapping) else None
        if isinstance(product, str) and product:
            said = Said(product, document.origin(f"{at}.nodeSelector"))
            server = replace(server, device=said)
        return SourceFacts(
            "workload", servers=(replace(server, replicas=document.whole("spec.replicas") or 1),)
        )
    return None


def _words(document: Document, container: Mapping[str, object], path: str, key: str) -> Iterator[str]:
    """Yield the words of a command, as the container's process gets them."""
    words = container.get(key)
    if words is None:
        return
    if not isinstance(words, tuple) or not all(isinstance(word, str) for word in words):
        raise document.wrong(f"{path}.{key}", f"is {shown(words)}, no list of texts", "correct it")
    for word in cast("tuple[str, ...]", words):
        yield word.replace("$$", "$")  # as Kubernetes does where no variable is meant


def _environment(document: Document, container: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    """Yield variables with values of their own; those of secrets are none of ours."""
    one = Document(document.source, document.number, dict(container))
    for _, item in one.items("env"):
        name, value = item.get("name"), item.get("value")
        if isinstance(name, str) and isinstance(value, str):
            yield name, value
