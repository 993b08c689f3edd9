"""How far predictions are from measured runs."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from pandas.api.types import is_numeric_dtype

from scenarios import spreadsheet_cell, write_whole
from scenarios.result_view import ResultView
from scenarios.text.tables import Part, Table, render, table
from twin.measured.run_tables import with_defaults
from twin.plots.predictions import Pairs, draw_predictions

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

METRICS = {
    "throughput": ("total_throughput", "predicted_total_throughput", "peer_twin_total_throughput"),
    "itl": ("itl_mean_ms", "predicted_itl_ms", "peer_twin_itl_ms"),
    "tpot": ("tpot_mean_ms", "predicted_tpot_ms", "peer_twin_tpot_ms"),
    "ttft": ("ttft_mean_ms", "predicted_ttft_ms", "peer_twin_ttft_ms"),
}
"""Measured, predicted and published columns of each metric."""

DRAWN = {"throughput": "throughput, tokens/s", "itl": "mean ITL, ms", "ttft": "mean TTFT, ms"}
"""Metrics of a picture, with their units."""

PEER_THROUGHPUT = "peer_twin_total_throughput"
PEER_HEALTHY = 0.9
"""Share of the offered tokens from which the published twin calls a run healthy."""

TITLES = {
    "smape": "SMAPE",
    "mape": "MAPE",
    "peer_runs": "peer runs",
    "peer_smape": "peer",
    "smape_there": "ours",
}
"""Columns of the table of errors."""

START_FAILURES = ("kv_below_max_model_len", "no_kv_memory", "oom_cuda", "oom_sampler_warmup")
"""Statuses of runs whose engine did not start for its own reasons."""

RAN = ("ok", "")
"""Statuses of runs that ran: a table without statuses has no others."""

CLEAN = ("clean", "")
"""Qualities of runs whose every figure is the engine's."""

KNOWN_STARTS = ("ok", "hung_after_benchmark", *START_FAILURES)
"""Statuses that say whether the engine starts."""


def smape(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Usual SMAPE in percent, 100·mean(2|a−b| / (|a|+|b|)); nan without a pair that is not both nan or 0."""
    a, b = np.asarray(measured, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    total = np.abs(a) + np.abs(b)
    pair = total > 0
    return float(100 * (2 * np.abs(a - b)[pair] / total[pair]).mean()) if pair.any() else np.nan


def mape(measured: ArrayLike, predicted: ArrayLike) -> float:
    """Mean of |predicted − measured| / |measured| in percent; nan without a pair."""
    a, b = np.asarray(measured, dtype=np.float64), np.asarray(predicted, dtype=np.float64)
    pair = (np.abs(a) > 0) & ~np.isnan(b)
    return float(100 * (np.abs(b - a)[pair] / np.abs(a[pair])).mean()) if pair.any() else np.nan


@dataclass(frozen=True)
class FidelityReport(ResultView):
    """Measured runs beside their predictions, row by row.

    ``plot`` draws foretold over measured of every run; TTFT of clean runs that do not starve.

    Parameters
    ----------
    measured
        The table of serving runs.
    predictions
        What the twin says; same order.
    """

    measured: pd.DataFrame
    predictions: pd.DataFrame

    def __repr__(self) -> str:
        return f"<FidelityReport: {len(self.predictions):,} runs>"

    def __str__(self) -> str:
        return self.summary()

    def _draw(self, ax: Axes | None) -> Figure:
        runs = self._ran()
        undistorted = runs[_undistorted(runs)]
        known = (_pairs(undistorted if name == "ttft" else runs, name) for name in DRAWN)
        pairs = [pair for pair in known if len(pair.measured)]
        return draw_predictions(pairs, f"{len(runs):,} measured runs, and what the twin foretells", ax)

    def _shown(self) -> Iterable[Part]:
        blocks = (self.table(), self.starvation(), self.starts())
        return [f"{len(self.predictions):,} runs", *(frame_table(one) for one in blocks if len(one))]

    def to_frame(self) -> pd.DataFrame:
        """Both tables side by side."""
        return pd.concat([self.measured, self.predictions.drop(columns="run_id")], axis=1)

    def write_predictions(self, path: str | Path) -> None:
        """Write the predictions as CSV, in which a spreadsheet finds no formula.

        Raises
        ------
        OutputFileError
            If the file cannot be written.
        """
        cells = self.predictions.map(spreadsheet_cell)
        write_whole(path, cells.to_csv(index=False, float_format="%.6g"))

    def errors(self, by: tuple[str, ...] = ("model", "quality")) -> pd.DataFrame:
        """SMAPE and MAPE in percent of each metric, by columns of the measured table.

        TTFT is compared on clean runs that do not starve: elsewhere the measuring client distorts it.
        """
        rows = []
        runs = self._ran()
        for key, part in runs.groupby(list(by)) if by else [((), runs)]:
            names = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True))
            rows.append(names | {"runs": len(part)} | self._metrics(part))
        return pd.DataFrame(rows)

    def _ran(self) -> pd.DataFrame:
        """Both tables, with every column of a serving run, for the runs that ran."""
        both = with_defaults(self.to_frame())
        return both[both["status"].isin(RAN)]

    def _metrics(self, part: pd.DataFrame) -> dict[str, float]:
        result: dict[str, float] = {}
        undistorted = _undistorted(part)
        for name, (measured, predicted, peer) in METRICS.items():
            rows = part[undistorted] if name == "ttft" else part
            result[f"{name}_smape"] = smape(rows[measured], rows[predicted])
            result[f"{name}_mape"] = mape(rows[measured], rows[predicted])
            shared = rows[rows[peer].notna()]
            result[f"{name}_peer_runs"] = len(shared)
            result[f"{name}_peer_smape"] = smape(shared[measured], shared[peer])
            result[f"{name}_smape_there"] = smape(shared[measured], shared[predicted])
        return result

    def starvation(self) -> pd.DataFrame:
        """Counts of starvation by model, over runs that ran: found, missed, false alarms and healthy.

        Where the table has the published twin's throughput, its counts follow, over the runs it has.
        """
        runs = self._ran()
        runs = runs[runs["quality"] != "port_collision"]
        runs = runs[runs["starved"].notna() & runs["predicted_total_throughput"].notna()]
        rows = []
        for model, part in runs.groupby("model"):
            rows.append(_confusion(str(model), "twin", part, part["predicted_starved"]))
            shared = part[part[PEER_THROUGHPUT].notna() & part["ideal_tok_s"].notna()]
            if len(shared):
                short = shared[PEER_THROUGHPUT] < PEER_HEALTHY * shared["ideal_tok_s"]
                rows.append(_confusion(str(model), "published", shared, short))
                rows.append(_confusion(str(model), "twin, there", shared, shared["predicted_starved"]))
        return pd.DataFrame(rows)

    def starts(self) -> pd.DataFrame:
        """Whether start or failure of the engine was said rightly, by model."""
        both = with_defaults(self.to_frame())
        both = both[both["status"].isin(KNOWN_STARTS)]
        started = ~both["status"].isin(START_FAILURES)
        right = (started == both["predicted_starts"].astype(bool)).astype(int)
        counts = pd.DataFrame({"model": both["model"], "rows": 1, "right": right})
        return counts.groupby("model", as_index=False).sum()

    def table(self) -> pd.DataFrame:
        """SMAPE and MAPE, one row per model, quality and metric, with the published twin's where it ran."""
        errors, parts = self.errors(), []
        for metric in METRICS:
            columns = {f"{metric}_{column}": title for column, title in TITLES.items()}
            part = errors.reindex(columns=["model", "quality", "runs", *columns]).rename(columns=columns)
            parts.append(part.assign(metric=metric)[part["SMAPE"].notna()])
        table = pd.concat(parts).sort_values(["model", "quality"], kind="stable")
        return table[["model", "quality", "metric", "runs", *TITLES.values()]].reset_index(drop=True)

    def to_dict(self) -> dict[str, Any]:
        """The tables of `summary` as lists of rows, and the number of runs; None where none is known."""
        tables = {"errors": self.errors(), "starvation": self.starvation(), "starts": self.starts()}
        # pandas writes null for nan, and Python's numbers for its own.
        rows = {name: json.loads(frame.to_json(orient="records")) for name, frame in tables.items()}
        return {"runs": len(self.predictions)} | rows

    def to_json(self) -> str:
        """The same as JSON."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)

    def summary(self) -> str:
        """Tables for a terminal, at most 100 columns wide."""
        wall = self.predictions["wall_s"].sum()
        parts = [
            (
                "Error in percent: usual SMAPE (factor 2) and MAPE; SMAPE of the published twin (peer), "
                "and ours,\non the runs that it has. TTFT: clean runs that do not starve.",
                self.table(),
            ),
            ("Starvation: throughput 10 % or more short of what was offered", self.starvation()),
            ("Start of the engine", self.starts()),
        ]
        blocks = [f"{title}\n{as_text(frame)}" for title, frame in parts if len(frame)]
        return "\n\n".join([*blocks, f"{len(self.predictions)} runs simulated in {wall:.1f} s"])


def as_text(frame: pd.DataFrame, decimals: int = 2) -> str:
    """A table as text: numbers to the right with so many decimals, a dash where one is unknown."""
    return render(frame_table(frame, decimals)).strip("\n")


def frame_table(frame: pd.DataFrame, decimals: int = 2, title: str = "") -> Table:
    """The same as a table that is still to be rendered."""
    columns = [f">{name}" if is_numeric_dtype(frame[name]) else f"{name}" for name in frame.columns]
    rows = [[_cell(value, decimals) for value in row] for row in frame.itertuples(index=False)]
    return table(columns, rows, title=title)


def _undistorted(runs: pd.DataFrame) -> pd.Series[bool]:
    """Runs whose times to first token are the engine's, not those of a client that could not keep up."""
    return runs["quality"].isin(CLEAN) & ~starved_runs(runs)


def _pairs(runs: pd.DataFrame, metric: str) -> Pairs:
    """A metric of the runs of which it is measured and foretold."""
    measured, foretold = (runs[column].to_numpy(dtype=np.float64) for column in METRICS[metric][:2])
    both = (measured > 0) & (foretold > 0)
    error = smape(measured[both], foretold[both])
    return Pairs(
        DRAWN[metric], measured[both], foretold[both], starved_runs(runs)[both], f"SMAPE {error:.1f} %"
    )


def _cell(value: object, decimals: int) -> object:
    return f"{value:.{decimals}f}" if isinstance(value, float) and value == value else value


def _confusion(
    model: str, who: str, part: pd.DataFrame, predicted: pd.Series[bool]
) -> dict[str, str | int | float]:
    actual, claimed = starved_runs(part), predicted.to_numpy(dtype=np.bool_)
    hits, healthy = int((actual & claimed).sum()), int((~actual & ~claimed).sum())
    return {
        "model": model,
        "who": who,
        "runs": len(part),
        "found": hits,
        "missed": int((actual & ~claimed).sum()),
        "false alarms": int((~actual & claimed).sum()),
        "healthy": healthy,
        "right %": 100 * (hits + healthy) / max(len(part), 1),
    }


def starved_runs(table: pd.DataFrame) -> NDArray[np.bool_]:
    """Which runs of a table starved, as it says; False where it does not say."""
    starved: NDArray[np.bool_] = table["starved"].eq(True).to_numpy()
    return starved
