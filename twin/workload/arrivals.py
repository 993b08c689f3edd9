"""Requests of one GPU, drawn from the arrival process of a workload."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from scenarios import (
    Arrivals,
    DeterministicArrivals,
    GammaArrivals,
    Lengths,
    LorapackError,
    PiecewiseArrivals,
    PoissonArrivals,
    RecordedArrivals,
    UnpredictableArrivals,
    WeibullArrivals,
    Workload,
)
from twin.engine.bulk_copy import order_instants
from twin.engine.requests import FloatArray, IntArray, Requests
from twin.load import GPULoad
from twin.workload.gaps import DeterministicGaps, ExponentialGaps, GammaGaps, Gaps, LognormalGaps, WeibullGaps
from twin.workload.lengths import draw_lengths, first_lengths
from twin.workload.recordings import recorded_names, replay_recorded
from twin.workload.traces import child_seed
from twin.workload.walks import rate_walk, stationary_walk

MAX_REQUESTS = 100_000_000
"""Most requests of one GPU that are drawn; more would not fit in memory."""

_MAX_WALK_STEPS = 20_000_000


class WorkloadError(LorapackError, ValueError):
    """A workload cannot be drawn: too many requests or rate changes."""


def draw_requests(
    load: GPULoad,
    workload: Workload,
    seed: np.random.SeedSequence | int,
    duration_s: float | None = None,
    *,
    sustained: bool = False,
) -> Requests:
    """Draw the requests that the adapters of one GPU get.

    Every process is stationary where its rate is: the time to an adapter's first request follows the
    residual of a gap, so that each adapter's expected number of requests is its rate times the duration
    whatever the variation of its gaps.

    Parameters
    ----------
    load
        The GPU's adapters.
    workload
        Arrival process and duration.
    seed
        Source of all randomness; the same seed gives the same requests.
    duration_s
        Seconds to draw; absent: the workload's.
    sustained
        Whether rates that walk begin in their stationary law with the adapter's rate as their mean, and a
        trace keeps its clock; else the walk begins at the adapter's rate, as published, and a trace is
        stretched to the adapters' total rate.

    Raises
    ------
    WorkloadError
        If the workload has too many requests or rate changes to hold in memory.
    twin.workload.trace_rows.TraceError
        If the trace's file is missing or damaged.
    """
    duration = workload.duration_s if duration_s is None else duration_s
    _check_size(load, duration)
    seeds = tuple(child_seed(seed, child) for child in range(3))
    if isinstance(workload.arrivals, RecordedArrivals):
        return _replayed(load, workload.arrivals, duration, seeds, sustained=sustained)
    arrival_seed, prompt_seed, output_seed = seeds
    rng = np.random.default_rng(arrival_seed)
    adapter, arrival = _arrivals(workload.arrivals, load.rate, duration, rng, sustained=sustained)
    order = _order(arrival)
    adapter = adapter[order]
    return Requests(
        arrival_s=arrival[order],
        prompt_tokens=_lengths(load.prompt, adapter, prompt_seed),
        output_tokens=_lengths(load.output, adapter, output_seed),
        adapter=adapter,
        n_adapters=len(load.names),
    )


def _order(instants: FloatArray) -> NDArray[np.int64]:
    """Stable order of instants."""
    # Buckets save the logarithm of a sort where arrivals are spread evenly; bursts are left to NumPy.
    n, top = len(instants), float(instants.max(initial=0.0))
    order, bucket = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int32)
    if top > 0 and order_instants(instants, top, bucket, np.zeros(n + 1, dtype=np.int32), order):
        return order
    return np.argsort(instants, kind="stable")


def _check_size(load: GPULoad, duration: float) -> None:
    expected = float(load.rate.sum()) * duration
    if expected > MAX_REQUESTS:
        raise WorkloadError(
            f"workload: {expected:,.0f} requests in {duration:g} s on one GPU are above the limit of "
            f"{MAX_REQUESTS:,}; shorten workload.duration_s or lower the adapters' rates"
        )


def _lengths(per_adapter: tuple[Lengths, ...], adapter: IntArray, seed: np.random.SeedSequence) -> IntArray:
    """Tokens of each request, from the distribution of its adapter."""
    # By value: equal scenarios must draw equal requests, however many objects hold equal lengths.
    kinds: dict[Lengths, int] = {}
    kind_of = np.array([kinds.setdefault(lengths, len(kinds)) for lengths in per_adapter])
    if len(kinds) == 1:
        return first_lengths(per_adapter[0], len(adapter), seed)
    rng = np.random.default_rng(seed)
    tokens = np.empty(len(adapter), dtype=np.int32)
    kind = kind_of[adapter]
    order = np.argsort(kind, kind="stable")
    edges = np.searchsorted(kind[order], np.arange(len(kinds) + 1))
    for lengths, index in kinds.items():
        members = order[edges[index] : edges[index + 1]]
        if len(members):
            tokens[members] = draw_lengths(lengths, len(members), rng)
    return tokens


def _arrivals(
    arrivals: Arrivals, rate: FloatArray, duration: float, rng: np.random.Generator, *, sustained: bool
) -> tuple[IntArray, FloatArray]:
    """Adapter and instant of each request, in no particular order.

    Each adapter's requests are a renewal process with mean gap 1 in *operational time*, the integral of
    its rate; where the rate changes, operational time is mapped back piecewise linearly.
    """
    gaps = _gaps(arrivals)
    if isinstance(arrivals, PiecewiseArrivals):
        knots, factors = _windows(arrivals, duration)
        cumulative = np.concatenate(([0.0], np.cumsum(factors * np.diff(knots))))
        adapter, operational = gaps.draw(rate * cumulative[-1], rng)
        return adapter, np.interp(operational / rate[adapter], cumulative, knots)
    if isinstance(arrivals, UnpredictableArrivals):
        return _walked(arrivals, gaps, rate, duration, rng, sustained=sustained)
    adapter, operational = gaps.draw(rate * duration, rng)
    return adapter, operational / rate[adapter]


def _gaps(arrivals: Arrivals) -> Gaps:
    match arrivals:
        case GammaArrivals() | PiecewiseArrivals():
            return ExponentialGaps() if arrivals.cv == 1 else GammaGaps(arrivals.cv)
        case WeibullArrivals():
            return ExponentialGaps() if arrivals.cv == 1 else WeibullGaps(arrivals.cv)
        case DeterministicArrivals():
            return DeterministicGaps()
        case UnpredictableArrivals(gaps="lognormal"):
            return LognormalGaps()
        case PoissonArrivals() | UnpredictableArrivals() | RecordedArrivals():
            return ExponentialGaps()


def _windows(arrivals: PiecewiseArrivals, duration: float) -> tuple[FloatArray, FloatArray]:
    """Instants at which a window begins or the workload ends, and the factor of each window."""
    knots = _knots(arrivals.window_s, duration, 1)
    factors = np.asarray(arrivals.factors, dtype=np.float64)
    return knots, factors[np.arange(len(knots) - 1) % len(factors)]


def _knots(every_s: float, duration: float, n_adapters: int) -> FloatArray:
    n_windows = max(1, math.ceil(duration / every_s - 1e-9))
    if n_windows * n_adapters > _MAX_WALK_STEPS:
        raise WorkloadError(
            f"workload.arrivals: {n_windows:,} windows of {every_s:g} s for {n_adapters:,} adapters are too "
            "many; make the windows longer or the workload shorter"
        )
    return np.append(np.arange(n_windows) * every_s, duration)


def _walked(
    arrivals: UnpredictableArrivals,
    gaps: Gaps,
    rate: FloatArray,
    duration: float,
    rng: np.random.Generator,
    *,
    sustained: bool,
) -> tuple[IntArray, FloatArray]:
    """Arrivals at rates that walk, each adapter on its own (arXiv 2602.24044, unpredictable workloads)."""
    knots = _knots(arrivals.every_s, duration, len(rate))
    walk = stationary_walk if sustained else rate_walk
    factors = walk(arrivals, len(rate), len(knots) - 1, rng)
    cumulative = np.zeros((len(rate), len(knots)))
    np.cumsum(rate[:, None] * factors * np.diff(knots), axis=1, out=cumulative[:, 1:])
    adapter, operational = gaps.draw(cumulative[:, -1], rng)
    # One search for all adapters: their operational times are laid end to end.
    start = np.concatenate(([0.0], np.cumsum(cumulative[:-1, -1])))
    x = (cumulative + start[:, None]).ravel()
    segment = np.searchsorted(x, operational + start[adapter], side="right") - 1
    # Rounding may put an event a hair beyond the ends of its adapter's stretch.
    window = np.clip(segment - adapter * len(knots), 0, len(knots) - 2)
    elapsed = (operational - cumulative[adapter, window]) / (rate[adapter] * factors[adapter, window])
    return adapter, np.clip(knots[window] + elapsed, 0.0, np.nextafter(duration, 0.0))


def _replayed(
    load: GPULoad,
    arrivals: RecordedArrivals,
    duration: float,
    seeds: tuple[np.random.SeedSequence, ...],
    *,
    sustained: bool,
) -> Requests:
    """A recording at the adapters' rates."""
    arrival_seed, prompt_seed, output_seed = seeds
    rng = np.random.default_rng(arrival_seed)
    names = recorded_names(arrivals, load.arrivals, load.names)
    replay = replay_recorded(arrivals, load.rate, names, duration, rng, sustained=sustained)
    prompt, output = replay.prompt_tokens, replay.output_tokens
    return Requests(
        arrival_s=replay.arrival_s,
        prompt_tokens=_lengths(load.prompt, replay.adapter, prompt_seed) if prompt is None else prompt,
        output_tokens=_lengths(load.output, replay.adapter, output_seed) if output is None else output,
        adapter=replay.adapter,
        n_adapters=len(load.names),
        continues=replay.continues,
        common_tokens=replay.common_tokens,
    )
