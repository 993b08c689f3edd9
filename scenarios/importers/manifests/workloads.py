"""Workloads of Kubernetes whose pods run an engine."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain

from scenarios.importers.facts import SourceFacts
from scenarios.importers.manifests.containers import device_of, engine_in, running
from scenarios.importers.manifests.documents import Document

TEMPLATES = {
    "apps Deployment": "spec.template",
    "apps StatefulSet": "spec.template",
    "apps ReplicaSet": "spec.template",
    "Pod": "",
    "leaderworkerset.x-k8s.io LeaderWorkerSet": "spec.leaderWorkerTemplate",
}
"""Where an object has the template of its pods, by group and kind."""


def workload(document: Document) -> SourceFacts | None:
    """What an object says whose pods run an engine; None: they run none.

    Raises
    ------
    ImportSourceError
        If it is damaged.
    """
    name = document.needed("metadata.name")
    for pod in _pods(document):
        spec = pod.inner("spec")
        for container in spec.items("containers"):
            engine = engine_in(container, name)
            if engine is None:
                continue
            replicas = 1 if document.kind == "Pod" else document.replicas("spec.replicas")
            return running(document.kind, engine, pod.labels("metadata.labels"), replicas, device_of(spec))
    return None


def _pods(document: Document) -> Iterator[Document]:
    """The templates of the pods of an object; a LeaderWorkerSet's engine is its leader's, if it has one.

    Its workers join the leader's engine (kubernetes-sigs/lws, api/leaderworkerset/v1).
    """
    path = TEMPLATES[document.kind]
    if not path:
        return iter((document,))
    if not path.endswith("leaderWorkerTemplate"):
        return iter((document.inner(path),))
    leader, worker = (document.inner(f"{path}.{key}") for key in ("leaderTemplate", "workerTemplate"))
    return chain((leader,), (worker,))
