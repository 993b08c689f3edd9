"""What CP-SAT and the MILP solvers share: the assignment model of a run, and what their bound says."""

from __future__ import annotations

import numpy as np

from optimizer.packing.assignment.formulation import AssignmentModel, assignment_model
from optimizer.packing.heuristics.first_fit import place_best_fit
from optimizer.packing.model.search_state import SearchState


def prepared(run: SearchState) -> AssignmentModel | None:
    """The model of all packings that may be better than the run's; None if it would be too large.

    Where prices are minimised, a plan is found first and bounds the number of bins; else ``max_bins`` does.
    """
    if run.packing is None and run.problem.objective == "price":
        place_best_fit(run)
    bins = most_bins(run)
    if bins * run.problem.n_classes > run.params.assignment.most_variables:
        size = f"{bins} bins and {run.problem.n_classes} classes"
        run.message = f"the assignment model of {size} is too large; it was not solved"
        run.say(run.message)
        return None
    return assignment_model(run.problem, bins, run.bound if run.problem.objective == "price" else 0.0)


def most_bins(run: SearchState) -> int:
    """Bins that an assignment model needs so that no better packing is missed."""
    problem = run.problem
    given = problem.max_bins if problem.max_bins is not None else problem.n_items
    if problem.objective != "price":
        return given
    if run.packing is not None:
        given = min(given, int(np.floor(run.value / problem.prices.min() * (1 + 1e-9))))
    return min(given, problem.n_items)


def conclude(
    run: SearchState, built: AssignmentModel, *, infeasible: bool, optimal: bool, integer_bound: float
) -> None:
    """Take what a solver's end proves: that no packing is better than the run's, or a bound on those."""
    if infeasible and run.packing is None:
        run.infeasible = True
    elif infeasible or optimal:
        run.raise_bound(run.value)
    else:
        run.limited = True
        run.raise_bound(lower_bound(built, integer_bound))


def lower_bound(built: AssignmentModel, integer_bound: float) -> float:
    """A solver's bound in the problem's unit; below the exact one by what rounding may have added."""
    if not np.isfinite(integer_bound) or integer_bound <= 0:
        return 0.0
    slack = 0 if built.problem.objective == "price" else built.problem.n_items
    return max(0.0, (integer_bound - slack) / built.formulation.scale)
