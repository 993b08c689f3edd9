"""HiGHS: one linear or mixed-integer programme, built row by row and column by column, solved warm.

What a solution may take is counted: simplex iterations of a linear programme, and of a search how often it
looks at its limits, which it does between its own steps. HiGHS takes the same steps on every run.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
from numpy.typing import ArrayLike

from optimizer.packing.model.problem import FloatArray, IntArray
from optimizer.packing.model.step_costs import MIP_LOOK, PROGRAMME, SIMPLEX
from optimizer.packing.native_search import solve_in_thread
from scenarios import UNLIMITED, Deadline

LEAST_S = 0.01
"""Counted seconds that a solution gets at least."""

MOST_PIVOTS = (1000, 50)
"""Simplex iterations, and as many more for each row, after which a linear programme is begun anew: it may go
in a circle, as hardly any takes five for each row."""

FROM_SCRATCH = {"simplex_strategy": 1}
"""HiGHS's options then: its dual simplex."""


class _QuietHighs(highspy.Highs):
    """Turns the log off before the callbacks are set up, which log before any option can be set otherwise."""

    def enableCallbacks(self) -> None:  # noqa: N802 (highspy's name)
        self.setOptionValue("output_flag", False)
        super().enableCallbacks()  # type: ignore[no-untyped-call]


def quiet_highs(*, interruptible: bool = False) -> Any:
    """A `highspy.Highs` of one thread that writes nothing; `cancelSolve` ends an interruptible one.

    Its banner would go to standard output, where results belong. One thread, always: HiGHS refuses to run
    with another number of threads than the first of the process, and its answer could depend on it.
    """
    solver: Any = _QuietHighs()  # type: ignore[no-untyped-call]
    solver.setOptionValue("threads", 1)
    if interruptible:
        solver.HandleUserInterrupt = True
    return solver


@dataclass(frozen=True, eq=False)
class HighsSolution:
    """What HiGHS says of a programme.

    Parameters
    ----------
    optimal, infeasible
        What is proven; neither where the search was cut short.
    value, bound
        Objective, and for integer columns the bound on it.
    columns
        Values of the columns; empty where none are known that keep the rows.
    duals
        Duals of the rows, of a linear programme.
    """

    optimal: bool
    infeasible: bool
    value: float
    bound: float
    columns: FloatArray
    duals: FloatArray


class LookCount:
    """How often HiGHS's search for whole numbers looks at its limits, and how often it may.

    HiGHS's own limits are the clock, which differs from run to run, and the nodes, of which the first may
    take all the time there is.
    """

    def __init__(self, solver: Any) -> None:
        self.number, self.most = 0, math.inf
        solver.cbMipInterrupt += self._look

    def limit(self, most: float) -> None:
        """Count anew, up to a number."""
        self.number, self.most = 0, most

    def _look(self, event: Any) -> None:
        self.number += 1
        if self.number > self.most:
            event.interrupt()


class HighsModel:
    """A programme that minimises; it keeps its basis, so that the next solution starts from the last.

    Parameters
    ----------
    lower, upper
        Bounds of the rows, which have no columns yet.
    interruptible
        Whether signals end a solution; costs a tenth of a millisecond, which counts where there are many.
    options
        Options of HiGHS.
    """

    def __init__(
        self, lower: FloatArray, upper: FloatArray, *, interruptible: bool = True, **options: Any
    ) -> None:
        self._lower, self._upper, self._interruptible = lower, upper, interruptible
        self._looks: LookCount | None = None
        self._solver = quiet_highs(interruptible=interruptible)
        self._set(options)
        self._solver.addRows(len(lower), lower, upper, 0, np.zeros(len(lower), np.int32), [], [])

    def add_column(self, cost: float, rows: ArrayLike, values: ArrayLike) -> None:
        """Add a column of at least 0 with its entries."""
        rows = np.asarray(rows, dtype=np.int32)
        self._solver.addCol(cost, 0.0, math.inf, len(rows), rows, np.asarray(values, dtype=np.float64))

    def add_columns(self, cost: FloatArray, matrix: Any) -> None:
        """Add columns of at least 0, the matrix of all of them by scipy."""
        by_column, n = matrix.tocsc(), len(cost)
        self._solver.addCols(
            n, cost, np.zeros(n), np.full(n, math.inf), by_column.nnz,
            by_column.indptr[:-1], by_column.indices, by_column.data,
        )  # fmt: skip

    def add_row(self, columns: IntArray, values: FloatArray) -> None:
        """Add a row that limits nothing yet."""
        self._lower, self._upper = np.append(self._lower, -math.inf), np.append(self._upper, math.inf)
        self._solver.addRow(-math.inf, math.inf, len(columns), columns.astype(np.int32), values)

    def set_rows(self, lower: FloatArray, upper: FloatArray) -> None:
        """Set the bounds of all rows."""
        for row in np.flatnonzero((lower != self._lower) | (upper != self._upper)):
            self._solver.changeRowBounds(int(row), float(lower[row]), float(upper[row]))
        self._lower, self._upper = lower, upper

    def fix_columns(self, columns: IntArray, values: ArrayLike) -> None:
        """Fix columns at values, or all at one."""
        for column, value in np.broadcast(columns, values):
            self._solver.changeColBounds(int(column), float(value), float(value))

    def make_integer(self, columns: IntArray) -> None:
        """Let columns take whole values only."""
        self._looks = self._looks or LookCount(self._solver)
        kinds = np.full(len(columns), highspy.HighsVarType.kInteger)
        self._solver.changeColsIntegrality(len(columns), columns.astype(np.int32), kinds)

    def solve(self, deadline: Deadline = UNLIMITED) -> HighsSolution:
        """Minimise until the deadline, towards whose work it counts."""
        status = self._run(deadline)
        if status == highspy.HighsModelStatus.kIterationLimit and not deadline.reached:
            usual = {name: self._solver.getOptionValue(name)[1] for name in FROM_SCRATCH}
            self._solver.clearSolver()
            self._set(FROM_SCRATCH)
            status = self._run(deadline)
            self._set(usual)
        solution, info = self._solver.getSolution(), self._solver.getInfo()
        return HighsSolution(
            status == highspy.HighsModelStatus.kOptimal, status == highspy.HighsModelStatus.kInfeasible,
            float(info.objective_function_value), float(info.mip_dual_bound),
            np.array(solution.col_value if solution.value_valid else []), np.array(solution.row_dual),
        )  # fmt: skip

    def _run(self, deadline: Deadline) -> Any:
        """Let HiGHS work until the deadline; how its model stands then."""
        self._limit(deadline)
        if self._interruptible:
            solve_in_thread(self._solver.run, self._solver.cancelSolve)
        else:
            self._solver.run()
        if self._looks is None:
            steps = SIMPLEX * self._solver.getInfo().simplex_iteration_count
        else:
            steps = MIP_LOOK * self._looks.number
        deadline.work.add(PROGRAMME + self._size * steps)
        return self._solver.getModelStatus()

    def _set(self, options: Mapping[str, Any]) -> None:
        for name, value in options.items():
            self._solver.setOptionValue(name, value)

    @property
    def _size(self) -> int:
        """Rows and columns."""
        return int(self._solver.getNumRow() + self._solver.getNumCol())

    def _limit(self, deadline: Deadline) -> None:
        """Set HiGHS's limits: by the clock, and by what it counts itself."""
        # HiGHS's own clock goes on from one solution to the next.
        self._solver.setOptionValue("time_limit", self._solver.getRunTime() + max(0.01, deadline.clock_s))
        left_s, pivots = max(deadline.left_s, LEAST_S), highspy.kHighsIInf
        if self._looks is not None:
            self._looks.limit(left_s / (MIP_LOOK * self._size))
        else:
            most = MOST_PIVOTS[0] + MOST_PIVOTS[1] * self._solver.getNumRow()
            pivots = int(min(left_s / (SIMPLEX * self._size), most))
        self._solver.setOptionValue("simplex_iteration_limit", pivots)
