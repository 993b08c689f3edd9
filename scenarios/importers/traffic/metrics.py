"""Snapshots of /metrics as sources: Prometheus' text format."""

from __future__ import annotations

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
from scenarios.importers.traffic.prometheus_text import Header, lines_of, taken_of
from scenarios.reading.row_cells import MOST_NAMES

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
    for number, line in lines_of(source.text, source.error):
        if isinstance(line, Header):
            parts.append((line.taken_s, {}, []))
            continue
        name, labels, value, stamp = line
        _check_counter(source, name, value, number)
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
    taken = [taken_of(source.path, at, stamps) for at, _, stamps in parts]
    found = tuple(
        MetricsSnapshot(source.path.name, when, how, started, series)
        for (when, how), (_, series, _) in zip(taken, parts, strict=True)
    )
    return found, loras, slots


def _check_counter(source: Source, name: str, value: float, number: int) -> None:
    if matters(name) and not 0 <= value < 1e18:  # nor is it nan
        raise source.error(f"has {value:g} for a counter", "fetch the file again", place=f"line {number}")


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


METRICS = Kind("Prometheus metrics", _fits_text, _read_text)
