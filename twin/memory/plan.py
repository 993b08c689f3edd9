"""Start-up of an engine: KV capacity, failures and what would repair them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from scenarios import MAX_LORA_RANKS, EngineConfig
from twin.memory.allocator import GIB
from twin.memory.footprint import (
    Footprint,
    MemoryModel,
    StartFailure,
    TensorParallelError,
    footprint,
    launch_of,
    memory_model,
)
from twin.memory.kv_cache import kv_cache
from twin.memory.slots import slot_bytes
from twin.memory.weights import weight_bytes

__all__ = [
    "Footprint",
    "MemoryModel",
    "MemoryPlan",
    "StartFailure",
    "TensorParallelError",
    "memory_model",
    "plan_memory",
]

_MOST_UTILIZATION = 97
"""Percent of the GPU up to which a remedy proposes to raise gpu_memory_utilization."""

FAILURES: dict[str, str] = {
    "oom_cuda": "the engine needs more memory than the GPU has",
    "no_kv_memory": "nothing is left for the KV cache",
    "kv_below_max_model_len": "the KV cache is below one sequence of max_model_len",
}
"""How an engine fails to start (`StartFailure`), in words."""


@dataclass(frozen=True)
class MemoryPlan(Footprint):
    """Memory of one engine's GPU, and whether the engine starts; ``num_blocks`` is 0 if it is out of memory.

    Parameters
    ----------
    kv_cache_tokens
        KV capacity as vLLM's log prints it, of all blocks.
    failure
        None if the engine starts; ``oom_cuda``: more than the GPU has; ``no_kv_memory``: nothing left for
        the KV cache; ``kv_below_max_model_len``: the KV cache is below one sequence of ``max_model_len``.
    remedy
        What would repair the failure; empty if there is none.
    largest_max_loras
        Most slots of this rank with which the engine starts, None if not even one does.
    largest_max_model_len
        Longest ``max_model_len`` in tokens with which the engine starts, 0 if none.
    """

    kv_cache_tokens: int
    failure: StartFailure | None
    remedy: str
    largest_max_loras: int | None
    largest_max_model_len: int

    @property
    def starts(self) -> bool:
        """Whether the engine starts."""
        return self.failure is None

    @property
    def why(self) -> str:
        """The failure in words; empty if the engine starts."""
        return "" if self.failure is None else FAILURES[self.failure]


def plan_memory(
    memory: MemoryModel, engine: EngineConfig, gpu_memory_gib: float, max_loras: int, max_lora_rank: int
) -> MemoryPlan:
    """Memory of an engine with so many slots of this rank.

    Parameters
    ----------
    memory
        Memory of the model under the engine's version.
    engine
        Arguments of the engine; ``max_loras`` and ``max_lora_rank`` are taken from the next two instead.
    gpu_memory_gib
        Memory of the GPU as the engine sees it, in GiB.
    max_loras, max_lora_rank
        Adapter slots and their rank; 0 slots is an engine without LoRA.

    Raises
    ------
    TensorParallelError
        If ``tensor_parallel_size`` does not divide the model.
    """
    return _plan(_Engine(memory, engine, gpu_memory_gib, max_loras, max_lora_rank))


class _Engine(NamedTuple):
    """The arguments of `plan_memory`, to be varied."""

    memory: MemoryModel
    engine: EngineConfig
    gpu_memory_gib: float
    max_loras: int
    max_lora_rank: int

    @property
    def footprint(self) -> Footprint:
        return footprint(*self)

    @property
    def starts(self) -> bool:
        return self.footprint.start_failure(self.engine) is None

    def with_argument(self, name: str, value: float) -> _Engine:
        return self._replace(engine=self.engine.model_copy(update={name: value}))


@lru_cache(maxsize=16_384)
def _plan(engine: _Engine) -> MemoryPlan:
    use = engine.footprint
    failure = use.start_failure(engine.engine)
    longest = _largest_max_model_len(engine)
    most = _largest_max_loras(engine._replace(max_loras=1), None) if engine.max_loras else None
    blocks = use.num_blocks if failure != "oom_cuda" else 0
    return MemoryPlan(
        **(vars(use) | {"num_blocks": blocks}),
        kv_cache_tokens=blocks * engine.engine.block_size,
        failure=failure,
        remedy="" if failure is None else _remedy(engine, longest),
        largest_max_loras=most,
        largest_max_model_len=longest,
    )


def _largest_max_model_len(engine: _Engine) -> int:
    """Longest request with which the engine starts; 0 if it starts with none, as its graphs may not fit."""
    longest = engine.footprint.num_blocks * engine.engine.block_size
    return longest if longest and engine.with_argument("max_model_len", longest).starts else 0


@lru_cache(maxsize=4096)
def _largest_max_loras(one: _Engine, below: int | None) -> int | None:
    """Most slots, fewer than ``below``, with which an engine starts that is given with one slot.

    A slot takes at least its tensors' bytes, which bounds the answer from above; the allocator's losses are
    not monotone in the slots, so the answer is sought downwards from there.
    """
    if not one.starts:
        return None
    use, one_slot = one.footprint, launch_of(one.memory, one.engine, 1, one.max_lora_rank)
    rows = sum(weight_bytes(one_slot, 0)) - sum(weight_bytes(one_slot._replace(max_loras=0), 0))
    slot = sum(slot_bytes(one_slot, 0)) + max(0, rows)
    cache = kv_cache(one_slot, 0)
    sequence = cache.needed_blocks(one.engine.max_model_len) * cache.block_bytes
    spare = (use.kv_gib + use.slots_gib + use.lost_gib) * GIB - sequence
    most = max(1, math.floor(spare / slot))
    for slots in range(most if below is None else min(most, below - 1), 1, -1):
        if one._replace(max_loras=slots).starts:
            return slots
    return 1 if below is None or below > 1 else None


def _remedy(engine: _Engine, longest: int) -> str:
    """What would repair a failure, each alone."""
    slots, rank, config = engine.max_loras, engine.max_lora_rank, engine.engine
    fewer = _largest_max_loras(engine._replace(max_loras=1), slots) if slots else None
    ranks = (r for r in reversed(MAX_LORA_RANKS) if slots and r < rank)
    lower = next((r for r in ranks if engine._replace(max_lora_rank=r).starts), None)
    near = sorted(range(1, _MOST_UTILIZATION + 1), key=lambda p: abs(p / 100 - config.gpu_memory_utilization))
    shares = (p / 100 for p in near if engine.with_argument("gpu_memory_utilization", p / 100).starts)
    utilization = next(shares, None)
    choices = []
    if fewer is not None:
        choices.append(f"lower max_loras from {slots} to {fewer}")
    if lower is not None:
        choices.append(f"lower max_lora_rank from {rank} to {lower} (and place higher ranks elsewhere)")
    if longest:
        choices.append(f"lower max_model_len from {config.max_model_len} to {longest}")
    if utilization is not None:
        now = config.gpu_memory_utilization
        choices.append(f"set gpu_memory_utilization to {utilization:g} instead of {now:g}")
    none = "use a GPU with more memory, a larger tensor_parallel_size or a smaller model"
    return ", or ".join(choices) or none
