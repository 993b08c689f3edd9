"""From runs to a verdict: service levels held against what each replication gave."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from scenarios.service_levels import AdapterSLO, LatencyLimits, ServiceLevelObjectives
from twin import metrics
from twin.engine.requests import FloatArray, IntArray
from twin.load import GPULoad, listed
from twin.metrics import Latency
from twin.result import SimulationResult
from twin.verdict import GPUVerdict

GRACE = 0.02
"""Share of the window within which a request that still waits at its end is not held against the GPU."""


@dataclass(frozen=True)
class Run:
    """What one replication gave."""

    offered_tok_per_s: float
    served_tok_per_s: float
    served_share: float
    in_flight_share: float
    adapter_share: FloatArray
    itl: Latency
    ttft: Latency
    kv_cache_tokens: int
    cut_requests: int = 0
    groups: tuple[tuple[Latency, Latency], ...] = ()
    """ITL and TTFT of the load's groups with service levels of their own."""


def assess(result: SimulationResult, load: GPULoad) -> Run:
    """What the verdict needs of a replication."""
    records = result.records
    view = metrics.window(records, result.warmup_s)
    ended = metrics.completed(records, view)
    rates = metrics.traffic(records, view, metrics.arrived(records, view), ended)
    return Run(
        offered_tok_per_s=rates.offered_tok_per_s,
        served_tok_per_s=rates.served_tok_per_s,
        served_share=rates.served_share,
        in_flight_share=_in_flight_share(result, view),
        adapter_share=adapter_shares(result),
        itl=metrics.itl(records, ended),
        ttft=metrics.latency(metrics.ttft_s(records, result.frontend_s)[ended]),
        kv_cache_tokens=result.kv_cache_tokens,
        cut_requests=result.cut_requests,
        groups=tuple(_group_latencies(result, adapters) for _, adapters in load.groups()),
    )


def _in_flight_share(result: SimulationResult, view: metrics.Window) -> float:
    """Tokens of the requests that were being served at the end, over those offered."""
    records = result.records
    came, tokens = metrics.arrived(records, view), metrics.tokens(records)
    served = came & ~np.isnan(records.first_scheduled_s) & ~metrics.completed(records, view)
    offered = int(tokens[came].sum())
    return int(tokens[served].sum()) / offered if offered else 0.0


def _group_latencies(result: SimulationResult, adapters: IntArray) -> tuple[Latency, Latency]:
    """ITL (exact mean, percentiles of the requests' means) and TTFT over the requests of some adapters."""
    records = result.records
    chosen = metrics.completed(records, metrics.window(records, result.warmup_s))
    chosen = chosen & np.isin(records.requests.adapter, adapters)
    itl = metrics.latency(metrics.tpot_s(records)[chosen])
    itl = replace(itl, mean_s=metrics.mean_itl_s(records, chosen))
    return itl, metrics.latency(metrics.ttft_s(records, result.frontend_s)[chosen])


def adapter_shares(result: SimulationResult) -> FloatArray:
    """Share of its due tokens that each adapter was served, shape (n,).

    Due are requests that completed, and those still waiting for their first step at the end although
    they arrived longer than a grace period before; what is merely under way is not held against the GPU.
    One request of mean length is forgiven, so that a rare adapter does not fail by a single unlucky
    request; adapters with nothing due have a share of 1.
    """
    records = result.records
    view = metrics.window(records, result.warmup_s)
    tokens = metrics.tokens(records)
    ended = metrics.completed(records, view)
    never = np.isnan(records.first_scheduled_s) & metrics.arrived(records, view)
    overdue = never & (records.requests.arrival_s < view.end_s - GRACE * view.seconds)
    served = metrics.adapter_sums(records, ended, tokens)
    missed = metrics.adapter_sums(records, overdue, tokens)
    count = metrics.adapter_sums(records, overdue, np.ones(len(tokens)))
    forgiven = np.divide(missed, count, out=np.zeros_like(missed), where=count > 0)
    due = served + missed
    return np.divide(served + forgiven, due, out=np.ones_like(due), where=due > 0)


def verdict_on(load: GPULoad, runs: Sequence[Run], levels: ServiceLevelObjectives) -> GPUVerdict:
    """Verdict on a GPU from its replications."""
    shares = np.min([run.adapter_share for run in runs], axis=0)
    order = np.argsort(shares, kind="stable")
    least = _least_shares(load, levels)
    starved = [k for k in order if shares[k] < least[k]]
    margins = dict(_margins(runs, shares, least, levels))
    reasons = (
        *_served_reasons(load, runs, shares, starved, levels),
        *_latency_reasons(_limited(runs, levels)),
        *_latency_reasons(_limited_groups(load, runs)),
    )
    return GPUVerdict(
        gpu=0,
        accepted=not reasons,
        reasons=reasons,
        offered_tok_per_s=float(np.mean([run.offered_tok_per_s for run in runs])),
        served_tok_per_s=float(np.mean([run.served_tok_per_s for run in runs])),
        served_share=min(run.served_share for run in runs),
        worst_adapter=load.names[order[0]],
        worst_served_share=float(shares[order[0]]),
        itl_ms=_mean_ms([run.itl.mean_s for run in runs]),
        ttft_ms=_mean_ms([run.ttft.mean_s for run in runs]),
        itl_p99_ms=_largest_ms([run.itl.p99_s for run in runs]),
        ttft_p99_ms=_largest_ms([run.ttft.p99_s for run in runs]),
        kv_cache_tokens=runs[0].kv_cache_tokens,
        starved=tuple(load.names[k] for k in starved),
        margins=margins,
        replications=len(runs),
        cut_requests=sum(run.cut_requests for run in runs),
    )


def _if_the_end_decides(run: Run, levels: ServiceLevelObjectives) -> str:
    """That a run would serve its share but for the requests in flight at its end."""
    if run.served_share + run.in_flight_share < levels.served_share:
        return ""
    return (
        f", as {_percent(run.in_flight_share)} are in flight at the end, which count as unserved "
        "(a longer workload.duration_s has fewer, in share)"
    )


def _least_shares(load: GPULoad, levels: ServiceLevelObjectives) -> FloatArray:
    """Share of its tokens that each adapter must get, shape (n,)."""
    own = [None if level is None else level.served_share for level in load.levels] or [None] * len(load.rank)
    return np.array([levels.adapter_served_share if share is None else share for share in own])


def _served_reasons(
    load: GPULoad,
    runs: Sequence[Run],
    shares: FloatArray,
    starved: Sequence[int],
    levels: ServiceLevelObjectives,
) -> Iterator[str]:
    worst = min(runs, key=lambda run: run.served_share)
    if worst.served_share < levels.served_share:
        said = f"serves {_percent(worst.served_share)} of the offered tokens, below"
        yield f"{said} {_percent(levels.served_share)}{_if_the_end_decides(worst, levels)}"
    if starved:
        names = [f'"{load.names[k]}" ({_percent(float(shares[k]))})' for k in starved]
        verb = "get" if len(names) > 1 else "gets"
        least = " or ".join(_percent(x) for x in sorted(set(_least_shares(load, levels)[starved])))
        yield f"{listed(names)} {verb} less than {least} of the tokens asked for"


_Limited = Iterator[tuple[str, list[Latency], LatencyLimits]]
"""Name of a latency, its values by replication, and the limits on it."""


def _latency_reasons(limited: _Limited) -> Iterator[str]:
    for name, latencies, limits in limited:
        for key, limit in _given(limits):
            worst = _worst_ms(latencies, key)
            if np.isnan(worst):
                yield f"no request completed, so {key} {name} cannot meet {limit:g} ms"
            elif worst > limit:
                yield f"{key} {name} is {worst:,.1f} ms, above {limit:g} ms"


def _margins(
    runs: Sequence[Run], shares: FloatArray, least: FloatArray, levels: ServiceLevelObjectives
) -> Iterator[tuple[str, float]]:
    yield "served_share", min(run.served_share for run in runs) / levels.served_share - 1
    yield "adapter_served_share", float((shares / least).min()) - 1
    for name, latencies, limits in _limited(runs, levels):
        for key, limit in _given(limits):
            yield f"{name.lower()}_{key}", 1 - _worst_ms(latencies, key) / limit


def _limited(runs: Sequence[Run], levels: ServiceLevelObjectives | AdapterSLO) -> _Limited:
    yield "ITL", [run.itl for run in runs], levels.itl_ms
    yield "TTFT", [run.ttft for run in runs], levels.ttft_ms


def _limited_groups(load: GPULoad, runs: Sequence[Run]) -> _Limited:
    """The same of each group of adapters with service levels of their own."""
    for g, (levels, adapters) in enumerate(load.groups()):
        names = listed([f'"{load.names[k]}"' for k in adapters])
        yield f"ITL of {names}", [run.groups[g][0] for run in runs], levels.itl_ms
        yield f"TTFT of {names}", [run.groups[g][1] for run in runs], levels.ttft_ms


def _given(limits: LatencyLimits) -> list[tuple[str, float]]:
    pairs = [(key, getattr(limits, key)) for key in ("mean", "p50", "p90", "p99")]
    return [(key, limit) for key, limit in pairs if limit is not None]


def _worst_ms(latencies: Sequence[Latency], key: str) -> float:
    return 1e3 * float(np.max([getattr(latency, f"{key}_s") for latency in latencies]))


def _mean_ms(seconds: Sequence[float]) -> float | None:
    known = [s for s in seconds if not np.isnan(s)]
    return 1e3 * float(np.mean(known)) if known else None


def _largest_ms(seconds: Sequence[float]) -> float | None:
    known = [s for s in seconds if not np.isnan(s)]
    return 1e3 * max(known) if known else None


def _percent(share: float) -> str:
    """A share in percent, rounded down, so that what is below a limit never looks like it."""
    return f"{np.floor(share * 1000 + 1e-9) / 10:g} %"


def verdict_unstarted(load: GPULoad, reason: str, failure: str | None = None) -> GPUVerdict:
    """Verdict on a GPU whose engine does not start."""
    lengths = [p.mean_tokens + o.mean_tokens for p, o in zip(load.prompt, load.output, strict=True)]
    return GPUVerdict(
        gpu=0,
        accepted=False,
        reasons=(reason,),
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
        memory_failure=failure,
        margins={"served_share": -1.0, "adapter_served_share": -1.0},
    )
