"""The twin as judge: simulate a GPU several times and hold it to its service levels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from joblib import delayed

from scenarios.engine import EngineConfig
from scenarios.files import check_placement
from scenarios.placement import PlacedGPU, Placement
from scenarios.scenario import Scenario
from scenarios.service_levels import ServiceLevelObjectives
from scenarios.workload import Workload
from twin.load import GPULoad
from twin.parallel import in_processes
from twin.profile import EngineProfile, find_profile, read_profile
from twin.service_levels import assess, verdict_on, verdict_unstarted
from twin.simulate import MemoryFailure, simulate
from twin.verdict import GPUVerdict, ValidationReport

__all__ = ["GPUVerdict", "ValidationReport", "judge", "validate"]


def judge(
    load: GPULoad,
    workload: Workload,
    engine: EngineConfig,
    profile: EngineProfile,
    *,
    max_loras: int,
    max_lora_rank: int,
    service_levels: ServiceLevelObjectives,
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
    if too_large := load.above_rank(max_lora_rank):
        return verdict_unstarted(load, too_large)
    try:
        runs = [
            assess(
                simulate(
                    load,
                    workload,
                    engine,
                    profile,
                    max_loras=max_loras,
                    max_lora_rank=max_lora_rank,
                    seed=child,
                    gpu_memory_gib=gpu_memory_gib,
                    base_dir=base_dir,
                ),
                load,
            )
            for child in np.random.SeedSequence(seed).spawn(replications)
        ]
    except MemoryFailure as failure:
        return verdict_unstarted(load, str(failure), failure.plan.failure)
    return verdict_on(load, runs, service_levels)


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
    asked = (delayed(_judge_placed)(scenario, gpu, load, known[gpu.device]) for gpu, load in jobs)
    verdicts = list(in_processes(asked, max(min(workers, len(jobs)), 1), work="the twin was judging"))
    judged = dict(zip(first, verdicts, strict=True))
    gpus = []
    for gpu, key, (_, load) in zip(placement.gpus, keys, loads, strict=True):
        names = dict(zip(loads[first[key]][1].names, load.names, strict=True))
        gpus.append(judged[key].of(gpu.gpu, names))
    return ValidationReport(gpus=tuple(gpus), distinct=len(first))


def profiles_of(scenario: Scenario) -> dict[str, EngineProfile]:
    """Engine profile of each device of a scenario: its own file, or the shipped one.

    Raises
    ------
    UnknownProfileError, ProfileError
        If one is not to be had.
    """
    return {
        device.name: find_profile(scenario.model, device.name)
        if device.profile is None
        else read_profile(device.profile)
        for device in scenario.devices
    }


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
            levels=tuple(c.levels for c, _, _ in chosen),
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
