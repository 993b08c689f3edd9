"""The assignment model in CP-SAT (OR-Tools), with a heuristic plan as hint.

Deterministic: CP-SAT's answer depends neither on the number of workers nor on the clock
(`optimizer.packing.assignment.cpsat_solver`), unless the limit by the clock strikes first.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from optimizer.packing.assignment.cpsat_solver import solve_model
from optimizer.packing.assignment.formulation import AssignmentModel, Formulation
from optimizer.packing.assignment.run_model import conclude, prepared
from optimizer.packing.model.search_state import SearchState


def to_cpsat(formulation: Formulation) -> tuple[Any, list[Any]]:
    """Translate a formulation; the CP-SAT model and its variables."""
    from ortools.sat.python import cp_model

    model = cp_model.CpModel()
    variables = [model.new_int_var(v.lower, v.upper, v.name) for v in formulation.variables]
    for row in formulation.rows:
        expression = cp_model.LinearExpr.weighted_sum(
            [variables[v] for v, _ in row.terms], [a for _, a in row.terms]
        )
        if row.lower is not None and row.lower == row.upper:
            model.add(expression == row.lower).with_name(row.name)
        else:
            lower = cp_model.INT_MIN if row.lower is None else row.lower
            upper = cp_model.INT_MAX if row.upper is None else row.upper
            model.add_linear_constraint(expression, lower, upper).with_name(row.name)
    model.minimize(
        cp_model.LinearExpr.weighted_sum(
            [variables[v] for v, _ in formulation.objective], [a for _, a in formulation.objective]
        )
    )
    return model, variables


def place_cpsat(run: SearchState) -> None:
    """`cpsat`: improve the run's plan, which is a hint, or prove that there is no better one."""
    built = prepared(run)
    if built is not None:
        solve(run, built)


def solve(run: SearchState, built: AssignmentModel) -> None:
    """Solve an assignment model within the run's limits and offer what it finds."""
    from ortools.sat.python import cp_model

    model, variables = to_cpsat(built.formulation)
    if run.packing is not None:
        for v, value in (built.values(run.packing) or {}).items():
            model.add_hint(variables[v], value)

    class Found(cp_model.CpSolverSolutionCallback):
        """Offers each incumbent to the run."""

        def on_solution_callback(self) -> None:
            values = np.array([self.value(v) for v in variables], dtype=np.float64)
            run.offer(built.packing(values))

    solver, status = solve_model(
        model,
        seed=run.seed,
        workers=run.workers,
        deadline=run.deadline,
        params=run.params.assignment,
        gap_limit=run.gap_limit,
        callback=Found(),
    )
    _record(run, built, solver, status, cp_model)


def _record(run: SearchState, built: AssignmentModel, solver: Any, status: Any, cp_model: Any) -> None:
    run.statistics["cpsat_branches"] = float(solver.num_branches)
    run.statistics["cpsat_conflicts"] = float(solver.num_conflicts)
    if status == cp_model.MODEL_INVALID:
        return
    optimal, infeasible = status == cp_model.OPTIMAL, status == cp_model.INFEASIBLE
    bound = float(solver.best_objective_bound)
    if optimal or status == cp_model.FEASIBLE:
        run.offer(built.packing(np.array(solver.response_proto.solution, dtype=np.float64)))
        # With a gap limit CP-SAT calls optimal what is within it.
        optimal &= bound >= solver.objective_value - 0.5
    conclude(run, built, infeasible=infeasible, optimal=optimal, integer_bound=bound)
