"""When work is to come to an end: at an instant, after so much work, or when the process is asked to."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from scenarios.errors import LorapackError
from scenarios.stopping.interrupts import interrupted


class Stopped(LorapackError):  # noqa: N818 (no failure: it was asked for)
    """Work was cut short by a time limit or an interruption; whatever it was to prove is not proven."""


@dataclass(eq=False)
class Work:
    """How much was done, counted by those who do it: the same on every run and every machine.

    Parameters
    ----------
    seconds
        Counted seconds: what the work takes on the machine that the rates of the steps were measured on,
        more or less.
    by_clock
        Whether the clock decided where a step came to its end, as with a solver that counts nothing.
    """

    seconds: float = 0.0
    by_clock: bool = False

    def add(self, seconds: float) -> None:
        """Count some more."""
        self.seconds += seconds


@dataclass(frozen=True)
class Deadline:
    """The end of some work.

    A limit that somebody sets is one by the clock, and as many counted seconds besides. The part of it that
    one step gets (`part`) is counted alone: which plan is found then depends on the clock only where the
    whole limit strikes, which the result tells.

    Parameters
    ----------
    at
        `time.monotonic` in seconds; infinite: no limit of time.
    most
        Counted seconds of ``work`` at which it ends.
    work
        What was done so far, for all parts of the same limit.
    """

    at: float = math.inf
    most: float = math.inf
    work: Work = field(default_factory=Work, compare=False)

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """So many seconds from now."""
        return cls(time.monotonic() + seconds, seconds)

    @classmethod
    def of(cls, seconds: float | None) -> Deadline:
        """So many seconds from now; None: no limit of time."""
        return cls() if seconds is None else cls.after(seconds)

    def within(self, seconds: float) -> Deadline:
        """The same end, or so many seconds from now where that is sooner, by the clock as well."""
        return Deadline(min(self.at, time.monotonic() + seconds), self._most(seconds), self.work)

    def part(self, seconds: float) -> Deadline:
        """The same end, or so many counted seconds from now where that is sooner."""
        return Deadline(self.at, self._most(seconds), self.work)

    def no_sooner(self, seconds: float) -> Deadline:
        """The same end, but no sooner than so many seconds from now, by either measure."""
        most = max(self.most, self.work.seconds + seconds)
        return Deadline(max(self.at, time.monotonic() + seconds), most, self.work)

    def _most(self, seconds: float) -> float:
        return min(self.most, self.work.seconds + seconds)

    @property
    def left_s(self) -> float:
        """Counted seconds that are left, at least 0; none after an interruption, or when the time is over."""
        return 0.0 if self.clock_s == 0.0 else max(0.0, self.most - self.work.seconds)

    @property
    def clock_s(self) -> float:
        """Seconds that are left by the clock, at least 0; none after an interruption."""
        return 0.0 if interrupted() else max(0.0, self.at - time.monotonic())

    @property
    def reached(self) -> bool:
        """Whether the work is to end now."""
        return interrupted() or self.work.seconds >= self.most or time.monotonic() >= self.at

    def check(self, work: str) -> None:
        """Go on, unless the end is reached.

        Raises
        ------
        Stopped
            If it is; the message names the work.
        """
        if self.reached:
            why = "interrupted" if interrupted() else "the time limit was reached"
            raise Stopped(f"{why} while {work}")


UNLIMITED = Deadline()
"""No end but an interruption."""
