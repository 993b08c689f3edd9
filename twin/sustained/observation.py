"""How long a GPU is watched: it settles, is measured, and goes on until the last wait is known.

Whether a GPU keeps up does not depend on how long somebody wishes to look: the length follows from the
arrivals alone. Stationary arrivals need as many requests as tell a share of 1 % from one of 2 %; rates that
wander need as long as they take to wander; what repeats is watched in whole periods. A GPU of several
processes is watched as long as the one that needs the longest, in whole periods of the longest period.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

from scenarios import Arrivals, OnOffArrivals, PiecewiseArrivals, RecordedArrivals, UnpredictableArrivals
from twin.workload.recordings import period_of

SLOW_S = 100.0
"""Mean seconds of an on and an off period up to which rates that are switched are watched as long as those
that wander; longer ones are watched for as many periods. Source: `python -m benchmarks.switched_rates`."""

MOST_WANDERS = 3.0
"""How many times as long at most."""


@dataclass(frozen=True)
class Effort:
    """How long to watch.

    Parameters
    ----------
    settle_s
        Seconds from the empty engine to the first request that counts.
    measure_s
        Seconds in which requests count, at least.
    requests
        Requests that are to count at least, where the arrivals are stationary.
    longest_s
        Most seconds for that, and for rates that are switched seldom.
    wander_s
        Seconds in which requests count where rates wander, or are switched often.
    """

    settle_s: float = 1800.0
    measure_s: float = 14_400.0
    requests: int = 2000
    longest_s: float = 86_400.0
    wander_s: float = 28_800.0

    def shortened(self, share: float) -> Effort:
        """A share of it."""
        return replace(
            self,
            settle_s=share * self.settle_s,
            measure_s=share * self.measure_s,
            requests=math.ceil(share * self.requests),
            wander_s=share * self.wander_s,
        )


FULL = Effort()
"""Of a verdict."""

LABEL = Effort(measure_s=5400.0, wander_s=10_800.0)
"""Of a run that regions are learned from."""

SCREEN = Effort(settle_s=900.0, measure_s=3600.0, requests=500, longest_s=14_400.0, wander_s=7200.0)
"""Of a run that tells which of two plans is better."""


@dataclass(frozen=True)
class Observation:
    """What of a run counts.

    Parameters
    ----------
    settle_s, measure_s, tail_s
        Requests count that arrive within ``measure_s`` after ``settle_s``; arrivals go on for ``tail_s``, by
        when it is known of each of them whether it was late.
    period_s
        After how long the arrivals repeat; None if they do not.
    """

    settle_s: float
    measure_s: float
    tail_s: float
    period_s: float | None = None

    @property
    def end_s(self) -> float:
        """When requests cease to count."""
        return self.settle_s + self.measure_s

    @property
    def horizon_s(self) -> float:
        """When the run ends."""
        return self.end_s + self.tail_s

    @property
    def compared(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Two stretches at equal phase, between which growth is measured: start and end of each."""
        length, start = self.measure_s / 4, self.settle_s
        if self.period_s is not None:
            length = max(1.0, length // self.period_s) * self.period_s
            # Of few periods the first stretch is the last one before the measurement, so that two of equal
            # phase are compared even if there is one only.
            start -= length if length > self.measure_s / 4 else 0.0
        return (start, start + length), (self.end_s - length, self.end_s)


def observation_of(
    processes: Iterable[Arrivals], rate: float, patience_s: float, effort: Effort = FULL
) -> Observation:
    """How long to watch a GPU.

    Parameters
    ----------
    processes
        Arrival processes of its adapters, one at least.
    rate
        Requests per second of the GPU.
    patience_s
        How long something may be awaited of its requests: the longest patience, or limit on a latency.

    Raises
    ------
    scenarios.reading.row_files.TraceError
        If a trace's file is missing or damaged.
    """
    processes = tuple(processes)
    settle, measure = effort.settle_s, max(_measured_s(one, rate, effort) for one in processes)
    period = max((length for one in processes if (length := _period_s(one)) is not None), default=None)
    if period is not None:
        settle, measure = (period * math.ceil(seconds / period) for seconds in (settle, measure))
    return Observation(settle, measure, patience_s, period)


def _measured_s(arrivals: Arrivals, rate: float, effort: Effort) -> float:
    """Seconds in which requests of a process count, at least."""
    if isinstance(arrivals, PiecewiseArrivals | RecordedArrivals):
        return effort.measure_s
    if isinstance(arrivals, UnpredictableArrivals):
        return effort.wander_s
    if isinstance(arrivals, OnOffArrivals):
        wanders = min(max(arrivals.cycle_s / SLOW_S, 1.0), MOST_WANDERS)
        return min(effort.wander_s * wanders, effort.longest_s)
    return min(max(effort.measure_s, effort.requests / rate), effort.longest_s)


def _period_s(arrivals: Arrivals) -> float | None:
    """After how long a process repeats; None if it does not."""
    if isinstance(arrivals, PiecewiseArrivals):
        return arrivals.window_s * len(arrivals.factors)
    return period_of(arrivals) if isinstance(arrivals, RecordedArrivals) else None
