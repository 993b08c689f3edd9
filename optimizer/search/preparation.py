"""Before a search: what is learned of a scenario, and the problems that the placers are given."""

from __future__ import annotations

from collections.abc import Mapping

import learn
import twin
from learn import Regions
from optimizer.search.dedicated import DedicatedGPUCheck, loosened
from optimizer.search.instance import Instance, build_instance
from optimizer.search.level_rows import regions_of, row_variants
from optimizer.search.params import DEFAULTS, SolveParams
from optimizer.search.splitting import InfeasibleError, split_hot_adapters
from scenarios import UNLIMITED, Deadline, Scenario, ServiceLevelObjectives
from twin import TwinJudge


def learned_regions(
    judge: TwinJudge, *, deadline: Deadline = UNLIMITED, params: SolveParams = DEFAULTS
) -> Mapping[str, Regions]:
    """The linear regions of each device of a scenario.

    Those that are neither shipped nor cached are learned, which takes minutes, and tells progress.

    Parameters
    ----------
    judge
        The twin, with the scenario, its profiles and the processes to learn with.
    deadline
        When to stop learning.
    params
        Parameters.

    Raises
    ------
    Stopped
        If the deadline passes, or the work is interrupted, before the regions are there.
    InfeasibleError
        If no engine configuration fits the memory, or no load meets the service levels.
    """
    _refuse_unmet_levels(DedicatedGPUCheck(judge, deadline, params.splitting))
    regions = regions_of(judge, deadline, params)
    if not any(region.inner.options for region in regions.values()):
        raise InfeasibleError(_no_memory(judge))
    return regions


def prepare(
    judge: TwinJudge,
    regions: Mapping[str, Regions],
    *,
    gpus: int | None = None,
    deadline: Deadline = UNLIMITED,
    params: SolveParams = DEFAULTS,
    grouping: bool = False,
) -> Instance:
    """The packing problems of a scenario whose regions are known, but for those of levels of single adapters.

    Parameters
    ----------
    judge
        The twin; it is asked about adapters that fill much of a GPU, and regions are learned with it.
    regions
        Of each device.
    gpus
        Most GPUs; None: as many as the scenario's devices.
    deadline
        When to stop asking the twin.
    params
        Parameters.
    grouping
        Whether adapters may be grouped where more differ than placers can tell apart.

    Raises
    ------
    Stopped
        If the deadline passes, or the work is interrupted, while the twin is asked.
    InfeasibleError
        If an adapter fits no GPU.
    """
    splitting = params.splitting
    replicas = split_hot_adapters(regions, DedicatedGPUCheck(judge, deadline, splitting), splitting)
    # Groups know no adapter, and so not which parts are of one: they cannot keep replicas apart.
    apart = any(one.min_replicas > 1 for one in judge.scenario.classes)
    grouped = params.grouping if grouping and not apart and may_group(judge.scenario, params) else None
    # Groups hold adapters that are only alike, whatever their levels: they know the regions of all.
    variants = () if grouped else row_variants(judge, regions, deadline=deadline, params=params)
    return build_instance(
        judge.scenario, judge.profiles, regions, replicas, gpus, splitting, grouped, variants
    )


def may_group(scenario: Scenario, params: SolveParams) -> bool:
    """Whether more adapters differ than placers can tell apart."""
    return len(scenario.classes) > params.grouping.ungrouped_classes


def instance_of(scenario: Scenario, params: SolveParams = DEFAULTS) -> Instance:
    """The packing problems of a scenario, its regions learned in this process if they are not known.

    Raises
    ------
    InfeasibleError
        As `learned_regions` and `prepare`.
    """
    judge = TwinJudge(scenario, twin.profiles_of(scenario))
    return prepare(judge, learned_regions(judge, params=params), params=params)


def _refuse_unmet_levels(check: DedicatedGPUCheck) -> None:
    """Refuse service levels that not even the lightest load meets; no region can be learnt of them."""
    if check.scenario.acceptance == "paper":
        times = twin.times_alone(check.scenario, check.judge.profiles)
        too_short = twin.window_problem(check.scenario, times)
        if too_short is not None:
            raise InfeasibleError(too_short)
    if check.scenario.service_levels == ServiceLevelObjectives():
        return
    device, verdict = check.lightest()
    if verdict.accepted or verdict.memory_failure is not None:
        return
    raise InfeasibleError(
        f"no load, however light, meets the service levels: {device} with the lightest adapter alone: "
        f"{'; '.join(verdict.reasons)}; loosen {loosened(verdict)}"
    )


def _no_memory(judge: TwinJudge) -> str:
    """Why no engine starts on any device."""
    scenario = judge.scenario
    slots = scenario.engine.slot_choices[0]
    rank = scenario.engine.max_lora_rank or learn.needed_ranks(scenario)[0]
    messages = []
    for device in scenario.devices:
        profile = judge.profiles[device.name]
        memory_gib = profile.memory_of(device)
        plan = twin.plan_memory(profile.memory, scenario.engine, memory_gib, slots, rank)
        messages.append(f"on {device.name} {plan.why}; {plan.remedy}")
    return (
        f"no engine configuration fits the memory: with {slots} slots of rank {rank}, {'. '.join(messages)}"
    )
