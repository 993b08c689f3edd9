"""Plans with room to spare improved: adapters exchanged between GPUs until losses fill engines less.

Where a few heavy adapters fill the engines, dealing them one by one leaves a plan that an exchange betters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from optimizer.survival.pieces import LoadedGPU, Piece
from optimizer.survival.roomy_plans import RoomyPlan, RoomyPlans
from scenarios import Deadline

POWER = 16
"""Power of the mean over the losses of how full the fullest engine is: nearly the worst, yet never level."""

EXCHANGE = 1e-3
"""Counted seconds of one exchange that is tried."""


def exchanged(plans: RoomyPlans, plan: RoomyPlan, deadline: Deadline, seed: int) -> RoomyPlan | None:
    """The plan after exchanges that each lower how full engines are after losses; None if none does.

    Parameters
    ----------
    plans
        What measures plans.
    plan
        Where to start.
    deadline
        When to return the best by then.
    seed
        Of the order in which exchanges are looked at.
    """
    rng, best, left = np.random.default_rng(seed), plan, plans.params.exchanges
    better = True
    while better and left > 0:
        better = False
        exchanges = list(_exchanges(best.before))
        for k in rng.permutation(len(exchanges)):
            if left <= 0 or deadline.reached:
                break
            left -= 1
            deadline.work.add(EXCHANGE)
            other = plans.fitted(exchanges[k].done(best.before))
            if _value(other) < _value(best) * (1 - 1e-6):
                best, better = other, True
                break
    return None if best is plan else best


def _value(plan: RoomyPlan) -> float:
    strains = np.array(plan.strains)
    scale = float(strains.max())
    if not np.isfinite(scale) or scale <= 0:
        return scale
    return scale * float(np.mean((strains / scale) ** POWER) ** (1 / POWER))


@dataclass(frozen=True)
class Exchange:
    """One GPU gives a piece to another, for one of its pieces or for none."""

    giving: int
    taking: int
    piece: Piece
    back: Piece | None = None

    def done(self, gpus: tuple[LoadedGPU, ...]) -> tuple[LoadedGPU, ...]:
        """The GPUs after it."""
        first, second = gpus[self.giving], gpus[self.taking]
        kept = tuple(p for p in first.pieces if p != self.piece)
        kept += () if self.back is None else (self.back,)
        got = (*(p for p in second.pieces if p != self.back), self.piece)
        changed = {self.giving: replace(first, pieces=kept), self.taking: replace(second, pieces=got)}
        return tuple(changed.get(k, gpu) for k, gpu in enumerate(gpus))


def _exchanges(gpus: tuple[LoadedGPU, ...]) -> Iterator[Exchange]:
    """Yield every exchange of one adapter for at most one; alike ones once."""
    kinds = [_first_of_kind(gpu.pieces) for gpu in gpus]
    for a, giving in enumerate(gpus):
        for b, taking in enumerate(gpus):
            for piece in kinds[a]:
                if a == b or not _may(taking, piece):
                    continue
                if len(giving.pieces) > 1:
                    yield Exchange(a, b, piece)
                for back in kinds[b] if a < b else ():
                    if back.kind != piece.kind and _may(giving, back):
                        yield Exchange(a, b, piece, back)


def _first_of_kind(pieces: Sequence[Piece]) -> list[Piece]:
    return list({piece.kind: piece for piece in reversed(pieces)}.values())


def _may(gpu: LoadedGPU, piece: Piece) -> bool:
    """Whether a GPU holds a piece's rank, and no other part of its adapter."""
    names = {other.name for other in gpu.pieces}
    return piece.kind.rank <= gpu.engine.max_lora_rank and piece.name not in names
