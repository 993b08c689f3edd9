"""What each layer of a model keeps for earlier tokens on one GPU: pages of keys and values, or a state."""

from __future__ import annotations

from typing import Literal, NamedTuple

from twin.architectures import Attention, LatentAttention, Mamba, Mixer
from twin.memory.launch import Launch, Version
from twin.memory.stages import dtype_bytes

CacheKind = Literal["full", "sliding", "chunked", "state"]

_CHECKPOINT_SINCE: Version = (0, 32, 0)
"""First release seen in which Mamba 2 keeps one more (mamba_mixer2.py, ``num_prefill_checkpoint_blocks``);
0.29 has not."""
_ALIGNED_SINCE: Version = (0, 26, 0)
"""Release in which prefix caching of models with states is on by default, which keeps two states a sequence;
0.21 has it off."""
_CHECKPOINT_DTYPE_SINCE: Version = (0, 14, 0)
"""Release in which ``auto`` takes the KV cache's type from a ModelOpt checkpoint; 0.12 does not."""
_ATTENTION_ALIGNMENT, _LATENT_ALIGNMENT = 16, 64
"""Tokens of which a block is a multiple where states set its size (models/config.py, 0.19)."""
LATENT_SINCE: Version = (0, 7, 1)
"""First release that keeps the compressed vectors of latent attention (0.8.2 does, 0.7.0 does not)."""
_NARROW_SINCE: Version = (0, 7, 0)
"""Release that keeps keys and values in heads of the keys' size; 0.6.4 pads them to 256."""
_PADDED_HEAD = 256
_INDEX_BLOCK = 64
"""Tokens of a block of sparse latent attention."""
_INDEX_GROUP, _FLOAT32 = 128, 4
_SPARSE_FP8_TOKEN = 656
"""Bytes of a token in the 8-bit cache of sparse latent attention (kv_cache_interface.py, 0.19)."""

CACHES_OF_A_LAYER = 4
"""Caches that a layer of the model may have: attention, state, index, and one to spare."""


class CacheLayer(NamedTuple):
    """One cache of a layer.

    Parameters
    ----------
    kind
        What of a sequence it keeps.
    page
        Bytes of a block.
    block
        Tokens of a block.
    window
        Tokens of the window or chunk; for a state how many of them a sequence needs.
    """

    kind: CacheKind
    page: int
    block: int
    window: int = 0

    def blocks_of(self, tokens: int, batch: int) -> int:
        """Blocks that a sequence of so many tokens needs, in batches of so many (max_memory_usage_bytes)."""
        match self.kind:
            case "sliding":
                # One more, as a window need not begin where a block does.
                return -(-min(self.window - 1 + batch, tokens) // self.block) + 1
            case "chunked":
                return -(-min(self.window + batch, tokens) // self.block)
            case "state":
                return self.window
            case _:
                return -(-tokens // self.block)


def cache_layers(launch: Launch) -> dict[int, CacheLayer]:
    """Caches of the model's layers on one GPU, by layer times `CACHES_OF_A_LAYER` and number in the layer."""
    found: dict[int, CacheLayer] = {}
    for index, layer in enumerate(launch.model.layers):
        caches = [cache for mixer in layer.mixers for cache in _caches(launch, mixer)]
        for number, cache in enumerate(caches):
            found[index * CACHES_OF_A_LAYER + number] = cache
    return _unified(launch, found)


def cache_bytes(launch: Launch) -> int:
    """Bytes of a number in the KV cache (``--kv-cache-dtype``)."""
    asked, quantization = launch.engine.kv_cache_dtype, launch.model.quantization
    if asked == "auto" and quantization is not None and launch.version >= _CHECKPOINT_DTYPE_SINCE:
        asked = quantization.kv_cache
    if asked == "auto":
        return dtype_bytes(launch)
    return 1 if asked.startswith("fp8") else 2


def _caches(launch: Launch, mixer: Mixer) -> list[CacheLayer]:
    tp, block, size = launch.engine.tensor_parallel_size, launch.engine.block_size, cache_bytes(launch)
    match mixer:
        case Attention():
            token = mixer.kv_heads_on(tp) * (mixer.head_dim + mixer.values) * size
            kind: CacheKind = "chunked" if mixer.chunk else "sliding" if mixer.window else "full"
            return [CacheLayer(kind, block * token, block, mixer.chunk or mixer.window)]
        case LatentAttention():
            return _latent(launch, mixer, size)
        case _:
            states = mixer.state_sizes(tp)
            dtype = dtype_bytes(launch)
            page = sum(elements * (_FLOAT32 if wide else dtype) for elements, wide in states)
            aligned = launch.version >= _ALIGNED_SINCE
            # Where states are not cached for prefixes, one is of a whole sequence.
            tokens = block if aligned else launch.engine.max_model_len
            return [CacheLayer("state", page, tokens, _states(launch, mixer) if aligned else 1)]


def _states(launch: Launch, mixer: Mixer) -> int:
    """States that a sequence keeps: the last, one at a block's end, and for Mamba 2 one of its prompt."""
    checkpoint = isinstance(mixer, Mamba) and mixer.heads and launch.version >= _CHECKPOINT_SINCE
    return 3 if checkpoint else 2


def _latent(launch: Launch, mixer: LatentAttention, size: int) -> list[CacheLayer]:
    """One vector a token, not divided over GPUs; and the index's, in 8 bits with a scale a group."""
    token, block = (mixer.kv_rank + mixer.rope_dim) * size, int(launch.engine.block_size)
    if launch.version < LATENT_SINCE:
        head = mixer.nope_dim + mixer.rope_dim if launch.version >= _NARROW_SINCE else _PADDED_HEAD
        heads = max(1, mixer.heads // launch.engine.tensor_parallel_size)
        return [CacheLayer("full", block * heads * 2 * head * size, block)]
    if not launch.model.index_head_dim:
        return [CacheLayer("full", block * token, block)]
    block = max(_INDEX_BLOCK, block)
    token = _SPARSE_FP8_TOKEN if size == 1 else token
    layers = [CacheLayer("full", block * token, block)]
    if mixer.index_heads:
        index = mixer.index_dim + mixer.index_dim // _INDEX_GROUP * _FLOAT32
        layers.append(CacheLayer("full", block * index, block))
    return layers


def _unified(launch: Launch, layers: dict[int, CacheLayer]) -> dict[int, CacheLayer]:
    """Layers with pages of one size, where they are of several kinds."""
    attending = [layer for layer in layers.values() if layer.kind != "state"]
    states = [layer.page for layer in layers.values() if layer.kind == "state"]
    if states and attending:
        widest = max(attending, key=lambda layer: layer.page)
        layers = _beside_states(launch, layers, max(states), widest)
    kinds = {(layer.kind, layer.window, layer.block) for layer in layers.values()}
    if len(kinds) <= 1:
        return layers
    page = max(layer.page for layer in layers.values())
    # A layer with smaller pages has more tokens a block (unify_kv_cache_spec_page_size); where they do not
    # divide, its page is padded, as is that of a state.
    return {index: _padded(layer, page) for index, layer in layers.items()}


def _padded(layer: CacheLayer, page: int) -> CacheLayer:
    if layer.kind == "state" or page % layer.page:
        return layer._replace(page=page)
    return layer._replace(page=page, block=layer.block * (page // layer.page))


def _beside_states(
    launch: Launch, layers: dict[int, CacheLayer], state: int, widest: CacheLayer
) -> dict[int, CacheLayer]:
    """Blocks of attention that hold at least a state, and states padded to them (models/config.py)."""
    align = _LATENT_ALIGNMENT if launch.model.kv_lora_rank else _ATTENTION_ALIGNMENT
    token, least = widest.page // widest.block, widest.block
    larger = max(widest.block, align * -(-state // (align * token)))
    return {
        index: layer._replace(page=larger * token, block=larger if layer.block == least else layer.block)
        if layer.kind == "state"
        else layer._replace(page=layer.page // layer.block * larger, block=larger)
        for index, layer in layers.items()
    }
