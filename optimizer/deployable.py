"""Plans that can be deployed alone: with what an engine must be told, ``max_cpu_loras`` above all.

vLLM's default for ``max_cpu_loras`` is ``max_loras`` (vllm/config/lora.py, ``LoRAConfig``, 0.4 to 0.32),
while the twin judges a plan with all of a GPU's adapters in CPU memory, or as many as the scenario says. A
plan that did not state it would be run otherwise than it was judged, where adapters are more than slots.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import twin
from optimizer.result import Result
from optimizer.survival.report import LossCase
from scenarios import EngineOption, PlacedGPU, Placement, Scenario, described


def deployable(result: Result, running: Placement | None = None) -> Result:
    """The result with all that a deployment needs in its plan; verdicts stay as they are.

    ``max_cpu_loras`` of every GPU, before losses and after, is the scenario's, or the most adapters that the
    GPU has with the engine that it starts with: its own, or those after a loss that it takes without being
    started again.

    Parameters
    ----------
    running
        What runs before the plan, with its ``max_cpu_loras``: an engine that keeps enough goes on as it is.
    """
    if result.placement is None:
        return result
    losses = () if result.survival is None else result.survival.losses
    placement = _stated(result.placement, losses, result.scenario)
    if running is not None and result.scenario.engine.max_cpu_loras is None:
        placement = _kept(placement, running)
    placement = described(placement, result.scenario, _engine_version(result.scenario))
    update: dict[str, object] = {"placement": placement}
    if result.survival is not None:
        after = losses_with_cpu_loras(losses, placement, result.scenario)
        update["survival"] = result.survival.model_copy(update={"losses": after})
    return result.model_copy(update=update)


def _engine_version(scenario: Scenario) -> str | None:
    """Release of the engine as which the twin plays a scenario's devices; None where they differ."""
    versions = {profile.engine_version for profile in twin.profiles_of(scenario).values()}
    return versions.pop() if len(versions) == 1 else None


def losses_with_cpu_loras(
    losses: Sequence[LossCase], placement: Placement, scenario: Scenario
) -> tuple[LossCase, ...]:
    """Losses of a plan that states ``max_cpu_loras``, with that of every GPU that is left.

    An engine that goes on has what the plan states, and one that is started again what it needs then.
    """
    before = {gpu.gpu: gpu for gpu in placement.gpus}

    def stated(gpu: PlacedGPU, case: LossCase) -> PlacedGPU:
        kept = None if gpu.gpu in case.restarted else before[gpu.gpu].max_cpu_loras
        number = needed(gpu, scenario) if kept is None else kept
        return gpu.model_copy(update={"max_cpu_loras": number})

    return tuple(
        case
        if case.placement is None
        else case.model_copy(
            update={"placement": case.placement.with_gpus(stated(gpu, case) for gpu in case.placement.gpus)}
        )
        for case in losses
    )


def needed(gpu: PlacedGPU, scenario: Scenario) -> int:
    """Adapters that a GPU of a plan keeps in CPU memory: as the scenario says, or all that it serves.

    The base model is none of them.
    """
    adapters = sum(name not in scenario.base_names for name in gpu.adapters)
    return scenario.engine.cpu_loras(adapters, gpu.max_loras)


def goes_on(new: PlacedGPU, old: PlacedGPU, scenario: Scenario) -> bool:
    """Whether a running engine serves what its GPU is given without being started again.

    One that does not say how many adapters it keeps in CPU memory is to be stated with as many as it needs.
    """
    enough = old.max_cpu_loras is None or old.max_cpu_loras >= needed(new, scenario)
    return new.option == old.option and enough


def _stated(placement: Placement, losses: Sequence[LossCase], scenario: Scenario) -> Placement:
    """The plan with ``max_cpu_loras`` of every GPU.

    GPUs that are alike have the same, as only one of several alike losses was looked at.
    """
    most = Counter[int]()
    after = [gpu for c in losses if c.placement for gpu in c.placement.gpus if gpu.gpu not in c.restarted]
    for gpu in (*placement.gpus, *after):
        most[gpu.gpu] = max(most[gpu.gpu], needed(gpu, scenario))
    class_of = {name: k for k, one in enumerate(scenario.classes) for name in one.names}

    def content(gpu: PlacedGPU) -> tuple[EngineOption, tuple[tuple[int, float], ...]]:
        return gpu.option, tuple(sorted((class_of[name], gpu.share(name)) for name in gpu.adapters))

    alike: dict[object, int] = {}
    for gpu in placement.gpus:
        alike[content(gpu)] = max(alike.get(content(gpu), 0), most[gpu.gpu])
    return placement.with_gpus(
        gpu.model_copy(update={"max_cpu_loras": alike[content(gpu)]}) for gpu in placement.gpus
    )


def _kept(placement: Placement, running: Placement) -> Placement:
    """The plan with ``max_cpu_loras`` of running engines that keep enough to go on as they are."""
    engines = {gpu.gpu: (gpu.option, gpu.max_cpu_loras or 0) for gpu in running.gpus}

    def kept(gpu: PlacedGPU) -> PlacedGPU:
        option, number = engines.get(gpu.gpu, (None, 0))
        if option != gpu.option or number < (gpu.max_cpu_loras or 0):
            return gpu
        return gpu.model_copy(update={"max_cpu_loras": number})

    return placement.with_gpus(map(kept, placement.gpus))
