"""Snapshots of /metrics, and range queries of Prometheus, as sources."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import pairwise

import numpy as np

from scenarios.importers.facts import (
    AdapterFacts,
    ImportOptions,
    MetricsSnapshot,
    Said,
    ServerFacts,
    SourceFacts,
)
from scenarios.importers.source import Kind, Source
from scenarios.importers.traffic.counters import (
    LORAS,
    Rise,
    Series,
    adapters_of,
    base_names_of,
    matters,
    rise_of,
    total_of,
)
from scenarios.reading.row_cells import MOST_NAMES

_SAMPLE = re.compile(
    r'([A-Za-z_:][A-Za-z0-9_:]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?[ \t]+([^ \t]+)'
    r"(?:[ \t]+(-?\d{1,18}))?[ \t]*"
)
_LABEL = re.compile(r'[ \t]*([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*(?:,|$)')
_TIME = re.compile(r"#[ \t]*time:[ \t]*(\S+)[ \t]*")
_IN_NAME = re.compile(r"(\d{4}-?\d{2}-?\d{2}T\d{2}[:_-]?\d{2}[:_-]?\d{2}Z?|(?<!\d)1\d{9}(?!\d))(?:\.\w+)*$")
"""Prometheus' text format 0.0.4; a header ``# time: 2026-11-30T12:00:00Z`` is ours."""

MOST_SERIES = 2_000_000

ONLY_IN_FLIGHT = (
    "vllm:lora_requests_info lists only adapters in flight, and says no adapter's rate; requests by adapter "
    "are in logs, or in a gateway's metrics by model"
)


def combined(snapshots: Sequence[MetricsSnapshot], options: ImportOptions | None = None) -> SourceFacts:
    """What snapshots say together: traffic of all, and of adapters where a gateway tells them apart.

    Snapshots of one server (by the second at which it started) are compared in the order of time; those of
    several servers are added.

    Parameters
    ----------
    snapshots
        Of any number of servers.
    options
        The form of rates.
    """
    options = options or ImportOptions()
    servers: dict[float | None, list[MetricsSnapshot]] = {}
    for one in snapshots:
        servers.setdefault(one.started_s, []).append(one)
    risen: list[tuple[float, dict[Series, float]]] = []
    names: list[str] = []
    for held in servers.values():
        held.sort(key=lambda one: one.taken_s)
        names += [one.name for one in held]
        if held[-1].taken_s > held[0].taken_s:
            risen.append((held[-1].taken_s - held[0].taken_s, _risen(held)))
    origin = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
    if not risen:
        since: dict[Series, float] = {}
        for one in snapshots:
            for series, value in one.series.items():
                since[series] = since.get(series, 0.0) + value
        note = f"{origin}: no rate, for each server has one snapshot; lengths are those since its start"
        return SourceFacts("metrics", total=total_of(Rise(since, None), origin, (note,)))
    seconds = float(np.mean([span for span, _ in risen]))
    rises: dict[Series, float] = {}
    for span, one_server in risen:
        for series, value in one_server.items():
            rises[series] = rises.get(series, 0.0) + value * seconds / span
    alone = len(servers) - len(risen)
    notes = [f"{origin}: {seconds:,.6g} s apart, {snapshots[0].taken_how}"]
    if alone:
        notes.append(f"{alone} servers have one snapshot, and are left out")
    rise = Rise(rises, seconds)
    return SourceFacts(
        "metrics",
        adapters=adapters_of(rise, origin, options),
        total=total_of(rise, origin, tuple(notes)),
    )


def _risen(held: list[MetricsSnapshot]) -> dict[Series, float]:
    """By how much a server's counters rose from its first snapshot to its last."""
    rises: dict[Series, float] = {}
    for before, after in pairwise(held):
        for series, value in after.series.items():
            # A counter that was not there yet began at 0.
            grown = rise_of(np.array([before.series.get(series, 0.0), value]))
            rises[series] = rises.get(series, 0.0) + grown
    return rises


def _fits_text(source: Source) -> bool:
    head = source.head
    if b"\0" in head[:4096]:
        return False
    marks = (b"# HELP ", b"# TYPE ", b"vllm:", b"sglang:", b"litellm_", b"gen_ai_", b"# time:")
    return head.lstrip(b"\xef\xbb\xbf \n\r").startswith(marks) and b"INFO" not in head[:20]


def _read_text(source: Source, options: ImportOptions) -> SourceFacts:
    snapshots, loras, slots = _snapshots(source)
    if not any(one.series for one in snapshots) and not loras:
        raise source.error(
            "holds no metric of vLLM, SGLang or a gateway that says traffic",
            "save what a server answers at /metrics",
        )
    facts = combined(snapshots, options)
    notes = (f"{source.path.name}: {ONLY_IN_FLIGHT}",) if loras else ()
    return _with_loras(source, facts, snapshots, loras, slots, notes)


def _with_loras(
    source: Source,
    facts: SourceFacts,
    snapshots: tuple[MetricsSnapshot, ...],
    loras: dict[str, None],
    slots: int | None,
    notes: tuple[str, ...],
) -> SourceFacts:
    file = source.path.name
    told = {one.served_name for one in facts.adapters}
    flying = tuple(AdapterFacts(name, f"{file}: {LORAS}") for name in loras if name not in told)
    base = base_names_of(series for one in snapshots for series in one.series)
    servers: tuple[ServerFacts, ...] = ()
    if slots is not None:
        engine = {"max_loras": Said[object](slots, f"{file}: {LORAS}, max_lora")}
        servers = (ServerFacts(base[0] if base else file, f"{file}", engine=engine),)
    return SourceFacts(
        "metrics",
        adapters=(*facts.adapters, *flying),
        servers=servers,
        base_names=base,
        total=facts.total,
        notes=notes,
        snapshots=snapshots,
    )


def _snapshots(source: Source) -> tuple[tuple[MetricsSnapshot, ...], dict[str, None], int | None]:
    """Snapshots of a file, names of adapters in flight, and slots of an engine."""
    parts: list[tuple[float | None, dict[Series, float], list[float]]] = []
    loras: dict[str, None] = {}
    slots: int | None = None
    started: float | None = None
    for number, line in enumerate(source.text.splitlines(), 1):
        text = line.strip()
        header = _TIME.fullmatch(text)
        if header is not None:
            parts.append((_instant(source, header[1], number), {}, []))
        if not text or text.startswith("#"):
            continue
        name, labels, value, stamp = _sample(source, text, number)
        if not parts:
            parts.append((None, {}, []))
        if stamp is not None:
            parts[-1][2].append(stamp)
        if name == "process_start_time_seconds":
            started = value
        elif name == LORAS:
            slots = _add_loras(source, dict(labels), loras, slots, number)
        elif matters(name):
            parts[-1][1][(name, labels)] = parts[-1][1].get((name, labels), 0.0) + value
    if not parts:
        raise source.error("holds no metrics", "save what a server answers at /metrics")
    taken = [_taken(source, at, stamps) for at, _, stamps in parts]
    found = tuple(
        MetricsSnapshot(source.path.name, when, how, started, series)
        for (when, how), (_, series, _) in zip(taken, parts, strict=True)
    )
    return found, loras, slots


def _sample(
    source: Source, text: str, number: int
) -> tuple[str, frozenset[tuple[str, str]], float, float | None]:
    found = _SAMPLE.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        value = float(found[3])
        labels = _labels(found[2] or "")
    except ValueError as error:
        raise source.error(
            "is no line of Prometheus' text format", "fetch the file again", place=f"line {number}"
        ) from error
    if (matters(found[1]) and not 0 <= value < 1e18) or (math.isnan(value) and matters(found[1])):
        raise source.error(f"has {value:g} for a counter", "fetch the file again", place=f"line {number}")
    return found[1], labels, value, None if found[4] is None else int(found[4]) / 1000


def _labels(text: str) -> frozenset[tuple[str, str]]:
    labels, place = [], 0
    while place < len(text):
        found = _LABEL.match(text, place)
        if found is None:
            raise ValueError
        value = re.sub(r"\\(.)", lambda one: "\n" if one[1] == "n" else one[1], found[2])
        labels.append((found[1], value))
        place = found.end()
    return frozenset(labels)


def _add_loras(
    source: Source, labels: dict[str, str], loras: dict[str, None], slots: int | None, number: int
) -> int | None:
    for key in ("running_lora_adapters", "waiting_lora_adapters"):
        loras |= dict.fromkeys(name for name in labels.get(key, "").split(",") if name)
    if len(loras) > MOST_NAMES:
        raise source.error(f"names more than {MOST_NAMES:,} adapters", "give a file of one fleet")
    held = labels.get("max_lora", "")
    if not (held.isdecimal() and held.isascii() and len(held) < 7 and int(held) > 0):
        raise source.error(
            f"has no number of slots in max_lora of {LORAS}", "fetch the file again", place=f"line {number}"
        )
    return max(slots or 0, int(held))


def _taken(source: Source, header: float | None, stamps: list[float]) -> tuple[float, str]:
    """When a snapshot was taken, and what says so."""
    if header is not None:
        return header, "by their lines # time:"
    if stamps:
        return max(stamps), "by the times beside their values"
    named = _IN_NAME.search(source.path.name)
    if named is not None:
        text = named[1]
        if text.isdecimal():
            return float(text), "by the times in their names"
        digits = re.sub(r"\D", "", text)
        try:
            parsed = datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
            return parsed.timestamp(), "by the times in their names"
        except ValueError:
            pass  # no date, though it looks like one
    return source.path.stat().st_mtime, "by when the files were last changed"


def _instant(source: Source, text: str, number: int) -> float:
    try:
        if re.fullmatch(r"\d{9,11}(\.\d{1,9})?", text):
            return float(text)
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        raise source.error(
            "has no time of ISO 8601 or of seconds since 1970 after # time:",
            "correct it",
            place=f"line {number}",
        ) from error


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


METRICS = Kind("Prometheus metrics", _fits_text, _read_text)
RANGE_QUERY = Kind("range query of Prometheus", _fits_range, _read_range)
