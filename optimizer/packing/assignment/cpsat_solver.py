"""A CP-SAT model solved: the one place where the solver's parameters are set."""

from __future__ import annotations

import time
from typing import Any

from optimizer.packing.model.params import AssignmentParams
from optimizer.packing.native_search import solve_in_thread
from scenarios import interrupted

FULL_LINEARIZATION = 2


def solve_model(
    model: Any,
    *,
    seed: int,
    workers: int,
    seconds: float,
    params: AssignmentParams,
    gap_limit: float = 0.0,
    callback: Any = None,
) -> tuple[Any, Any]:
    """Solve a model; the solver, which holds what it found and its bound, and the status.

    One search with all linear relaxations goes first, for a moment. It solves what is easy. And it notices
    whatever a relaxation refutes on loading, at which CP-SAT's interleaved searches end the process (seen
    with OR-Tools 9.15: the check `heuristics.fixed_search != nullptr` fails). These follow where there are
    several workers: they are deterministic, as a plain portfolio is not.

    Parameters
    ----------
    model
        A `cp_model.CpModel`.
    seed, workers
        Seed of everything random, and threads.
    seconds
        Time limit, also in deterministic time.
    params
        How long one search goes alone.
    gap_limit
        Relative gap at which to stop.
    callback
        A `cp_model.CpSolverSolutionCallback`, told of every solution.
    """
    from ortools.sat.python import cp_model

    started = time.monotonic()
    alone = _solver(seed, 1, seconds, gap_limit)
    alone.parameters.linearization_level = FULL_LINEARIZATION
    if workers > 1:
        alone.parameters.max_deterministic_time = min(params.alone_s, seconds)
    status = _run(alone, model, callback)
    left_s = seconds - (time.monotonic() - started)
    decided = (cp_model.OPTIMAL, cp_model.INFEASIBLE, cp_model.MODEL_INVALID)
    if workers == 1 or status in decided or left_s <= 0 or interrupted():
        return alone, status
    several = _solver(seed, workers, left_s, gap_limit)
    several.parameters.interleave_search = True
    again = _run(several, model, callback)
    found = (cp_model.OPTIMAL, cp_model.FEASIBLE)
    better = again in decided or (again in found and not _beats(alone, status, several, found))
    return (several, again) if better or status not in found else (alone, status)


def _beats(alone: Any, status: Any, several: Any, found: tuple[Any, ...]) -> bool:
    return status in found and alone.objective_value < several.objective_value


def _solver(seed: int, workers: int, seconds: float, gap_limit: float) -> Any:
    from ortools.sat.python import cp_model

    solver = cp_model.CpSolver()
    solver.parameters.random_seed = seed & 0x7FFFFFFF
    solver.parameters.num_workers = max(1, workers)
    solver.parameters.max_time_in_seconds = solver.parameters.max_deterministic_time = max(seconds, 1e-3)
    solver.parameters.relative_gap_limit = gap_limit
    solver.parameters.catch_sigint_signal = False  # signals are noticed elsewhere
    return solver


def _run(solver: Any, model: Any, callback: Any) -> Any:
    status: list[Any] = []
    arguments = (model,) if callback is None else (model, callback)
    solve_in_thread(lambda: status.append(solver.solve(*arguments)), solver.stop_search)
    return status[0]
