"""The grid of *what if* as the page shows it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from optimizer.reporting.contents import WhatIfGrid
from optimizer.reporting.page import headlines


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


def grid_view(grid: WhatIfGrid) -> GridView:
    """Put the cells of a grid into words."""
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
