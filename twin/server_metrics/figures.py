"""What the series of a server's metrics say of it, by the names that releases and engines use."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenarios.importers.traffic.counters import LORAS, OUTPUTS, PROMPTS, Series
from twin.server_metrics.series import (
    CACHE,
    KV_TOKENS,
    SLOTS,
    TOKENS,
    Values,
    WatchedMetrics,
)


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


def risen(
    rises: Mapping[Series, float],
    names: Sequence[str],
    chosen: Callable[[Mapping[str, str]], bool] = lambda _: True,
) -> float | None:
    """By how much counters rose together; None: there are none of these names."""
    found = [value for (name, labels), value in rises.items() if name in names and chosen(dict(labels))]
    return sum(found) if found else None


def mean_lengths(rises: Mapping[Series, float], answered: float | None) -> tuple[float | None, float | None]:
    """Mean tokens of prompts and answers, by the sums and counts of histograms, or by SGLang's counters."""
    found = []
    for names, tokens in zip((PROMPTS, OUTPUTS), TOKENS, strict=True):
        total = risen(rises, [f"{name}_sum" for name in names])
        count = risen(rises, [f"{name}_count" for name in names])
        if total is None or count is None:
            total, count = risen(rises, (tokens,)), answered
        found.append(total / count if total is not None and count else None)
    return found[0], found[1]


def _of_name(watched: WatchedMetrics, names: Sequence[str]) -> list[Values]:
    """The series of the first of some names that there is: releases between two have both."""
    for wanted in names:
        found = [held for (name, _), held in watched.series.items() if name == wanted]
        if found:
            return found
    return []


def gauge(watched: WatchedMetrics, names: Sequence[str], *, mean: bool = False) -> Gauge | None:
    """A gauge by the first of its names that there is; None: there is none.

    Parameters
    ----------
    watched
        The metrics.
    names
        As releases and engines call it.
    mean
        Whether it is a share, of which several engines have a mean and no sum.
    """
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


def kv_cache_tokens(watched: WatchedMetrics) -> int | None:
    """Tokens of the KV cache: as vLLM says from 0.24 on, blocks of a size before; as SGLang says."""
    for labels in _newest_labels(watched, CACHE):
        tokens, blocks, size = (
            whole_number(labels.get(key)) for key in ("kv_cache_size_tokens", "num_gpu_blocks", "block_size")
        )
        if tokens or (blocks and size):
            return tokens or (blocks or 0) * (size or 0)
    told = _of_name(watched, (KV_TOKENS,))
    return int(sum(values[-1] for _, values in told)) if told else None


def cache_labels(watched: WatchedMetrics) -> Mapping[str, str]:
    """Labels of vLLM's ``cache_config_info``: arguments of its KV cache; empty where there is none."""
    return next(_newest_labels(watched, CACHE), {})


def max_loras(watched: WatchedMetrics) -> int | None:
    """Adapter slots; vLLM tells them only once it served an adapter."""
    for labels in _newest_labels(watched, LORAS):
        if slots := whole_number(labels.get("max_lora")):
            return slots
    told = _of_name(watched, (SLOTS,))
    return int(max(values[-1] for _, values in told)) if told else None


def asked_for(watched: WatchedMetrics) -> frozenset[str] | None:
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


def whole_number(text: str | None) -> int | None:
    """A whole number above 0 of a label; None where it says none."""
    if text is None or not (text.isdecimal() and text.isascii() and len(text) < 16):
        return None
    return int(text) or None
