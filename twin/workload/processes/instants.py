"""When the requests of adapters arrive, each by its own rate and all by one process."""

from __future__ import annotations

import math

import numpy as np

from scenarios import (
    Arrivals,
    ClosedLoopArrivals,
    DeterministicArrivals,
    GammaArrivals,
    HyperexponentialArrivals,
    LorapackError,
    OnOffArrivals,
    PiecewiseArrivals,
    PoissonArrivals,
    RecordedArrivals,
    UnpredictableArrivals,
    WeibullArrivals,
)
from twin.engine.requests import FloatArray, IntArray
from twin.workload.gaps import (
    DeterministicGaps,
    ExponentialGaps,
    Gaps,
    HyperexponentialGaps,
    LognormalGaps,
    gaps_of,
)
from twin.workload.processes.switches import on_periods
from twin.workload.walks import rate_walk, stationary_walk

MAX_CHANGES = 20_000_000
"""Most changes of rates of one GPU that are drawn; more would not fit in memory."""


class WorkloadError(LorapackError, ValueError):
    """A workload cannot be drawn: too many requests or rate changes."""


def draw_instants(
    arrivals: Arrivals,
    rate: FloatArray,
    duration: float,
    rng: np.random.Generator,
    *,
    together: np.random.Generator | None = None,
    sustained: bool = False,
) -> tuple[IntArray, FloatArray]:
    """Adapter and instant of each request, in no particular order.

    Each adapter's requests are a renewal process with mean gap 1 in *operational time*, the integral of
    its rate; where the rate changes, operational time is mapped back piecewise linearly.

    Parameters
    ----------
    arrivals
        The process.
    rate
        Requests per second of each adapter, shape (n,).
    duration
        Seconds to draw.
    rng
        Source of randomness.
    together
        Source of the changes of rates that all adapters have in common; None: each has its own.
    sustained
        Whether rates that walk begin in their stationary law, as in `draw_requests`.

    Raises
    ------
    WorkloadError
        If there are too many changes of rates to hold in memory.
    """
    gaps = _gaps(arrivals)
    if isinstance(arrivals, PiecewiseArrivals):
        knots, factors = _windows(arrivals, duration)
        cumulative = np.concatenate(([0.0], np.cumsum(factors * np.diff(knots))))
        adapter, operational = gaps.draw(rate * cumulative[-1], rng)
        return adapter, np.interp(operational / rate[adapter], cumulative, knots)
    if isinstance(arrivals, UnpredictableArrivals):
        return _walked(arrivals, gaps, rate, duration, rng, together, sustained=sustained)
    if isinstance(arrivals, OnOffArrivals):
        return _switched(arrivals, gaps, rate, duration, rng, together)
    adapter, operational = gaps.draw(rate * duration, rng)
    return adapter, operational / rate[adapter]


def _gaps(arrivals: Arrivals) -> Gaps:
    match arrivals:
        case GammaArrivals() | PiecewiseArrivals() | OnOffArrivals():
            return gaps_of(arrivals.cv)
        case WeibullArrivals():
            return gaps_of(arrivals.cv, weibull=True)
        case HyperexponentialArrivals():
            return HyperexponentialGaps(arrivals.cv)
        case DeterministicArrivals():
            return DeterministicGaps()
        case UnpredictableArrivals(gaps="lognormal"):
            return LognormalGaps()
        case PoissonArrivals() | UnpredictableArrivals() | RecordedArrivals() | ClosedLoopArrivals():
            return ExponentialGaps()


def _windows(arrivals: PiecewiseArrivals, duration: float) -> tuple[FloatArray, FloatArray]:
    """Instants at which a window begins or the workload ends, and the factor of each window."""
    knots = _knots(arrivals.window_s, duration, 1)
    factors = np.asarray(arrivals.factors, dtype=np.float64)
    return knots, factors[np.arange(len(knots) - 1) % len(factors)]


def _knots(every_s: float, duration: float, n_walks: int) -> FloatArray:
    n_windows = max(1, math.ceil(duration / every_s - 1e-9))
    if n_windows * n_walks > MAX_CHANGES:
        raise WorkloadError(
            f"arrivals: {n_windows:,} windows of {every_s:g} s for {n_walks:,} adapters are too "
            "many; make the windows longer or the workload shorter"
        )
    return np.append(np.arange(n_windows) * every_s, duration)


def _walked(
    arrivals: UnpredictableArrivals,
    gaps: Gaps,
    rate: FloatArray,
    duration: float,
    rng: np.random.Generator,
    together: np.random.Generator | None,
    *,
    sustained: bool,
) -> tuple[IntArray, FloatArray]:
    """Arrivals at rates that walk (arXiv 2602.24044, unpredictable workloads)."""
    knots = _knots(arrivals.every_s, duration, len(rate))
    walk = stationary_walk if sustained else rate_walk
    walks = len(rate) if together is None else 1
    factors = walk(arrivals, walks, len(knots) - 1, rng if together is None else together)
    factors = np.broadcast_to(factors, (len(rate), len(knots) - 1))
    cumulative = np.zeros((len(rate), len(knots)))
    np.cumsum(rate[:, None] * factors * np.diff(knots), axis=1, out=cumulative[:, 1:])
    adapter, operational = gaps.draw(cumulative[:, -1], rng)
    window = _segment(cumulative, adapter, operational)
    elapsed = (operational - cumulative[adapter, window]) / (rate[adapter] * factors[adapter, window])
    return adapter, np.clip(knots[window] + elapsed, 0.0, np.nextafter(duration, 0.0))


def _switched(
    arrivals: OnOffArrivals,
    gaps: Gaps,
    rate: FloatArray,
    duration: float,
    rng: np.random.Generator,
    together: np.random.Generator | None,
) -> tuple[IntArray, FloatArray]:
    """Arrivals at rates that are switched on and off."""
    rows = len(rate) if together is None else 1
    if rows * duration / arrivals.cycle_s > MAX_CHANGES:
        raise WorkloadError(
            f"arrivals: {duration:g} s have too many changes for {rows:,} adapters that are switched on "
            f"every {arrivals.cycle_s:g} s; make on_s and off_s longer or the workload shorter"
        )
    starts, ends = on_periods(arrivals, rows, duration, rng if together is None else together)
    on = np.zeros((rows, starts.shape[1] + 1))
    np.cumsum(ends - starts, axis=1, out=on[:, 1:])
    while_on = rate * (arrivals.cycle_s / arrivals.on_s)
    adapter, operational = gaps.draw(while_on * on[:, -1], rng)
    row = adapter if together is None else np.zeros_like(adapter)
    at = operational / while_on[adapter]
    period = _segment(on, row, at)
    instant = starts[row, period] + (at - on[row, period])
    return adapter, np.clip(instant, 0.0, np.nextafter(duration, 0.0))


def _segment(cumulative: FloatArray, row: IntArray, value: FloatArray) -> IntArray:
    """The segment of its row into which each value falls; rows ascend from 0."""
    # One search for all rows, which are laid end to end.
    start = np.concatenate(([0.0], np.cumsum(cumulative[:-1, -1])))
    segment = np.searchsorted((cumulative + start[:, None]).ravel(), value + start[row], side="right") - 1
    # Rounding may put a value a hair beyond the ends of its row.
    width = cumulative.shape[1]
    within: IntArray = np.clip(segment - row * width, 0, width - 2).astype(np.int32)
    return within
