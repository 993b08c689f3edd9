"""Results of ``vllm bench serve`` beside what the twin says of the same requests."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from scenarios import spreadsheet_cell, write_whole
from scenarios.plots import Bar, draw_bars
from scenarios.result_view import ResultView
from scenarios.stopping.progress import Progress, silent
from scenarios.text.tables import Part
from twin.measured.bench_runs import BenchEngine, BenchRun, bench_runs
from twin.measured.params import FidelityParams
from twin.measured.predict import predict_all
from twin.measured.report import as_text, frame_table
from twin.profile import EngineProfile, find_profile, read_profile

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FIGURES = {
    "throughput tok/s": ("total_throughput", "predicted_total_throughput"),
    "output tok/s": ("output_throughput", "predicted_output_throughput"),
    "TTFT ms": ("ttft_mean_ms", "predicted_ttft_ms"),
    "TPOT ms": ("tpot_mean_ms", "predicted_tpot_ms"),
    "ITL ms": ("itl_mean_ms", "predicted_itl_ms"),
}
"""Measured and predicted columns of each figure; latencies are means."""

NO_START = "the engine does not start by the profile's memory: give --kv-cache-tokens, as its log tells"


@dataclass(frozen=True)
class BenchFidelity(ResultView):
    """Results beside predictions, in the same order.

    ``plot`` draws by how much the twin is off in each figure.

    Parameters
    ----------
    runs
        The results.
    predictions
        What the twin says; nan where its engine would not start.
    profiles
        Name of the profile behind each prediction.
    """

    runs: tuple[BenchRun, ...]
    predictions: pd.DataFrame
    profiles: tuple[str, ...]

    def __repr__(self) -> str:
        return f"<BenchFidelity: {len(self.runs):,} runs>"

    def __str__(self) -> str:
        return self.summary()

    def table(self) -> pd.DataFrame:
        """One row per result and figure: measured, twin, and the twin's error in percent of measured."""
        rows = []
        for run, said in zip(self.runs, self.predictions.to_dict("records"), strict=True):
            for figure, (measured, predicted) in FIGURES.items():
                known, foretold = getattr(run, measured), said[predicted]
                error = math.nan if not known else 100 * (foretold / known - 1)
                rows.append((run.run_id, figure, math.nan if known is None else known, foretold, error))
        return pd.DataFrame(rows, columns=["result", "figure", "measured", "twin", "error %"])

    def _draw(self, ax: Axes | None) -> Figure:
        bars = [
            Bar(f"{row['result']}, {row['figure']}", *_error(row["error %"]))
            for row in self.table().to_dict("records")
        ]
        title = f"{len(self.runs):,} results of vllm bench serve, and what the twin foretells"
        return draw_bars(ax, title, bars, "twin over measured minus 1, in percent", line=(0.0, "as measured"))

    def _shown(self) -> Iterable[Part]:
        return [f"{len(self.runs):,} results of vllm bench serve", frame_table(self.table()), *self.notes()]

    def notes(self) -> list[str]:
        """What is taken for granted, or was not possible, result by result."""
        found = []
        for run, starts in zip(self.runs, self.predictions["predicted_starts"], strict=True):
            known = [*run.assumed, *([] if starts or run.kv_cache_tokens else [NO_START])]
            found += [f"{run.run_id}: {note}" for note in known]
        return found

    def summary(self) -> str:
        """A table for a terminal, and what is taken for granted."""
        profiles = ", ".join(sorted(set(self.profiles)))
        table = self.table()
        blocks = []
        for name, part in table.groupby("result", sort=False):
            blocks.append(f"{name}\n{as_text(part.drop(columns='result'))}")
        lines = "\n".join([*self.notes(), f"profile: {profiles}"])
        return "\n\n".join([*blocks, lines])

    def to_dict(self) -> dict[str, Any]:
        """Every result with its figures, of plain values; None where one is not known."""
        results: list[dict[str, Any]] = []
        table = self.table()
        for run, profile in zip(self.runs, self.profiles, strict=True):
            rows = table[table["result"] == run.run_id].to_dict("records")
            figures = {
                FIGURES[row["figure"]][0]: {
                    "measured": _known(row["measured"]),
                    "twin": _known(row["twin"]),
                    "error_percent": _known(row["error %"]),
                }
                for row in rows
            }
            results.append(
                {"result": run.run_id, "profile": profile, "figures": figures, "assumed": list(run.assumed)}
            )
        return {"results": results, "notes": self.notes()}

    def to_json(self) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def write_predictions(self, path: str | Path) -> None:
        """Write the predictions as CSV, in which a spreadsheet finds no formula.

        Raises
        ------
        OutputFileError
            If the file cannot be written.
        """
        cells = self.predictions.map(spreadsheet_cell)
        write_whole(path, cells.to_csv(index=False, float_format="%.6g"))


def _error(percent: float) -> tuple[float | None, str]:
    """An error as a bar shows it, and in words."""
    return (percent, f"{percent:+.1f} %") if math.isfinite(percent) else (None, "not known")


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def bench_fidelity(
    files: Sequence[str | Path],
    engine: BenchEngine,
    profile: EngineProfile | str | Path | None = None,
    *,
    device: str | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = silent,
    params: FidelityParams | None = None,
) -> BenchFidelity:
    """Simulate every result of ``vllm bench serve`` and compare with what was measured.

    A run is played to the last answer: at the instants and of the lengths that a file of ``--save-detailed``
    tells, else drawn as the benchmark draws them, all requests being of the mean lengths. Adapters are drawn
    for each request, as the benchmark does; which one it drew, no file tells.

    Parameters
    ----------
    files
        JSON files that ``vllm bench serve --save-result`` wrote, of one engine.
    engine
        What they do not say of it.
    profile
        Profile, or file of one; absent: the shipped one of each result's model.
    device
        Device of the shipped profiles; absent: the only one of each model.
    seed
        Seed of everything random.
    workers
        Processes.
    progress
        Called with progress.
    params
        Parameters of the comparison; absent: their defaults.

    Raises
    ------
    ScenarioError
        If a file is none, or if something is missing that no file says: all of it is named.
    ProfileError, UnknownProfileError
        If there is no profile.
    UnservableRequestError
        If the KV cache cannot hold one of the requests.
    """
    runs = bench_runs(files, engine)
    given = read_profile(profile) if isinstance(profile, str | Path) else profile
    profiles = {name: given or find_profile(name, device) for name in sorted({run.model for run in runs})}
    said = predict_all(runs, profiles.__getitem__, seed, workers, progress, params)
    # Whether a run starves is a question of an endless stream, not of so many requests.
    said = said.drop(columns="predicted_starved")
    return BenchFidelity(tuple(runs), said, tuple(profiles[run.model].name for run in runs))
