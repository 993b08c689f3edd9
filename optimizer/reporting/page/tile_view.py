"""A GPU of the plan as the page shows it."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from optimizer.reporting.contents import AdapterTable, Tile
from optimizer.reporting.page import headlines
from optimizer.reporting.page.bars import Bar, bars
from optimizer.reporting.page.treemap import Cell, treemap
from twin import LatencyFigures

ORDERS: Mapping[str, tuple[str, bool]] = {
    "gpu": ("number", False),
    "fill": ("fill, fullest first", True),
    "ttft": ("time to first token p99, slowest first", True),
    "itl": ("time per token, slowest first", True),
    "kv": ("KV cache peak, highest first", True),
    "adapters": ("adapters, most first", True),
    "late": ("late requests, most first", True),
    "margin": ("margin, least first", False),
}
"""By what tiles are sorted: words, and whether the largest comes first."""


class CellView(NamedTuple):
    """An adapter in its tile."""

    cell: Cell
    step: int
    """Of the colour scale; 0 of the base model and of many together."""
    label: str
    """Name, where it has room."""
    spoken: str

    def data(self) -> list[Any]:
        """What the page's JavaScript makes a rectangle of, its place in percent of the tile."""
        rows, *place = self.cell
        return [rows, self.step, self.label, self.spoken, *(round(percent, 2) for percent in place)]


FAR = 10.0
"""Factor beyond which a limit is far away."""


@dataclass(frozen=True)
class TileView:
    """A GPU of the plan."""

    tile: Tile
    cells: tuple[CellView, ...]

    @property
    def margin(self) -> str:
        """How far the nearest limit is, as a factor; what is far beyond need not be told exactly."""
        if self.tile.margin is None:
            return "–"
        factor = math.exp(self.tile.margin)
        return f"over ×{FAR:g}" if factor > FAR else f"×{headlines.short(factor)}"

    @property
    def latencies(self) -> tuple[tuple[str, LatencyFigures], ...]:
        """Latencies with their names, those that were measured."""
        named = (("first token", self.tile.ttft), ("per token", self.tile.itl))
        return tuple((name, values) for name, values in named if values != LatencyFigures())

    @property
    def made_of(self) -> tuple[Bar, ...]:
        """What the fill is made of."""
        return bars(self.tile.made_of, percent=True)

    def data(self) -> dict[str, Any]:
        """What the page's JavaScript needs of it."""
        cells = [cell.data() for cell in self.cells]
        return {"gpu": self.tile.gpu, "like": self.tile.like, "order": self.order_keys, "cells": cells}

    @property
    def order_keys(self) -> dict[str, float | None]:
        """Its value in each of `ORDERS`."""
        tile = self.tile
        return {
            "gpu": tile.gpu,
            "fill": tile.fill,
            "ttft": tile.ttft.p99,
            "itl": tile.itl.mean,
            "kv": tile.kv_use_peak,
            "adapters": tile.adapters,
            "late": tile.late_share,
            "margin": tile.margin,
        }


def tile_views(
    tiles: Iterable[Tile], adapters: AdapterTable, steps: Mapping[int, int]
) -> tuple[TileView, ...]:
    """Lay out the adapters of each GPU; ``steps`` are those of the colour scale, by rank."""
    rows: dict[int, dict[int, float]] = defaultdict(dict)
    for row, (gpu, share) in enumerate(zip(adapters.gpu, adapters.load_share, strict=True)):
        rows[gpu][row] = share
    return tuple(
        TileView(tile, tuple(_cell_view(cell, adapters, steps) for cell in treemap(rows[tile.gpu])))
        for tile in tiles
    )


def _cell_view(cell: Cell, adapters: AdapterTable, steps: Mapping[int, int]) -> CellView:
    share = f"{sum(adapters.load_share[row] for row in cell.rows):.1%} of the load"
    if len(cell.rows) > 1:
        label, step = f"{len(cell.rows):,} more", 0
        spoken = f"{label}, which are smaller: {share}"
    else:
        (row,) = cell.rows
        label, step = adapters.name[row], steps[adapters.rank[row]]
        spoken = f"{label}: {rank_words([adapters.rank[row]])}, {share}"
    return CellView(cell, step, label if cell.holds(label) else "", spoken)


def rank_words(ranks: Sequence[int]) -> str:
    """Ranks in words: ``base model``, ``rank 8``, ``ranks 8 to 16``."""
    if ranks == [0]:
        return "base model"
    low, high = min(ranks), max(ranks)
    return f"rank {low}" if low == high else f"ranks {low} to {high}"
