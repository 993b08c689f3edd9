"""The adapters of one GPU."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scenarios.adapters import AdapterClass
from scenarios.lengths import Lengths
from twin.requests import FloatArray, IntArray


@dataclass(frozen=True)
class GPULoad:
    """The adapters that one GPU serves.

    Parameters
    ----------
    names
        The adapters' names.
    rank
        LoRA ranks, shape (n,).
    rate
        Requests per second that are routed to this GPU, shape (n,).
    prompt, output
        Distribution of each adapter's prompt and output tokens.
    """

    names: tuple[str, ...]
    rank: IntArray
    rate: FloatArray
    prompt: tuple[Lengths, ...]
    output: tuple[Lengths, ...]

    @staticmethod
    def from_classes(classes: Sequence[AdapterClass], counts: Sequence[int] | None = None) -> GPULoad:
        """The first ``counts[c]`` adapters of each class; absent: all of them."""
        numbers = [c.count for c in classes] if counts is None else list(counts)
        chosen = [(c, name) for c, n in zip(classes, numbers, strict=True) for name in c.names[:n]]
        return GPULoad(
            names=tuple(name for _, name in chosen),
            rank=np.array([c.rank for c, _ in chosen], dtype=np.int32),
            rate=np.array([c.rate for c, _ in chosen], dtype=np.float64),
            prompt=tuple(c.prompt for c, _ in chosen),
            output=tuple(c.output for c, _ in chosen),
        )
