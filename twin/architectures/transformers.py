"""Layers of a transformer of the usual kind: attention, then one network or several experts."""

from __future__ import annotations

from typing import Literal, NamedTuple

from twin.architectures.facts import ModelFacts
from twin.architectures.feed_forward import Dense, Experts, FeedForward
from twin.architectures.layers import Layer
from twin.architectures.mixers import Attention, LatentAttention, Mixer


class Style(NamedTuple):
    """What a family's code says of its layers.

    Parameters
    ----------
    norms, norm_vectors
        Normalisations of a layer, and vectors of the hidden size of each (2 with a bias).
    query_norm, optional_norm
        As `Attention.query_norm`: always, and where ``use_qk_norm`` says so.
    bias
        Whether query, key and value have biases; None: as ``attention_bias`` says.
    out_bias
        Whether the projection back has one where they do.
    joined
        Whether checkpoints hold query, key and value as one matrix, and gate and upward projection.
    gated, mlp_bias
        As those of `Dense`; mlp_bias: True: always, else as config.json says.
    window_every
        Every so manieth layer sees all tokens; with 2 the first has a window (Gemma 2). 0: a window holds in
        every layer.
    sinks
        Whether heads have sinks.
    shared_gated, expert_bias, stacked, router_bias, correction, experts_at, router_name, shared_at
        As those of `Experts`.
    at, output, up, down
        Names of modules.
    """

    norms: int = 2
    norm_vectors: int = 1
    query_norm: Literal["none", "head", "full"] = "none"
    optional_norm: Literal["head", "full"] = "head"
    bias: bool | None = None
    out_bias: bool = False
    joined: bool = False
    gated: bool = True
    mlp_bias: bool = False
    window_every: int = 0
    sinks: bool = False
    shared_gated: bool = False
    expert_bias: bool = False
    stacked: bool = False
    router_bias: bool = False
    correction: bool = False
    experts_at: str = "mlp"
    router_name: str = "gate"
    shared_at: str = "shared_experts"
    at: str = "self_attn"
    output: str = "o_proj"
    up: str = "up_proj"
    down: str = "down_proj"


def transformer(model: ModelFacts, style: Style) -> tuple[Layer, ...]:
    """Layers of a transformer of this style."""
    only(model, "full_attention", "sliding_attention")
    norms = (model.hidden_size * style.norm_vectors,) * style.norms
    return tuple(
        Layer((_mixer(model, style, index),), feed_forward(model, style, index), norms)
        for index in range(model.num_hidden_layers)
    )


def only(model: ModelFacts, *kinds: str) -> None:
    """Refuse layers of other kinds than these.

    Raises
    ------
    ValueError
        If ``layer_types`` names another.
    """
    other = sorted(set(model.layer_types) - set(kinds))
    if other:
        raise ValueError(f"layer_types names {other[0]}, which is no layer of a {model.model_type} model")


def attention(model: ModelFacts, style: Style, index: int) -> Attention:
    """Attention of a layer."""
    bias = model.attention_bias if style.bias is None else style.bias
    optional = model.use_qk_norm and style.query_norm == "none"
    return Attention(
        model.num_attention_heads,
        model.num_key_value_heads,
        model.head_dim,
        window=window(model, style.window_every, index),
        bias=bias,
        out_bias=bias and style.out_bias,
        joined=style.joined,
        query_norm=style.optional_norm if optional else style.query_norm,
        sinks=style.sinks,
        at=style.at,
        output=style.output,
    )


def window(model: ModelFacts, every: int, index: int) -> int:
    """Tokens of a layer's window; 0 if it sees all."""
    if model.layer_types:
        return model.sliding_window if model.layer_types[index] == "sliding_attention" else 0
    return model.sliding_window if not every or (index + 1) % every else 0


def feed_forward(model: ModelFacts, style: Style, index: int) -> FeedForward:
    """What a token passes through in a layer."""
    if not sparse(model, index):
        size = model.dense_intermediate_size or model.intermediate_size
        bias = style.mlp_bias or model.mlp_bias
        return Dense(size, style.gated, bias, style.joined and style.gated, up=style.up, down=style.down)
    return Experts(
        model.num_local_experts,
        model.moe_intermediate_size or model.intermediate_size,
        max(1, model.num_experts_per_tok),
        model.shared_expert_intermediate_size,
        style.shared_gated and bool(model.shared_expert_intermediate_size),
        bias=style.expert_bias,
        stacked=style.stacked,
        router_bias=style.router_bias,
        correction=style.correction,
        at=style.experts_at,
        router_name=style.router_name,
        shared_at=style.shared_at,
    )


def sparse(model: ModelFacts, index: int) -> bool:
    """Whether a layer has experts."""
    if not model.num_local_experts:
        return False
    if model.mlp_layer_types:
        return model.mlp_layer_types[index] == "sparse"
    step = max(1, model.decoder_sparse_step)
    return index >= model.first_k_dense_replace and (index + 1) % step == 0


def _mixer(model: ModelFacts, style: Style, index: int) -> Mixer:
    if not model.kv_lora_rank:
        return attention(model, style, index)
    # A layer that takes the choice of an earlier one has no indexer of its own.
    indexed = not model.indexer_types or model.indexer_types[index] != "shared"
    return LatentAttention(
        model.num_attention_heads,
        model.q_lora_rank,
        model.kv_lora_rank,
        model.qk_nope_head_dim,
        model.qk_rope_head_dim,
        model.v_head_dim,
        model.index_n_heads if indexed else 0,
        model.index_head_dim if indexed else 0,
    )
