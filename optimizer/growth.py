"""How many times its load a plan could have before the twin rejects a GPU of it, and which one."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, computed_field

from scenarios import Acceptance, visible
from scenarios.base import PlainDir
from scenarios.plots import Bar, draw_bars
from scenarios.result_view import ResultView
from scenarios.stopping.progress import Progress, silent
from scenarios.text.tables import Part, item, render
from twin import GPUVerdict, PlacementJudge, TwinJudge, profiles_of
from twin.gpu_table import gpu_table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from optimizer.result import Result

SHOWN = ("gpu", "accepted", "growth_factor", "margin", "first_to_suffer", "corner")
"""What a data frame has of each GPU."""


class GrowthReport(ResultView, PlainDir, BaseModel):
    """What `Result.growth` returns; prints as text.

    ``plot`` draws how many times its load each GPU bears.
    """

    # What is computed from the fields is written into JSON and ignored when that is read again.
    model_config = ConfigDict(frozen=True, extra="ignore")

    acceptance: Acceptance = Field(description="By what criterion GPUs are accepted.")
    gpus: tuple[GPUVerdict, ...] = Field(
        description="The twin's verdict on each GPU, with growth_factor: how many times its load it could "
        "have, to 1 %, and be accepted; null where not even a small part. No GPU: there is no plan."
    )

    @property
    def _least(self) -> GPUVerdict | None:
        """The GPU that can bear the least more."""
        return min(self.gpus, key=lambda verdict: verdict.growth_factor or 0.0, default=None)

    @computed_field(description="How many times its load the plan could have: the least of its GPUs.")  # type: ignore[prop-decorator]
    @property
    def growth_factor(self) -> float | None:
        """How many times its load the plan could have: the least of its GPUs."""
        return None if self._least is None else self._least.growth_factor

    @computed_field(description="Number of the GPU that bears no more.")  # type: ignore[prop-decorator]
    @property
    def gpu(self) -> int | None:
        """Number of the GPU that bears no more."""
        return None if self._least is None else self._least.gpu

    def to_frame(self) -> pd.DataFrame:
        """One row per GPU, in the order of the placement."""
        rows = ({"gpu": verdict.gpu, **verdict.figures} for verdict in self.gpus)
        return pd.DataFrame(rows, columns=list(SHOWN))

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return self.model_dump(mode="json")

    def to_json(self) -> str:
        """JSON of everything."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    @property
    def headline(self) -> str:
        """How many times its load the plan bears, and which GPU says so."""
        least = self._least
        if least is None:
            return "there is no plan whose load could grow"
        return f"the plan bears {_times(least.growth_factor)}, as GPU {least.gpu} bears no more"

    def parts(self) -> list[Part]:
        """The report in parts that `scenarios.text.tables.render` renders."""
        return [
            f"Growth ({self.acceptance}): {self.headline}",
            *(item(_line(verdict)) for verdict in self.gpus),
        ]

    def _draw(self, ax: Axes | None) -> Figure:
        bars = [_bar(verdict) for verdict in self.gpus]
        return draw_bars(
            ax, f"Growth ({self.acceptance}): {self.headline}", bars, "times its load",
            line=(1.0, "the load of the plan"), good="a GPU bears", bad="less than its load",
        )  # fmt: skip

    def _shown(self) -> Iterable[Part]:
        return [f"Growth ({self.acceptance}): {self.headline}", gpu_table(self.gpus)]

    def summary(self) -> str:
        """The report as text."""
        return render(*self.parts())

    def __repr__(self) -> str:
        return f"<GrowthReport: {self.headline}>"

    def __str__(self) -> str:
        return self.summary()


def _times(factor: float | None) -> str:
    return "not even a small part of its load" if factor is None else f"{factor:.2f} times its load"


def _bar(verdict: GPUVerdict) -> Bar:
    """How many times its load a GPU bears, and who suffers first."""
    factor = verdict.growth_factor
    first = "" if verdict.first_to_suffer is None else f", {verdict.first_to_suffer}"
    words = "none" if factor is None else f"{factor:.2f}{first}"
    return Bar(f"GPU {verdict.gpu}", factor, words, factor is not None and factor >= 1)


def _line(verdict: GPUVerdict) -> str:
    """What is said of one GPU."""
    said = "" if verdict.accepted else "rejected; "
    first = "" if verdict.first_to_suffer is None else f"; {visible(verdict.first_to_suffer)} suffers first"
    corner = "" if verdict.corner is None else f"; worst corner: {verdict.corner}"
    return f"GPU {verdict.gpu}: {said}bears {_times(verdict.growth_factor)}{first}{corner}"


def growth_of(result: Result, *, workers: int = 1, progress: Progress = silent) -> GrowthReport:
    """Find how many times its load each GPU of a result's plan could have, and be accepted.

    It takes about a dozen verdicts for each distinct GPU.

    Parameters
    ----------
    result
        Of any method.
    workers
        Threads. The report does not depend on it.
    progress
        Called with progress.

    Raises
    ------
    twin.UnknownProfileError, twin.ProfileError
        If an engine profile is not to be had.
    Stopped
        If the work is interrupted.
    """
    if result.placement is None:
        return GrowthReport(acceptance=result.acceptance, gpus=())
    scenario = result.scenario
    judge = PlacementJudge(TwinJudge(scenario, profiles_of(scenario), workers, progress))
    verdicts = judge.report(result.placement.gpus, growth=True).gpus
    return GrowthReport(acceptance=scenario.acceptance, gpus=verdicts)
