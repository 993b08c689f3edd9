"""Layers of models that mix layers of several kinds: states, windows, experts here and there."""

from __future__ import annotations

from twin.architectures.facts import ModelFacts
from twin.architectures.feed_forward import Dense, Experts
from twin.architectures.layers import Layer
from twin.architectures.mixers import Attention, DeltaNet, Mamba, Mixer
from twin.architectures.transformers import Style, attention, feed_forward, only, window


def gemma4(model: ModelFacts) -> tuple[Layer, ...]:
    """Gemma 4: full layers have larger heads, and a dense network stands beside experts (gemma4.py)."""
    only(model, "full_attention", "sliding_attention")
    return tuple(_gemma4_layer(model, index) for index in range(model.num_hidden_layers))


def _gemma4_layer(model: ModelFacts, index: int) -> Layer:
    reach = window(model, 0, index)
    whole = not reach
    mixer = Attention(
        model.num_attention_heads,
        (model.num_global_key_value_heads if whole else 0) or model.num_key_value_heads,
        (model.global_head_dim if whole else 0) or model.head_dim,
        window=reach,
        query_norm="head",
        keys_are_values=whole and model.attention_k_eq_v,
    )
    hidden, dense = model.hidden_size, Dense(model.intermediate_size)
    if not model.num_local_experts:
        return Layer((mixer,), dense, (hidden,) * 4 + (1,))
    experts = Experts(
        model.num_local_experts,
        model.moe_intermediate_size,
        max(1, model.num_experts_per_tok),
        at="moe",
        router_name="router",
        beside=dense,
    )
    # Seven normalisations, the router's scale, a scale of each expert and one of the layer.
    return Layer((mixer,), experts, (hidden,) * 8 + (model.num_local_experts, 1))


def llama4(model: ModelFacts) -> tuple[Layer, ...]:
    """Llama 4: three layers of four attend inside chunks, experts in every so manieth (llama4.py)."""
    style = Style(out_bias=True, shared_at="shared_expert", router_name="router", experts_at="feed_forward")
    layers = []
    for index in range(model.num_hidden_layers):
        rotated = (index + 1) % 4 != 0
        chunk = model.attention_chunk_size if rotated else 0
        # Its queries and keys are normalised without weights.
        mixer = attention(model, style, index)._replace(chunk=chunk, query_norm="none")
        layers.append(Layer((mixer,), feed_forward(model, style, index), (model.hidden_size,) * 2))
    return tuple(layers)


def mimo_v2(model: ModelFacts) -> tuple[Layer, ...]:
    """MiMo-V2: layers with a window have more key-value heads, and sinks (mimo_v2.py)."""
    style = Style(correction=True)
    layers = []
    for index in range(model.num_hidden_layers):
        reach = window(model, 0, index)
        mixer = attention(model, style, index)._replace(
            kv_heads=(model.swa_num_key_value_heads if reach else 0) or model.num_key_value_heads,
            head_dim=(model.swa_head_dim if reach else 0) or model.head_dim,
            value_dim=model.v_head_dim,
            sinks=reach > 0,
        )
        layers.append(Layer((mixer,), feed_forward(model, style, index), (model.hidden_size,) * 2))
    return tuple(layers)


def nemotron_nas(model: ModelFacts) -> tuple[Layer, ...]:
    """Llama-Nemotron: attention and network of each layer are of its own size, or absent."""
    style = Style(out_bias=True)
    layers = []
    for index, (heads, size) in enumerate(
        zip(model.layer_kv_heads, model.layer_intermediate_sizes, strict=True)
    ):
        mixers = (attention(model, style, index)._replace(kv_heads=heads),) if heads else ()
        network = Dense(size, bias=model.mlp_bias) if size else None
        layers.append(Layer(mixers, network, (model.hidden_size,) * (len(mixers) + bool(size))))
    return tuple(layers)


def qwen3_next(model: ModelFacts) -> tuple[Layer, ...]:
    """Qwen3-Next: three delta nets, then a gated attention."""
    return _qwen_hybrid(model, joined=True)


def qwen3_5(model: ModelFacts) -> tuple[Layer, ...]:
    """Qwen3.5: as Qwen3-Next, with other names of the delta net's matrices and stacked experts."""
    return _qwen_hybrid(model, joined=False)


def _qwen_hybrid(model: ModelFacts, *, joined: bool) -> tuple[Layer, ...]:
    only(model, "full_attention", "linear_attention")
    style = Style(query_norm="head", shared_at="shared_expert", shared_gated=True, stacked=not joined)
    delta = DeltaNet(
        model.linear_num_key_heads,
        model.linear_num_value_heads,
        model.linear_key_head_dim,
        model.linear_value_head_dim,
        model.linear_conv_kernel_dim,
        joined=joined,
        wide_state=model.mamba_wide_state,
    )
    layers = []
    for index, kind in enumerate(model.layer_types):
        gated = attention(model, style, index)._replace(gated=model.attn_output_gate)
        mixer: Mixer = delta if kind == "linear_attention" else gated
        layers.append(Layer((mixer,), feed_forward(model, style, index), (model.hidden_size,) * 2))
    return tuple(layers)


def nemotron_h(model: ModelFacts) -> tuple[Layer, ...]:
    """Nemotron-H: a letter for each layer, M: Mamba 2, *: attention, -: a network, E: experts."""
    at, dense = "mixer", Dense(model.intermediate_size, gated=False, bias=model.mlp_bias, at="mixer")
    experts = Experts(
        model.num_local_experts,
        model.moe_intermediate_size,
        max(1, model.num_experts_per_tok),
        model.shared_expert_intermediate_size,
        gated=False,
        correction=True,
        latent=model.moe_latent_size,
        at=at,
    )
    kinds: dict[str, tuple[tuple[Mixer, ...], Dense | Experts | None]] = {
        "M": ((_mamba2(model)._replace(at=at),), None),
        "*": ((attention(model, Style(at=at), 0)._replace(window=0, out_bias=False),), None),
        "-": ((), dense),
        "E": ((), experts),
    }
    norm = (model.hidden_size,)
    return tuple(Layer(*kinds[letter], norm) for letter in model.hybrid_override_pattern if letter in kinds)


def mamba_hybrid(model: ModelFacts) -> tuple[Layer, ...]:
    """Bamba and Granite 4: Mamba 2 in most layers, attention in some, a network in all."""
    only(model, "attention", "mamba")
    style = Style(experts_at="block_sparse_moe")
    mamba, norms = _mamba2(model), (model.hidden_size,) * 2
    layers = []
    for index, kind in enumerate(model.layer_types):
        mixer: Mixer = mamba if kind == "mamba" else attention(model, style, index)._replace(window=0)
        layers.append(Layer((mixer,), feed_forward(model, style, index), norms))
    return tuple(layers)


def falcon_h1(model: ModelFacts) -> tuple[Layer, ...]:
    """Falcon-H1: attention and Mamba 2 side by side in every layer."""
    style, mamba = Style(), _mamba2(model)._replace(normed=model.mamba_rms_norm)
    return tuple(
        Layer(
            (attention(model, style, index), mamba),
            feed_forward(model, style, index),
            (model.hidden_size,) * 2,
        )
        for index in range(model.num_hidden_layers)
    )


def jamba(model: ModelFacts) -> tuple[Layer, ...]:
    """Jamba: Mamba 1 in most layers, attention in some, experts in every second."""
    style = Style(experts_at="feed_forward", router_name="router")
    mamba = Mamba(
        model.mamba_expand * model.hidden_size,
        model.ssm_state_size,
        model.conv_kernel,
        step_rank=model.mamba_dt_rank,
        bias=model.use_bias,
        conv_bias=model.use_conv_bias,
    )
    layers = []
    for index, kind in enumerate(model.layer_types):
        mixer: Mixer = mamba if kind == "mamba" else attention(model, style, index)._replace(window=0)
        layers.append(Layer((mixer,), feed_forward(model, style, index), (model.hidden_size,) * 2))
    return tuple(layers)


def _mamba2(model: ModelFacts) -> Mamba:
    return Mamba(
        model.mamba_num_heads * model.mamba_head_dim,
        model.ssm_state_size,
        model.conv_kernel,
        model.mamba_num_heads,
        max(1, model.n_groups),
        bias=model.use_bias,
        conv_bias=model.use_conv_bias,
        wide_state=model.mamba_wide_state,
    )
