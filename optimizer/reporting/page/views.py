"""What the templates of the page ask of a report: its figures as texts, rectangles and bars."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from optimizer.reporting.contents import AdapterTable, Answer, GPURun, PlanReport
from optimizer.reporting.page import headlines
from optimizer.reporting.page.bars import Bar, bars
from optimizer.reporting.page.grid_view import GridView, grid_view
from optimizer.reporting.page.tile_view import TileView, rank_words, tile_views
from optimizer.reporting.page.treemap import rank_steps
from scenarios.text.formatting import counted
from scenarios.text.tables import cell_text

MOST_BARS = 16
"""Weights that are drawn; the rest is one number together."""

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


@dataclass(frozen=True)
class PlanView:
    """One plan of the page."""

    key: str
    plan: PlanReport
    tiles: tuple[TileView, ...]
    steps: dict[int, int]
    """By rank, the step of the colour scale."""
    grid: GridView | None
    scenario_of: PlanView | None = None
    """An earlier plan for the very same scenario, whose text then stands on the page once."""

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
        return tuple((step, rank_words(held)) for step, held in sorted(ranks.items()))

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
        """Dual weights as bars, and the sum of all others."""
        reasons = self.plan.reasons
        named = sorted(reasons.weights.items(), key=lambda item: -item[1])
        rest = sum(weight for _, weight in named[MOST_BARS:]) + reasons.other_weights
        all_others = (Bar("all others", f"{rest:,.2f}", 0.0),) if rest >= 5e-3 else ()
        return (*bars(dict(named[:MOST_BARS])), *all_others)

    @property
    def savings(self) -> tuple[tuple[str, str, Bar | None], ...]:
        """What could be changed: name, sentence, and what it saves where that is known."""
        savings = self.plan.reasons.savings
        saved = {str(k): one.saves for k, one in enumerate(savings) if one.saves is not None}
        known = bars(saved, longest=max(1.0, *saved.values()) if saved else 1.0)
        by_number = {int(bar.name): bar for bar in known}
        return tuple((one.name, one.text, by_number.get(k)) for k, one in enumerate(savings))

    def slowest(self, latency: str, figure: str) -> float | None:
        """The largest figure over all GPUs: of ``ttft`` or ``itl``, a name of `twin.LatencyFigures`."""
        figures = [getattr(getattr(view.tile, latency), figure) for view in self.tiles]
        return max((value for value in figures if value is not None), default=None)

    def data(self) -> dict[str, Any]:
        """What the page's JavaScript needs of the plan."""
        table = self.plan.adapters
        return {
            "key": self.key,
            "label": self.label,
            "gpus": self.answer.gpus,
            "accepted": self.answer.accepted,
            "adapters": {name: getattr(table, name) for name in (*COLUMNS, "served_name")},
            "tiles": [view.data() for view in self.tiles],
            "runs": [_run_data(run) for run in self.plan.runs],
            "grid": None if self.grid is None else self.grid.data(),
        }


def plan_views(plans: Iterable[PlanReport]) -> tuple[PlanView, ...]:
    """Prepare the plans of a page."""
    views, first = [], dict[str, PlanView]()
    for number, plan in enumerate(plans):
        text = plan.origin.scenario_yaml
        views.append(_plan_view(number, plan, first.get(text)))
        first.setdefault(text, views[-1])
    return tuple(views)


def _plan_view(number: int, plan: PlanReport, scenario_of: PlanView | None) -> PlanView:
    steps = rank_steps(plan.adapters.rank)
    tiles = tile_views(plan.tiles, plan.adapters, steps)
    grid = None if plan.what_if is None else grid_view(plan.what_if)
    return PlanView(f"p{number}", plan, tiles, steps, grid, scenario_of)


def table_rows(adapters: AdapterTable, most: int) -> Iterable[Sequence[str]]:
    """The first rows of the table of adapters as texts, at most so many."""
    columns = [
        [_shown(value, kind) for value in getattr(adapters, name)[:most]]
        for name, (_, kind) in COLUMNS.items()
    ]
    return zip(*columns, strict=True)


def _run_data(run: GPURun) -> dict[str, Any]:
    """A run without the starts of its parts, which follow from the first one."""
    return {**run.model_dump(exclude={"start_s"}), "first_s": run.start_s[0] if run.start_s else 0.0}


def _shown(value: object, kind: str) -> str:
    return f"{value:.1%}" if kind == "share" and isinstance(value, float) else cell_text(value)


def _range(fills: Sequence[float]) -> str:
    low, high = f"{min(fills):.0%}", f"{max(fills):.0%}"
    return high if low == high else f"{low} to {high}"
