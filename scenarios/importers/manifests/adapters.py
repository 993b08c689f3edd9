"""Adapters in manifests of serving stacks, with the servers that the manifests themselves tell of.

Fields are those of vllm-project/aibrix api/model/v1alpha1/modeladapter_types.go @121c604b,
vllm-project/production-stack operator/api/v1alpha1/loraadapter_types.go @a7d2672b, kserve/kserve
LLMInferenceService v1alpha1 @01bfd238 and v1alpha2 @01b12410, ai-dynamo/dynamo DynamoModel @26a7b405, and of
the former syncer of kubernetes-sigs/gateway-api-inference-extension (removed by #2744).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import cast

from scenarios.errors import ScenarioError
from scenarios.importers.facts import AdapterFacts, Said, ServerFacts, SourceFacts
from scenarios.importers.manifests.documents import Document
from scenarios.reading.yaml_reader import parse, plain

Reader = Callable[[Document], SourceFacts]


def _said(document: Document, path: str) -> Said[str] | None:
    value = document.text(path)
    return None if value is None else Said(value, document.origin(path))


def _needed(document: Document, path: str) -> Said[str]:
    value = document.text(path, required=True)
    assert value is not None  # as it is required
    return Said(value, document.origin(path))


def aibrix(document: Document) -> SourceFacts:
    """A ModelAdapter: its own name is the one that clients ask for."""
    name = _needed(document, "metadata.name")
    adapter = AdapterFacts(
        name.value,
        name.origin,
        source=_needed(document, "spec.artifactURL"),
        base_model=_said(document, "spec.baseModel"),
    )
    return SourceFacts("AIBrix ModelAdapter", (adapter,), settings=_namespace(document))


def production_stack(document: Document) -> SourceFacts:
    """A LoraAdapter, whose base model is the label of the pods that load it."""
    name = _needed(document, "spec.adapterSource.adapterName")
    kind = document.text("spec.adapterSource.type")
    at = "adapterPath" if kind == "local" else "repository"
    adapter = AdapterFacts(
        name.value,
        name.origin,
        source=_said(document, f"spec.adapterSource.{at}"),
        base_model=_said(document, "spec.baseModel"),
    )
    return SourceFacts("production-stack LoraAdapter", (adapter,), settings=_namespace(document))


def kserve(document: Document) -> SourceFacts:
    """An LLMInferenceService: a server, or replicas of it, with its adapters."""
    name = _needed(document, "metadata.name")
    base = _said(document, "spec.model.uri")
    adapters = []
    for path, item in document.items("spec.model.lora.adapters"):
        one = Document(document.source, document.number, item)
        served = one.text("name", required=True)
        uri = one.text("uri")
        source = None if uri is None else Said(uri, document.origin(f"{path}.uri"))
        assert served is not None  # as it is required
        adapters.append(AdapterFacts(served, document.origin(path), source=source, base_model=base))
    keys = {"maxAdapters": "max_loras", "maxRank": "max_lora_rank", "maxCpuAdapters": "max_cpu_loras"}
    engine: dict[str, Said[object]] = {}
    for key, argument in keys.items():
        number = document.whole(f"spec.model.lora.{key}")
        if number is not None:
            engine[argument] = Said(number, document.origin(f"spec.model.lora.{key}"))
    server = ServerFacts(
        name.value,
        document.origin("metadata.name"),
        tuple(one.served_name for one in adapters),
        engine,
        document.whole("spec.replicas") or 1,
        base,
        _said(document, "spec.model.name"),
    )
    return SourceFacts(
        "KServe LLMInferenceService", tuple(adapters), (server,), settings=_namespace(document)
    )


def dynamo(document: Document) -> SourceFacts:
    """A DynamoModel that is an adapter; of the base model it says nothing that is needed."""
    if document.value("spec.modelType") not in ("lora", "adapter"):
        return SourceFacts("Dynamo DynamoModel")
    name = _needed(document, "spec.modelName")
    adapter = AdapterFacts(
        name.value,
        name.origin,
        source=_said(document, "spec.source.uri"),
        base_model=_said(document, "spec.baseModelName"),
    )
    return SourceFacts("Dynamo DynamoModel", (adapter,), settings=_namespace(document))


def syncer(document: Document) -> SourceFacts:
    """A ConfigMap of the former syncer of adapters, which holds a file of its own."""
    adapters: list[AdapterFacts] = []
    for key, config in _syncer_files(document):
        inner = Document(document.source, document.number, config)
        base = _said(inner, "vLLMLoRAConfig.defaultBaseModel")
        for path, item in inner.items("vLLMLoRAConfig.ensureExist.models"):
            one = Document(document.source, document.number, item)
            served = one.text("id", required=True)
            assert served is not None  # as it is required
            origin = document.origin(f"{key}, {path}")
            source, own = one.text("source"), one.text("base-model")
            adapters.append(
                AdapterFacts(
                    served,
                    origin,
                    source=None if source is None else Said(source, origin),
                    base_model=base if own is None else Said(own, origin),
                )
            )
    return SourceFacts("ConfigMap of the LoRA syncer", tuple(adapters), settings=_namespace(document))


def _syncer_files(document: Document) -> Iterator[tuple[str, dict[str, object]]]:
    data = document.value("data")
    for key, text in data.items() if isinstance(data, Mapping) else ():
        if not isinstance(text, str) or "vLLMLoRAConfig" not in text:
            continue
        try:
            config = plain(parse(text, str(document.source.path)))
        except ScenarioError as error:
            raise document.wrong(f"data.{key}", f"is no YAML: {error.problems[0]}", "correct it") from error
        if isinstance(config, dict):
            yield f"data.{key}", cast("dict[str, object]", config)


def _namespace(document: Document) -> dict[str, Said[object]]:
    """Namespace of the deployment, where the manifest says one that a scenario can hold."""
    said = _said(document, "metadata.namespace")
    return {} if said is None else {"namespace": cast("Said[object]", said)}


READERS: dict[str, Reader] = {
    "model.aibrix.ai ModelAdapter": aibrix,
    "production-stack.vllm.ai LoraAdapter": production_stack,
    "serving.kserve.io LLMInferenceService": kserve,
    "nvidia.com DynamoModel": dynamo,
}
"""How documents are read, by group and kind."""
