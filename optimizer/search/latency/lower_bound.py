"""Bounds on latencies: no accepted plan is faster, as far as floors and the outer region are right."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

import learn
from optimizer.packing.model.problem import PackingProblem
from optimizer.search.instance import Instance
from optimizer.search.latency.floor_relaxation import CARE, FloorRelaxation
from optimizer.search.minimize_gpus import Search
from optimizer.search.objective_order import Choice, as_good, plan_value
from optimizer.search.objectives import LATENCY_OBJECTIVES, LatencyObjective
from optimizer.search.params import LatencyBoundParams
from scenarios import Deadline

USED = 1e-6
"""GPUs in a solution from which on a piece is in use."""


@dataclass(frozen=True)
class LatencyBound:
    """A bound on an objective that is a latency.

    Parameters
    ----------
    value
        In ms; None where there is none.
    why_none
        Why; empty where there is one, and where none was looked for.
    """

    value: float | None = None
    why_none: str = ""


def latency_bounds(
    search: Search, choice: Choice, gpus: int | None, deadline: Deadline
) -> dict[str, LatencyBound]:
    """Bounds on the scenario's latencies, by name: no plan beats them that is as good in the prices before.

    Parameters
    ----------
    search
        The search; heuristics prove nothing.
    choice
        The plan held.
    gpus
        GPUs that are allowed where a latency comes first; None: as many as that plan has.
    deadline
        When to return what is proven by then.
    """
    instance, plan = search.instance, choice.plan
    allowed = None if plan is None or not search.placer.exact else as_good(instance, plan, gpus)
    if plan is None or allowed is None:
        return {}
    bounds = dict[str, LatencyBound]()
    for name in instance.scenario.objective:
        if name in LATENCY_OBJECTIVES:
            objective, held = LATENCY_OBJECTIVES[name], plan_value(instance, name, plan)
            params = search.params.latency_bounds
            bounds[name] = latency_bound(instance, objective, allowed, held, deadline, params)
    return bounds


def latency_bound(
    instance: Instance,
    objective: LatencyObjective,
    allowed: PackingProblem,
    held: float,
    deadline: Deadline,
    params: LatencyBoundParams,
) -> LatencyBound:
    """A value of an objective that no plan on the GPUs allowed is below.

    Parameters
    ----------
    instance
        The instance.
    objective
        An objective on a given number of GPUs.
    allowed
        The inner region's problem of the plans that are looked at: its limits on GPUs, devices and price
        count, its rows do not.
    held
        Value of the plan that is held; where not even that is possible, floors are wrong and prove nothing.
    deadline
        When to return the best by then.
    params
        Parameters.
    """
    why_none = no_bound(instance, objective)
    if not why_none and not 0 < held < np.inf:
        why_none = "the twin measured no latency"
    if why_none:
        return LatencyBound(None, why_none)
    relaxation = FloorRelaxation.of(instance, objective, allowed)
    end = deadline.part(params.seconds)
    if objective.worst:
        value = _least_worst(relaxation, held, end, params)
    else:
        value = _least_mean(relaxation, instance, held, end, params)
    value *= 1 - CARE
    if value > held:
        return LatencyBound(None, "the plan is below the floors that were learned")
    return LatencyBound(value)


def no_bound(instance: Instance, objective: LatencyObjective) -> str:
    """Why an objective on a given number of GPUs has no bound; empty where it has one."""
    if objective.figure is None:
        return "it is a share by the inner rows, only prices and latencies are proven"
    if instance.groups is not None:
        return "more adapters differ than are told apart, and groups have no floors"
    parts = zip(instance.classes, instance.shares, strict=True)
    if any(share < 1 and one.rank > 0 for one, share in parts):  # sums do not know how the base model is cut
        return "adapters are served in parts, which have no floors"
    whole = instance.scenario.workload.arrivals
    if not all(learn.is_steady(one.arrivals or whole) for one in instance.classes):
        return "rates change in the course of time, and floors are of steady ones"
    if any(one.kind.uncertain for one in instance.classes):
        return "rates are uncertain, and floors are of known ones"
    for device, regions in instance.regions.items():
        told = {floor.regime for floor in regions.floors if floor.latency == objective.figure}
        if not told.issuperset(rows.regime for rows in regions.outer.options):
            return f"no floors of this latency were learned for {device}"
    return ""


def _least_worst(
    relaxation: FloorRelaxation, held: float, end: Deadline, params: LatencyBoundParams
) -> float:
    """The largest latency found such that not all GPUs can be faster.

    Bisection between the least latency and that of the plan, with GPUs in parts first, then whole.
    """
    anything = np.zeros(relaxation.problem.n_classes)

    def excluded(limit_ms: float, nodes: int) -> bool:
        solved = relaxation.solve(relaxation.pieces((0.0, limit_ms)), anything, end, nodes)
        return solved is None or solved[0].infeasible

    low = relaxation.least_ms
    if low >= held:
        return low
    for nodes, halvings in ((0, params.halvings), (params.nodes, params.whole_halvings)):
        high = held * (1 + CARE)
        for _ in range(halvings):
            if end.reached:
                break
            middle = math.sqrt(low * high)
            low, high = (middle, high) if excluded(middle, nodes) else (low, middle)
    return low


def _least_mean(
    relaxation: FloorRelaxation, instance: Instance, held: float, end: Deadline, params: LatencyBoundParams
) -> float:
    """The least mean by tokens of the relaxation, where a GPU is as fast as the low end of its piece.

    Pieces between ends in use are halved for all variants, which can stand for each other. What GPUs serve is
    not just what they are asked for, and the mean's weights are what they serve: as far as the shares may
    differ, what is above the least latency counts less. For weights w' with a w <= w' <= b w,
    Σ w' (l - least) / Σ w' >= a / b · Σ w (l - least) / Σ w.
    """
    tokens = np.array([one.tokens_per_s for one in instance.classes])
    weight = tokens / float(tokens @ relaxation.problem.counts)
    best = least = relaxation.least_ms
    ends = [least, *np.geomspace(max(held, least * (1 + params.width)), params.slowest * held, params.pieces)]
    ends += np.geomspace(least, ends[1], params.pieces)[1:-1].tolist()
    for _ in range(params.rounds):
        ends.sort()
        pieces = relaxation.pieces((*ends, np.inf))
        solved = None if end.reached else relaxation.solve(pieces, weight, end)
        if solved is None or not solved[0].optimal:
            break
        solution, bins = solved
        best = max(best, solution.value)
        used = {piece.high for piece, n in zip(pieces, solution.columns[bins], strict=True) if n > USED}
        wide = [(a, b) for a, b in pairwise(ends) if b in used and b > a * (1 + params.width)]
        if not wide:
            break
        ends += [math.sqrt(a * b) for a, b in wide]
    served = 1.0
    if instance.scenario.acceptance == "paper":
        served = instance.scenario.service_levels.served_share
    return least + (best - least) * served * (1 - params.served_tolerance)
