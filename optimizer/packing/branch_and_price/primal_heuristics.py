"""Whole bins from the pattern model's fractional ones: diving, and the restricted master as a MILP."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optimizer.packing.branch_and_price.column_generation import ColumnGeneration
from optimizer.packing.branch_and_price.restricted_master import MasterSolution
from optimizer.packing.heuristics.first_fit import BinFiller, cheapest_options, first_fit, offer
from optimizer.packing.model.options import BinLimits
from optimizer.packing.model.problem import Bin, IntArray
from optimizer.packing.model.search_state import SearchState
from optimizer.packing.native_search import solve_in_thread

RECALL = 0.65
"""Share of a column from which diving rounds it up together with the largest."""


MANY = 100
"""Classes beyond which a dive rounds several columns up at once, and adds greedy columns only."""


def drop_excess(bins: Sequence[Bin], counts: IntArray) -> list[Bin]:
    """Bins without the items beyond what there is: covering becomes packing."""
    left, kept = counts.copy(), []
    for b in bins:
        held = np.minimum(b.counts, left)
        left -= held
        if held.any():
            kept.append(Bin(b.option, held))
    return kept


def repair_overcover(filler: BinFiller, chosen: Sequence[Bin], left: IntArray) -> list[Bin]:
    """Bins without the items beyond what is left; the gaps take what fits, heaviest first."""
    order = np.argsort(-filler.weights, kind="stable")
    rest, bins = left.copy(), list[Bin]()
    for b in chosen:
        held = np.minimum(b.counts, rest)
        if held.any():
            held = held + filler.fill(b.option, order, rest - held, held)
            bins.append(Bin(b.option, held))
            rest -= held
    return bins


def fill_remaining(run: SearchState, filler: BinFiller, bins: Sequence[Bin], left: IntArray) -> None:
    """Offer bins with the items that are left packed first-fit."""
    for order in filler.orders:
        stock = _stock(run, bins)
        rest = first_fit(filler, order, left, stock) if left.any() else []
        if rest is not None:
            offer(run, cheapest_options(filler, [*bins, *rest], stock))


def dive(
    run: SearchState,
    relaxation: ColumnGeneration,
    solved: MasterSolution,
    rng: np.random.Generator,
    *,
    spread: float,
) -> None:
    """Fix whole bins, solve the relaxation of what is left, and so on down to nothing.

    Parameters
    ----------
    run
        Takes the plans.
    relaxation
        The root's relaxation; its columns are shared and added to.
    solved
        The root's optimum.
    rng, spread
        Noise on which column is rounded up, so that dives differ; 0 takes the largest.
    """
    master, problem = relaxation.master, run.problem
    left, fixed, spent = problem.counts.copy(), list[Bin](), 0.0
    current: MasterSolution | None = solved
    steps = 0
    while left.any() and current is not None and not run.out_of_time:
        if current.uncovered > 1e-6 or (spent + current.value >= run.value * (1 - 1e-9) and steps):
            break
        chosen = _round(current, master.columns, left, rng, spread)
        if not chosen:
            break
        for b in repair_overcover(relaxation.filler, chosen, left):
            fixed.append(b)
            left = left - b.counts
            spent += problem.options[b.option].price
        fill_remaining(run, relaxation.filler, fixed, left)
        if run.done or not left.any():
            break
        master.demand(left, fixed)
        few = np.count_nonzero(left) <= MANY
        current = relaxation.of(left, lambda: run.out_of_time).solve(
            most_effort=2 if few else 0, max_rounds=40 if few else 12
        )
        steps += 1
    master.demand(problem.counts)


def _round(
    solved: MasterSolution, columns: Sequence[Bin], left: IntArray, rng: np.random.Generator, spread: float
) -> list[Bin]:
    """Whole parts of the columns' amounts, or the columns with the largest fractions.

    The amounts are those of the first columns: others may have been added since the master was solved.
    """
    whole = np.floor(solved.amount + 1e-6).astype(np.int64)
    if whole.any():
        return [columns[int(k)] for k in np.flatnonzero(whole) for _ in range(int(whole[k]))]
    fraction = np.where(
        solved.amount > 1e-6, solved.amount * np.exp(spread * rng.normal(size=len(solved.amount))), 0
    )
    ranked = [int(k) for k in np.argsort(-fraction, kind="stable")]
    most = 1 if np.count_nonzero(left) <= MANY else max(1, int(fraction.sum() / 12))
    chosen: list[Bin] = []
    rest = left.copy()
    for k in ranked[:most]:
        if fraction[k] <= 0 or (chosen and fraction[k] < RECALL * fraction[ranked[0]]):
            break
        if (columns[k].counts <= rest).all() or not chosen:
            chosen.append(columns[k])
            rest = np.maximum(rest - columns[k].counts, 0)
    return chosen


def restricted_master(
    run: SearchState, relaxation: ColumnGeneration, solved: MasterSolution, seconds: float, most: int
) -> None:
    """The best packing from the columns at hand, by HiGHS.

    Parameters
    ----------
    seconds
        Time limit.
    most
        Most columns to take: those of least reduced cost.
    """
    import highspy

    from optimizer.packing.quiet_highs import quiet_highs

    problem, columns = run.problem, relaxation.master.columns
    if not columns:
        return
    cost = problem.prices[[b.option for b in columns]]
    cost = cost + solved.limit_dual[[b.option for b in columns]]
    cost = cost - np.array([b.counts for b in columns]) @ solved.duals
    keep = np.sort(np.argsort(cost, kind="stable")[:most])
    solver = quiet_highs(interruptible=True)
    solver.setOptionValue("time_limit", max(0.01, min(seconds, run.left_s)))
    solver.setOptionValue("random_seed", run.seed & 0x7FFFFFFF)
    solver.setOptionValue("mip_rel_gap", 1e-9)
    if np.isfinite(run.value):
        solver.setOptionValue("objective_target", run.bound * (1 + 1e-9))
    for count in problem.counts:
        solver.addRow(float(count), highspy.kHighsInf, 0, [], [])
    for limit in relaxation.master.limits:
        solver.addRow(limit.least, limit.most, 0, [], [])
    for k in keep:
        index, value = relaxation.master.entries(columns[k])
        solver.addCol(
            float(problem.prices[columns[k].option]), 0.0, highspy.kHighsInf, len(index), index, value
        )
    solver.changeColsIntegrality(
        len(keep), np.arange(len(keep), dtype=np.int32), np.full(len(keep), highspy.HighsVarType.kInteger)
    )
    solve_in_thread(solver.run, solver.cancelSolve)
    amount = np.rint(np.array(solver.getSolution().col_value)).astype(np.int64)
    bins = [columns[k] for k, times in zip(keep, amount, strict=False) for _ in range(int(times))]
    packed = drop_excess(bins, problem.counts)
    if packed and not (problem.counts - np.array([b.counts for b in packed]).sum(axis=0)).any():
        offer(run, cheapest_options(relaxation.filler, packed, _stock(run, packed)))


def _stock(run: SearchState, bins: Sequence[Bin]) -> BinLimits:
    stock = BinLimits(run.problem)
    for b in bins:
        stock.take(b.option)
    return stock
