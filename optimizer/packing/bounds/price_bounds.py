"""Lower bounds on the price of a packing that need no search.

A bound is a *weight* per class such that no bin holds items of more weight than its price: the weight of
all items then bounds the price of every packing. The continuous bound's weights are the duals of a linear
programme; dual feasible functions make them from sizes.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from optimizer.packing.bounds.aggregate_relaxation import AggregateModel, LinearRelaxation
from optimizer.packing.model.options import useful_options
from optimizer.packing.model.problem import FloatArray, IntArray, PackingOption, PackingProblem
from optimizer.packing.model.search_state import SearchState, round_up
from scenarios import Deadline

LEAST_S = 0.5
"""Seconds that a bound gets even where hardly any are left."""


@dataclass(frozen=True, eq=False)
class Proof:
    """Duals that prove a bound: no bin is worth more than its price and its limit dual.

    Parameters
    ----------
    bound
        Lower bound on the price of every packing.
    duals
        Worth of an item per class, shape (n_classes,).
    limit_dual
        What a bin of each option costs beyond its price because limits bind, shape (n_options,).
    """

    bound: float
    duals: FloatArray
    limit_dual: FloatArray


def proof_of(continuous: LinearRelaxation, problem: PackingProblem) -> Proof | None:
    """The continuous bound's proof; None where limits have a part in it, whose duals are not kept."""
    if not np.isclose(continuous.duals @ problem.counts, continuous.bound, rtol=1e-7, atol=0.0):
        return None
    return Proof(continuous.bound, continuous.duals, np.zeros(len(problem.options)))


def continuous_relaxation(problem: PackingProblem) -> LinearRelaxation:
    """Solve the aggregate model's linear relaxation."""
    return AggregateModel(problem).continuous()


def continuous_bound(problem: PackingProblem) -> float:
    """Optimum of the continuous relaxation; infinite if it has no solution."""
    return continuous_relaxation(problem).bound


def dual_feasible_bound(problem: PackingProblem) -> float:
    """The best of the classic dual feasible functions over every row, at the least price.

    For a row whose sizes x are shares of the capacity of the largest bin: the identity, Fekete and
    Schepers' rounding u_k(x) = x if (k + 1) x is integer, else floor((k + 1) x) / k (2001), and their
    threshold function (1 above 1 - e, x between, 0 below e). Items of classes that an option does not
    admit count by the option where they take the smallest share, so the bound holds for several options.
    """
    options = useful_options(problem)
    price = float(problem.prices[list(options)].min())
    best = 0.0
    for share in _shares(problem, options):
        used = problem.counts > 0
        sizes, counts = share[used], problem.counts[used]
        best = max(best, float(sizes @ counts))
        for k in range(1, 51):
            scaled = (k + 1) * sizes
            whole = np.abs(scaled - np.rint(scaled)) < 1e-9
            best = max(best, float(np.where(whole, sizes, np.floor(scaled + 1e-9) / k) @ counts))
        best = max(best, _threshold_bound(sizes, counts))
    return best * price * (1 - 1e-9)


def _threshold_bound(sizes: FloatArray, counts: IntArray) -> float:
    """The best weight of all items by the threshold function, over every edge; in the order of sizes."""
    order = np.argsort(sizes, kind="stable")
    ordered = sizes[order]
    number = np.concatenate(([0], np.cumsum(counts[order])))
    total = np.concatenate(([0.0], np.cumsum(ordered * counts[order])))
    edges = np.unique(ordered[ordered <= 0.5])
    first = np.searchsorted(ordered, edges - 1e-12, side="left")
    above = np.searchsorted(ordered, 1 - edges + 1e-12, side="right")
    return float((number[-1] - number[above] + total[above] - total[first]).max(initial=0.0))


def _shares(problem: PackingProblem, options: tuple[int, ...]) -> list[FloatArray]:
    """Sizes as shares of a bin, the least over options: row by row where all have the same rows."""
    heights = {len(problem.rows[o].capacity) for o in options}
    per_option = [problem.rows[o].usage / np.maximum(problem.rows[o].capacity, 1)[:, None] for o in options]
    admitted = np.array([problem.rows[o].most > 0 for o in options])
    if len(heights) > 1:
        return []
    shares = []
    for r in range(heights.pop()):
        share = np.where(admitted, np.array([rows[r] for rows in per_option]), np.inf).min(axis=0)
        shares.append(np.where(np.isfinite(share), share, 0.0))
    return shares


def price_bound(problem: PackingProblem, deadline: Deadline, seconds: float) -> float:
    """A bound on the price that holds however items are cut; infinite if there is no packing.

    Parameters
    ----------
    problem
        The problem.
    deadline
        When to stop.
    seconds
        Counted seconds for each of two programmes.
    """
    model = AggregateModel(problem)
    bound = model.continuous(deadline.part(seconds).no_sooner(LEAST_S)).bound
    if len(model.options) > 1 and np.isfinite(bound):
        bound = max(bound, model.whole_bins(deadline.part(seconds).no_sooner(LEAST_S)))
    return round_up(bound, problem) if np.isfinite(bound) else bound


def bound_by_row_prices(
    near: PackingProblem,
    options: Iterable[PackingOption],
    counts: IntArray,
    deadline: Deadline,
    seconds: float,
) -> float:
    """A bound on the price of a problem that is too large for a programme, from one near it.

    Any prices of rows whose sum over a bin is no more than its price prove a bound, whatever they come from:
    an item is worth what it takes of the rows where that is least (Lagrange). Those of the near problem are
    nearly the best ones.

    Parameters
    ----------
    near
        A problem with the same options, rows, prices and limits, but other classes.
    options
        The options of the large problem, one after the other, in the same order.
    counts
        Items per class of the large problem.
    deadline
        When to stop.
    seconds
        Counted seconds for the near problem's programme.
    """
    end = deadline.part(seconds).no_sooner(LEAST_S)
    prices = AggregateModel(near, range(len(near.options))).row_prices(end)
    if prices is None:
        return 0.0
    worth = np.full(len(counts), np.inf)
    for o, option in enumerate(options):
        shares = option.usage / np.where(option.capacity > 0, option.capacity, 1.0)[:, None]
        value = prices.rows[o] @ shares
        worth = np.where(option.fits_class, np.minimum(worth, value), worth)
    bound = float(worth @ counts) - prices.rent
    return round_up(bound * (1 - 1e-9), near) if np.isfinite(bound) else 0.0


def raise_bounds(run: SearchState) -> LinearRelaxation:
    """Raise a run's bound by all bounds of this module; the continuous relaxation is returned.

    If not even the relaxation has a solution, the run is marked infeasible.
    """
    model, params = AggregateModel(run.problem), run.params.bounds
    continuous = model.continuous(run.deadline)
    run.statistics["continuous_bound"] = continuous.bound
    if np.isinf(continuous.bound):
        run.infeasible = run.packing is None
    elif run.problem.objective == "price":
        run.raise_bound(continuous.bound)
        run.raise_bound(dual_feasible_bound(run.problem))
        if not run.done and len(model.options) > 1:
            seconds = min(params.whole_bins_s, params.whole_bins_share * run.left_s)
            whole = model.whole_bins(run.deadline.part(seconds))
            run.infeasible = run.packing is None and np.isinf(whole)
            run.raise_bound(whole if np.isfinite(whole) else 0.0)
    return continuous
