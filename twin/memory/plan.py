"""Start-up of an engine: KV capacity, failures and what would repair them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from scenarios import MAX_LORA_RANKS, EngineConfig
from twin.memory.footprint import Footprint, StartFailure, footprint, kv_of, slot_gib
from twin.memory.launch import TensorParallelError
from twin.memory.memory_model import MemoryModel

_MOST_UTILIZATION = 97
"""Percent of the GPU up to which a remedy proposes to raise gpu_memory_utilization."""

_MOST_GPUS = 16
"""GPUs of an engine up to which a remedy proposes to raise tensor_parallel_size."""

_SIZES_OF_CACHE = ("kv_cache_memory_bytes", "num_gpu_blocks_override")
"""Arguments that state the size of the KV cache, whatever the memory holds."""

_LONGEST = 10_000_000
"""Longest max_model_len that is told."""

FAILURES: dict[str, str] = {
    "oom_cuda": "the engine needs more memory than the GPU has",
    "no_kv_memory": "nothing is left for the KV cache",
    "kv_below_max_model_len": "the KV cache is below one sequence of max_model_len",
}
"""How an engine fails to start (`StartFailure`), in words."""


@dataclass(frozen=True)
class MemoryPlan(Footprint):
    """Memory of one engine's GPU, and whether the engine starts.

    An engine that runs out of memory while it captures CUDA graphs has told its KV cache before.

    Parameters
    ----------
    kv_cache_tokens
        KV capacity as vLLM's log prints it, of all blocks.
    max_concurrency
        Requests of ``max_model_len`` tokens that it holds at once, as vLLM's log prints it.
    cpu_loras_gib
        Adapters of the slots' rank that the host keeps, ``max_cpu_loras`` of them or as many as there are
        slots, in its memory.
    failure
        None if the engine starts; ``oom_cuda``: more than the GPU has; ``no_kv_memory``: nothing left for
        the KV cache; ``kv_below_max_model_len``: the KV cache is below one sequence of ``max_model_len``.
    remedies
        What would repair the failure, each alone, the cheapest first; empty if it starts.
    largest_max_loras
        Most slots of this rank with which the engine starts, None if not even one does.
    largest_max_model_len
        Longest ``max_model_len`` in tokens with which the engine starts, 0 if none.
    """

    kv_cache_tokens: int
    max_concurrency: float
    cpu_loras_gib: float
    failure: StartFailure | None
    remedies: tuple[str, ...]
    largest_max_loras: int | None
    largest_max_model_len: int

    @property
    def starts(self) -> bool:
        """Whether the engine starts."""
        return self.failure is None

    @property
    def remedy(self) -> str:
        """The remedies in one line; empty if the engine starts."""
        return ", or ".join(self.remedies)

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
    memory = memory.of_engine(engine, max_loras)
    return _plan(_Engine(memory, engine, gpu_memory_gib, max_loras, max_lora_rank))


def kv_cache_if_started(
    memory: MemoryModel, engine: EngineConfig, gpu_memory_gib: float, max_loras: int, max_lora_rank: int
) -> int | None:
    """KV capacity in tokens of an engine that starts, as `plan_memory` tells it; None where it does not.

    What would repair one that does not start is not looked for, which takes most of that plan's time.
    """
    asked = _Engine(memory.of_engine(engine, max_loras), engine, gpu_memory_gib, max_loras, max_lora_rank)
    use = asked.footprint
    if use.start_failure(asked.memory, engine) is not None:
        return None
    return kv_of(asked.memory, engine, max_loras, max_lora_rank).tokens(use.num_blocks)


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
        return self.footprint.start_failure(self.memory, self.engine) is None

    def with_argument(self, name: str, value: float | bool | None) -> _Engine:
        return self._replace(engine=self.engine.model_copy(update={name: value}))


@lru_cache(maxsize=16_384)
def _plan(engine: _Engine) -> MemoryPlan:
    use = engine.footprint
    failure = use.start_failure(engine.memory, engine.engine)
    longest = _largest_max_model_len(engine)
    most = _largest_max_loras(engine._replace(max_loras=1), None) if engine.max_loras else None
    blocks = use.num_blocks
    kv = kv_of(engine.memory, engine.engine, engine.max_loras, engine.max_lora_rank)
    kept = engine.engine.max_cpu_loras or engine.max_loras
    return MemoryPlan(
        **vars(use),
        kv_cache_tokens=kv.tokens(blocks),
        max_concurrency=kv.max_concurrency(blocks),
        cpu_loras_gib=kept * slot_gib(engine.memory, engine.engine, 1, engine.max_lora_rank) if kept else 0.0,
        failure=failure,
        remedies=() if failure is None else tuple(_remedies(engine, longest)),
        largest_max_loras=most,
        largest_max_model_len=longest,
    )


def _largest_max_model_len(engine: _Engine) -> int:
    """Longest request with which the engine starts; 0 if it starts with none, as its graphs may not fit."""
    longest = min(engine.footprint.longest, _LONGEST)
    return longest if longest and engine.with_argument("max_model_len", longest).starts else 0


@lru_cache(maxsize=4096)
def _largest_max_loras(one: _Engine, below: int | None) -> int | None:
    """Most slots, fewer than ``below``, with which an engine starts that is given with one slot.

    A slot takes at least its tensors' bytes, which bounds the answer from above; the allocator's losses are
    not monotone in the slots, so the answer is sought downwards from there.
    """
    if not one.starts:
        return None
    use = one.footprint
    slot = slot_gib(one.memory, one.engine, 1, one.max_lora_rank)
    most = max(1, math.floor((use.kv_gib + use.slots_gib + use.lost_gib) / slot))
    for slots in range(most if below is None else min(most, below - 1), 1, -1):
        if one._replace(max_loras=slots).starts:
            return slots
    return 1 if below is None or below > 1 else None


def _remedies(engine: _Engine, longest: int) -> Iterator[str]:
    """What would repair a failure, each alone: first what costs nothing, then what serves less, then GPUs."""
    slots, rank, config = engine.max_loras, engine.max_lora_rank, engine.engine
    near = sorted(range(1, _MOST_UTILIZATION + 1), key=lambda p: abs(p / 100 - config.gpu_memory_utilization))
    shares = (p / 100 for p in near if engine.with_argument("gpu_memory_utilization", p / 100).starts)
    utilization = next(shares, None)
    fewer = _largest_max_loras(engine._replace(max_loras=1), slots) if slots else None
    ranks = (r for r in reversed(MAX_LORA_RANKS) if slots and r < rank)
    lower = next((r for r in ranks if engine._replace(max_lora_rank=r).starts), None)
    stated = [name for name in _SIZES_OF_CACHE if getattr(config, name) is not None]
    unset = [name for name in stated if engine.with_argument(name, None).starts]
    for name in unset:
        yield f"leave {name} out, so that the cache takes what is left"
    if utilization is not None:
        yield f"set gpu_memory_utilization to {utilization:g} instead of {config.gpu_memory_utilization:g}"
    if longest:
        yield f"lower max_model_len from {config.max_model_len} to {longest}"
    if fewer is not None:
        yield f"lower max_loras from {slots} to {fewer}"
    if lower is not None:
        yield f"lower max_lora_rank from {rank} to {lower} (and place higher ranks elsewhere)"
    if not config.enforce_eager and engine.with_argument("enforce_eager", True).starts:
        yield "set enforce_eager, which saves the CUDA graphs and makes small batches slower"
    if not unset and utilization is None and not longest and fewer is None and lower is None:
        yield _more_gpus(engine)


def _more_gpus(engine: _Engine) -> str:
    """What helps where no other argument does."""
    now = engine.engine.tensor_parallel_size
    for gpus in range(2 * now, _MOST_GPUS + 1, now):
        try:
            if engine.with_argument("tensor_parallel_size", gpus).starts:
                return f"raise tensor_parallel_size from {now} to {gpus}, or use a GPU with more memory"
        except TensorParallelError:
            continue
    return "use a GPU with more memory or a smaller model"
