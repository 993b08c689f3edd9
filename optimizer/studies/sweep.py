"""Several placers over the values of one key of a scenario: a load, a patience, a length."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd

from optimizer.comparison import compare
from optimizer.result import Result
from optimizer.search.params import DEFAULTS, SolveParams
from scenarios import Problem, Scenario, ScenarioError, override
from scenarios.result_view import ResultView
from scenarios.stopping.progress import Progress, silent
from scenarios.text.tables import Part, Table, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Sweep(ResultView):
    """Plans of several methods, value by value.

    ``plot`` draws the GPUs of each method over the values.

    Parameters
    ----------
    path
        The key that was changed, as ``--set`` names it.
    values
        Its values, ascending.
    results
        For each value the results of the methods, in one order.
    """

    path: str
    values: tuple[float, ...]
    results: tuple[tuple[Result, ...], ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods."""
        return tuple(result.method for result in self.results[0])

    def to_frame(self) -> pd.DataFrame:
        """One row per value and method: GPUs, bound, and whether the twin accepts."""
        return pd.DataFrame(
            {
                self.path: value,
                "method": result.method,
                "gpus": result.gpus,
                "bound": result.bound,
                "accepted": result.accepted,
            }
            for value, results in zip(self.values, self.results, strict=True)
            for result in results
        )

    @property
    def headline(self) -> str:
        """What was changed, in a line."""
        first = self.results[0][0]
        return f"{first.scenario.name} ({first.acceptance}): GPUs over {self.path}"

    def _draw(self, ax: Axes | None) -> Figure:
        from optimizer.plots import draw_sweep

        return draw_sweep(self, ax)

    def _shown(self) -> Iterable[Part]:
        return [self.headline, self._table()]

    def _table(self) -> Table:
        rows = [
            [value, *(_gpus(result) for result in results)]
            for value, results in zip(self.values, self.results, strict=True)
        ]
        return table([f">{self.path}", *(f">{name}" for name in self.methods)], rows)

    def __repr__(self) -> str:
        return f"<Sweep: {', '.join(self.methods)} over {len(self.values)} values of {self.path}>"


def sweep(
    scenario: Scenario,
    path: str,
    values: Sequence[float],
    methods: str | Iterable[str] = ("greedy", "exact"),
    *,
    time_limit_s: float = 60.0,
    workers: int = 1,
    progress: Progress = silent,
    params: SolveParams = DEFAULTS,
) -> Sweep:
    """Solve a scenario with each method at each value of a key.

    The objective is gpus alone.

    Parameters
    ----------
    scenario
        Stays as it is.
    path
        A key, as ``--set`` names it: ``adapters[0].rate``.
    values
        Its values.
    methods
        Placers.
    time_limit_s
        For the search of each method at each value.
    workers, progress, params
        As in `optimizer.solve`.

    Raises
    ------
    ScenarioError
        If there is no value, the scenario does not take one, or a method is unknown; found before anything
        is solved.
    """
    if not values:
        raise ScenarioError([Problem("values", "is empty", "give at least one value")], "sweep")
    ordered = tuple(sorted(set(values)))
    changed = [override(scenario, f"{path}={value:.12g}") for value in ordered]
    found = compare(
        changed, methods, objective="gpus", time_limit_s=time_limit_s, workers=workers, progress=progress,
        params=params,
    )  # fmt: skip
    return Sweep(path, ordered, tuple(tuple(group) for group in found.by_scenario()))


def _gpus(result: Result) -> str:
    """GPUs in a cell, with what is not as it should be."""
    if result.gpus is None:
        return result.status.replace("_", " ")
    return f"{result.gpus}" if result.accepted else f"{result.gpus} REJECTED"
