"""The compiled loops made ready before a search whose time counts.

numba compiles a loop when it is first called, for seconds each, and keeps the machine code on disk; later
processes load it in a moment.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from optimizer.packing.branch_and_price.column_enumeration import columns_within_gap
from optimizer.packing.branch_and_price.dual_inequalities import dual_optimal_inequalities
from optimizer.packing.branch_and_price.knapsack import bounded_knapsack, table_knapsack, tree_knapsack
from optimizer.packing.branch_and_price.pricing import price_option
from optimizer.packing.heuristics.annealing import anneal, dealt
from optimizer.packing.heuristics.first_fit import BinFiller, best_fit_decreasing
from optimizer.packing.heuristics.item_kernels import deal, fill_items, place_items
from optimizer.packing.heuristics.kernels import best_fit, fill, polish
from optimizer.packing.model.matching import dominates_one
from optimizer.packing.model.params import ColumnGenerationParams
from optimizer.packing.model.problem import NoGoodCut, PackingOption, PackingProblem


@dataclass(frozen=True)
class KernelGroup:
    """Compiled loops that are needed together.

    Parameters
    ----------
    kernels
        Those that take the most time, to see whether their code is on disk.
    call
        Calls all of the group, as placers do.
    """

    kernels: tuple[Callable[..., object], ...]
    call: Callable[[BinFiller], None]


def _call_cuts(filler: BinFiller) -> None:
    filler.tables[0].violated(filler.problem.counts)


def _call_heuristics(filler: BinFiller) -> None:
    problem, order = filler.problem, filler.orders[0]
    best_fit_decreasing(filler, order, problem.counts, 0)
    left = problem.counts.copy()  # it may be written to, as in placers: to numba that is another type
    filler.polish(0, np.ones(problem.n_classes), left, filler.fill(0, order, left))
    size = np.zeros((problem.n_classes + 1, 1, len(problem.rows[0].capacity)))
    item, place = dealt(left[None, :], np.array([2]), size)
    anneal(item, place, np.zeros(2, dtype=np.int64), size, 0, 1, 1.0, 0.5, 0.01)


def _call_items(filler: BinFiller) -> None:
    rows, bins = filler.problem.rows[0], np.zeros(2, dtype=np.int64)
    usage = np.full((1, 2, len(rows.capacity)), 0.4)
    items, order = np.arange(2), np.zeros(2, dtype=np.int64)
    deal(items, order, np.ones((2, 1), dtype=np.int64), usage, usage[:, :1].copy(), bins)
    empty = np.zeros((2, len(rows.capacity)))
    place_items(items, usage, bins, empty, np.ones_like(empty), True)
    fill_items(items, usage[0], 1.0)


def _call_branch_and_price(filler: BinFiller) -> None:
    problem, rows, params = filler.problem, filler.problem.rows[0], ColumnGenerationParams()
    duals, upper = np.ones(problem.n_classes), np.minimum(rows.most, problem.counts)
    price_option(filler, 0, duals, problem.counts, 0.0, 1, params)
    items = bounded_knapsack(
        duals, upper, rows, filler.tables[0], filler.swap_measures, multiplier_rounds=1, rivals=0
    )
    columns_within_gap(*items[1:], 0.0, 1, 1)
    dual_optimal_inequalities(filler, params.exchanges)


KERNEL_GROUPS = {
    "heuristics": KernelGroup((best_fit, fill, polish, dealt, anneal), _call_heuristics),
    "branch and price": KernelGroup(
        (table_knapsack, tree_knapsack, columns_within_gap), _call_branch_and_price
    ),
    "items": KernelGroup((deal, place_items, fill_items), _call_items),
    "cuts": KernelGroup((dominates_one,), _call_cuts),
}
"""Groups by name; which a placer needs is in `optimizer.packing.registry`."""


def compile_kernels(groups: Iterable[str] = tuple(KERNEL_GROUPS)) -> None:
    """Call every compiled loop of some groups as placers do: on one row and on several, with a cut."""
    for rows in (1, 2):
        option = PackingOption("", np.full((rows, 2), 0.4), np.ones(rows))
        cuts = (NoGoodCut((0,), np.array([0, 2])),) if rows > 1 else ()
        filler = BinFiller(PackingProblem(np.array([2, 2]), (option,), cuts=cuts))
        for group in groups:
            KERNEL_GROUPS[group].call(filler)
