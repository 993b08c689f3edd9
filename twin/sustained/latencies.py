"""Latencies under *sustained*: over all requests that count, of a GPU or of some of its adapters."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from scenarios import AdapterSLO, ServiceLevelObjectives
from twin.engine.records import gap_edges_s
from twin.engine.requests import FloatArray, IntArray
from twin.load import GPULoad
from twin.metrics import PERCENTILES
from twin.sustained.pooled import Chosen, Pooled
from twin.violations import LATENCIES, AdapterFigure, Criterion, Violation


@dataclass(frozen=True)
class LimitedLatency:
    """A latency that is limited, of the GPU or of some adapters, in ms."""

    code: Criterion
    value: float | None
    limit: float
    adapters: IntArray | None = None

    @property
    def margin(self) -> float | None:
        return None if self.value is None else 1.0 - self.value / self.limit

    def violations(self, load: GPULoad) -> Iterator[Violation]:
        if self.value is None or self.value > self.limit:
            of = () if self.adapters is None else self.adapters
            figures = tuple(AdapterFigure(name=load.names[k], value=self.value, limit=self.limit) for k in of)
            yield Violation(code=self.code, value=self.value, limit=self.limit, adapters=figures)


def limited_latencies(pooled: Pooled) -> Iterator[LimitedLatency]:
    yield from _limited(pooled, pooled.levels, None)
    for levels, adapters in pooled.load.groups():
        yield from _limited(pooled, levels, adapters)


def _limited(
    pooled: Pooled, levels: ServiceLevelObjectives | AdapterSLO, adapters: IntArray | None
) -> Iterator[LimitedLatency]:
    limits = {code: limit for code in LATENCIES if (limit := code.limit_ms(levels)) is not None}
    if not limits:
        return
    chosen: Chosen = slice(None) if adapters is None else np.isin(pooled.adapter, adapters)
    values = {"ttft": ttft_s(pooled, chosen), "itl": itl_s(pooled, adapters)}
    for code, limit in limits.items():
        yield LimitedLatency(code, in_ms(values[code.metric][code.statistic or ""]), limit, adapters)


def ttft_s(pooled: Pooled, chosen: Chosen) -> dict[str, float]:
    """Mean and percentiles over requests that count; one without first token has waited until the end."""
    return _statistics(pooled.wait_s[chosen])


def itl_s(pooled: Pooled, adapters: IntArray | None = None) -> dict[str, float]:
    """Mean over all gaps of completed requests; percentiles of the gaps, of some adapters of mean gaps."""
    of = slice(None) if adapters is None else adapters
    seconds, gaps = (sum(getattr(run, n)[of].sum() for run in pooled.runs) for n in ("gap_seconds", "n_gaps"))
    mean = {"mean": float(seconds / gaps) if gaps else math.nan}
    if adapters is not None:
        means = np.concatenate([run.tpot_s[np.isin(run.adapter, adapters)] for run in pooled.runs])
        return _statistics(means[~np.isnan(means)]) | mean
    counts = np.sum([run.gap_counts for run in pooled.runs], axis=0)
    if not counts.any():
        return _statistics(np.zeros(0)) | mean
    edges, below = gap_edges_s(), np.cumsum(counts)
    at = np.searchsorted(below, np.array(PERCENTILES) / 100 * below[-1])
    middles = np.sqrt(edges[:-1] * edges[1:])[at]
    return {f"p{p:.0f}": float(m) for p, m in zip(PERCENTILES, middles, strict=True)} | mean


def _statistics(values: FloatArray) -> dict[str, float]:
    names = ["mean", *(f"p{p:.0f}" for p in PERCENTILES)]
    if not len(values):
        return dict.fromkeys(names, math.nan)
    return dict(zip(names, [float(values.mean()), *np.percentile(values, PERCENTILES).tolist()], strict=True))


def in_ms(seconds: float) -> float | None:
    return None if math.isnan(seconds) else 1e3 * seconds
