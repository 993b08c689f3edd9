"""KV cache of an engine: how many blocks so many bytes hold, and how many tokens the engine says they are.

Rules of vLLM's ``v1/core/kv_cache_utils.py`` and ``v1/kv_cache_interface.py``. Layers that keep keys and
values alike make one group; others are divided into groups of equally many layers, each group has a table of
blocks of its own, and all groups draw from one pool, in which a block is one page of as many layers as a
group has.
"""

from __future__ import annotations

from typing import NamedTuple

from twin.memory.cache_layers import CACHES_OF_A_LAYER, CacheLayer, cache_layers
from twin.memory.launch import Launch, Version
from twin.memory.stages import stage_bounds

_GROUPS_SINCE: Version = (0, 9, 1)
"""First release with groups of different layers; before, a window is kept as if it were none."""
_LARGE_GROUPS_SINCE: Version = (0, 12, 0)
"""First release that takes the larger of nearly equal counts of layers as a group's size; 0.11.2 does not."""
_WIDER_SINCE: Version = (0, 18, 0)
"""Release from which nearly equal is within 1.5 times, not 1.25 (0.17)."""
_BY_CONCURRENCY_SINCE: Version = (0, 21, 0)
"""Release from which the tokens that are reported are those of as many longest sequences as fit; 0.20 takes
the blocks of one group."""
_OWN_BLOCK_SINCE: Version = (0, 29, 0)
LONGEST = 10_000_000
"""Tokens: the longest sequence that is asked for."""


class Group(NamedTuple):
    """Layers with one table of blocks.

    Parameters
    ----------
    layers
        Indices of its layers in the model.
    kind
        A layer of it, for the blocks that a sequence needs.
    """

    layers: tuple[int, ...]
    kind: CacheLayer


class KVCache(NamedTuple):
    """The KV cache of one GPU.

    Parameters
    ----------
    groups
        Groups of layers, of the whole model.
    block_bytes
        Bytes of a block in the layers that this GPU holds.
    launch
        The engine.
    """

    groups: tuple[Group, ...]
    block_bytes: int
    launch: Launch

    @property
    def block_size(self) -> int:
        """Tokens of a block of the group with the smallest."""
        return min((group.kind.block for group in self.groups), default=self.launch.engine.block_size)

    def num_blocks(self, free_bytes: float) -> int:
        """Blocks that so many bytes hold."""
        return max(0, int(free_bytes // self.block_bytes)) if self.block_bytes else 0

    def tokens(self, num_blocks: int) -> int:
        """Tokens of so many blocks as the engine's log reports them ("GPU KV cache size")."""
        if not self.groups:
            return 0
        if self.launch.version >= _BY_CONCURRENCY_SINCE:
            return int(self.max_concurrency(num_blocks) * self.launch.engine.max_model_len)
        return num_blocks // len(self.groups) * self.block_size

    def max_concurrency(self, num_blocks: int) -> float:
        """Longest sequences that so many blocks hold at once ("Maximum concurrency")."""
        if self.launch.version < _GROUPS_SINCE:
            return num_blocks * self.block_size / self.launch.engine.max_model_len
        return num_blocks / max(1, self.needed_blocks(self.launch.engine.max_model_len))

    def needed_blocks(self, max_model_len: int) -> int:
        """Blocks that one sequence of so many tokens needs, in all groups."""
        batch = self.launch.engine.max_num_batched_tokens
        return sum(group.kind.blocks_of(max_model_len, batch) for group in self.groups)

    def longest(self, num_blocks: int) -> int:
        """Tokens of the longest sequence that so many blocks hold; at most `LONGEST`.

        From 0.29 the block that the engine keeps to itself is none of them (``get_kv_cache_configs``; real
        starts with exactly as many blocks as one sequence needs are refused, with one more they serve).
        """
        usable = num_blocks - (1 if self.launch.version >= _OWN_BLOCK_SINCE else 0)
        low, high = 0, LONGEST
        while low < high:
            middle = (low + high + 1) // 2
            if self.needed_blocks(middle) <= usable:
                low = middle
            else:
                high = middle - 1
        return low


def kv_cache(launch: Launch, stage: int) -> KVCache:
    """KV cache of one GPU of a pipeline stage.

    An engine has as many blocks as the GPU with the fewest.
    """
    layers = cache_layers(launch)
    grouped = _groups(launch, layers)
    first, last = stage_bounds(launch, stage)
    held = [
        [index for index in group.layers if first <= index // CACHES_OF_A_LAYER < last] for group in grouped
    ]
    if len(grouped) == 1:
        size = sum(layers[index].page for index in held[0])
    else:
        # All pages are of one size here, and a block is a page in as many layers as the largest group has.
        size = max((len(indices) for indices in held), default=0) * max(
            (layer.page for layer in layers.values()), default=0
        )
    return KVCache(grouped, size, launch)


def _groups(launch: Launch, layers: dict[int, CacheLayer]) -> tuple[Group, ...]:
    """Groups of the layers of a model (get_kv_cache_groups)."""
    if not layers:
        return ()
    if launch.version < _GROUPS_SINCE or any(layer.kind == "chunked" for layer in layers.values()):
        # Chunks switch the manager of several groups off, and windows are then kept as if there were none.
        layers = _as_full(layers)
    kinds: dict[tuple[str, int, int], list[int]] = {}
    for index, layer in layers.items():
        kinds.setdefault((layer.kind, layer.window, layer.block), []).append(index)
    if len(kinds) == 1:
        return (Group(tuple(layers), next(iter(layers.values()))),)
    counts = [len(indices) for indices in kinds.values()]
    size = _group_size(launch.version, min(counts), max(counts))
    groups = []
    for indices in kinds.values():
        number = -(-len(indices) // size)
        for start in range(number):
            groups.append(Group(tuple(indices[start::number]), layers[indices[0]]))
    return tuple(groups)


def _as_full(layers: dict[int, CacheLayer]) -> dict[int, CacheLayer]:
    """Layers with windows as such without, where both are there (unify_hybrid_kv_cache_specs)."""
    if not any(layer.kind == "full" for layer in layers.values()):
        return layers
    local = ("sliding", "chunked")
    return {
        index: layer._replace(kind="full", window=0) if layer.kind in local else layer
        for index, layer in layers.items()
    }


def _group_size(version: Version, least: int, most: int) -> int:
    """Layers of a group."""
    near = 1.5 if version >= _WIDER_SINCE else 1.25
    return most if version >= _LARGE_GROUPS_SINCE and most < least * near else least
