"""How far from steady the load of an adapter is: by what its peaks are higher than its mean.

A GPU keeps up where mean + k · √variance of its load, over a time as long as requests may wait, stays below
what it can do. Variances of independent adapters add up, so they can be a sum over adapters. What peaks
together does not: there standard deviations add up, and one adapter counts by the tangent at a GPU's.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from scenarios import (
    Acceptance,
    Arrivals,
    DeterministicArrivals,
    GammaArrivals,
    PiecewiseArrivals,
    PoissonArrivals,
    TraceArrivals,
    UnpredictableArrivals,
    WeibullArrivals,
)
from twin.workload.trace_files import read_trace
from twin.workload.walks import stationary_law

STEADY = (PoissonArrivals, GammaArrivals, WeibullArrivals, DeterministicArrivals)
"""Arrivals whose rates do not change, so that any part of a run is like the whole."""

RENEWALS = (GammaArrivals, WeibullArrivals)
"""Arrivals of independent gaps that have a coefficient of variation."""

GPU_DEVIATION = 1000.0
"""Standard deviation, in output tokens per second, of the load of a GPU whose adapters peak together. The row
weighs it; it only says how such adapters weigh against independent ones."""

TRACE_WINDOWS = 20
"""Parts of a trace whose rates are compared."""


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
    if isinstance(arrivals, UnpredictableArrivals):
        return Unsteadiness(rate_wander(acceptance, arrivals))
    if isinstance(arrivals, PiecewiseArrivals):
        factors = np.array(arrivals.factors)
        together = _together(float(factors.std() / factors.mean()), output_tokens)
        return Unsteadiness(bursts=together + _bursts(arrivals.cv, wait_s))
    if isinstance(arrivals, TraceArrivals):
        return Unsteadiness(bursts=_together(_trace_deviation(arrivals.file), output_tokens))
    return Unsteadiness()


def _bursts(cv: float, wait_s: float) -> float:
    return max(cv**2 - 1.0, 0.0) / wait_s


def _together(deviation: float, output_tokens: float) -> float:
    """Bursts that stand for a standard deviation, over the mean, of adapters that peak together.

    The tangent of √variance at ``GPU_DEVIATION`` is variance / (2 · GPU_DEVIATION) and a constant, so that a
    deviation d counts as a variance of 2 · GPU_DEVIATION · d.
    """
    return 2.0 * GPU_DEVIATION * deviation / output_tokens


def _trace_deviation(file: str) -> float:
    """Standard deviation of a trace's rate over its mean, between parts of it, beyond chance."""
    trace = read_trace(file)
    edges = np.linspace(0.0, trace.period_s, TRACE_WINDOWS + 1)
    counts = np.histogram(trace.arrival_s, edges)[0]
    mean = float(counts.mean())
    return math.sqrt(max(float(counts.var()) - mean, 0.0)) / mean
