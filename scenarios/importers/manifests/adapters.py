"""Adapters in manifests of serving stacks that say them one by one, and where they are loaded.

Fields are those of vllm-project/aibrix api/model/v1alpha1/modeladapter_types.go @121c604b,
vllm-project/production-stack operator/api/v1alpha1/loraadapter_types.go @a7d2672b, ai-dynamo/dynamo
DynamoModel v1alpha1 @26a7b405, and of the former syncer of kubernetes-sigs/gateway-api-inference-extension
(removed by #2744).
"""

from __future__ import annotations

from collections.abc import Iterator

from scenarios.importers.adapters import plain_address
from scenarios.importers.facts import AdapterFacts, Said, SourceFacts
from scenarios.importers.links import SelectedAdapter
from scenarios.importers.manifests.documents import Document

SERVED_NAME = "lorapack/served-name"
"""Annotation of an exported object with the name that its adapter has in the plan."""
MODEL_REFERENCE = "modelRef"
"""Stands for a label: the name by which Dynamo's models find workers (spec.services.*.modelRef.name)."""


def source_of(document: Document, path: str) -> Said[str] | None:
    """Where weights are, without user and password."""
    value = document.text(path)
    return None if value is None else Said(plain_address(value), document.origin(path))


def aibrix(document: Document) -> SourceFacts:
    """A ModelAdapter: its own name is the one that clients ask for; of an export it tells the plan's.

    Its status names its pods.
    """
    own = document.needed("metadata.name")
    name = document.text(f"metadata.annotations.{SERVED_NAME}") or own
    document.needed("spec.artifactURL")
    pods = document.whole("spec.replicas", 0)
    selector = document.inner("spec.podSelector")
    labels, requirements = selector.labels("matchLabels"), selector.requirements("matchExpressions")
    notes = () if labels or requirements else ("Which pods load it is not said by labels.",)
    origin = document.origin("metadata.name")
    adapter = AdapterFacts(name, origin, source=source_of(document, "spec.artifactURL"), notes=notes)
    link = SelectedAdapter(
        name,
        labels,
        pods,
        document.text("spec.baseModel"),
        document.origin("spec.podSelector"),
        requirements,
        instances=tuple(dict.fromkeys(document.words("status.instances"))),
    )
    return SourceFacts("AIBrix ModelAdapter", (adapter,), links=(link,))


def production_stack(document: Document) -> SourceFacts:
    """A LoraAdapter, whose base model is the label of the pods that load it.

    Without replicas, or with a negative number, all load it (operator/internal/controller/
    loraadapter_controller.go @e7d6dcfe, which takes the first pods by name else).
    """
    return lora_adapter(document, "spec.")


def lora_adapter(document: Document, at: str) -> SourceFacts:
    """What a LoraAdapter says, below ``spec.`` or in an entry of the chart's ``loraAdapters``."""
    name = document.needed(f"{at}adapterSource.adapterName")
    kind = document.text(f"{at}adapterSource.type")
    path = f"{at}adapterSource.{'adapterPath' if kind == 'local' else 'repository'}"
    origin = document.origin(f"{at}adapterSource.adapterName")
    adapter = AdapterFacts(name, origin, source=source_of(document, path))
    base = document.needed(f"{at}baseModel")
    pods = document.whole(f"{at}loraAdapterDeploymentConfig.replicas", -1_000_000)
    link = SelectedAdapter(
        name,
        {"model": base},
        None if pods is None or pods < 0 else pods,
        base,
        document.origin(f"{at}baseModel"),
    )
    return SourceFacts("production-stack LoraAdapter", (adapter,), links=(link,))


def dynamo_model(document: Document) -> SourceFacts:
    """A DynamoModel that is an adapter, which every worker of its base model loads."""
    kind = document.text("spec.modelType")
    if kind not in ("lora", "adapter"):  # of the base model it says nothing that is needed
        return SourceFacts("Dynamo DynamoModel")
    name, base = document.needed("spec.modelName"), document.needed("spec.baseModelName")
    origin = document.origin("spec.modelName")
    adapter = AdapterFacts(name, origin, source=source_of(document, "spec.source.uri"))
    link = SelectedAdapter(name, {MODEL_REFERENCE: base}, None, base, document.origin("spec.baseModelName"))
    return SourceFacts("Dynamo DynamoModel", (adapter,), links=(link,))


def is_syncer(document: Document) -> bool:
    """Whether a document is a ConfigMap of the former syncer of adapters."""
    data = document.value("data")
    texts = data.values() if document.kind == "ConfigMap" and isinstance(data, dict) else ()
    return any(isinstance(text, str) and "vLLMLoRAConfig" in text for text in texts)


def syncer(document: Document) -> SourceFacts:
    """A ConfigMap of the former syncer of adapters, which holds a file of its own."""
    adapters = [
        adapter
        for key, text in document.inner("data").values.items()
        if isinstance(text, str) and "vLLMLoRAConfig" in text
        for adapter in _syncer_adapters(document.embedded(f"data.{key}", text))
    ]
    return SourceFacts("ConfigMap of the LoRA syncer", tuple(adapters))


def _syncer_adapters(file: Document) -> Iterator[AdapterFacts]:
    base = source_of(file, "vLLMLoRAConfig.defaultBaseModel")
    for one in file.items("vLLMLoRAConfig.ensureExist.models"):
        yield AdapterFacts(
            one.needed("id"),
            one.origin("id"),
            source=source_of(one, "source"),
            base_model=source_of(one, "base-model") or base,
        )
