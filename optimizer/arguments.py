"""Checks of what `solve` is asked, before anything is computed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from numbers import Integral, Real
from typing import TypeGuard, get_args

from scenarios import Problem, Scenario, ScenarioError
from scenarios.scenario import ObjectiveName

OBJECTIVES: tuple[str, ...] = get_args(ObjectiveName)
"""Names of the objectives."""


def check_arguments(
    scenario: object,
    objective: object,
    gpus: object,
    time_limit_s: object,
    gap_limit: object,
    workers: object,
    total_limit_s: object = None,
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
    ]
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


def _wrong_count(name: str, value: object, alternative: str) -> Iterator[Problem]:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        yield Problem(name, f"is {value!r}", f"give a whole number of at least 1{alternative}")


def _is_real(value: object) -> TypeGuard[float]:
    return isinstance(value, Real) and not isinstance(value, bool)
