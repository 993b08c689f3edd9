"""The adapters of a GPU as rectangles: area is the share of its load, colour the rank."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import squarify

MOST_CELLS = 400
"""Cells of a GPU; what is smaller is one cell together, as nobody could tell the rest apart."""

STEPS = 7
"""Colours of the scale of ranks, from the lowest to the highest."""

LEAST_SHARE = 1e-6
"""Share of the load that a cell without load is drawn with."""

WIDTH, HEIGHT = 200.0, 100.0
"""Proportions that cells are laid out for; a tile is about twice as wide as high."""

LETTER = (3.1, 14.0)
"""Width and height of a letter, in percent of a tile."""

READABLE = 12
"""Letters of a name that are worth showing where it does not fit whole."""


class Cell(NamedTuple):
    """A rectangle in percent of its tile."""

    rows: tuple[int, ...]
    """Rows of the table of adapters that it stands for."""
    left: float
    top: float
    width: float
    height: float

    def holds(self, name: str) -> bool:
        """Whether a name, or enough of it, has room in it."""
        return self.height >= LETTER[1] and self.width >= LETTER[0] * (min(len(name), READABLE) + 1)


def treemap(shares: Mapping[int, float]) -> tuple[Cell, ...]:
    """Lay out the adapters of one GPU, the one with most load first.

    Parameters
    ----------
    shares
        By row of the table of adapters, the share of the GPU's load.

    Returns
    -------
    tuple[Cell, ...]
        At most `MOST_CELLS`; the last one holds all the adapters for which no cell is left.
    """
    order = sorted(shares, key=lambda row: (-shares[row], row))
    cut = len(order) if len(order) <= MOST_CELLS else MOST_CELLS - 1
    rows = [*((row,) for row in order[:cut]), *([tuple(order[cut:])] if order[cut:] else [])]
    sizes = [sum(max(shares[row], LEAST_SHARE) for row in held) for held in rows]
    placed = squarify.squarify(squarify.normalize_sizes(sizes, WIDTH, HEIGHT), 0, 0, WIDTH, HEIGHT)
    return tuple(
        Cell(held, *(100 * at / side for at, side in _edges(rectangle)))
        for held, rectangle in zip(rows, placed, strict=True)
    )


def _edges(rectangle: Mapping[str, float]) -> Iterable[tuple[float, float]]:
    return zip(
        (rectangle[key] for key in ("x", "y", "dx", "dy")), (WIDTH, HEIGHT, WIDTH, HEIGHT), strict=True
    )


def rank_steps(ranks: Sequence[int]) -> dict[int, int]:
    """By rank, the step of the colour scale: as far apart as the number of ranks allows; 0 is the base model.

    Where there are more ranks than `STEPS`, neighbours share a step.
    """
    positive = sorted({rank for rank in ranks if rank > 0})
    spread = max(1, len(positive) - 1)
    steps = {rank: 1 + round((STEPS - 1) * k / spread) for k, rank in enumerate(positive)}
    if len(positive) == 1:
        steps = {positive[0]: 1 + STEPS // 2}
    return {**({0: 0} if 0 in ranks else {}), **steps}
