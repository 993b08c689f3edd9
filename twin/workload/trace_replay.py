"""Traces played again: stretched, thinned, copied and repeated, each request for an adapter."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from scenarios.reading.row_files import TraceError
from twin.engine.requests import FloatArray, IntArray
from twin.workload.traces import Rows, Trace, deal_by_weight, deal_within, lacking

COPY_SHIFT_S = 600.0
"""Most seconds by which copies of a trace that are laid over each other lie apart: far less than a peak."""

_SAME_RATE = 1e-9
"""Ratio of rates within which they are one, so that a trace at its own rates is played whole."""


class Replay(NamedTuple):
    """Requests of a trace, played again.

    Parameters
    ----------
    arrival_s
        Seconds from the start, ascending, shape (n,).
    row
        Which request of the trace each is, shape (n,).
    take
        Which repetition and copy of the trace each is of, shape (n,): those of two have no text in common.
    adapter
        Index of each request's adapter, shape (n,).
    """

    arrival_s: FloatArray
    row: Rows
    take: Rows
    adapter: IntArray


class _Clocked(NamedTuple):
    """A `Replay` whose requests are for no adapter yet."""

    arrival_s: FloatArray
    row: Rows
    take: Rows


def replay_trace(
    trace: Trace,
    rate: FloatArray,
    names: tuple[str, ...] | None,
    duration_s: float,
    rng: np.random.Generator,
    *,
    sustained: bool,
) -> Replay:
    """Play a trace at the rates of some adapters.

    A trace is stretched so that its mean rate is that of all adapters, or, *sustained*, keeps its clock and
    is thinned, or copied. A name whose share of the requests is not that of its adapters' rates is thinned or
    copied in both cases, so that names stay as far apart as they were recorded.

    Parameters
    ----------
    trace
        The trace, whole.
    rate
        Requests per second of each adapter, shape (n_adapters,).
    names
        Under which name the requests of each adapter were recorded; adapters of one name share them in
        proportion to their rates. None: all requests are dealt so.
    duration_s
        Seconds to play; the trace is repeated without end.
    rng
        What is thinned and dealt is drawn from it.
    sustained
        Whether the trace keeps its clock.

    Raises
    ------
    TraceError
        If the trace has not all of the names.
    """
    if names is not None:
        return _by_name(trace, rate, names, duration_s, rng, sustained=sustained)
    share = float(rate.sum()) / trace.mean_rate
    if sustained:
        played = clocked_trace(trace, _snapped(share), duration_s, rng)
    else:
        played = repeat_trace(trace.stretched(share), duration_s)
    return Replay(*played, deal_by_weight(len(played.row), rate, rng))


def _by_name(
    trace: Trace,
    rate: FloatArray,
    names: tuple[str, ...],
    duration_s: float,
    rng: np.random.Generator,
    *,
    sustained: bool,
) -> Replay:
    distinct = tuple(dict.fromkeys(names))
    rows, of_row = rows_of_names(trace, distinct)
    own = trace.taken(rows)
    numbers = {name: k for k, name in enumerate(distinct)}
    of_adapter = np.array([numbers[name] for name in names])
    recorded = np.bincount(of_row, minlength=len(distinct)) / own.period_s
    speed = 1.0 if sustained else float(rate.sum()) / own.mean_rate
    share = np.bincount(of_adapter, weights=rate) / (recorded * speed)
    played = clocked_trace(own.stretched(speed), _snapped(share)[of_row], duration_s, rng)
    adapter = deal_within(of_row[played.row], of_adapter, rate, rng)
    return Replay(played.arrival_s, rows[played.row], played.take, adapter)


def _snapped(share: float | FloatArray) -> FloatArray:
    return np.where(np.abs(np.subtract(share, 1.0)) < _SAME_RATE, 1.0, share)


def rows_of_names(trace: Trace, names: tuple[str, ...]) -> tuple[Rows, IntArray]:
    """Requests of a trace under some names, ascending, and the index of the name of each.

    Raises
    ------
    TraceError
        If the trace has no request under one of them.
    """
    if trace.name is None or any(name not in trace.numbers for name in names):
        missing = [name for name in dict.fromkeys(names) if name not in trace.numbers]
        raise TraceError(lacking(missing, trace))
    number = np.full(len(trace.names) + 1, -1, dtype=np.int32)  # the last one: of no name
    number[[trace.numbers[name] for name in names]] = np.arange(len(names))
    of_row = number[trace.name]
    rows = np.flatnonzero(of_row >= 0)
    return rows, of_row[rows]


def repeat_trace(trace: Trace, duration_s: float) -> _Clocked:
    """The first ``duration_s`` seconds of the trace repeated without end."""
    times = max(1, math.ceil(duration_s / trace.period_s))
    arrival = (np.arange(times)[:, None] * trace.period_s + trace.arrival_s).ravel()
    n = int(np.searchsorted(arrival, duration_s, side="left"))
    place = np.arange(n)
    return _Clocked(arrival[:n], place % len(trace), place // len(trace))


def clocked_trace(
    trace: Trace, share: float | FloatArray, duration_s: float, rng: np.random.Generator
) -> _Clocked:
    """The first ``duration_s`` seconds of a trace of another rate at the same clock, repeated without end.

    It is thinned at random; for more requests than it has, copies of it, each a few minutes later, are laid
    over it first. Unlike stretching, that leaves a peak as long as it was.

    Parameters
    ----------
    share
        Requests per request of the trace, one number or that of each, shape (n,).
    """
    once = repeat_trace(trace, duration_s)
    share = np.broadcast_to(share, len(trace))[once.row]
    copies = np.maximum(np.ceil(share), 1.0)
    takes = int(once.take.max(initial=0)) + 1
    parts: list[_Clocked] = []
    for copy in range(int(copies.max(initial=1.0))):
        shift = 0.0 if copy == 0 else rng.uniform(0.0, min(COPY_SHIFT_S, trace.period_s))
        copied = np.flatnonzero(copies > copy)
        kept = copied[rng.random(len(copied)) * copies[copied] < share[copied]]
        arrival = (once.arrival_s[kept] + shift) % duration_s
        # What is shifted beyond the end begins the run, and is no continuation of what it follows there.
        late = once.arrival_s[kept] + shift >= duration_s
        parts.append(_Clocked(arrival, once.row[kept], (2 * copy + late) * takes + once.take[kept]))
    arrival, row, take = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(arrival, kind="stable")
    return _Clocked(arrival[order], row[order], take[order])
