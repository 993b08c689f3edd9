"""What objects of a cluster say together, and links between them: who holds what, who gets whose requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, TypeVar

from scenarios.importers.facts import MODELS, AdapterFacts, RouteFacts, Said, ServerFacts, SourceFacts
from scenarios.importers.links import (
    Backend,
    GroupMember,
    KeyRoute,
    LabelledServer,
    LabelRequirement,
    Link,
    NamedKey,
    SelectedAdapter,
)
from scenarios.text.formatting import listed

T = TypeVar("T")

NAMED = 5
"""Names that a sentence tells."""


class _Servers:
    """Servers by their labels; each pair of a label is looked up, not each server.

    Parameters
    ----------
    servers
        All of them; those of one name are one.
    """

    def __init__(self, servers: Iterable[LabelledServer]) -> None:
        self.all = {server.name: server for server in servers}
        self._by_pair: dict[tuple[str, str], dict[str, LabelledServer]] = {}
        for server in self.all.values():
            for pair in server.labels.items():
                self._by_pair.setdefault(pair, {})[server.name] = server

        self._found: dict[tuple[object, ...], list[LabelledServer]] = {}

    def having(
        self,
        labels: Mapping[str, str],
        namespace: str,
        requirements: tuple[LabelRequirement, ...] = (),
    ) -> list[LabelledServer]:
        """The servers that a selector of a namespace means; one that asks for nothing means none.

        What is said without a namespace may be in any.
        """
        key = (frozenset(labels.items()), namespace, requirements)
        if key not in self._found:
            sets = sorted((self._by_pair.get(pair, {}) for pair in labels.items()), key=len)
            among = sets[0] if sets else self.all if requirements else {}
            self._found[key] = [
                one
                for name, one in among.items()
                if all(name in others for others in sets[1:])
                and all(required.holds(one.labels) for required in requirements)
                and (one.namespace == namespace or not one.namespace or not namespace)
            ]
        return self._found[key]


class _Routed(NamedTuple):
    """Where requests of a name go in a namespace."""

    served_name: str
    namespace: str
    weights: Mapping[str, float]
    origin: str


def gathered(kind: str, found: Sequence[SourceFacts], notes: Sequence[str] = ()) -> SourceFacts:
    """What several objects of one source say, their settings aside.

    Parameters
    ----------
    kind
        What the source is.
    found
        What each object says.
    notes
        What else is told of the source.
    """
    return SourceFacts(
        kind,
        tuple(one for facts in found for one in facts.adapters),
        tuple(one for facts in found for one in facts.servers),
        base_names=tuple(dict.fromkeys(name for facts in found for name in facts.base_names)),
        notes=tuple(dict.fromkeys((*notes, *(note for facts in found for note in facts.notes)))),
        links=tuple(link for facts in found for link in facts.links),
    )


def linked(sources: Sequence[SourceFacts]) -> SourceFacts:
    """What the links of all sources say of adapters, servers and routes.

    Parameters
    ----------
    sources
        What each says, in any order.
    """
    links = [link for facts in sources for link in facts.links]
    bases = {name for facts in sources for name in facts.base_names}
    for server in (server for facts in sources for server in facts.servers):
        bases |= {said.value for said in (server.model, server.served_model_name) if said is not None}
    servers = _Servers(_those(links, LabelledServer))
    answered = {
        name for facts in sources for one in facts.servers if one.asked == MODELS for name in one.adapters
    }
    held, adapters, notes = _held(list(_those(links, SelectedAdapter)), servers, answered)
    routed = [*_key_routes(links, servers, bases), *_group_routes(list(_those(links, GroupMember)))]
    routes, among = _joined(routed, servers)
    keys = {name: None for one in _those(links, NamedKey) for name in one.names}
    adapters |= {name: AdapterFacts(name, "a map of models") for name in keys if name not in adapters}
    return SourceFacts(
        "objects of a cluster",
        tuple(adapters.values()),
        held,
        routes,
        notes=(*notes, *among),
    )


def _those(links: Iterable[Link], kind: type[T]) -> Iterator[T]:
    return (link for link in links if isinstance(link, kind))


def _held(
    selected: Sequence[SelectedAdapter], servers: _Servers, answered: set[str]
) -> tuple[tuple[ServerFacts, ...], dict[str, AdapterFacts], tuple[str, ...]]:
    """Servers with their adapters, adapters whose base model is no group's name, and what is not known.

    Parameters
    ----------
    answered
        Names that servers answer to have.
    """
    held: dict[str, dict[str, str]] = {}
    beside: dict[str, dict[str, dict[str, str]]] = {}
    adapters: dict[str, AdapterFacts] = {}
    nowhere: dict[str, None] = {}
    unsure: dict[str, None] = {}
    for one in selected:
        found = servers.having(one.labels, one.namespace, one.requirements)
        if not found:
            said = Said(one.base_model, one.origin) if one.base_model else None
            adapters.setdefault(one.served_name, AdapterFacts(one.served_name, one.origin, base_model=said))
            if servers.all:
                nowhere[one.served_name] = None
        elif placed := [(server.name, pod) for pod in one.instances if (server := _of_pod(pod, found))]:
            for server_name, pod in placed:
                beside.setdefault(server_name, {}).setdefault(pod, {})[one.served_name] = one.origin
        elif one.pods is not None and one.pods < sum(server.replicas for server in found):
            unsure |= {} if one.served_name in answered else {one.served_name: None}
        else:
            for server in found:
                held.setdefault(server.name, {})[one.served_name] = one.origin
    notes = []
    if nowhere:
        notes.append(f"No server of the sources has the labels that hold {listed(list(nowhere), NAMED)}.")
    if unsure:
        notes.append(
            f"Only some pods load {listed(list(unsure), NAMED)}, and which ones is not said: give their "
            "answers to /v1/models."
        )
    return tuple(_holder(name, held, beside) for name in {**held, **beside}), adapters, tuple(notes)


def _of_pod(pod: str, servers: Sequence[LabelledServer]) -> LabelledServer | None:
    """The server that a pod is of: the names of a workload's pods begin with its own."""
    if len(servers) == 1:
        return servers[0]
    names = {server.name.rpartition("/")[2]: server for server in servers}
    parts = pod.split("-")
    heads = ("-".join(parts[:k]) for k in range(len(parts), 0, -1))
    return next((names[head] for head in heads if head in names), None)


def _holder(
    name: str, held: Mapping[str, Mapping[str, str]], beside: Mapping[str, Mapping[str, Mapping[str, str]]]
) -> ServerFacts:
    """A server with what all its pods hold, and what each holds beside."""
    common = held.get(name, {})
    pods = {
        pod: tuple(one for one in names if one not in common) for pod, names in beside.get(name, {}).items()
    }
    origins = [origin for names in (common, *beside.get(name, {}).values()) for origin in names.values()]
    return ServerFacts(name, origins[0], tuple(common), instances=pods)


def _key_routes(links: Sequence[Link], servers: _Servers, bases: set[str]) -> Iterator[_Routed]:
    """Routes of the names that a header stands for, over the servers of pools."""
    backends: dict[str, list[Backend]] = {}
    for backend in _those(links, Backend):
        backends.setdefault(backend.name, []).append(backend)
    names: dict[str, dict[str, None]] = {}
    for one in _those(links, NamedKey):
        names.setdefault(one.key, {}).update(dict.fromkeys(one.names))
    for route in _those(links, KeyRoute):
        weights: dict[str, float] = {}
        for reference, weight in route.weights.items():
            meant = _meant(backends.get(reference.name, []), reference.namespace or route.namespace)
            found = servers.having(meant.labels, meant.namespace) if meant else []
            pods = sum(server.replicas for server in found)
            for server in found:  # the pool's picker may take any of its pods
                share = weight * server.replicas / pods
                weights[server.name] = weights.get(server.name, 0.0) + share
        own = (route.key,) if route.is_model or route.key in bases else ()
        for served in (*own, *names.get(route.key, ())):
            if weights:
                yield _Routed(served, route.namespace, weights, route.origin)


def _meant(backends: Sequence[Backend], namespace: str) -> Backend | None:
    """The backend of a namespace; without one, or where a backend's is not said, it may be any."""
    own = [one for one in backends if one.namespace == namespace]
    return next(iter(own or [one for one in backends if not (one.namespace and namespace)]), None)


def _group_routes(members: Sequence[GroupMember]) -> Iterator[_Routed]:
    """Routes of names that several servers of a group serve."""
    weights: dict[tuple[str, str], dict[str, float]] = {}
    origins: dict[tuple[str, str], str] = {}
    for member in members:
        for name in member.names:
            weights.setdefault((name, member.namespace), {})[member.server] = member.weight
            origins.setdefault((name, member.namespace), member.origin)
    for (name, namespace), shares in weights.items():
        if sum(shares.values()) > 0:
            yield _Routed(name, namespace, shares, origins[name, namespace])


def _joined(routed: Iterable[_Routed], servers: _Servers) -> tuple[tuple[RouteFacts, ...], tuple[str, ...]]:
    """Each name's route, and what is to be told of names that several namespaces route.

    Of several routes in a namespace the first counts. How requests divide between namespaces is not said.
    """
    found: dict[str, dict[str, _Routed]] = {}
    for one in routed:
        found.setdefault(one.served_name, {}).setdefault(one.namespace, one)
    routes, several = [], []
    for served, spaces in found.items():
        first = next(iter(spaces.values()))
        weights = dict(first.weights)
        if len(spaces) > 1:
            several.append(served)
            weights = {}
            for one in spaces.values():
                pods = sum(servers.all[name].replicas for name in one.weights if name in servers.all)
                total = sum(one.weights.values())
                for name, weight in one.weights.items():
                    weights[name] = weights.get(name, 0.0) + weight / total * pods if total else 0.0
        routes.append(RouteFacts(served, weights, first.origin))
    if not several:
        return tuple(routes), ()
    note = (
        f"Requests of {listed(several, NAMED)} are routed in several namespaces, and are taken to divide "
        "between these as their pods do."
    )
    return tuple(routes), (note,)
