"""Why there is no packing, in words, as far as that is seen without a search."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from optimizer.packing.bounds.price_bounds import continuous_bound, dual_feasible_bound
from optimizer.packing.model.problem import PackingProblem
from optimizer.packing.model.search_state import round_up


def unpackable_message(problem: PackingProblem) -> str:
    """Which classes fit no bin; empty if each fits some."""
    unpackable = problem.unpackable()
    if not len(unpackable):
        return ""
    names = ", ".join(problem.class_name(int(c)) for c in unpackable[:5])
    more = f" and {len(unpackable) - 5} more" if len(unpackable) > 5 else ""
    return f"no bin holds even one item of class {names}{more}"


def why_infeasible(problem: PackingProblem) -> str:
    """Which limit is too low, where a bound shows it; else all that together leaves no packing."""
    free = replace(
        problem, options=tuple(replace(o, limit=None) for o in problem.options), device_limits={},
        max_bins=None, budget=None, cuts=(), objective="price",
    )  # fmt: skip
    if problem.max_bins is not None:
        alike = replace(free, options=tuple(replace(o, price=1.0) for o in free.options))
        bins = _least(alike)
        if bins > problem.max_bins:
            return f"at least {bins:g} bins are needed, above max_bins {problem.max_bins}"
    if problem.budget is not None:
        price = _least(free)
        if price > problem.budget * (1 + 1e-9):
            return f"the bins cost at least {price:g}, above the budget {problem.budget:g}"
    return f"no packing keeps {_restrictions(problem)}"


def _least(problem: PackingProblem) -> float:
    bound = round_up(max(continuous_bound(problem), dual_feasible_bound(problem)), problem)
    return bound if np.isfinite(bound) else 0.0


def _restrictions(problem: PackingProblem) -> str:
    """Everything that limits packings."""
    limits = [f"the limit {o.limit} of {o.name}" for o in problem.options if o.limit is not None]
    limits += [f"the limit {limit} of device {device}" for device, limit in problem.device_limits.items()]
    limits += [f"max_bins {problem.max_bins}"] if problem.max_bins is not None else []
    limits += [f"the budget {problem.budget:g}"] if problem.budget is not None else []
    limits += [f"the cuts ({len(problem.cuts)})"] if problem.cuts else []
    shown = limits[:5] + ([f"{len(limits) - 5} more"] if len(limits) > 5 else [])
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))
