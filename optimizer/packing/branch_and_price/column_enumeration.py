"""Every bin that a packing at the bound may use: the pattern model closed from below.

With duals that prove a bound, the reduced costs of a packing's bins sum to no more than its price less that
bound. So a packing at the next possible price uses only bins whose reduced cost is at most the difference.
Where these are few enough to list, CP-SAT finds such a packing among them or proves that there is none
(Baldacci, Christofides and Mingozzi, "An exact algorithm for the vehicle routing problem based on the set
partitioning formulation with additional cuts", 2008).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optimizer.packing.assignment.cpsat_solver import solve_model
from optimizer.packing.bounds.price_bounds import Proof
from optimizer.packing.branch_and_price.knapsack import (
    RIVALS,
    aggregated,
    backward,
    by_efficiency,
    change,
    fractional,
    row_multipliers,
)
from optimizer.packing.branch_and_price.primal_heuristics import drop_excess
from optimizer.packing.heuristics.first_fit import BinFiller, offer
from optimizer.packing.heuristics.kernels import room_for
from optimizer.packing.model.bin_limits import limit_rows
from optimizer.packing.model.compilation import compiled
from optimizer.packing.model.problem import Bin, BoolArray, FloatArray, IntArray
from optimizer.packing.model.search_state import SearchState, price_unit

MOST_BINS = 5_000
"""Most bins that are listed."""

NODES = 500_000
"""Most nodes of the search for them, per option."""

CARE = 1e-7
"""Share of a bin's worth that rounding may cost."""


def place_by_enumeration(run: SearchState, filler: BinFiller, proof: Proof | None, seconds: float) -> None:
    """Find a packing at the run's bound, or raise the bound, if the bins that may be in it are few."""
    if run.done or proof is None or price_unit(run.problem) == 0:
        return
    bins = _candidates(run, filler, proof)
    if bins is None:
        return
    chosen, excluded = _chosen(run, bins, proof, seconds)
    run.statistics["listed_bins"] = float(len(bins))
    if chosen is not None:
        offer(run, drop_excess(chosen, run.problem.counts))
    elif excluded:
        run.raise_bound(run.bound + price_unit(run.problem))


def _candidates(run: SearchState, filler: BinFiller, proof: Proof) -> list[Bin] | None:
    """All bins that a packing of the bound's price may use; None if they are too many."""
    problem, duals = run.problem, proof.duals
    if (duals[problem.counts > 0] <= 0).any():
        return None
    slack = run.bound - proof.bound
    found: list[Bin] = []
    for o in filler.options:
        rows, table = problem.rows[o], filler.tables[o]
        most = np.minimum(rows.most, problem.counts)
        weights = row_multipliers(duals, most, rows.usage, rows.capacity, 25)
        least = float(problem.prices[o] + proof.limit_dual[o]) * (1 - CARE) - slack
        listed, complete = columns_within_gap(
            duals, most, rows.usage, rows.capacity, *table.arrays,
            weights, least, MOST_BINS - len(found), NODES,
        )  # fmt: skip
        if not complete:
            return None
        found += [Bin(o, counts) for counts in listed]
    return found


def _chosen(
    run: SearchState, bins: Sequence[Bin], proof: Proof, seconds: float
) -> tuple[list[Bin] | None, bool]:
    """Bins that cover all items at the bound's price, and whether it is proven that there are none.

    Items beyond those there are cost their duals, so there is room for few.
    """
    from ortools.sat.python import cp_model

    problem, unit = run.problem, price_unit(run.problem)
    model = cp_model.CpModel()
    held = np.array([b.counts for b in bins]).reshape(len(bins), problem.n_classes)
    often = -(-problem.counts // np.maximum(held, 1)) * (held > 0)
    amount = [model.new_int_var(0, int(most), f"x{k}") for k, most in enumerate(often.max(axis=1))]
    option = np.array([b.option for b in bins], dtype=np.int64)

    def total(weights: FloatArray | IntArray) -> cp_model.LinearExprT:
        used = np.flatnonzero(weights)
        return cp_model.LinearExpr.weighted_sum([amount[k] for k in used], [int(weights[k]) for k in used])

    slack = run.bound * (1 + CARE) - proof.bound
    for c in np.flatnonzero(problem.counts):
        demand = int(problem.counts[c])
        model.add_linear_constraint(total(held[:, c]), demand, demand + int(slack / proof.duals[c]))
    units = np.rint(problem.prices / unit).astype(np.int64)
    model.add(total(units[option]) <= round(run.bound / unit))
    for limit in limit_rows(problem):
        if np.isin(limit.weight, (0.0, 1.0)).all():  # a budget is kept by whoever offers the packing
            model.add(total(limit.weight[option]) <= int(limit.most))
    solver, status = solve_model(
        model,
        seed=run.seed,
        workers=run.workers,
        seconds=min(seconds, run.left_s),
        params=run.params.assignment,
    )
    chosen = None
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        chosen = [b for b, x in zip(bins, amount, strict=True) for _ in range(solver.value(x))]
    return chosen, status == cp_model.INFEASIBLE


@compiled
def _is_full(smallest: IntArray, i: int, residual: IntArray) -> bool:
    """Whether no item from position i on has room."""
    full = False
    for r in range(len(residual)):
        full = full or residual[r] < smallest[r, i]
    return full


@compiled
def columns_within_gap(
    profit: FloatArray,
    most: IntArray,
    usage: IntArray,
    capacity: IntArray,
    wanted: IntArray,
    group: IntArray,
    stands: BoolArray,
    multipliers: FloatArray,
    least: float,
    limit: int,
    nodes: int,
) -> tuple[IntArray, bool]:
    """The bins worth at least ``least`` that take no further item, and whether these are all.

    Arguments as in `tree_knapsack`; at most ``limit`` bins, shape (bins, n).
    """
    m, n = usage.shape
    load = aggregated(usage, capacity, multipliers)
    order = by_efficiency(profit, most, load)
    rivals = np.full((len(order), RIVALS), -1)
    smallest = usage[:, order].copy()
    for i in range(len(order) - 2, -1, -1):
        for r in range(m):
            smallest[r, i] = min(smallest[r, i], smallest[r, i + 1])
    found = np.zeros((limit, n), dtype=np.int64)
    counts, residual = np.zeros(n, dtype=np.int64), capacity.copy()
    left, value, i, k = 1.0, 0.0, 0, 0
    for _ in range(nodes):
        while i < len(order) and not _is_full(smallest, i, residual):
            if value + fractional(i, left, order, profit, load, most, counts, rivals) < least:
                break
            c = order[i]
            amount = min(most[c], room_for(c, usage, residual, counts, wanted, group, stands))
            change(c, amount, counts, residual, usage)
            value += profit[c] * amount
            left -= load[c] * amount
            i += 1
        if value >= least:
            full = True
            for c in order:
                if counts[c] < most[c] and room_for(c, usage, residual, counts, wanted, group, stands) > 0:
                    full = False
                    break
            if full:
                if k == limit:
                    return found, False
                found[k] = counts
                k += 1
        i, left, value = backward(
            i - 1, left, value, least, order, profit, load, most, usage, residual, counts, rivals
        )
        if i < 0:
            return found[:k], True
        i += 1
    return found[:k], False
