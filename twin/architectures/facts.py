"""The facts of a model's Hugging Face config.json from which memory is computed."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from scenarios import FrozenModel, LorapackError
from scenarios.text.formatting import shortened
from twin.architectures.quantization import Quantization

Size = Annotated[int, Field(ge=0, le=100_000_000)]
"""A size that is 0 where the model has no such thing."""

Torch = Literal["bfloat16", "float16", "float32"]
"""Types of weights in 16 and 32 bits."""


class ArchitectureError(LorapackError, ValueError):
    """A model's files cannot be read, or no shipped architecture has the name."""


class UnlikeError(ValueError):
    """A config.json says what its family, or its quantisation, is not known to have."""


def misfit(error: Exception) -> str:
    """Why values of a config.json are not those of a family, in our words, whatever stumbled over them."""
    if isinstance(error, UnlikeError):
        return str(error)
    if isinstance(error, KeyError) and error.args:
        return f"{shortened(str(error.args[0]))} is missing or not known"
    return "a value is of another kind, or a list of another length, than it has there"


class ModelFacts(FrozenModel):
    """Facts of a decoder-only model, named as in its ``config.json``.

    A key that config.json has under another name in another family has one name here; what a family's code
    says and its config.json does not is not here.
    """

    name: str = Field(min_length=1, max_length=1000, description="Name of the model.")
    model_type: str = Field(max_length=100, description="Family, as config.json or its text_config says.")
    hidden_size: int = Field(ge=1, le=1_000_000)
    num_hidden_layers: int = Field(ge=1, le=10_000)
    num_attention_heads: int = Field(ge=1, le=100_000)
    num_key_value_heads: int = Field(ge=1, le=100_000)
    head_dim: int = Field(ge=1, le=100_000)
    intermediate_size: int = Field(ge=1, le=10_000_000)
    vocab_size: int = Field(ge=1, le=100_000_000)
    max_position_embeddings: int = Field(ge=1, le=1_000_000_000)
    tie_word_embeddings: bool = False
    attention_bias: bool = Field(default=False, description="Whether q, k and v have a bias.")
    num_local_experts: int = Field(default=0, ge=0, le=100_000, description="Experts; 0 where dense.")
    torch_dtype: Torch = "bfloat16"
    source: str = Field(default="", description="Where the facts are from.")

    mlp_bias: bool = False
    partial_rotary_factor: float = Field(default=1.0, ge=0, le=1)
    rope_type: str = Field(default="default", max_length=100, description="Scaling of the rotary embedding.")
    rope_factor: float = Field(
        default=1.0, ge=0, le=100_000, description="Of linear and dynamic scaling, which lengthen its table."
    )
    layer_types: tuple[str, ...] = Field(default=(), description="Kind of each layer's mixer.")
    mlp_layer_types: tuple[Literal["dense", "sparse", "none"], ...] = ()
    sliding_window: Size = Field(default=0, description="Window in tokens; 0: none.")
    attention_chunk_size: Size = 0
    global_head_dim: Size = 0
    num_global_key_value_heads: Size = 0
    attention_k_eq_v: bool = False
    v_head_dim: Size = 0
    swa_num_key_value_heads: Size = 0
    swa_head_dim: Size = 0
    attn_output_gate: bool = False
    use_qk_norm: bool = False

    num_experts_per_tok: Size = 0
    moe_intermediate_size: Size = 0
    shared_expert_intermediate_size: Size = Field(default=0, description="Of all shared experts together.")
    dense_intermediate_size: Size = Field(default=0, description="Of the dense layers of a mixture.")
    first_k_dense_replace: Size = 0
    decoder_sparse_step: Size = Field(default=1, description="Every so manieth layer has experts.")
    moe_latent_size: Size = 0

    q_lora_rank: Size = 0
    kv_lora_rank: Size = 0
    qk_nope_head_dim: Size = 0
    qk_rope_head_dim: Size = 0
    index_n_heads: Size = 0
    index_head_dim: Size = 0
    indexer_types: tuple[str, ...] = ()

    linear_num_key_heads: Size = 0
    linear_num_value_heads: Size = 0
    linear_key_head_dim: Size = 0
    linear_value_head_dim: Size = 0
    linear_conv_kernel_dim: Size = 0

    hybrid_override_pattern: str = Field(default="", max_length=10_000, description="Of Nemotron-H.")
    mamba_num_heads: Size = 0
    mamba_head_dim: Size = 0
    n_groups: Size = 0
    ssm_state_size: Size = 0
    conv_kernel: Size = 0
    mamba_dt_rank: Size = 0
    mamba_expand: Size = Field(default=0, description="Inner size as a multiple, in Mamba 1.")
    use_bias: bool = False
    use_conv_bias: bool = True
    mamba_rms_norm: bool = True
    mamba_wide_state: bool = Field(default=False, description="Whether states are kept in 32 bits.")

    layer_kv_heads: tuple[Size, ...] = Field(default=(), description="Where layers differ; 0: no attention.")
    layer_intermediate_sizes: tuple[Size, ...] = Field(default=(), description="Likewise; 0: no network.")

    vision_parameters: int = Field(default=0, ge=0, le=10**12, description="Weights of a vision tower.")
    vision_copied: int = Field(
        default=0, ge=0, le=10**12, description="Those of them that every GPU holds whole."
    )
    quantization: Quantization | None = Field(default=None, description="How weights are quantised.")
    checkpoint_bytes: int = Field(
        default=0, ge=0, le=10**15, description="Bytes of all tensors of its files; 0: not known."
    )
