"""Workloads of Kubernetes whose pods run an engine."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain

from scenarios.importers.facts import SourceFacts
from scenarios.importers.manifests.containers import device_of, engine_in, running
from scenarios.importers.manifests.documents import Document

TEMPLATES = {
    "apps Deployment": "spec.template",
    "apps StatefulSet": "spec.template",
    "apps ReplicaSet": "spec.template",
    "apps DaemonSet": "spec.template",
    "Pod": "",
    "leaderworkerset.x-k8s.io LeaderWorkerSet": "spec.leaderWorkerTemplate",
}
"""Where an object has the template of its pods, by group and kind."""

_SCHEDULED = "status.desiredNumberScheduled"


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
            replicas, notes = _replicas(document)
            server = replace(engine.server, notes=(*engine.server.notes, *notes))
            engine = engine._replace(server=server)
            return running(document.kind, engine, pod.labels("metadata.labels"), replicas, device_of(spec))
    return None


def _replicas(document: Document) -> tuple[int, tuple[str, ...]]:
    """Number of pods, and what is to be told of it; of a DaemonSet only its status says it.

    A DaemonSet runs on each node that its pods may be on (apps/v1, DaemonSetStatus).
    """
    if document.kind == "Pod":
        return 1, ()
    if not document.kind.endswith("DaemonSet"):
        return document.replicas("spec.replicas"), ()
    if document.value(_SCHEDULED) is not None:
        return document.replicas(_SCHEDULED), ()
    note = "It is a DaemonSet without status: on how many nodes it runs is not said, and one is taken."
    return 1, (note,)


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
