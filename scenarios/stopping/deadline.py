"""When work is to come to an end: at an instant, or when the process is asked to."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass

from scenarios.errors import LorapackError
from scenarios.stopping.interrupts import interrupted


class Stopped(LorapackError):  # noqa: N818 (no failure: it was asked for)
    """Work was cut short by a time limit or an interruption; whatever it was to prove is not proven."""


@dataclass(frozen=True)
class Deadline:
    """The end of some work.

    Parameters
    ----------
    at
        `time.monotonic` in seconds; infinite: no limit of time.
    """

    at: float = math.inf

    @classmethod
    def after(cls, seconds: float) -> Deadline:
        """So many seconds from now."""
        return cls(time.monotonic() + seconds)

    @classmethod
    def of(cls, seconds: float | None) -> Deadline:
        """So many seconds from now; None: no limit of time."""
        return cls() if seconds is None else cls.after(seconds)

    def within(self, seconds: float) -> Deadline:
        """The same end, or so many seconds from now where that is sooner."""
        return Deadline(min(self.at, time.monotonic() + seconds))

    @property
    def left_s(self) -> float:
        """Seconds that are left, at least 0; none after an interruption."""
        return 0.0 if interrupted() else max(0.0, self.at - time.monotonic())

    @property
    def reached(self) -> bool:
        """Whether the work is to end now."""
        return interrupted() or time.monotonic() >= self.at

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
