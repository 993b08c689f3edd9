"""What the templates of the page ask of a report: its figures as texts, rectangles and bars."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from optimizer.reporting import headlines
from optimizer.reporting.contents import AdapterTable, Answer, Percentiles, PlanReport, Tile, WhatIfGrid
from optimizer.reporting.treemap import Cell, rank_steps, treemap
from scenarios.text.formatting import counted
from scenarios.text.tables import cell_text

MOST_BARS = 12
"""Weights that are drawn; the rest is one bar together."""

COLUMNS: Mapping[str, tuple[str, str]] = {
    "name": ("adapter", "text"),
    "gpu": ("GPU", "number"),
    "rank": ("rank", "number"),
    "rate": ("requests/s", "number"),
    "load_share": ("share of its GPU", "share"),
    "served_share": ("served", "share"),
    "ttft_p50_ms": ("first token p50, ms", "number"),
    "ttft_p99_ms": ("first token p99, ms", "number"),
    "itl_ms": ("per token, ms", "number"),
    "loads": ("loads", "number"),
}
"""Columns of the table of adapters: heading, and how a value is shown."""

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


class Bar(NamedTuple):
    """A number with its bar."""

    name: str
    text: str
    share: float
    """Length of the bar, of the longest."""


class CellView(NamedTuple):
    """An adapter in its tile."""

    cell: Cell
    step: int
    """Of the colour scale; 0 of the base model and of many together."""
    label: str
    """Name, where it has room."""
    spoken: str


@dataclass(frozen=True)
class TileView:
    """A GPU of the plan."""

    tile: Tile
    cells: tuple[CellView, ...]

    @property
    def margin(self) -> str:
        """How far the nearest limit is, as a factor."""
        return "–" if self.tile.margin is None else f"×{math.exp(self.tile.margin):.2f}"

    @property
    def latencies(self) -> tuple[tuple[str, Percentiles], ...]:
        """Latencies with their names, those that were measured."""
        named = (("first token", self.tile.ttft), ("per token", self.tile.itl))
        return tuple((name, values) for name, values in named if values != Percentiles())

    @property
    def made_of(self) -> tuple[Bar, ...]:
        """What the fill is made of."""
        return bars(self.tile.made_of, percent=True)

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


class GridLine(NamedTuple):
    """The cells at one patience, in words."""

    exact: tuple[str, ...]
    greedy: tuple[str, ...]
    exact_cost: tuple[str, ...]
    greedy_cost: tuple[str, ...]


@dataclass(frozen=True)
class GridView:
    """The grid of *what if*."""

    grid: WhatIfGrid
    lines: tuple[GridLine, ...]

    @property
    def first_line(self) -> int:
        """The line of the plan's own patience, or the first."""
        planned, known = self.grid.planned_patience_s, self.grid.patience_s
        return known.index(planned) if planned in known else 0

    @property
    def first_load(self) -> int:
        """The load that is nearest to the plan's own."""
        factors = self.grid.load_factors
        return min(range(len(factors)), key=lambda k: abs(factors[k] - 1))

    def data(self) -> dict[str, Any]:
        """What the sliders need."""
        grid = self.grid
        return {
            "loads": grid.load_factors,
            "patience": grid.patience_s,
            "command": grid.command,
            "lines": [line._asdict() for line in self.lines],
            "exact": [[cell.gpus for cell in line] for line in grid.exact],
            "bound": [[cell.bound for cell in line] for line in grid.exact],
            "greedy": [[cell.gpus for cell in line] for line in grid.greedy],
        }


@dataclass(frozen=True)
class PlanView:
    """One plan of the page."""

    key: str
    plan: PlanReport
    tiles: tuple[TileView, ...]
    steps: dict[int, int]
    """By rank, the step of the colour scale."""
    grid: GridView | None

    @property
    def answer(self) -> Answer:
        """The plan's answer."""
        return self.plan.answer

    @property
    def headline(self) -> str:
        """The answer in two or three words."""
        return headlines.headline(self.answer)

    @property
    def label(self) -> str:
        """Name of the plan among several."""
        return f"{self.plan.name}, {self.answer.method}"

    @property
    def verdict(self) -> str:
        """What the simulation says."""
        return headlines.verdict(self.answer, sum(tile.tile.accepted is False for tile in self.tiles))

    @property
    def legend(self) -> tuple[tuple[int, str], ...]:
        """Steps of the colour scale that occur, each with the ranks that it stands for."""
        ranks: dict[int, list[int]] = defaultdict(list)
        for rank, step in self.steps.items():
            ranks[step].append(rank)
        return tuple((step, _rank_words(held)) for step, held in sorted(ranks.items()))

    @property
    def tight_rows(self) -> tuple[tuple[str, str, str], ...]:
        """What limits the GPUs: the row's words, how many GPUs, and how full they are by it."""
        rows: dict[str, list[float]] = defaultdict(list)
        for view in self.tiles:
            if view.tile.tight_row is not None and view.tile.fill is not None:
                rows[view.tile.tight_row].append(view.tile.fill)
        often = sorted(rows.items(), key=lambda row: -len(row[1]))
        return tuple((words, counted(len(fills), "GPU"), _range(fills)) for words, fills in often)

    @property
    def weights(self) -> tuple[Bar, ...]:
        """Dual weights as bars; what does not fit in one bar together."""
        reasons = self.plan.reasons
        named = sorted(reasons.weights.items(), key=lambda item: -item[1])
        rest = sum(weight for _, weight in named[MOST_BARS:]) + reasons.other_weights
        all_others = {"all others": rest} if rest > 5e-4 else {}
        return bars({**dict(named[:MOST_BARS]), **all_others})

    @property
    def savings(self) -> tuple[tuple[str, str, Bar | None], ...]:
        """What could be changed: name, sentence, and what it saves where that is known."""
        savings = self.plan.reasons.savings
        known = bars({str(k): one.saves for k, one in enumerate(savings) if one.saves is not None})
        by_number = {int(bar.name): bar for bar in known}
        return tuple((one.name, one.text, by_number.get(k)) for k, one in enumerate(savings))

    def slowest(self, latency: str, figure: str) -> float | None:
        """The largest figure of a latency over all GPUs: ``ttft`` or ``itl``, and a name of `Percentiles`."""
        figures = [getattr(getattr(view.tile, latency), figure) for view in self.tiles]
        return max((value for value in figures if value is not None), default=None)

    def data(self) -> dict[str, Any]:
        """What the page's JavaScript needs of the plan."""
        table = self.plan.adapters
        return {
            "key": self.key,
            "label": self.label,
            "gpus": self.answer.gpus,
            "adapters": {name: getattr(table, name) for name in (*COLUMNS, "served_name")},
            "tiles": [
                {"gpu": view.tile.gpu, "like": view.tile.like, "order": view.order_keys}
                for view in self.tiles
            ],
            "runs": [run.model_dump() for run in self.plan.runs],
            "grid": None if self.grid is None else self.grid.data(),
        }


def plan_view(number: int, plan: PlanReport) -> PlanView:
    """Prepare one plan, the ``number``-th of the page."""
    steps = rank_steps(plan.adapters.rank)
    rows: dict[int, dict[int, float]] = defaultdict(dict)
    for row, (gpu, share) in enumerate(zip(plan.adapters.gpu, plan.adapters.load_share, strict=True)):
        rows[gpu][row] = share
    tiles = tuple(
        TileView(tile, tuple(_cell_view(cell, plan.adapters, steps) for cell in treemap(rows[tile.gpu])))
        for tile in plan.tiles
    )
    grid = None if plan.what_if is None else _grid_view(plan.what_if)
    return PlanView(f"p{number}", plan, tiles, steps, grid)


def bars(values: Mapping[str, float], *, percent: bool = False) -> tuple[Bar, ...]:
    """Numbers with bars, each as long as its part of the largest."""
    longest = max((abs(value) for value in values.values()), default=0.0) or 1.0
    return tuple(
        Bar(name, f"{value:.0%}" if percent else f"{value:,.2f}", max(0.0, value) / longest)
        for name, value in values.items()
    )


def table_rows(adapters: AdapterTable, most: int) -> Iterable[Sequence[str]]:
    """The first rows of the table of adapters as texts, at most so many."""
    columns = [
        [_shown(value, kind) for value in getattr(adapters, name)[:most]]
        for name, (_, kind) in COLUMNS.items()
    ]
    return zip(*columns, strict=True)


def _shown(value: object, kind: str) -> str:
    return f"{value:.1%}" if kind == "share" and isinstance(value, float) else cell_text(value)


def _cell_view(cell: Cell, adapters: AdapterTable, steps: Mapping[int, int]) -> CellView:
    share = f"{sum(adapters.load_share[row] for row in cell.rows):.1%} of the load"
    if len(cell.rows) > 1:
        label, step, spoken = (
            f"{len(cell.rows):,} more",
            0,
            f"{len(cell.rows):,} more, which are smaller: {share}",
        )
    else:
        (row,) = cell.rows
        label, step = adapters.name[row], steps[adapters.rank[row]]
        spoken = f"{label}: {_rank_words([adapters.rank[row]])}, {share}"
    return CellView(cell, step, label if cell.holds(label) else "", spoken)


def _rank_words(ranks: Sequence[int]) -> str:
    if ranks == [0]:
        return "base model"
    low, high = min(ranks), max(ranks)
    return f"rank {low}" if low == high else f"ranks {low} to {high}"


def _range(fills: Sequence[float]) -> str:
    low, high = f"{min(fills):.0%}", f"{max(fills):.0%}"
    return high if low == high else f"{low} to {high}"


def _grid_view(grid: WhatIfGrid) -> GridView:
    price = grid.cost_of_gpu_per_month
    lines = tuple(
        GridLine(
            tuple(map(headlines.cell_words, exact)),
            tuple(map(headlines.cell_words, greedy)),
            tuple(headlines.cost_words(cell, price) for cell in exact),
            tuple(headlines.cost_words(cell, price) for cell in greedy),
        )
        for exact, greedy in zip(grid.exact, grid.greedy, strict=True)
    )
    return GridView(grid, lines)
