"""GPU memory of an engine, computed: KV capacity, start-up failures and what would repair them.

What vLLM does at start-up (V1 engine): load the weights, make the adapter slots, run the largest batch once
and note the peak, give the rest of ``gpu_memory_utilization`` to the KV cache, capture CUDA graphs. Weights,
slots and KV bytes follow from the model's shapes and the allocator's rules; what a batch needs beside them
follows from the batch's shape with a few constants that were measured.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from scenarios.engine import MAX_LORA_RANKS, EngineConfig
from scenarios.errors import LorapackError
from twin.allocator import GIB, CachingAllocator
from twin.architectures import ModelArchitecture
from twin.tensors import adapts_embeddings, kv_bytes_per_token, slot_bytes, weight_bytes

StartFailure = Literal["oom_cuda", "no_kv_memory", "kv_below_max_model_len"]
"""How an engine fails to start; see `MemoryPlan.failure`."""

_EXTRA_VOCABULARY = 256
_EXTRA_VOCABULARY_UNTIL = (0, 12)
_MEASURED = (
    "weights, slots and KV cache computed from the model's shapes; constants measured with vLLM 0.8.5 on an "
    "H100 64 GB (Llama-3.1-8B and Qwen-2.5-7B, 50 to 2048 sequences, 2048 batched tokens)"
)


class TensorParallelError(LorapackError, ValueError):
    """The model cannot be divided over this many GPUs."""


class MemoryModel(BaseModel):
    """Everything from which an engine's memory is computed; part of an engine profile.

    Activation memory is ``context_gib`` + the larger of the forward pass, ``forward_gib`` + tokens ×
    (``forward_intermediate`` × intermediate size + ``forward_hidden`` × hidden size) × bytes, and of the
    sampler, sequences × vocabulary × ``sampler_bytes``; with adapters ``lora_gib`` more.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

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
    use = _usage(memory, engine, gpu_memory_gib, max_loras, max_lora_rank)
    failure = use.failure(engine)
    fits = _largest_max_loras(memory, engine, gpu_memory_gib, max_lora_rank, None) if max_loras else None
    longest = use.blocks * engine.block_size if failure in (None, "kv_below_max_model_len") else 0
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


@dataclass(frozen=True)
class _Usage:
    """Memory of one GPU in GiB, and the KV blocks that the rest holds."""

    gpu_gib: float
    weights_gib: float
    slots_gib: float
    lost_gib: float
    activation_gib: float
    context_gib: float
    graph_gib: float
    kv_gib: float
    blocks: int

    def failure(self, engine: EngineConfig) -> StartFailure | None:
        """How the engine fails to start, in the order in which vLLM finds out."""
        held = self.weights_gib + self.slots_gib + self.lost_gib
        if held + self.activation_gib > self.gpu_gib:
            return "oom_cuda"
        if self.blocks <= 0:
            return "no_kv_memory"
        if self.blocks * engine.block_size < engine.max_model_len:
            return "kv_below_max_model_len"
        # Graphs are captured when the activations of the trial batch are free again.
        if held + self.context_gib + self.kv_gib + self.graph_gib > self.gpu_gib:
            return "oom_cuda"
        return None


def _usage(
    memory: MemoryModel, engine: EngineConfig, gpu_memory_gib: float, max_loras: int, max_lora_rank: int
) -> _Usage:
    model, tp, lora = memory.architecture, engine.tensor_parallel_size, max_loras > 0
    _check_parallel(model, tp)
    computed, slots, lost = _held(model, tp, memory.extra_vocabulary, max_loras, max_lora_rank)
    weights = computed if memory.weights_gib is None else memory.weights_gib
    context = memory.context_gib + (memory.lora_gib if lora else 0) + (memory.nccl_gib if tp > 1 else 0)
    activation = context + _batch_gib(memory, engine)
    kv = gpu_memory_gib * engine.gpu_memory_utilization - weights - slots - lost - activation
    per_layer = memory.graph_layer_lora_gib if lora else memory.graph_layer_gib
    block_bytes = kv_bytes_per_token(model, tp) * engine.block_size
    return _Usage(
        gpu_gib=gpu_memory_gib,
        weights_gib=weights,
        slots_gib=slots,
        lost_gib=lost,
        activation_gib=activation,
        context_gib=context,
        graph_gib=per_layer * model.num_hidden_layers,
        kv_gib=kv,
        blocks=max(0, math.floor(kv * GIB / block_bytes)),
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


@lru_cache(maxsize=16_384)
def _held(
    model: ModelArchitecture, tp: int, extra_vocabulary: int, max_loras: int, max_lora_rank: int
) -> tuple[float, float, float]:
    """GiB of weights, of slots, and lost by the allocator. Rows added for the slots count as slots."""
    allocator = _with_weights(model, tp, lora=False, extra_vocabulary=0, max_loras=0)
    weights = allocator.allocated
    if max_loras:
        allocator = _with_weights(
            model, tp, lora=True, extra_vocabulary=extra_vocabulary, max_loras=max_loras
        )
        allocator.allocate(slot_bytes(model, tp, extra_vocabulary, max_loras, max_lora_rank))
    return weights / GIB, (allocator.allocated - weights) / GIB, allocator.lost / GIB


def _with_weights(
    model: ModelArchitecture, tp: int, *, lora: bool, extra_vocabulary: int, max_loras: int
) -> CachingAllocator:
    allocator = CachingAllocator()
    allocator.allocate(weight_bytes(model, tp, lora, extra_vocabulary, max_loras))
    return allocator


@lru_cache(maxsize=4096)
def _largest_max_loras(
    memory: MemoryModel, engine: EngineConfig, gpu_memory_gib: float, max_lora_rank: int, below: int | None
) -> int | None:
    """Most slots, fewer than ``below``, with which the engine starts.

    A slot takes at least its tensors' bytes, which bounds the answer from above; the allocator's losses are
    not monotone in the slots, so the answer is sought downwards from there.
    """
    model, tp = memory.architecture, engine.tensor_parallel_size
    one = _usage(memory, engine, gpu_memory_gib, 1, max_lora_rank)
    if one.failure(engine) is not None:
        return None
    added = memory.extra_vocabulary * model.hidden_size * model.dtype_bytes if adapts_embeddings(model) else 0
    slot = sum(slot_bytes(model, tp, memory.extra_vocabulary, 1, max_lora_rank)) + added // tp
    sequence = engine.max_model_len * kv_bytes_per_token(model, tp)
    spare = (one.kv_gib + one.slots_gib + one.lost_gib) * GIB - sequence
    most = max(1, math.floor(spare / slot))
    for slots in range(most if below is None else min(most, below - 1), 1, -1):
        if _usage(memory, engine, gpu_memory_gib, slots, max_lora_rank).failure(engine) is None:
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
        if _usage(memory, engine, gpu_memory_gib, max_loras, rank).failure(engine) is None:
            choices.append(
                f"lower max_lora_rank from {max_lora_rank} to {rank} (and place higher ranks elsewhere)"
            )
            break
    if longest:
        choices.append(f"lower max_model_len from {engine.max_model_len} to {longest}")
    for percent in range(99, 0, -1):
        other = engine.model_copy(update={"gpu_memory_utilization": percent / 100})
        if _usage(memory, other, gpu_memory_gib, max_loras, max_lora_rank).failure(other) is None:
            choices.append(
                f"set gpu_memory_utilization to {percent / 100:g} instead of {engine.gpu_memory_utilization:g}"
            )
            break
    if not choices:
        choices.append("use a GPU with more memory, a larger tensor_parallel_size or a smaller model")
    return ", or ".join(choices)


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
