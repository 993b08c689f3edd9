"""Pricing: the bin of most value per option, for the duals of the pattern model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from optimizer.packing.branch_and_price.knapsack import row_multipliers, table_knapsack, tree_knapsack
from optimizer.packing.heuristics.first_fit import BinFiller
from optimizer.packing.model.problem import Bin, FloatArray, IntArray

TABLE_CELLS = 32_000_000
"""Largest table of the dynamic programme, which takes milliseconds where the tree may take a second."""


@dataclass(frozen=True, eq=False)
class PricedColumn:
    """A bin, its value under the duals, and an upper bound on the value of any bin of its option."""

    bin: Bin
    value: float
    upper: float


def price_option(
    filler: BinFiller, option: int, duals: FloatArray, limit: IntArray, enough: float, nodes: int
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
    """
    rows, table = filler.problem.rows[option], filler.tables[option]
    most = np.minimum(rows.most, limit)
    profit = np.where(most > 0, np.maximum(duals, 0.0), 0.0)
    cells = int(rows.capacity[0]) * int(np.log2(most[profit > 0] + 1).sum() + 1)
    if len(rows.capacity) == 1 and not len(table) and cells <= TABLE_CELLS:
        counts, value = table_knapsack(profit, most, rows.usage[0], int(rows.capacity[0]))
        return PricedColumn(Bin(option, counts), value, value)
    weights = row_multipliers(profit, most, rows.usage, rows.capacity, 1 if len(rows.capacity) == 1 else 25)
    counts, value, upper = tree_knapsack(
        profit, most, rows.usage, rows.capacity, *table.arrays,
        filler.swap_measures, weights, enough, nodes,
    )  # fmt: skip
    if upper > max(value, enough) * (1 + 1e-6):
        counts = filler.polish(option, profit, most, counts)
        value = float(profit @ counts)
    return PricedColumn(Bin(option, counts), value, upper)


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
    rows = filler.problem.rows[option]
    share = (rows.usage / np.maximum(rows.capacity, 1)[:, None]).max(axis=0)
    order = np.argsort(-duals / np.maximum(share, 1e-12), kind="stable")
    left = np.where(duals > 0, np.minimum(rows.most, limit), 0)
    bins: list[Bin] = []
    while left.any() and not until():
        counts = filler.polish(option, duals, left, filler.fill(option, order, left))
        if float(duals @ counts) <= worth or not counts.any():
            break
        bins.append(Bin(option, counts))
        left = np.where(counts > 0, 0, left)
    return bins
