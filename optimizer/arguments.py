"""Checks of what `solve` is asked, before anything is computed."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from optimizer.baselines.named import Baseline
from optimizer.packing.registry import METHODS, Method
from optimizer.search.objectives import LATENCY_OBJECTIVES, PRICES
from optimizer.search.params import DEFAULTS, SolveParams
from scenarios import ACCEPTANCES, Problem, Scenario, ScenarioError
from scenarios.arguments import ArgumentCheck, instance_of, number, refuse, several, whole
from scenarios.scenario import OBJECTIVES
from scenarios.text.formatting import suggestion

COMPARED = ("greedy", "greedy-fill", "bfd", "exact")
"""Methods that are compared where none are named: the greedy as published, the same with a test at every
adapter, a quick heuristic with arbitrary fill, and the strongest method."""

COMPARED_BY_LATENCY = ("greedy-lat", "spread", "bfd", "exact")
"""The same where a latency or balance comes first: the paper's rule for it, an even spread, and those."""

OBJECTIVES_EXPLAINED = f"""\
all: its plans are polished for a latency or balance by what the twin says of them
{", ".join(PRICES)}: its plan is left as it is, and the value of other objectives is reported
rest: spread: for a latency or balance its plan is spread over the GPUs given, the slowest in halves
all but {", ".join(PRICES)}: spreads adapters over a number of GPUs that is given (--gpus)
none: follows its rule whatever the objective, whose value is reported"""
"""What `objectives_of` says, for people."""


def check_arguments(
    scenario: object,
    objective: object,
    gpus: object,
    time_limit_s: object,
    gap_limit: object,
    workers: object,
    total_limit_s: object = None,
    seed: object = None,
    params: object = DEFAULTS,
    acceptance: object = None,
    *,
    source: str = "solve",
) -> None:
    """Check the arguments of `solve`, or of ``source``, which has the same.

    Raises
    ------
    ScenarioError
        If one is of a wrong type or out of its range; the message names all that are.
    """
    given, seconds = ArgumentCheck(source), "give seconds, a number above 0"
    given.check(
        "scenario",
        scenario,
        instance_of(Scenario),
        "give a Scenario: scenarios.read(path or name of a shipped one)",
    )
    if objective is not None:
        _check_objective(given, objective)
    if gpus is not None:
        remedy = "give a whole number of at least 1, or None for the scenario's"
        given.check("gpus", gpus, whole(least=1), remedy)
    given.check("workers", workers, whole(least=1), "give a whole number of at least 1")
    if seed is not None:
        remedy = "give a whole number of at least 0, or None for the scenario's"
        given.check("seed", seed, whole(least=0), remedy)
    if acceptance is not None:
        remedy = f"give {' or '.join(ACCEPTANCES)}, or None for the scenario's"
        given.check("acceptance", acceptance, ACCEPTANCES.__contains__, remedy)
    remedy = "give optimizer.SolveParams: scenarios.read_params(file, optimizer.SolveParams)"
    given.check("params", params, instance_of(SolveParams), remedy)
    given.check("time_limit_s", time_limit_s, number(above=0), seconds)
    if total_limit_s is not None:
        given.check("total_limit_s", total_limit_s, number(above=0), seconds)
    remedy = "give a number from 0 to below 1: 0.05 stops at 5 %"
    given.check("gap_limit", gap_limit, number(least=0, below=1), remedy)
    given.refuse()


def objectives_of(method: Method | Baseline) -> str:
    """Which objectives a method does, for people."""
    if isinstance(method, Baseline):
        return "none"
    if method.spreads:
        return f"all but {', '.join(PRICES)}"
    if method.exact:
        return "all"
    return ", ".join(PRICES) + ("" if method.published else "; rest: spread")


def compared(objectives: Sequence[str]) -> tuple[str, ...]:
    """Methods that are compared by some objectives where none are named."""
    return COMPARED if objectives[0] in PRICES else COMPARED_BY_LATENCY


def check_method(method: Method | Baseline, objectives: Sequence[str], gpus: int | None) -> None:
    """Refuse a method that does not do what is asked.

    Raises
    ------
    ScenarioError
        If the method only spreads adapters over given GPUs, and ``gpus`` or ``cost`` comes first or no
        number of GPUs is given.
    """
    refuse(unsuited(method, objectives, gpus), lambda problems: ScenarioError(problems, "solve"))


def unsuited(method: Method | Baseline, objectives: Sequence[str], gpus: int | None) -> Iterator[Problem]:
    """What a method does not do of what is asked. A baseline follows its rule, whatever is asked."""
    if not isinstance(method, Method) or not method.spreads:
        return
    others = ", ".join(name for name, each in METHODS.items() if not each.spreads)
    if objectives[0] in PRICES:
        yield Problem(
            "method",
            f'is "{method.name}", which does not do objective {objectives[0]}',
            f"choose an objective that it does ({', '.join(LATENCY_OBJECTIVES)}) with a number of gpus, "
            f"or a method that does this one ({others}, or a baseline)",
        )
    elif gpus is None:
        yield Problem(
            "gpus",
            f'is absent, and method "{method.name}" spreads adapters over a given number',
            f"give gpus, or choose a method that finds the fewest ({others})",
        )


def method_problem(name: object, known: Collection[str]) -> Problem:
    """What is wrong with the name of a method that does not exist, and which one may be meant."""
    others = f"choose from {', '.join(METHODS)} or a baseline: `lorapack methods` lists them all"
    if not isinstance(name, str):
        return Problem("method", f"is {name!r}, no name", others)
    return Problem("method", f'is "{name}", which does not exist', _meant(name, known) or others)


def _check_objective(given: ArgumentCheck, objective: object) -> None:
    choice, names = f"choose from {', '.join(OBJECTIVES)}", several(objective)
    given.check("objective", names, bool, choice, "is empty")
    for name in names:
        is_name = isinstance(name, str)
        remedy = (is_name and _meant(name, OBJECTIVES)) or choice
        given.check("objective", name, OBJECTIVES.__contains__, remedy, f'is "{name}"' if is_name else "")


def _meant(name: str, known: Collection[str]) -> str:
    """What may be meant by a name that is none: several, or one that comes near; empty if neither."""
    if "," in name:
        return f"give a list: {[part.strip() for part in name.split(',')]}"
    return suggestion(name, known)
