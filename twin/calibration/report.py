"""What a calibration says of itself: its errors, and where its profile's numbers come from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from scenarios.plots import Bar, draw_bars
from scenarios.result_view import ResultView
from scenarios.text.tables import Part
from twin.calibration.measurements import Probe
from twin.calibration.run_evidence import RunEvidence
from twin.measured.report import METRICS, FidelityReport, as_text, frame_table, starved_runs
from twin.measured.runs import MeasuredRun
from twin.profile import EngineProfile, GroupError
from twin.step_cost import CostTerm

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class CalibrationReport(ResultView):
    """How good a calibration is.

    ``plot`` draws by how much the fitted step time is off, by group of runs.

    Parameters
    ----------
    left_out
        Every run beside the prediction of a profile that was fitted without the run's group.
    fitted
        Measured over fitted mean step time of every run that was used, minus 1, by group and quality.
    rounds
        Mean change of the step cost that matching still asked for, per round.
    notes
        What the measurements do not say, in words.
    """

    left_out: FidelityReport | None
    fitted: pd.DataFrame
    rounds: tuple[float, ...]
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        tested = "not tested" if self.left_out is None else "tested"
        return f"<CalibrationReport: {self.fitted['runs'].sum():,} runs fitted, {tested} on groups left out>"

    def __str__(self) -> str:
        return self.summary()

    def _draw(self, ax: Axes | None) -> Figure:
        bars = [
            Bar(f"{row['group']}, {row['quality']}", row["bias"], f"{row['bias']:+.2f} %, {row['runs']} runs")
            for row in self.fitted.to_dict("records")
        ]
        unit = "mean of measured over fitted step time minus 1, in percent"
        return draw_bars(ax, "Step times of the fitted profile", bars, unit, line=(0.0, "as measured"))

    def _shown(self) -> Iterable[Part]:
        title = "step time, measured over fitted, percent"
        left_out = () if self.left_out is None else self.left_out._shown()
        return [repr(self).strip("<>"), frame_table(self.fitted, title=title), *left_out, *self.notes]

    def summary(self) -> str:
        """Tables for a terminal, at most 100 columns wide."""
        blocks = [f"Step time, measured over fitted, percent\n{as_text(self.fitted)}"]
        if self.left_out is not None:
            names = {f"{metric}_smape": metric for metric in METRICS}
            errors = self.left_out.errors(("group", "quality")).rename(columns=names)
            kept = ["group", "quality", "runs", *METRICS]
            title = "Groups left out of the fit, usual SMAPE in percent"
            blocks += [f"{title}\n{as_text(errors[kept])}", self.left_out.summary()]
        return "\n\n".join([*blocks, *self.notes])


def unvaried(runs: Sequence[MeasuredRun], probes: Sequence[Probe]) -> tuple[str, ...]:
    """Arguments of engines of which all measurements with LoRA have one value, in words.

    What they cost is then part of other terms, which do not change with them.
    """
    with_lora: list[MeasuredRun | Probe] = [*runs, *(probe for probe in probes if probe.max_loras)]
    found = []
    for name in ("max_loras", "max_lora_rank"):
        values = {getattr(one, name) for one in with_lora}
        if len(values) == 1:
            found.append(f"measured with {name} {values.pop()} alone: others are taken to cost the same")
    return tuple(found)


def fitted_errors(
    evidence: Sequence[RunEvidence], profile: EngineProfile, terms: Sequence[CostTerm]
) -> pd.DataFrame:
    """Measured over fitted mean step time, minus 1, in percent, by group and quality.

    Parameters
    ----------
    evidence
        Matched runs.
    profile
        The fitted profile.
    terms
        Candidate terms behind the features of the runs.
    """
    fitted = {term.name: term.seconds for term in profile.step.terms}
    solution = np.array([fitted.get(term.name, 0.0) for term in terms])
    rows = []
    for e in evidence:
        seconds = float(e.features @ solution) + e.load_s
        rows.append((e.group, e.quality, 100 * (e.seconds / seconds - 1)))
    frame = pd.DataFrame(rows, columns=["group", "quality", "error"])
    grouped = frame.groupby(["group", "quality"])["error"]
    return grouped.agg(runs="size", bias="mean", mean_abs=lambda e: e.abs().mean()).reset_index()


def group_errors(left_out: FidelityReport) -> Iterator[GroupError]:
    """Errors of predictions, and how many runs' starvation is foretold wrongly, by group and quality."""
    both = left_out.to_frame()
    wrong = pd.Series(starved_runs(both) != both["predicted_starved"])
    counts = wrong[both["starved"].notna()].groupby([both["group"], both["quality"]]).sum()
    for row in left_out.errors(("group", "quality")).to_dict(orient="records"):
        smapes = {f"{name}_smape": _percent(row[f"{name}_smape"]) for name in METRICS}
        key = (row["group"], row["quality"])
        yield GroupError(
            group=row["group"],
            quality=row["quality"],
            runs=row["runs"],
            starvation_wrong=int(counts.get(key, 0)),
            **smapes,
        )


def _percent(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None
