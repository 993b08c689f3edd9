"""The twin as judge: simulate a GPU several times and hold it to its service levels."""

from __future__ import annotations

from functools import partial

import numpy as np

from scenarios import (
    Acceptance,
    Device,
    EngineConfig,
    LorapackError,
    Scenario,
    ServiceLevelObjectives,
    Workload,
)
from scenarios.text.formatting import choice
from twin.deriving import known_profile
from twin.engine.rules import ASYNC_SINCE, release_of
from twin.load import GPULoad
from twin.memory.versions import lora_ranks
from twin.profile import EngineProfile, UnknownProfileError, read_profile
from twin.result import SimulationResult
from twin.service_levels import replication_of, verdict_on, verdict_unstarted
from twin.simulate import MemoryFailure, simulate
from twin.sustained import FULL, Effort, Watch, judge_sustained, unstarted
from twin.verdict import GPUVerdict


class EngineArgumentError(LorapackError, ValueError):
    """An argument of the engine is none that its release takes."""


def judge(
    load: GPULoad,
    workload: Workload,
    engine: EngineConfig,
    profile: EngineProfile,
    *,
    max_loras: int,
    max_lora_rank: int,
    max_cpu_loras: int | None = None,
    service_levels: ServiceLevelObjectives,
    acceptance: Acceptance = "sustained",
    headroom: float = 0.0,
    gpu_memory_gib: float | None = None,
    seed: int = 0,
    replications: int = 3,
    effort: Effort = FULL,
) -> GPUVerdict:
    """Judge one GPU: whether it sustains its load, or every replication meets every service level.

    Parameters
    ----------
    load
        The GPU's adapters.
    workload, engine, profile
        As in ``simulate``.
    max_loras, max_lora_rank
        Adapter slots, and the rank of every slot.
    max_cpu_loras
        Adapters kept in CPU memory; absent: the engine's, or all of them, as a plan states it.
    service_levels
        What the GPU and each adapter must get.
    acceptance
        The criterion: `twin.sustained`, or that of the paper (arXiv 2602.24044).
    headroom
        How much more than its rates the GPU must sustain, as a share of them; of no effect under *paper*.
    gpu_memory_gib
        Memory of the GPU; absent: the profile's.
    seed
        The seeds of the replications are spawned from it.
    replications
        Runs.
    effort
        How long each run is under *sustained*; under *paper* the workload says it.
    """
    figures = unstarted(headroom, load) if acceptance == "sustained" else None
    too_high_rank = load.above_rank(max_lora_rank)
    if too_high_rank is not None:
        return verdict_unstarted(load, too_high_rank, figures)
    seeds = np.random.SeedSequence(seed).spawn(replications)
    if max_cpu_loras is None:
        max_cpu_loras = engine.cpu_loras(load.n_adapters, max_loras)
    if acceptance == "sustained":
        try:
            return judge_sustained(
                load,
                workload,
                engine,
                profile,
                max_loras=max_loras,
                max_lora_rank=max_lora_rank,
                max_cpu_loras=max_cpu_loras,
                service_levels=service_levels,
                headroom=headroom,
                gpu_memory_gib=gpu_memory_gib,
                seeds=seeds,
                effort=effort,
            )
        except MemoryFailure as failure:
            return verdict_unstarted(load, failure.violation, figures)
    simulated = (
        simulate(
            load,
            workload,
            engine,
            profile,
            max_loras=max_loras,
            max_lora_rank=max_lora_rank,
            max_cpu_loras=max_cpu_loras,
            seed=child,
            gpu_memory_gib=gpu_memory_gib,
        )
        for child in seeds
    )
    try:
        runs = [replication_of(result, load) for result in simulated]  # one after the other: each is large
    except MemoryFailure as failure:
        return verdict_unstarted(load, failure.violation)
    return verdict_on(load, runs, service_levels)


def run_again(
    load: GPULoad,
    scenario: Scenario,
    profile: EngineProfile,
    *,
    max_loras: int,
    max_lora_rank: int,
    max_cpu_loras: int | None = None,
    gpu_memory_gib: float | None = None,
    replication: int = 0,
) -> SimulationResult:
    """One of the runs behind the verdict of `judge` on a GPU of a scenario, request by request.

    Parameters
    ----------
    load, profile, max_loras, max_lora_rank, max_cpu_loras, gpu_memory_gib
        As in `judge`.
    scenario
        Workload, engine, service levels, criterion and seed.
    replication
        Number of the run, from 0.

    Raises
    ------
    MemoryFailure
        If the engine does not start.
    EngineInputError
        If an adapter's rank is above ``max_lora_rank``.
    """
    engine = scenario.engine
    cpu_loras = engine.cpu_loras(load.n_adapters, max_loras) if max_cpu_loras is None else max_cpu_loras
    seed = np.random.SeedSequence(scenario.seed).spawn(replication + 1)[replication]
    watched = scenario.acceptance == "sustained"
    levels, workload = scenario.service_levels, scenario.workload
    run = Watch.of(load, workload, levels, scenario.headroom).run if watched else partial(simulate, load)
    return run(
        workload,
        engine,
        profile,
        max_loras=max_loras,
        max_lora_rank=max_lora_rank,
        max_cpu_loras=cpu_loras,
        seed=seed,
        gpu_memory_gib=gpu_memory_gib,
    )


def profiles_of(scenario: Scenario) -> dict[str, EngineProfile]:
    """Engine profile of each device of a scenario: its own file, the shipped one, or one that is derived.

    Derived ones are at the end of their costs at which the scenario has GPUs judged.

    Raises
    ------
    UnknownProfileError, ProfileError
        If one is not to be had, or is derived and the scenario refuses that.
    EngineArgumentError
        If its release has no slots of the rank that is asked for, or of an adapter's, or no asynchronous
        scheduling.
    """
    found = {device.name: _at_its_end(scenario, _profile_of(scenario, device)) for device in scenario.devices}
    for profile in found.values():
        _check_ranks(scenario, profile)
        _check_async(scenario, profile)
    return found


def _check_async(scenario: Scenario, profile: EngineProfile) -> None:
    if scenario.engine.async_scheduling and release_of(profile.engine_version) < ASYNC_SINCE:
        raise EngineArgumentError(
            f"engine.async_scheduling is true, and vLLM {profile.engine_version} on {profile.device} has no "
            "asynchronous scheduling, which came with 0.10.0; leave it out, or name a newer release's profile"
        )


def _check_ranks(scenario: Scenario, profile: EngineProfile) -> None:
    ranks, release = lora_ranks(profile.memory.version), f"vLLM {profile.engine_version}"
    asked, largest = scenario.engine.max_lora_rank, max(c.rank for c in scenario.classes)
    if asked is not None and asked not in ranks:
        raise EngineArgumentError(
            f"engine.max_lora_rank is {asked}; {release} on {profile.device} takes {choice(ranks)}"
        )
    if largest > ranks[-1]:
        raise EngineArgumentError(
            f"adapters have ranks up to {largest}, and {release} on {profile.device} has slots of up to "
            f"{ranks[-1]}; leave them out, or name the profile of a newer release"
        )


def _profile_of(scenario: Scenario, device: Device) -> EngineProfile:
    if device.profile is not None:
        profile = read_profile(device.profile)
    else:
        profile = known_profile(
            scenario.model,
            device.name,
            derive=scenario.derived_costs != "refused",
            tensor_parallel_size=scenario.engine.tensor_parallel_size,
        )
    if profile.derived is not None and scenario.derived_costs == "refused":
        raise UnknownProfileError(
            f'{device.profile}: its step costs are derived, and derived_costs is "refused"; measure them, or '
            'set derived_costs to "pessimistic" or "expected"'
        )
    return profile


def _at_its_end(scenario: Scenario, profile: EngineProfile) -> EngineProfile:
    if profile.derived is None:
        return profile
    cautious = scenario.acceptance == "sustained" and scenario.derived_costs == "pessimistic"
    return profile.at("pessimistic" if cautious else "expected")
