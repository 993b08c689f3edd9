"""Metrics of a server between two instants: from saved texts, from fetched ones, or from a range query."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from scenarios.errors import Problem
from scenarios.importers.facts import ImportSourceError
from scenarios.importers.source import Source
from scenarios.importers.traffic.counters import LORAS, Series, matters
from scenarios.importers.traffic.prometheus_text import Fault, Header, lines_of, taken_of
from scenarios.importers.traffic.range_query import is_range, range_series
from scenarios.reading.yaml_reader import FILE

RUNNING = ("vllm:num_requests_running", "sglang:num_running_reqs")
WAITING = ("vllm:num_requests_waiting", "sglang:num_queue_reqs")
KV_USE = ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage")
PREEMPTIONS = ("vllm:num_preemptions_total", "sglang:num_retracted_requests_total")
REFUSALS = ("vllm:admission_rejections_total",)
TOKENS = ("sglang:prompt_tokens_total", "sglang:generation_tokens_total")
CACHE = "vllm:cache_config_info"
KV_TOKENS = "sglang:max_total_num_tokens"
SLOTS = "sglang:lora_pool_slots_total"
STARTED = "process_start_time_seconds"
"""vLLM 0.8.0 to 0.32.0, vllm/v1/metrics/loggers.py: ``gpu_cache_usage_perc`` until 0.11, the other name from
0.9.2 on, refusals in 0.32. SGLang, python/sglang/srt/observability/metrics_collector.py @016d8605."""

Values = tuple[NDArray[np.float64], NDArray[np.float64]]
"""Times and values of a series, times ascending, shape (n,) each."""

GAUGES = frozenset((*RUNNING, *WAITING, *KV_USE, CACHE, KV_TOKENS, SLOTS, STARTED, LORAS))
COUNTERS = frozenset((*PREEMPTIONS, *REFUSALS, *TOKENS))

LEAST_S = 1.0
"""Seconds between two readings, at least: less says no rate."""

SAVE_TWO = "save what the server answers at /metrics twice, a minute apart, and give both files"


@dataclass(frozen=True)
class MetricsText:
    """A text as a server answers it at /metrics.

    Parameters
    ----------
    name
        What messages call it.
    text
        The text.
    fault
        Makes an error about it.
    path
        The file that it is from; None: it was fetched.
    taken_s
        When it was fetched, in seconds since 1970; None: the text or its file says it.
    """

    name: str
    text: str
    fault: Fault
    path: Path | None = None
    taken_s: float | None = None

    @classmethod
    def fetched(cls, url: str, text: str, taken_s: float) -> MetricsText:
        """What a server answered."""

        def fault(message: str, remedy: str, place: str = FILE) -> ImportSourceError:
            problem = Problem(place, message, remedy)
            return ImportSourceError([problem], f"{url}: {problem}")

        return cls(url, text, fault, taken_s=taken_s)


@dataclass(frozen=True)
class WatchedMetrics:
    """Metrics of one server, or of one gateway, between two instants.

    Parameters
    ----------
    origin
        Where they are from, in short.
    first_s, last_s
        The first and the last reading, in seconds since 1970.
    readings
        How many there are.
    series
        Times and values of each series.
    fault
        Makes an error about them.
    """

    origin: str
    first_s: float
    last_s: float
    readings: int
    series: Mapping[Series, Values]
    fault: Fault

    @property
    def seconds(self) -> float:
        """How long it was watched."""
        return self.last_s - self.first_s


def watched_files(paths: Sequence[str | Path]) -> WatchedMetrics:
    """Metrics of one server from files: texts of /metrics, or one range query of Prometheus.

    Raises
    ------
    ImportSourceError
        If a file cannot be read, is none of both, or there are fewer than two readings.
    """
    sources = [Source(Path(path)) for path in paths]
    ranges = [source for source in sources if is_range(source)]
    if ranges and len(sources) > 1:
        raise ranges[0].error("is a range query beside other files", "give it alone: it holds all readings")
    if ranges:
        return _checked(_of_range(ranges[0]))
    return watched_texts([MetricsText(s.path.name, s.text, s.error, path=s.path) for s in sources])


def watched_texts(texts: Sequence[MetricsText]) -> WatchedMetrics:
    """Metrics of one server from texts, of which one may hold several readings under ``# time:`` lines.

    Raises
    ------
    ImportSourceError
        If a text is damaged, or there are fewer than two readings.
    """
    if not texts:
        raise ImportSourceError([Problem("metrics", "are none", SAVE_TWO)])
    readings = sorted(
        (reading for text in texts for reading in _readings(text)), key=lambda reading: reading[0]
    )
    fault = texts[-1].fault
    if len(readings) < 2:
        raise fault("holds one reading, which says no rate", SAVE_TWO, FILE)
    return _checked(_joined(", ".join(dict.fromkeys(text.name for text in texts)), readings, fault))


def single_reading(text: MetricsText) -> WatchedMetrics:
    """What a server tells at one instant: its gauges, and counters that say no rate.

    Raises
    ------
    ImportSourceError
        If the text is damaged, or holds no metric of a server.
    """
    return _joined(text.name, _readings(text)[-1:], text.fault)


def kept(name: str) -> bool:
    """Whether a metric says anything that a plan says too."""
    return name in GAUGES or name in COUNTERS or matters(name)


def is_counter(name: str) -> bool:
    """Whether a metric that is kept counts from the start of its server."""
    return name not in GAUGES


def _readings(text: MetricsText) -> list[tuple[float, dict[Series, float]]]:
    """Readings of a text, each with when it was taken."""
    found: list[tuple[float | None, dict[Series, float], list[float]]] = []
    for number, line in lines_of(text.text, text.fault):
        if isinstance(line, Header):
            found.append((line.taken_s, {}, []))
            continue
        if not found:
            found.append((None, {}, []))
        _, values, stamps = found[-1]
        if line.stamp_s is not None:
            stamps.append(line.stamp_s)
        if not kept(line.name) or _is_twin_rank(line.labels):
            continue
        series = (line.name, line.labels)
        if series in values:
            message = f"tells {line.name} twice, as of two servers"
            raise text.fault(message, "give each server a text of its own", f"line {number}")
        _check_value(line.name, np.array([line.value]), text.fault, f"line {number}")
        values[series] = line.value
    if not found or not all(values for _, values, _ in found):
        message = "holds no metric of vLLM, SGLang or a gateway that a plan says too"
        raise text.fault(message, "give what a server answers at /metrics", FILE)
    return [(_taken(text, header, stamps), values) for header, values, stamps in found]


def _taken(text: MetricsText, header_s: float | None, stamps: list[float]) -> float:
    if text.path is None:
        return text.taken_s if text.taken_s is not None else header_s or 0.0
    return taken_of(text.path, header_s, stamps)[0]


def _joined(origin: str, readings: list[tuple[float, dict[Series, float]]], fault: Fault) -> WatchedMetrics:
    times = np.array([taken for taken, _ in readings])
    series = {}
    for one in dict.fromkeys(key for _, values in readings for key in values):
        # A counter that was not there yet began at 0.
        missing = 0.0 if is_counter(one[0]) else np.nan
        values = np.array([held.get(one, missing) for _, held in readings])
        told = ~np.isnan(values)
        series[one] = times[told], values[told]
    return WatchedMetrics(origin, float(times[0]), float(times[-1]), len(times), series, fault)


def _of_range(source: Source) -> WatchedMetrics:
    series = {}
    for place, name, labels, times, values in range_series(source):
        if not kept(name) or _is_twin_rank(labels) or not len(times):
            continue
        _check_value(name, values, source.error, place)
        series[(name, labels)] = times, values
    if not series:
        message = "holds no metric that a plan says too, by its own name"
        raise source.error(message, "query the metrics themselves, without rate() or sum()")
    first, last = (end(held[place] for held, _ in series.values()) for end, place in ((min, 0), (max, -1)))
    most = max(len(times) for times, _ in series.values())
    return WatchedMetrics(source.path.name, float(first), float(last), most, series, source.error)


def _check_value(name: str, values: NDArray[np.float64], fault: Fault, place: str) -> None:
    wrong = values[~((values >= 0) & (values < 1e18))]
    if len(wrong):
        raise fault(f"has {wrong[0]:g} for {name}", "fetch it again", place)


def _is_twin_rank(labels: Iterable[tuple[str, str]]) -> bool:
    """Whether it is what another rank of the same engine tells too (SGLang, tensor parallel)."""
    return dict(labels).get("tp_rank", "0") not in ("0", "")


def _checked(watched: WatchedMetrics) -> WatchedMetrics:
    """The same, of one server and over some time."""
    if not watched.seconds >= LEAST_S:
        message = f"has readings {watched.seconds:.3g} s apart, which say no rate"
        remedy = "write when each was taken above it, as in: # time: 2026-11-30T12:00:00Z"
        raise watched.fault(message, remedy, FILE)
    for label in ("instance", "pod"):
        told = {
            value
            for name, labels in watched.series
            for key, value in labels
            if key == label and name.startswith(("vllm:", "sglang:"))
        }
        if len(told) > 1:
            message = f"holds {len(told):,} servers, by their label {label}"
            remedy = f'query one for each GPU: {{{label}="{min(told)}"}}'
            raise watched.fault(message, remedy, FILE)
    return watched
