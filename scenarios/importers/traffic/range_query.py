"""Range queries of Prometheus, as sources."""

from __future__ import annotations

import json
import math
import re

import numpy as np

from scenarios.importers.facts import ImportOptions, SourceFacts
from scenarios.importers.source import Kind, Source
from scenarios.importers.traffic.counters import (
    Rise,
    Series,
    adapters_of,
    base_names_of,
    matters,
    rise_of,
    total_of,
)

MOST_SERIES = 2_000_000


def _fits_range(source: Source) -> bool:
    return bool(re.search(rb'"resultType"\s*:\s*"(matrix|vector)"', source.head[:4096]))


def _read_range(source: Source, options: ImportOptions) -> SourceFacts:
    try:
        root = json.loads(source.text)
        data = root.get("data", root)
        kind, result = data["resultType"], data["result"]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise source.error("is no answer of Prometheus", "fetch it from /api/v1/query_range") from error
    if kind != "matrix" or not isinstance(result, list) or len(result) > MOST_SERIES:
        raise source.error("is no matrix", "fetch a range from /api/v1/query_range, not one instant")
    rises: dict[Series, float] = {}
    first, last, nameless = math.inf, -math.inf, 0
    for number, one in enumerate(result):
        name, labels, times, values = _range_series(source, one, f"data.result[{number}]")
        nameless += name == ""
        if not matters(name) or len(times) < 2:
            continue
        first, last = min(first, times[0]), max(last, times[-1])
        rises[(name, labels)] = rises.get((name, labels), 0.0) + rise_of(values)
    if not rises or not last > first:
        told = f"; {nameless} have no name, as results of rate() and sum()" if nameless else ""
        raise source.error(
            f"holds no counter of requests over a time{told}",
            "query the counters themselves, such as vllm:request_success_total",
        )
    origin, rise = source.path.name, Rise(rises, last - first)
    return SourceFacts(
        "range query of Prometheus",
        adapters=adapters_of(rise, origin, options),
        base_names=base_names_of(rises),
        total=total_of(rise, origin, (f"{origin}: the mean of {rise.seconds:,.6g} s",)),
    )


def _range_series(
    source: Source, one: object, place: str
) -> tuple[str, frozenset[tuple[str, str]], list[float], np.ndarray[tuple[int], np.dtype[np.float64]]]:
    try:
        if not isinstance(one, dict):
            raise TypeError
        labels = {str(key): str(value) for key, value in one.get("metric", {}).items()}
        name = labels.pop("__name__", "")
        pairs = [(float(at), float(value)) for at, value in one["values"] if not isinstance(at, bool)]
        if not all(math.isfinite(at) for at, _ in pairs):
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise source.error("is no series of a matrix", "fetch it again", place=place) from error
    if matters(name) and not all(0 <= value < 1e18 for _, value in pairs):
        raise source.error("has values that no counter has", "fetch it again", place=place)
    pairs.sort()
    times = [at for at, _ in pairs]
    return name, frozenset(labels.items()), times, np.array([value for _, value in pairs], dtype=np.float64)


RANGE_QUERY = Kind("range query of Prometheus", _fits_range, _read_range)
