"""The compiled loops made ready before a search whose time counts.

numba compiles a loop when it is first called, for half a minute in all, and keeps the machine code on disk;
later processes load it in a moment.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from optimizer.packing.branch_and_price.column_enumeration import columns_within_gap
from optimizer.packing.branch_and_price.dual_inequalities import dual_optimal_inequalities
from optimizer.packing.branch_and_price.knapsack import bounded_knapsack
from optimizer.packing.branch_and_price.pricing import cover, price_option
from optimizer.packing.heuristics.annealing import anneal, dealt
from optimizer.packing.heuristics.first_fit import BinFiller, best_fit_decreasing
from optimizer.packing.model.params import ColumnGenerationParams
from optimizer.packing.model.problem import NoGoodCut, PackingOption, PackingProblem


@cache
def compile_kernels() -> None:
    """Call every compiled loop once, as the placers call it: on one row and on several, with a cut."""
    for rows in (1, 2):
        option = PackingOption("", np.full((rows, 2), 0.4), np.ones(rows))
        cuts = (NoGoodCut((0,), np.array([0, 2])),) if rows > 1 else ()
        _call_all(BinFiller(PackingProblem(np.array([2, 2]), (option,), cuts=cuts)))


def _call_all(filler: BinFiller) -> None:
    problem, order, params = filler.problem, filler.orders[0], ColumnGenerationParams()
    best_fit_decreasing(filler, order, problem.counts, 0)
    duals, rows, table = np.ones(problem.n_classes), problem.rows[0], filler.tables[0]
    table.violated(problem.counts)
    cover(filler, 0, duals, problem.counts, 0.0, lambda: False)
    price_option(filler, 0, duals, problem.counts, 0.0, 1, params)
    upper = np.minimum(rows.most, problem.counts)
    items = bounded_knapsack(duals, upper, rows, table, filler.swap_measures, multiplier_rounds=1, rivals=0)
    columns_within_gap(*items[1:], 0.0, 1, 1)
    dual_optimal_inequalities(filler, params.exchanges)
    size = np.zeros((problem.n_classes + 1, 1, len(rows.capacity)))
    item, place = dealt(problem.counts[None, :], np.array([2]), size)
    anneal(item, place, np.zeros(2, dtype=np.int64), size, 0, 1, 1.0, 0.5, 0.01)
