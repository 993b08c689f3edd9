"""The aggregate model: how many bins there are of each option, and which items go to them in all.

The rows of all bins of an option are added up, so items may be cut at the end of a bin. Its linear
relaxation is the continuous bound. With whole numbers of bins it is a mixed-integer programme with one
integer per option, whatever the number of items: a stronger bound, and where items are small against
bins, nearly a plan.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from scipy import sparse

from optimizer.packing.highs_model import HighsModel
from optimizer.packing.model.bin_limits import limit_rows
from optimizer.packing.model.options import useful_options
from optimizer.packing.model.problem import FloatArray, IntArray, PackingProblem
from scenarios import UNLIMITED, Deadline

CARE = 1e-7
"""Share of a bin by which bins count as larger where a bound is proven, as solvers round."""


@dataclass(frozen=True, eq=False)
class LinearRelaxation:
    """The continuous relaxation: bins of each option in fractions, items split over options.

    Parameters
    ----------
    bound
        Its optimum; infinite if not even the relaxation has a solution.
    duals
        Weight of an item per class, shape (n_classes,).
    bins
        Bins of each option, shape (n_options,).
    """

    bound: float
    duals: FloatArray
    bins: FloatArray


@dataclass(frozen=True, eq=False)
class RowPrices:
    """Prices of the rows of a bin that are worth no more than the bin: they bound the price of any items.

    Parameters
    ----------
    rows
        Price of each whole row, by option.
    rent
        What binding limits on bins take off the bound.
    """

    rows: Mapping[int, FloatArray]
    rent: float


@dataclass(frozen=True, eq=False)
class AggregateSolution:
    """Whole bins of each option, shape (n_options,), and their items in all, (n_options, n_classes)."""

    bins: IntArray
    items: IntArray


@dataclass(frozen=True, eq=False)
class _Rows:
    """Rows lower <= matrix · columns <= upper."""

    matrix: Any
    lower: FloatArray
    upper: FloatArray


class AggregateModel:
    """The programme.

    Columns: items by option and class; bins by option; how far those are from target numbers; the share of
    every bin that is to spare.

    Parameters
    ----------
    problem
        The problem.
    options
        Indices of the options that are looked at; None: those that no other makes superfluous.
    """

    def __init__(self, problem: PackingProblem, options: Sequence[int] | None = None) -> None:
        self.problem = problem
        self.options = useful_options(problem) if options is None else tuple(options)
        self.classes = np.flatnonzero(problem.counts)
        pairs = [np.flatnonzero(problem.rows[o].most[self.classes] > 0) for o in self.options]
        self._option = np.repeat(np.arange(len(self.options)), [len(p) for p in pairs])
        self._class = np.concatenate(pairs)
        n, k = len(self._class), len(self.options)
        self._items, self._bins, self._apart = np.split(np.arange(n + 2 * k), [n, n + k])
        self._spare, self._columns = n + 2 * k, n + 2 * k + 1

    def continuous(self, deadline: Deadline = UNLIMITED) -> LinearRelaxation:
        """Solve the linear relaxation; what is cut short bounds nothing."""
        duals, bins = np.zeros(self.problem.n_classes), np.zeros(len(self.problem.options))
        rows = [self._demand, *self._capacity(), *self._limits]
        solution = self._model(self._bins, self._prices, rows).solve(deadline)
        if not solution.optimal:
            return LinearRelaxation(float("inf") if solution.infeasible else 0.0, duals, bins)
        duals[self.classes] = np.maximum(solution.duals[: len(self.classes)], 0.0)
        bins[list(self.options)] = solution.columns[self._bins]
        return LinearRelaxation(max(0.0, solution.value) * (1 - 1e-9), duals, bins)

    def row_prices(self, deadline: Deadline) -> RowPrices | None:
        """What the linear relaxation pays for the rows of a bin; None where it has no solution in time."""
        capacity, limits = self._capacity(), limit_rows(self.problem)
        model = self._model(self._bins, self._prices, [self._demand, *capacity, *self._limits])
        solution = model.solve(deadline)
        if not solution.optimal:
            return None
        ends = np.cumsum([len(self.classes), *(len(rows.lower) for rows in capacity)])
        paid = np.maximum(-solution.duals, 0.0)
        limit = paid[ends[-1] :]
        rows = {}
        for o, start, end in zip(self.options, ends[:-1], ends[1:], strict=True):
            worth = self.problem.prices[o] + sum(
                price * row.weight[o] for price, row in zip(limit, limits, strict=True)
            )
            rows[o] = paid[start:end] * min(1.0, worth / max(float(paid[start:end].sum()), 1e-300))
        rent = sum(float(price * row.most) for price, row in zip(limit, limits, strict=True))
        return RowPrices(rows, rent)

    def whole_bins(self, deadline: Deadline) -> float:
        """Lower bound on the price with whole numbers of bins; infinite if there are none."""
        rows = [self._demand, *self._capacity(larger=CARE), *self._limits]
        model = self._model(self._bins, self._prices, rows, mip_rel_gap=1e-6)
        model.make_integer(self._bins)
        solution = model.solve(deadline)
        if solution.infeasible:
            return float("inf")
        return max(0.0, solution.bound) * (1 - 1e-9) if np.isfinite(solution.bound) else 0.0

    def divide(
        self, price: float, target: FloatArray, deadline: Deadline, gap: float = 0.0
    ) -> AggregateSolution | None:
        """Whole bins next to target numbers, all equally full; None if none is found.

        Parameters
        ----------
        price
            Most that the bins may cost.
        target
            Bins of each option, in fractions, shape (n_options,).
        deadline
            When to stop.
        gap
            Relative gap at which whole numbers are near enough.
        """
        near = target[list(self.options)]
        rows = [self._demand, *self._capacity(), *self._limits, *self._nearness(near)]
        rows.append(self._on_bins(self._prices, price * (1 + 1e-9)))
        model = self._model(self._apart, np.ones(len(near)), rows, mip_rel_gap=gap)
        model.make_integer(self._bins)
        solution = model.solve(deadline)
        if not len(solution.columns):
            return None
        bins = np.rint(solution.columns[self._bins]).astype(np.int64)
        items = self._even(bins, Deadline(deadline.at, work=deadline.work))
        if items is None:
            return None
        options, shape = np.array(self.options), (len(self.problem.options), self.problem.n_classes)
        division = AggregateSolution(np.zeros(shape[0], dtype=np.int64), np.zeros(shape, dtype=np.int64))
        division.bins[options], division.items[np.ix_(options, self.classes)] = bins, items
        return division

    def _even(self, bins: IntArray, deadline: Deadline) -> IntArray | None:
        """Items of every class by option with the most to spare in every bin, shape (options, classes)."""
        rows = [self._demand, *self._capacity(spare=bins.astype(np.float64))]
        model = self._model(np.array([self._spare]), np.array([-1.0]), rows)
        model.fix_columns(self._bins, bins)
        model.fix_columns(self._items[bins[self._option] == 0], 0.0)
        solution = model.solve(deadline)
        if not solution.optimal:
            return None
        items = np.zeros((len(self.options), len(self.classes)))
        items[self._option, self._class] = solution.columns[self._items]
        return _rounded(items, self.problem.counts[self.classes])

    def _model(
        self, columns: IntArray, cost: FloatArray, rows: Sequence[_Rows], **options: Any
    ) -> HighsModel:
        """HiGHS with the programme that minimises the cost of some columns."""
        lower, upper = [r.lower for r in rows], [r.upper for r in rows]
        model = HighsModel(np.concatenate(lower), np.concatenate(upper), **options)
        model.add_columns(
            np.bincount(columns, cost, self._columns).astype(np.float64),
            sparse.vstack([r.matrix for r in rows]),
        )
        return model

    @cached_property
    def _prices(self) -> FloatArray:
        return np.asarray(self.problem.prices[list(self.options)])

    @cached_property
    def _demand(self) -> _Rows:
        """Every item goes to some option."""
        counts = np.asarray(self.problem.counts[self.classes], dtype=np.float64)
        return self._rows(self._class, self._items, np.ones(len(self._items)), counts, counts)

    def _capacity(self, larger: float = 0.0, spare: FloatArray | None = None) -> list[_Rows]:
        """The rows of every option, scaled to capacity 1 per bin.

        Not the number of items that a bin holds: the demand implies it, and its dual value would be missing
        in the weights.
        """
        # Adding up the rows of all bins is a surrogate relaxation with equal weights, so its duals weigh an
        # item by what it takes of the rows that bind, and a bin of any option by no more than its price:
        # they are a proof that column generation and the list of bins can start from.
        blocks = []
        for k, o in enumerate(self.options):
            rows, mine = self.problem.rows[o], np.flatnonzero(self._option == k)
            scale = np.maximum(rows.capacity, 1).astype(np.float64)
            share = rows.usage[:, self.classes[self._class[mine]]] / scale[:, None]
            room = -rows.capacity / scale * (1 + larger)
            saved = np.full(len(scale), 0.0 if spare is None else spare[k])
            value = np.column_stack([share, room, saved])
            column = np.concatenate([self._items[mine], [self._bins[k], self._spare]])
            row = np.repeat(np.arange(len(scale)), len(column))
            nothing = np.zeros(len(scale))
            blocks.append(
                self._rows(row, np.tile(column, len(scale)), value.ravel(), nothing - np.inf, nothing)
            )
        return blocks

    @cached_property
    def _limits(self) -> list[_Rows]:
        """The problem's limits on bins."""
        rows = limit_rows(self.problem)
        return [self._on_bins(limit.weight[list(self.options)], limit.most) for limit in rows]

    def _nearness(self, target: FloatArray) -> list[_Rows]:
        """How far bins are from target numbers, on either side."""
        k = len(target)
        row, column = np.tile(np.arange(k), 2), np.concatenate([self._bins, self._apart])
        return [
            self._rows(row, column, np.repeat([sign, -1.0], k), np.full(k, -np.inf), sign * target)
            for sign in (1.0, -1.0)
        ]

    def _on_bins(self, weights: FloatArray, upper: float) -> _Rows:
        """A limit on a weighted sum of the bins."""
        row = np.zeros(len(weights), dtype=np.int64)
        return self._rows(row, self._bins, weights, np.array([-np.inf]), np.array([upper]))

    def _rows(
        self, row: IntArray, column: IntArray, value: FloatArray, lower: FloatArray, upper: FloatArray
    ) -> _Rows:
        matrix = sparse.coo_matrix((value, (row, column)), shape=(len(lower), self._columns))
        return _Rows(matrix, lower, upper)


def _rounded(items: FloatArray, counts: IntArray) -> IntArray:
    """Whole items of every class over options, by largest remainder, shape (options, classes)."""
    whole = np.floor(items + 1e-9).astype(np.int64)
    missing = counts - whole.sum(axis=0)
    rank = np.argsort(np.argsort(whole - items, axis=0, kind="stable"), axis=0, kind="stable")
    return np.asarray(whole + (rank < missing[None, :]))
