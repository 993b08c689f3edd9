"""Snapshots of /metrics as sources: Prometheus' text format."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime

from scenarios.importers.facts import (
    METRICS as ASKED,
)
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
    Series,
    base_names_of,
    matters,
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

ONLY_IN_FLIGHT = (
    "vllm:lora_requests_info lists only adapters in flight, and says no adapter's rate; requests by adapter "
    "are in logs, or in a gateway's metrics by model"
)


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
    del options  # rates are said by several files together
    notes = (ONLY_IN_FLIGHT,) if loras else ()
    return _with_loras(source, snapshots, loras, slots, notes)


def _with_loras(
    source: Source,
    snapshots: tuple[MetricsSnapshot, ...],
    loras: dict[str, None],
    slots: int | None,
    notes: tuple[str, ...],
) -> SourceFacts:
    file = source.path.name
    flying = tuple(AdapterFacts(name, f"{file}: {LORAS}") for name in loras)
    base = base_names_of(series for one in snapshots for series in one.series)
    servers: tuple[ServerFacts, ...] = ()
    if slots is not None:
        engine = {"max_loras": Said[object](slots, f"{file}: {LORAS}, max_lora")}
        named = Said(base[0], file) if base else None
        servers = (ServerFacts(source.path.stem, file, engine=engine, served_model_name=named, asked=ASKED),)
    return SourceFacts(
        "metrics",
        adapters=flying,
        servers=servers,
        base_names=base,
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


METRICS = Kind("Prometheus metrics", _fits_text, _read_text)
