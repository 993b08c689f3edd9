"""What an engine keeps on each GPU, computed from the model's shapes.

What vLLM does at start-up (V1 engine): load the weights, make the adapter slots, run the largest batch once
and note the peak, give the rest of ``gpu_memory_utilization`` to the KV cache, capture CUDA graphs. Weights,
slots and KV bytes follow from the model's shapes and the allocator's rules; what a batch needs beside them
follows from the batch's shape with a few constants that were measured.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from pydantic import Field

from scenarios import EngineConfig, FrozenModel, LorapackError
from twin.architectures import ModelArchitecture
from twin.memory.allocator import GIB, CachingAllocator
from twin.memory.kv_cache import kv_cache
from twin.memory.launch import Launch
from twin.memory.slots import slot_bytes
from twin.memory.weights import weight_bytes

StartFailure = Literal["oom_cuda", "no_kv_memory", "kv_below_max_model_len"]
"""How an engine fails to start; see `twin.memory.plan.MemoryPlan`."""

_EXTRA_VOCABULARY = 256
_EXTRA_VOCABULARY_UNTIL = (0, 12)
_MEASURED = (
    "weights, slots and KV cache computed from the model's shapes; constants measured with vLLM 0.8.5 on an "
    "H100 64 GB (Llama-3.1-8B and Qwen-2.5-7B, 50 to 2048 sequences, 2048 batched tokens)"
)


class TensorParallelError(LorapackError, ValueError):
    """The model cannot be divided over this many GPUs."""


class MemoryModel(FrozenModel):
    """Everything from which an engine's memory is computed; part of an engine profile.

    Activation memory is ``context_gib`` + the larger of the forward pass, ``forward_gib`` + tokens ×
    (``forward_intermediate`` × intermediate size + ``forward_hidden`` × hidden size) × bytes, and of the
    sampler, sequences × vocabulary × ``sampler_bytes``; with adapters ``lora_gib`` more.
    """

    architecture: ModelArchitecture
    weights_gib: float | None = Field(
        default=None,
        gt=0,
        le=100_000,
        description="Measured weights on one GPU, for quantised models; absent: computed.",
    )
    extra_vocabulary: int = Field(
        default=_EXTRA_VOCABULARY,
        ge=0,
        le=65_536,
        description="Vocabulary that the engine adds for each slot; 256 in vLLM 0.8.5, 0 in newer engines.",
    )
    context_gib: float = Field(
        default=0.745, ge=0, le=100, description="CUDA context, libraries and workspaces."
    )
    lora_gib: float = Field(default=0.24, ge=0, le=100, description="More of them when LoRA is on.")
    nccl_gib: float = Field(
        default=0.75,
        ge=0,
        le=100,
        description="Communication buffers of an engine of several GPUs (assumed).",
    )
    forward_gib: float = Field(default=0.13, ge=0, le=100, description="Forward pass at any batch.")
    forward_intermediate: float = Field(
        default=3.0, ge=0, le=1000, description="Forward pass: vectors of the intermediate size per token."
    )
    forward_hidden: float = Field(
        default=11.0, ge=0, le=1000, description="Forward pass: vectors of the hidden size per token."
    )
    sampler_bytes: float = Field(
        default=14.0,
        ge=0,
        le=1000,
        description="Bytes per sequence and vocabulary entry while sampling: logits in 16 and 32 bits, "
        "probabilities and random numbers in 32 bits.",
    )
    graph_layer_gib: float = Field(
        default=0.0537, ge=0, le=100, description="CUDA graphs per layer without LoRA, outside the budget."
    )
    graph_layer_lora_gib: float = Field(
        default=0.1045, ge=0, le=100, description="CUDA graphs per layer with LoRA, outside the budget."
    )
    provenance: str = Field(default=_MEASURED, description="Where the constants are from.")


def memory_model(
    architecture: ModelArchitecture, engine_version: str = "0.8.5", weights_gib: float | None = None
) -> MemoryModel:
    """Memory of a model under a version of vLLM.

    Parameters
    ----------
    architecture
        Shapes of the model.
    engine_version
        Version of vLLM. Up to 0.11 every slot has an extra vocabulary of its own.
    weights_gib
        Measured weights on one GPU in GiB ("Model loading took" without LoRA); absent: computed.
    """
    old = _version(engine_version) < _EXTRA_VOCABULARY_UNTIL
    return MemoryModel(
        architecture=architecture,
        weights_gib=weights_gib,
        extra_vocabulary=_EXTRA_VOCABULARY if old else 0,
    )


@dataclass(frozen=True)
class Footprint:
    """Memory of one GPU in GiB, and the KV blocks that the rest holds.

    Parameters
    ----------
    gpu_gib
        All that the GPU has.
    weights_gib, slots_gib, lost_gib
        Weights, adapter slots, and what the allocator loses between them.
    activation_gib
        Context and peak of the trial batch.
    context_gib
        The context alone.
    graph_gib
        CUDA graphs.
    kv_gib
        What the budget leaves for the KV cache; negative by how much is missing.
    num_blocks
        KV blocks in it, before the one that the engine keeps to itself; 0 if negative.
    """

    gpu_gib: float
    weights_gib: float
    slots_gib: float
    lost_gib: float
    activation_gib: float
    context_gib: float
    graph_gib: float
    kv_gib: float
    num_blocks: int

    def start_failure(self, engine: EngineConfig) -> StartFailure | None:
        """How the engine fails to start, in the order in which vLLM finds out."""
        held = self.weights_gib + self.slots_gib + self.lost_gib
        if held + self.activation_gib > self.gpu_gib:
            return "oom_cuda"
        if self.num_blocks <= 0:
            return "no_kv_memory"
        if self.num_blocks * engine.block_size < engine.max_model_len:
            return "kv_below_max_model_len"
        # Graphs are captured when the activations of the trial batch are free again.
        if held + self.context_gib + self.kv_gib + self.graph_gib > self.gpu_gib:
            return "oom_cuda"
        return None


def footprint(
    memory: MemoryModel, engine: EngineConfig, gpu_memory_gib: float, max_loras: int, max_lora_rank: int
) -> Footprint:
    """Memory of one GPU of the engine; the parameters are those of `twin.memory.plan.plan_memory`."""
    model, tp, lora = memory.architecture, engine.tensor_parallel_size, max_loras > 0
    _check_parallel(model, tp)
    launch = launch_of(memory, engine, max_loras, max_lora_rank)
    computed, slots, lost = _held(launch)
    weights = computed if memory.weights_gib is None else memory.weights_gib
    context = memory.context_gib + (memory.lora_gib if lora else 0) + (memory.nccl_gib if tp > 1 else 0)
    activation = context + _batch_gib(memory, engine)
    kv = gpu_memory_gib * engine.gpu_memory_utilization - weights - slots - lost - activation
    per_layer = memory.graph_layer_lora_gib if lora else memory.graph_layer_gib
    return Footprint(
        gpu_gib=gpu_memory_gib,
        weights_gib=weights,
        slots_gib=slots,
        lost_gib=lost,
        activation_gib=activation,
        context_gib=context,
        graph_gib=per_layer * model.num_hidden_layers,
        kv_gib=kv,
        num_blocks=kv_cache(launch, 0).num_blocks(kv * GIB),
    )


def _batch_gib(memory: MemoryModel, engine: EngineConfig) -> float:
    """Peak of the trial batch in GiB: of the forward pass or of the sampler, whichever is larger."""
    model, tp = memory.architecture, engine.tensor_parallel_size
    per_token = (
        memory.forward_intermediate * model.intermediate_size / tp + memory.forward_hidden * model.hidden_size
    ) * model.dtype_bytes
    forward = memory.forward_gib + engine.max_num_batched_tokens * per_token / GIB
    sequences = min(engine.max_num_seqs, engine.max_num_batched_tokens)
    return max(forward, sequences * model.vocab_size * memory.sampler_bytes / GIB)


def launch_of(memory: MemoryModel, engine: EngineConfig, max_loras: int, max_lora_rank: int) -> Launch:
    """The engine as it is started; an extra vocabulary is what tells an old engine from a new one."""
    version = (0, 8, 5) if memory.extra_vocabulary else (0, 19, 0)
    return Launch(memory.architecture, engine, version, max_loras, max_lora_rank)


@lru_cache(maxsize=16_384)
def _held(launch: Launch) -> tuple[float, float, float]:
    """GiB of weights, of slots, and lost by the allocator. Rows added for the slots count as slots."""
    allocator = CachingAllocator()
    allocator.allocate(weight_bytes(launch._replace(max_loras=0), 0))
    weights = allocator.allocated
    if launch.lora:
        allocator = CachingAllocator()
        allocator.allocate(weight_bytes(launch, 0))
        allocator.allocate(slot_bytes(launch, 0))
    return weights / GIB, (allocator.allocated - weights) / GIB, allocator.lost / GIB


def _check_parallel(model: ModelArchitecture, tp: int) -> None:
    heads, kv_heads = model.num_attention_heads, model.num_key_value_heads
    if heads % tp or (kv_heads % tp and tp % kv_heads):
        raise TensorParallelError(
            f"engine.tensor_parallel_size is {tp}, which does not divide {model.name}'s {heads} attention "
            f"and {kv_heads} key-value heads; choose a divisor of both"
        )


def _version(text: str) -> tuple[int, int]:
    parts = text.removeprefix("v").split(".")
    if len(parts) < 2 or not (parts[0].isdigit() and parts[1].isdigit()):
        raise ValueError(f'engine_version is "{text}"; give it as vLLM does: 0.8.5')
    return int(parts[0]), int(parts[1])
