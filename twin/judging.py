"""The twin as judge: simulate a GPU several times and hold it to its service levels."""

from __future__ import annotations

import numpy as np

from scenarios import EngineConfig, Scenario, ServiceLevelObjectives, Workload
from twin.load import GPULoad
from twin.profile import EngineProfile, find_profile, read_profile
from twin.service_levels import replication_of, verdict_on, verdict_unstarted
from twin.simulate import MemoryFailure, simulate
from twin.verdict import GPUVerdict


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
    """
    too_high_rank = load.above_rank(max_lora_rank)
    if too_high_rank is not None:
        return verdict_unstarted(load, too_high_rank)
    simulated = (
        simulate(
            load,
            workload,
            engine,
            profile,
            max_loras=max_loras,
            max_lora_rank=max_lora_rank,
            seed=child,
            gpu_memory_gib=gpu_memory_gib,
        )
        for child in np.random.SeedSequence(seed).spawn(replications)
    )
    try:
        runs = [replication_of(result, load) for result in simulated]  # one after the other: each is large
    except MemoryFailure as failure:
        return verdict_unstarted(load, failure.violation)
    return verdict_on(load, runs, service_levels)


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
