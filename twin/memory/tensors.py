"""Tensors that an engine keeps on each GPU: weights and adapter slots, in the order of their making."""

from __future__ import annotations

from collections.abc import Iterator

from twin.architectures import ModelArchitecture

_EMBEDDINGS_ADAPTED = ("llama", "mistral", "mixtral", "phi3")
"""Model types whose embedding and output layer vLLM adapts too."""

_VOCABULARY_PADDING = 64
_LORA_VOCABULARY_PADDING = 256


def weight_bytes(
    model: ModelArchitecture, tensor_parallel_size: int, lora: bool, extra_vocabulary: int, max_loras: int
) -> Iterator[int]:
    """Bytes of each weight tensor on one GPU.

    Parameters
    ----------
    model
        The architecture.
    tensor_parallel_size
        GPUs that share the engine; layers are divided, normalisations are not.
    lora
        Whether the engine serves adapters.
    extra_vocabulary
        Rows that the engine adds to the embedding for each slot, and once to the output layer.
    max_loras
        Adapter slots.
    """
    tp, size, hidden = tensor_parallel_size, model.dtype_bytes, model.hidden_size
    extra = extra_vocabulary if lora and adapts_embeddings(model) else 0
    q, kv = -(-model.q_size // tp), _kv_size(model, tp)
    inter = -(-model.intermediate_size // tp)
    vocabulary = _padded(model.vocab_size, _VOCABULARY_PADDING) + extra * max_loras
    yield -(-vocabulary * hidden * size // tp)
    yield model.max_position_embeddings * model.head_dim * size  # table of the rotary embedding
    for _ in range(model.num_hidden_layers):
        yield (q + 2 * kv) * hidden * size
        if model.attention_bias:
            yield (q + 2 * kv) * size
        yield q * hidden * size
        experts = max(model.num_local_experts, 1)
        if model.num_local_experts:
            yield experts * hidden * size
        yield experts * 2 * inter * hidden * size
        yield experts * inter * hidden * size
        for norm in model.norm_sizes:
            yield norm * size
    yield hidden * size
    if not model.tie_word_embeddings:
        padding = _LORA_VOCABULARY_PADDING if lora else _VOCABULARY_PADDING
        yield -(-_padded(model.vocab_size + extra, padding) * hidden * size // tp)


def slot_bytes(
    model: ModelArchitecture,
    tensor_parallel_size: int,
    extra_vocabulary: int,
    max_loras: int,
    max_lora_rank: int,
) -> Iterator[int]:
    """Bytes of each tensor of the adapter slots on one GPU.

    Every adapted layer holds, for each slot, an input matrix of max_lora_rank × inputs and an output matrix
    of outputs × max_lora_rank, whatever the adapters' own ranks; layers that are split by columns keep whole
    inputs, layers that are split by rows keep whole outputs.
    """
    unit = max_loras * max_lora_rank * model.dtype_bytes
    embeddings = adapts_embeddings(model)
    if embeddings:
        yield unit * model.vocab_size
        yield unit * model.hidden_size
        if extra_vocabulary:
            yield max_loras * extra_vocabulary * model.hidden_size * model.dtype_bytes
    layer = [unit * width for widths in _adapted_layers(model, tensor_parallel_size) for width in widths]
    for _ in range(model.num_hidden_layers):
        yield from layer
    if embeddings:
        yield unit * model.hidden_size
        yield unit * _padded(model.vocab_size + extra_vocabulary, _LORA_VOCABULARY_PADDING)
        if extra_vocabulary:
            yield max_loras * extra_vocabulary * model.hidden_size * model.dtype_bytes


def adapts_embeddings(model: ModelArchitecture) -> bool:
    """Whether vLLM gives slots to the model's embedding and output layer."""
    return model.model_type in _EMBEDDINGS_ADAPTED


def kv_bytes_per_token(model: ModelArchitecture, tensor_parallel_size: int) -> int:
    """Bytes of keys and values of a token on one GPU."""
    return 2 * model.num_hidden_layers * _kv_size(model, tensor_parallel_size) * model.dtype_bytes


def _adapted_layers(model: ModelArchitecture, tp: int) -> list[list[int]]:
    """Per adapted projection of a layer the widths of its inputs, then of its outputs."""
    hidden, q, kv = model.hidden_size, -(-model.q_size // tp), _kv_size(model, tp)
    inter = -(-model.intermediate_size // tp)
    attention = [[hidden] * 3 + [q, kv, kv], [q, hidden]]
    if model.model_type == "phi3":  # its checkpoints hold q, k, v and gate, up in one matrix each
        return [[hidden, q + 2 * kv], [q, hidden], [hidden, 2 * inter], [inter, hidden]]
    if model.num_local_experts:  # experts are not adapted, their router is
        return [*attention, [hidden, model.num_local_experts]]
    return [*attention, [hidden] * 2 + [inter] * 2, [inter, hidden]]


def _kv_size(model: ModelArchitecture, tp: int) -> int:
    """Outputs of the key projection on one GPU; heads are copied where there are fewer than GPUs."""
    return max(1, model.num_key_value_heads // tp) * model.head_dim


def _padded(size: int, to: int) -> int:
    return -(-size // to) * to
