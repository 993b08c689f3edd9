"""`pack`: solve a packing problem by any method, check what it returns, say what is proven."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np

from optimizer.packing.bounds.infeasible import unpackable_message, why_infeasible
from optimizer.packing.model.argument_checks import to_number, to_whole
from optimizer.packing.model.checker import check
from optimizer.packing.model.no_packing import NoPacking, NoPackingReason
from optimizer.packing.model.params import PackingParams
from optimizer.packing.model.problem import Packing, PackingError, PackingProblem
from optimizer.packing.model.search_state import (
    Incumbent,
    PackingResult,
    Placer,
    SearchState,
    Status,
    StopReason,
    relative_gap,
)
from optimizer.packing.registry import METHODS, Method
from scenarios import Deadline, interrupted, noticed
from scenarios.stopping.interrupts import request


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
    params: PackingParams | None = None,
    deadline: Deadline | None = None,
) -> PackingResult:
    """Pack all items.

    Parameters
    ----------
    problem
        What to pack, and what to minimise.
    method
        One of `methods()`.
    time_limit_s
        Seconds after which the best packing so far is returned, by the clock, or counted where that is
        sooner (`scenarios.Deadline`).
    gap_limit
        Relative gap (objective - bound) / objective at which to stop.
    seed, workers
        Seed of everything random; threads of the solvers. The result depends on neither the number of
        workers nor the clock unless the time limit strikes.
    hint
        A packing to start from; used if it is valid for the problem, else the log says what is wrong.
    known_bound
        A lower bound that is proven already; the search stops at a packing of that value. If a packing is
        found below it, it was wrong: the message says so, and the search goes on without it.
    on_incumbent
        Called with every better packing and its value.
    log
        Called with lines of progress.
    params
        Parameters of the placers; None: their defaults.
    deadline
        Ends the search too; what it does counts towards it.

    Returns
    -------
    PackingResult
        On Ctrl-C the best packing so far, with stop reason ``interrupted``.

    Raises
    ------
    PackingError
        If the method does not exist, or does not do the problem's objective, or an argument is wrong.
    """
    _check_arguments(problem, hint, time_limit_s, gap_limit, seed, workers, known_bound)
    chosen = _method(method, problem)
    started = time.monotonic()
    run = SearchState(
        problem, (deadline or Deadline()).within(time_limit_s), gap_limit, seed, workers, on_incumbent, log,
        params or PackingParams(),
    )  # fmt: skip
    run.raise_bound(known_bound)
    with noticed():
        _take_hint(run, hint)
        unpackable = _search(run, chosen)
        if run.packing is None or run.value >= known_bound * (1 - 1e-6):
            run.statistics["seconds"] = time.monotonic() - started
            return _result(run, chosen, unpackable)
        message = f"known_bound {known_bound:g} is above a packing of value {run.value:g}; it was ignored"
        run.say(message)
        result = pack(
            problem, method, time_limit_s=math.inf, gap_limit=gap_limit, seed=seed, workers=workers,
            hint=run.packing, on_incumbent=on_incumbent, log=log, params=params, deadline=run.deadline,
        )  # fmt: skip
        return replace(result, message="; ".join(filter(None, (message, result.message))))


def _search(run: SearchState, method: Method) -> bool:
    """Let a placer work; whether it was of no use, as some item fits no bin."""
    run.message = unpackable_message(run.problem)
    unpackable = bool(run.message)
    if unpackable:
        lonely = np.bincount(run.problem.unpackable(), minlength=run.problem.n_classes)
        run.no_packing = NoPacking(NoPackingReason.FITS_NO_BIN, lonely)
    try:
        if not unpackable and not interrupted():
            method.placer(run)
    except KeyboardInterrupt:  # a callback's own; signals raise nothing
        request()
    return unpackable


def _check_arguments(
    problem: object,
    hint: object,
    time_limit_s: object,
    gap_limit: object,
    seed: object,
    workers: object,
    known_bound: object,
) -> None:
    if not isinstance(problem, PackingProblem):
        message = f"is of type {type(problem).__name__}, must be a PackingProblem"
        raise PackingError.of("problem", message, "build one")
    if hint is not None and not isinstance(hint, Packing):
        message = f"is of type {type(hint).__name__}, must be a Packing"
        raise PackingError.of("hint", message, "build one, or give None")
    to_number("time_limit_s", time_limit_s, finite=False)
    if to_number("gap_limit", gap_limit) >= 1:
        raise PackingError.of("gap_limit", f"is {gap_limit:g}, must be below 1", "0.05 stands for 5 percent")
    to_whole("seed", seed)
    to_whole("workers", workers, least=1)
    to_number("known_bound", known_bound, finite=False)


def _take_hint(run: SearchState, hint: Packing | None) -> None:
    violations = [] if hint is None else check(run.problem, hint)
    if violations:
        run.say(f"the hint is not used: {violations[0]}")
    elif hint is not None:
        run.offer(hint)


def methods() -> Mapping[str, Method]:
    """The methods by name."""
    return METHODS


def _method(name: str, problem: PackingProblem) -> Method:
    if name not in METHODS:
        choice = f"choose from {', '.join(sorted(METHODS))}"
        raise PackingError.of("method", f'"{name}" does not exist', choice)
    method = METHODS[name]
    if problem.objective not in method.objectives:
        able = sorted(m for m, each in METHODS.items() if problem.objective in each.objectives)
        done = " and ".join(sorted(method.objectives))
        message = f'"{name}" does not do objective {problem.objective}, only {done}'
        raise PackingError.of("method", message, f"choose from {', '.join(able)}")
    return method


def _result(run: SearchState, method: Method, unpackable: bool) -> PackingResult:
    problem = run.problem
    if run.packing is not None:
        violations = check(problem, run.packing)
        if violations:
            wrong = "; ".join(map(str, violations[:5]))
            raise CheckFailedError.of(f"method {method.name}", f"returned a wrong packing: {wrong}")
    value = run.value if run.packing is not None else None
    if run.packing is None:
        infeasible = unpackable or (run.infeasible and method.exact)
        status = Status.INFEASIBLE if infeasible else Status.LIMIT
    else:
        status = Status.OPTIMAL if run.proven and method.exact else Status.FEASIBLE
    if status in (Status.OPTIMAL, Status.INFEASIBLE):
        reason = StopReason.PROVEN
    elif interrupted():
        reason = StopReason.INTERRUPTED
    elif value is not None and run.gap_limit > 0 and relative_gap(value, run.bound) <= run.gap_limit:
        reason = StopReason.GAP_LIMIT
    else:
        reason = StopReason.TIME_LIMIT if run.out_of_time or run.limited else StopReason.FINISHED
    if status is Status.INFEASIBLE and not run.message:
        run.message = why_infeasible(problem)
    bound = min(run.bound, value) if value is not None else run.bound
    return PackingResult(
        run.packing, status, reason, value, bound, method.name, run.message, run.statistics,
        run.no_packing if run.packing is None else None,
    )  # fmt: skip


__all__ = ["CheckFailedError", "Method", "Placer", "methods", "pack"]
