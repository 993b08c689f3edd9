"""How much GPU memory PyTorch's caching allocator takes for a list of tensors.

The engine's KV cache is what is left of the GPU, so the memory that the allocator loses between tensors
counts: up to 0.7 GiB for adapter slots of unlucky sizes. The rules are those of
``c10/cuda/CUDACachingAllocator.cpp``: sizes in multiples of 512 bytes; up to 1 MiB from segments of 2 MiB;
below 10 MiB from segments of 20 MiB; above, segments of the size rounded up to 2 MiB; the smallest free
block that fits; a remainder of at most 1 MiB of a large block is not split off.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30

_ROUND = 512
_SMALL = MIB
_SMALL_SEGMENT = 2 * MIB
_MEDIUM = 10 * MIB
_MEDIUM_SEGMENT = 20 * MIB
_SEGMENT_ROUND = 2 * MIB


class CachingAllocator:
    """Blocks of one process on one GPU; nothing is ever freed."""

    def __init__(self) -> None:
        self.allocated = 0
        """Bytes in blocks that hold a tensor."""
        self.reserved = 0
        """Bytes in segments taken from the GPU."""
        self._free_small: list[int] = []
        self._free_large: list[int] = []

    def copy(self) -> CachingAllocator:
        """An independent allocator in the same state."""
        other = CachingAllocator()
        other.allocated, other.reserved = self.allocated, self.reserved
        other._free_small, other._free_large = self._free_small.copy(), self._free_large.copy()
        return other

    @property
    def lost(self) -> int:
        """Bytes in segments that no tensor uses."""
        return self.reserved - self.allocated

    def allocate(self, sizes: Iterable[int]) -> None:
        """Take blocks for tensors of these sizes in bytes, in order."""
        for size in sizes:
            self._allocate(size)

    def _allocate(self, size: int) -> None:
        needed = max(_ROUND, -(-size // _ROUND) * _ROUND)
        small = needed <= _SMALL
        # Small and large blocks come from pools of their own. Of equal fits PyTorch takes the lowest address,
        # which makes no difference to sizes, so the sorted sizes of the free blocks are all that is kept.
        free = self._free_small if small else self._free_large
        index = bisect_left(free, needed)
        block = free.pop(index) if index < len(free) else self._take_segment(needed)
        # A rest that is not split off stays with the tensor's block and is counted as allocated.
        rest = block - needed
        if rest >= (_ROUND if small else _SMALL + 1):
            insort(free, rest)
            block = needed
        self.allocated += block

    def _take_segment(self, needed: int) -> int:
        # Segments are larger than asked for, to save calls of cudaMalloc; what no later tensor fills is lost.
        if needed <= _SMALL:
            segment = _SMALL_SEGMENT
        elif needed < _MEDIUM:
            segment = _MEDIUM_SEGMENT
        else:
            segment = -(-needed // _SEGMENT_ROUND) * _SEGMENT_ROUND
        self.reserved += segment
        return segment
