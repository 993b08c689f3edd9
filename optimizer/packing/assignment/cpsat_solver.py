"""A CP-SAT model solved: the one place where the solver's parameters are set."""

from __future__ import annotations

from typing import Any

from optimizer.packing.model.params import AssignmentParams
from optimizer.packing.model.step_costs import CP_SAT
from optimizer.packing.native_search import solve_in_thread
from scenarios import Deadline

FULL_LINEARIZATION = 2

BATCH = 6
"""Tasks of interleaved searches between two synchronizations."""

LEAST_WORKERS = 2
"""Fewest threads of interleaved searches."""

LEAST_S = 1e-3
"""Seconds that a search gets at least."""


def solve_model(
    model: Any,
    *,
    seed: int,
    workers: int,
    deadline: Deadline,
    params: AssignmentParams,
    gap_limit: float = 0.0,
    callback: Any = None,
) -> tuple[Any, Any]:
    """Solve a model; the solver, which holds what it found and its bound, and the status.

    One search with all linear relaxations goes first, for a moment. It solves what is easy. And it notices
    whatever a relaxation refutes on loading, at which CP-SAT's interleaved searches end the process (seen
    with OR-Tools 9.15: the check `heuristics.fixed_search != nullptr` fails). These follow: they are
    deterministic, as a plain portfolio is not.

    Parameters
    ----------
    model
        A `cp_model.CpModel`.
    seed, workers
        Seed of everything random, and threads; more of them find the same solution sooner.
    deadline
        When to stop; counted in CP-SAT's deterministic time.
    params
        How long one search goes alone.
    gap_limit
        Relative gap at which to stop.
    callback
        A `cp_model.CpSolverSolutionCallback`, told of every solution.
    """
    from ortools.sat.python import cp_model

    alone = _solver(seed, 1, deadline.part(params.alone_s), gap_limit)
    alone.parameters.linearization_level = FULL_LINEARIZATION
    status = _run(alone, model, deadline, callback)
    decided = (cp_model.OPTIMAL, cp_model.INFEASIBLE, cp_model.MODEL_INVALID)
    if status in decided or deadline.reached:
        return alone, status
    # With one worker CP-SAT synchronizes its searches otherwise, and batches are as large as workers are many
    # unless it is told (OR-Tools 9.15: `SharedClasses`, `LaunchSubsolvers`).
    several = _solver(seed, max(workers, LEAST_WORKERS), deadline, gap_limit)
    several.parameters.interleave_search = True
    several.parameters.interleave_batch_size = BATCH
    again = _run(several, model, deadline, callback)
    found = (cp_model.OPTIMAL, cp_model.FEASIBLE)
    better = again in decided or (again in found and not _beats(alone, status, several, found))
    return (several, again) if better or status not in found else (alone, status)


def _beats(alone: Any, status: Any, several: Any, found: tuple[Any, ...]) -> bool:
    return status in found and alone.objective_value < several.objective_value


def _solver(seed: int, workers: int, deadline: Deadline, gap_limit: float) -> Any:
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.random_seed = seed & 0x7FFFFFFF
    solver.parameters.num_workers = workers
    solver.parameters.max_time_in_seconds = max(deadline.clock_s, LEAST_S)
    solver.parameters.max_deterministic_time = max(deadline.left_s / CP_SAT, LEAST_S)
    solver.parameters.relative_gap_limit = gap_limit
    solver.parameters.catch_sigint_signal = False  # signals are noticed elsewhere
    return solver


def _run(solver: Any, model: Any, deadline: Deadline, callback: Any) -> Any:
    status: list[Any] = []
    arguments = (model,) if callback is None else (model, callback)
    solve_in_thread(lambda: status.append(solver.solve(*arguments)), solver.stop_search)
    deadline.work.add(CP_SAT * solver.response_proto.deterministic_time)
    return status[0]
