"""Who is late: all requests of a GPU, those of a class, of one adapter, or of an hour of a period."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtrc, stdtrit

from twin.engine.requests import FloatArray, IntArray
from twin.sustained.pooled import Pooled, counted, grouped
from twin.violations import AdapterFigure, Criterion, Violation

ENOUGH_DUE = 300
"""Requests from which on the share of late ones of a class, or of an hour, is held against the limit."""

HOUR_FACTOR = 5.0
"""How many times the share of all requests may be late in one hour of a period."""

SURENESS = 0.001
"""Probability with which chance alone may have an adapter of the GPU judged late."""

CONFIDENCE = 0.95
"""Of the interval of the late share."""


@dataclass(frozen=True)
class LateShare:
    """The share of all requests that are late, and what it is held against."""

    share: float
    limit: float
    interval: tuple[float, float]
    patience_s: float

    def violations(self) -> Iterator[Violation]:
        if self.share > self.limit:
            yield Violation(
                code=Criterion.LATE_SHARE, value=self.share, limit=self.limit, patience_s=self.patience_s
            )


def late_share(pooled: Pooled) -> LateShare:
    due, late = len(pooled.late), int(pooled.late.sum())
    share = late / due if due else 0.0
    return LateShare(share, pooled.levels.late_share, _interval(pooled, share), pooled.levels.patience_s)


def _interval(pooled: Pooled, share: float) -> tuple[float, float]:
    """Confidence interval of the late share from its hours: a ratio of sums over them.

    Source: Cochran, Sampling Techniques, 1977, chapter 6.
    """
    due, late = pooled.hours()
    hours = len(due)
    if hours < 2 or not due.sum():
        return 0.0, 1.0
    spread = math.sqrt(float(((late - share * due) ** 2).sum()) / (hours - 1) / hours)
    half = float(stdtrit(hours - 1, (1 + CONFIDENCE) / 2)) * spread / float(due.mean())
    return max(share - half, 0.0), min(share + half, 1.0)


@dataclass(frozen=True)
class JudgedClass:
    """Adapters of the GPU that are exchangeable, and how late their requests are."""

    adapters: IntArray
    due: int
    late: int
    impatience: float

    @property
    def share(self) -> float:
        return self.late / self.due


def judged_classes(pooled: Pooled) -> Iterator[JudgedClass]:
    """The classes of the GPU with enough requests, those of one adapter too."""
    kind = pooled.load.kind_of()
    n = int(kind.max()) + 1
    due, late = (np.bincount(kind, counts, n).astype(np.int64) for counts in (pooled.due_of, pooled.late_of))
    if n == 1 and due[0] >= ENOUGH_DUE:
        yield JudgedClass(np.arange(len(kind), dtype=np.int32), int(due[0]), int(late[0]), pooled.nearness)
        return
    of_request = kind[pooled.adapter]
    order = grouped(of_request)
    ends = np.cumsum(due)
    for k in np.flatnonzero(due >= ENOUGH_DUE):
        members = order[ends[k] - due[k] : ends[k]]
        impatience = pooled.quantile(members, pooled.levels.late_share)
        adapters = np.flatnonzero(kind == k).astype(np.int32)
        yield JudgedClass(adapters, int(due[k]), int(late[k]), impatience)


def late_classes(pooled: Pooled, classes: Sequence[JudgedClass]) -> Iterator[Violation]:
    limit = pooled.levels.late_share
    late = sorted((one for one in classes if one.share > limit), key=lambda one: -one.share)
    # A class that is all of the GPU is told already.
    late = [one for one in late if len(one.adapters) < len(pooled.load.names)]
    if late:
        yield Violation(
            code=Criterion.CLASS_LATE_SHARE,
            value=late[0].share,
            limit=limit,
            patience_s=float(pooled.patience_s[late[0].adapters[0]]),
            adapters=tuple(
                AdapterFigure(name=pooled.load.names[k], value=one.share, limit=limit)
                for one in late
                for k in one.adapters
            ),
        )


def chance_of(pooled: Pooled) -> FloatArray:
    """Probability that so many requests of each adapter are late by chance, shape (n,); 1 where none is."""
    return _chance(pooled, pooled.late_events)


def _chance(pooled: Pooled, events: NDArray[np.int64]) -> FloatArray:
    """Probability of so many of each adapter's requests, if each is one with the probability to be late."""
    chance = np.ones(len(events))
    some = events > 0
    chance[some] = bdtrc(events[some] - 1, pooled.due_of[some], pooled.levels.late_share)
    return chance


def first_to_suffer(pooled: Pooled, classes: Sequence[JudgedClass]) -> int | None:
    """The adapter that is rejected first if all waits grow in proportion; None where nothing was due.

    The class, or the whole GPU, that is nearest to its limit says by how much they may grow. An adapter of
    which more requests would be late by then than chance explains comes before; else it is the one of that
    class of which chance explains the least.
    """
    if not len(pooled.impatience):
        return None
    worst = max(classes, key=lambda one: one.impatience, default=None)
    limit = max(pooled.nearness, 0.0 if worst is None else worst.impatience)
    chance = _chance(pooled, counted(pooled.adapter[pooled.impatience > limit], len(pooled.due_of)))
    first = int(chance.argmin())
    if worst is None or worst.impatience < limit or chance[first] < SURENESS / len(chance):
        return first
    return int(worst.adapters[chance[worst.adapters].argmin()])


def late_adapters(pooled: Pooled) -> Iterator[Violation]:
    limit, names = pooled.levels.late_share, pooled.load.names
    chance = chance_of(pooled)
    late = [k for k in np.argsort(chance, kind="stable") if chance[k] < SURENESS / len(names)]
    if late:
        shares = pooled.late_of / np.maximum(pooled.due_of, 1)
        yield Violation(
            code=Criterion.ADAPTER_LATE_SHARE,
            value=float(shares[late[0]]),
            limit=limit,
            patience_s=float(pooled.patience_s[late[0]]),
            adapters=tuple(AdapterFigure(name=names[k], value=float(shares[k]), limit=limit) for k in late),
        )


def late_hours(pooled: Pooled) -> Iterator[Violation]:
    """No hour of a period is sacrificed to the mean."""
    if pooled.period_s is None:
        return
    due, late = pooled.hours(pooled.period_s)
    limit = HOUR_FACTOR * pooled.levels.late_share
    share = np.divide(late, due, out=np.zeros(len(due)), where=due >= ENOUGH_DUE)
    worst = int(share.argmax()) if len(share) else 0
    if len(share) and share[worst] > limit:
        yield Violation(
            code=Criterion.HOUR_LATE_SHARE,
            value=float(share[worst]),
            limit=limit,
            patience_s=pooled.levels.patience_s,
            hour=worst,
        )
