"""Checks of what `solve` is asked, before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import TypeGuard, get_args

from optimizer.baselines.named import Baseline
from optimizer.packing.registry import METHODS, Method
from optimizer.search.minimize_latency import FALLBACK_METHOD
from optimizer.search.objectives import LATENCY_OBJECTIVES, PRICES
from optimizer.search.params import DEFAULTS, SolveParams
from scenarios import Problem, Scenario, ScenarioError
from scenarios.scenario import ObjectiveName

OBJECTIVES: tuple[str, ...] = get_args(ObjectiveName)
"""Names of the objectives."""

OBJECTIVES_EXPLAINED = f"""\
rest: {FALLBACK_METHOD}: it finds the fewest GPUs itself, and leaves a latency or balance to {FALLBACK_METHOD}
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
) -> None:
    """Check the arguments of `solve`.

    Raises
    ------
    ScenarioError
        If one is of a wrong type or out of its range; the message names all that are.
    """
    problems = [
        *_wrong_scenario(scenario),
        *_wrong_objective(objective),
        *([] if gpus is None else _wrong_count("gpus", gpus, ", or None for the scenario's")),
        *_wrong_count("workers", workers, ""),
        *([] if seed is None else _wrong_count("seed", seed, ", or None for the scenario's", least=0)),
    ]
    if not isinstance(params, SolveParams):
        remedy = "give optimizer.SolveParams: scenarios.read_params(file, optimizer.SolveParams)"
        problems.append(Problem("params", f"is {params!r}", remedy))
    limits = [("time_limit_s", time_limit_s)]
    limits += [] if total_limit_s is None else [("total_limit_s", total_limit_s)]
    problems += [
        Problem(name, f"is {limit!r}", "give seconds, a number above 0")
        for name, limit in limits
        if not (_is_real(limit) and 0 < limit < math.inf)
    ]
    if not (_is_real(gap_limit) and 0 <= gap_limit < 1):
        problems.append(
            Problem("gap_limit", f"is {gap_limit!r}", "give a number from 0 to below 1: 0.05 stops at 5 %")
        )
    if problems:
        raise ScenarioError(problems, "solve")


def objectives_of(method: Method | Baseline) -> str:
    """Which objectives a method does, for people."""
    if isinstance(method, Baseline):
        return "none"
    if method.spreads:
        return f"all but {', '.join(PRICES)}"
    return "all" if len(method.objectives) > 1 else f"{', '.join(PRICES)}; rest: {FALLBACK_METHOD}"


def check_method(method: Method | Baseline, objectives: Sequence[str], gpus: int | None) -> None:
    """Refuse a method that does not do what is asked.

    Raises
    ------
    ScenarioError
        If the method only spreads adapters over given GPUs, and ``gpus`` or ``cost`` comes first or no
        number of GPUs is given.
    """
    problems = list(unsuited(method, objectives, gpus))
    if problems:
        raise ScenarioError(problems, "solve")


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


def _wrong_scenario(scenario: object) -> Iterator[Problem]:
    if not isinstance(scenario, Scenario):
        remedy = "give a Scenario: scenarios.read(path or name of a shipped one)"
        yield Problem("scenario", f"is {scenario!r}", remedy)


def _wrong_objective(objective: object) -> Iterator[Problem]:
    if objective is None:
        return
    choice = f"choose from {', '.join(OBJECTIVES)}"
    names = [objective] if isinstance(objective, str) or not isinstance(objective, Sequence) else objective
    if not names:
        yield Problem("objective", "is empty", choice)
    for name in names:
        if name not in OBJECTIVES:
            yield Problem("objective", f'is "{name}"' if isinstance(name, str) else f"is {name!r}", choice)


def _wrong_count(name: str, value: object, alternative: str, least: int = 1) -> Iterator[Problem]:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < least:
        yield Problem(name, f"is {value!r}", f"give a whole number of at least {least}{alternative}")


def _is_real(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool)
