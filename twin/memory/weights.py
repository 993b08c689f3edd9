"""Weights that an engine keeps on one GPU, tensor by tensor in the order of their making."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from twin.architectures import ExpertBank, Layer, Linear, Quantization, QuantizedGroup, Weight
from twin.memory.cache_layers import LATENT_SINCE
from twin.memory.launch import Launch, Version
from twin.memory.quantised import held_experts, matrix_bytes, quantization_of
from twin.memory.slots import adapts_embeddings, extra_vocabulary
from twin.memory.stages import dtype_bytes, is_first, is_last, stage_bounds

_FLOAT32 = 4
_VOCABULARY_PADDING = 64
_LORA_VOCABULARY_PADDING = 256
_WIDE_ROTARY_SINCE: Version = (0, 14, 0)
"""First release that keeps the table of scaled latent attention in 32 bits (deepseek_scaling_rope.py with
FlashInfer); 0.12 does not."""


def weight_bytes(launch: Launch, stage: int) -> Iterator[int]:
    """Bytes of each weight tensor on one GPU of a pipeline stage.

    Rows that an old engine adds to the embedding for adapters are among them.

    Raises
    ------
    QuantizationError
        If the engine is told of a quantisation that the model does not have.
    """
    model, tp, size = launch.model, launch.engine.tensor_parallel_size, dtype_bytes(launch)
    first, last = stage_bounds(launch, stage)
    if model.vision_parameters:
        yield -(-(model.vision_parameters - model.vision_copied) * size // tp)
        yield model.vision_copied * size
    if is_first(stage) or (model.tie_word_embeddings and is_last(launch, stage)):
        yield from _embedding(launch)
    wide = launch.version >= _WIDE_ROTARY_SINCE
    owners = 1 if launch.version >= model.family.shared_tables_since else last - first
    for table in model.rotary_tables * owners:
        yield table.positions * table.width * (_FLOAT32 if table.wide and wide else size)
    # How many slots there are, and of which rank, is nothing to a layer's own weights.
    yield from _layers(launch._replace(max_loras=min(1, launch.max_loras), max_lora_rank=1), stage)
    if is_last(launch, stage):
        yield from _output(launch, quantization_of(launch))


@lru_cache(maxsize=512)
def _layers(launch: Launch, stage: int) -> tuple[int, ...]:
    """Bytes of each weight tensor of a stage's layers.

    Looking up how each matrix is quantised takes seconds where a checkpoint lists all of them.
    """
    quantization = quantization_of(launch)
    made: dict[Layer, list[int]] = {}
    sizes: list[int] = []
    for index in range(*stage_bounds(launch, stage)):
        layer = launch.model.layers[index]
        if quantization is not None:  # a checkpoint may quantise one layer and not the next
            sizes += _layer(launch, quantization, index)
            continue
        if layer not in made:
            made[layer] = list(_layer(launch, None, index))
        sizes += made[layer]
    return tuple(sizes)


def _layer(launch: Launch, quantization: Quantization | None, index: int) -> Iterator[int]:
    tp, size = launch.engine.tensor_parallel_size, dtype_bytes(launch)
    for module in launch.model.layers[index].modules(launch.model.hidden_size):
        match module:
            case Linear():
                yield from _linear(launch, quantization, f"layers.{index}", module)
            case ExpertBank():
                yield from _experts(launch, quantization, f"layers.{index}", module)
            case Weight() if module.loaded or launch.version >= LATENT_SINCE:
                yield module.size_on(tp) * (_FLOAT32 if module.wide else size)


def _embedding(launch: Launch) -> Iterator[int]:
    """The embedding, with rows for each slot where adapters bring a vocabulary; and a table of positions."""
    model, tp, size = launch.model, launch.engine.tensor_parallel_size, dtype_bytes(launch)
    rows = _padded(model.vocab_size, _VOCABULARY_PADDING) + extra_vocabulary(launch) * launch.max_loras
    yield -(-rows * model.hidden_size * size // tp)
    if model.family.positions == "learned":
        yield model.max_position_embeddings * model.hidden_size * size


def _output(launch: Launch, quantization: Quantization | None) -> Iterator[int]:
    """The last normalisation and the output layer, which a tied model does without."""
    model, tp, size = launch.model, launch.engine.tensor_parallel_size, dtype_bytes(launch)
    if model.family.final_norms:
        yield model.family.final_norms * model.hidden_size * size
    if model.tie_word_embeddings:
        return
    extra = extra_vocabulary(launch)
    padding = _LORA_VOCABULARY_PADDING if extra and adapts_embeddings(launch) else _VOCABULARY_PADDING
    rows = _padded(model.vocab_size + extra, padding)
    group = _group_of_head(quantization)
    if group is None:
        yield -(-rows * model.hidden_size * size // tp)
    else:
        yield from matrix_bytes(group, -(-rows // tp), model.hidden_size, 1, size, launch.version)
    if model.family.head_bias:
        yield -(-rows * size // tp)


def _group_of_head(quantization: Quantization | None) -> QuantizedGroup | None:
    """The output layer is quantised only where a checkpoint names it."""
    if quantization is None:
        return None
    named = [group for group in quantization.groups if "lm_head" in group.targets]
    return named[0] if named and quantization.group_of(("lm_head",)) is not None else None


def _linear(launch: Launch, quantization: Quantization | None, layer: str, module: Linear) -> Iterator[int]:
    tp, size = launch.engine.tensor_parallel_size, dtype_bytes(launch)
    group = None
    if quantization is not None and module.quantised:
        place = module.name.rpartition(".")[0]
        names = (module.name, *(f"{place}.{part.name}" for part in module.parts))
        group = quantization.group_of(tuple(f"{layer}.{name}" for name in names))
    outputs, inputs = module.outputs_on(tp), module.inputs_on(tp)
    yield from matrix_bytes(group, outputs, inputs, len(module.parts), size, launch.version)
    if module.bias:
        yield outputs * size


def _experts(
    launch: Launch, quantization: Quantization | None, layer: str, bank: ExpertBank
) -> Iterator[int]:
    group, size = None, dtype_bytes(launch)
    if quantization is not None:
        group = quantization.group_of((f"{layer}.{bank.name}",), experts=True)
    held = held_experts(launch, bank)
    up, down = held.number * held.upward, held.number * held.inputs
    yield from matrix_bytes(group, up, held.inputs, 2 * held.number, size, launch.version)
    yield from matrix_bytes(group, down, held.intermediate, held.number, size, launch.version)
    if held.bias:
        yield up * size
        yield down * size


def _padded(size: int, to: int) -> int:
    return -(-size // to) * to
