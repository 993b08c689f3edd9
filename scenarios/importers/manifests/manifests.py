"""Manifests of Kubernetes: which documents tell of adapters and servers, and what."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from scenarios.importers.facts import ImportOptions, SourceFacts
from scenarios.importers.manifests.adapters import READERS, syncer
from scenarios.importers.manifests.documents import Document, documents
from scenarios.importers.source import Source
from scenarios.text.formatting import listed

_MARKS = (b"apiVersion:", b'"apiVersion"')


def is_manifest(source: Source) -> bool:
    """Whether a file looks like manifests."""
    return any(mark in source.head for mark in _MARKS) and b"kind" in source.head


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
        reader = syncer if _is_syncer(document) else READERS.get(document.kind)
        if reader is None:
            passed[document.kind or "a document without kind"] += 1
            continue
        read += 1
        told = reader(document)
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


_KNOWN = "ModelAdapter, LoraAdapter, LLMInferenceService, DynamoModel, or a ConfigMap of the LoRA syncer"


def _is_syncer(document: Document) -> bool:
    data = document.value("data")
    texts = data.values() if document.kind == "ConfigMap" and isinstance(data, dict) else ()
    return any(isinstance(text, str) and "vLLMLoRAConfig" in text for text in texts)
