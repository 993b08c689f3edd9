"""What single families leave unsaid in their config.json, or say in a way of their own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from twin.architectures.facts import UnlikeError

Facts = dict[str, object]
"""Facts by the names of `ModelFacts`, before they are checked."""


def _latent(text: Mapping[str, Any], facts: Facts) -> None:
    """A head of MLA is the sum of its two parts, whatever head_dim says."""
    facts["head_dim"] = int(text["qk_nope_head_dim"]) + int(text["qk_rope_head_dim"])
    facts["num_key_value_heads"] = facts["num_attention_heads"]
    facts.pop("layer_types", None)  # every layer is of one kind, whatever its name
    if facts.get("q_lora_rank") is None:
        facts["q_lora_rank"] = 0
    every, offset = text.get("index_topk_freq"), text.get("index_skip_topk_offset", 2)
    if "indexer_types" not in facts and every and every > 1:
        facts["indexer_types"] = [
            "shared" if max(index - offset + 1, 0) % every else "full"
            for index in range(int(text["num_hidden_layers"]))
        ]


def _qwen2(_text: Mapping[str, Any], facts: Facts) -> None:
    facts["attention_bias"] = True


def _qwen2_moe(text: Mapping[str, Any], facts: Facts) -> None:
    facts["attention_bias"] = bool(text.get("qkv_bias", True))
    facts["dense_intermediate_size"] = facts.get("intermediate_size", 0)


def _mixture(_text: Mapping[str, Any], facts: Facts) -> None:
    facts.setdefault("intermediate_size", facts.get("moe_intermediate_size"))


def _gemma2(_text: Mapping[str, Any], facts: Facts) -> None:
    facts.setdefault("sliding_window", 4096)


def _gemma3(text: Mapping[str, Any], facts: Facts) -> None:
    # Defaults of transformers' Gemma3TextConfig, which multimodal files leave out.
    facts.setdefault("sliding_window", 4096)
    facts.setdefault("vocab_size", 262_208)
    facts.setdefault("max_position_embeddings", 131_072)
    for key, value in (("num_attention_heads", 8), ("num_key_value_heads", 4)):
        if text.get(key) is None:
            facts[key] = value
    if text.get("head_dim") is None:
        facts["head_dim"] = 256


def _gemma4(text: Mapping[str, Any], facts: Facts) -> None:
    for key in ("hidden_size_per_layer_input", "num_kv_shared_layers"):
        if text.get(key):
            raise UnlikeError(f"{key} is set, and its weights and cache are not computed")
    if not text.get("enable_moe_block"):
        facts["num_local_experts"] = 0


def _biased(text: Mapping[str, Any], facts: Facts) -> None:
    facts["attention_bias"] = facts["mlp_bias"] = bool(text.get("use_bias", True))
    facts.pop("use_bias", None)


def _stablelm(text: Mapping[str, Any], facts: Facts) -> None:
    facts["attention_bias"] = bool(text.get("use_qkv_bias"))


def _gpt2(_text: Mapping[str, Any], facts: Facts) -> None:
    facts.setdefault("intermediate_size", 4 * int(str(facts["hidden_size"])))


def _llama4(text: Mapping[str, Any], facts: Facts) -> None:
    # Of both sizes the first is an expert's, of which one is shared.
    facts["moe_intermediate_size"] = facts["shared_expert_intermediate_size"] = text["intermediate_size"]
    facts["dense_intermediate_size"] = text["intermediate_size_mlp"]
    facts.pop("layer_types", None)  # which layers attend in chunks is known
    facts["decoder_sparse_step"] = text.get("interleave_moe_layer_step") or 1


def _minimax_m2(text: Mapping[str, Any], facts: Facts) -> None:
    facts.pop("shared_expert_intermediate_size", None)
    rotated, size = text.get("rotary_dim"), text.get("head_dim")
    if rotated and size:
        facts["partial_rotary_factor"] = rotated / size


def _mimo_v2(text: Mapping[str, Any], facts: Facts) -> None:
    pattern = text["hybrid_layer_pattern"]
    facts["layer_types"] = ["sliding_attention" if one else "full_attention" for one in pattern]


def _delta(text: Mapping[str, Any], facts: Facts) -> None:
    facts["mamba_wide_state"] = text.get("mamba_ssm_dtype") == "float32"
    facts.setdefault("attn_output_gate", True)
    facts.setdefault("intermediate_size", facts.get("moe_intermediate_size"))
    every = text.get("full_attention_interval") or 4
    if "layer_types" not in facts:
        facts["layer_types"] = [
            "linear_attention" if (index + 1) % every else "full_attention"
            for index in range(int(text["num_hidden_layers"]))
        ]


def _nemotron_h(text: Mapping[str, Any], facts: Facts) -> None:
    facts["mamba_wide_state"] = text.get("mamba_ssm_cache_dtype") == "float32"
    facts.pop("layer_types", None)
    facts["use_bias"] = bool(text.get("mamba_proj_bias") or text.get("use_bias"))
    if "hybrid_override_pattern" not in facts and text.get("layers_block_type"):
        letters = {"mamba": "M", "attention": "*", "mlp": "-", "moe": "E"}
        facts["hybrid_override_pattern"] = "".join(letters[kind] for kind in text["layers_block_type"])
    pattern = facts.get("hybrid_override_pattern")
    if isinstance(pattern, str):
        facts.setdefault("num_hidden_layers", len(pattern))
    facts.setdefault("intermediate_size", facts.get("moe_intermediate_size"))
    if "num_local_experts" in facts:
        facts["shared_expert_intermediate_size"] = (text.get("n_shared_experts") or 0) * (
            text.get("moe_shared_expert_intermediate_size") or 0
        )


def _mamba_hybrid(text: Mapping[str, Any], facts: Facts) -> None:
    if text.get("shared_intermediate_size") and not facts.get("num_local_experts"):
        facts["intermediate_size"] = text["shared_intermediate_size"]
    elif text.get("shared_intermediate_size"):
        facts["shared_expert_intermediate_size"] = text["shared_intermediate_size"]
    if "layer_types" not in facts and text.get("attn_layer_indices") is not None:
        attending = set(text["attn_layer_indices"])
        facts["layer_types"] = [
            "attention" if index in attending else "mamba" for index in range(int(text["num_hidden_layers"]))
        ]


def _falcon_h1(text: Mapping[str, Any], facts: Facts) -> None:
    facts["mamba_rms_norm"] = bool(text.get("mamba_rms_norm", False))
    facts.pop("layer_types", None)


def _jamba(text: Mapping[str, Any], facts: Facts) -> None:
    layers, period = int(text["num_hidden_layers"]), int(text["attn_layer_period"])
    facts["layer_types"] = [
        "attention" if index % period == text["attn_layer_offset"] else "mamba" for index in range(layers)
    ]
    every, offset = int(text["expert_layer_period"]), int(text["expert_layer_offset"])
    facts["mlp_layer_types"] = ["sparse" if index % every == offset else "dense" for index in range(layers)]
    facts["mamba_expand"] = text.get("mamba_expand") or 2
    rank = text.get("mamba_dt_rank")
    facts["mamba_dt_rank"] = rank if isinstance(rank, int) else -(-int(str(facts["hidden_size"])) // 16)


def _nemotron_nas(text: Mapping[str, Any], facts: Facts) -> None:
    blocks, heads = text["block_configs"], int(text["num_attention_heads"])
    for block in blocks:
        if block["attention"].get("replace_with_linear") or block["ffn"].get("replace_with_linear"):
            raise UnlikeError("a layer is replaced by a matrix")
    attending = [block["attention"].get("n_heads_in_group") for block in blocks]
    facts["layer_kv_heads"] = [heads // group if group else 0 for group in attending]
    hidden = int(text["hidden_size"])
    # The rounding of vLLM's nemotron_nas.py.
    sizes = [
        -(-int(2 * block["ffn"]["ffn_mult"] * hidden / 3) // 256) * 256 if block["ffn"].get("ffn_mult") else 0
        for block in blocks
    ]
    facts["layer_intermediate_sizes"] = sizes
    facts["intermediate_size"] = max(sizes)
    facts["num_key_value_heads"] = max(heads // group for group in attending if group)


FAMILY_KEYS: dict[str, Callable[[Mapping[str, Any], Facts], None]] = {
    **dict.fromkeys(
        ("deepseek_v2", "deepseek_v3", "deepseek_v32", "glm_moe_dsa", "glm4_moe_lite", "kimi_k2"), _latent
    ),
    "qwen2": _qwen2,
    "qwen2_moe": _qwen2_moe,
    "qwen3_moe": _mixture,
    "qwen3_vl_moe_text": _mixture,
    "gemma2": _gemma2,
    "gemma3_text": _gemma3,
    "gemma4_text": _gemma4,
    "starcoder2": _biased,
    "stablelm": _stablelm,
    "gpt2": _gpt2,
    "llama4_text": _llama4,
    "minimax_m2": _minimax_m2,
    "mimo_v2_flash": _mimo_v2,
    "qwen3_next": _delta,
    "qwen3_5_text": _delta,
    "qwen3_5_moe_text": _delta,
    "nemotron_h": _nemotron_h,
    "bamba": _mamba_hybrid,
    "granitemoehybrid": _mamba_hybrid,
    "falcon_h1": _falcon_h1,
    "jamba": _jamba,
    "nemotron-nas": _nemotron_nas,
}
"""What fills in the facts of a family, from its config.json."""
