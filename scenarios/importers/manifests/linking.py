"""What objects of a cluster say together, and links between them: who holds what, who gets whose requests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

from scenarios.importers.facts import AdapterFacts, RouteFacts, Said, ServerFacts, SourceFacts
from scenarios.importers.links import (
    Backend,
    GroupMember,
    KeyRoute,
    LabelledServer,
    Link,
    NamedKey,
    SelectedAdapter,
)
from scenarios.text.formatting import listed

T = TypeVar("T")

NAMED = 5
"""Names that a sentence tells."""


class _Servers:
    """Servers by their labels; each pair of a label is looked up, not each server."""

    def __init__(self, servers: Iterable[LabelledServer]) -> None:
        self.all = {server.name: server for server in servers}
        self._by_pair: dict[tuple[str, str], dict[str, LabelledServer]] = {}
        for server in self.all.values():
            for pair in server.labels.items():
                self._by_pair.setdefault(pair, {})[server.name] = server

    def having(self, labels: Mapping[str, str]) -> list[LabelledServer]:
        """The servers with all of some labels; with none, no server is meant."""
        sets = sorted((self._by_pair.get(pair, {}) for pair in labels.items()), key=len)
        if not sets:
            return []
        return [one for name, one in sets[0].items() if all(name in others for others in sets[1:])]


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
    held, adapters, notes = _held(list(_those(links, SelectedAdapter)), servers)
    keys = {name: None for one in _those(links, NamedKey) for name in one.names}
    adapters |= {name: AdapterFacts(name, "a map of models") for name in keys if name not in adapters}
    return SourceFacts(
        "objects of a cluster",
        tuple(adapters.values()),
        tuple(ServerFacts(name, held[name][1], held[name][0]) for name in held),
        (*_key_routes(links, servers, bases), *_group_routes(list(_those(links, GroupMember)))),
        notes=notes,
    )


def _those(links: Iterable[Link], kind: type[T]) -> Iterator[T]:
    return (link for link in links if isinstance(link, kind))


def _held(
    selected: Sequence[SelectedAdapter], servers: _Servers
) -> tuple[dict[str, tuple[tuple[str, ...], str]], dict[str, AdapterFacts], tuple[str, ...]]:
    """Adapters by server, adapters whose base model is no group's name, and what is not known."""
    held: dict[str, dict[str, str]] = {}
    adapters: dict[str, AdapterFacts] = {}
    nowhere: dict[str, None] = {}
    unsure: dict[str, None] = {}
    for one in selected:
        found = servers.having(one.labels)
        if not found:
            said = Said(one.base_model, one.origin) if one.base_model else None
            adapters.setdefault(one.served_name, AdapterFacts(one.served_name, one.origin, base_model=said))
            if servers.all:
                nowhere[one.served_name] = None
        elif one.pods is not None and one.pods < sum(server.replicas for server in found):
            unsure[one.served_name] = None
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
    told = {name: (tuple(names), next(iter(names.values()))) for name, names in held.items()}
    return told, adapters, tuple(notes)


def _key_routes(links: Sequence[Link], servers: _Servers, bases: set[str]) -> Iterator[RouteFacts]:
    """Routes of the names that a header stands for, over the servers of pools."""
    backends = {one.name: one for one in _those(links, Backend)}
    names: dict[str, dict[str, None]] = {}
    for one in _those(links, NamedKey):
        names.setdefault(one.key, {}).update(dict.fromkeys(one.names))
    told: set[str] = set()
    for route in _those(links, KeyRoute):
        weights: dict[str, float] = {}
        for name, weight in route.weights.items():
            backend = backends.get(name)
            found = servers.having(backend.labels) if backend else []
            pods = sum(server.replicas for server in found)
            for server in found:  # the pool's picker may take any of its pods
                share = weight * server.replicas / pods
                weights[server.name] = weights.get(server.name, 0.0) + share
        own = (route.key,) if route.is_model or route.key in bases else ()
        for served in (*own, *names.get(route.key, ())):
            if weights and served not in told:
                told.add(served)
                yield RouteFacts(served, weights, route.origin)


def _group_routes(members: Sequence[GroupMember]) -> Iterator[RouteFacts]:
    """Routes of names that several servers of a group serve."""
    weights: dict[str, dict[str, float]] = {}
    origins: dict[str, str] = {}
    for member in members:
        for name in member.names:
            weights.setdefault(name, {})[member.server] = member.weight
            origins.setdefault(name, member.origin)
    for name, shares in weights.items():
        if sum(shares.values()) > 0:
            yield RouteFacts(name, shares, origins[name])
