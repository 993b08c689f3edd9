"""Latencies under *sustained*: over all requests that count, of a GPU or of some of its adapters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from twin import metrics
from twin.engine.requests import IntArray
from twin.metrics import Latency
from twin.service_levels import Latencies, LimitedLatency, limited_latencies, limited_metrics
from twin.sustained.pooled import Chosen, Pooled


def latencies_of(
    pooled: Pooled, metrics_asked: Sequence[str] = metrics.LATENCY_METRICS, adapters: IntArray | None = None
) -> Latencies:
    """Latencies over the requests that count; those of ITL as in `itl`.

    One without first token has waited until the end, one without last token has been there until then. TPOT
    is over those that completed.
    """
    if not metrics_asked:
        return {}
    chosen: Chosen = slice(None) if adapters is None else np.isin(pooled.adapter, adapters)
    each = {"ttft": "wait_s", "tpot": "tpot_s", "e2e": "e2e_s"}
    return {
        metric: itl(pooled, chosen, adapters)
        if metric == "itl"
        else metrics.latency(getattr(pooled, each[metric])[chosen])
        for metric in metrics_asked
    }


def limited_of_adapters(pooled: Pooled) -> Iterator[LimitedLatency]:
    """What the levels of single entries limit."""
    for levels, adapters in pooled.load.groups():
        measured = latencies_of(pooled, limited_metrics(levels), adapters)
        yield from limited_latencies(levels, [measured], adapters)


def itl(pooled: Pooled, chosen: Chosen, adapters: IntArray | None) -> Latency:
    """Mean over all gaps of completed requests; percentiles of the gaps, of some adapters of mean gaps."""
    of = slice(None) if adapters is None else adapters
    seconds, gaps = (sum(getattr(run, n)[of].sum() for run in pooled.runs) for n in ("gap_seconds", "n_gaps"))
    if adapters is None:
        counts = np.sum([run.gap_counts for run in pooled.runs], axis=0)
        percentiles = metrics.gap_percentiles(counts)
    else:
        percentiles = metrics.latency(pooled.tpot_s[chosen])
    return replace(percentiles, mean_s=float(seconds / gaps) if gaps else np.nan)
