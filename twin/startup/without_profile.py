"""What can be said of a scenario's GPUs where no engine profile is known: their memory."""

from __future__ import annotations

from collections.abc import Iterator

from scenarios import Device, LorapackError, Scenario, padded_rank
from twin.profile import unshipped
from twin.startup.answer import MemoryAnswer, ask_memory


def memory_without_profiles(scenario: Scenario) -> Iterator[str]:
    """Yield a sentence on the memory of each device of a scenario for which no engine profile is known.

    It is that of the newest release of vLLM that is known, with the fewest slots that the scenario allows.
    """
    lacking = {loc[1] for loc in _lacking(scenario)}
    for k, device in enumerate(scenario.devices):
        if k in lacking:
            yield _sentence(scenario, device)


def _lacking(scenario: Scenario) -> Iterator[tuple[str, int]]:
    devices = [(k, device) for k, device in enumerate(scenario.devices) if device.profile is None]
    for finding in unshipped(scenario.model, devices):
        if finding.loc == ("model",):
            yield from (("devices", k) for k, _ in devices)
        else:
            yield "devices", int(finding.loc[1])


def _sentence(scenario: Scenario, device: Device) -> str:
    try:
        answer = memory_of_device(scenario, device)
    except LorapackError as error:
        return f"memory on {device.name}: not known: {error}"
    plan = answer.plan
    slots = f"{answer.max_loras} slots of rank {answer.max_lora_rank}"
    engine = f"memory on {device.name} ({plan.gpu_gib:g} GiB), vLLM {answer.engine_version}, {slots}"
    most = "none" if plan.largest_max_loras is None else f"{plan.largest_max_loras:,}"
    if not plan.starts:
        return f"{engine}: it does not start, {plan.why}; {plan.remedy}"
    holds = f"{plan.kv_cache_tokens:,} tokens of KV cache; most slots {most}"
    return f"{engine}: it starts, with {holds} ({answer.basis})"


def memory_of_device(scenario: Scenario, device: Device) -> MemoryAnswer:
    """Memory of a scenario's engine on one of its devices, without an engine profile."""
    engine = scenario.engine
    rank = engine.max_lora_rank or padded_rank(max(adapter.rank for adapter in scenario.classes))
    arguments = engine.model_dump(exclude={"max_loras", "max_lora_rank", "slots"})
    known = device.memory_gib is not None
    return ask_memory(
        scenario.model,
        device=None if known else device.name,
        gpu_memory_gib=device.memory_gib,
        max_loras=engine.slot_choices[0],
        max_lora_rank=rank,
        arguments=arguments,
    )
