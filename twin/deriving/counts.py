"""What a step of a model does on one GPU, counted from its shapes: bytes, operations, kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, NamedTuple

from scenarios import EngineConfig
from twin.architectures import Experts, Linear, ModelArchitecture
from twin.architectures.modules import ExpertBank
from twin.memory import MemoryModel
from twin.memory.cache_layers import cache_layers
from twin.memory.launch import Launch, check_parallel
from twin.memory.quantised import quantization_of
from twin.memory.weights import weight_bytes

Arithmetic = Literal["bf16", "fp8", "int8"]
"""What a GPU multiplies in."""

LORA_MANY_TOKENS = 128
"""Tokens from which the LoRA kernels divide a matrix less (vLLM 0.8.5, lora/ops/triton_ops/lora_shrink.py:
``SPLIT_K = 64 if M < 128 else 8``)."""
_SPLIT, _SPLIT_MANY = 64, 8
"""Parts of a shrink kernel's sum, each a thread block of its own, in steps of few and of many tokens."""
_BLOCK_OUTPUTS = 128
"""Outputs of a thread block of the expand kernel (vLLM 0.8.5, lora_expand.py, ``BLOCK_N``)."""
_LONG_WINDOW = 4096
"""Tokens of a window from which its layers are counted as if they saw every token; the reads of shorter ones
are bounded, and no longer grow with the context of usual requests."""
_EMBEDDING_PADDING = 64


class ModelCounts(NamedTuple):
    """What one step does on one of an engine's GPUs.

    Parameters
    ----------
    layers
        Layers of the model.
    dense_bytes
        Weights that every step reads, quantised ones at their own size, in bytes.
    expert_bytes
        Weights of all experts together, of which a step reads those that its tokens chose, in bytes.
    chosen
        Share of the experts that one token passes through; 1 without experts.
    operations
        Floating-point operations of the layers for one token.
    arithmetic
        What the layers' matrices are multiplied in.
    head_operations
        Operations of the output layer for one request.
    vocabulary
        Entries of the vocabulary.
    kv_bytes
        Bytes of keys and values that attention reads for one earlier token.
    state_bytes
        Bytes of the states of fixed size that a request has, read and written in each step.
    lora_shape
        Inputs and outputs of all adapted matrices: weights of an adapter for each unit of rank.
    lora_outputs
        Outputs of all adapted matrices, which every token's adapter is added to.
    lora_blocks, lora_blocks_many
        Thread blocks that the LoRA kernels launch for each slot and 32 tokens, in steps of few tokens and of
        many.
    hidden
        Size of the vectors between layers.
    """

    layers: int
    dense_bytes: float
    expert_bytes: float
    chosen: float
    operations: float
    arithmetic: Arithmetic
    head_operations: float
    vocabulary: int
    kv_bytes: float
    state_bytes: float
    lora_shape: float
    lora_outputs: float
    lora_blocks: float
    lora_blocks_many: float
    hidden: int

    def read_bytes(self, tokens: float) -> float:
        """Bytes of weights that a step of so many tokens reads; tokens choose experts independently."""
        if not self.expert_bytes:
            return self.dense_bytes
        unread = float((1.0 - self.chosen) ** max(tokens, 1.0))
        return self.dense_bytes + self.expert_bytes * (1.0 - unread)


def model_counts(memory: MemoryModel, engine: EngineConfig) -> ModelCounts:
    """Count what a step of an engine's model does on one of its GPUs.

    Parameters
    ----------
    memory
        The model, and the release of the engine.
    engine
        Arguments of the engine, of which the parallel layout and the quantisation matter.

    Raises
    ------
    TensorParallelError
        If the model cannot be divided over so many GPUs.
    QuantizationError
        If the engine is told of a quantisation that the model does not have.
    """
    model, tp = memory.architecture, engine.tensor_parallel_size
    launch = Launch(model, engine, memory.version, 0, 0).of_tensors
    check_parallel(launch)
    linear = [m for m in _modules(model) if isinstance(m, Linear)]
    adapted = [m for m in linear if m.adapted]
    experts = _expert_bytes(launch)
    full, state = _cache_bytes(launch)
    return ModelCounts(
        layers=model.num_hidden_layers,
        dense_bytes=sum(weight_bytes(launch, 0)) - _not_read(launch) - experts,
        expert_bytes=experts,
        chosen=_chosen(model),
        operations=2.0 * sum(m.inputs_on(tp) * m.outputs_on(tp) for m in linear)
        + _expert_operations(model, tp),
        arithmetic=_arithmetic(launch),
        head_operations=2.0 * model.hidden_size * model.vocab_size / tp,
        vocabulary=model.vocab_size,
        kv_bytes=full,
        state_bytes=state,
        lora_shape=float(sum(_slices(m) * m.inputs_on(tp) + m.outputs_on(tp) for m in adapted)),
        lora_outputs=float(sum(m.outputs_on(tp) for m in adapted)),
        lora_blocks=float(sum(_blocks(m, tp, _SPLIT) for m in adapted)),
        lora_blocks_many=float(sum(_blocks(m, tp, _SPLIT_MANY) for m in adapted)),
        hidden=model.hidden_size,
    )


def _modules(model: ModelArchitecture) -> Iterator[object]:
    for layer in model.layers:
        yield from layer.modules(model.hidden_size)


def _slices(module: Linear) -> int:
    return 1 if module.joined else len(module.parts)


def _blocks(module: Linear, gpus: int, split: int) -> int:
    """Thread blocks of a matrix's two kernels for a slot; the widest part sets the grid of the second."""
    widest = max(module.part_outputs_on(gpus))
    return _slices(module) * (split + -(-widest // _BLOCK_OUTPUTS))


def _not_read(launch: Launch) -> float:
    """Bytes on the GPU that a step does not read whole: embedding, positions, a vision tower."""
    model, tp = launch.model, launch.engine.tensor_parallel_size
    rows = 0 if model.tie_word_embeddings else -(-model.vocab_size // _EMBEDDING_PADDING) * _EMBEDDING_PADDING
    learned = model.max_position_embeddings if model.family.positions == "learned" else 0
    tables = sum(table.positions * table.width for table in model.rotary_tables)
    vision = (model.vision_parameters - model.vision_copied) / tp + model.vision_copied
    return model.dtype_bytes * (rows * model.hidden_size / tp + learned * model.hidden_size + tables + vision)


def _expert_bytes(launch: Launch) -> float:
    """Bytes of all experts: what twice as many would add."""
    number = launch.model.num_local_experts
    if not number:
        return 0.0
    twice = launch._replace(model=launch.model.model_copy(update={"num_local_experts": 2 * number}))
    return float(sum(weight_bytes(twice, 0)) - sum(weight_bytes(launch, 0)))


def _chosen(model: ModelArchitecture) -> float:
    shares = [
        layer.feed_forward.per_token / layer.feed_forward.number
        for layer in model.layers
        if isinstance(layer.feed_forward, Experts)
    ]
    return sum(shares) / len(shares) if shares else 1.0


def _expert_operations(model: ModelArchitecture, gpus: int) -> float:
    total = 0.0
    for layer in model.layers:
        if isinstance(layer.feed_forward, Experts):
            banks = [m for m in layer.modules(model.hidden_size) if isinstance(m, ExpertBank)]
            weights = sum((bank.upward + bank.intermediate) * bank.inputs for bank in banks)
            total += 2.0 * layer.feed_forward.per_token * weights / gpus
    return total


def _cache_bytes(launch: Launch) -> tuple[float, float]:
    """Bytes that attention reads for an earlier token, and bytes of a request's states, read and written."""
    # The cache of a whole sequence is asked for, so that a state's page is that of one sequence.
    caches = cache_layers(launch).values()
    full = sum(
        c.page / c.block
        for c in caches
        if c.kind == "full" or (c.kind != "state" and c.window >= _LONG_WINDOW)
    )
    return full, 2.0 * sum(c.page for c in caches if c.kind == "state")


def _arithmetic(launch: Launch) -> Arithmetic:
    quantization = quantization_of(launch)
    kinds = {group.kind for group in quantization.groups} if quantization else set()
    if kinds & {"fp8", "mxfp8", "nvfp4"}:  # the catalogue has no speed in 4 bits: that in 8 is the nearest
        return "fp8"
    return "int8" if "int8" in kinds else "bf16"
