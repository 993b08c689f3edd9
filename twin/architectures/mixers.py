"""How a layer mixes tokens: attention of several kinds, and states of fixed size; and the modules of each."""

from __future__ import annotations

from typing import Literal, NamedTuple

from twin.architectures.modules import Linear, Module, Part, Weight, columns, copied, router, rows


class Attention(NamedTuple):
    """Keys and values of every earlier token, or of those in a window.

    Parameters
    ----------
    heads, kv_heads, head_dim
        Query heads, key-value heads and the size of each.
    value_dim
        Size of a value head; 0: as that of a key.
    window
        Earlier tokens that a token sees; 0: all.
    chunk
        Tokens of the chunks inside which a token sees others (Llama 4); 0: no chunks.
    bias, out_bias
        Whether query, key and value have biases, and the projection back.
    joined
        Whether checkpoints hold query, key and value as one matrix.
    query_norm
        What query and key are normalised by: nothing, one weight a place of a head, or one a place of all.
    gated
        Whether a gate of the size of the query is computed beside it.
    sinks
        Whether each head has a learned sink.
    keys_are_values
        Whether checkpoints hold the keys' matrix alone, which the engine loads a second time for the values.
    at, output
        Place in the layer, and name of the projection back.
    """

    heads: int
    kv_heads: int
    head_dim: int
    value_dim: int = 0
    window: int = 0
    chunk: int = 0
    bias: bool = False
    out_bias: bool = False
    joined: bool = False
    query_norm: Literal["none", "head", "full"] = "none"
    gated: bool = False
    sinks: bool = False
    keys_are_values: bool = False
    at: str = "self_attn"
    output: str = "o_proj"

    @property
    def values(self) -> int:
        """Size of a value head."""
        return self.value_dim or self.head_dim

    @property
    def rotary(self) -> int:
        """Size of a head that is rotated, at the most."""
        return self.head_dim

    def kv_heads_on(self, gpus: int) -> int:
        """Key-value heads on one of so many GPUs; heads are copied where there are fewer than GPUs."""
        return max(1, self.kv_heads // gpus)

    def modules(self, hidden: int) -> tuple[Module, ...]:
        """Modules in the order of their making, for vectors of this size."""
        queries, keys = self.heads * self.head_dim, self.kv_heads * self.head_dim
        parts = (
            Part("q_proj", queries * (2 if self.gated else 1)),
            Part("k_proj", keys, self.head_dim),
            Part("v_proj", self.kv_heads * self.values, self.values, loaded=not self.keys_are_values),
        )
        name = f"{self.at}.qkv_proj"
        made: list[Module] = [Linear(name, parts, hidden, "columns", self.bias, self.joined)]
        made.append(rows(f"{self.at}.{self.output}", self.heads * self.values, hidden, bias=self.out_bias))
        sizes = {"none": (), "head": (self.head_dim,) * 2, "full": (queries, keys)}[self.query_norm]
        made += [Weight(size) for size in sizes]
        if self.sinks:
            made.append(Weight(self.heads, split=True))
        return tuple(made)


class LatentAttention(NamedTuple):
    """One compressed vector a token in place of keys and values (MLA of DeepSeek and Kimi).

    Parameters
    ----------
    heads
        Query heads.
    query_rank
        Size of the compressed query; 0: it is not compressed.
    kv_rank
        Size of the compressed keys and values.
    nope_dim, rope_dim, value_dim
        Sizes of a head: without and with rotation, and of its value.
    index_heads, index_dim
        Heads and their size of the indexer that chooses tokens (DeepSeek V3.2); 0: none.
    """

    heads: int
    query_rank: int
    kv_rank: int
    nope_dim: int
    rope_dim: int
    value_dim: int
    index_heads: int = 0
    index_dim: int = 0
    at: str = "self_attn"

    @property
    def rotary(self) -> int:
        """Size of a head that is rotated."""
        return self.rope_dim

    def modules(self, hidden: int) -> tuple[Module, ...]:
        """Modules in the order of their making (vLLM 0.19, deepseek_v2.py and mla_attention.py)."""
        at, query = self.at, self.heads * (self.nope_dim + self.rope_dim)
        compressed = ("kv_a_proj_with_mqa", self.kv_rank + self.rope_dim)
        made: list[Module] = []
        if self.query_rank:
            made.append(copied(f"{at}.fused_qkv_a_proj", hidden, ("q_a_proj", self.query_rank), compressed))
            made.append(Weight(self.query_rank))
            made.append(columns(f"{at}.q_b_proj", self.query_rank, ("q_b_proj", query)))
        else:
            made.append(copied(f"{at}.kv_a_proj_with_mqa", hidden, compressed))
            made.append(columns(f"{at}.q_proj", hidden, ("q_proj", query)))
        made.append(Weight(self.kv_rank))
        both = self.heads * (self.nope_dim + self.value_dim)
        made.append(columns(f"{at}.kv_b_proj", self.kv_rank, ("kv_b_proj", both)))
        made.append(rows(f"{at}.o_proj", self.heads * self.value_dim, hidden))
        if self.index_heads:
            dims = self.index_heads * self.index_dim
            made.append(copied(f"{at}.indexer.wq_b", self.query_rank, ("wq_b", dims)))
            made.append(copied(f"{at}.indexer.wk", hidden, ("wk", self.index_dim)))
            made += [Weight(self.index_dim)] * 2
            made.append(router(f"{at}.indexer.weights_proj", hidden, self.index_heads))
        # W_UK and W_UV, 16-bit copies of kv_b_proj's halves that the engine absorbs into its kernels.
        made.append(Weight(self.heads * self.nope_dim * self.kv_rank, split=True, loaded=False))
        made.append(Weight(self.heads * self.value_dim * self.kv_rank, split=True, loaded=False))
        return tuple(made)


class Mamba(NamedTuple):
    """A state of fixed size a sequence: Mamba 2 with heads, Mamba 1 without.

    Parameters
    ----------
    inner
        Size of the inner vectors.
    state, conv
        Size of the state, and of the convolution.
    heads, groups
        Heads and their groups; 0 heads: Mamba 1.
    step_rank
        Rank of the step's projection in Mamba 1.
    bias, conv_bias
        Whether the projections and the convolution have biases.
    normed
        Whether the inner vectors are normalised.
    wide_state
        Whether the state is kept in 32 bits.
    """

    inner: int
    state: int
    conv: int
    heads: int = 0
    groups: int = 1
    step_rank: int = 0
    bias: bool = False
    conv_bias: bool = True
    normed: bool = True
    wide_state: bool = False
    at: str = "mamba"

    @property
    def rotary(self) -> int:
        """Nothing is rotated."""
        return 0

    def state_sizes(self, gpus: int) -> tuple[tuple[int, bool], ...]:
        """Elements of each state of a sequence on one of so many GPUs, and whether they are of 32 bits."""
        # Groups that do not divide are copied, one for each GPU.
        groups = self.groups if self.groups % gpus == 0 else gpus
        convolved = self.inner + (2 * groups * self.state if self.heads else 0)
        state = self.inner * self.state // gpus
        return ((self.conv - 1) * convolved // gpus, False), (state, self.wide_state)

    def modules(self, hidden: int) -> tuple[Module, ...]:
        """Modules in the order of their making (vLLM 0.19, mamba_mixer.py and mamba_mixer2.py)."""
        at, inner, grouped = self.at, self.inner, self.groups * self.state
        if not self.heads:
            return self._first(hidden)
        parts = [("gate", inner), ("x", inner), ("b", grouped), ("c", grouped), ("dt", self.heads)]
        slices = (("x", inner), ("b", grouped), ("c", grouped))
        conv = columns(f"{at}.conv1d", self.conv, *slices, bias=self.conv_bias)
        made: list[Module] = [conv._replace(quantised=False)]
        made.append(columns(f"{at}.in_proj", hidden, *parts, bias=self.bias))
        made += [Weight(self.heads, split=True, wide=True)] + [Weight(self.heads, split=True)] * 2
        made.append(rows(f"{at}.out_proj", inner, hidden, bias=self.bias))
        return (*made, Weight(inner, split=True)) if self.normed else tuple(made)

    def _first(self, hidden: int) -> tuple[Module, ...]:
        at, inner, narrow = self.at, self.inner, self.step_rank + 2 * self.state
        conv = columns(f"{at}.conv1d", self.conv, ("conv1d", inner), bias=self.conv_bias)
        made: list[Module] = [conv._replace(quantised=False)]
        made.append(columns(f"{at}.in_proj", hidden, ("gate", inner), ("x", inner), bias=self.bias))
        made.append(rows(f"{at}.x_proj", inner, narrow))
        made.append(columns(f"{at}.dt_proj", self.step_rank, ("dt_proj", inner), bias=True))
        made += [Weight(inner * self.state, split=True, wide=True), Weight(inner, split=True)]
        made.append(rows(f"{at}.out_proj", inner, hidden, bias=self.bias))
        return (*made, Weight(narrow)) if self.normed else tuple(made)


class DeltaNet(NamedTuple):
    """Gated delta net: a state of fixed size a sequence (Qwen3-Next, Qwen3.5).

    Parameters
    ----------
    key_heads, value_heads, key_dim, value_dim, conv
        Heads, their sizes, and the size of the convolution.
    joined
        Whether checkpoints hold the inputs' projections as two matrices (Qwen3-Next), not as four.
    wide_state
        Whether the state is kept in 32 bits.
    """

    key_heads: int
    value_heads: int
    key_dim: int
    value_dim: int
    conv: int
    joined: bool = False
    wide_state: bool = False
    at: str = "linear_attn"

    @property
    def rotary(self) -> int:
        """Nothing is rotated."""
        return 0

    def state_sizes(self, gpus: int) -> tuple[tuple[int, bool], ...]:
        """Elements of each state of a sequence on one of so many GPUs, and whether they are of 32 bits."""
        convolved = 2 * self.key_heads * self.key_dim + self.value_heads * self.value_dim
        state = self.value_heads * self.value_dim * self.key_dim
        return ((self.conv - 1) * convolved // gpus, False), (state // gpus, self.wide_state)

    def modules(self, hidden: int) -> tuple[Module, ...]:
        """Modules in the order of their making (vLLM 0.32, mamba/gdn/qwen_gdn_linear_attn.py)."""
        at, keys, values = self.at, self.key_heads * self.key_dim, self.value_heads * self.value_dim
        sizes = (("qkv", keys), ("qkv", keys), ("qkv", values), ("z", values))
        parts = tuple(Part(f"in_proj_{name}", size) for name, size in sizes)
        gates = [Part("in_proj_b", self.value_heads), Part("in_proj_a", self.value_heads)]
        conv = columns(f"{at}.conv1d", self.conv, ("conv1d", 2 * keys + values))
        return (
            conv._replace(quantised=False),
            Linear(f"{at}.in_proj_qkvz", parts, hidden, "columns", joined=self.joined),
            Linear(f"{at}.in_proj_ba", tuple(gates), hidden, "columns", joined=self.joined),
            Weight(self.value_heads, split=True),
            Weight(self.value_heads, split=True, wide=True),
            Weight(self.value_dim),
            rows(f"{at}.out_proj", values, hidden),
        )


Mixer = Attention | LatentAttention | Mamba | DeltaNet
