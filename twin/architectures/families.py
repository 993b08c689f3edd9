"""Families of models: what each ``model_type`` makes of the facts of its config.json.

A family is a style of transformer, or a hybrid with a builder of its own. Shapes are those of vLLM's model
code (``model_executor/models``, 0.19 and 0.32). To add a family, add a row to `FAMILIES`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from twin.architectures import hybrids
from twin.architectures.facts import ModelFacts
from twin.architectures.layers import Layer
from twin.architectures.transformers import Style, transformer

Version = tuple[int, int, int]


class Family(NamedTuple):
    """What a ``model_type`` means.

    Parameters
    ----------
    layers
        Makes the layers of a model of the family.
    needs
        Facts beside those of every model without which its layers cannot be stated.
    embeddings_adapted
        First release of vLLM that gives slots to the embedding and the output layer (``embedding_modules`` of
        the model's class); None: none does.
    embeddings_until
        First release that does no longer.
    adapted_ends
        Which of the two have slots.
    output_is_embedding_until
        First release whose output layer, where it is tied, is a module of its own that shares the
        embedding's weight; before, it is the embedding itself (``self.lm_head = self.model.embed_tokens``).
    positions
        How positions are known: by a rotary embedding, by a learned table, or not at all.
    final_norms
        Vectors of the hidden size of the last normalisation.
    head_bias
        Whether the output layer has a bias.
    tied
        Whether the output layer is the embedding where config.json does not say.
    local_rotary
        Whether layers with a window have a rotary table of their own.
    shared_tables_since
        First release of vLLM whose layers share a rotary table; before, each has its own.
    """

    layers: Callable[[ModelFacts], tuple[Layer, ...]]
    needs: tuple[str, ...] = ()
    embeddings_adapted: Version | None = None
    embeddings_until: Version = (999, 0, 0)
    adapted_ends: tuple[str, ...] = ("embed_tokens", "lm_head")
    output_is_embedding_until: Version = (0, 0, 0)
    positions: str = "rotary"
    final_norms: int = 1
    head_bias: bool = False
    tied: bool = False
    local_rotary: bool = False
    shared_tables_since: Version = (0, 0, 0)


ALWAYS: Version = (0, 0, 0)
_QWEN3: Version = (0, 16, 0)
"""Release from which Qwen3 has ``embedding_modules``; 0.14 has not."""
_QWEN3_5: Version = (0, 29, 0)
"""The same of Qwen3.5; 0.28 has not."""
_OWN_HEAD: Version = (0, 28, 0)
"""Release from which Qwen3's output layer is a module of its own (``tie_weights``); 0.27 has not."""

_SHARED: Version = (0, 6, 2)
"""0.5.4 makes a rotary embedding for each layer of Gemma 2, 0.6.2 does not."""

_EXPERTS = ("num_local_experts", "moe_intermediate_size")
_MLA = ("kv_lora_rank", "qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")
_DELTA = (
    "linear_num_key_heads",
    "linear_num_value_heads",
    "linear_key_head_dim",
    "linear_value_head_dim",
    "linear_conv_kernel_dim",
    "layer_types",
)
_MAMBA2 = ("mamba_num_heads", "mamba_head_dim", "ssm_state_size", "conv_kernel", "n_groups")


def _styled(**style: object) -> Callable[[ModelFacts], tuple[Layer, ...]]:
    """Builder of a transformer of this style."""
    chosen = Style(**style)  # type: ignore[arg-type]
    return lambda model: transformer(model, chosen)


_LLAMA = _styled()
_OLD_NORMS = {"norms": 2, "norm_vectors": 2}
_QWEN3_DENSE = _styled(query_norm="head")
_QWEN3_EXPERTS = _styled(query_norm="head")
_DEEPSEEK = Family(_styled(correction=True), (*_MLA, *_EXPERTS))

FAMILIES: dict[str, Family] = {
    "llama": Family(_styled(out_bias=True), (), ALWAYS),
    # A class of its own without embedding_modules since 0.15.0 (models/mistral.py); before, Llama's.
    "mistral": Family(_LLAMA, (), ALWAYS, (0, 15, 0)),
    "ministral": Family(_LLAMA, (), ALWAYS),
    "ministral3": Family(_LLAMA, (), (0, 12, 0), (0, 15, 0)),
    "mixtral": Family(_styled(experts_at="block_sparse_moe"), (), ALWAYS),
    "qwen2": Family(_LLAMA),
    "qwen3": Family(_QWEN3_DENSE, (), _QWEN3, output_is_embedding_until=_OWN_HEAD),
    "gemma": Family(_LLAMA, tied=True),
    "gemma2": Family(_styled(norms=4, window_every=2), tied=True, shared_tables_since=_SHARED),
    "gemma3_text": Family(_styled(norms=4, window_every=6, query_norm="head"), tied=True, local_rotary=True),
    "gemma4_text": Family(hybrids.gemma4, ("layer_types",), tied=True, local_rotary=True),
    "phi3": Family(_styled(joined=True), (), ALWAYS),
    "phi": Family(
        _styled(
            bias=True,
            out_bias=True,
            gated=False,
            mlp_bias=True,
            norms=1,
            norm_vectors=2,
            output="dense",
            up="fc1",
            down="fc2",
        ),
        final_norms=2,
        head_bias=True,
    ),
    "granite": Family(_styled(out_bias=True), (), ALWAYS, tied=True),
    "olmo": Family(_styled(norms=0), final_norms=0),
    "olmo2": Family(_styled(query_norm="full")),
    "olmo3": Family(_styled(query_norm="full", window_every=4), ("sliding_window",)),
    "exaone4": Family(_styled(query_norm="head"), (), ALWAYS),
    "glm": Family(_styled(out_bias=True), (), ALWAYS),
    "glm4": Family(_styled(norms=4)),
    "cohere": Family(
        _styled(norms=1, optional_norm="full"), (), ALWAYS, adapted_ends=("embed_tokens",), tied=True
    ),
    "cohere2": Family(
        _styled(norms=1, window_every=4),
        ("sliding_window",),
        ALWAYS,
        adapted_ends=("embed_tokens",),
        tied=True,
    ),
    "nemotron": Family(_styled(gated=False, **_OLD_NORMS), (), ALWAYS, final_norms=2),
    "nemotron-nas": Family(hybrids.nemotron_nas, ("layer_kv_heads", "layer_intermediate_sizes"), ALWAYS),
    "starcoder2": Family(
        _styled(gated=False, out_bias=True, up="c_fc", down="c_proj", **_OLD_NORMS), final_norms=2, tied=True
    ),
    "stablelm": Family(_styled(**_OLD_NORMS), final_norms=2),
    "gpt_neox": Family(
        _styled(
            bias=True,
            out_bias=True,
            gated=False,
            mlp_bias=True,
            joined=True,
            at="attention",
            output="dense",
            up="dense_h_to_4h",
            down="dense_4h_to_h",
            **_OLD_NORMS,
        ),
        final_norms=2,
    ),
    "gpt2": Family(
        _styled(
            bias=True,
            out_bias=True,
            gated=False,
            mlp_bias=True,
            joined=True,
            at="attn",
            output="c_proj",
            up="c_fc",
            down="c_proj",
            **_OLD_NORMS,
        ),
        positions="learned",
        final_norms=2,
        tied=True,
    ),
    "seed_oss": Family(_LLAMA),
    "mimo": Family(_LLAMA),
    "arcee": Family(_styled(gated=False)),
    "apertus": Family(_styled(gated=False, query_norm="head"), (), ALWAYS),
    "qwen2_moe": Family(_styled(shared_at="shared_expert", shared_gated=True), _EXPERTS),
    "qwen3_moe": Family(_QWEN3_EXPERTS, _EXPERTS, _QWEN3),
    "qwen3_vl_text": Family(_QWEN3_DENSE, (), _QWEN3, output_is_embedding_until=_OWN_HEAD),
    "qwen3_vl_moe_text": Family(_styled(query_norm="head", stacked=True), _EXPERTS, _QWEN3),
    "qwen3_next": Family(hybrids.qwen3_next, _DELTA, tied=False),
    "qwen3_5_text": Family(hybrids.qwen3_5, _DELTA, _QWEN3_5),
    "qwen3_5_moe_text": Family(hybrids.qwen3_5, (*_DELTA, *_EXPERTS), _QWEN3_5),
    "deepseek_v2": Family(_styled(), (*_MLA, *_EXPERTS)),
    "deepseek_v3": _DEEPSEEK,
    "deepseek_v32": _DEEPSEEK._replace(needs=(*_MLA, *_EXPERTS, "index_n_heads", "index_head_dim")),
    "glm_moe_dsa": _DEEPSEEK._replace(needs=(*_MLA, *_EXPERTS, "index_n_heads", "index_head_dim")),
    "glm4_moe_lite": _DEEPSEEK,
    "kimi_k2": _DEEPSEEK,
    "glm4_moe": Family(_styled(correction=True), _EXPERTS),
    "minimax_m2": Family(
        _styled(query_norm="full", correction=True, experts_at="block_sparse_moe"), ("num_local_experts",)
    ),
    "mimo_v2_flash": Family(hybrids.mimo_v2, (*_EXPERTS, "layer_types"), local_rotary=True),
    "gpt_oss": Family(
        _styled(
            bias=True,
            out_bias=True,
            sinks=True,
            window_every=2,
            expert_bias=True,
            router_bias=True,
            router_name="router",
            stacked=True,
        ),
        ("num_local_experts", "sliding_window"),
    ),
    "olmoe": Family(_styled(query_norm="full"), ("num_local_experts",)),
    "granitemoe": Family(_styled(experts_at="block_sparse_moe"), ("num_local_experts",), ALWAYS, tied=True),
    "llama4_text": Family(hybrids.llama4, ("num_local_experts", "dense_intermediate_size")),
    "nemotron_h": Family(hybrids.nemotron_h, ("hybrid_override_pattern", *_MAMBA2), ALWAYS, positions="none"),
    "bamba": Family(hybrids.mamba_hybrid, ("layer_types", *_MAMBA2), ALWAYS, tied=False),
    "granitemoehybrid": Family(
        hybrids.mamba_hybrid, ("layer_types", *_MAMBA2), ALWAYS, positions="none", tied=True
    ),
    "falcon_h1": Family(hybrids.falcon_h1, _MAMBA2, ALWAYS),
    "jamba": Family(
        hybrids.jamba,
        ("layer_types", "ssm_state_size", "conv_kernel", "mamba_dt_rank", "mamba_expand"),
        ALWAYS,
        positions="none",
    ),
}
"""Every ``model_type`` whose layers are known; a multimodal model is of its ``text_config``'s."""

REFUSED: dict[str, str] = {
    "deepseek_v4": "the layout of its compressed KV cache",
    "deepseek_v4_mtp": "the layout of its compressed KV cache",
    "deepseek_ref": "the layout of its compressed KV cache",
    "kimi_linear": "the states of its delta attention",
    "minimax_m3": "the cache of its sparse attention's index",
    "minimax_m3_vl": "the cache of its sparse attention's index, and its vision tower",
    "step3p7": "the heads of its sliding layers, which config.json does not state",
    "gemma3n_text": "its layers' own embeddings and shared KV cache",
    "smollm3": "which of its embeddings the engine adapts, as it has no model code of its own",
    "falcon": "which of its three kinds of layers it has",
    "mamba": "an engine without keys and values",
    "mamba2": "an engine without keys and values",
    "t5": "encoders, whose cache is not that of a decoder",
    "whisper": "encoders, whose cache is not that of a decoder",
    "bert": "a decoder",
}
"""Model types that are known and not read, with what is missing."""
