"""The twin as judge: simulate a GPU several times and hold it to its service levels."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed

from scenarios.engine import EngineConfig
from scenarios.files import check_placement
from scenarios.placement import PlacedGPU, Placement
from scenarios.scenario import Limits, Scenario, ServiceLevels
from scenarios.workload import Workload
from twin import metrics
from twin.load import GPULoad
from twin.metrics import Latency
from twin.profile import EngineProfile, find_profile, read_profile
from twin.requests import FloatArray
from twin.result import SimulationResult
from twin.simulate import MemoryFailure, simulate
from twin.verdict import GPUVerdict, ValidationReport

__all__ = ["GPUVerdict", "ValidationReport", "judge", "validate"]

GRACE = 0.02
"""Share of the window within which a request that still waits at its end is not held against the GPU."""

NAMED = 3
"""Starved adapters that a reason names."""


def judge(
    load: GPULoad,
    workload: Workload,
    engine: EngineConfig,
    profile: EngineProfile,
    *,
    max_loras: int,
    max_lora_rank: int,
    service_levels: ServiceLevels,
    gpu_memory_gib: float | None = None,
    seed: int = 0,
    replications: int = 3,
    base_dir: Path | None = None,
) -> GPUVerdict:
    """Judge one GPU: every replication must meet every service level.

    Parameters
    ----------
    load
        The GPU's adapters.
    workload, engine, profile
        As in ``simulate``.
    max_loras, max_lora_rank
        Adapter slots, and the rank of every slot.
    service_levels
        What the GPU and each adapter must get.
    gpu_memory_gib
        Memory of the GPU; absent: the profile's.
    seed
        The seeds of the replications are spawned from it.
    replications
        Runs.
    base_dir
        Folder that a trace's file name is relative to.
    """
    too_large = [f'"{n}" (rank {r})' for n, r in zip(load.names, load.rank, strict=True) if r > max_lora_rank]
    if too_large:
        reason = f"max_lora_rank {max_lora_rank} is too small for {_listed(too_large)}"
        return _unstarted(load, reason, None)
    runs = []
    for child in np.random.SeedSequence(seed).spawn(replications):
        try:
            result = simulate(
                load,
                workload,
                engine,
                profile,
                max_loras=max_loras,
                max_lora_rank=max_lora_rank,
                seed=child,
                gpu_memory_gib=gpu_memory_gib,
                base_dir=base_dir,
            )
        except MemoryFailure as failure:
            return _unstarted(load, str(failure), failure.plan.failure)
        runs.append(_assess(result))
    return _verdict(load, runs, service_levels)


@dataclass(frozen=True)
class _Run:
    """What one replication gave."""

    offered_tok_per_s: float
    served_tok_per_s: float
    served_share: float
    adapter_share: FloatArray
    itl: Latency
    ttft: Latency
    kv_cache_tokens: int


def _assess(result: SimulationResult) -> _Run:
    gpu = result.gpu
    return _Run(
        offered_tok_per_s=gpu.offered_tok_per_s,
        served_tok_per_s=gpu.served_tok_per_s,
        served_share=gpu.served_share,
        adapter_share=adapter_shares(result),
        itl=gpu.itl,
        ttft=gpu.ttft,
        kv_cache_tokens=result.kv_cache_tokens,
    )


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


def _verdict(load: GPULoad, runs: Sequence[_Run], levels: ServiceLevels) -> GPUVerdict:
    shares = np.min([run.adapter_share for run in runs], axis=0)
    order = np.argsort(shares, kind="stable")
    starved = [k for k in order if shares[k] < levels.adapter_served_share]
    margins = dict(_margins(runs, shares, levels))
    reasons = (*_served_reasons(load, runs, shares, starved, levels), *_latency_reasons(runs, levels))
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
    )


def _served_reasons(
    load: GPULoad, runs: Sequence[_Run], shares: FloatArray, starved: Sequence[int], levels: ServiceLevels
) -> Iterator[str]:
    worst = min(run.served_share for run in runs)
    if worst < levels.served_share:
        yield f"serves {_percent(worst)} of the offered tokens, below {_percent(levels.served_share)}"
    if starved:
        names = [f'"{load.names[k]}" ({_percent(float(shares[k]))})' for k in starved]
        verb = "get" if len(names) > 1 else "gets"
        least = _percent(levels.adapter_served_share)
        yield f"{_listed(names)} {verb} less than {least} of the tokens asked for"


def _latency_reasons(runs: Sequence[_Run], levels: ServiceLevels) -> Iterator[str]:
    for name, latencies, limits in _limited(runs, levels):
        for key, limit in _given(limits):
            worst = _worst_ms(latencies, key)
            if np.isnan(worst):
                yield f"no request completed, so {key} {name} cannot meet {limit:g} ms"
            elif worst > limit:
                yield f"{key} {name} is {worst:,.1f} ms, above {limit:g} ms"


def _margins(runs: Sequence[_Run], shares: FloatArray, levels: ServiceLevels) -> Iterator[tuple[str, float]]:
    yield "served_share", min(run.served_share for run in runs) / levels.served_share - 1
    yield "adapter_served_share", float(shares.min()) / levels.adapter_served_share - 1
    for name, latencies, limits in _limited(runs, levels):
        for key, limit in _given(limits):
            yield f"{name.lower()}_{key}", 1 - _worst_ms(latencies, key) / limit


def _limited(runs: Sequence[_Run], levels: ServiceLevels) -> Iterator[tuple[str, list[Latency], Limits]]:
    yield "ITL", [run.itl for run in runs], levels.itl_ms
    yield "TTFT", [run.ttft for run in runs], levels.ttft_ms


def _given(limits: Limits) -> list[tuple[str, float]]:
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


def _listed(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")


def _unstarted(load: GPULoad, reason: str, failure: str | None) -> GPUVerdict:
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


def validate(
    scenario: Scenario,
    placement: Placement,
    *,
    profiles: Mapping[str, EngineProfile] | None = None,
    workers: int = 1,
) -> ValidationReport:
    """Judge every GPU of a placement; GPUs with equal adapters and engines are judged once.

    Parameters
    ----------
    scenario
        Adapters, workload, engine, service levels, seed and replications.
    placement
        Which GPU serves which adapters.
    profiles
        Engine profile of each device; absent: the scenario's, or the shipped ones.
    workers
        Processes. The report does not depend on it.

    Raises
    ------
    ScenarioError
        If the placement is not one of the scenario's adapters on its devices.
    UnknownProfileError, ProfileError
        If an engine profile is not to be had.
    """
    check_placement(placement, scenario)
    known = profiles_of(scenario) if profiles is None else profiles
    loads = _loads(scenario, placement)
    keys = [_key(gpu, order) for gpu, (order, _) in zip(placement.gpus, loads, strict=True)]
    first = {key: k for k, key in reversed(list(enumerate(keys)))}
    jobs = [(placement.gpus[k], loads[k][1]) for k in first.values()]
    verdicts = Parallel(n_jobs=max(min(workers, len(jobs)), 1))(
        delayed(_judge_placed)(scenario, gpu, load, known[gpu.device]) for gpu, load in jobs
    )
    judged = dict(zip(first, verdicts, strict=True))
    gpus = []
    for gpu, key, (_, load) in zip(placement.gpus, keys, loads, strict=True):
        names = dict(zip(loads[first[key]][1].names, load.names, strict=True))
        gpus.append(judged[key].of(gpu.gpu, names))
    return ValidationReport(gpus=tuple(gpus), distinct=len(first))


def profiles_of(scenario: Scenario) -> dict[str, EngineProfile]:
    """Engine profile of each device of a scenario.

    Raises
    ------
    UnknownProfileError, ProfileError
        If one is not to be had.
    """
    if scenario.profile is not None:
        profile = read_profile(scenario.profile)
        return {device.name: profile for device in scenario.devices}
    return {device.name: find_profile(scenario.model, device.name) for device in scenario.devices}


_Order = tuple[tuple[int, float], ...]


def _loads(scenario: Scenario, placement: Placement) -> list[tuple[_Order, GPULoad]]:
    """Each GPU's load, adapters sorted by class and share, with what they were sorted by."""
    number = {name: k for k, c in enumerate(scenario.classes) for name in c.names}
    result = []
    for gpu in placement.gpus:
        keyed = sorted((number[name], gpu.share(name), k) for k, name in enumerate(gpu.adapters))
        chosen = [(scenario.classes[c], share, gpu.adapters[k]) for c, share, k in keyed]
        load = GPULoad(
            names=tuple(name for _, _, name in chosen),
            rank=np.array([c.rank for c, _, _ in chosen], dtype=np.int32),
            rate=np.array([c.rate * share for c, share, _ in chosen]),
            prompt=tuple(c.prompt for c, _, _ in chosen),
            output=tuple(c.output for c, _, _ in chosen),
        )
        result.append((tuple((c, share) for c, share, _ in keyed), load))
    return result


def _key(gpu: PlacedGPU, order: _Order) -> tuple[str, int, int, _Order]:
    return gpu.device, gpu.max_loras, gpu.max_lora_rank, order


def _judge_placed(scenario: Scenario, gpu: PlacedGPU, load: GPULoad, profile: EngineProfile) -> GPUVerdict:
    device = next(device for device in scenario.devices if device.name == gpu.device)
    return judge(
        load,
        scenario.workload,
        scenario.engine,
        profile,
        max_loras=gpu.max_loras,
        max_lora_rank=gpu.max_lora_rank,
        service_levels=scenario.service_levels,
        gpu_memory_gib=device.memory_gib,
        seed=scenario.seed,
        replications=scenario.replications,
    )
