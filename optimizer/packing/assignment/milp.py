"""The assignment model as a MILP through PuLP, solved by HiGHS or CBC."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from optimizer.packing.assignment.formulation import AssignmentModel, Formulation, assignment_model
from optimizer.packing.assignment.run_model import conclude, prepared
from optimizer.packing.highs_model import LookCount, quiet_highs
from optimizer.packing.model.checker import check
from optimizer.packing.model.params import DEFAULTS
from optimizer.packing.model.problem import PackingProblem
from optimizer.packing.model.search_state import SearchState
from optimizer.packing.model.step_costs import MIP_LOOK
from optimizer.packing.native_search import solve_in_thread
from scenarios import OutputFileError, interrupted
from scenarios.errors import cause_of
from scenarios.output import remove_leftovers, temporary_folder
from scenarios.text.formatting import shortened

TOLERANCE = 1e-9
"""Feasibility and integrality tolerance: far below the resolution of a scaled row."""


def to_pulp(
    formulation: Formulation, largest_coefficient: float = DEFAULTS.assignment.largest_coefficient
) -> tuple[Any, list[Any]]:
    """Translate a formulation; the PuLP problem and its variables.

    Rows with larger coefficients are divided by their largest, and continuous variables counted in units
    of a thousandth of their range, as solvers' tolerances are absolute.
    """
    import pulp

    model = pulp.LpProblem("packing", pulp.LpMinimize)
    units = [max(1.0, v.upper / 1_000) if v.continuous else 1 for v in formulation.variables]
    variables = [
        model.add_variable(
            v.name,
            lowBound=v.lower / unit,
            upBound=v.upper / unit,
            cat=pulp.LpContinuous if v.continuous else pulp.LpInteger,
        )
        for v, unit in zip(formulation.variables, units, strict=True)
    ]
    model += pulp.LpAffineExpression([(variables[v], a * units[v]) for v, a in formulation.objective])
    for row in formulation.rows:
        largest = max(abs(a * units[v]) for v, a in row.terms)
        scale = largest / largest_coefficient if largest > largest_coefficient else 1
        terms = pulp.LpAffineExpression([(variables[v], a * units[v] / scale) for v, a in row.terms])
        if row.lower is not None and row.lower == row.upper:
            model += (terms == row.lower / scale), row.name
            continue
        if row.lower is not None:
            model += (
                (terms >= row.lower / scale),
                f"{row.name}_at_least" if row.upper is not None else row.name,
            )
        if row.upper is not None:
            model += (terms <= row.upper / scale), row.name
    return model, variables


def lp_text(problem: PackingProblem, bins: int) -> str:
    """The assignment model of a problem in CPLEX's LP format, for reading and for golden tests."""
    model, _ = to_pulp(assignment_model(problem, bins).formulation)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.lp"
        model.writeLP(str(path))
        return path.read_text(encoding="utf-8")


def place_highs(run: SearchState) -> None:
    """`milp`: the assignment model by HiGHS."""
    _place(run, "highs")


def place_cbc(run: SearchState) -> None:
    """`cbc`: the assignment model by CBC."""
    _place(run, "cbc")


def _place(run: SearchState, solver: str) -> None:
    built = prepared(run)
    if built is None:
        return
    model, variables = to_pulp(built.formulation, run.params.assignment.largest_coefficient)
    start = built.values(run.packing) if run.packing is not None else None
    solve = _solve_highs if solver == "highs" else _solve_cbc
    bound = solve(run, model, variables, start)
    _record(run, built, model, variables, bound)


def _record(run: SearchState, built: AssignmentModel, model: Any, variables: list[Any], bound: float) -> None:
    import pulp

    cut_short = interrupted()  # what a solver says of itself then is no proof
    infeasible = model.status == pulp.LpStatusInfeasible and not cut_short
    optimal = model.sol_status == pulp.LpSolutionOptimal and run.gap_limit == 0 and not cut_short
    values = [v.varValue for v in variables]
    known = model.sol_status in (pulp.LpSolutionOptimal, pulp.LpSolutionIntegerFeasible)
    if known and not infeasible and None not in values:
        packing = built.packing(np.array(values, dtype=np.float64))
        violations = check(run.problem, packing)
        if violations:
            run.limited = True
            run.say(f"the solver's plan is wrong within its tolerances and dropped: {violations[0]}")
            return
        run.offer(packing)
    conclude(run, built, infeasible=infeasible, optimal=optimal, integer_bound=bound)


def _solve_highs(run: SearchState, model: Any, variables: list[Any], start: dict[int, int] | None) -> float:
    """Solve by HiGHS; its bound."""
    import pulp

    look = MIP_LOOK * (len(variables) + model.numConstraints())

    class Quiet(pulp.HiGHS):  # type: ignore[misc]
        """HiGHS without a banner, started from the run's plan."""

        def createAndConfigureSolver(self, lp: Any) -> None:  # noqa: N802 (PuLP's name)
            lp.solverModel = quiet_highs(interruptible=True)
            for key, value in self.optionsDict.items():
                lp.solverModel.setOptionValue(key, value)

        def callSolver(self, lp: Any) -> None:  # noqa: N802 (PuLP's name)
            if start:
                index = np.array([variables[v].index for v in start], dtype=np.int32)
                lp.solverModel.setSolution(
                    len(index), index, np.array(list(start.values()), dtype=np.float64)
                )
            looks = LookCount(lp.solverModel)
            looks.limit(run.left_s / look)
            solve_in_thread(lp.solverModel.run, lp.solverModel.cancelSolve)
            run.deadline.work.add(look * looks.number)

    solver = Quiet(
        msg=False,
        time_limit=max(0.01, run.deadline.clock_s),
        random_seed=run.seed & 0x7FFFFFFF,
        mip_rel_gap=run.gap_limit,
        mip_abs_gap=1e-6,
        mip_feasibility_tolerance=TOLERANCE,
        primal_feasibility_tolerance=TOLERANCE,
    )
    model.solve(solver)
    run.statistics["milp_nodes"] = float(model.solverModel.getInfo().mip_node_count)
    return float(model.solverModel.getInfo().mip_dual_bound)


def _solve_cbc(run: SearchState, model: Any, variables: list[Any], start: dict[int, int] | None) -> float:
    """Solve by CBC; CBC reports no bound through PuLP, so that of its relaxation is unknown: 0.

    Its feasibility tolerance stays as it is, 1e-7: a unit of a row that `to_pulp` scaled is at least 1e-5,
    and with a smaller tolerance CBC was seen to cut off optima of latency problems. It counts nothing that
    says how long it will take, so its limit is one by the clock.
    """
    import pulp

    if start:
        for v, value in start.items():
            variables[v].setInitialValue(value)
    started, limit = time.monotonic(), max(1.0, min(run.left_s, run.deadline.clock_s))
    options = [f"randomCbcSeed {1 + run.seed % 2_000_000_000}", f"integerT {TOLERANCE}"]
    solver = pulp.COIN_CMD(
        path=pulp.PULP_CBC_CMD.pulp_cbc_path,
        msg=False,
        timeLimit=limit,
        gapRel=run.gap_limit,
        gapAbs=1e-6,
        warmStart=start is not None,
        options=options,
        keepFiles=False,
    )
    with _room_for_files() as folder:
        solver.tmpDir = str(folder)
        try:
            solve_in_thread(lambda: model.solve(solver), lambda: _end_processes(solver.path))
        except pulp.PulpSolverError:
            if not run.out_of_time:  # else it was ended before it had an answer
                run.message = "CBC was ended from outside, as where memory runs out, and has no answer"
                run.say(run.message)
    run.deadline.work.by_clock |= time.monotonic() - started >= limit
    return 0.0


@contextlib.contextmanager
def _room_for_files() -> Iterator[Path]:
    """A folder for what CBC reads and writes; those of killed processes are removed.

    Raises
    ------
    OutputFileError
        If nothing can be written there, or CBC could not be told of it.
    """
    room = Path(tempfile.gettempdir())
    if any(map(str.isspace, str(room))):  # PuLP parts CBC's command line at blanks
        raise OutputFileError(
            f'CBC takes no files in "{shortened(str(room))}", whose name has a blank; '
            "name another folder by TMPDIR"
        )
    try:
        remove_leftovers(room)
        with temporary_folder(room / "cbc", 0o700) as folder:
            yield folder
    except OSError as error:
        raise OutputFileError(
            f"CBC's files cannot be written ({cause_of(error)}); name a folder with room for them by TMPDIR"
        ) from error


def _end_processes(program: str) -> None:
    """Ask the processes of a program that this one has started to come to an end."""
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.Error):
            if Path(child.exe()).samefile(program):
                child.send_signal(signal.SIGINT)
