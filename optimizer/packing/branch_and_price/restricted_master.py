"""The master of the pattern model: a linear programme over columns, solved warm by HiGHS.

Rows: every class is covered as often as it has items; limits on options, devices, bins and budget. One
artificial column per class keeps it feasible; exchange columns (`dual_inequalities`) keep the duals in
order until they are closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.packing.highs_model import HighsModel
from optimizer.packing.model.bin_limits import limit_rows
from optimizer.packing.model.params import ColumnGenerationParams
from optimizer.packing.model.problem import Bin, FloatArray, IntArray, PackingProblem
from scenarios import Deadline

PRIMAL = 4
"""HiGHS's primal simplex: the old optimum stays feasible when columns are added."""


@dataclass(frozen=True, eq=False)
class ResidualProblem:
    """What is still to pack, and how many bins may still be opened for it.

    At the root this is the whole problem; a dive takes bins off, a branch narrows limits.

    Parameters
    ----------
    counts
        Items per class, shape (n_classes,).
    lower, upper
        Limits on weighted sums of bins, in the order of the master's ``weights``.
    """

    counts: IntArray
    lower: FloatArray
    upper: FloatArray


@dataclass(frozen=True, eq=False)
class DualValues:
    """Duals of the master.

    Parameters
    ----------
    items
        Value of an item per class, at least 0, shape (n_classes,).
    bins
        The limit duals: what a bin of each option costs beyond its price because limits bind, shape
        (n_options,); below 0 where a limit asks for bins.
    limits_total
        Σ of limit · limit dual over the limits.
    """

    items: FloatArray
    bins: FloatArray
    limits_total: float = 0.0

    def total(self, counts: IntArray) -> float:
        """The dual objective."""
        return float(self.items @ counts) - self.limits_total

    def smoothed(self, centre: DualValues, weight: float) -> DualValues:
        """These drawn towards others, which have that weight."""
        return DualValues(
            weight * centre.items + (1 - weight) * self.items,
            weight * centre.bins + (1 - weight) * self.bins,
            weight * centre.limits_total + (1 - weight) * self.limits_total,
        )


@dataclass(frozen=True, eq=False)
class MasterSolution:
    """An optimum of the master.

    Parameters
    ----------
    value
        Objective, artificial columns included.
    amount
        How often each column is used, shape (n_columns,).
    duals
        Of its rows.
    uncovered
        Items in artificial columns.
    """

    value: float
    amount: FloatArray
    duals: DualValues
    uncovered: float


class Master:
    """The linear programme; columns and limits are added, and each solution is of some residual problem.

    Parameters
    ----------
    problem, params
        What is packed, and parameters.
    exchanges
        Pairs of classes (`dual_inequalities`).
    deadline
        When solutions end at the latest; their iterations count towards its work.
    """

    def __init__(
        self,
        problem: PackingProblem,
        params: ColumnGenerationParams,
        exchanges: Sequence[tuple[int, int]] = (),
        deadline: Deadline | None = None,
    ) -> None:
        self.problem, self._deadline = problem, deadline or Deadline()
        self.columns: list[Bin] = []
        self._known: set[tuple[int, bytes]] = set()
        self._exchanges, self._closed, n = len(exchanges), False, problem.n_classes
        limits = limit_rows(problem)
        self.weights = np.array([limit.weight for limit in limits]).reshape(-1, len(problem.options))
        lower, upper = np.array([(limit.least, limit.most) for limit in limits]).reshape(-1, 2).T
        self.root = ResidualProblem(problem.counts, lower, upper)
        self._model = HighsModel(
            *self.row_bounds(self.root),
            interruptible=n > params.interruptible_classes, simplex_strategy=PRIMAL,
        )  # fmt: skip
        dearest = params.artificial_price * float(problem.prices.max())
        for c in range(n):
            self._model.add_column(dearest, [c], [1.0])
        # An exchange gives one item of a back and covers one of b for nothing, so its reduced cost, which
        # is the value of a less that of b, cannot be negative: the dual inequality as a column.
        for pair in exchanges:
            self._model.add_column(0.0, pair, [-1.0, 1.0])

    @property
    def open(self) -> bool:
        """Whether items may be exchanged."""
        return self._exchanges > 0 and not self._closed

    def close_exchanges(self) -> None:
        """Take the exchange columns away: amounts then are those of whole bins."""
        n = self.problem.n_classes
        self._model.fix_columns(np.arange(n, n + self._exchanges), 0.0)
        self._closed = True

    def add(self, column: Bin) -> bool:
        """Add a column unless it is there; whether it was added."""
        key = (column.option, column.counts.tobytes())
        if key in self._known or not column.counts.any():
            return False
        self._known.add(key)
        self.columns.append(column)
        self._model.add_column(self.problem.options[column.option].price, *self.entries(column))
        return True

    def entries(self, column: Bin) -> tuple[IntArray, FloatArray]:
        """Rows and coefficients of a column."""
        coefficients = np.concatenate([column.counts, self.weights[:, column.option]])
        rows = np.flatnonzero(coefficients)
        return rows, coefficients[rows]

    def add_limits(self, weights: FloatArray) -> None:
        """Add rows on weighted sums of bins, shape (rows, n_options); they limit nothing yet."""
        options = [column.option for column in self.columns]
        for row in weights:
            columns = np.flatnonzero(row[options])
            self._model.add_row(self.problem.n_classes + self._exchanges + columns, row[options][columns])
        self.weights = np.vstack([self.weights, weights])

    def with_all_limits(self, residual: ResidualProblem) -> ResidualProblem:
        """A residual problem with the limits that were added since it was made, which are none to it."""
        free = np.full(len(self.weights) - len(residual.upper), np.inf)
        lower, upper = np.concatenate([residual.lower, -free]), np.concatenate([residual.upper, free])
        return ResidualProblem(residual.counts, lower, upper)

    def less(self, residual: ResidualProblem, bins: Sequence[Bin]) -> ResidualProblem:
        """What is left of a residual problem after some bins, which count towards the limits."""
        taken = self.weights.T[[b.option for b in bins], : len(residual.upper)].sum(axis=0)
        return ResidualProblem(
            residual.counts - sum(b.counts for b in bins),
            residual.lower - taken, np.maximum(residual.upper - taken, 0.0),
        )  # fmt: skip

    def row_bounds(self, residual: ResidualProblem) -> tuple[FloatArray, FloatArray]:
        """Bounds of all rows for a residual problem."""
        whole = self.with_all_limits(residual)
        infinite = np.full(self.problem.n_classes, np.inf)
        return np.concatenate([whole.counts, whole.lower]), np.concatenate([infinite, whole.upper])

    def solve(self, residual: ResidualProblem) -> MasterSolution | None:
        """Cover a residual problem; None if HiGHS fails on it, or the end comes first."""
        self._model.set_rows(*self.row_bounds(residual))
        solution = self._model.solve(self._deadline)
        if not solution.optimal:
            return None
        n = self.problem.n_classes
        bins, total = np.zeros(len(self.problem.options)), 0.0
        for row, dual in enumerate(solution.duals[n : n + len(residual.upper)]):
            # The sign tells which side binds: below 0 the limit from above, above 0 that from below.
            binding = residual.upper[row] if dual < 0 else residual.lower[row]
            if dual and np.isfinite(binding):
                bins -= self.weights[row] * dual
                total -= float(binding * dual)
        duals = DualValues(np.maximum(solution.duals[:n], 0.0), bins, total)
        amount = solution.columns[n + self._exchanges :]
        return MasterSolution(solution.value, amount, duals, float(solution.columns[:n].sum()))
