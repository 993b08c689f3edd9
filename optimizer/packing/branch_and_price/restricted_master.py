"""The master of the pattern model: a linear programme over columns, solved warm by HiGHS.

Rows: every class is covered as often as it has items; limits on options, devices, bins and budget. One
artificial column per class keeps it feasible; exchange columns (`dual_inequalities`) keep the duals in
order until they are closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimizer.packing.model.bin_limits import Limit, limit_rows
from optimizer.packing.model.problem import Bin, FloatArray, IntArray, PackingProblem
from optimizer.packing.native_search import solve_in_thread

ARTIFICIAL = 1000.0
"""Price of an uncovered item, in dearest bins."""

SLOW = 200
"""Classes beyond which a solution may take seconds, so that signals must reach it."""

PRIMAL = 4
"""HiGHS's primal simplex: the old optimum stays feasible when columns are added."""


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
        Value of an item per class, at least 0, shape (n_classes,).
    limit_dual
        What a bin of each option costs beyond its price because limits bind, shape (n_options,); below 0
        where a limit asks for bins.
    limit_dual_total
        Σ of limit · limit_dual over the limits; the dual objective is duals · demand - limit_dual_total.
    uncovered
        Items in artificial columns.
    """

    value: float
    amount: FloatArray
    duals: FloatArray
    limit_dual: FloatArray
    limit_dual_total: float
    uncovered: float


class Master:
    """The linear programme; columns are added, demand may fall, limits on bins may change."""

    def __init__(self, problem: PackingProblem, exchanges: Sequence[tuple[int, int]] = ()) -> None:
        import highspy

        from optimizer.packing.quiet_highs import quiet_highs

        self.problem = problem
        self.columns: list[Bin] = []
        self._known: set[tuple[int, bytes]] = set()
        self._closed = False
        self.limits = limit_rows(problem)
        self._exchanges = len(exchanges)
        self._interruptible = problem.n_classes > SLOW
        self._solver: Any = quiet_highs(interruptible=self._interruptible)
        self._solver.setOptionValue("simplex_strategy", PRIMAL)
        infinite = highspy.kHighsInf
        for c in range(problem.n_classes):
            self._solver.addRow(float(problem.counts[c]), infinite, 0, [], [])
        for limit in self.limits:
            self._solver.addRow(limit.least, limit.most, 0, [], [])
        dearest = ARTIFICIAL * float(problem.prices.max())
        for c in range(problem.n_classes):
            self._solver.addCol(dearest, 0.0, infinite, 1, np.array([c], np.int32), np.array([1.0]))
        for pair in exchanges:
            self._solver.addCol(0.0, 0.0, infinite, 2, np.array(pair, np.int32), np.array([-1.0, 1.0]))

    @property
    def open(self) -> bool:
        """Whether items may be exchanged."""
        return self._exchanges > 0 and not self._closed

    def close_exchanges(self) -> None:
        """Take the exchange columns away: amounts then are those of whole bins."""
        n = self.problem.n_classes
        for k in range(n, n + self._exchanges):
            self._solver.changeColBounds(k, 0.0, 0.0)
        self._closed = True

    def add(self, column: Bin) -> bool:
        """Add a column unless it is there; whether it was added."""
        key = (column.option, column.counts.tobytes())
        if key in self._known or not column.counts.any():
            return False
        import highspy

        self._known.add(key)
        self.columns.append(column)
        index, value = self.entries(column)
        price = self.problem.options[column.option].price
        self._solver.addCol(price, 0.0, highspy.kHighsInf, len(index), index, value)
        return True

    def entries(self, column: Bin) -> tuple[NDArray[np.int32], FloatArray]:
        """Rows and coefficients of a column."""
        classes = np.flatnonzero(column.counts)
        rows = [r for r, limit in enumerate(self.limits) if limit.weight[column.option]]
        index = np.concatenate([classes, self.problem.n_classes + np.array(rows, dtype=np.int64)])
        weights = [float(self.limits[r].weight[column.option]) for r in rows]
        return index.astype(np.int32), np.concatenate([column.counts[classes], weights]).astype(np.float64)

    def demand(self, counts: IntArray, used: Sequence[Bin] = ()) -> None:
        """Set how many items of each class are to cover, and which bins already count towards limits."""
        import highspy

        for c, count in enumerate(counts):
            self._solver.changeRowBounds(c, float(count), highspy.kHighsInf)
        for r, limit in enumerate(self.limits):
            taken = sum(float(limit.weight[b.option]) for b in used)
            self._solver.changeRowBounds(
                self.problem.n_classes + r, limit.least - taken, max(0.0, limit.most - taken)
            )

    def limit(self, weight: FloatArray) -> int:
        """Add a row that limits nothing yet; its number."""
        columns = [k for k, column in enumerate(self.columns) if weight[column.option]]
        values = [float(weight[self.columns[k].option]) for k in columns]
        index = np.array(columns, dtype=np.int32) + np.int32(self.problem.n_classes + self._exchanges)
        self.limits.append(Limit(weight))
        self._solver.addRow(-np.inf, np.inf, len(columns), index, np.array(values))
        return len(self.limits) - 1

    def change_limit(self, row: int, least: float, most: float) -> None:
        """Change a row of `limits`."""
        self.limits[row] = replace(self.limits[row], least=least, most=most)
        self._solver.changeRowBounds(self.problem.n_classes + row, least, most)

    def solve(self) -> MasterSolution | None:
        """Solve the linear programme; None if HiGHS fails on it, or the work is interrupted."""
        import highspy

        if self._interruptible:
            solve_in_thread(self._solver.run, self._solver.cancelSolve)
        else:
            self._solver.run()
        if self._solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        solution = self._solver.getSolution()
        values, duals = np.array(solution.col_value), np.array(solution.row_dual)
        n = self.problem.n_classes
        limit_dual, limit_dual_total = np.zeros(len(self.problem.options)), 0.0
        for limit, dual in zip(self.limits, duals[n:], strict=True):
            binding = limit.most if dual < 0 else limit.least
            if dual and np.isfinite(binding):
                limit_dual -= limit.weight * dual
                limit_dual_total -= binding * dual
        return MasterSolution(
            float(self._solver.getInfo().objective_function_value), values[n + self._exchanges :],
            np.maximum(duals[:n], 0.0),
            limit_dual, limit_dual_total, float(values[:n].sum()),
        )  # fmt: skip
