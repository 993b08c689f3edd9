"""The rule of *sustained*: what runs of a GPU must show for it to be accepted.

Rejected is a GPU of which too many requests wait longer than their patience, in all, of a class of alike
adapters, of one adapter, or in an hour of a period; whose queue grows; or that misses a limit on a latency.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtrc, stdtrit

from scenarios import AdapterSLO, EngineConfig, ServiceLevelObjectives, Workload
from twin.engine.records import gap_edges_s
from twin.engine.requests import FloatArray, IntArray
from twin.load import GPULoad
from twin.metrics import PERCENTILES
from twin.profile import EngineProfile
from twin.simulate import simulate
from twin.sustained.observation import FULL, Effort, observation_of
from twin.sustained.pooled import HOUR_S, Chosen, Pooled, grouped, patience_of
from twin.sustained.waits import waits_of
from twin.verdict import GPUVerdict, SustainedFigures
from twin.violations import LATENCIES, AdapterFigure, Criterion, Violation

ENOUGH_DUE = 300
"""Requests from which on the share of late ones of a class, or of an hour, is held against the limit."""

HOUR_FACTOR = 5.0
"""How many times the share of all requests may be late in one hour of a period."""

SURENESS = 0.001
"""Probability with which chance alone may have an adapter of the GPU judged late."""

GROWTH_SHARE = 0.005
"""Share of the arrivals by which the unfinished requests may grow."""

CONFIDENCE = 0.95
"""Of the interval of the late share."""


def judge_sustained(
    load: GPULoad,
    workload: Workload,
    engine: EngineConfig,
    profile: EngineProfile,
    *,
    max_loras: int,
    max_lora_rank: int,
    service_levels: ServiceLevelObjectives,
    headroom: float,
    gpu_memory_gib: float | None,
    seeds: Sequence[np.random.SeedSequence],
    effort: Effort = FULL,
) -> GPUVerdict:
    """Judge one GPU by runs of its load, times 1 + headroom, from an empty engine; one run for each seed.

    Raises
    ------
    MemoryFailure
        If the engine does not start.
    """
    judged = load.scaled(1.0 + headroom)
    patience = float(patience_of(load, service_levels).max())
    observation = observation_of(workload, float(judged.rate.sum()), patience, effort)
    runs = []
    kv_cache_tokens = cut_requests = 0
    for seed in seeds:  # one after the other: each is large
        result = simulate(
            judged,
            workload.model_copy(update={"warmup_s": observation.settle_s}),
            engine,
            profile,
            max_loras=max_loras,
            max_lora_rank=max_lora_rank,
            seed=seed,
            gpu_memory_gib=gpu_memory_gib,
            duration_s=observation.horizon_s,
            sustained=True,
        )
        runs.append(waits_of(result, observation))
        kv_cache_tokens, cut_requests = result.kv_cache_tokens, cut_requests + result.cut_requests
    pooled = Pooled(judged, service_levels, runs, observation.period_s)
    return verdict_of(pooled, headroom, kv_cache_tokens, cut_requests)


def verdict_of(pooled: Pooled, headroom: float, kv_cache_tokens: int, cut_requests: int) -> GPUVerdict:
    """The verdict, with its figures."""
    runs, load = pooled.runs, pooled.load
    classes = list(_classes(pooled))
    latencies = list(_latencies(pooled))
    late, growth = _late_share(pooled), _Growth.of(pooled)
    violations = (
        *late.violations(),
        *_late_classes(pooled, classes),
        *_late_adapters(pooled),
        *growth.violations(),
        *_late_hours(pooled),
        *(v for limited in latencies for v in limited.violations(load)),
    )
    shares = np.min([run.due_shares for run in runs], axis=0)
    worst = int(np.argmin(shares))
    offered, served = (
        np.array([getattr(r, f"{name}_tokens") for r in runs]) for name in ("offered", "served")
    )
    seconds = runs[0].seconds
    ttft, itl = _ttft_s(pooled, slice(None)), _itl_s(pooled)
    margins = {
        Criterion.LATE_SHARE: 1.0 - late.share / late.limit,
        Criterion.GROWTH: 1.0 - growth.per_h / growth.limit_per_h if growth.limit_per_h else None,
        **{limited.code: limited.margin for limited in latencies if limited.adapters is None},
    }
    return GPUVerdict(
        accepted=not violations,
        violations=violations,
        offered_tok_per_s=float(offered.mean() / seconds),
        served_tok_per_s=float(served.mean() / seconds),
        served_share=float(np.min(np.divide(served, offered, out=np.ones_like(served), where=offered > 0))),
        worst_adapter=load.names[worst],
        worst_served_share=float(shares[worst]),
        itl_ms=_ms(itl["mean"]),
        ttft_ms=_ms(ttft["mean"]),
        itl_p99_ms=_ms(itl["p99"]),
        ttft_p50_ms=_ms(ttft["p50"]),
        ttft_p99_ms=_ms(ttft["p99"]),
        kv_cache_tokens=kv_cache_tokens,
        margins=margins,
        margin=_margin(pooled, classes, latencies),
        replications=len(runs),
        cut_requests=cut_requests,
        sustained=_figures(pooled, late, growth, classes, headroom),
    )


# --- late requests -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _LateShare:
    """The share of all requests that are late, and what it is held against."""

    share: float
    limit: float
    interval: tuple[float, float]
    patience_s: float

    def violations(self) -> Iterator[Violation]:
        if self.share > self.limit:
            yield Violation(
                code=Criterion.LATE_SHARE, value=self.share, limit=self.limit, patience_s=self.patience_s
            )


def _late_share(pooled: Pooled) -> _LateShare:
    due, late = len(pooled.late), int(pooled.late.sum())
    share = late / due if due else 0.0
    return _LateShare(share, pooled.levels.late_share, _interval(pooled, share), pooled.levels.patience_s)


def _interval(pooled: Pooled, share: float) -> tuple[float, float]:
    """Confidence interval of the late share from its hours: a ratio of sums over them.

    Source: Cochran, Sampling Techniques, 1977, chapter 6.
    """
    due, late = pooled.hours()
    hours = len(due)
    if hours < 2 or not due.sum():
        return 0.0, 1.0
    spread = math.sqrt(float(((late - share * due) ** 2).sum()) / (hours - 1) / hours)
    half = float(stdtrit(hours - 1, (1 + CONFIDENCE) / 2)) * spread / float(due.mean())
    return max(share - half, 0.0), min(share + half, 1.0)


@dataclass(frozen=True)
class _Class:
    """Adapters of the GPU that are exchangeable, and how late their requests are."""

    adapters: IntArray
    due: int
    late: int
    impatience: float

    @property
    def share(self) -> float:
        return self.late / self.due


def _classes(pooled: Pooled) -> Iterator[_Class]:
    """The classes of the GPU with enough requests, those of one adapter too."""
    kind = pooled.load.kind_of()
    n = int(kind.max()) + 1
    due, late = (np.bincount(kind, counts, n).astype(np.int64) for counts in (pooled.due_of, pooled.late_of))
    if n == 1 and due[0] >= ENOUGH_DUE:
        impatience = pooled.quantile(slice(None), pooled.levels.late_share)
        yield _Class(np.arange(len(kind), dtype=np.int32), int(due[0]), int(late[0]), impatience)
        return
    of_request = kind[pooled.adapter]
    order = grouped(of_request)
    ends = np.cumsum(due)
    for k in np.flatnonzero(due >= ENOUGH_DUE):
        members = order[ends[k] - due[k] : ends[k]]
        impatience = pooled.quantile(members, pooled.levels.late_share)
        adapters = np.flatnonzero(kind == k).astype(np.int32)
        yield _Class(adapters, int(due[k]), int(late[k]), impatience)


def _late_classes(pooled: Pooled, classes: Sequence[_Class]) -> Iterator[Violation]:
    limit = pooled.levels.late_share
    late = sorted((one for one in classes if one.share > limit), key=lambda one: -one.share)
    # A class that is all of the GPU is told already.
    late = [one for one in late if len(one.adapters) < len(pooled.load.names)]
    if late:
        yield Violation(
            code=Criterion.CLASS_LATE_SHARE,
            value=late[0].share,
            limit=limit,
            patience_s=float(pooled.patience_s[late[0].adapters[0]]),
            adapters=tuple(
                AdapterFigure(name=pooled.load.names[k], value=one.share, limit=limit)
                for one in late
                for k in one.adapters
            ),
        )


def _chance(pooled: Pooled) -> FloatArray:
    """Probability that so many requests of each adapter are late by chance, shape (n,); 1 where none is."""
    events, due = pooled.late_events, pooled.due_of
    chance = np.ones(len(due))
    some = events > 0
    chance[some] = bdtrc(events[some] - 1, due[some], pooled.levels.late_share)
    return chance


def _late_adapters(pooled: Pooled) -> Iterator[Violation]:
    limit, names = pooled.levels.late_share, pooled.load.names
    chance = _chance(pooled)
    late = [k for k in np.argsort(chance, kind="stable") if chance[k] < SURENESS / len(names)]
    if late:
        shares = pooled.late_of / np.maximum(pooled.due_of, 1)
        yield Violation(
            code=Criterion.ADAPTER_LATE_SHARE,
            value=float(shares[late[0]]),
            limit=limit,
            patience_s=float(pooled.patience_s[late[0]]),
            adapters=tuple(AdapterFigure(name=names[k], value=float(shares[k]), limit=limit) for k in late),
        )


def _late_hours(pooled: Pooled) -> Iterator[Violation]:
    """No hour of a period is sacrificed to the mean."""
    if pooled.period_s is None:
        return
    due, late = pooled.hours(pooled.period_s)
    limit = HOUR_FACTOR * pooled.levels.late_share
    share = np.divide(late, due, out=np.zeros(len(due)), where=due >= ENOUGH_DUE)
    worst = int(share.argmax()) if len(share) else 0
    if len(share) and share[worst] > limit:
        yield Violation(
            code=Criterion.HOUR_LATE_SHARE,
            value=float(share[worst]),
            limit=limit,
            patience_s=pooled.levels.patience_s,
            hour=worst,
        )


# --- growth ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Growth:
    """By how many requests an hour the unfinished ones grow, and may."""

    per_h: float
    limit_per_h: float

    @classmethod
    def of(cls, pooled: Pooled) -> _Growth:
        arrivals = len(pooled.adapter) / pooled.seconds
        growth = float(np.mean([run.growth_per_s for run in pooled.runs]))
        return cls(HOUR_S * growth, HOUR_S * GROWTH_SHARE * arrivals)

    def violations(self) -> Iterator[Violation]:
        if self.per_h > self.limit_per_h:
            yield Violation(code=Criterion.GROWTH, value=self.per_h, limit=self.limit_per_h)


# --- latencies -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Limited:
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


def _latencies(pooled: Pooled) -> Iterator[_Limited]:
    yield from _limited(pooled, pooled.levels, None)
    for levels, adapters in pooled.load.groups():
        yield from _limited(pooled, levels, adapters)


def _limited(
    pooled: Pooled, levels: ServiceLevelObjectives | AdapterSLO, adapters: IntArray | None
) -> Iterator[_Limited]:
    limits = {code: limit for code in LATENCIES if (limit := code.limit_ms(levels)) is not None}
    if not limits:
        return
    chosen: Chosen = slice(None) if adapters is None else np.isin(pooled.adapter, adapters)
    values = {"ttft": _ttft_s(pooled, chosen), "itl": _itl_s(pooled, adapters)}
    for code, limit in limits.items():
        yield _Limited(code, _ms(values[code.metric][code.statistic or ""]), limit, adapters)


def _ttft_s(pooled: Pooled, chosen: Chosen) -> dict[str, float]:
    """Mean and percentiles over requests that count; one without first token has waited until the end."""
    return _statistics(pooled.wait_s[chosen])


def _itl_s(pooled: Pooled, adapters: IntArray | None = None) -> dict[str, float]:
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


def _ms(seconds: float) -> float | None:
    return None if math.isnan(seconds) else 1e3 * seconds


# --- the verdict's figures --------------------------------------------------------------------------------


def _margin(pooled: Pooled, classes: Sequence[_Class], latencies: Sequence[_Limited]) -> float | None:
    """The smallest logarithm of limit over value: of waits over patience, by quantile, and of latencies.

    It has the sign of those parts of the rule and, unlike the late share, is smooth in the load.
    """
    values = [one.impatience for one in classes]
    if len(pooled.impatience):
        values.append(pooled.quantile(slice(None), pooled.levels.late_share))
    values += [limited.value / limited.limit for limited in latencies if limited.value is not None]
    return -math.log(max(values)) if values else None


def _figures(
    pooled: Pooled, late: _LateShare, growth: _Growth, classes: Sequence[_Class], headroom: float
) -> SustainedFigures:
    names, shares = pooled.load.names, pooled.late_of / np.maximum(pooled.due_of, 1)
    worst = max(classes, key=lambda one: one.impatience, default=None)
    latest = int(np.lexsort((-shares, _chance(pooled)))[0])
    return SustainedFigures(
        headroom=headroom,
        due=len(pooled.adapter),
        late_share=late.share,
        late_share_low=late.interval[0],
        late_share_high=late.interval[1],
        close=late.interval[0] <= late.limit <= late.interval[1],
        worst_class=None if worst is None else names[worst.adapters[0]],
        worst_class_size=0 if worst is None else len(worst.adapters),
        worst_class_late_share=None if worst is None else worst.share,
        latest_adapter=names[latest],
        latest_adapter_late_share=float(shares[latest]),
        growth_per_h=growth.per_h,
        growth_limit_per_h=growth.limit_per_h,
        not_judged=int((pooled.due_of == 0).sum()),
    )


def unstarted(headroom: float, load: GPULoad) -> SustainedFigures:
    """The figures of an engine that does not start: nothing was due."""
    return SustainedFigures(headroom=headroom, due=0, not_judged=len(load.names))
