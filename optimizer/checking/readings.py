"""What metrics say that a GPU, or a gateway in front of all, did between two instants."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from scenarios.importers.traffic.counters import REQUESTS, Rise, Series, requests_by_model, rise_of
from twin.server_metrics.figures import (
    Gauge,
    asked_for,
    gauge,
    kv_cache_tokens,
    max_loras,
    mean_lengths,
    risen,
)
from twin.server_metrics.series import (
    KV_USE,
    LEAST_S,
    PREEMPTIONS,
    REFUSALS,
    RUNNING,
    STARTED,
    WAITING,
    Values,
    WatchedMetrics,
    is_counter,
    watched_files,
)


@dataclass(frozen=True)
class MetricsReading:
    """What a server did between two instants; None is what its metrics do not say.

    Parameters
    ----------
    gpu
        Number of the GPU in the plan; None: a gateway in front of all.
    origin
        Where it is from, in short.
    seconds
        How long it was watched; after a restart since then.
    readings
        How many there are.
    restarted
        Whether the server was started again in between.
    arrived, answered
        Requests that came, and that were answered. Those that came are those that ended, and by how many more
        run and wait at the end.
    failed
        Requests that ended in an error of the engine or were refused at its door.
    prompt_tokens, output_tokens
        Mean lengths of the requests answered.
    running, waiting, kv_use
        Requests that run and wait, and the share of the KV cache in use.
    preemptions
        How many.
    kv_cache_tokens
        Tokens that the KV cache holds.
    max_loras
        Adapter slots.
    asked_for
        Served names of adapters that had requests in flight; None: its metrics name none.
    by_name
        Requests by served name, where a counter tells names apart; empty: none does.
    """

    gpu: int | None
    origin: str
    seconds: float
    readings: int
    restarted: bool = False
    arrived: float | None = None
    answered: float | None = None
    failed: float | None = None
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    running: Gauge | None = None
    waiting: Gauge | None = None
    kv_use: Gauge | None = None
    preemptions: float | None = None
    kv_cache_tokens: int | None = None
    max_loras: int | None = None
    asked_for: frozenset[str] | None = None
    by_name: Mapping[str, float] = field(default_factory=dict)


def read_metrics(gpu: int | None, *paths: str | Path) -> MetricsReading:
    """Read what a GPU of a plan did from files of its server's metrics.

    Parameters
    ----------
    gpu
        Number of the GPU in the plan; None: a gateway in front of all, for its counters by name.
    paths
        Two or more texts of /metrics, one that holds several under lines ``# time:``, or the JSON of a range
        query of Prometheus.

    Raises
    ------
    scenarios.ImportSourceError
        If a file cannot be read, is damaged or of several servers, or there are fewer than two readings.
    """
    return reading_of(gpu, watched_files(paths))


def reading_of(gpu: int | None, watched: WatchedMetrics) -> MetricsReading:
    """What metrics say of a GPU; a server that was started again is watched from then on."""
    started = _started_s(watched)
    if started is not None:
        watched = _since(watched, started)
    rises = {key: rise_of(values) for key, (_, values) in watched.series.items() if is_counter(key[0])}
    fell = any(
        bool((np.diff(values) < 0).any())
        for (name, _), (_, values) in watched.series.items()
        if is_counter(name)
    )
    by_model = requests_by_model(Rise(rises, watched.seconds))
    running, waiting = gauge(watched, RUNNING), gauge(watched, WAITING)
    answered = risen(rises, REQUESTS, lambda labels: labels.get("finished_reason") != "error")
    errors = risen(rises, REQUESTS, lambda labels: labels.get("finished_reason") == "error")
    prompt, output = mean_lengths(rises, answered)
    return MetricsReading(
        gpu,
        watched.origin,
        watched.seconds,
        watched.readings,
        restarted=started is not None or fell,
        arrived=_arrived(answered, errors, running, waiting),
        answered=answered,
        failed=_sum_of(errors, risen(rises, REFUSALS)),
        prompt_tokens=prompt,
        output_tokens=output,
        running=running,
        waiting=waiting,
        kv_use=gauge(watched, KV_USE, mean=True),
        preemptions=risen(rises, PREEMPTIONS),
        kv_cache_tokens=kv_cache_tokens(watched),
        max_loras=max_loras(watched),
        asked_for=asked_for(watched),
        by_name={} if by_model is None else by_model[1],
    )


def _started_s(watched: WatchedMetrics) -> float | None:
    """When the server was started again while it was watched; None: it was not, as far as it says.

    Raises
    ------
    ImportSourceError
        If the readings are of servers that ran at the same time.
    """
    told = [held for (name, _), held in watched.series.items() if name == STARTED]
    starts = sorted({float(value) for _, values in told for value in values})
    if len(starts) < 2 or starts[-1] - starts[0] < 1:
        return None
    if starts[-1] < watched.first_s:
        message = f"has readings of two servers, started {starts[-1] - starts[0]:,.0f} s apart"
        raise watched.fault(message, "give each GPU the readings of its own server", "process start")
    return starts[-1]


def _since(watched: WatchedMetrics, started_s: float) -> WatchedMetrics:
    """What was read after a start, at which every counter was 0 and no request was there."""
    series: dict[Series, Values] = {}
    for key, (times, values) in watched.series.items():
        after = times >= started_s
        held = times[after], values[after]
        if after.any() and (is_counter(key[0]) or key[0] in (*RUNNING, *WAITING)):
            held = np.insert(held[0], 0, started_s), np.insert(held[1], 0, 0.0)
        if len(held[0]):
            series[key] = held
    if not watched.last_s - started_s >= LEAST_S:
        message = "was started again just before its last reading"
        raise watched.fault(message, "read it again in a minute", "process start")
    return WatchedMetrics(watched.origin, started_s, watched.last_s, watched.readings, series, watched.fault)


def _sum_of(*parts: float | None) -> float | None:
    told = [part for part in parts if part is not None]
    return sum(told) if told else None


def _arrived(
    answered: float | None, errors: float | None, running: Gauge | None, waiting: Gauge | None
) -> float | None:
    """Requests that came: those that ended, and by how many more are there at the end than at the start."""
    if answered is None:
        return None
    more = sum(one.last - one.first for one in (running, waiting) if one is not None)
    return max(answered + (errors or 0.0) + more, 0.0)
