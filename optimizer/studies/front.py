"""What latency costs: the best plan on each number of GPUs, and which of them nothing beats in both."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import pandas as pd

from optimizer.result import Result
from optimizer.result_text import objective_heading
from optimizer.search.params import DEFAULTS, SolveParams
from optimizer.search.solve import solve
from scenarios import Problem, Scenario, ScenarioError
from scenarios.result_view import ResultView
from scenarios.stopping.progress import Progress, silent
from scenarios.text.tables import Part, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


class FrontPoint(NamedTuple):
    """One plan that the twin accepts.

    Parameters
    ----------
    gpus
        Its GPUs.
    cost_per_hour
        What they cost; None where a device has no price.
    value
        Its latency in ms, by the front's objective.
    best
        Whether no plan on as few or fewer GPUs has as little.
    """

    gpus: int
    cost_per_hour: float | None
    value: float
    best: bool


@dataclass(frozen=True)
class Front(ResultView):
    """The best plans in a latency, by the number of GPUs.

    ``plot`` draws the latency over the cost, or over the GPUs where there is no price, with the plans that
    nothing beats in both.

    Parameters
    ----------
    objective
        The latency.
    results
        One for each number of GPUs that was asked about, ascending.
    """

    objective: str
    results: tuple[Result, ...]

    @property
    def points(self) -> tuple[FrontPoint, ...]:
        """The plans that the twin accepts, by what they cost."""
        found: list[FrontPoint] = []
        for result in self.results:
            if result.accepted and result.gpus is not None and result.objective is not None:
                best = all(result.objective < point.value for point in found)
                found.append(FrontPoint(result.gpus, result.cost_per_hour, result.objective, best))
        return tuple(found)

    @property
    def heading(self) -> str:
        """The latency with its unit."""
        return objective_heading(self.objective)

    @property
    def headline(self) -> str:
        """What is compared, in a line."""
        first = self.results[0]
        return f"{first.scenario.name} ({first.acceptance}): {self.heading} over GPUs"

    def to_frame(self) -> pd.DataFrame:
        """One row per accepted plan."""
        return pd.DataFrame(self.points, columns=list(FrontPoint._fields))

    def _draw(self, ax: Axes | None) -> Figure:
        from optimizer.plots import draw_front

        return draw_front(self, ax)

    def _shown(self) -> Iterable[Part]:
        rows = [(p.gpus, p.cost_per_hour, p.value, p.best) for p in self.points]
        lost = [result for result in self.results if not result.accepted]
        return [
            self.headline,
            table((">GPUs", ">cost/h", f">{self.heading}", "nothing is better"), rows),
            *(result.message for result in lost),
        ]

    def __repr__(self) -> str:
        return (
            f"<Front: {self.objective} on {len(self.results)} numbers of GPUs, {len(self.points)} accepted>"
        )


def front(
    scenario: Scenario,
    gpus: Sequence[int],
    objective: str = "latency",
    method: str = "exact",
    *,
    time_limit_s: float = 60.0,
    workers: int = 1,
    progress: Progress = silent,
    params: SolveParams = DEFAULTS,
) -> Front:
    """Find the best plan in a latency on each of some numbers of GPUs.

    Parameters
    ----------
    scenario
        What to place.
    gpus
        Numbers of GPUs.
    objective
        A latency of `optimizer.solve`: ``latency``, ``ttft``, ``worst_ttft_p99``, ...
    method, time_limit_s, workers, progress, params
        As in `optimizer.solve`, for each of them.

    Raises
    ------
    ScenarioError
        If there is no number of GPUs, or `optimizer.solve` refuses an argument.
    """
    if not gpus:
        raise ScenarioError([Problem("gpus", "is empty", "give at least one number of GPUs")], "front")
    results = [
        solve(
            scenario, method, objective=objective, gpus=number, time_limit_s=time_limit_s, workers=workers,
            progress=progress, params=params,
        )
        for number in sorted(set(gpus))
    ]  # fmt: skip
    return Front(objective, tuple(results))
