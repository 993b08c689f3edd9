"""What several sources say, put together: each adapter and each server once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TypeVar

from scenarios.errors import Problem
from scenarios.importers.answers import with_answers
from scenarios.importers.facts import (
    AdapterFacts,
    BaseTraffic,
    ImportSourceError,
    RouteFacts,
    Said,
    ServerFacts,
    SourceFacts,
    TotalTraffic,
)
from scenarios.importers.model_names import plain_model
from scenarios.text.formatting import counted, listed
from scenarios.traffic.rates import UncertainRate

T = TypeVar("T", AdapterFacts, ServerFacts)

NAMED = 5
"""Contradictions, and adapters, that are told one by one."""

MEASURED = ("rate", "prompt", "output", "arrivals")
"""Fields of traffic, which must come from one source for each adapter."""


@dataclass(frozen=True)
class Fleet:
    """All that the sources say.

    Parameters
    ----------
    adapters, servers
        Each once, by served name and by name.
    routes
        Where requests go, by served name.
    models
        What base models are told of, with where.
    base_names
        Names by which clients ask for the base model.
    base, total
        Traffic of the base model, and of all.
    settings
        Values of the section ``export``.
    notes
        What a user must know.
    """

    adapters: Mapping[str, AdapterFacts]
    servers: Mapping[str, ServerFacts]
    routes: Mapping[str, RouteFacts]
    models: tuple[Said[str], ...]
    base_names: frozenset[str]
    base: BaseTraffic | None
    total: TotalTraffic
    settings: Mapping[str, Said[object]]
    notes: tuple[str, ...]


def merged(sources: Sequence[SourceFacts]) -> Fleet:
    """Put together what sources say; what one leaves open another may tell.

    Raises
    ------
    ImportSourceError
        If two contradict each other about what one adapter has: its rank, or its traffic; or if it is not
        plain which server an answer is of.
    """
    adapters: dict[str, AdapterFacts] = {}
    servers: dict[str, ServerFacts] = {}
    routes: dict[str, RouteFacts] = {}
    problems: list[Problem] = []
    moved: dict[str, None] = {}
    asked: list[ServerFacts] = []
    for facts in sources:
        for adapter in facts.adapters:
            known = adapters.get(adapter.served_name)
            if known is not None:
                problems += _contradictions(known, adapter)
                if _lie_apart(known, adapter):
                    moved[adapter.served_name] = None
            adapters[adapter.served_name] = adapter if known is None else _with_source(known, adapter)
        asked += [server for server in facts.servers if server.asked]
        for server in (one for one in facts.servers if not one.asked):
            before = servers.get(server.name)
            servers[server.name] = server if before is None else _joined(before, server)
        for route in facts.routes:
            routes.setdefault(route.served_name, route)
    if problems:
        raise ImportSourceError(_gathered(problems))
    servers = with_answers(servers, asked)
    models = _models(adapters.values(), servers.values())
    base_names = _base_names(sources, models, routes, adapters)
    for server in servers.values():
        for name in server.names():
            if name not in base_names:
                adapters.setdefault(name, AdapterFacts(name, server.origin))
    for route in routes.values():
        if route.served_name not in base_names:
            adapters.setdefault(route.served_name, AdapterFacts(route.served_name, route.origin))
    told = with_base_names(SourceFacts("all sources", tuple(adapters.values())), base_names)
    settings, unsettled = _settings(sources, servers.values())
    if moved:
        unsettled.append(
            f"Sources have weights of {listed(list(moved), 5)} at several places: the first counts."
        )
    base = next((facts.base for facts in sources if facts.base is not None), told.base)
    return Fleet(
        {one.served_name: one for one in told.adapters},
        servers,
        routes,
        models,
        base_names,
        base,
        _total(sources),
        settings,
        tuple(dict.fromkeys((*(note for facts in sources for note in facts.notes), *unsettled))),
    )


def _filled(known: T, other: T) -> T:
    """What is known, with what another source says of what is not."""
    update = {
        field.name: getattr(other, field.name)
        for field in fields(known)
        if getattr(known, field.name) in (None, (), "") and getattr(other, field.name) not in (None, (), "")
    }
    notes = tuple(dict.fromkeys((*known.notes, *other.notes)))
    return replace(known, **{**update, "notes": notes})


def _with_source(known: AdapterFacts, other: AdapterFacts) -> AdapterFacts:
    """What is known of an adapter, with what another source says; of two places the engines' counts."""
    filled = _filled(known, other)
    is_better = known.source is None or other.source_weight > known.source_weight
    if other.source is None or not is_better:
        return filled
    return replace(filled, source=other.source, source_weight=other.source_weight)


def _lie_apart(known: AdapterFacts, other: AdapterFacts) -> bool:
    """Whether two sources that count alike say that an adapter's weights are at different places."""
    if known.source is None or other.source is None or known.source_weight != other.source_weight:
        return False
    return known.source.value != other.source.value


def _joined(known: ServerFacts, other: ServerFacts) -> ServerFacts:
    """A server of which two sources, or two documents, tell."""
    adapters = tuple(dict.fromkeys((*known.adapters, *other.adapters)))
    engine = {**other.engine, **known.engine}
    replicas = max(known.replicas, other.replicas)
    names = dict.fromkeys((*known.instances, *other.instances))
    instances = {
        name: tuple(dict.fromkeys((*known.instances.get(name, ()), *other.instances.get(name, ()))))
        for name in names
    }
    filled = _filled(known, other)
    return replace(filled, adapters=adapters, engine=engine, replicas=replicas, instances=instances)


def _contradictions(known: AdapterFacts, other: AdapterFacts) -> Iterable[Problem]:
    """What two sources say otherwise of one adapter."""
    for name in ("rank", *MEASURED):
        one, two = getattr(known, name), getattr(other, name)
        if one is None or two is None or (name == "rank" and one.value == two.value):
            continue
        what = f"is {one.value}" if name == "rank" else "is told"
        where = f"and {two.value} in" if name == "rank" else "and in"
        remedy = (
            "leave one source out" if name == "rank" else "give one log of all: join them, or leave one out"
        )
        yield Problem(
            f'{name} of "{known.served_name}"', f"{what} in {one.origin}, {where} {two.origin}", remedy
        )


def _gathered(problems: Sequence[Problem]) -> list[Problem]:
    """The problems, but for those of many adapters that are alike, of which the first are told."""
    if len(problems) <= NAMED:
        return list(problems)
    more = len(problems) - NAMED
    return [*problems[:NAMED], Problem("sources", f"contradict each other {more:,} times more")]


def _models(adapters: Iterable[AdapterFacts], servers: Iterable[ServerFacts]) -> tuple[Said[str], ...]:
    """Base models, those of servers first, each with the first place that tells of it.

    Where an adapter's base model is a name by which servers of a model are asked, that model is meant.
    """
    known = list(servers)
    served = {one.served_model_name.value for one in known if one.served_model_name and one.model}
    told = [one.base_model for one in adapters if one.base_model and one.base_model.value not in served]
    found: dict[str, Said[str]] = {}
    for said in (*(server.model for server in known), *told):
        if said is not None:
            found.setdefault(said.value, said)
    return tuple(found.values())


def _base_names(
    sources: Sequence[SourceFacts],
    models: Sequence[Said[str]],
    routes: Mapping[str, RouteFacts],
    adapters: Mapping[str, AdapterFacts],
) -> frozenset[str]:
    """Names of the base model: what sources call so, and adapters of a log that bear a model's name."""
    said = {name for facts in sources for name in facts.base_names}
    for facts in sources:
        said |= {server.served_model_name.value for server in facts.servers if server.served_model_name}
    models_plain = {plain_model(model.value) for model in models}
    weighted = {name for name, one in adapters.items() if one.rank or one.source}
    for name in (*adapters, *routes):
        if name not in weighted and plain_model(name) in models_plain:
            said.add(name)
    return frozenset(said)


def with_base_names(facts: SourceFacts, base_names: frozenset[str]) -> SourceFacts:
    """The same where some served names are found to be those of the base model.

    Their traffic becomes that of the base model; of several names rates are added, and their lengths and
    arrivals are those of all.

    Parameters
    ----------
    base_names
        What other sources say that the base model is called.
    """
    found = [one for one in facts.adapters if one.served_name in base_names]
    if not found:
        return facts
    others = tuple(one for one in facts.adapters if one.served_name not in base_names)
    first = found[0]
    base = BaseTraffic(first.rate, first.prompt, first.output, first.arrivals)
    if len(found) > 1:
        base = BaseTraffic(_summed([one.rate for one in found if one.rate is not None]))
    names = tuple(dict.fromkeys([*facts.base_names, *(one.served_name for one in found)]))
    return replace(facts, adapters=others, base=base, base_names=names)


def _summed(rates: list[Said[float | UncertainRate]]) -> Said[float | UncertainRate] | None:
    if not rates:
        return None
    lows = [one.value.low if isinstance(one.value, UncertainRate) else one.value for one in rates]
    highs = [one.value.high if isinstance(one.value, UncertainRate) else one.value for one in rates]
    value = sum(lows) if lows == highs else UncertainRate(low=sum(lows), high=sum(highs))
    return Said(value, f"sum of {counted(len(rates), 'name')}; {rates[0].origin}")


def _settings(
    sources: Sequence[SourceFacts], servers: Iterable[ServerFacts]
) -> tuple[dict[str, Said[object]], list[str]]:
    """Values of the section ``export`` that sources agree on, and those that they do not."""
    told: dict[str, list[Said[object]]] = {}
    for server in servers:
        if server.image is not None and server.program == "vLLM":
            told.setdefault("image", []).append(Said(server.image.value, server.image.origin))
    for facts in sources:
        for key, said in facts.settings.items():
            told.setdefault(key, []).append(said)
    settings, notes = {}, []
    for key, found in told.items():
        values = list(dict.fromkeys(str(said.value) for said in found))
        if len(values) == 1:
            settings[key] = found[0]
        else:
            notes.append(f"Sources say {key} {listed(values, 5)}: none is taken, set export.{key} yourself.")
    return settings, notes


def _total(sources: Sequence[SourceFacts]) -> TotalTraffic:
    """Traffic of all: of each field what the first source says that knows it."""
    total = TotalTraffic()
    for facts in sources:
        if facts.total is None:
            continue
        update = {
            field: getattr(facts.total, field)
            for field in ("rate", "prompt", "output", "arrivals")
            if getattr(total, field) is None
        }
        total = replace(total, **update, notes=(*total.notes, *facts.total.notes))
    return total
