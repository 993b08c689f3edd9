"""The requests that count of all runs of a GPU, pooled: who was late, how often, and when."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenarios import AdapterSLO, ServiceLevelObjectives
from twin.engine.requests import FloatArray, IntArray
from twin.load import GPULoad
from twin.sustained.waits import Waits
from twin.violations import LATENCIES

HOUR_S = 3600.0

AWAITED = tuple(c for c in LATENCIES if c.metric in ("ttft", "e2e") and c.statistic != "mean")
"""Limits on times that a request without its first or last token has exceeded once it is as old."""

LONGEST_TAIL_S = 86_400.0
"""Longest time that a run goes on after the last request that counts, in seconds."""

Chosen = slice | NDArray[np.bool_] | NDArray[np.int64]
"""Some of the requests: a mask, or their places."""


@dataclass(frozen=True)
class Pooled:
    """The requests that count of all runs of a GPU.

    Parameters
    ----------
    load
        The adapters.
    levels
        What they must get.
    runs
        What each run told.
    period_s
        After how long the arrivals repeat; None if they do not.
    """

    load: GPULoad
    levels: ServiceLevelObjectives
    runs: Sequence[Waits]
    period_s: float | None

    @cached_property
    def adapter(self) -> IntArray:
        """Adapter of each request, shape (due,)."""
        return np.concatenate([run.adapter for run in self.runs])

    @cached_property
    def wait_s(self) -> FloatArray:
        """Wait of each request, shape (due,)."""
        return np.concatenate([run.wait_s for run in self.runs])

    @cached_property
    def tpot_s(self) -> FloatArray:
        """Time per output token of each request, nan where there is none, shape (due,)."""
        return np.concatenate([run.tpot_s for run in self.runs])

    @cached_property
    def e2e_s(self) -> FloatArray:
        """Time to the last token of each request, shape (due,)."""
        return np.concatenate([run.e2e_s for run in self.runs])

    @cached_property
    def patience_s(self) -> FloatArray:
        """Patience of each adapter's requests, shape (n,)."""
        return patience_of(self.load, self.levels)

    @cached_property
    def impatience(self) -> FloatArray:
        """Wait of each request over its patience: above 1 it is late, shape (due,)."""
        return self.wait_s / self.patience_s[self.adapter]

    @cached_property
    def late(self) -> NDArray[np.bool_]:
        """Which requests are late, shape (due,)."""
        return np.asarray(self.impatience > 1.0)

    @cached_property
    def due_of(self) -> NDArray[np.int64]:
        """Requests of each adapter, shape (n,)."""
        return counted(self.adapter, len(self.load.rank))

    @cached_property
    def late_of(self) -> NDArray[np.int64]:
        """Late requests of each adapter, shape (n,)."""
        return counted(self.adapter[self.late], len(self.load.rank))

    @property
    def seconds(self) -> float:
        """Seconds of measurement in all."""
        return sum(run.seconds for run in self.runs)

    @cached_property
    def late_events(self) -> NDArray[np.int64]:
        """Late requests of each adapter, those whose waits overlap as one, shape (n,)."""
        counts = np.zeros(len(self.load.rank), dtype=np.int64)
        for run, late in zip(self.runs, self._by_run(self.late), strict=True):
            counts += _events(run, late, len(counts))
        return counts

    def quantile(self, chosen: Chosen, share: float) -> float:
        """Impatience that no more than a share of the requests exceed: above 1 where too many are late."""
        values = self.impatience[chosen]
        place = len(values) - 1 - math.floor(share * len(values) + 1e-9)
        return float(np.partition(values, max(place, 0))[max(place, 0)])

    @cached_property
    def nearness(self) -> float:
        """Impatience that no more of all requests exceed than may be late; 0 where there are none."""
        return self.quantile(slice(None), self.levels.late_share) if len(self.impatience) else 0.0

    def hours(self, length_s: float | None = None) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Requests, and late ones, by hour of each run or of the period, both of shape (hours,)."""
        keys, offset = [], 0
        for run in self.runs:
            at = run.arrival_s if length_s is None else run.arrival_s % length_s
            hour = (at / HOUR_S).astype(np.int64)  # ten times as quick as whole-number division
            keys.append(hour + offset)
            if length_s is None:
                offset += math.ceil(run.seconds / HOUR_S)
        key = np.concatenate(keys)
        n = int(key.max(initial=-1)) + 1
        return counted(key, n), counted(key[self.late], n)

    def _by_run(self, values: NDArray[np.bool_]) -> list[NDArray[np.bool_]]:
        return np.split(values, np.cumsum([len(run) for run in self.runs])[:-1])


def counted(key: NDArray[np.signedinteger[Any]], n: int) -> NDArray[np.int64]:
    """How often each of 0 to n − 1 occurs, shape (n,)."""
    return np.bincount(key, minlength=n).astype(np.int64, copy=False)


def grouped(key: NDArray[np.signedinteger[Any]]) -> NDArray[np.int64]:
    """Places of the numbers of a key from 0, in their order, equal ones in that of their places."""
    # NumPy sorts numbers of two bytes in linear time.
    small = key.astype(np.uint16) if len(key) and key.max() < 2**16 else key
    return np.argsort(small, kind="stable")


def patience_of(load: GPULoad, levels: ServiceLevelObjectives) -> FloatArray:
    """Patience of each adapter's requests in seconds, shape (n,)."""
    own = [None if level is None else level.patience_s for level in load.levels] or [None] * len(load.rank)
    return np.array([levels.patience_s if value is None else value for value in own])


def longest_awaited_s(load: GPULoad, levels: ServiceLevelObjectives) -> float:
    """Seconds after its arrival by when all is known of a request that patience and percentiles ask for.

    What is not done by the end of a run is above a limit only if it has been there for longer than that.
    """
    held: list[ServiceLevelObjectives | AdapterSLO] = [levels, *(one for one in set(load.levels) if one)]
    limits = [limit for one in held for code in AWAITED if (limit := code.limit_ms(one)) is not None]
    longest = max([float(patience_of(load, levels).max()), *(limit / 1e3 for limit in limits)])
    return min(longest, LONGEST_TAIL_S)


def _events(run: Waits, late: NDArray[np.bool_], n: int) -> NDArray[np.int64]:
    """Late requests of each adapter, those whose waits overlap as one: a stuck slot makes several late."""
    adapter, start, wait = run.adapter[late], run.arrival_s[late], run.wait_s[late]
    order = grouped(adapter)  # requests come in the order of their arrival
    adapter, start, wait = adapter[order], start[order], wait[order]
    if not len(adapter):
        return np.zeros(n, dtype=np.int64)
    apart = float((start + wait).max()) + 1.0
    start = start + adapter * apart
    # Laid end to end, so that no adapter's waits reach into the next one's.
    reached = np.maximum.accumulate(start + wait)
    new = np.append(True, start[1:] > reached[:-1])
    return counted(adapter[new], n)
