"""KServe's LLMInferenceService: a server with its adapters.

Fields are those of kserve/kserve pkg/apis/serving/v1alpha1/llm_inference_service_types.go @01bfd238, which
has groups and weights of routes, and pkg/apis/serving/v1alpha2/ of the same name @01b12410.
"""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

from scenarios.importers.facts import AdapterFacts, Said, ServerFacts, SourceFacts
from scenarios.importers.links import GroupMember, Link
from scenarios.importers.manifests.adapters import source_of
from scenarios.importers.manifests.containers import (
    Engine,
    device_of,
    engine_in,
    engine_of,
    expanded,
    running,
    variables,
)
from scenarios.importers.manifests.documents import Document

_HUB = "hf://"
_ARGUMENTS = "VLLM_ADDITIONAL_ARGS"
"""Variable with arguments of vLLM, which KServe's presets append."""

_SERVED_NAMES = "lorapack/served-names"
"""Annotation of an exported service: JSON of its adapters' names."""
_LORA = {"maxAdapters": "max_loras", "maxRank": "max_lora_rank", "maxCpuAdapters": "max_cpu_loras"}
_BY_NUMBER = ("maxAdapters", "maxCpuAdapters")
"""Numbers that are, where they are not said, that of the adapters (comments of LoRASpec)."""

_PARALLELISM = {"tensor": "tensor_parallel_size", "pipeline": "pipeline_parallel_size"}


def kserve(document: Document) -> SourceFacts:
    """A service: a server, or replicas of it, with its adapters."""
    name = document.needed("metadata.name")
    base = source_of(document, "spec.model.uri")
    if base is not None:
        base = replace(base, value=base.value.removeprefix(_HUB))
    renamed = _served_names(document)
    adapters = tuple(
        AdapterFacts(
            renamed.get(one.needed("name"), one.needed("name")),
            one.origin("name"),
            source=source_of(one, "uri"),
            base_model=base,
        )
        for one in document.items("spec.model.lora.adapters")
    )
    engine = _engine(document, name)
    known = tuple(one.served_name for one in adapters)
    served = document.text("spec.model.name")
    path = "metadata.name" if served is None else "spec.model.name"
    server = replace(
        engine.server,
        origin=document.origin("metadata.name"),
        adapters=tuple(dict.fromkeys((*known, *engine.server.adapters))),
        takes_adapters=None,  # a preset may set variables beside
        engine={**engine.server.engine, **_arguments(document, len(adapters))},
        model=base or engine.server.model,
        served_model_name=Said(served or name, document.origin(path)),
    )
    template = document.inner("spec.template")
    facts = running(
        "KServe LLMInferenceService",
        Engine(server, (*adapters, *engine.adapters), ()),
        document.labels("spec.labels"),
        _replicas(document),
        device_of(template),
    )
    return replace(facts, links=(*facts.links, *_group(document, server)))


def _served_names(document: Document) -> dict[str, str]:
    """Names that adapters have in the plan that was exported, by the name that was made of each."""
    text = document.text(f"metadata.annotations.{_SERVED_NAMES}")
    try:
        values = json.loads(text or "{}")
    except (ValueError, RecursionError):
        return {}
    found = values.items() if isinstance(values, dict) else ()
    return {name: served for name, served in found if isinstance(served, str) and served}


def _engine(document: Document, name: str) -> Engine:
    """The engine of the service's own container, or that of KServe's preset with arguments from it."""
    for container in document.items("spec.template.containers"):
        if container.text("name") not in (None, "main"):
            continue
        own = engine_in(container, name)
        if own is not None:
            return own
        environment = variables(container)
        text = environment.get(_ARGUMENTS, "")
        try:
            words = shlex.split(text)
        except ValueError as error:
            message = f"has {_ARGUMENTS}, which cannot be divided into words ({error})"
            raise container.wrong("env", message, "close its quotes") from error
        flags = [expanded(word, environment) for word in container.words("args")]
        words += flags if flags and flags[0].startswith("-") else []
        preset = engine_of(container, ["vllm", "serve", "/mnt/models", *words], environment, name)
        if preset is not None:
            return preset._replace(server=replace(preset.server, model=None, address=""))
    return Engine(ServerFacts(name, document.origin("metadata.name")), (), ())


def _arguments(document: Document, adapters: int) -> dict[str, Said[object]]:
    """Arguments that the service has fields for."""
    found: dict[str, Said[object]] = {}
    for key, argument in _LORA.items():
        path = f"spec.model.lora.{key}"
        number = document.whole(path)
        if number is not None:
            found[argument] = Said(number, document.origin(path))
        elif key in _BY_NUMBER and adapters:
            found[argument] = Said(adapters, f"KServe's {key}: the number of adapters")
    for key, argument in _PARALLELISM.items():
        path = f"spec.parallelism.{key}"
        number = document.whole(path)
        if number is not None:
            found[argument] = Said(number, document.origin(path))
    return found


def _replicas(document: Document) -> int:
    """Number of replicas; of a service that scales, the least."""
    if document.value("spec.scaling") is None:
        return document.replicas("spec.replicas")
    return document.replicas("spec.scaling.minReplicas")


def _group(document: Document, server: ServerFacts) -> tuple[Link, ...]:
    """The service as a member of a group that shares requests by weight."""
    group = document.text("spec.router.route.group")
    weight = document.whole("spec.router.route.weight", 0)
    if group is None or server.served_model_name is None:
        return ()
    names = (server.served_model_name.value, *server.adapters)
    origin = document.origin("spec.router.route")
    return (GroupMember(group, server.name, names, 1.0 if weight is None else float(weight), origin),)
