"""The master of the pattern model: a linear programme over columns, solved warm by HiGHS.

Rows: every class is covered as often as it has items; limits on options, devices, bins and budget. One
artificial column per class keeps it feasible; exchange columns (`optimizer.packing.exchanges`) keep
the duals in order until they are closed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from optimizer.packing.problem import Bin, FloatArray, IntArray, PackingProblem

ARTIFICIAL = 1000.0
"""Price of an uncovered item, in dearest bins."""

PRIMAL = 4
"""HiGHS's primal simplex: the old optimum stays feasible when columns are added."""


@dataclass(frozen=True, eq=False)
class Solved:
    """An optimum of the master.

    Parameters
    ----------
    value
        Objective, artificial columns included.
    amount
        How often each column is used, shape (n_columns,).
    duals
        Value of an item per class, at least 0, shape (n_classes,).
    toll
        What a bin of each option costs beyond its price because limits bind, shape (n_options,).
    toll_total
        Σ of limit · dual over the limits; the dual objective is duals · demand - toll_total.
    uncovered
        Items in artificial columns.
    """

    value: float
    amount: FloatArray
    duals: FloatArray
    toll: FloatArray
    toll_total: float
    uncovered: float


class Master:
    """The linear programme; columns are added, demand may fall."""

    def __init__(self, problem: PackingProblem, exchanges: Sequence[tuple[int, int]] = ()) -> None:
        import highspy

        from optimizer.packing.quiet import quiet_highs

        self.problem = problem
        self.columns: list[Bin] = []
        self._known: set[tuple[int, bytes]] = set()
        self._closed = False
        self.limits = limit_rows(problem)
        self._exchanges = len(exchanges)
        self._solver: Any = quiet_highs()
        self._solver.setOptionValue("simplex_strategy", PRIMAL)
        infinite = highspy.kHighsInf
        for c in range(problem.n_classes):
            self._solver.addRow(float(problem.counts[c]), infinite, 0, [], [])
        for _, limit in self.limits:
            self._solver.addRow(-infinite, limit, 0, [], [])
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
        rows = [r for r, (weight, _) in enumerate(self.limits) if weight[column.option]]
        index = np.concatenate([classes, self.problem.n_classes + np.array(rows, dtype=np.int64)])
        weights = [float(self.limits[r][0][column.option]) for r in rows]
        return index.astype(np.int32), np.concatenate([column.counts[classes], weights]).astype(np.float64)

    def demand(self, counts: IntArray, used: Sequence[Bin] = ()) -> None:
        """Set how many items of each class are to cover, and which bins already count towards limits."""
        import highspy

        for c, count in enumerate(counts):
            self._solver.changeRowBounds(c, float(count), highspy.kHighsInf)
        for r, (weight, limit) in enumerate(self.limits):
            taken = sum(float(weight[b.option]) for b in used)
            self._solver.changeRowBounds(
                self.problem.n_classes + r, -highspy.kHighsInf, max(0.0, limit - taken)
            )

    def solve(self) -> Solved | None:
        """Solve the linear programme; None if HiGHS fails on it."""
        import highspy

        self._solver.run()
        if self._solver.getModelStatus() != highspy.HighsModelStatus.kOptimal:
            return None
        solution = self._solver.getSolution()
        values, duals = np.array(solution.col_value), np.array(solution.row_dual)
        n = self.problem.n_classes
        toll, toll_total = np.zeros(len(self.problem.options)), 0.0
        for (weight, limit), dual in zip(self.limits, duals[n:], strict=True):
            toll += weight * max(0.0, -dual)
            toll_total += limit * max(0.0, -dual)
        return Solved(
            float(self._solver.getInfo().objective_function_value), values[n + self._exchanges :],
            np.maximum(duals[:n], 0.0),
            toll, toll_total, float(values[:n].sum()),
        )  # fmt: skip


def limit_rows(problem: PackingProblem) -> list[tuple[FloatArray, float]]:
    """Rows Σ weight(option) · bins <= limit."""
    rows: list[tuple[FloatArray, float]] = []
    k = len(problem.options)
    for o, option in enumerate(problem.options):
        if option.limit is not None:
            rows.append((np.eye(k)[o], float(option.limit)))
    for device, limit in problem.device_limits.items():
        rows.append((np.array([float(o.device == device) for o in problem.options]), float(limit)))
    if problem.max_bins is not None:
        rows.append((np.ones(k), float(problem.max_bins)))
    if problem.budget is not None:
        rows.append((problem.prices.copy(), problem.budget))
    return [row for row in rows if row[1] < problem.n_items * float(row[0].max())]
