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
from optimizer.packing.branch_and_price.knapsack import backward, bounded_knapsack, change, fractional
from optimizer.packing.branch_and_price.primal_heuristics import repair_overcover
from optimizer.packing.heuristics.first_fit import BinFiller, offer
from optimizer.packing.heuristics.kernels import room_for
from optimizer.packing.model.bin_limits import limit_rows
from optimizer.packing.model.compilation import cached, compiled
from optimizer.packing.model.problem import Bin, BoolArray, FloatArray, IntArray
from optimizer.packing.model.search_state import SearchState, price_unit

CARE = 1e-7
"""Share of a bin's worth that rounding may cost."""


def place_by_enumeration(run: SearchState, filler: BinFiller, proof: Proof | None) -> None:
    """Find a packing at the run's bound, or raise the bound, if the bins that may be in it are few."""
    if run.done or proof is None or price_unit(run.problem) == 0:
        return
    seconds = run.params.branch_and_price.enumeration_share * run.left_s
    bins = _candidates(run, filler, proof)
    if bins is None:
        return
    packed, excluded = _packed(run, bins, proof, seconds)
    run.statistics["listed_bins"] = float(len(bins))
    if packed is not None:
        offer(run, repair_overcover(packed, run.problem.counts))
    elif excluded:
        run.raise_bound(run.bound + price_unit(run.problem))


def _candidates(run: SearchState, filler: BinFiller, proof: Proof) -> list[Bin] | None:
    """All bins that a packing of the bound's price may use; None if they are too many."""
    # Its price is the duals' total plus the reduced costs of its bins plus the duals of what it covers twice,
    # all of them at least 0. So no single one is above the difference of the target and the proven bound
    # (Baldacci et al. 2008). A class of no value would let that say nothing about its items.
    problem, params = run.problem, run.params.branch_and_price
    if (proof.duals[problem.counts > 0] <= 0).any():
        return None
    slack = run.bound - proof.bound
    bins: list[Bin] = []
    for o in filler.options:
        rows = problem.rows[o]
        items = bounded_knapsack(
            proof.duals, np.minimum(rows.most, problem.counts), rows, filler.tables[o], filler.swap_measures,
            multiplier_rounds=run.params.column_generation.multiplier_rounds, rivals=0,
        )  # fmt: skip
        threshold = float(problem.prices[o] + proof.limit_dual[o]) * (1 - CARE) - slack
        limit = params.listed_bins - len(bins)
        listed, complete = columns_within_gap(*items[1:], threshold, limit, params.listing_nodes)
        if not complete:
            return None
        contents = np.zeros((len(listed), problem.n_classes), dtype=np.int64)
        contents[:, items.order] = listed
        bins += [Bin(o, counts) for counts in contents]
    return bins


def _packed(
    run: SearchState, bins: Sequence[Bin], proof: Proof, seconds: float
) -> tuple[list[Bin] | None, bool]:
    """Bins that cover all items at the bound's price, and whether it is proven that there are none.

    Items beyond those there are cost their duals, so there is room for few.
    """
    from ortools.sat.python import cp_model

    problem, unit = run.problem, price_unit(run.problem)
    model = cp_model.CpModel()
    contents = np.array([b.counts for b in bins]).reshape(len(bins), problem.n_classes)
    often = -(-problem.counts // np.maximum(contents, 1)) * (contents > 0)
    amount = [model.new_int_var(0, int(most), f"x{k}") for k, most in enumerate(often.max(axis=1))]
    option = np.array([b.option for b in bins], dtype=np.int64)

    def total(weights: FloatArray | IntArray) -> cp_model.LinearExprT:
        used = np.flatnonzero(weights)
        return cp_model.LinearExpr.weighted_sum([amount[k] for k in used], [int(weights[k]) for k in used])

    slack = run.bound * (1 + CARE) - proof.bound
    for c in np.flatnonzero(problem.counts):
        demand = int(problem.counts[c])
        model.add_linear_constraint(total(contents[:, c]), demand, demand + int(slack / proof.duals[c]))
    units = np.rint(problem.prices / unit).astype(np.int64)
    model.add(total(units[option]) <= round(run.bound / unit))
    for limit in limit_rows(problem):
        if np.isin(limit.weight, (0.0, 1.0)).all():  # a budget is kept by whoever offers the packing
            model.add(total(limit.weight[option]) <= int(limit.most))
    solver, status = solve_model(
        model,
        seed=run.seed,
        workers=run.workers,
        deadline=run.deadline.part(seconds),
        params=run.params.assignment,
    )
    packed = None
    if status in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        packed = [b for b, x in zip(bins, amount, strict=True) for _ in range(solver.value(x))]
    return packed, status == cp_model.INFEASIBLE


@compiled
def _is_full(smallest: IntArray, i: int, residual: IntArray) -> bool:
    """Whether no item from position i on has room."""
    full = False
    for r in range(len(residual)):
        full = full or residual[r] < smallest[r, i]
    return full


@cached
def columns_within_gap(
    profit: FloatArray,
    load: FloatArray,
    upper: IntArray,
    usage: IntArray,
    capacity: IntArray,
    rivals: IntArray,
    requirements: IntArray,
    class_group: IntArray,
    compatible: BoolArray,
    threshold: float,
    limit: int,
    nodes: int,
) -> tuple[IntArray, bool]:
    """The bins worth at least a threshold that take no further item, and whether these are all.

    Arguments as in `Knapsack`, which has no rivals, as all such bins are wanted, not one of the best. At most
    ``limit`` bins, shape (bins, classes in the knapsack's order).
    """
    # The walk of `tree_knapsack`, with a goal that does not rise. Bins that take one more item are left out:
    # covering may use the larger bin in their place, and there would be too many.
    k, residual = len(profit), capacity.copy()
    smallest = usage.copy()
    for i in range(k - 2, -1, -1):
        for r in range(len(residual)):
            smallest[r, i] = min(smallest[r, i], smallest[r, i + 1])
    listed = np.zeros((limit, k), dtype=np.int64)
    counts = np.zeros(k, dtype=np.int64)
    room, value, i, number = 1.0, 0.0, 0, 0
    for _ in range(nodes):
        while i < k and not _is_full(smallest, i, residual):
            if value + fractional(i, room, profit, load, upper, rivals, counts) < threshold:
                break
            amount = min(
                upper[i], room_for(i, usage, residual, counts, requirements, class_group, compatible)
            )
            change(i, amount, usage, counts, residual)
            value += profit[i] * amount
            room -= load[i] * amount
            i += 1
        if value >= threshold:
            full = True
            for j in range(k):
                if (
                    counts[j] < upper[j]
                    and room_for(j, usage, residual, counts, requirements, class_group, compatible) > 0
                ):
                    full = False
                    break
            if full:
                if number == limit:
                    return listed, False
                for j in range(k):
                    listed[number, j] = counts[j]
                number += 1
        i, room, value = backward(
            i - 1, room, value, threshold, profit, load, upper, usage, rivals, counts, residual
        )
        if i < 0:
            return listed[:number], True
        i += 1
    return listed[:number], False
