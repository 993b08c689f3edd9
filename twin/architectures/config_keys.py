"""Facts of a config.json under one name each, whatever its family calls them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twin.architectures.facts import ArchitectureError, ModelFacts, misfit
from twin.architectures.families import FAMILIES
from twin.architectures.family_keys import FAMILY_KEYS, Facts

_OTHER_NAMES: dict[str, tuple[str, ...]] = {
    "hidden_size": ("n_embd", "d_model"),
    "num_hidden_layers": ("n_layer", "num_layers"),
    "num_attention_heads": ("n_head",),
    "intermediate_size": ("n_inner", "ffn_dim", "ffn_hidden_size"),
    "max_position_embeddings": ("n_positions", "max_seq_len", "seq_length"),
    "head_dim": ("attention_head_dim",),
    "num_local_experts": ("num_experts", "n_routed_experts"),
    "num_experts_per_tok": ("top_k_experts", "num_experts_per_token"),
    "moe_intermediate_size": ("expert_intermediate_size",),
    "partial_rotary_factor": ("rotary_pct",),
    "torch_dtype": ("dtype",),
    "n_groups": ("mamba_n_groups",),
    "mamba_num_heads": ("mamba_n_heads",),
    "mamba_head_dim": ("mamba_d_head",),
    "ssm_state_size": ("mamba_d_state",),
    "conv_kernel": ("mamba_d_conv",),
    "use_bias": ("mamba_proj_bias",),
    "use_conv_bias": ("mamba_conv_bias",),
    "layer_types": ("layers_block_type",),
}

_FROM_FILE = frozenset(ModelFacts.model_fields) - {
    "name",
    "model_type",
    "source",
    "quantization",
    "checkpoint_bytes",
    "vision_parameters",
    "vision_copied",
    "mamba_wide_state",
    "layer_kv_heads",
    "layer_intermediate_sizes",
    "rope_type",
    "rope_factor",
}


def facts_of(model_type: str, config: Mapping[str, Any], text: Mapping[str, Any], where: str) -> Facts:
    """The facts of a model, by the names of `ModelFacts`.

    Parameters
    ----------
    model_type
        The family.
    config
        The whole config.json.
    text
        The part of it that describes the language model.
    where
        The file, for errors.

    Raises
    ------
    ArchitectureError
        If what a family needs is not of the kind that it needs.
    """
    facts: Facts = {"model_type": model_type}
    for key in _FROM_FILE:
        for name in (key, *_OTHER_NAMES.get(key, ())):
            if text.get(name) is not None:
                facts[key] = text[name]
                break
    # A wrapper says of the whole what its language model leaves unsaid.
    whole = {
        "torch_dtype": config.get("torch_dtype") or config.get("dtype"),
        "tie_word_embeddings": config.get("tie_word_embeddings"),
    }
    for key, value in whole.items():
        if value is not None:
            facts.setdefault(key, value)
    try:
        _fill(model_type, text, facts)
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ArchitectureError(
            f"{where}: is not understood as a {model_type} model ({misfit(error)}); fetch the file again"
        ) from error
    return facts


def _fill(model_type: str, text: Mapping[str, Any], facts: Facts) -> None:
    """What a family leaves unsaid, or says in another way."""
    facts.setdefault("tie_word_embeddings", FAMILIES[model_type].tied)
    dtype = facts.get("torch_dtype")
    if isinstance(dtype, str):
        facts["torch_dtype"] = dtype.removeprefix("torch.")
    heads, hidden = facts.get("num_attention_heads"), facts.get("hidden_size")
    facts.setdefault("num_key_value_heads", heads)
    if "head_dim" not in facts and isinstance(heads, int) and isinstance(hidden, int) and heads > 0:
        facts["head_dim"] = hidden // heads
    _rotation(text, facts)
    if text.get("use_sliding_window") is False:
        facts.pop("sliding_window", None)
    _experts(text, facts)
    if model_type in FAMILY_KEYS:
        FAMILY_KEYS[model_type](text, facts)


def _rotation(text: Mapping[str, Any], facts: Facts) -> None:
    """Scaling of the rotary embedding, as new files and as old ones state it."""
    rope = text.get("rope_parameters") or text.get("rope_scaling")
    if not isinstance(rope, Mapping):
        return
    # Models with windows state the scaling of each kind of layer.
    rope = rope["full_attention"] if isinstance(rope.get("full_attention"), Mapping) else rope
    kind = str(rope.get("rope_type") or rope.get("type") or "default")
    facts["rope_type"] = kind.removeprefix("deepseek_")
    if kind in ("linear", "dynamic") and rope.get("factor"):
        facts["rope_factor"] = rope["factor"]
    partial = rope.get("partial_rotary_factor")
    if partial is not None and kind != "proportional":  # whose table is as wide as a head
        facts.setdefault("partial_rotary_factor", partial)


def _experts(text: Mapping[str, Any], facts: Facts) -> None:
    """Sizes of experts, and which layers have some."""
    if "shared_expert_intermediate_size" not in facts:
        shared = text.get("n_shared_experts") or 0
        size = text.get("moe_shared_expert_intermediate_size") or facts.get("moe_intermediate_size") or 0
        if shared:
            facts["shared_expert_intermediate_size"] = int(shared) * int(str(size))
    frequency = text.get("moe_layer_freq")
    if isinstance(frequency, list):
        facts["mlp_layer_types"] = ["sparse" if one else "dense" for one in frequency]
    dense = text.get("mlp_only_layers") or ()
    if dense:
        layers = int(text["num_hidden_layers"])
        step = int(text.get("decoder_sparse_step") or 1)
        facts["mlp_layer_types"] = [
            "dense" if index in dense or (index + 1) % step else "sparse" for index in range(layers)
        ]
