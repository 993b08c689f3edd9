"""Metrics as pure functions of a run's records.

Definitions are those of vLLM's benchmark and of the paper (arXiv 2602.24044): throughput counts the
prompt and output tokens of completed requests; TTFT, TPOT, ITL and end-to-end latency are taken over
completed requests; what is unfinished at the horizon is censored.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twin.engine.records import SERIES, RunRecords, gap_edges_s
from twin.engine.requests import FloatArray, IntArray

PERCENTILES = (50.0, 90.0, 95.0, 99.0)

_SHARES = np.array(PERCENTILES) / 100

LATENCY_METRICS = ("itl", "ttft", "tpot", "e2e")
"""Latencies that service levels may limit."""

_KEY_SHIFT = 44
"""Bits of a number of 64 that are left out where numbers are counted: 256 steps an octave remain."""

_FEW = 10_000
"""Numbers below which NumPy's own selection is quicker."""

GRACE = 0.02
"""Share of the window within which a request that still waits at its end is not held against the GPU."""


@dataclass(frozen=True)
class Latency:
    """Mean and percentiles of a latency in seconds; nan where there was nothing to measure."""

    mean_s: float
    p50_s: float
    p90_s: float
    p95_s: float
    p99_s: float


NO_LATENCY = Latency(np.nan, np.nan, np.nan, np.nan, np.nan)


@dataclass(frozen=True)
class Window:
    """The part of a run that the metrics look at: from the end of the warm-up to the horizon.

    Parameters
    ----------
    records
        The run.
    warmup_s, end_s
        Where it begins and ends.
    arrived, completed
        Which requests arrived, and which ended in it, shape (n,).
    tokens
        Prompt and output tokens of each request, shape (n,).
    """

    records: RunRecords
    warmup_s: float
    end_s: float
    arrived: NDArray[np.bool_]
    completed: NDArray[np.bool_]
    tokens: NDArray[np.int64]

    @property
    def seconds(self) -> float:
        """Length of the window."""
        return self.end_s - self.warmup_s

    @property
    def divisor_s(self) -> float:
        """Seconds that make a rate of a sum; infinite where the window has no length."""
        return self.seconds if self.seconds > 0 else np.inf


def window(records: RunRecords, warmup_s: float = 0.0) -> Window:
    """From the end of the warm-up to the horizon, or to the end of a run without horizon."""
    requests = records.requests
    end = max(records.horizon_s if np.isfinite(records.horizon_s) else records.end_s, warmup_s)
    inside = (requests.arrival_s >= warmup_s) & (requests.arrival_s < end)
    completed = records.finished if warmup_s == 0 else records.finish_s >= warmup_s
    tokens = requests.prompt_tokens.astype(np.int64) + requests.output_tokens
    return Window(records, warmup_s, end, inside, completed, tokens)


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
class GPUMetrics(Traffic):
    """Traffic and other metrics of one GPU.

    Parameters
    ----------
    duration_s
        Length of the window.
    requests, completed
        Requests that arrived in the window, and those that ended in it.
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


def latency(values: FloatArray) -> Latency:
    """Mean and percentiles of the values that are not nan; none is below 0."""
    if not len(values):
        return NO_LATENCY
    mean = float(values.mean())
    if math.isnan(mean):
        known = values[~np.isnan(values)]
        return latency(known)
    return Latency(mean, *_percentiles(values))


def _percentiles(values: FloatArray) -> list[float]:
    """The percentiles as NumPy interpolates them, of values of which none is below 0."""
    place = _SHARES * (len(values) - 1)
    low = place.astype(np.int64)
    ranks = np.stack([low, np.minimum(low + 1, len(values) - 1)])
    few = len(values) < _FEW
    lower, upper = np.partition(values, ranks.ravel())[ranks] if few else _order_statistics(values, ranks)
    share, step = place - low, upper - lower
    result: list[float] = np.where(share < 0.5, lower + step * share, upper - step * (1 - share)).tolist()
    return result


def _order_statistics(values: FloatArray, ranks: NDArray[np.int64]) -> FloatArray:
    """The numbers at some places of the sorted values, of which none is below 0, in the ranks' shape.

    The bits of such numbers, read as whole numbers, are in the order of the numbers. So counting them by
    their first bits tells where those asked for are, and only those beside them are sorted: a verdict has
    millions.
    """
    key = values.view(np.int64) >> _KEY_SHIFT
    key -= key.min()
    below = np.cumsum(np.bincount(key))
    found = np.searchsorted(below, ranks, side="right")
    result = np.empty(ranks.shape)
    for k in np.unique(found):
        near, here = np.sort(values[key == k]), found == k
        result[here] = near[ranks[here] - (below[k] - len(near))]
    return result


def gap_percentiles(counts: NDArray[np.int64]) -> Latency:
    """Percentiles of a histogram of gaps, without a mean."""
    if not counts.any():
        return NO_LATENCY
    edges, below = gap_edges_s(), np.cumsum(counts)
    at = np.searchsorted(below, np.array(PERCENTILES) / 100 * below[-1])
    return Latency(np.nan, *np.sqrt(edges[:-1] * edges[1:])[at].tolist())


def latencies_of(
    view: Window,
    frontend_s: float,
    measured: Sequence[str] = LATENCY_METRICS,
    adapters: IntArray | None = None,
) -> dict[str, Latency]:
    """Latencies over the completed requests of a window, of all or of some adapters.

    ITL is over all gaps between tokens: its mean is exact, and its percentiles are those of the steps'
    lengths. Which adapters had part in a step is not recorded: of some adapters the percentiles are over
    their requests' mean gaps.
    """
    if not measured:
        return {}
    records, chosen = view.records, view.completed
    if adapters is not None:
        chosen = chosen & np.isin(records.requests.adapter, adapters)
    sent, first, finish = (a[chosen] for a in (records.sent_s, records.first_token_s, records.finish_s))
    spans, gaps = finish - first, records.requests.output_tokens[chosen] - 1
    found: dict[str, Latency] = {}
    if "ttft" in measured:
        found["ttft"] = latency(first - sent + frontend_s)
    if "e2e" in measured:
        found["e2e"] = latency(finish - sent + frontend_s)
    if "tpot" in measured or "itl" in measured:
        several = gaps > 0
        found["tpot"] = latency(spans[several] / gaps[several])
    if "itl" in measured:
        count = int(gaps.sum(dtype=np.int64))
        percentiles = gap_percentiles(records.gaps) if adapters is None else found["tpot"]
        found["itl"] = replace(percentiles, mean_s=float(spans.sum()) / count if count else np.nan)
    return found


def traffic(view: Window) -> Traffic:
    """Tokens per second of the requests that came in a window, and of those that ended in it."""
    requests, ended = view.records.requests, view.completed
    prompt = int(requests.prompt_tokens[ended].sum(dtype=np.int64))
    output = int(requests.output_tokens[ended].sum(dtype=np.int64))
    offered = int(view.tokens[view.arrived].sum())
    return Traffic(
        offered_tok_per_s=offered / view.divisor_s,
        served_tok_per_s=(prompt + output) / view.divisor_s,
        input_tok_per_s=prompt / view.divisor_s,
        output_tok_per_s=output / view.divisor_s,
        served_share=(prompt + output) / offered if offered else 1.0,
    )


def in_flight_share(view: Window) -> float:
    """Tokens of the requests that were being served at the end, over those offered."""
    served = view.arrived & ~np.isnan(view.records.first_scheduled_s) & ~view.completed
    offered = int(view.tokens[view.arrived].sum())
    return int(view.tokens[served].sum()) / offered if offered else 0.0


def due_shares(view: Window) -> FloatArray:
    """Share of its due tokens that each adapter was served, shape (n,).

    Due are requests that completed, and those still waiting for their first step at the end although
    they arrived longer than a grace period before; what is merely under way is not held against the GPU.
    One request of mean length is forgiven, so that a rare adapter does not fail by a single unlucky
    request; adapters with nothing due have a share of 1.
    """
    records = view.records
    never = np.isnan(records.first_scheduled_s) & view.arrived
    overdue = never & (records.requests.arrival_s < view.end_s - GRACE * view.seconds)
    served = adapter_sums(records, view.completed, view.tokens)
    missed = adapter_sums(records, overdue, view.tokens)
    count = adapter_sums(records, overdue, np.ones(len(view.tokens)))
    forgiven = np.divide(missed, count, out=np.zeros_like(missed), where=count > 0)
    due = served + missed
    return np.divide(served + forgiven, due, out=np.ones_like(due), where=due > 0)


def gpu_metrics(view: Window, usable_blocks: int, frontend_s: float = 0.0) -> GPUMetrics:
    """Metrics of the GPU over a window."""
    records, ended, rates, use = view.records, view.completed, traffic(view), _use(view)
    latencies = latencies_of(view, frontend_s)
    return GPUMetrics(
        **vars(rates),
        duration_s=view.seconds,
        requests=int(view.arrived.sum()),
        completed=int(ended.sum()),
        ttft=latencies["ttft"],
        itl=latencies["itl"],
        tpot=latencies["tpot"],
        e2e=latencies["e2e"],
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


def _use(view: Window) -> dict[str, float]:
    """Sums of the time series per second of the window, from the first whole part after the warm-up."""
    records, width = view.records, view.records.series_width_s
    first = int(np.ceil(view.warmup_s / width)) if np.isfinite(width) else 0
    first = min(first, len(records.series) - 1)
    seconds = view.end_s - first * width if first else view.end_s
    total = records.series[first:].sum(axis=0) / (seconds if seconds > 0 else np.inf)
    return dict(zip(SERIES, total.tolist(), strict=True))


def adapter_metrics(view: Window, frontend_s: float = 0.0) -> AdapterMetrics:
    """Metrics of every adapter over a window."""
    records, came, ended = view.records, view.arrived, view.completed
    offered = adapter_sums(records, came, view.tokens)
    served = adapter_sums(records, ended, view.tokens)
    ones = np.ones(len(records.requests))
    return AdapterMetrics(
        requests=adapter_sums(records, came, ones).astype(np.int64),
        completed=adapter_sums(records, ended, ones).astype(np.int64),
        offered_tok_per_s=offered / view.divisor_s,
        served_tok_per_s=served / view.divisor_s,
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
