"""Start-up of an engine: KV capacity, failures and what would repair them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

from scenarios.engine import MAX_LORA_RANKS, EngineConfig
from twin.memory.allocator import GIB
from twin.memory.footprint import (
    Footprint,
    MemoryModel,
    StartFailure,
    TensorParallelError,
    footprint,
    memory_model,
)
from twin.memory.tensors import adapts_embeddings, kv_bytes_per_token, slot_bytes

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
class MemoryPlan:
    """Memory of one engine's GPU, and whether the engine starts.

    Parameters
    ----------
    kv_cache_tokens, num_blocks
        KV capacity as vLLM's log prints it, before the one block that the engine keeps to itself; 0 where
        nothing is left.
    kv_gib
        Memory left for the KV cache in GiB; negative by how much is missing.
    weights_gib, slots_gib
        Weights, and adapter slots, in GiB.
    lost_gib
        Lost between tensors by the allocator, in GiB.
    activation_gib
        Context and peak of the largest batch, in GiB.
    graph_gib
        CUDA graphs, outside the budget, in GiB.
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
    num_blocks: int
    kv_gib: float
    weights_gib: float
    slots_gib: float
    lost_gib: float
    activation_gib: float
    graph_gib: float
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
    return _plan(memory, engine, gpu_memory_gib, max_loras, max_lora_rank)


@lru_cache(maxsize=16_384)
def _plan(
    memory: MemoryModel, engine: EngineConfig, gpu_memory_gib: float, max_loras: int, max_lora_rank: int
) -> MemoryPlan:
    use = footprint(memory, engine, gpu_memory_gib, max_loras, max_lora_rank)
    failure = use.failure(engine)
    fits = _largest_max_loras(memory, engine, gpu_memory_gib, max_lora_rank, None) if max_loras else None
    longest = _largest_max_model_len(memory, engine, gpu_memory_gib, max_loras, max_lora_rank)
    remedy = ""
    if failure is not None:
        remedy = _remedy(memory, engine, gpu_memory_gib, max_loras, max_lora_rank, longest)
    blocks = use.blocks if failure != "oom_cuda" else 0
    return MemoryPlan(
        kv_cache_tokens=blocks * engine.block_size,
        num_blocks=blocks,
        kv_gib=use.kv_gib,
        weights_gib=use.weights_gib,
        slots_gib=use.slots_gib,
        lost_gib=use.lost_gib,
        activation_gib=use.activation_gib,
        graph_gib=use.graph_gib,
        failure=failure,
        remedy=remedy,
        largest_max_loras=fits,
        largest_max_model_len=longest,
    )


def _largest_max_model_len(
    memory: MemoryModel, engine: EngineConfig, gpu_memory_gib: float, max_loras: int, max_lora_rank: int
) -> int:
    """Longest request with which the engine starts; 0 if it starts with none, as its graphs may not fit."""
    use = footprint(memory, engine, gpu_memory_gib, max_loras, max_lora_rank)
    if use.blocks <= 0:
        return 0
    longest = use.blocks * engine.block_size
    other = engine.model_copy(update={"max_model_len": longest})
    starts = footprint(memory, other, gpu_memory_gib, max_loras, max_lora_rank).failure(other) is None
    return longest if starts else 0


@lru_cache(maxsize=4096)
def _largest_max_loras(
    memory: MemoryModel, engine: EngineConfig, gpu_memory_gib: float, max_lora_rank: int, below: int | None
) -> int | None:
    """Most slots, fewer than ``below``, with which the engine starts.

    A slot takes at least its tensors' bytes, which bounds the answer from above; the allocator's losses are
    not monotone in the slots, so the answer is sought downwards from there.
    """
    model, tp = memory.architecture, engine.tensor_parallel_size
    one = footprint(memory, engine, gpu_memory_gib, 1, max_lora_rank)
    if one.failure(engine) is not None:
        return None
    added = memory.extra_vocabulary * model.hidden_size * model.dtype_bytes if adapts_embeddings(model) else 0
    slot = sum(slot_bytes(model, tp, memory.extra_vocabulary, 1, max_lora_rank)) + added // tp
    sequence = engine.max_model_len * kv_bytes_per_token(model, tp)
    spare = (one.kv_gib + one.slots_gib + one.lost_gib) * GIB - sequence
    most = max(1, math.floor(spare / slot))
    for slots in range(most if below is None else min(most, below - 1), 1, -1):
        if footprint(memory, engine, gpu_memory_gib, slots, max_lora_rank).failure(engine) is None:
            return slots
    return 1 if below is None or below > 1 else None


def _remedy(
    memory: MemoryModel,
    engine: EngineConfig,
    gpu_memory_gib: float,
    max_loras: int,
    max_lora_rank: int,
    longest: int,
) -> str:
    """What would repair a failure, each alone."""
    choices: list[str] = []
    fewer = (
        _largest_max_loras(memory, engine, gpu_memory_gib, max_lora_rank, max_loras) if max_loras else None
    )
    if fewer is not None:
        choices.append(f"lower max_loras from {max_loras} to {fewer}")
    ranks = [rank for rank in MAX_LORA_RANKS if max_loras and rank < max_lora_rank]
    for rank in reversed(ranks):
        if footprint(memory, engine, gpu_memory_gib, max_loras, rank).failure(engine) is None:
            choices.append(
                f"lower max_lora_rank from {max_lora_rank} to {rank} (and place higher ranks elsewhere)"
            )
            break
    if longest:
        choices.append(f"lower max_model_len from {engine.max_model_len} to {longest}")
    utilization = _repairing_utilization(memory, engine, gpu_memory_gib, max_loras, max_lora_rank)
    if utilization is not None:
        choices.append(
            f"set gpu_memory_utilization to {utilization:g} instead of {engine.gpu_memory_utilization:g}"
        )
    if not choices:
        choices.append("use a GPU with more memory, a larger tensor_parallel_size or a smaller model")
    return ", or ".join(choices)


def _repairing_utilization(
    memory: MemoryModel, engine: EngineConfig, gpu_memory_gib: float, max_loras: int, max_lora_rank: int
) -> float | None:
    """The gpu_memory_utilization nearest to the engine's, in whole percent, with which it starts."""
    now = engine.gpu_memory_utilization
    for percent in sorted(range(1, _MOST_UTILIZATION + 1), key=lambda percent: abs(percent / 100 - now)):
        other = engine.model_copy(update={"gpu_memory_utilization": percent / 100})
        if footprint(memory, other, gpu_memory_gib, max_loras, max_lora_rank).failure(other) is None:
            return percent / 100
    return None
