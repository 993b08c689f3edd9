"""The pieces of lost GPUs dealt to engines that run.

By the inner rows a deal is the better the less full its fullest engine is. What the twin says of a deal
changes how full an engine may be: where it rejects one, less, where it accepts one, as full as that at least.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import combinations_with_replacement, product
from math import comb, inf

import numpy as np

from optimizer.survival.engine_rows import EngineRows, FloatArray
from optimizer.survival.params import SurvivalParams
from optimizer.survival.pieces import LoadedGPU, Piece, number_with_slot
from scenarios import AdapterKind


@dataclass(frozen=True)
class Deal:
    """Where the lost pieces go.

    Parameters
    ----------
    given
        Pieces that each GPU gets, in the order of the GPUs that are left.
    fills
        How full each of them is then, by the inner rows.
    strain
        The largest of these over what is known to be possible.
    """

    given: tuple[tuple[Piece, ...], ...]
    fills: tuple[float, ...]
    strain: float


@dataclass(eq=False)
class Experience:
    """What the twin has said of the GPUs of a plan after losses.

    Attributes
    ----------
    limits
        How full each GPU, by number, may probably be, of those that were rejected.
    accepted
        How full each GPU was at most that was accepted.
    rejected
        What was too much for a GPU in addition to its own.
    """

    limits: dict[int, float] = field(default_factory=dict)
    accepted: dict[int, float] = field(default_factory=dict)
    rejected: dict[int, list[Counter[AdapterKind]]] = field(default_factory=dict)

    def limit(self, number: int) -> float:
        """How full a GPU may be, by the rows and by what is known."""
        return max(self.limits.get(number, 1.0), self.accepted.get(number, 0.0))

    def learn(self, number: int, given: Sequence[Piece], fill: float, accepted: bool, step: float) -> None:
        """Take note of a verdict."""
        if accepted:
            self.accepted[number] = max(self.accepted.get(number, 0.0), fill)
            return
        self.limits[number] = min(self.limits.get(number, inf), fill) * (1 - step)
        self.accepted[number] = min(self.accepted.get(number, 0.0), self.limits[number])
        self.rejected.setdefault(number, []).append(Counter(piece.kind for piece in given))

    def excludes(self, number: int, given: Sequence[Piece]) -> bool:
        """Whether a GPU was rejected with no more than that."""
        known = self.rejected.get(number)
        if not known:
            return False
        held = Counter(piece.kind for piece in given)
        return any(less <= held for less in known)


@dataclass(frozen=True, eq=False)
class LostPieces:
    """Pieces to be dealt, and the GPUs that are left.

    Parameters
    ----------
    rows
        The inner rows.
    pieces
        What the lost GPUs served.
    left
        The GPUs that are left.
    experience
        What the twin has said of them.
    params
        How far to search.
    """

    rows: EngineRows
    pieces: tuple[Piece, ...]
    left: tuple[LoadedGPU, ...]
    experience: Experience
    params: SurvivalParams

    @property
    def homeless(self) -> Piece | None:
        """A piece whose rank is above that of every engine that is left; None if there is none."""
        ranks = max((gpu.engine.max_lora_rank for gpu in self.left), default=0)
        return next((piece for piece in self.pieces if piece.kind.rank > ranks), None)

    def best(self) -> Deal | None:
        """The best deal that the twin has not rejected; None if none is found."""
        if self.homeless is not None:
            return None
        by_kind = self._by_kind()
        if self._number(by_kind) <= self.params.most_deals:
            deals = (self._deal(places) for places in self._all(by_kind))
            return min((one for one in deals if self._new(one)), key=lambda one: one.strain, default=None)
        dealt = self._deal(self._greedy(by_kind))
        return dealt if self._new(dealt) else None

    def _new(self, deal: Deal) -> bool:
        """Whether nothing of a deal was rejected."""
        pairs = zip(self.left, deal.given, strict=True)
        return not any(self.experience.excludes(gpu.number, given) for gpu, given in pairs)

    def _by_kind(self) -> list[list[Piece]]:
        """The pieces by kind; those that the fewest engines hold come first, and of them the heaviest."""
        kinds: dict[AdapterKind, list[Piece]] = {}
        for piece in self.pieces:
            kinds.setdefault(piece.kind, []).append(piece)
        return sorted(
            kinds.values(), key=lambda one: (len(self._eligible(one[0])), -self._weight(one[0].kind))
        )

    def _eligible(self, piece: Piece) -> list[int]:
        return [k for k, gpu in enumerate(self.left) if gpu.engine.max_lora_rank >= piece.kind.rank]

    def _weight(self, kind: AdapterKind) -> float:
        sums = self.rows.features(kind)
        return min(self.rows.fill(gpu.engine, int(not kind.is_base), sums) for gpu in self.left)

    def _number(self, by_kind: Sequence[Sequence[Piece]]) -> float:
        """How many deals there are."""
        number = 1.0
        for pieces in by_kind:
            number *= comb(len(pieces) + len(self._eligible(pieces[0])) - 1, len(pieces))
        return number

    def _all(self, by_kind: Sequence[Sequence[Piece]]) -> Iterator[list[list[Piece]]]:
        """Every deal; pieces of one kind are exchangeable."""
        choices = [combinations_with_replacement(self._eligible(one[0]), len(one)) for one in by_kind]
        for chosen in product(*(list(one) for one in choices)):
            given: list[list[Piece]] = [[] for _ in self.left]
            for pieces, places in zip(by_kind, chosen, strict=True):
                for piece, place in zip(pieces, places, strict=True):
                    given[place].append(piece)
            yield given

    def _greedy(self, by_kind: Sequence[Sequence[Piece]]) -> list[list[Piece]]:
        """Piece by piece to the engine that is least full with it, the heaviest first."""
        given: list[list[Piece]] = [[] for _ in self.left]
        sums, counts = [one.copy() for one in self._base], [gpu.adapters for gpu in self.left]
        limits = [self.experience.limit(gpu.number) for gpu in self.left]
        for pieces in by_kind:
            features, eligible = self.rows.features(pieces[0].kind), self._eligible(pieces[0])
            slot = number_with_slot(pieces[:1])
            after = {
                k: self.rows.fill(self.left[k].engine, counts[k] + slot, sums[k] + features) / limits[k]
                for k in eligible
            }
            for piece in pieces:
                place = min(eligible, key=lambda k: (after[k], k))
                given[place].append(piece)
                sums[place] += features
                counts[place] += slot
                engine = self.left[place].engine
                after[place] = (
                    self.rows.fill(engine, counts[place] + slot, sums[place] + features) / limits[place]
                )
        return given

    @cached_property
    def _base(self) -> list[FloatArray]:
        """What the GPUs serve of their own."""
        zero = np.zeros_like(self.rows.features(self.pieces[0].kind))
        return [sum((self.rows.features(p.kind) for p in gpu.pieces), start=zero) for gpu in self.left]

    def _deal(self, given: Sequence[Sequence[Piece]]) -> Deal:
        """A deal with its figures."""
        fills = tuple(
            self.rows.fill(
                gpu.engine,
                gpu.adapters + number_with_slot(more),
                base + sum((self.rows.features(p.kind) for p in more), start=np.zeros_like(base)),
            )
            for gpu, more, base in zip(self.left, given, self._base, strict=True)
        )
        strains = (
            fill / self.experience.limit(gpu.number)
            for gpu, fill, more in zip(self.left, fills, given, strict=True)
            if more
        )
        return Deal(tuple(tuple(one) for one in given), fills, max(strains, default=0.0))
