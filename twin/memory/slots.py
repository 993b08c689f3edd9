"""Adapter slots that an engine keeps on one GPU, tensor by tensor in the order of their making.

Every adapted module holds, for each slot, an input matrix of ``max_lora_rank`` × inputs and an output matrix
of outputs × ``max_lora_rank``, whatever the adapters' own ranks (vLLM, ``lora/layers``). Slots are of the
activations' type whatever the quantisation of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from twin.architectures import ExpertBank, Linear
from twin.memory.launch import Launch, Version
from twin.memory.quantised import held_experts
from twin.memory.stages import dtype_bytes, is_first, is_last, stage_layers

_EXTRA_VOCABULARY = 256
_EXTRA_VOCABULARY_UNTIL: Version = (0, 12, 0)
"""Release from which adapters bring no vocabulary (``lora_extra_vocab_size`` is gone from config/lora.py)."""
_PADDED_OUTPUT = 256
_EXPERTS_SINCE: Version = (0, 11, 1)
"""First release with ``lora/layers/fused_moe.py``; 0.10.2 has none."""
_STACKED_SINCE: Version = (0, 12, 0)
"""First release that has one slice for checkpoints with gate and upward projection in one matrix."""


def slot_bytes(launch: Launch, stage: int) -> Iterator[int]:
    """Bytes of each tensor of the adapter slots on one GPU of a pipeline stage.

    Modules that are split by columns keep whole inputs, those split by rows whole outputs;
    ``fully_sharded_loras`` divides the rank of the former's input matrices and the outputs of the latter.
    """
    if not launch.lora:
        return
    unit = launch.max_loras * launch.max_lora_rank * _slot_dtype(launch)
    tied = launch.model.tie_word_embeddings
    if (is_first(stage) or (tied and is_last(launch, stage))) and _adapts(launch, "embed_tokens"):
        yield from _embedding(launch, unit)
    made: dict[object, list[int]] = {}
    for layer in stage_layers(launch, stage):
        if layer not in made:
            modules = layer.modules(launch.model.hidden_size)
            made[layer] = [size for module in modules for size in _module(launch, module, unit)]
        yield from made[layer]
    if is_last(launch, stage) and _adapts(launch, "lm_head"):
        if tied and launch.version < launch.model.family.output_is_embedding_until:
            # The one module is found under both names, and gets the slots of an embedding for each.
            yield from _embedding(launch, unit)
        yield from _output(launch, unit)


@lru_cache(maxsize=4096)
def adapts_any(launch: Launch) -> bool:
    """Whether the engine gives slots to any module of the model."""
    stages = range(launch.engine.pipeline_parallel_size)
    return any(size for stage in stages for size in slot_bytes(launch, stage))


def adapts_embeddings(launch: Launch) -> bool:
    """Whether the engine gives slots to the model's embedding or output layer."""
    return _adapts(launch, "embed_tokens") or _adapts(launch, "lm_head")


def extra_vocabulary(launch: Launch) -> int:
    """Rows of vocabulary that the engine keeps for each slot; 0 in newer engines and without adapters."""
    old = launch.version < _EXTRA_VOCABULARY_UNTIL
    return _EXTRA_VOCABULARY if old and launch.lora and adapts_embeddings(launch) else 0


def _adapts(launch: Launch, module: str) -> bool:
    family = launch.model.family
    since = family.embeddings_adapted
    if since is None or not since <= launch.version < family.embeddings_until:
        return False
    return module in family.adapted_ends and _targeted(launch, (module,))


def _targeted(launch: Launch, names: tuple[str, ...]) -> bool:
    """Whether ``lora_target_modules`` leaves a module; the engine's name or one of a part may be given."""
    targets = launch.engine.lora_target_modules
    return targets is None or any(name in targets for name in names)


def _slot_dtype(launch: Launch) -> int:
    return dtype_bytes(launch) if launch.engine.lora_dtype == "auto" else 2


def _embedding(launch: Launch, unit: int) -> Iterator[int]:
    yield unit * launch.model.vocab_size
    yield unit * launch.model.hidden_size
    yield from _extra_rows(launch)


def _output(launch: Launch, unit: int) -> Iterator[int]:
    vocabulary = launch.model.vocab_size
    if launch.version < _EXTRA_VOCABULARY_UNTIL:
        vocabulary = -(-(vocabulary + _EXTRA_VOCABULARY) // _PADDED_OUTPUT) * _PADDED_OUTPUT
    yield unit * launch.model.hidden_size
    yield unit * vocabulary
    yield from _extra_rows(launch)


def _extra_rows(launch: Launch) -> Iterator[int]:
    extra = extra_vocabulary(launch)
    if extra:
        yield launch.max_loras * extra * launch.model.hidden_size * _slot_dtype(launch)


def _module(launch: Launch, module: object, unit: int) -> Iterator[int]:
    match module:
        case Linear() if module.adapted:
            if _targeted(launch, (module.module, *(part.name for part in module.parts))):
                yield from _linear(launch, module, unit)
        case ExpertBank():
            if launch.version >= _EXPERTS_SINCE and _targeted(launch, ("experts",)):
                yield from _experts(launch, module, unit)


def _linear(launch: Launch, module: Linear, unit: int) -> Iterator[int]:
    tp = launch.engine.tensor_parallel_size
    inputs, outputs = module.inputs_on(tp), module.part_outputs_on(tp)
    if module.joined:
        outputs = (sum(outputs),)
    sharded = tp if launch.engine.fully_sharded_loras else 1
    for _ in outputs:
        yield unit * inputs // (sharded if module.split == "columns" else 1)
    for width in outputs:
        yield unit * (-(-width // sharded) if module.split == "rows" else width)


def _experts(launch: Launch, bank: ExpertBank, unit: int) -> Iterator[int]:
    """Slots of every expert, of gate and upward projection apart (``FusedMoEWithLoRA``) or as one matrix."""
    tp, sharded = launch.engine.tensor_parallel_size, 1
    if launch.engine.fully_sharded_loras and not launch.engine.enable_expert_parallel:
        sharded = tp
    held = held_experts(launch, bank)
    joined = not bank.gated or (bank.stacked and launch.version >= _STACKED_SINCE)
    slices = (held.upward,) if joined else (held.intermediate,) * 2
    for _ in slices:
        yield unit * held.number * held.inputs // sharded
    yield unit * held.number * held.intermediate
    for width in slices:
        yield unit * held.number * width
    yield unit * held.number * -(-held.inputs // sharded)
