"""Whole bins from the pattern model's fractional ones: diving, and the restricted master as a MILP."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from optimizer.packing.branch_and_price.column_generation import ColumnGeneration
from optimizer.packing.branch_and_price.restricted_master import MasterSolution
from optimizer.packing.heuristics.first_fit import BinFiller, cheapest_options, first_fit, offer
from optimizer.packing.highs_model import HighsModel
from optimizer.packing.model.options import BinLimits
from optimizer.packing.model.params import BranchAndPriceParams
from optimizer.packing.model.problem import Bin, IntArray
from optimizer.packing.model.search_state import SearchState


def repair_overcover(bins: Sequence[Bin], counts: IntArray, filler: BinFiller | None = None) -> list[Bin]:
    """Bins without the items beyond what there is; a filler puts what fits into the gaps, heaviest first."""
    remaining, packed = counts.copy(), list[Bin]()
    for b in bins:
        contents = np.minimum(b.counts, remaining)
        if not contents.any():
            continue
        if filler is not None:
            contents = contents + filler.fill(b.option, filler.orders[0], remaining - contents, contents)
        packed.append(Bin(b.option, contents))
        remaining -= contents
    return packed


def fill_remaining(run: SearchState, filler: BinFiller, bins: Sequence[Bin], remaining: IntArray) -> None:
    """Offer bins with the items that are left packed first-fit."""
    for order in filler.orders:
        stock = _stock(run, bins)
        more = first_fit(filler, order, remaining, stock) if remaining.any() else []
        if more is not None:
            offer(run, cheapest_options(filler, [*bins, *more], stock))


def dive(
    run: SearchState,
    relaxation: ColumnGeneration,
    solution: MasterSolution,
    rng: np.random.Generator,
    number: int,
) -> None:
    """Fix whole bins, solve the relaxation of what is left, and so on down to nothing.

    Parameters
    ----------
    run
        Takes the plans.
    relaxation
        The relaxation to dive from; its columns are shared and added to.
    solution
        Its optimum.
    rng, number
        The first dive, number 0, rounds up the largest fractions; noise makes the others differ.
    """
    # Columns are generated again after each rounding: those at hand fit the whole demand, not what is left
    # (Vanderbeck 1999; Joncour et al. 2010). A dive does not go back; noise and other dives do that cheaper.
    params, filler = run.params.branch_and_price, relaxation.filler
    lower, upper = params.dive_noise
    noise = lower + (upper - lower) * rng.random() if number else 0.0
    fixed, spent, residual = list[Bin](), 0.0, relaxation.residual
    current: MasterSolution | None = solution
    while residual.counts.any() and current is not None and not run.out_of_time:
        if current.uncovered > 1e-6 or (spent + current.value >= run.value * (1 - 1e-9) and fixed):
            break
        columns = _round(current, relaxation.master.columns, residual.counts, rng, noise, params)
        packed = repair_overcover(columns, residual.counts, filler)
        if not packed:
            break
        fixed += packed
        spent = float(sum(run.problem.options[b.option].price for b in fixed))
        residual = relaxation.master.less(relaxation.residual, fixed)
        fill_remaining(run, filler, fixed, residual.counts)
        if run.done or not residual.counts.any():
            break
        few = np.count_nonzero(residual.counts) <= params.single_rounding_classes
        current = relaxation.of(residual, lambda: run.out_of_time).solve(
            most_effort=2 if few else 0, max_rounds=params.dive_rounds[0 if few else 1]
        )


def _round(
    solution: MasterSolution,
    columns: Sequence[Bin],
    remaining: IntArray,
    rng: np.random.Generator,
    noise: float,
    params: BranchAndPriceParams,
) -> list[Bin]:
    """Whole parts of the columns' amounts, or the columns with the largest fractions.

    The amounts are those of the first columns: others may have been added since the master was solved.
    """
    amount = solution.amount
    whole = np.floor(amount + 1e-6).astype(np.int64)
    if whole.any():
        return [columns[int(k)] for k in np.flatnonzero(whole) for _ in range(int(whole[k]))]
    fraction = np.where(amount > 1e-6, amount * np.exp(noise * rng.normal(size=len(amount))), 0)
    ranked = [int(k) for k in np.argsort(-fraction, kind="stable")]
    few = np.count_nonzero(remaining) <= params.single_rounding_classes
    number = 1 if few else max(1, int(fraction.sum() / params.columns_per_rounding))
    rounded: list[Bin] = []
    for k in ranked[:number]:
        if fraction[k] <= 0 or (rounded and fraction[k] < params.rounded_fraction * fraction[ranked[0]]):
            break
        if (columns[k].counts <= remaining).all() or not rounded:
            rounded.append(columns[k])
            remaining = np.maximum(remaining - columns[k].counts, 0)
    return rounded


def restricted_master(
    run: SearchState, relaxation: ColumnGeneration, solution: MasterSolution, seconds: float
) -> None:
    """Offer the best packing from the columns at hand, those of least reduced cost, by HiGHS."""
    problem, master, params = run.problem, relaxation.master, run.params.branch_and_price
    if not master.columns:
        return
    option = [b.option for b in master.columns]
    cost = problem.prices[option] + solution.duals.bins[option]
    cost = cost - np.array([b.counts for b in master.columns]) @ solution.duals.items
    cheapest = np.sort(np.argsort(cost, kind="stable")[: params.restricted_columns])
    columns = [master.columns[k] for k in cheapest]
    model = HighsModel(
        *master.row_bounds(relaxation.residual), random_seed=run.seed & 0x7FFFFFFF, mip_rel_gap=1e-9,
        objective_target=run.bound * (1 + 1e-9) if np.isfinite(run.value) else -np.inf,
    )  # fmt: skip
    for column in columns:
        model.add_column(problem.options[column.option].price, *master.entries(column))
    model.make_integer(np.arange(len(columns)))
    amount = np.rint(model.solve(run.deadline.part(seconds)).columns).astype(np.int64)
    bins = [column for column, times in zip(columns, amount, strict=False) for _ in range(int(times))]
    packed = repair_overcover(bins, problem.counts)
    if np.array_equal(sum(b.counts for b in packed), problem.counts):
        offer(run, cheapest_options(relaxation.filler, packed, _stock(run, packed)))


def _stock(run: SearchState, bins: Sequence[Bin]) -> BinLimits:
    stock = BinLimits(run.problem)
    for b in bins:
        stock.take(b.option)
    return stock
