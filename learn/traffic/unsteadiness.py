"""How far from steady the load of an adapter is: by what its peaks are higher than its mean.

A GPU keeps up where mean + k · √variance of its load, over a time as long as requests may wait, stays below
what it can do. Variances of independent adapters add up, so they can be a sum over adapters. What peaks
together does not: there standard deviations add up, and one adapter counts by the tangent at a GPU's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from scenarios import (
    Acceptance,
    Arrivals,
    ClosedLoopArrivals,
    DeterministicArrivals,
    GammaArrivals,
    HyperexponentialArrivals,
    OnOffArrivals,
    PiecewiseArrivals,
    PoissonArrivals,
    RecordedArrivals,
    UnpredictableArrivals,
    WeibullArrivals,
)
from twin.workload.recordings import period_of, replay_recorded
from twin.workload.walks import stationary_law

STEADY = (
    PoissonArrivals,
    GammaArrivals,
    WeibullArrivals,
    HyperexponentialArrivals,
    DeterministicArrivals,
    ClosedLoopArrivals,
)
"""Arrivals whose rates do not change, so that any part of a run is like the whole."""

RENEWALS = (GammaArrivals, WeibullArrivals, HyperexponentialArrivals)
"""Arrivals of independent gaps that have a coefficient of variation."""

SLOW_S = 600.0
"""Mean seconds of an on and an off period from which on adapters meet their peaks in days, not in hours."""

GPU_DEVIATION = 1000.0
"""Standard deviation, in output tokens per second, of the load of a GPU whose adapters peak together. The row
weighs it; it only says how such adapters weigh against independent ones."""

RECORDED_WINDOWS, REQUESTS_PER_WINDOW = 20, 1000
"""Parts of a recording whose rates are compared, and how many requests each has on average."""


@dataclass(frozen=True)
class Unsteadiness:
    """Variance of an adapter's load: wander · rate² + bursts · rate, in units of its answers' tokens.

    Parameters
    ----------
    wander
        Variance of the rate over the square of its mean.
    bursts
        Variance of the requests per second over their mean, beyond that of Poisson arrivals, in 1/s.
    """

    wander: float = 0.0
    bursts: float = 0.0

    @classmethod
    def of_workload(cls, acceptance: Acceptance, arrivals: Arrivals) -> Unsteadiness:
        """That of arrivals which all adapters share, where nothing but walks tells one from another."""
        return cls(rate_wander(acceptance, arrivals))


def is_steady(arrivals: Arrivals) -> bool:
    """Whether rates do not change in the course of time, so that any part of a run is like the whole."""
    return isinstance(arrivals, STEADY)


def rate_wander(acceptance: Acceptance, arrivals: Arrivals) -> float:
    """Variance of an adapter's rate over the square of its mean; 0 unless rates wander.

    Under *paper*, walks begin at their rates and are short.
    """
    if acceptance == "paper" or not isinstance(arrivals, UnpredictableArrivals):
        return 0.0
    factors, probability = stationary_law(arrivals.factor, arrivals.limit)
    mean = float(factors @ probability)
    return float((factors / mean - 1.0) ** 2 @ probability)


def slow_wander(acceptance: Acceptance, arrivals: Arrivals) -> float:
    """The same, where rates change so slowly that only long runs meet the peaks; 0 elsewhere."""
    if isinstance(arrivals, OnOffArrivals):
        slow = acceptance == "sustained" and arrivals.cycle_s >= SLOW_S
        return arrivals.off_s / arrivals.on_s if slow else 0.0
    return rate_wander(acceptance, arrivals)


def rises_together(arrivals: Arrivals) -> bool:
    """Whether adapters rise and fall together, so that more of them even nothing out."""
    group = arrivals.group if isinstance(arrivals, OnOffArrivals | UnpredictableArrivals) else None
    return group is not None or isinstance(arrivals, PiecewiseArrivals | RecordedArrivals)


def unsteadiness(
    acceptance: Acceptance, arrivals: Arrivals, wait_s: float, output_tokens: float
) -> Unsteadiness:
    """How far from steady an arrival process of some adapters' own is.

    Parameters
    ----------
    acceptance
        The criterion.
    arrivals
        The process.
    wait_s
        Seconds over which peaks are evened out, as requests may wait as long.
    output_tokens
        Mean tokens of an answer.
    """
    if isinstance(arrivals, RENEWALS):
        # Of n gaps that vary by cv, n has a variance of cv² times its mean in a long time (Cox, Renewal
        # Theory, 1962, chapter 3).
        return Unsteadiness(bursts=_bursts(arrivals.cv, wait_s))
    variance, cv = 0.0, 1.0
    if isinstance(arrivals, UnpredictableArrivals):
        variance = rate_wander(acceptance, arrivals)
    elif isinstance(arrivals, OnOffArrivals):
        variance, cv = _switched(arrivals, wait_s), arrivals.cv
    elif isinstance(arrivals, PiecewiseArrivals):
        factors, cv = np.array(arrivals.factors), arrivals.cv
        variance = float((factors / factors.mean()).var())
    elif isinstance(arrivals, RecordedArrivals):
        variance = _of_recording(arrivals)
    if not rises_together(arrivals):
        return Unsteadiness(variance, _bursts(cv, wait_s))
    # The tangent of √variance at a GPU's deviation d is variance / 2d and a constant, so that the deviation
    # of one adapter counts as a variance of 2d times it.
    together = 2.0 * GPU_DEVIATION * math.sqrt(variance) / output_tokens
    return Unsteadiness(bursts=together + _bursts(cv, wait_s))


def _bursts(cv: float, wait_s: float) -> float:
    return max(cv**2 - 1.0, 0.0) / wait_s


def _switched(arrivals: OnOffArrivals, wait_s: float) -> float:
    """Variance, over the square of the mean, of a switched rate that is averaged over a time.

    The rate itself has off / on. What is on or off is forgotten at the rate 1 / on + 1 / off, so that of a
    mean over x such times the mean of e^(-|s - t|) is left, s and t in them: 2 (x - 1 + e^(-x)) / x².
    """
    x = wait_s * (1.0 / arrivals.on_s + 1.0 / arrivals.off_s)
    evened = 2.0 * (x + math.expm1(-x)) / x**2 if x > 1e-3 else 1.0
    return arrivals.off_s / arrivals.on_s * evened


@lru_cache(maxsize=64)
def _of_recording(arrivals: RecordedArrivals) -> float:
    """Variance of a recording's rate over the square of its mean, between parts of it, beyond chance."""
    period, number = period_of(arrivals), RECORDED_WINDOWS * REQUESTS_PER_WINDOW
    rate, rng = np.array([number / period]), np.random.default_rng(0)
    played = replay_recorded(arrivals, rate, None, period, rng, sustained=True)
    counts = np.histogram(played.arrival_s, np.linspace(0.0, period, RECORDED_WINDOWS + 1))[0]
    mean = float(counts.mean())
    return max(float(counts.var()) - mean, 0.0) / mean**2
