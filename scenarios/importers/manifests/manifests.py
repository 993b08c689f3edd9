"""Manifests of Kubernetes: which documents tell of adapters and servers, and what."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from scenarios.importers.facts import ImportOptions, SourceFacts
from scenarios.importers.manifests.adapters import READERS, syncer
from scenarios.importers.manifests.documents import Document, documents
from scenarios.importers.manifests.workloads import POD_OF, workload
from scenarios.importers.source import Source
from scenarios.text.formatting import listed

_MARKS = (b"apiVersion:", b'"apiVersion"')
_TOLD_BY = (b"vLLMLoRAConfig", *(kind.rpartition(" ")[2].encode() for kind in READERS))
_ENGINES = (b"vllm", b"sglang")


def is_manifest(source: Source) -> bool:
    """Whether a file looks like manifests that tell of adapters, or of engines."""
    head = source.head
    if not any(mark in head for mark in _MARKS) or b"kind" not in head:
        return False
    return any(mark in head for mark in _TOLD_BY) or any(mark in head.lower() for mark in _ENGINES)


def read_manifests(source: Source, _options: ImportOptions) -> SourceFacts:
    """What the documents of a file say; those that tell of no adapters are passed over, which is told.

    Raises
    ------
    ImportSourceError
        If it is damaged, or no document of it tells anything.
    """
    facts, passed = SourceFacts("Kubernetes manifests"), Counter[str]()
    read = 0
    for document in documents(source):
        told = _told(document)
        if told is None:
            passed[document.kind or "a document without kind"] += 1
            continue
        read += 1
        facts = replace(
            facts,
            adapters=(*facts.adapters, *told.adapters),
            servers=(*facts.servers, *told.servers),
            settings={**told.settings, **facts.settings},
        )
    if not read:
        kinds = listed([name for name, _ in passed.most_common()], 5) if passed else "nothing"
        raise source.error(f"holds {kinds}, which tells of no adapters", f"give {_KNOWN}")
    if not passed:
        return facts
    names = listed([name for name, _ in passed.most_common()], 5)
    return replace(facts, notes=(f"{source.path.name}: passed over {names}",))


_KNOWN = (
    "ModelAdapter, LoraAdapter, LLMInferenceService, DynamoModel, a ConfigMap of the LoRA syncer, or a "
    "Deployment of an engine"
)


def _told(document: Document) -> SourceFacts | None:
    """What a document says; None where it tells of no adapters and no engine."""
    if _is_syncer(document):
        return syncer(document)
    if document.kind in POD_OF:
        return workload(document)
    reader = READERS.get(document.kind)
    return None if reader is None else reader(document)


def _is_syncer(document: Document) -> bool:
    data = document.value("data")
    texts = data.values() if document.kind == "ConfigMap" and isinstance(data, dict) else ()
    return any(isinstance(text, str) and "vLLMLoRAConfig" in text for text in texts)
