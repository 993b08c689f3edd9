"""The fewest (or cheapest) GPUs: confirm a plan on the conservative region, then try to do with less."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from optimizer.confirm import Confirmation, Confirmed, Solver, fixed_method
from optimizer.instance import Instance
from optimizer.outcome import PackingResult, Status
from optimizer.packing import pack
from optimizer.problem import PackingOption, PackingProblem
from optimizer.registry import Method

RELAXATIONS = (0.25, 0.5, 0.75, 1.0)
"""How far between the inner and the outer region a plan with fewer GPUs is looked for."""

ROUNDS_PER_RELAXATION = 4
"""How often the twin may reject such a plan before a wider region is tried."""

OUTER_SHARE = 0.3
"""Share of the remaining time that the bound on the outer region may take."""


@dataclass(frozen=True)
class Fewest:
    """The outcome of `fewest`.

    Parameters
    ----------
    found
        The best plan that the twin accepted; None if there is none.
    solved
        What the placer said last on the conservative region.
    bound
        No plan of the region that the plan was found in is cheaper.
    outer_bound
        No plan of the outer region is cheaper; None for a heuristic.
    """

    found: Confirmed | None
    solved: PackingResult
    bound: float
    outer_bound: float | None
    infeasible: bool = False


def fewest(
    instance: Instance,
    method: Method,
    confirmation: Confirmation,
    *,
    gap_limit: float,
    seed: int,
    workers: int,
) -> Fewest:
    """Find the cheapest plan that the twin accepts.

    Returns
    -------
    Fewest
        With the twin's rejections so far cut off in all its bounds.
    """
    solver = fixed_method(method.name, seed=seed, workers=workers, gap_limit=gap_limit)
    first = solver(instance.inner, confirmation.left_s)
    found = confirmation.confirm(instance.inner, _remember(first, solver))
    solved = confirmation.last or first
    if found is None and solved.packing is not None:
        found = confirmation.repair(instance.inner, solved.packing)
    bound = first.bound
    if not method.exact or confirmation.interrupted:
        return Fewest(found, solved, bound, None)
    outer = outer_solution(instance, confirmation, method, seed=seed, workers=workers)
    if outer.status is Status.INFEASIBLE:
        return Fewest(found, solved, bound, None, infeasible=found is None)
    better = tighten(instance, method, confirmation, found, outer.bound, seed=seed, workers=workers)
    if better is not None and (found is None or better.value < found.value):
        return Fewest(better, solved, min(bound, outer.bound), outer.bound)
    return Fewest(found, solved, bound, outer.bound)


def _remember(first: PackingResult, solver: Solver) -> Solver:
    """A solver that answers its first, uncut problem with what is known already."""

    def answer(problem: PackingProblem, seconds: float) -> PackingResult:
        return solver(problem, seconds) if problem.cuts else first

    return answer


def outer_solution(
    instance: Instance, confirmation: Confirmation, method: Method, *, seed: int, workers: int
) -> PackingResult:
    """The problem on the optimistic region: its bound holds for every plan that the twin may accept."""
    seconds = max(0.5, confirmation.left_s * OUTER_SHARE)
    problem = replace(instance.outer, cuts=confirmation.cuts(instance.outer))
    return pack(problem, method.name, time_limit_s=seconds, seed=seed, workers=workers)


def tighten(
    instance: Instance,
    method: Method,
    confirmation: Confirmation,
    found: Confirmed | None,
    outer_bound: float,
    *,
    seed: int,
    workers: int,
) -> Confirmed | None:
    """A cheaper plan than ``found`` that the twin accepts although the conservative region refuses it.

    Between the inner and the outer region lies what the linear rows do not know. The plan is looked for
    in regions ever closer to the outer one, so that the least optimistic plan is asked first.
    """
    best = found
    for share in RELAXATIONS:
        while confirmation.left_s > 0 and (best is None or best.value > outer_bound + 1e-9):
            problem = relaxed(instance, share)
            if best is not None:
                problem = cheaper_than(problem, best.value)
            solver = fixed_method(method.name, seed=seed, workers=workers)
            attempt = confirmation.confirm(problem, solver, max_rounds=ROUNDS_PER_RELAXATION)
            if attempt is None:
                break
            best = attempt
    return best


def cheaper_than(problem: PackingProblem, value: float) -> PackingProblem:
    """The problem with a budget below a plan's price: one GPU less where all prices are equal."""
    prices = problem.prices
    if np.ptp(prices) < 1e-12:
        bins = round(value / prices[0]) - 1
        return replace(problem, max_bins=max(1, min(bins, problem.max_bins or bins)))
    return replace(problem, budget=value * (1 - 1e-6))


def relaxed(instance: Instance, share: float) -> PackingProblem:
    """The packing problem on a region between the inner (share 0) and the outer one (share 1)."""
    outer = {(o.device, o.max_loras, o.max_lora_rank): o for o in instance.outer.options}
    options = tuple(
        _between(o, outer[o.device, o.max_loras, o.max_lora_rank], share) for o in instance.inner.options
    )
    return replace(instance.inner, options=options)


def _between(inner: PackingOption, outer: PackingOption, share: float) -> PackingOption:
    """Rows between two options' rows; rows that only the inner one has stay as they are.

    Rows are made comparable by dividing each by its capacity.
    """
    rows = len(outer.capacity)
    usage = inner.usage / inner.capacity[:, None]
    usage[:rows] = (1 - share) * usage[:rows] + share * outer.usage / outer.capacity[:, None]
    return replace(inner, usage=usage, capacity=np.ones(len(usage)))
