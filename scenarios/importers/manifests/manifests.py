"""Manifests of Kubernetes: which documents tell of adapters, servers and routes, and what."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from scenarios.importers.facts import ImportOptions, Said, SourceFacts
from scenarios.importers.manifests.adapters import aibrix, dynamo_model, is_syncer, production_stack, syncer
from scenarios.importers.manifests.documents import Document, documents
from scenarios.importers.manifests.dynamo import dynamo_graph
from scenarios.importers.manifests.gateway import MANAGED, http_route, is_model_map, model_map, pool, service
from scenarios.importers.manifests.kserve import kserve
from scenarios.importers.manifests.linking import gathered
from scenarios.importers.manifests.namespaces import in_namespace
from scenarios.importers.manifests.workloads import TEMPLATES, workload
from scenarios.importers.source import HEAD_BYTES, Source
from scenarios.text.display import visible
from scenarios.text.formatting import listed

Reader = Callable[[Document], SourceFacts | None]

READERS: dict[str, Reader] = {
    "model.aibrix.ai ModelAdapter": aibrix,
    "production-stack.vllm.ai LoraAdapter": production_stack,
    "serving.kserve.io LLMInferenceService": kserve,
    "nvidia.com DynamoModel": dynamo_model,
    "nvidia.com DynamoGraphDeployment": dynamo_graph,
    "gateway.networking.k8s.io HTTPRoute": http_route,
    "inference.networking.k8s.io InferencePool": pool,
    "inference.networking.x-k8s.io InferencePool": pool,
    "Service": service,
    **dict.fromkeys(TEMPLATES, workload),
}
"""How documents are read, by group and kind."""

_API = re.compile(rb'(?:^|[\s{,])"?apiVersion"?[ \t]*:')
_KIND = re.compile(rb'(?:^|[\s{,])"?kind"?[ \t]*:[ \t]*["\']?([A-Za-z]+)')
_ENGINE = re.compile(rb"vllm|sglang|nim_", re.IGNORECASE)
_WORKLOADS = frozenset(name.rpartition(" ")[2].encode() for name in TEMPLATES)
_OTHERS = frozenset(name.rpartition(" ")[2].encode() for name in READERS) - _WORKLOADS

NAMED = 5
"""Kinds that a message names."""


def is_manifest(source: Source) -> bool:
    """Whether a file looks like manifests, some of them read; of a long one, whether it may be."""
    head = source.head
    if _API.search(head) is None:
        return False
    kinds = set(_KIND.findall(head))
    if kinds & _OTHERS or b"vLLMLoRAConfig" in head or MANAGED.encode() in head:
        return True
    is_workload = any(kind in _WORKLOADS or kind.endswith(b"List") for kind in kinds)
    return len(head) == HEAD_BYTES or (is_workload and _ENGINE.search(head) is not None)


def read_manifests(source: Source, _options: ImportOptions) -> SourceFacts:
    """What the documents of a file say; those that tell nothing are passed over, which is told.

    Raises
    ------
    ImportSourceError
        If it is damaged, or holds no object of a kind that is known.
    """
    found: list[SourceFacts] = []
    passed = Counter[str]()
    spaces: dict[str, Said[object]] = {}
    is_known = False
    for document in documents(source):
        reader = reader_of(document)
        is_known = is_known or reader is not None
        facts = None if reader is None else reader(document)
        if facts is None:
            passed[visible(document.kind) or "a document without kind"] += 1
            continue
        space = document.text("metadata.namespace")
        found.append(facts if space is None else in_namespace(facts, space))
        if space is not None:
            spaces.setdefault(space, Said(space, document.origin("metadata.namespace")))
    names = listed([name for name, _ in passed.most_common()], NAMED) if passed else ""
    if not is_known:
        raise source.error(f"holds {names or 'nothing'}, which tells of no adapters", f"give {_KNOWN}")
    notes = [f"{source.path.name}: passed over {names}."] if passed else []
    if len(spaces) > 1:
        notes.append(
            f"{source.path.name} is of the namespaces {listed(list(spaces), NAMED)}, which are taken for "
            "one fleet: give objects of one namespace alone if they are not."
        )
    settings = {"namespace": next(iter(spaces.values()))} if len(spaces) == 1 else {}
    return replace(gathered("Kubernetes manifests", found, notes), settings=settings)


_KNOWN = (
    "adapters (ModelAdapter, LoraAdapter, LLMInferenceService, DynamoModel, or the ConfigMap of the LoRA "
    "syncer), engines (Deployment, StatefulSet, DaemonSet, Pod, LeaderWorkerSet, DynamoGraphDeployment) or "
    "routes"
)


def reader_of(document: Document) -> Reader | None:
    """How a document is read; None: it tells nothing."""
    if is_syncer(document):
        return syncer
    if is_model_map(document):
        return model_map
    is_bare = document.kind == "Service" and document.value("spec.selector") is None
    return None if is_bare else READERS.get(document.kind)
