"""From runs to a verdict: service levels held against what each replication gave."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenarios import AdapterSLO, ServiceLevelObjectives
from twin import metrics
from twin.engine.requests import FloatArray, IntArray
from twin.load import GPULoad
from twin.metrics import LATENCY_METRICS, Latency, Traffic
from twin.result import SimulationResult
from twin.verdict import GPUVerdict, LatencyFigures, LatencyTable, SustainedFigures
from twin.violations import LATENCIES, AdapterFigure, AdapterLatency, Criterion, Violation

Latencies = Mapping[str, Latency]
"""Latencies by their metric."""


@dataclass(frozen=True)
class Replication:
    """What one replication gave.

    Parameters
    ----------
    traffic
        Tokens offered and served.
    in_flight_share
        Tokens being served at the end, over those offered.
    adapter_shares
        Share of its due tokens that each adapter was served, shape (n,).
    latencies
        Of all requests.
    group_latencies
        Of the load's groups of adapters with service levels of their own, those that these limit.
    kv_cache_tokens, cut_requests
        As of the run.
    """

    traffic: Traffic
    in_flight_share: float
    adapter_shares: FloatArray
    latencies: Latencies
    group_latencies: tuple[Latencies, ...]
    kv_cache_tokens: int
    cut_requests: int


def replication_of(result: SimulationResult, load: GPULoad) -> Replication:
    """What the verdict needs of a replication."""
    view = result.window
    return Replication(
        traffic=metrics.traffic(view),
        in_flight_share=metrics.in_flight_share(view),
        adapter_shares=metrics.due_shares(view),
        latencies=metrics.latencies_of(view, result.frontend_s),
        group_latencies=tuple(
            metrics.latencies_of(view, result.frontend_s, limited_metrics(levels), adapters)
            for levels, adapters in load.groups()
        ),
        kv_cache_tokens=result.kv_cache_tokens,
        cut_requests=result.cut_requests,
    )


def verdict_on(load: GPULoad, runs: Sequence[Replication], levels: ServiceLevelObjectives) -> GPUVerdict:
    """Verdict on a GPU from its replications."""
    worst = min(runs, key=lambda run: run.traffic.served_share)
    shares, least = np.min([run.adapter_shares for run in runs], axis=0), _least_shares(load, levels)
    order = np.argsort(shares, kind="stable")
    latencies = [run.latencies for run in runs]
    limited = list(limited_latencies(levels, latencies))
    of_groups = [
        one
        for g, (own, adapters) in enumerate(load.groups())
        for one in limited_latencies(own, [run.group_latencies[g] for run in runs], adapters)
    ]
    margins = {
        Criterion.SERVED_SHARE: worst.traffic.served_share / levels.served_share - 1,
        Criterion.ADAPTER_SERVED_SHARE: float((shares / least).min()) - 1,
        **{one.code: one.margin for one in limited},
    }
    violations = (
        *_too_little_served(worst, levels),
        *_starved(load, shares, least, order),
        *(missed for one in (*limited, *of_groups) for missed in one.violations(load)),
    )
    return GPUVerdict(
        accepted=not violations,
        violations=violations,
        offered_tok_per_s=float(np.mean([run.traffic.offered_tok_per_s for run in runs])),
        served_tok_per_s=float(np.mean([run.traffic.served_tok_per_s for run in runs])),
        served_share=worst.traffic.served_share,
        worst_adapter=load.names[order[0]],
        worst_served_share=float(shares[order[0]]),
        itl_ms=_mean_ms([run["itl"].mean_s for run in latencies]),
        ttft_ms=_mean_ms([run["ttft"].mean_s for run in latencies]),
        itl_p99_ms=_largest_ms([run["itl"].p99_s for run in latencies]),
        ttft_p50_ms=_largest_ms([run["ttft"].p50_s for run in latencies]),
        ttft_p99_ms=_largest_ms([run["ttft"].p99_s for run in latencies]),
        latencies=latency_table(latencies),
        adapter_latencies=tuple(one.of_adapters(load) for one in of_groups),
        kv_cache_tokens=runs[0].kv_cache_tokens,
        margins=margins,
        margin=_log_margin(margins, of_groups, violations),
        first_to_suffer=load.names[int((shares / least).argmin())] if shares.min() < 1.0 else None,
        replications=len(runs),
        cut_requests=sum(run.cut_requests for run in runs),
    )


def _log_margin(
    margins: Mapping[Criterion, float | None],
    of_groups: Sequence[LimitedLatency],
    violations: Sequence[Violation],
) -> float | None:
    """The smallest logarithm of share over limit, and of limit over latency; None if one is infinite."""
    ratios = [
        1 + margin if code.statistic is None else 1 / (1 - margin)
        for code, margin in margins.items()
        if margin is not None
    ]
    ratios += [one.limit / one.value for one in of_groups if one.value is not None]
    for missed in violations:  # those of single adapters are no part of the margins
        if missed.value is None or missed.limit is None:
            return None
        ratios.append((missed.value / missed.limit) ** (1 if missed.code.statistic is None else -1))
    least = min(ratios)
    return math.log(least) if least > 0 else None


def verdict_unstarted(
    load: GPULoad, violation: Violation, sustained: SustainedFigures | None = None
) -> GPUVerdict:
    """Verdict on a GPU whose engine does not start, or does not take an adapter."""
    lengths = [p.mean_tokens + o.mean_tokens for p, o in zip(load.prompt, load.output, strict=True)]
    return GPUVerdict(
        accepted=False,
        violations=(violation,),
        offered_tok_per_s=float(load.rate @ np.array(lengths)),
        served_tok_per_s=0.0,
        served_share=0.0,
        worst_adapter=load.names[0],
        worst_served_share=0.0,
        itl_ms=None,
        ttft_ms=None,
        itl_p99_ms=None,
        ttft_p99_ms=None,
        kv_cache_tokens=0,
        margins=_nothing_served(sustained),
        sustained=sustained,
    )


def _nothing_served(sustained: SustainedFigures | None) -> dict[Criterion, float | None]:
    served = (Criterion.SERVED_SHARE, Criterion.ADAPTER_SERVED_SHARE)
    return dict.fromkeys((Criterion.LATE_SHARE,) if sustained is not None else served, -1.0)


def _too_little_served(worst: Replication, levels: ServiceLevelObjectives) -> Iterator[Violation]:
    share, in_flight = worst.traffic.served_share, worst.in_flight_share
    if share < levels.served_share:
        yield Violation(
            code=Criterion.SERVED_SHARE,
            value=share,
            limit=levels.served_share,
            in_flight_share=in_flight if share + in_flight >= levels.served_share else None,
        )


def _least_shares(load: GPULoad, levels: ServiceLevelObjectives) -> FloatArray:
    """Share of its tokens that each adapter must get, shape (n,)."""
    own = [None if level is None else level.served_share for level in load.levels] or [None] * len(load.rank)
    return np.array([levels.adapter_served_share if share is None else share for share in own])


def _starved(
    load: GPULoad, shares: FloatArray, least: FloatArray, order: NDArray[np.int64]
) -> Iterator[Violation]:
    starved = [
        AdapterFigure(name=load.names[k], value=float(shares[k]), limit=float(least[k]))
        for k in order
        if shares[k] < least[k]
    ]
    if starved:
        yield Violation(
            code=Criterion.ADAPTER_SERVED_SHARE,
            value=starved[0].value,
            limit=starved[0].limit,
            adapters=tuple(starved),
        )


# --- limited latencies ------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LimitedLatency:
    """A latency that is limited, of the GPU or of some adapters, in ms; None where nothing completed."""

    code: Criterion
    value: float | None
    limit: float
    adapters: IntArray | None = None

    @property
    def margin(self) -> float | None:
        """How far it is from its limit, as a share of that."""
        return None if self.value is None else 1.0 - self.value / self.limit

    def violations(self, load: GPULoad) -> Iterator[Violation]:
        """What is missed, if it is."""
        if self.value is None or self.value > self.limit:
            of = () if self.adapters is None else self.adapters
            figures = tuple(AdapterFigure(name=load.names[k], value=self.value, limit=self.limit) for k in of)
            yield Violation(code=self.code, value=self.value, limit=self.limit, adapters=figures)

    def of_adapters(self, load: GPULoad) -> AdapterLatency:
        """The same for a verdict, of some adapters."""
        assert self.adapters is not None
        first, size = load.names[self.adapters[0]], len(self.adapters)
        return AdapterLatency(code=self.code, value=self.value, limit=self.limit, adapter=first, size=size)


def limited_metrics(levels: ServiceLevelObjectives | AdapterSLO) -> list[str]:
    """The latencies of which service levels limit a figure."""
    limited = {code.metric for code in LATENCIES if code.limit_ms(levels) is not None}
    return [metric for metric in LATENCY_METRICS if metric in limited]


def limited_latencies(
    levels: ServiceLevelObjectives | AdapterSLO, runs: Sequence[Latencies], adapters: IntArray | None = None
) -> Iterator[LimitedLatency]:
    """Every latency that service levels limit, of the worst of some runs."""
    for code in LATENCIES:
        limit = code.limit_ms(levels)
        if limit is not None:
            yield LimitedLatency(code, _worst_ms(runs, code.metric, code.statistic or ""), limit, adapters)


def latency_table(runs: Sequence[Latencies]) -> LatencyTable:
    """The latencies of the worst of some runs."""
    return LatencyTable(
        **{
            metric: LatencyFigures(
                **{name: _worst_ms(runs, metric, name) for name in LatencyFigures.model_fields}
            )
            for metric in LATENCY_METRICS
        }
    )


def _worst_ms(runs: Sequence[Latencies], metric: str, statistic: str) -> float | None:
    """The largest of a figure; None where a run has none."""
    values: list[float] = [getattr(run[metric], f"{statistic}_s") for run in runs]
    return None if any(map(math.isnan, values)) else 1e3 * max(values)


def _mean_ms(seconds: Sequence[float]) -> float | None:
    known = [s for s in seconds if not np.isnan(s)]
    return 1e3 * float(np.mean(known)) if known else None


def _largest_ms(seconds: Sequence[float]) -> float | None:
    known = [s for s in seconds if not np.isnan(s)]
    return 1e3 * max(known) if known else None
