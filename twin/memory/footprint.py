"""What an engine keeps on each GPU, computed from the model's shapes.

What vLLM does at start-up: load the weights, make the adapter slots, run the largest batch once and note the
peak, give the rest of ``gpu_memory_utilization`` to the KV cache, capture CUDA graphs. Weights, slots and KV
bytes follow from the model's shapes and the allocator's rules; what a batch needs beside them follows from
the batch's shape with a few constants that were measured (`twin.memory.memory_model`); what is counted when
is the release's (`twin.memory.versions`).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from scenarios import EngineConfig
from scenarios.text.formatting import shortened
from twin.memory.activation import activation_gib
from twin.memory.allocator import GIB, CachingAllocator
from twin.memory.graphs import graph_gib
from twin.memory.kv_cache import KVCache, kv_cache
from twin.memory.launch import Launch, LoraTargetError, check_parallel
from twin.memory.memory_model import MemoryModel
from twin.memory.slots import adapts_any, slot_bytes
from twin.memory.versions import counts_graphs, rules_of
from twin.memory.weights import weight_bytes

StartFailure = Literal["oom_cuda", "no_kv_memory", "kv_below_max_model_len"]
"""How an engine fails to start; see `twin.memory.plan.MemoryPlan`."""


@dataclass(frozen=True)
class Footprint:
    """Memory of one GPU in GiB, and the KV blocks that the rest holds.

    Of an engine of several pipeline stages it is the GPU that holds fewest blocks.

    Parameters
    ----------
    gpu_gib
        All that the GPU has.
    weights_gib, slots_gib
        Weights that are not offloaded, and adapter slots.
    activation_gib
        PyTorch's peak in the trial batch.
    other_gib
        All else that the engine counts: libraries, workspaces, communication, with ``lost_gib``.
    lost_gib
        What the allocator loses between weights and slots.
    uncounted_gib
        What is on the GPU and the engine does not count: the CUDA context, in most releases.
    graph_gib
        CUDA graphs, in the budget or outside of it (`twin.memory.versions`).
    kv_gib
        What the budget leaves for the KV cache; negative by how much is missing.
    num_blocks
        KV blocks in it, before the one that the engine keeps to itself; 0 if negative.
    longest
        Longest sequence in tokens that they hold.
    offloaded_gib
        Weights in the host's memory.
    """

    gpu_gib: float
    weights_gib: float
    slots_gib: float
    activation_gib: float
    other_gib: float
    lost_gib: float
    uncounted_gib: float
    graph_gib: float
    kv_gib: float
    num_blocks: int
    longest: int
    offloaded_gib: float

    def start_failure(self, memory: MemoryModel, engine: EngineConfig) -> StartFailure | None:
        """How the engine fails to start, in the order in which vLLM finds out."""
        rules = rules_of(memory.version, memory.v1 is not False)
        asked = self.gpu_gib * engine.gpu_memory_utilization
        if rules.needs_room and asked > self.gpu_gib - self.uncounted_gib:
            return "oom_cuda"
        held = self.weights_gib + self.slots_gib + self.other_gib + self.uncounted_gib
        if held + self.activation_gib > self.gpu_gib:
            return "oom_cuda"
        if self.num_blocks <= 0:
            return "no_kv_memory"
        if self.longest < engine.max_model_len:
            return "kv_below_max_model_len"
        # Graphs are captured when the activations of the trial batch are free again.
        if held + self.kv_gib + self.graph_gib > self.gpu_gib:
            return "oom_cuda"
        return None


def footprint(
    memory: MemoryModel, engine: EngineConfig, gpu_memory_gib: float, max_loras: int, max_lora_rank: int
) -> Footprint:
    """Memory of one GPU of the engine; the parameters are those of `twin.memory.plan.plan_memory`.

    Raises
    ------
    TensorParallelError
        If the model cannot be divided over so many GPUs.
    LoraTargetError
        If adapters are to be served of which the model has no module.
    """
    launch = Launch(memory.architecture, engine, memory.version, max_loras, max_lora_rank)
    check_parallel(launch)
    if launch.lora and not adapts_any(launch.of_tensors):
        asked = ", ".join(launch.engine.lora_target_modules or ())
        raise LoraTargetError(
            f"engine.lora_target_modules is [{shortened(asked)}], none of which is a module of "
            f"{launch.model.name}; name some as the engine does: qkv_proj, o_proj, gate_up_proj, down_proj"
        )
    stages = range(engine.pipeline_parallel_size)
    return min((_of_stage(memory, launch, gpu_memory_gib, k) for k in stages), key=lambda use: use.num_blocks)


def _of_stage(memory: MemoryModel, launch: Launch, gpu_gib: float, stage: int) -> Footprint:
    engine = launch.engine
    rules = rules_of(memory.version, memory.v1 is not False)
    computed, slots, lost = held_gib(launch.of_tensors, stage)
    weights = computed if memory.weights_gib is None else memory.weights_gib
    offloaded = min(weights, engine.cpu_offload_gb)
    context = memory.context_gib + (memory.lora_gib if launch.lora else 0)
    context += memory.nccl_gib if engine.tensor_parallel_size > 1 else 0
    activation = activation_gib(memory, launch, rules, stage)
    graphs = graph_gib(memory, launch, rules, gpu_gib, stage)
    counted_loss = 0.0 if rules.budget == "increase" else lost
    other = context - memory.uncounted_gib + counted_loss
    of_budget = graphs if memory.v1 is not False and counts_graphs(memory.version, launch.model) else 0.0
    kv_gib = (
        gpu_gib * engine.gpu_memory_utilization
        - of_budget
        - (weights - offloaded)
        - slots
        - activation
        - other
    )
    if engine.kv_cache_memory_bytes is not None:  # gpu_worker.py, ``determine_available_memory``, from 0.10.2
        kv_gib = engine.kv_cache_memory_bytes / GIB
    kv = kv_cache(launch, stage)
    blocks = kv.num_blocks(kv_gib * GIB)
    if engine.num_gpu_blocks_override is not None:
        blocks = engine.num_gpu_blocks_override
        kv_gib = blocks * kv.block_bytes / GIB
    return Footprint(
        gpu_gib=gpu_gib,
        weights_gib=weights - offloaded,
        slots_gib=slots,
        activation_gib=activation,
        other_gib=other,
        lost_gib=lost,
        uncounted_gib=memory.uncounted_gib,
        graph_gib=graphs,
        kv_gib=kv_gib,
        num_blocks=max(0, blocks),
        longest=kv.longest(max(0, blocks)),
        offloaded_gib=offloaded,
    )


@lru_cache(maxsize=16_384)
def held_gib(launch: Launch, stage: int) -> tuple[float, float, float]:
    """GiB of weights, of slots, and lost by the allocator. Rows added for the slots count as slots."""
    allocator = CachingAllocator()
    allocator.allocate(weight_bytes(launch._replace(max_loras=0), stage))
    weights = allocator.allocated
    if launch.lora:
        allocator = CachingAllocator()
        allocator.allocate(weight_bytes(launch, stage))
        allocator.allocate(slot_bytes(launch, stage))
    return weights / GIB, (allocator.allocated - weights) / GIB, allocator.lost / GIB


def kv_of(memory: MemoryModel, engine: EngineConfig, max_loras: int, max_lora_rank: int) -> KVCache:
    """The KV cache of a GPU of the last pipeline stage, which says how blocks and tokens are counted."""
    launch = Launch(memory.architecture, engine, memory.version, max_loras, max_lora_rank)
    return kv_cache(launch, engine.pipeline_parallel_size - 1)


def slot_gib(memory: MemoryModel, engine: EngineConfig, max_loras: int, max_lora_rank: int) -> float:
    """GiB of the tensors of so many slots on a GPU of the first stage, with the rows they add to weights."""
    launch = Launch(memory.architecture, engine, memory.version, max_loras, max_lora_rank)
    with_slots = sum(weight_bytes(launch, 0)) + sum(slot_bytes(launch, 0))
    return (with_slots - sum(weight_bytes(launch._replace(max_loras=0), 0))) / GIB
