"""What would save GPUs: one more slot, a smaller ``max_model_len``, a lower largest rank.

Savings are those of the relaxed model on the conservative region, in which adapters may be split over GPUs:
an upper estimate of what the rows allow, in fractions of a GPU.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

import learn
import twin
from optimizer.packing.bounds.price_bounds import continuous_bound
from optimizer.packing.model.problem import PackingOption, PackingProblem
from optimizer.search.instance import Instance
from scenarios import Device, padded_rank
from twin import MemoryPlan

if TYPE_CHECKING:
    from optimizer.result import Result


class WhatIf(BaseModel):
    """One thing that could be changed, and what it would save."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    text: str = Field(description="What changes, what it saves, and what it costs.")
    saves: float | None = Field(description="GPUs (or price) that the relaxed model saves; null if unknown.")


def without_limits(problem: PackingProblem) -> PackingProblem:
    """The problem with as many GPUs as are wanted."""
    return replace(problem, max_bins=None, budget=None, device_limits={})


def what_ifs(instance: Instance, result: Result) -> tuple[WhatIf, ...]:
    """What could be changed; what it costs a plan's engines is left out where there is no plan."""
    problem = without_limits(instance.inner)
    now = continuous_bound(problem)
    if not np.isfinite(now):
        return ()
    engines = _more_slots(instance, result, problem, now), _shorter(instance, problem, now)
    return (*engines, *_lower_ranks(instance, problem, now))


def _saved(now: float, then: float) -> str:
    after, before = int(np.ceil(then - 1e-6)), int(np.ceil(now - 1e-6))
    if now - then < 0.005:
        return f"nothing of {now:.2f}"
    tail = f"so the least falls to {after}" if after < before else f"and the least stays {after}"
    return f"at most {now - then:.2f} of {now:.2f}, {tail}"


# --- slots -----------------------------------------------------------------------------------------


def _more_slots(instance: Instance, result: Result, problem: PackingProblem, now: float) -> WhatIf:
    options = tuple(
        option if (row := slot_row(option)) is None else _with_slots(option, row, 1)
        for option in problem.options
    )
    then = continuous_bound(replace(problem, options=options))
    return WhatIf(
        name="one more slot",
        text=f"one more slot on every GPU saves {_saved(now, then)}{_slot_cost(instance, result)}",
        saves=now - then,
    )


def slot_row(option: PackingOption) -> int | None:
    """Index of the row that limits adapters to the slots: each takes one, and there are so many.

    The base model takes none.
    """
    one_or_none = ((option.usage == 1.0) | (option.usage == 0.0)).all(axis=1) & option.usage.any(axis=1)
    rows = np.flatnonzero(one_or_none & (option.capacity == option.option.max_loras))
    rows = rows[rows >= option.strict_rows]
    return int(rows[0]) if len(rows) else None


def _with_slots(option: PackingOption, row: int, more: int) -> PackingOption:
    capacity = option.capacity.copy()
    capacity[row] += more
    return replace(option, capacity=capacity)


def _slot_cost(instance: Instance, result: Result) -> str:
    """KV cache that one more slot takes on the plan's GPUs."""
    lost = []
    for gpu in result.placement.gpus if result.placement is not None else ():
        device = next(d for d in instance.scenario.devices if d.name == gpu.device)
        now, more = (_memory(instance, device, gpu.max_loras + k, gpu.max_lora_rank) for k in (0, 1))
        if now.starts and more.starts:
            lost.append((now.kv_cache_tokens - more.kv_cache_tokens) / now.kv_cache_tokens)
    if not lost:
        return ""
    lowest, highest = f"{min(lost):.1%}", f"{max(lost):.1%}"
    return f"; it costs {lowest if lowest == highest else f'{lowest} to {highest}'} of the KV cache of a GPU"


def _memory(instance: Instance, device: Device, slots: int, rank: int) -> MemoryPlan:
    profile = instance.profiles[device.name]
    memory = profile.memory_of(device)
    return twin.plan_memory(profile.memory, instance.scenario.engine, memory, slots, rank)


# --- max_model_len -----------------------------------------------------------------------------------


def _shorter(instance: Instance, problem: PackingProblem, now: float) -> WhatIf:
    """Engines that do not start only because the KV cache is below one sequence of max_model_len."""
    name, engine = "smaller max_model_len", instance.scenario.engine
    failing = [
        (device, slots, rank, plan.largest_max_model_len)
        for device in instance.scenario.devices
        for rank in learn.needed_ranks(instance.scenario)
        for slots in engine.slot_choices
        if (plan := _memory(instance, device, slots, rank)).failure == "kv_below_max_model_len"
    ]
    if not failing:
        return WhatIf(
            name=name,
            text=f"a max_model_len below {engine.max_model_len:,} saves nothing: it takes no memory, and "
            "every engine that fits the memory starts with it already",
            saves=0.0,
        )
    added = [option for device, slots, rank, _ in failing for option in _like(problem, device, slots, rank)]
    then = continuous_bound(replace(problem, options=(*problem.options, *added)))
    length = min(longest for *_, longest in failing)
    engines = ", ".join(f"{slots} slots of rank {rank}" for _, slots, rank, _ in failing[:3])
    return WhatIf(
        name=name,
        text=f"max_model_len {length:,} instead of {engine.max_model_len:,} would also start "
        f"{engines}{' and more' if len(failing) > 3 else ''}, which saves {_saved(now, min(now, then))}",
        saves=now - min(now, then),
    )


def _like(problem: PackingProblem, device: Device, slots: int, rank: int) -> Iterable[PackingOption]:
    """An option of more slots with the rows of the largest one that there is: no worse than the real one."""
    same = [o for o in problem.options if o.device == device.name and o.option.max_lora_rank == rank]
    largest = max((o.option.max_loras for o in same), default=0)
    return tuple(
        _with_slots(option, row, slots - largest)
        for option in same
        if option.option.max_loras == largest and (row := slot_row(option)) is not None
    )


# --- ranks -----------------------------------------------------------------------------------------


def _lower_ranks(instance: Instance, problem: PackingProblem, now: float) -> list[WhatIf]:
    """The largest rank of all lowered to each smaller one that there is."""
    ranks = sorted({members.rank for members in instance.classes if members.rank > 0})
    changes = []
    for rank in reversed(ranks[:-1]):
        above = np.array([members.rank > rank for members in instance.classes])
        options = tuple(
            replace(o, allowed=o.fits_class | (above & (o.option.max_lora_rank >= padded_rank(rank))))
            for o in problem.options
        )
        then = continuous_bound(replace(problem, options=options))
        number = int(instance.inner.counts[above].sum())
        changes.append(
            WhatIf(
                name=f"largest rank {rank}",
                text=f"rank {rank} instead of up to {ranks[-1]} for {number} adapters saves "
                f"{_saved(now, then)}",
                saves=now - then,
            )
        )
    return changes
