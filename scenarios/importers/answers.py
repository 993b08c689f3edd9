"""Which server an answer of ``/v1/models`` is of, where other sources tell of servers."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from scenarios.errors import Problem
from scenarios.importers.facts import METRICS, MODELS, ImportSourceError, Said, ServerFacts
from scenarios.importers.model_names import plain_model
from scenarios.text.formatting import listed

NAMED = 5
"""Servers that a message names."""

_PORT = re.compile(r":(\d{1,5})/?$")
_PART = re.compile(r"[A-Za-z0-9]+")


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
        fitting = [server for server in told.values() if _may_be(server, answer)]
        if len(fitting) == 1:
            server = fitting[0]
            told[server.name] = replace(server, engine={**answer.engine, **server.engine})
    return told


def _matched(
    servers: Mapping[str, ServerFacts], answers: Sequence[ServerFacts]
) -> dict[str, list[tuple[str, ServerFacts]]]:
    """By server, its answers, each with the instance that it is of."""
    # Of servers of which nobody says how many they are, there are as many as answer.
    free = {name: server.replicas // server.engines or len(answers) for name, server in servers.items()}
    found: dict[str, list[tuple[str, ServerFacts]]] = {}
    left = list(answers)
    among = {one.name: [server for server in servers.values() if _may_be(server, one)] for one in answers}

    def take(rule: Callable[[ServerFacts, ServerFacts], int]) -> bool:
        """Give answers to those servers that a rule fits best, if it is one; tells whether any was given."""
        kept = []
        for answer in left:
            marks = {s.name: rule(s, answer) for s in among[answer.name] if free[s.name] > 0}
            best = [name for name, mark in marks.items() if mark == max(marks.values()) > 0]
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
        raise _refused(left, among, free)
    return found


def _may_be(server: ServerFacts, answer: ServerFacts) -> bool:
    """Whether an answer may be a server's: it is of its model, as far as either says it."""
    if server.program == "NIM":
        return True
    names = {said.value for said in (server.model, server.served_model_name) if said is not None}
    told = {said.value for said in (answer.model, answer.served_model_name) if said is not None}
    plain = {plain_model(name) for name in names}
    return not names or not told or any(plain_model(name) in plain for name in told)


def _named(server: ServerFacts, answer: ServerFacts) -> int:
    """How much of the name of an answer's file names a server: its pod, its name, or its port."""
    stem, name = answer.name, server.name.rpartition("/")[2]
    if stem in server.instances:
        return 10_000
    parts = _PART.findall(stem)
    port = _PORT.search(server.address) or _PORT.search(server.name)
    if port is not None:
        return 1 if port[1] in parts else 0
    own = _PART.findall(name)
    at = [k for k in range(len(parts) - len(own) + 1) if parts[k : k + len(own)] == own]
    return len(own) if own and at else 0


def _same(server: ServerFacts, answer: ServerFacts) -> int:
    held = set(answer.adapters)
    alike = [held == {*server.adapters, *beside} for beside in server.instances.values()]
    return int(any(alike) or (bool(held) and held == set(server.adapters)))


def _within(server: ServerFacts, answer: ServerFacts) -> int:
    """Whether a server was started with some of an answer's adapters: the others were loaded since."""
    return int(bool(server.adapters) and set(server.adapters) <= set(answer.adapters))


def _unknown(server: ServerFacts, answer: ServerFacts) -> int:
    del answer
    return int(not server.names())


def _any(server: ServerFacts, answer: ServerFacts) -> int:
    """The last rule: what is left has one place only."""
    del server, answer
    return 1


def _instance(server: ServerFacts, answer: ServerFacts) -> str:
    """The instance of a server that an answer is of, by its name or by what it holds, or a new one."""
    if answer.name in server.instances:
        return answer.name
    held = set(answer.adapters)
    alike = (name for name, beside in server.instances.items() if held == {*server.adapters, *beside})
    return next(alike, answer.name)


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


def _refused(
    left: Sequence[ServerFacts], among: Mapping[str, Sequence[ServerFacts]], free: Mapping[str, int]
) -> ImportSourceError:
    """An error about answers that are no server's, or may be of several."""
    problems = []
    for answer in left[:NAMED]:
        fitting = [server.name for server in among[answer.name]]
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
