"""`solve`: from a scenario to a plan that the digital twin accepts."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import get_args

import scenarios
from optimizer.assemble import answer, no_answer
from optimizer.confirm import Confirmation, Confirmed, fixed_method
from optimizer.fewest import Fewest, fewest
from optimizer.instance import InfeasibleError, Instance, prepare
from optimizer.judging import Judge
from optimizer.latency import least_latency
from optimizer.packing import Method, methods
from optimizer.progress import Report, silent
from optimizer.result import Result
from scenarios import Problem, Scenario, ScenarioError
from scenarios.scenario import ObjectiveName


def solve(
    scenario: Scenario,
    method: str = "exact",
    *,
    objective: str | Sequence[str] | None = None,
    gpus: int | None = None,
    time_limit_s: float = 60.0,
    gap_limit: float = 0.0,
    seed: int | None = None,
    workers: int = 1,
    report: Report = silent,
) -> Result:
    """Place a scenario's adapters; the twin judges every GPU of the plan.

    Parameters
    ----------
    scenario
        What to place.
    method
        Name of a placer; `optimizer.methods()` lists them.
    objective
        ``gpus``, ``cost``, ``latency`` or ``balance``, or several, the most important first; None: the
        scenario's own. ``latency`` and ``balance`` work on ``gpus`` GPUs, or on the fewest if that is None.
    gpus
        Most GPUs; for ``latency`` and ``balance`` how many to use.
    time_limit_s
        Seconds after which the best accepted plan so far is returned.
    gap_limit
        Relative gap at which the placer stops.
    seed
        Seed of everything random; None: the scenario's.
    workers
        Processes and threads; the result does not depend on it unless the time limit strikes.
    report
        Called with progress.

    Returns
    -------
    Result
        Also when there is no plan: see its status and message.

    Raises
    ------
    ScenarioError
        If the method or an objective does not exist.
    twin.UnknownProfileError
        If no engine profile is known for the scenario's model and device.
    """
    started = time.monotonic()
    chosen = find_method(method)
    scenario = _adjusted(scenario, objective, seed)
    try:
        instance = prepare(scenario, gpus=gpus, workers=workers, report=report)
    except InfeasibleError as error:
        return no_answer(scenario, chosen, str(error), seconds=time.monotonic() - started)
    judge = Judge(scenario, instance.classes, instance.profiles, workers, report)
    confirmation = Confirmation(judge, started + time_limit_s, report)
    plan = fewest(instance, chosen, confirmation, gap_limit=gap_limit, seed=scenario.seed, workers=workers)
    found, origin = _refined(instance, chosen, confirmation, plan, gpus, workers)
    return answer(instance, chosen, confirmation, plan, found, origin, time.monotonic() - started)


def find_method(name: str) -> Method:
    """The placer of a name.

    Raises
    ------
    ScenarioError
        If there is none; the message lists those that exist.
    """
    known = methods()
    if name not in known:
        problem = Problem("method", f'is "{name}", which does not exist', f"choose from {', '.join(known)}")
        raise ScenarioError([problem], "solve")
    return known[name]


def _refined(
    instance: Instance,
    method: Method,
    confirmation: Confirmation,
    plan: Fewest,
    gpus: int | None,
    workers: int,
) -> tuple[Confirmed | None, str]:
    """The plan after the objectives that work on a given number of GPUs."""
    wanted = [name for name in instance.scenario.objective if name in ("latency", "balance")]
    number = gpus if gpus is not None and instance.scenario.objective[0] in wanted else None
    if number is None and plan.found is not None:
        number = len(plan.found.packing)
    if not wanted or number is None:
        return plan.found, ""
    seed = instance.scenario.seed
    if wanted[0] == "balance":
        return _balanced(instance, method, confirmation, plan.found, number, workers)
    return least_latency(instance, method.name, confirmation, plan.found, number, seed=seed, workers=workers)


def _balanced(
    instance: Instance,
    method: Method,
    confirmation: Confirmation,
    found: Confirmed | None,
    gpus: int,
    workers: int,
) -> tuple[Confirmed | None, str]:
    """The plan whose fullest GPU is least full, by the linear rows."""
    able = method.name if "worst" in method.objectives else "cpsat"
    solver = fixed_method(able, seed=instance.scenario.seed, workers=workers)
    even = confirmation.confirm(instance.inner.balanced(gpus), solver)
    return (even, "the most even plan") if even is not None else (found, "the fewest-GPU plan")


def _adjusted(scenario: Scenario, objective: str | Sequence[str] | None, seed: int | None) -> Scenario:
    """The scenario with the objective and the seed that were asked for."""
    changes: list[str] = [] if seed is None else [f"seed={seed}"]
    if objective is not None:
        names = [objective] if isinstance(objective, str) else list(objective)
        known = get_args(ObjectiveName)
        for name in names:
            if name not in known:
                problem = Problem("objective", f'is "{name}"', f"choose from {', '.join(known)}")
                raise ScenarioError([problem], "solve")
        changes.append(f"objective=[{', '.join(names)}]")
    return scenarios.override(scenario, changes) if changes else scenario
