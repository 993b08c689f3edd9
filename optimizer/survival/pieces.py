"""What is served as pieces: adapters, or parts of them, on the engines of a placement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from optimizer.survival.engine_rows import EngineRows, FloatArray
from scenarios import AdapterKind, EngineOption, PlacedGPU, Placement, Scenario

Content = tuple[EngineOption, int | None, tuple[tuple[AdapterKind, int], ...]]
"""An engine with its max_cpu_loras, and how many pieces of each kind it serves: GPUs of equal content are
alike."""


@dataclass(frozen=True)
class Piece:
    """An adapter, or the part of it that one GPU serves.

    Parameters
    ----------
    name
        The adapter.
    share
        Part of its requests.
    kind
        What is served, with the rate of the part.
    """

    name: str
    share: float
    kind: AdapterKind


@dataclass(frozen=True)
class LoadedGPU:
    """A GPU of a plan: its engine and what it serves.

    Parameters
    ----------
    number
        Of the GPU in its placement.
    engine
        How it is run.
    pieces
        What it serves.
    max_cpu_loras
        Adapters that its engine keeps in CPU memory; None: the scenario's, or all that it serves.
    """

    number: int
    engine: EngineOption
    pieces: tuple[Piece, ...]
    max_cpu_loras: int | None = None

    @property
    def adapters(self) -> int:
        """How many of its pieces take a slot."""
        return number_with_slot(self.pieces)

    @property
    def content(self) -> Content:
        """What makes it like another GPU."""
        held = Counter(piece.kind for piece in self.pieces)
        return self.engine, self.max_cpu_loras, tuple(sorted(held.items(), key=repr))

    def placed(self, extra: Iterable[Piece] = ()) -> PlacedGPU:
        """The GPU of a placement, with more pieces; those of one adapter are served as one."""
        shares: dict[str, float] = {}
        for piece in (*self.pieces, *extra):
            shares[piece.name] = shares.get(piece.name, 0.0) + piece.share
        return PlacedGPU(
            gpu=self.number,
            device=self.engine.device,
            max_loras=self.engine.max_loras,
            max_lora_rank=self.engine.max_lora_rank,  # type: ignore[arg-type]  # one of vLLM's
            max_cpu_loras=self.max_cpu_loras,
            adapters=tuple(shares),
            shares={name: share for name, share in shares.items() if share < 1 - 1e-9},
        )


def number_with_slot(pieces: Iterable[Piece]) -> int:
    """How many pieces are of adapters; the base model's take no slot."""
    return sum(not piece.kind.is_base for piece in pieces)


def cut_up(pieces: Iterable[Piece], parts: int) -> Iterator[Piece]:
    """Pieces, those of the base model in so many equal parts, as any engine serves any share of it."""
    for piece in pieces:
        if piece.kind.is_base:
            yield from (Piece(piece.name, piece.share / parts, piece.kind.scaled(1 / parts)),) * parts
        else:
            yield piece


@dataclass(frozen=True, eq=False)
class Catalogue:
    """The adapters of a scenario, by name.

    Parameters
    ----------
    scenario
        The scenario.
    rows
        The inner rows.
    """

    scenario: Scenario
    rows: EngineRows
    _kinds: dict[str, AdapterKind] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._kinds.update({name: one.kind for one in self.scenario.classes for name in one.names})

    def gpus(self, placement: Placement) -> tuple[LoadedGPU, ...]:
        """The GPUs of a placement, by number."""
        return tuple(
            LoadedGPU(
                gpu.gpu,
                gpu.option,
                tuple(
                    Piece(name, gpu.share(name), self._kinds[name].scaled(gpu.share(name)))
                    for name in gpu.adapters
                ),
                gpu.max_cpu_loras,
            )
            for gpu in sorted(placement.gpus, key=lambda gpu: gpu.gpu)
        )

    def joined(self, pieces: Sequence[Piece]) -> tuple[Piece, ...]:
        """Pieces of one GPU, those of one entry of the base model as one."""
        shares = Counter[str]()
        for piece in pieces:
            if piece.kind.is_base:
                shares[piece.name] += piece.share  # type: ignore[assignment]  # a Counter of fractions
        base = (Piece(name, share, self._kinds[name].scaled(share)) for name, share in shares.items())
        return (*(piece for piece in pieces if not piece.kind.is_base), *base)

    def sums(self, pieces: Sequence[Piece]) -> FloatArray:
        """What pieces add up to on a GPU, shape (K,)."""
        if not pieces:
            return np.zeros(0)
        return np.asarray(sum(self.rows.features(piece.kind) for piece in pieces))
