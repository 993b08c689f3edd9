"""How far predictions are from measured runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from scenarios.display import spreadsheet_cell, visible_lines
from scenarios.output import write_whole

METRICS = {
    "throughput": ("total_throughput", "predicted_total_throughput", "peer_twin_total_throughput"),
    "itl": ("itl_mean_ms", "predicted_itl_ms", "peer_twin_itl_ms"),
    "tpot": ("tpot_mean_ms", "predicted_tpot_ms", None),
    "ttft": ("ttft_mean_ms", "predicted_ttft_ms", "peer_twin_ttft_ms"),
}
"""Measured, predicted and published columns of each metric."""

PEER_THROUGHPUT = "peer_twin_total_throughput"
PEER_HEALTHY = 0.9
"""Share of the offered tokens from which the published twin calls a run healthy."""

START_FAILURES = ("kv_below_max_model_len", "no_kv_memory", "oom_cuda", "oom_sampler_warmup")
"""Statuses of runs whose engine did not start for its own reasons."""

KNOWN_STARTS = ("ok", "hung_after_benchmark", *START_FAILURES)
"""Statuses that say whether the engine starts."""


def smape(measured: pd.Series[float], predicted: pd.Series[float]) -> float:
    """Usual SMAPE in percent, 100·mean(2|a−b| / (|a|+|b|)); nan without a pair."""
    pair = measured.notna() & predicted.notna() & ((measured.abs() + predicted.abs()) > 0)
    a, b = measured[pair], predicted[pair]
    return float(100 * (2 * (a - b).abs() / (a.abs() + b.abs())).mean()) if pair.any() else np.nan


def mape(measured: pd.Series[float], predicted: pd.Series[float]) -> float:
    """Mean of |predicted − measured| / |measured| in percent; nan without a pair."""
    pair = measured.notna() & predicted.notna() & (measured != 0)
    a, b = measured[pair], predicted[pair]
    return float(100 * ((b - a).abs() / a.abs()).mean()) if pair.any() else np.nan


@dataclass(frozen=True)
class FidelityReport:
    """Measured runs beside their predictions, row by row.

    Parameters
    ----------
    measured
        The table of serving runs.
    predictions
        What the twin says; same order.
    """

    measured: pd.DataFrame
    predictions: pd.DataFrame

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
        both = self.to_frame()
        if "status" in both.columns:
            both = both[both["status"] == "ok"]
        keys = [name for name in by if name in both.columns]
        rows = []
        for key, part in both.groupby(keys) if keys else [((), both)]:
            names = dict(zip(keys, key if isinstance(key, tuple) else (key,), strict=True))
            rows.append(names | {"runs": len(part)} | self._metrics(part))
        return pd.DataFrame(rows)

    def _metrics(self, part: pd.DataFrame) -> dict[str, float]:
        result: dict[str, float] = {}
        for name, (measured, predicted, peer) in METRICS.items():
            rows = part[_ttft_known(part)] if name == "ttft" else part
            if measured not in part.columns:
                continue
            result[f"{name}_smape"] = smape(rows[measured], rows[predicted])
            result[f"{name}_mape"] = mape(rows[measured], rows[predicted])
            if peer is not None and peer in part.columns:
                known = rows[rows[peer].notna()]
                result[f"{name}_peer_runs"] = len(known)
                result[f"{name}_peer_smape"] = smape(known[measured], known[peer])
                result[f"{name}_smape_there"] = smape(known[measured], known[predicted])
        return result

    def starvation(self) -> pd.DataFrame:
        """Counts of starvation by model, over runs that ran: found, missed, false alarms and healthy.

        Where the table has the published twin's throughput, its counts follow, over the runs it has.
        """
        both = self.to_frame()
        if "starved" not in both.columns:
            return pd.DataFrame()
        if "status" in both.columns:
            both = both[both["status"] == "ok"]
        if "quality" in both.columns:
            both = both[both["quality"] != "port_collision"]
        both = both[both["starved"].notna() & both["predicted_total_throughput"].notna()]
        rows = []
        for model, part in both.groupby("model"):
            rows.append(_confusion(str(model), "twin", part, part["predicted_starved"].astype(bool)))
            if not {PEER_THROUGHPUT, "ideal_tok_s"} <= set(part.columns):
                continue
            known = part[part[PEER_THROUGHPUT].notna() & part["ideal_tok_s"].notna()]
            if len(known):
                short = known[PEER_THROUGHPUT] < PEER_HEALTHY * known["ideal_tok_s"]
                rows.append(_confusion(str(model), "published", known, short))
                rows.append(
                    _confusion(str(model), "twin, there", known, known["predicted_starved"].astype(bool))
                )
        return pd.DataFrame(rows)

    def starts(self) -> pd.DataFrame:
        """Whether start or failure of the engine was said rightly, by model."""
        both = self.to_frame()
        if "status" not in both.columns:
            return pd.DataFrame()
        both = both[both["status"].isin(KNOWN_STARTS)]
        truth = ~both["status"].isin(START_FAILURES)
        right = truth == both["predicted_starts"].astype(bool)
        return (
            pd.DataFrame({"model": both["model"], "rows": 1, "right": right.astype(int)})
            .groupby("model", as_index=False)
            .sum()
        )

    def table(self) -> pd.DataFrame:
        """SMAPE and MAPE, one row per model, quality and metric, with the published twin's where it ran."""
        rows = []
        for row in self.errors().to_dict(orient="records"):
            for metric in METRICS:
                if f"{metric}_smape" not in row or not np.isfinite(row[f"{metric}_smape"]):
                    continue
                peer_runs = row.get(f"{metric}_peer_runs", 0)
                rows.append(
                    {
                        "model": row["model"],
                        "quality": row.get("quality", ""),
                        "metric": metric,
                        "runs": row["runs"],
                        "SMAPE": row[f"{metric}_smape"],
                        "MAPE": row[f"{metric}_mape"],
                        "peer runs": peer_runs,
                        "peer": row[f"{metric}_peer_smape"] if peer_runs else np.nan,
                        "ours": row[f"{metric}_smape_there"] if peer_runs else np.nan,
                    }
                )
        return pd.DataFrame(rows)

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


def as_text(frame: pd.DataFrame) -> str:
    """A table as text: two decimals, nothing where a number is unknown."""
    return visible_lines(frame.to_string(index=False, na_rep="", float_format=lambda value: f"{value:.2f}"))


def _confusion(
    model: str, who: str, part: pd.DataFrame, said: pd.Series[bool]
) -> dict[str, str | int | float]:
    truth, claim = _yes(part["starved"]).to_numpy(), said.to_numpy()
    found, healthy = int((truth & claim).sum()), int((~truth & ~claim).sum())
    return {
        "model": model,
        "who": who,
        "runs": len(part),
        "found": found,
        "missed": int((truth & ~claim).sum()),
        "false alarms": int((~truth & claim).sum()),
        "healthy": healthy,
        "right %": 100 * (found + healthy) / max(len(part), 1),
    }


def _yes(column: pd.Series[str]) -> pd.Series[bool]:
    return column.astype(str).str.lower().isin(["true", "1", "1.0"])


def _ttft_known(part: pd.DataFrame) -> pd.Series[bool]:
    chosen = pd.Series(True, index=part.index)
    if "quality" in part.columns:
        chosen &= part["quality"] == "clean"
    if "starved" in part.columns:
        chosen &= ~_yes(part["starved"])
    return chosen
