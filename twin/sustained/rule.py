"""The rule of *sustained*: what runs of a GPU must show for it to be accepted.

Rejected is a GPU of which too many requests wait longer than their patience, in all, of a class of alike
adapters, of one adapter, or in an hour of a period; whose queue grows; or that misses a limit on a latency.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict, Unpack

import numpy as np

from scenarios import EngineConfig, ServiceLevelObjectives, Workload
from twin.load import GPULoad
from twin.profile import EngineProfile
from twin.result import SimulationResult
from twin.service_levels import LimitedLatency, latency_table, limited_latencies
from twin.simulate import simulate
from twin.sustained.latencies import latencies_of, limited_of_adapters
from twin.sustained.lateness import (
    JudgedClass,
    LateShare,
    chance_of,
    first_to_suffer,
    judged_classes,
    late_adapters,
    late_classes,
    late_hours,
    late_share,
)
from twin.sustained.observation import FULL, Effort, Observation, observation_of
from twin.sustained.pooled import HOUR_S, Pooled, longest_awaited_s
from twin.sustained.waits import waits_of
from twin.verdict import GPUVerdict, SustainedFigures
from twin.violations import Criterion, Violation


class _How(TypedDict):
    """How an engine is run, and by which seed."""

    max_loras: int
    max_lora_rank: int
    max_cpu_loras: int | None
    seed: np.random.SeedSequence
    gpu_memory_gib: float | None


GROWTH_SHARE = 0.005
"""Share of the arrivals by which the unfinished requests may grow."""


@dataclass(frozen=True)
class Watch:
    """What a GPU is given by this criterion, and how long it is watched.

    Parameters
    ----------
    load
        Its adapters at the rates by which it is judged.
    observation
        What of a run counts.
    """

    load: GPULoad
    observation: Observation

    @classmethod
    def of(
        cls,
        load: GPULoad,
        workload: Workload,
        service_levels: ServiceLevelObjectives,
        headroom: float,
        effort: Effort = FULL,
    ) -> Watch:
        """That of a load: times 1 + headroom, for as long as its arrivals ask for."""
        judged = load.scaled(1.0 + headroom)
        awaited = longest_awaited_s(load, service_levels)
        processes = judged.processes(workload.arrivals)
        return cls(judged, observation_of(processes, float(judged.rate.sum()), awaited, effort))

    def run(
        self, workload: Workload, engine: EngineConfig, profile: EngineProfile, **how: Unpack[_How]
    ) -> SimulationResult:
        """One run, from an empty engine; ``how`` as in `twin.simulate`.

        Raises
        ------
        MemoryFailure
            If the engine does not start.
        """
        return simulate(
            self.load,
            workload.model_copy(update={"warmup_s": self.observation.settle_s}),
            engine,
            profile,
            duration_s=self.observation.horizon_s,
            sustained=True,
            **how,
        )


def judge_sustained(
    load: GPULoad,
    workload: Workload,
    engine: EngineConfig,
    profile: EngineProfile,
    *,
    max_loras: int,
    max_lora_rank: int,
    max_cpu_loras: int,
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
    watch = Watch.of(load, workload, service_levels, headroom, effort)
    judged, observation = watch.load, watch.observation
    runs = []
    kv_cache_tokens = cut_requests = 0
    for seed in seeds:  # one after the other: each is large
        result = watch.run(
            workload,
            engine,
            profile,
            max_loras=max_loras,
            max_lora_rank=max_lora_rank,
            max_cpu_loras=max_cpu_loras,
            seed=seed,
            gpu_memory_gib=gpu_memory_gib,
        )
        runs.append(waits_of(result.records, result.frontend_s, observation))
        kv_cache_tokens, cut_requests = result.kv_cache_tokens, cut_requests + result.cut_requests
    pooled = Pooled(judged, service_levels, runs, observation.period_s)
    return verdict_of(pooled, headroom, kv_cache_tokens, cut_requests)


def verdict_of(pooled: Pooled, headroom: float, kv_cache_tokens: int, cut_requests: int) -> GPUVerdict:
    """The verdict, with its figures."""
    runs, load = pooled.runs, pooled.load
    classes = list(judged_classes(pooled))
    latencies = latencies_of(pooled)
    table = latency_table([latencies])
    limited = list(limited_latencies(pooled.levels, [latencies]))
    of_adapters = list(limited_of_adapters(pooled))
    late, growth = late_share(pooled), _Growth.of(pooled)
    violations = (
        *late.violations(),
        *late_classes(pooled, classes),
        *late_adapters(pooled),
        *growth.violations(),
        *late_hours(pooled),
        *(missed for one in (*limited, *of_adapters) for missed in one.violations(load)),
    )
    shares = np.min([run.due_shares for run in runs], axis=0)
    worst, first = int(np.argmin(shares)), first_to_suffer(pooled, classes)
    offered = np.array([run.offered_tokens for run in runs])
    served = np.array([run.served_tokens for run in runs])
    seconds = runs[0].seconds
    margins = {
        Criterion.LATE_SHARE: 1.0 - late.share / late.limit,
        Criterion.GROWTH: 1.0 - growth.per_h / growth.limit_per_h if growth.limit_per_h else None,
        **{one.code: one.margin for one in limited},
    }
    return GPUVerdict(
        accepted=not violations,
        violations=violations,
        offered_tok_per_s=float(offered.mean() / seconds),
        served_tok_per_s=float(served.mean() / seconds),
        served_share=float(np.min(np.divide(served, offered, out=np.ones_like(served), where=offered > 0))),
        worst_adapter=load.names[worst],
        worst_served_share=float(shares[worst]),
        itl_ms=table.itl.mean,
        ttft_ms=table.ttft.mean,
        itl_p99_ms=table.itl.p99,
        ttft_p50_ms=table.ttft.p50,
        ttft_p99_ms=table.ttft.p99,
        latencies=table,
        adapter_latencies=tuple(one.of_adapters(load) for one in of_adapters),
        kv_cache_tokens=kv_cache_tokens,
        margins=margins,
        margin=_margin(pooled, classes, [*limited, *of_adapters]),
        first_to_suffer=None if first is None else load.names[first],
        replications=len(runs),
        cut_requests=cut_requests,
        sustained=_figures(pooled, late, growth, classes, headroom),
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


# --- the verdict's figures --------------------------------------------------------------------------------


def _margin(
    pooled: Pooled, classes: Sequence[JudgedClass], latencies: Sequence[LimitedLatency]
) -> float | None:
    """The smallest logarithm of limit over value: of waits over patience, by quantile, and of latencies.

    It has the sign of those parts of the rule and, unlike the late share, is smooth in the load.
    """
    values = [one.impatience for one in classes]
    if len(pooled.impatience):
        values.append(pooled.nearness)
    values += [one.value / one.limit for one in latencies if one.value is not None]
    return -math.log(max(values)) if values else None


def _figures(
    pooled: Pooled, late: LateShare, growth: _Growth, classes: Sequence[JudgedClass], headroom: float
) -> SustainedFigures:
    names, shares = pooled.load.names, pooled.late_of / np.maximum(pooled.due_of, 1)
    worst = max(classes, key=lambda one: one.impatience, default=None)
    latest = int(np.lexsort((-shares, chance_of(pooled)))[0])
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
