"""What a placer is given besides the problem, and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol

import numpy as np

from optimizer.packing.model.no_packing import NoPacking
from optimizer.packing.model.params import PackingParams
from optimizer.packing.model.problem import Packing, PackingProblem
from optimizer.packing.model.scaling import exact_factor
from scenarios import Deadline


class Status(StrEnum):
    """What is known of a packing."""

    OPTIMAL = "optimal"
    """The packing is the best there is, for the integer rows."""
    FEASIBLE = "feasible"
    """The packing is valid."""
    INFEASIBLE = "infeasible"
    """There is no packing; proven."""
    LIMIT = "limit"
    """No packing was found, and none is excluded."""


class StopReason(StrEnum):
    """Why a placer stopped."""

    PROVEN = "proven"
    GAP_LIMIT = "gap_limit"
    TIME_LIMIT = "time_limit"
    FINISHED = "finished"
    """A heuristic came to its end."""
    INTERRUPTED = "interrupted"


@dataclass(frozen=True, eq=False)
class PackingResult:
    """A packing, what is proven of it, and why the search stopped.

    Parameters
    ----------
    packing
        The best packing found; None if there is none.
    status, stop_reason
        What is known, and why it stopped; apart from each other.
    objective
        Value of the packing; None without one.
    bound
        No packing has a smaller value (for the integer rows). Where there is none, the best bound before
        that was proven.
    method
        Name of the method.
    message
        What a reader should know beside the status: why there is no packing, for instance.
    statistics
        Figures of the search: seconds, columns, nodes, ...
    no_packing
        Why there is no packing, where the placer knows more than that it found none.
    """

    packing: Packing | None
    status: Status
    stop_reason: StopReason
    objective: float | None
    bound: float
    method: str
    message: str = ""
    statistics: Mapping[str, float] = field(default_factory=dict)
    no_packing: NoPacking | None = None

    @property
    def gap(self) -> float:
        """Relative gap (objective - bound) / objective; infinite without a packing."""
        return relative_gap(self.objective, self.bound)


def relative_gap(objective: float | None, bound: float) -> float:
    """(objective - bound) / objective, at least 0; infinite without an objective."""
    if objective is None:
        return float("inf")
    if objective <= bound:
        return 0.0
    return (objective - bound) / max(abs(objective), 1e-12)


Incumbent = Callable[[Packing, float], None]
"""Called with every better packing and its value."""


@dataclass
class SearchState:
    """One search: its limits, and the best packing and bound so far.

    Parameters
    ----------
    problem
        What is solved.
    deadline
        When to stop.
    gap_limit
        Relative gap at which to stop.
    seed, workers
        Seed of everything random, and threads.
    on_incumbent, log
        Called with better packings, and with lines of progress.
    params
        Parameters of the placers.
    packing, value, bound
        The best so far.
    infeasible
        Whether it is proven that there is no packing.
    limited
        Whether time decided although the deadline has not passed: a solver came to its own limit, or what
        is left was too short for the next step.
    message
        What the user must know of the search; empty if nothing.
    no_packing
        Why there is no packing, where the placer knows more than that it found none.
    """

    problem: PackingProblem
    deadline: Deadline
    gap_limit: float = 0.0
    seed: int = 0
    workers: int = 1
    on_incumbent: Incumbent | None = None
    log: Callable[[str], None] | None = None
    params: PackingParams = field(default_factory=PackingParams)
    packing: Packing | None = None
    value: float = float("inf")
    bound: float = 0.0
    infeasible: bool = False
    limited: bool = False
    message: str = ""
    statistics: dict[str, float] = field(default_factory=dict)
    no_packing: NoPacking | None = None

    @property
    def left_s(self) -> float:
        """Counted seconds until the deadline, at least 0; none after an interruption."""
        return self.deadline.left_s

    @property
    def out_of_time(self) -> bool:
        """Whether the deadline has passed, or the search was interrupted."""
        return self.deadline.reached

    @property
    def proven(self) -> bool:
        """Whether the search is over: the bound meets the packing, or there is none."""
        return self.infeasible or (self.packing is not None and self.value <= self.bound * (1 + 1e-9) + 1e-9)

    @property
    def done(self) -> bool:
        """Whether to stop: proven, within the gap, or out of time."""
        return (
            self.proven
            or relative_gap(_or_none(self.value), self.bound) <= self.gap_limit
            or self.out_of_time
        )

    def until(self, seconds: float) -> Callable[[], bool]:
        """A question that is answered by whether the run is done or so many counted seconds have passed."""
        end = self.deadline.part(seconds)
        return lambda: self.done or end.reached

    def offer(self, packing: Packing) -> bool:
        """Take a packing if it is better than the best so far; whether it was."""
        value = self.problem.value(packing)
        if value >= self.value * (1 - 1e-12):
            return False
        self.packing, self.value = packing, value
        self.say(f"plan {value:g}, bound {self.bound:g}")
        if self.on_incumbent is not None:
            self.on_incumbent(packing, value)
        return True

    def raise_bound(self, bound: float) -> None:
        """Take a lower bound if it is better, rounded up to the next value that prices can sum to."""
        if self.problem.objective == "price":
            bound = round_up(bound, self.problem)
        if bound > self.bound:
            self.bound = bound
            self.say(f"plan {self.value:g}, bound {bound:g}")

    def say(self, line: str) -> None:
        """Report progress."""
        if self.log is not None:
            self.log(line)


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def round_up(bound: float, problem: PackingProblem) -> float:
    """The smallest sum of prices that is not below a bound (to 1e-6), as far as prices have a unit."""
    unit = price_unit(problem)
    return bound if unit == 0 else float(np.ceil(bound / unit - 1e-6)) * unit


def price_unit(problem: PackingProblem) -> float:
    """Largest number of which all prices are multiples; 0 if there is none."""
    factor = exact_factor(problem.prices)
    if factor is None:
        return 0.0
    ints = np.rint(problem.prices * factor).astype(np.int64)
    return float(np.gcd.reduce(ints)) / factor


class Placer(Protocol):
    """A method: improves the run's packing and bound until it is done."""

    def __call__(self, run: SearchState) -> None:
        """Work on ``run``: offer packings, raise the bound, return when done or out of time."""
        ...
