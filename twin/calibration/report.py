"""What a calibration says of itself: its errors, and where its profile's numbers come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from scenarios.engine import EngineConfig
from twin.calibration.cost_terms import candidate_terms
from twin.calibration.run_evidence import USABLE, RunEvidence
from twin.measured.report import METRICS, FidelityReport, as_text
from twin.profile import EngineProfile, GroupError, Provenance

MEASURED_ENGINE = EngineConfig(max_num_seqs=2048, max_num_batched_tokens=2048, max_model_len=131_072)
"""Configuration behind the public measurements; a model's own longest sequence may be shorter."""


@dataclass(frozen=True)
class Measurement:
    """What does not come out of the tables of a calibration.

    Parameters
    ----------
    device, gpu_memory_gib
        Kind of GPU, and its memory as the engine sees it.
    engine_version
        Version of vLLM.
    engine
        Configuration of the measured engines.
    source, command
        Where the measurements are from, and the command that makes the profile, for its provenance.
    """

    device: str = "H100-64GB"
    gpu_memory_gib: float = 63.43
    engine_version: str = "0.8.5"
    engine: EngineConfig = MEASURED_ENGINE
    source: str = (
        "public logs of the artefacts of arXiv 2508.08343 (vLLM 0.8.5, H100 64 GB): "
        "whole runs, fixed batches, single steps"
    )
    command: str = "lorapack calibrate"


@dataclass(frozen=True)
class CalibrationReport:
    """How good a calibration is.

    Parameters
    ----------
    left_out
        Every run beside the prediction of a profile that was fitted without the run's group.
    fitted
        Measured over fitted mean step time of every run that was used, minus 1, by group and quality.
    rounds
        Mean change of the step cost that matching still asked for, per round.
    """

    left_out: FidelityReport | None
    fitted: pd.DataFrame
    rounds: tuple[float, ...]

    def summary(self) -> str:
        """Tables for a terminal, at most 100 columns wide."""
        blocks = [f"Step time, measured over fitted, percent\n{as_text(self.fitted)}"]
        if self.left_out is not None:
            names = {f"{metric}_smape": metric for metric in METRICS}
            errors = self.left_out.errors(("group", "quality")).rename(columns=names)
            kept = [name for name in ("group", "quality", "runs", *METRICS) if name in errors.columns]
            title = "Groups left out of the fit, usual SMAPE in percent"
            blocks += [f"{title}\n{as_text(errors[kept])}", self.left_out.summary()]
        return "\n\n".join(blocks)


def fitted_errors(evidence: Sequence[RunEvidence], profile: EngineProfile) -> pd.DataFrame:
    """Measured over fitted mean step time, minus 1, in percent, by group and quality."""
    names = [term.name for term in candidate_terms()]
    known = {term.name: term.seconds for term in profile.step.terms}
    solution = np.array([known.get(name, 0.0) for name in names])
    rows = []
    for e in evidence:
        seconds = float(e.features @ solution) + e.load_s
        if abs(e.mismatch) < USABLE:
            rows.append((e.group, e.quality, 100 * (e.seconds / seconds - 1)))
    frame = pd.DataFrame(rows, columns=["group", "quality", "error"])
    grouped = frame.groupby(["group", "quality"])["error"]
    return grouped.agg(runs="size", bias="mean", mean_abs=lambda e: e.abs().mean()).reset_index()


def provenance(
    about: Measurement,
    groups: Sequence[str],
    probes: int,
    evidence: Sequence[RunEvidence],
    left_out: FidelityReport | None,
) -> Provenance:
    """Where a profile's numbers come from, with its errors on groups left out of the fit."""
    errors: list[GroupError] = []
    if left_out is not None:
        wrong = left_out.to_frame()
        wrong = wrong[wrong["starved"].astype(str).str.lower().eq("true") != wrong["predicted_starved"]]
        for row in left_out.errors(("group", "quality")).to_dict(orient="records"):
            here = (wrong["group"] == row["group"]) & (wrong["quality"] == row["quality"])
            smapes = {f"{name}_smape": _percent(row[f"{name}_smape"]) for name in METRICS}
            errors.append(
                GroupError(
                    group=str(row["group"]),
                    quality=str(row["quality"]),
                    runs=int(row["runs"]),
                    starvation_wrong=int(here.sum()),
                    **smapes,
                )
            )
    return Provenance(
        source=about.source,
        command=about.command,
        runs=sum(abs(e.mismatch) < USABLE for e in evidence),
        probes=probes,
        groups=tuple(groups),
        left_out_errors=tuple(errors),
    )


def _percent(value: float) -> float | None:
    return round(float(value), 3) if np.isfinite(value) else None
