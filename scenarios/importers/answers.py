"""Which server an answer of ``/v1/models`` is of, where other sources tell of servers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace

from scenarios.errors import Problem
from scenarios.importers.facts import METRICS, MODELS, ImportSourceError, Said, ServerFacts
from scenarios.importers.model_names import plain_model
from scenarios.text.formatting import listed

NAMED = 5
"""Servers that a message names."""

_PORT = re.compile(r":(\d{1,5})/?$")
_PART = re.compile(r"[A-Za-z0-9]+")
_POD = 10_000
"""How much the name of a pod tells: more than any number of parts."""


def with_answers(servers: Mapping[str, ServerFacts], asked: Sequence[ServerFacts]) -> dict[str, ServerFacts]:
    """The servers with what some were asked.

    An answer is that of a server of the same model: of the one that its file is named by (its name, its
    port, or the name of a pod); else of the one with the same adapters; else of the one of which nothing
    else is known. Of replicas each has its own. Where no source tells of servers, each answer is one.

    Parameters
    ----------
    servers
        What starts servers says of them, by name.
    asked
        Answers, of ``/v1/models`` and ``/metrics``.

    Raises
    ------
    ImportSourceError
        If it is not plain whose answer one is, or if it is of no server that is told.
    """
    lists = {one.name: one for one in asked if one.asked == MODELS}
    if not servers:
        servers, lists = dict(lists), {}
    found = _matched(servers, list(lists.values())) if lists else {}
    told = {
        name: _answered(server, found[name]) if name in found else server for name, server in servers.items()
    }
    for answer in (one for one in asked if one.asked == METRICS):
        fitting = list(_Known(told.values()).fitting(told.values(), answer))
        if len(fitting) == 1:
            server = fitting[0]
            told[server.name] = replace(server, engine={**answer.engine, **server.engine})
    return told


def _matched(
    servers: Mapping[str, ServerFacts], answers: Sequence[ServerFacts]
) -> dict[str, list[tuple[str, ServerFacts]]]:
    """By server, its answers, each with the instance that it is of."""
    known = _Known(servers.values())
    # Of servers of which nobody says how many they are, there are as many as answer.
    free = {name: server.replicas // server.engines or len(answers) for name, server in servers.items()}
    found: dict[str, list[tuple[str, ServerFacts]]] = {}
    left = list(answers)

    def take(rule: _Rule) -> bool:
        """Give answers to those servers that a rule fits best, if it is one; tells whether any was given."""
        kept = []
        for answer in left:
            marks: dict[str, int] = {}
            for server, mark in rule(known, answer):
                if free[server.name] > 0:
                    marks[server.name] = max(mark, marks.get(server.name, 0))
            most = max(marks.values(), default=0)
            best = [name for name, mark in marks.items() if mark == most]
            if len(best) == 1 or (best and rule is _same):  # equal ones hold the same
                free[best[0]] -= 1
                found.setdefault(best[0], []).append((_instance(servers[best[0]], answer), answer))
            else:
                kept.append(answer)
        moved = len(kept) < len(left)
        left[:] = kept
        return moved

    for rule in (_named, _same, _within, _unknown):
        take(rule)
    while left and take(_any):
        pass
    if left:
        raise _refused(left, known, free)
    return found


class _Known:
    """Servers by what answers may know them by.

    Parameters
    ----------
    servers
        All of them.
    """

    def __init__(self, servers: Iterable[ServerFacts]) -> None:
        self.all = list(servers)
        self.models = {server.name: _models(server) for server in self.all}
        self.unknown = [server for server in self.all if not server.names()]
        self.by_part: dict[str, list[ServerFacts]] = {}
        self.by_pod: dict[str, list[ServerFacts]] = {}
        self.by_adapters: dict[frozenset[str], list[ServerFacts]] = {}
        self.by_first: dict[str, list[ServerFacts]] = {}
        for server in self.all:
            for part in _parts(server)[:1]:
                self.by_part.setdefault(part, []).append(server)
            for pod in server.instances:
                self.by_pod.setdefault(pod, []).append(server)
            for held in {frozenset(server.adapters), *_held(server).values()} - {frozenset[str]()}:
                self.by_adapters.setdefault(held, []).append(server)
            for first in server.adapters[:1]:
                self.by_first.setdefault(first, []).append(server)

    def fitting(self, servers: Iterable[ServerFacts], answer: ServerFacts) -> Iterator[ServerFacts]:
        """Those of some servers that an answer may be of: it is of their model, as far as either says it."""
        told = _models(answer)
        for server in servers:
            models = self.models[server.name]
            if not models or not told or not models.isdisjoint(told) or server.program == "NIM":
                yield server


_Rule = Callable[[_Known, ServerFacts], Iterable[tuple[ServerFacts, int]]]


def _models(server: ServerFacts) -> frozenset[str]:
    """What a server's model is called, so that two ways to write it are equal."""
    said = (server.model, server.served_model_name)
    return frozenset(plain_model(one.value) for one in said if one is not None)


def _parts(server: ServerFacts) -> list[str]:
    """What a file's name has of a server: its port, or if it has none the parts of its name."""
    port = _PORT.search(server.address) or _PORT.search(server.name)
    return [port[1]] if port is not None else _PART.findall(server.name.rpartition("/")[2])


def _held(server: ServerFacts) -> dict[str, frozenset[str]]:
    """All adapters of each instance."""
    return {name: frozenset((*server.adapters, *beside)) for name, beside in server.instances.items()}


def _named(known: _Known, answer: ServerFacts) -> Iterator[tuple[ServerFacts, int]]:
    """Servers that the name of an answer's file names, by a pod, or by how many parts."""
    for server in known.fitting(known.by_pod.get(answer.name, ()), answer):
        yield server, _POD
    parts = _PART.findall(answer.name)
    for k, part in enumerate(parts):
        for server in known.fitting(known.by_part.get(part, ()), answer):
            own = _parts(server)
            if parts[k : k + len(own)] == own:
                yield server, len(own)


def _same(known: _Known, answer: ServerFacts) -> Iterator[tuple[ServerFacts, int]]:
    """Servers with the same adapters, or with an instance that has them."""
    alike = known.by_adapters.get(frozenset(answer.adapters), ())
    return ((server, 1) for server in known.fitting(alike, answer))


def _within(known: _Known, answer: ServerFacts) -> Iterator[tuple[ServerFacts, int]]:
    """Servers that were started with some of an answer's adapters: the others were loaded since."""
    held = set(answer.adapters)
    begun = (server for name in held for server in known.by_first.get(name, ()))
    return ((server, 1) for server in known.fitting(begun, answer) if set(server.adapters) <= held)


def _unknown(known: _Known, answer: ServerFacts) -> Iterator[tuple[ServerFacts, int]]:
    """Servers of which no adapter is known."""
    return ((server, 1) for server in known.fitting(known.unknown, answer))


def _any(known: _Known, answer: ServerFacts) -> Iterator[tuple[ServerFacts, int]]:
    """The last rule: what is left has one place only."""
    return ((server, 1) for server in known.fitting(known.all, answer))


def _instance(server: ServerFacts, answer: ServerFacts) -> str:
    """The instance of a server that an answer is of, by its name or by what it holds, or a new one."""
    if answer.name in server.instances:
        return answer.name
    held = frozenset(answer.adapters)
    return next((name for name, all_ in _held(server).items() if all_ == held), answer.name)


def _answered(server: ServerFacts, answers: Sequence[tuple[str, ServerFacts]]) -> ServerFacts:
    """A server with what its instances answer."""
    replicas = server.replicas or len(answers)
    count = replicas // server.engines
    common = set(answers[0][1].adapters).intersection(*(one.adapters for _, one in answers))
    of_all = len(answers) >= count
    every = answers[0][1].adapters if of_all else server.adapters
    adapters = tuple(name for name in every if name in common)
    told = {k: tuple(n for n in one.adapters if n not in adapters) for k, one in answers}
    instances = told if of_all else {**server.instances, **told}
    notes = server.notes
    if not of_all and len(instances) < count:
        notes = (*notes, f"{len(answers)} of its {count} replicas answered: what the others hold may differ.")
    first = answers[0][1]
    return replace(
        server,
        adapters=adapters,
        instances=instances if any(instances.values()) else {},
        engine={**first.engine, **server.engine},
        model=server.model or first.model,
        served_model_name=server.served_model_name or first.served_model_name,
        asked=MODELS,
        replicas=replicas,
        notes=notes,
    )


def _refused(left: Sequence[ServerFacts], known: _Known, free: Mapping[str, int]) -> ImportSourceError:
    """An error about answers that are no server's, or may be of several."""
    problems = []
    for answer in left[:NAMED]:
        fitting = [server.name for server in known.fitting(known.all, answer)]
        open_ = [name for name in fitting if free[name] > 0]
        said: Said[str] | None = answer.served_model_name or answer.model
        if not fitting:
            message = f"answers for {said.value if said else 'a model'}, which no server of the sources has"
            remedy = "give what starts that server too, or leave the answer out"
        elif not open_:
            message = f"is one answer more than {listed(fitting, NAMED)} has replicas"
            remedy = "give one answer of each, or what starts the other server too"
        else:
            message = f"may be the answer of {listed(open_, NAMED)}"
            remedy = "name the file by the server, its pod or its port, such as models-8000.json"
        problems.append(Problem(answer.origin, message, remedy))
    text = "; ".join(str(problem) for problem in problems)
    more = f"; and {len(left) - NAMED:,} more" if len(left) > NAMED else ""
    return ImportSourceError(problems, text + more)
