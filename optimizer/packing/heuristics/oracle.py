"""What the paper's greedy asks of a model of one GPU, and the oracle made of a problem's rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from optimizer.packing.heuristics.first_fit import item_weights
from optimizer.packing.model.cuts import CutTable, cut_tables
from optimizer.packing.model.problem import TOLERANCE, FloatArray, PackingProblem


class Oracle(Protocol):
    """Predicts one GPU. ``counts`` are adapters per class and may be fractional (average adapters)."""

    def fits(self, max_loras: int, max_lora_rank: int) -> bool:
        """Whether the engine starts with so many slots of this rank."""
        ...

    def throughput(self, counts: FloatArray, max_loras: int, max_lora_rank: int) -> float:
        """Tokens per second, or any figure that grows with it."""
        ...

    def starves(self, counts: FloatArray, max_loras: int, max_lora_rank: int) -> bool:
        """Whether the GPU starves."""
        ...


@dataclass(frozen=True, eq=False)
class RowOracle:
    """The oracle that a problem's options of one device are.

    A GPU starves if a row or a cut of its option is violated; its throughput is what is offered, reduced
    by the row that is exceeded most. Slots and rank without an option of their own stand for the next
    larger slots and rank that have one.
    """

    problem: PackingProblem
    device: str

    @cached_property
    def _tables(self) -> tuple[CutTable, ...]:
        return cut_tables(self.problem)

    @cached_property
    def rates(self) -> FloatArray:
        """Load of one item per class."""
        return item_weights(self.problem) if self.problem.rates is None else self.problem.rates

    @cached_property
    def _options(self) -> dict[tuple[int, int], int]:
        return {
            (option.max_loras, option.max_lora_rank): o
            for o, option in enumerate(self.problem.options)
            if option.device == self.device
        }

    def option(self, max_loras: int, max_lora_rank: int) -> int | None:
        """Index of the option with the fewest slots and the least rank that suffice; None if none does."""
        exact = self._options.get((max_loras, max_lora_rank))
        if exact is not None:
            return exact
        enough = [key for key in self._options if key[0] >= max_loras and key[1] >= max_lora_rank]
        return self._options[min(enough, key=lambda key: (key[1], key[0]))] if enough else None

    def fits(self, max_loras: int, max_lora_rank: int) -> bool:
        """Whether there is such an option: those whose memory does not fit have no rows."""
        return self.option(max_loras, max_lora_rank) is not None

    def throughput(self, counts: FloatArray, max_loras: int, max_lora_rank: int) -> float:
        """Offered load, divided by how far the fullest row is exceeded."""
        offered = float(self.rates @ counts)
        return offered / max(1.0, self._fill(counts, max_loras, max_lora_rank))

    def starves(self, counts: FloatArray, max_loras: int, max_lora_rank: int) -> bool:
        """Whether a row, an admission or a cut of the option is violated."""
        o = self.option(max_loras, max_lora_rank)
        if o is None or (counts[~self.problem.options[o].fits_class] > 0).any():
            return True
        if self._fill(counts, max_loras, max_lora_rank) > 1 + TOLERANCE:
            return True
        return self._tables[o].violated(np.ceil(counts - TOLERANCE).astype(np.int64))

    def _fill(self, counts: FloatArray, max_loras: int, max_lora_rank: int) -> float:
        o = self.option(max_loras, max_lora_rank)
        if o is None:
            return float("inf")
        rows = self.problem.rows[o]
        if (counts[rows.most == 0] > 0).any():
            return float("inf")
        return float(((rows.usage @ counts) / np.maximum(rows.capacity, 1)).max())
