"""`pack`: solve a packing problem by any method, check what it returns, say what is proven."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from optimizer.packing.checker import check
from optimizer.packing.outcome import (
    Incumbent,
    PackingResult,
    Placer,
    Run,
    Status,
    StopReason,
    relative_gap,
)
from optimizer.packing.problem import Packing, PackingError, PackingProblem
from optimizer.packing.registry import METHODS, Method


class CheckFailedError(PackingError):
    """A placer returned a packing that the independent checker refuses; a bug, never a user's fault."""


def pack(
    problem: PackingProblem,
    method: str = "exact",
    *,
    time_limit_s: float = 60.0,
    gap_limit: float = 0.0,
    seed: int = 0,
    workers: int = 1,
    hint: Packing | None = None,
    known_bound: float = 0.0,
    on_incumbent: Incumbent | None = None,
    log: Callable[[str], None] | None = None,
) -> PackingResult:
    """Pack all items.

    Parameters
    ----------
    problem
        What to pack, and what to minimise.
    method
        One of `methods()`.
    time_limit_s
        Seconds after which the best packing so far is returned.
    gap_limit
        Relative gap (objective - bound) / objective at which to stop.
    seed, workers
        Seed of everything random; threads of the solvers. The result depends on neither the number of
        workers nor the clock unless the time limit strikes.
    hint
        A packing to start from; used if it is valid for the problem.
    known_bound
        A lower bound that is proven already; the search stops at a packing of that value.
    on_incumbent
        Called with every better packing and its value.
    log
        Called with lines of progress.

    Returns
    -------
    PackingResult
        On Ctrl-C the best packing so far, with stop reason ``interrupted``.

    Raises
    ------
    PackingError
        If the method does not exist, or does not do the problem's objective.
    """
    chosen = _method(method, problem)
    started = time.monotonic()
    run = Run(problem, started + time_limit_s, gap_limit, seed, workers, on_incumbent, log)
    run.raise_bound(known_bound)
    if hint is not None and not check(problem, hint):
        run.offer(hint)
    run.message = _homeless_message(problem)
    interrupted = False
    if run.message:
        run.infeasible = True
    else:
        try:
            chosen.placer(run)
        except KeyboardInterrupt:
            interrupted = True
    run.statistics["seconds"] = time.monotonic() - started
    return _result(run, chosen, interrupted)


def methods() -> Mapping[str, Method]:
    """The methods by name."""
    return METHODS


def _method(name: str, problem: PackingProblem) -> Method:
    if name not in METHODS:
        raise PackingError(f'method "{name}" does not exist; choose from {", ".join(sorted(METHODS))}')
    method = METHODS[name]
    if problem.objective not in method.objectives:
        able = sorted(m for m, each in METHODS.items() if problem.objective in each.objectives)
        raise PackingError(
            f'method "{name}" does not do objective {problem.objective}; choose from {", ".join(able)}'
        )
    return method


def _homeless_message(problem: PackingProblem) -> str:
    homeless = problem.homeless()
    if not len(homeless):
        return ""
    names = ", ".join(problem.class_name(int(c)) for c in homeless[:5])
    more = f" and {len(homeless) - 5} more" if len(homeless) > 5 else ""
    return f"no bin holds even one item of class {names}{more}"


def _result(run: Run, method: Method, interrupted: bool) -> PackingResult:
    problem = run.problem
    if run.packing is not None:
        violations = check(problem, run.packing)
        if violations:
            raise CheckFailedError(
                f"method {method.name} returned a wrong packing: " + "; ".join(violations[:5])
            )
    value = run.value if run.packing is not None else None
    if run.packing is None:
        status = Status.INFEASIBLE if run.infeasible and method.exact else Status.LIMIT
    else:
        status = Status.OPTIMAL if run.proven and method.exact else Status.FEASIBLE
    if status in (Status.OPTIMAL, Status.INFEASIBLE):
        reason = StopReason.PROVEN
    elif interrupted:
        reason = StopReason.INTERRUPTED
    elif value is not None and run.gap_limit > 0 and relative_gap(value, run.bound) <= run.gap_limit:
        reason = StopReason.GAP_LIMIT
    else:
        reason = StopReason.TIME_LIMIT if run.out_of_time or run.limited else StopReason.FINISHED
    bound = min(run.bound, value) if value is not None else run.bound
    return PackingResult(run.packing, status, reason, value, bound, method.name, run.message, run.statistics)


__all__ = ["CheckFailedError", "Method", "Placer", "methods", "pack"]
