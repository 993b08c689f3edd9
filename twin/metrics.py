"""Metrics as pure functions of a run's records.

Definitions are those of vLLM's benchmark and of the paper (arXiv 2602.24044): throughput counts the
prompt and output tokens of completed requests; TTFT, TPOT, ITL and end-to-end latency are taken over
completed requests; what is unfinished at the horizon is censored.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin.engine.records import SERIES, RunRecords, gap_edges_s
from twin.engine.requests import FloatArray

PERCENTILES = (50.0, 90.0, 99.0)


@dataclass(frozen=True)
class Latency:
    """Mean and percentiles of a latency in seconds; nan where there was nothing to measure."""

    mean_s: float
    p50_s: float
    p90_s: float
    p99_s: float


NO_LATENCY = Latency(np.nan, np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Window:
    """The part of a run that the metrics look at: from the end of the warm-up to the horizon."""

    warmup_s: float
    end_s: float

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return self.end_s - self.warmup_s


@dataclass(frozen=True)
class Traffic:
    """Tokens per second that arrived in the window, and those of requests that completed in it.

    ``served_tok_per_s`` is the sum of input and output; ``served_share`` is served over offered, 1 where
    nothing was offered.
    """

    offered_tok_per_s: float
    served_tok_per_s: float
    input_tok_per_s: float
    output_tok_per_s: float
    served_share: float


@dataclass(frozen=True)
class GPUMetrics:
    """Metrics of one GPU.

    Parameters
    ----------
    duration_s
        Length of the window.
    requests, completed
        Requests that arrived in the window, and those that ended in it.
    offered_tok_per_s, served_tok_per_s
        Prompt and output tokens of requests that arrived, and that completed, per second.
    input_tok_per_s, output_tok_per_s
        The two parts of ``served_tok_per_s``.
    served_share
        Served over offered; 1 where nothing was offered.
    ttft, itl, tpot, e2e, queueing
        Latencies. ITL is over all gaps between tokens, its percentiles from the steps' lengths.
    preemptions, gpu_loads, disk_loads
        Counts over the window (loads: over the whole run).
    load_share, busy_share
        Share of the time spent copying adapters, and in steps (copies included).
    running, waiting, adapters, kv_use
        Time averages: batch, queue, distinct adapters in the batch, share of the KV blocks in use.
    """

    duration_s: float
    requests: int
    completed: int
    offered_tok_per_s: float
    served_tok_per_s: float
    input_tok_per_s: float
    output_tok_per_s: float
    served_share: float
    ttft: Latency
    itl: Latency
    tpot: Latency
    e2e: Latency
    queueing: Latency
    preemptions: int
    gpu_loads: int
    disk_loads: int
    load_share: float
    busy_share: float
    running: float
    waiting: float
    adapters: float
    kv_use: float


@dataclass(frozen=True)
class AdapterMetrics:
    """Metrics of every adapter, as arrays over adapters, shape (n,).

    Latencies are nan for adapters without a completed request.
    """

    requests: NDArray[np.int64]
    completed: NDArray[np.int64]
    offered_tok_per_s: FloatArray
    served_tok_per_s: FloatArray
    served_share: FloatArray
    ttft: dict[str, FloatArray]
    tpot: dict[str, FloatArray]
    e2e: dict[str, FloatArray]
    queueing: dict[str, FloatArray]
    preemptions: NDArray[np.int64]
    gpu_loads: NDArray[np.int64]
    disk_loads: NDArray[np.int64]


def window(records: RunRecords, warmup_s: float = 0.0) -> Window:
    """From the end of the warm-up to the horizon, or to the end of a run without horizon."""
    end = records.horizon_s if np.isfinite(records.horizon_s) else records.end_s
    return Window(warmup_s, max(end, warmup_s))


def arrived(records: RunRecords, view: Window) -> NDArray[np.bool_]:
    """Which requests arrived in the window."""
    arrival = records.requests.arrival_s
    return (arrival >= view.warmup_s) & (arrival < view.end_s) if view.seconds > 0 else arrival < 0


def completed(records: RunRecords, view: Window) -> NDArray[np.bool_]:
    """Which requests ended in the window."""
    if view.warmup_s == 0:
        return records.finished
    return records.finish_s >= view.warmup_s


def tokens(records: RunRecords) -> NDArray[np.int64]:
    """Prompt and output tokens of each request."""
    return records.requests.prompt_tokens.astype(np.int64) + records.requests.output_tokens


def ttft_s(records: RunRecords, frontend_s: float = 0.0) -> FloatArray:
    """Time to first token from when the client sent the request, nan where there is none."""
    return records.first_token_s - records.sent_s + frontend_s


def e2e_s(records: RunRecords, frontend_s: float = 0.0) -> FloatArray:
    """Time from sending to the last token."""
    return records.finish_s - records.sent_s + frontend_s


def queueing_s(records: RunRecords) -> FloatArray:
    """Time from sending until the engine first schedules the request."""
    return records.first_scheduled_s - records.sent_s


def tpot_s(records: RunRecords) -> FloatArray:
    """Time per output token after the first, nan for answers of one token."""
    gaps = records.requests.output_tokens - 1
    spans = records.finish_s - records.first_token_s
    result: FloatArray = np.divide(spans, gaps, out=np.full(len(spans), np.nan), where=gaps > 0)
    return result


def mean_itl_s(records: RunRecords, chosen: NDArray[np.bool_]) -> float:
    """Mean gap between tokens over all gaps of the chosen completed requests."""
    gaps = int((records.requests.output_tokens[chosen].astype(np.int64) - 1).sum())
    spans = float((records.finish_s[chosen] - records.first_token_s[chosen]).sum())
    return spans / gaps if gaps else np.nan


def latency(values: FloatArray) -> Latency:
    """Mean and percentiles of the values that are not nan."""
    known = values[~np.isnan(values)]
    if not len(known):
        return NO_LATENCY
    p50, p90, p99 = np.percentile(known, PERCENTILES)
    return Latency(float(known.mean()), float(p50), float(p90), float(p99))


def itl(records: RunRecords, chosen: NDArray[np.bool_]) -> Latency:
    """Inter-token latency: exact mean, percentiles from the histogram of gaps (to about 2 %)."""
    counts = records.gaps
    if not counts.any():
        return Latency(mean_itl_s(records, chosen), np.nan, np.nan, np.nan)
    edges = gap_edges_s()
    middles, below = np.sqrt(edges[:-1] * edges[1:]), np.cumsum(counts)
    at = [float(middles[int(np.searchsorted(below, p / 100 * below[-1]))]) for p in PERCENTILES]
    return Latency(mean_itl_s(records, chosen), *at)


def traffic(records: RunRecords, view: Window, came: NDArray[np.bool_], ended: NDArray[np.bool_]) -> Traffic:
    """Tokens per second of the requests that came in a window, and of those that ended in it."""
    seconds = view.seconds if view.seconds > 0 else np.inf
    prompt = int(records.requests.prompt_tokens[ended].sum(dtype=np.int64))
    output = int(records.requests.output_tokens[ended].sum(dtype=np.int64))
    offered = int(tokens(records)[came].sum())
    return Traffic(
        offered_tok_per_s=offered / seconds,
        served_tok_per_s=(prompt + output) / seconds,
        input_tok_per_s=prompt / seconds,
        output_tok_per_s=output / seconds,
        served_share=(prompt + output) / offered if offered else 1.0,
    )


def gpu_metrics(
    records: RunRecords, usable_blocks: int, warmup_s: float = 0.0, frontend_s: float = 0.0
) -> GPUMetrics:
    """Metrics of the GPU over the window after the warm-up."""
    view = window(records, warmup_s)
    came, ended = arrived(records, view), completed(records, view)
    rates = traffic(records, view, came, ended)
    use = _use(records, view)
    return GPUMetrics(
        duration_s=view.seconds,
        requests=int(came.sum()),
        completed=int(ended.sum()),
        offered_tok_per_s=rates.offered_tok_per_s,
        served_tok_per_s=rates.served_tok_per_s,
        input_tok_per_s=rates.input_tok_per_s,
        output_tok_per_s=rates.output_tok_per_s,
        served_share=rates.served_share,
        ttft=latency(ttft_s(records, frontend_s)[ended]),
        itl=itl(records, ended),
        tpot=latency(tpot_s(records)[ended]),
        e2e=latency(e2e_s(records, frontend_s)[ended]),
        queueing=latency(queueing_s(records)[ended]),
        preemptions=round(use["preemptions"] * view.seconds),
        gpu_loads=int(records.gpu_loads.sum()),
        disk_loads=int(records.disk_loads.sum()),
        load_share=use["load_s"],
        busy_share=use["busy_s"],
        running=use["running_s"],
        waiting=use["waiting_s"],
        adapters=use["adapters_s"],
        kv_use=use["blocks_s"] / usable_blocks,
    )


def _use(records: RunRecords, view: Window) -> dict[str, float]:
    """Sums of the time series per second of the window, from the first whole part after the warm-up."""
    width = records.series_width_s
    first = int(np.ceil(view.warmup_s / width)) if np.isfinite(width) else 0
    first = min(first, len(records.series) - 1)
    seconds = view.end_s - first * width if first else view.end_s
    total = records.series[first:].sum(axis=0) / (seconds if seconds > 0 else np.inf)
    return dict(zip(SERIES, total.tolist(), strict=True))


def adapter_metrics(records: RunRecords, warmup_s: float = 0.0, frontend_s: float = 0.0) -> AdapterMetrics:
    """Metrics of every adapter over the window after the warm-up."""
    view = window(records, warmup_s)
    came, ended = arrived(records, view), completed(records, view)
    seconds = view.seconds if view.seconds > 0 else np.inf
    offered = adapter_sums(records, came, tokens(records))
    served = adapter_sums(records, ended, tokens(records))
    ones = np.ones(len(records.requests))
    return AdapterMetrics(
        requests=adapter_sums(records, came, ones).astype(np.int64),
        completed=adapter_sums(records, ended, ones).astype(np.int64),
        offered_tok_per_s=offered / seconds,
        served_tok_per_s=served / seconds,
        served_share=np.divide(served, offered, out=np.ones_like(served), where=offered > 0),
        ttft=_latencies(records, ended, ttft_s(records, frontend_s)),
        tpot=_latencies(records, ended, tpot_s(records)),
        e2e=_latencies(records, ended, e2e_s(records, frontend_s)),
        queueing=_latencies(records, ended, queueing_s(records)),
        preemptions=adapter_sums(records, came, records.preemptions).astype(np.int64),
        gpu_loads=records.gpu_loads,
        disk_loads=records.disk_loads,
    )


def adapter_sums(records: RunRecords, chosen: NDArray[np.bool_], values: NDArray[np.generic]) -> FloatArray:
    """Sum of the values of the chosen requests, per adapter."""
    requests = records.requests
    weights = values[chosen].astype(np.float64)
    return np.bincount(requests.adapter[chosen], weights, requests.n_adapters).astype(np.float64)


def _latencies(records: RunRecords, chosen: NDArray[np.bool_], values: FloatArray) -> dict[str, FloatArray]:
    """Mean and percentiles per adapter, by name."""
    chosen = chosen & ~np.isnan(values)
    order = np.lexsort((values[chosen], records.requests.adapter[chosen]))
    ordered = values[chosen][order]
    count = np.bincount(records.requests.adapter[chosen], minlength=records.requests.n_adapters)
    start = np.concatenate(([0], np.cumsum(count)[:-1]))
    total = adapter_sums(records, chosen, values)
    nothing: FloatArray = np.full(len(count), np.nan)
    some = count > 0
    result = {"mean_s": np.divide(total, count, out=nothing.copy(), where=some)}
    for p in PERCENTILES:
        at = start + np.floor((count - 1) * p / 100).astype(np.int64)
        percentile = nothing.copy()
        percentile[some] = ordered[at[some]]
        result[f"p{p:.0f}_s"] = percentile
    return result
