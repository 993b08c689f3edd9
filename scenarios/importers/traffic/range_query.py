"""Range queries of Prometheus, as sources."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
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
    counting,
    matters,
    steps_of,
    total_of,
)
from scenarios.importers.traffic.windows import EPOCH_S, HOUR_S, SHORTEST_S, busiest_told, span, whole_told

MOST_SERIES = 2_000_000

MOST_S = 1e11
"""Latest instant that is taken for one, in seconds since 1970; the year 5138."""


class _Steps(NamedTuple):
    """By how much a counter rose from each sample to the next.

    Parameters
    ----------
    begin, end
        When each step begins and ends, in seconds since 1970, shape (n,).
    rise
        By how much it rose, shape (n,).
    """

    begin: NDArray[np.float64]
    end: NDArray[np.float64]
    rise: NDArray[np.float64]

    def short(self) -> _Steps:
        """The steps of at most an hour."""
        kept = self.end - self.begin <= HOUR_S
        return _Steps(self.begin[kept], self.end[kept], self.rise[kept])

    def within(self, begin: float, end: float) -> float:
        """By how much it rose between two instants."""
        return float(self.rise[(self.begin >= begin) & (self.end <= end)].sum())


def _read_range(source: Source, options: ImportOptions) -> SourceFacts:
    held: dict[Series, list[_Steps]] = {}
    nameless = 0
    for place, name, labels, times, values in range_series(source):
        nameless += name == ""
        if matters(name) and not all(0 <= value < 1e18 for value in values):
            raise source.error("has values that no counter has", "fetch it again", place=place)
        if not matters(name) or len(times) < 2:
            continue
        held.setdefault((name, labels), []).append(_Steps(times[:-1], times[1:], steps_of(values)))
    every = [steps for parts in held.values() for steps in parts]
    first = min((float(one.begin[0]) for one in every), default=0.0)
    last = max((float(one.end[-1]) for one in every), default=0.0)
    if not last > first:
        told = f"; {nameless} have no name, as results of rate() and sum()" if nameless else ""
        raise source.error(
            f"holds no counter of requests over a time{told}",
            "query the counters themselves, such as vllm:request_success_total",
        )
    begin, end, told = _window(held, first, last, options.window)
    origin = source.path.name
    rises = {one: sum(part.within(begin, end) for part in parts) for one, parts in held.items()}
    rise = Rise(rises, end - begin)
    return SourceFacts(
        "range query of Prometheus",
        adapters=adapters_of(rise, origin, options),
        base_names=base_names_of(held),
        total=total_of(rise, origin, (f"{origin}: {told}",)),
    )


def _window(
    held: Mapping[Series, Sequence[_Steps]], first: float, last: float, which: str
) -> tuple[float, float, str]:
    """Beginning and end of the busiest hour of all requests, or of all, and what it is in words.

    An hour holds the steps that begin and end in it; longer ones say of no hour what was in it.
    """
    counted = [steps.short() for one in counting(held) for steps in held[one]]
    total = sum(float(steps.rise.sum()) for steps in counted)
    if which == "mean" or last - first < SHORTEST_S or not total:
        whole = whole_told("query", last - first, which if total else "mean")
        return first, last, f"{whole}, {_span(first, last)}"
    begins, ends, rises = (np.concatenate(parts) for parts in zip(*counted, strict=True))
    starts = np.unique(begins)
    # What ended by the hour's end, less what began before it: no step is longer than the hour.
    ended = np.append(0.0, np.cumsum(rises[ends.argsort()]))
    begun = np.append(0.0, np.cumsum(rises[begins.argsort()]))
    inside = ended[np.searchsorted(np.sort(ends), starts + HOUR_S, "right")]
    inside -= begun[np.searchsorted(np.sort(begins), starts, "left")]
    best = int(inside.argmax())
    begin = float(starts[best])
    end = float(ends[(begins >= begin) & (ends <= begin + HOUR_S)].max())
    times = float(inside[best]) / (end - begin) / (total / (last - first))
    return begin, end, f"{busiest_told(times, last - first)}, {_span(begin, end)}"


def _span(begin: float, end: float) -> str:
    is_date = begin >= EPOCH_S
    return span(begin if is_date else None, 0.0 if is_date else begin, end - begin)


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
        if not all(0 <= at < MOST_S for at, _ in pairs):
            raise ValueError
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:
        raise source.error("is no series of a matrix", "fetch it again", place=place) from error
    pairs.sort()
    times, values = np.array(pairs, dtype=np.float64).reshape(-1, 2).T
    return RangeSeries(place, name, frozenset(labels.items()), times, values)


RANGE_QUERY = Kind("range query of Prometheus", is_range, _read_range)
