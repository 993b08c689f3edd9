"""From runs to a verdict: service levels held against what each replication gave."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scenarios import AdapterSLO, ServiceLevelObjectives
from twin import metrics
from twin.engine.requests import FloatArray, IntArray
from twin.load import GPULoad
from twin.metrics import Latency, Traffic, Window
from twin.result import SimulationResult
from twin.verdict import GPUVerdict, SustainedFigures
from twin.violations import LATENCIES, AdapterFigure, Criterion, Violation

Latencies = tuple[Latency, Latency]
"""ITL and TTFT."""


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
        Of the load's groups of adapters with service levels of their own.
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
    view, records = result.window, result.records
    ttft = metrics.ttft_s(records, result.frontend_s)
    return Replication(
        traffic=metrics.traffic(view),
        in_flight_share=metrics.in_flight_share(view),
        adapter_shares=metrics.due_shares(view),
        latencies=(metrics.itl(records, view.completed), metrics.latency(ttft[view.completed])),
        group_latencies=tuple(_latencies_of(view, ttft, adapters) for _, adapters in load.groups()),
        kv_cache_tokens=result.kv_cache_tokens,
        cut_requests=result.cut_requests,
    )


def _latencies_of(view: Window, ttft: FloatArray, adapters: IntArray) -> Latencies:
    """ITL (exact mean, percentiles of the requests' means) and TTFT over the requests of some adapters."""
    records = view.records
    chosen = view.completed & np.isin(records.requests.adapter, adapters)
    itl = metrics.latency(metrics.tpot_s(records)[chosen])
    return replace(itl, mean_s=metrics.mean_itl_s(records, chosen)), metrics.latency(ttft[chosen])


def verdict_on(load: GPULoad, runs: Sequence[Replication], levels: ServiceLevelObjectives) -> GPUVerdict:
    """Verdict on a GPU from its replications."""
    worst = min(runs, key=lambda run: run.traffic.served_share)
    shares, least = np.min([run.adapter_shares for run in runs], axis=0), _least_shares(load, levels)
    order = np.argsort(shares, kind="stable")
    latencies = list(_limited([run.latencies for run in runs], levels))
    margins = {
        Criterion.SERVED_SHARE: worst.traffic.served_share / levels.served_share - 1,
        Criterion.ADAPTER_SERVED_SHARE: float((shares / least).min()) - 1,
        **{code: None if value is None else 1 - value / limit for code, value, limit in latencies},
    }
    violations = (
        *_too_little_served(worst, levels),
        *_starved(load, shares, least, order),
        *_too_late(latencies),
        *_too_late_for_groups(load, runs),
    )
    return GPUVerdict(
        accepted=not violations,
        violations=violations,
        offered_tok_per_s=float(np.mean([run.traffic.offered_tok_per_s for run in runs])),
        served_tok_per_s=float(np.mean([run.traffic.served_tok_per_s for run in runs])),
        served_share=worst.traffic.served_share,
        worst_adapter=load.names[order[0]],
        worst_served_share=float(shares[order[0]]),
        itl_ms=_mean_ms([run.latencies[0].mean_s for run in runs]),
        ttft_ms=_mean_ms([run.latencies[1].mean_s for run in runs]),
        itl_p99_ms=_largest_ms([run.latencies[0].p99_s for run in runs]),
        ttft_p50_ms=_largest_ms([run.latencies[1].p50_s for run in runs]),
        ttft_p99_ms=_largest_ms([run.latencies[1].p99_s for run in runs]),
        kv_cache_tokens=runs[0].kv_cache_tokens,
        margins=margins,
        margin=_log_margin(margins, violations),
        first_to_suffer=load.names[int((shares / least).argmin())] if shares.min() < 1.0 else None,
        replications=len(runs),
        cut_requests=sum(run.cut_requests for run in runs),
    )


def _log_margin(margins: Mapping[Criterion, float | None], violations: Sequence[Violation]) -> float | None:
    """The smallest logarithm of share over limit, and of limit over latency; None if one is infinite."""
    ratios = [
        1 + margin if code.statistic is None else 1 / (1 - margin)
        for code, margin in margins.items()
        if margin is not None
    ]
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


_Limited = tuple[Criterion, float | None, float]
"""A latency that is limited, the worst of the replications in ms (None: nothing completed), and its limit."""


def _limited(
    latencies: Sequence[Latencies], levels: ServiceLevelObjectives | AdapterSLO
) -> Iterator[_Limited]:
    for code in LATENCIES:
        limit = code.limit_ms(levels)
        if limit is not None:
            measured = [itl if code.metric == "itl" else ttft for itl, ttft in latencies]
            worst = 1e3 * float(np.max([getattr(latency, f"{code.statistic}_s") for latency in measured]))
            yield code, None if np.isnan(worst) else worst, limit


def _too_late(limited: Sequence[_Limited], adapters: Sequence[str] = ()) -> Iterator[Violation]:
    for code, value, limit in limited:
        if value is None or value > limit:
            figures = tuple(AdapterFigure(name=name, value=value, limit=limit) for name in adapters)
            yield Violation(code=code, value=value, limit=limit, adapters=figures)


def _too_late_for_groups(load: GPULoad, runs: Sequence[Replication]) -> Iterator[Violation]:
    """The latencies of each group of adapters with service levels of their own."""
    for g, (levels, adapters) in enumerate(load.groups()):
        limited = list(_limited([run.group_latencies[g] for run in runs], levels))
        yield from _too_late(limited, [load.names[k] for k in adapters])


def _mean_ms(seconds: Sequence[float]) -> float | None:
    known = [s for s in seconds if not np.isnan(s)]
    return 1e3 * float(np.mean(known)) if known else None


def _largest_ms(seconds: Sequence[float]) -> float | None:
    known = [s for s in seconds if not np.isnan(s)]
    return 1e3 * max(known) if known else None
