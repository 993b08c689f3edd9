"""What the paper's greedy asks of a model of one GPU, and the oracle made of a problem's rows."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from optimizer.packing.heuristics.first_fit import item_weights
from optimizer.packing.model.cuts import CutTable, cut_tables
from optimizer.packing.model.problem import TOLERANCE, FloatArray, PackingProblem
from scenarios import EngineOption


class Oracle(Protocol):
    """Predicts one GPU. ``counts`` are adapters per class and may be fractional (average adapters)."""

    def engine(self, max_loras: int, max_lora_rank: int) -> EngineOption:
        """The engine of so many slots of this rank on its kind of GPU."""
        ...

    def fits(self, engine: EngineOption) -> bool:
        """Whether the engine starts."""
        ...

    def throughput(self, counts: FloatArray, engine: EngineOption) -> float:
        """Tokens per second, or any figure that grows with it."""
        ...

    def starves(self, counts: FloatArray, engine: EngineOption) -> bool:
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
    def _options(self) -> dict[EngineOption, int]:
        return {option.option: o for o, option in enumerate(self.problem.options)}

    def engine(self, max_loras: int, max_lora_rank: int) -> EngineOption:
        """The engine of so many slots of this rank on the device."""
        return EngineOption(self.device, max_loras, max_lora_rank)

    def option(self, engine: EngineOption) -> int | None:
        """Index of the option with the fewest slots and the least rank that suffice; None if none does."""
        if engine in self._options:
            return self._options[engine]
        enough = [
            key
            for key in self._options
            if key.device == engine.device
            and key.max_loras >= engine.max_loras
            and key.max_lora_rank >= engine.max_lora_rank
        ]
        smallest = min(enough, key=lambda key: (key.max_lora_rank, key.max_loras), default=None)
        return None if smallest is None else self._options[smallest]

    def fits(self, engine: EngineOption) -> bool:
        """Whether there is such an option: those whose memory does not fit have no rows."""
        return self.option(engine) is not None

    def throughput(self, counts: FloatArray, engine: EngineOption) -> float:
        """Offered load, divided by how far the fullest row is exceeded."""
        return float(self.rates @ counts) / max(1.0, self._fill(counts, engine))

    def starves(self, counts: FloatArray, engine: EngineOption) -> bool:
        """Whether a row, an admission or a cut of the option is violated."""
        o = self.option(engine)
        if o is None or (counts[~self.problem.options[o].fits_class] > 0).any():
            return True
        if self._fill(counts, engine) > 1 + TOLERANCE:
            return True
        return self._tables[o].violated(np.ceil(counts - TOLERANCE).astype(np.int64))

    def _fill(self, counts: FloatArray, engine: EngineOption) -> float:
        o = self.option(engine)
        if o is None:
            return float("inf")
        rows = self.problem.rows[o]
        if (counts[rows.most == 0] > 0).any():
            return float("inf")
        return float(((rows.usage @ counts) / np.maximum(rows.capacity, 1)).max())
