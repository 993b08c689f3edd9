"""Range queries of Prometheus, as sources."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scenarios.importers.facts import ImportOptions, SourceFacts
from scenarios.importers.source import Kind, Source
from scenarios.importers.traffic.counters import (
    Labels,
    Rise,
    Series,
    adapters_of,
    base_names_of,
    matters,
    rise_of,
    total_of,
)

MOST_SERIES = 2_000_000


def _read_range(source: Source, options: ImportOptions) -> SourceFacts:
    rises: dict[Series, float] = {}
    first, last, nameless = math.inf, -math.inf, 0
    for place, name, labels, times, values in range_series(source):
        nameless += name == ""
        if matters(name) and not all(0 <= value < 1e18 for value in values):
            raise source.error("has values that no counter has", "fetch it again", place=place)
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


class RangeSeries(NamedTuple):
    """A series of a range query.

    Parameters
    ----------
    place
        Where in the answer it is.
    name, labels
        The metric, empty where the query made another of it, and its labels as pairs.
    times_s, values
        Seconds since 1970, ascending, and any floats beside them, shape (n,).
    """

    place: str
    name: str
    labels: Labels
    times_s: NDArray[np.float64]
    values: NDArray[np.float64]


def is_range(source: Source) -> bool:
    """Whether a source is an answer of Prometheus' query API, by how it begins."""
    return bool(re.search(rb'"resultType"\s*:\s*"(matrix|vector)"', source.head[:4096]))


def range_series(source: Source) -> Iterator[RangeSeries]:
    """Yield the series of a range query's answer.

    Raises
    ------
    ImportSourceError
        If it is none, or a series is damaged.
    """
    try:
        root = json.loads(source.text)
        data = root.get("data", root)
        kind, result = data["resultType"], data["result"]
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError) as error:
        raise source.error("is no answer of Prometheus", "fetch it from /api/v1/query_range") from error
    if kind != "matrix" or not isinstance(result, list) or len(result) > MOST_SERIES:
        raise source.error("is no matrix", "fetch a range from /api/v1/query_range, not one instant")
    for number, one in enumerate(result):
        yield _series(source, one, f"data.result[{number}]")


def _series(source: Source, one: object, place: str) -> RangeSeries:
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
    pairs.sort()
    times, values = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return RangeSeries(place, name, frozenset(labels.items()), times, values)


RANGE_QUERY = Kind("range query of Prometheus", is_range, _read_range)
