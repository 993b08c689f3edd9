"""What metrics say that a GPU, or a gateway in front of all, did between two instants."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from optimizer.checking.metric_series import (
    CACHE,
    KV_TOKENS,
    KV_USE,
    PREEMPTIONS,
    REFUSALS,
    RUNNING,
    SLOTS,
    STARTED,
    TOKENS,
    WAITING,
    WatchedMetrics,
    is_counter,
    watched_files,
)
from scenarios.importers.traffic.counters import (
    LORAS,
    OUTPUTS,
    PROMPTS,
    REQUESTS,
    Rise,
    Series,
    requests_by_model,
    rise_of,
)

Values = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Times and values of a series."""


@dataclass(frozen=True)
class Gauge:
    """A gauge at the readings, summed over the engines of a server; of a share the mean of them.

    Parameters
    ----------
    first, last
        At the first and the last reading.
    mean
        Over all readings.
    """

    first: float
    last: float
    mean: float


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
    running, waiting = _gauge(watched, RUNNING), _gauge(watched, WAITING)
    answered = _risen(rises, REQUESTS, lambda labels: labels.get("finished_reason") != "error")
    errors = _risen(rises, REQUESTS, lambda labels: labels.get("finished_reason") == "error")
    prompt, output = _mean_lengths(rises, answered)
    return MetricsReading(
        gpu,
        watched.origin,
        watched.seconds,
        watched.readings,
        restarted=started is not None or fell,
        arrived=_arrived(answered, errors, running, waiting),
        answered=answered,
        failed=_sum_of(errors, _risen(rises, REFUSALS)),
        prompt_tokens=prompt,
        output_tokens=output,
        running=running,
        waiting=waiting,
        kv_use=_gauge(watched, KV_USE, mean=True),
        preemptions=_risen(rises, PREEMPTIONS),
        kv_cache_tokens=_kv_cache_tokens(watched),
        max_loras=_max_loras(watched),
        asked_for=_asked_for(watched),
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
    """What was read after a start, at which every counter was 0."""
    series: dict[Series, Values] = {}
    for key, (times, values) in watched.series.items():
        after = times >= started_s
        held = times[after], values[after]
        if is_counter(key[0]) and after.any():
            held = np.insert(held[0], 0, started_s), np.insert(held[1], 0, 0.0)
        if len(held[0]):
            series[key] = held
    if not watched.last_s - started_s >= 1:
        message = "was started again just before its last reading"
        raise watched.fault(message, "read it again in a minute", "process start")
    return WatchedMetrics(watched.origin, started_s, watched.last_s, watched.readings, series, watched.fault)


def _risen(
    rises: Mapping[Series, float],
    names: Sequence[str],
    chosen: Callable[[Mapping[str, str]], bool] = lambda _: True,
) -> float | None:
    """By how much counters rose together; None: there are none of these names."""
    found = [value for (name, labels), value in rises.items() if name in names and chosen(dict(labels))]
    return sum(found) if found else None


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


def _mean_lengths(rises: Mapping[Series, float], answered: float | None) -> tuple[float | None, float | None]:
    """Mean tokens of prompts and answers, by the sums and counts of histograms, or by SGLang's counters."""
    found = []
    for names, tokens in zip((PROMPTS, OUTPUTS), TOKENS, strict=True):
        total = _risen(rises, [f"{name}_sum" for name in names])
        count = _risen(rises, [f"{name}_count" for name in names])
        if total is None or count is None:
            total, count = _risen(rises, (tokens,)), answered
        found.append(total / count if total is not None and count else None)
    return found[0], found[1]


def _of_name(watched: WatchedMetrics, names: Sequence[str]) -> list[Values]:
    """The series of the first of some names that there is: releases between two have both."""
    for wanted in names:
        found = [held for (name, _), held in watched.series.items() if name == wanted]
        if found:
            return found
    return []


def _gauge(watched: WatchedMetrics, names: Sequence[str], *, mean: bool = False) -> Gauge | None:
    found = [values for _, values in _of_name(watched, names)]
    if not found:
        return None
    share = 1 / len(found) if mean else 1.0
    first, last, middle = (
        sum(float(of(values)) for values in found) * share for of in (_first, _last, np.mean)
    )
    return Gauge(first, last, middle)


def _first(values: NDArray[np.float64]) -> float:
    return float(values[0])


def _last(values: NDArray[np.float64]) -> float:
    return float(values[-1])


def _newest_labels(watched: WatchedMetrics, name: str) -> Iterator[Mapping[str, str]]:
    """Labels of a metric's series, those that were read last before others."""
    found = [
        (float(times[-1]), dict(labels))
        for (one, labels), (times, _) in watched.series.items()
        if one == name
    ]
    yield from (labels for _, labels in sorted(found, key=lambda one: -one[0]))


def _kv_cache_tokens(watched: WatchedMetrics) -> int | None:
    """Tokens of the KV cache: as vLLM says from 0.24 on, blocks of a size before; as SGLang says."""
    for labels in _newest_labels(watched, CACHE):
        tokens, blocks, size = (
            _whole(labels.get(key)) for key in ("kv_cache_size_tokens", "num_gpu_blocks", "block_size")
        )
        if tokens or (blocks and size):
            return tokens or (blocks or 0) * (size or 0)
    told = _of_name(watched, (KV_TOKENS,))
    return int(sum(values[-1] for _, values in told)) if told else None


def _max_loras(watched: WatchedMetrics) -> int | None:
    for labels in _newest_labels(watched, LORAS):
        if slots := _whole(labels.get("max_lora")):
            return slots
    told = _of_name(watched, (SLOTS,))
    return int(max(values[-1] for _, values in told)) if told else None


def _asked_for(watched: WatchedMetrics) -> frozenset[str] | None:
    """Adapters in flight meanwhile: a series of `LORAS` is as old as its value says, a time, and stays."""
    found = [
        (labels, times, values) for (name, labels), (times, values) in watched.series.items() if name == LORAS
    ]
    if not found:
        return None
    names: set[str] = set()
    for labels, times, values in found:
        if times[0] > watched.first_s or values[-1] > values[0]:
            told = dict(labels)
            for key in ("running_lora_adapters", "waiting_lora_adapters"):
                names |= {name for name in told.get(key, "").split(",") if name}
    return frozenset(names)


def _whole(text: str | None) -> int | None:
    """A whole number above 0 of a label; None where it says none."""
    if text is None or not (text.isdecimal() and text.isascii() and len(text) < 16):
        return None
    return int(text) or None
