"""Pricing: the bin of most value per option, for the duals of the pattern model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from optimizer.packing.branch_and_price.knapsack import bounded_knapsack, table_knapsack
from optimizer.packing.heuristics.first_fit import BinFiller
from optimizer.packing.model.params import ColumnGenerationParams
from optimizer.packing.model.problem import Bin, FloatArray, IntArray
from optimizer.packing.model.step_costs import CALL, MULTIPLIERS, NODE, TABLE


@dataclass(frozen=True, eq=False)
class PricedColumn:
    """A bin of much value under the duals, and an upper bound on the value of any bin of its option."""

    bin: Bin
    bound: float


def price_option(
    filler: BinFiller,
    option: int,
    duals: FloatArray,
    limit: IntArray,
    enough: float,
    nodes: int,
    params: ColumnGenerationParams,
) -> PricedColumn:
    """The bin of most value of one option.

    Parameters
    ----------
    filler
        The problem.
    option
        Index of the option.
    duals
        Value of one item of each class.
    limit
        Most items of each class.
    enough
        Bins of no more value are of no interest.
    nodes
        Most nodes of the branch and bound.
    params
        Of the knapsacks.
    """
    rows, cuts = filler.problem.rows[option], filler.tables[option]
    upper = np.minimum(rows.most, limit)
    profit = np.where(upper > 0, np.maximum(duals, 0.0), 0.0)
    # A table is exact whatever the duals, which a tree is not where many bins are worth nearly the same.
    cells = int(rows.capacity[0]) * int(np.log2(upper[profit > 0] + 1).sum() + 1)
    if len(rows.capacity) == 1 and not len(cuts) and cells <= params.table_cells:
        filler.work.add(CALL + TABLE * cells)
        counts, value = table_knapsack(profit, upper, rows.usage[0], int(rows.capacity[0]))
        return PricedColumn(Bin(option, counts), value)
    items = bounded_knapsack(
        profit, upper, rows, cuts, filler.swap_measures,
        multiplier_rounds=params.multiplier_rounds, rivals=params.rivals,
    )  # fmt: skip
    counts, value, bound, visited = items.search(enough, nodes, len(profit))
    size = len(items.order) * len(rows.capacity)
    filler.work.add(CALL + size * (NODE * visited + MULTIPLIERS * params.multiplier_rounds))
    if bound > max(value, enough) * (1 + 1e-6):  # cut short, so some swap of items may be worth more
        counts = filler.polish(option, profit, upper, counts)
    return PricedColumn(Bin(option, counts), bound)


def cover(
    filler: BinFiller,
    option: int,
    duals: FloatArray,
    limit: IntArray,
    worth: float,
    until: Callable[[], bool],
) -> list[Bin]:
    """Greedy bins worth more than ``worth`` that share no class, to enrich the master at little cost.

    Before every bin it is asked whether to stop (``until``).
    """
    # Bins without a class in common are what a plan is made of, so the master gets a whole plan of columns
    # by a round of this, where pricing by value alone would give it many bins of the same few classes.
    rows = filler.problem.rows[option]
    share = (rows.usage / np.maximum(rows.capacity, 1)[:, None]).max(axis=0)
    order = np.argsort(-duals / np.maximum(share, 1e-12), kind="stable")
    remaining = np.where(duals > 0, np.minimum(rows.most, limit), 0)
    bins: list[Bin] = []
    while remaining.any() and not until():
        counts = filler.polish(option, duals, remaining, filler.fill(option, order, remaining))
        if float(duals @ counts) <= worth or not counts.any():
            break
        bins.append(Bin(option, counts))
        remaining = np.where(counts > 0, 0, remaining)
    return bins
