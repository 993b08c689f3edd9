"""Calibration: an engine profile fitted to measured tables, with its errors on groups that it did not see."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import delayed
from numpy.typing import NDArray

from scenarios.errors import LorapackError
from twin.calibration.frontend import StallEvidence, final_stall_s, fit_scrape, stall_evidence
from twin.calibration.least_squares import fit_costs
from twin.calibration.probes import Probe, check_columns, read_probes, read_table
from twin.calibration.replays import fit_first_read, tokens_held
from twin.calibration.report import CalibrationReport, Measurement, fitted_errors, provenance
from twin.calibration.run_evidence import RunEvidence, match
from twin.calibration.tables import drawn_tokens_held, fit_lengths, fit_loads
from twin.engine.run import simulate_requests
from twin.measured.predict import predict_all
from twin.measured.report import FidelityReport
from twin.measured.runs import MeasuredRun, measured_runs, read_runs, run_requests, run_setup, selected
from twin.memory.architectures import find_architecture
from twin.memory.plan import memory_model
from twin.parallel import in_processes
from twin.profile import EngineProfile, Frontend, ServedLengths, Uncertainty

log = logging.getLogger(__name__)

QUALITIES = ("clean", "client_cap_saturated")
"""Qualities of the runs that are fitted and compared."""

MEASURED = ("tpot_mean_ms", "ttft_mean_ms", "running_mean", "waiting_mean", "kv_usage_mean")
"""Measured columns of ``serving_runs.csv`` that a calibration needs."""

TIMESERIES = "serving_runs_timeseries.csv.gz"

COLD_ROUNDS, WARM_ROUNDS = 2, 1
"""Times that every run is matched and the costs are fitted anew, from probes alone or from a profile."""

FEWEST_RUNS = 5

FULL = 0.9
"""Share of the KV cache in use from which it decides how many requests run."""

MANY = 160
"""Adapters from which their first reads are seen in the mean time to first token."""

REPLAYS = 8
"""Runs that are replayed for one number."""

CALM = 20.0
"""Requests in the batch below which the server's constant part of the time to first token is read off."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and of how much."""


class CalibrationError(LorapackError, ValueError):
    """The measurements do not suffice for a profile."""


def calibrate(
    measurements: str | Path,
    model: str,
    *,
    measurement: Measurement | None = None,
    start: EngineProfile | None = None,
    groups: Sequence[str] | None = None,
    cross_validate: bool = True,
    seed: int = 0,
    workers: int = 1,
    progress: Progress | None = None,
) -> tuple[EngineProfile, CalibrationReport]:
    """Fit a profile to a folder of tables in the form of the public measurements.

    Parameters
    ----------
    measurements
        Folder with ``serving_runs.csv`` and the tables of probes.
    model
        Base model, as in the tables and among the shipped architectures.
    measurement
        Device, engine and source; absent: those of the public measurements.
    start
        Profile of the model whose step cost the matching starts from, which then takes one round instead
        of two; absent: the step cost of the probes alone.
    groups
        Groups of serving runs to fit; absent: all.
    cross_validate
        Whether to fit once without each group and compare on it.
    seed
        Seed of everything random.
    workers
        Processes; the result does not depend on it.
    progress
        Called as the work goes on.

    Raises
    ------
    ScenarioError
        If a table cannot be read.
    CalibrationError
        If no run of the model can be used.
    """
    folder, about = Path(measurements), measurement or Measurement()
    table = _table(folder, model, groups)
    job = _Job(table, measured_runs(table), read_probes(folder, model), seed, workers, progress)
    fitted = _fitted(folder, job, _start(folder, model, job, about), start)
    profile, evidence = fitted.profile, fitted.evidence
    profile = profile.model_copy(update={"frontend": _frontend(folder, job, profile)})
    profile = profile.model_copy(update={"first_read_s": _first_read_s(job, profile)})
    left_out = _left_out(job, profile, evidence) if cross_validate else None
    profile = profile.model_copy(
        update={
            "uncertainty": fitted.uncertainty,
            "provenance": provenance(about, job.groups, len(job.probes), evidence, left_out),
        }
    )
    return profile, CalibrationReport(left_out, fitted_errors(evidence, profile), fitted.changes)


@dataclass(frozen=True)
class _Job:
    """What every step of a calibration needs."""

    table: pd.DataFrame
    runs: list[MeasuredRun]
    probes: list[Probe]
    seed: int
    workers: int
    progress: Progress | None

    @property
    def groups(self) -> list[str]:
        return sorted(set(self.table["group"]))

    def tell(self, what: str, done: int, of: int) -> None:
        if self.progress is not None:
            self.progress(what, done, of)

    def matched(self, profile: EngineProfile, what: str) -> list[RunEvidence]:
        """Evidence of every run that can be matched."""
        jobs = (
            delayed(match)(run, tpot / 1e3, group, profile, self.seed)
            for run, tpot, group in zip(
                self.runs, self.table["tpot_mean_ms"], self.table["group"], strict=True
            )
            if tpot > 0
        )
        evidence = []
        for done, one in enumerate(in_processes(jobs, self.workers)):
            if one is not None:
                evidence.append(one)
            self.tell(what, done + 1, len(self.runs))
        return evidence

    def predicted(self, rows: NDArray[np.intp], profile: EngineProfile) -> pd.DataFrame:
        """Predictions of some rows of the table, indexed by row."""
        runs = [self.runs[k] for k in rows]
        frame = predict_all(runs, lambda _: profile, self.seed, self.workers)
        return frame.set_index(pd.Index(rows))


def _table(folder: Path, model: str, groups: Sequence[str] | None) -> pd.DataFrame:
    path = folder / "serving_runs.csv"
    table = read_runs(path)
    check_columns(table, ("group", "status", "quality"), MEASURED, str(path))
    chosen = (table["model"] == model).to_numpy() & selected(table, QUALITIES)
    if groups is not None:
        chosen &= table["group"].isin(groups).to_numpy()
    if not chosen.any():
        known = ", ".join(sorted(set(table["model"])))
        raise CalibrationError(f'{folder}: no usable run of model "{model}"; the table has {known}')
    return table[chosen].reset_index(drop=True)


@dataclass(frozen=True)
class _Fitted:
    """A profile with step costs and lengths, the runs behind it, and the mean change in each round."""

    profile: EngineProfile
    evidence: list[RunEvidence]
    uncertainty: Uncertainty
    changes: tuple[float, ...]


def _fitted(folder: Path, job: _Job, profile: EngineProfile, start: EngineProfile | None) -> _Fitted:
    """Match all runs and fit the step costs, round by round, from a profile's costs if there is one."""
    rounds = COLD_ROUNDS
    if start is not None:
        known = {"step": start.step, "first_read_s": start.first_read_s}
        profile, rounds = profile.model_copy(update=known), WARM_ROUNDS
    changes: list[float] = []
    for turn in range(rounds):
        if turn > 0 or start is not None:
            lengths = _lengths(folder, profile.model, job, profile)
            profile = profile.model_copy(update={"lengths": lengths})
        evidence = job.matched(profile, f"matching runs, round {turn + 1} of {rounds}")
        if len(evidence) < FEWEST_RUNS:
            raise CalibrationError(
                f"{folder}: {len(evidence)} runs of {profile.model} can be matched; "
                f"at least {FEWEST_RUNS} are needed"
            )
        fit = fit_costs(evidence, job.probes)
        profile = profile.model_copy(update={"step": fit.step})
        changes.append(float(np.mean([abs(np.log(e.scale)) for e in evidence])))
        log.info("round %d: step costs changed by %.2f %%", turn + 1, 100 * changes[-1])
    uncertainty = Uncertainty(residual_share=fit.residual_share, standard_errors_s=fit.standard_errors_s)
    return _Fitted(profile, evidence, uncertainty, tuple(changes))


def _start(folder: Path, model: str, job: _Job, about: Measurement) -> EngineProfile:
    """A profile from the probes alone, from which matching starts."""
    loads = fit_loads(folder, model)
    architecture = find_architecture(model)
    length = min(about.engine.max_model_len, architecture.max_position_embeddings)
    return EngineProfile(
        name=f"{model}.{about.device.lower()}.vllm-{about.engine_version}",
        model=model,
        device=about.device,
        gpu_memory_gib=about.gpu_memory_gib,
        engine_version=about.engine_version,
        measured=about.engine.model_copy(update={"max_model_len": length}),
        memory=memory_model(architecture, about.engine_version),
        step=fit_costs([], job.probes).step,
        loads=loads,
        frontend=Frontend(),
        lengths=fit_lengths(folder, model, float(_held(job.table).median())),
        provenance=provenance(about, job.groups, len(job.probes), [], None),
    )


def _held(table: pd.DataFrame) -> pd.Series[float]:
    """Measured mean KV tokens of a running request, per run."""
    return table["kv_usage_mean"] * table["kv_cache_tokens"] / table["running_mean"]


def _lengths(folder: Path, model: str, job: _Job, profile: EngineProfile) -> ServedLengths:
    """Lengths with which replays hold as many tokens as measured where the KV cache is full.

    There it decides how many requests run; elsewhere it hardly matters.
    """
    held = _held(job.table)
    full = (job.table["kv_usage_mean"] > FULL).to_numpy() & held.notna().to_numpy()
    rows = _spread(np.flatnonzero(full), REPLAYS)
    if not len(rows):
        return profile.lengths
    runs = [job.runs[k] for k in rows if job.runs[k].kv_cache_tokens is not None]
    short = [
        float(held.iloc[k]) / tokens_held(run, profile, job.seed) for k, run in zip(rows, runs, strict=True)
    ]
    drawn = drawn_tokens_held(profile.lengths)
    return fit_lengths(folder, model, drawn * float(np.median(short)))


def _first_read_s(job: _Job, profile: EngineProfile) -> float:
    """Seconds for the first read of an adapter; what the profile has where no run with many shows it."""
    table = job.table
    easy = (table["quality"] == "clean") & (table["waiting_mean"] < 0.1) & (table["max_loras"] >= MANY / 2)
    rows = _spread(np.flatnonzero((easy & (table["n_adapters"] >= MANY)).to_numpy()), REPLAYS)
    rows = [k for k in rows if job.runs[k].kv_cache_tokens is not None]
    if not rows:
        return profile.first_read_s
    ttft_s = [float(table["ttft_mean_ms"].iloc[k]) / 1e3 for k in rows]
    return fit_first_read([job.runs[k] for k in rows], ttft_s, profile, job.seed)


def _spread(rows: NDArray[np.intp], most: int) -> list[int]:
    """At most so many of the rows, evenly spread."""
    chosen = np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).round().astype(int))
    return [int(k) for k in rows[chosen]] if len(rows) else []


def _frontend(folder: Path, job: _Job, profile: EngineProfile) -> Frontend:
    """The server's stalls, where the instants of metrics readings were recorded, and its constant delay."""
    clean = (job.table["quality"] == "clean").to_numpy()
    scrape = None
    if (folder / TIMESERIES).exists():
        by_run = read_table(folder, TIMESERIES, ("run_id",), ("t",)).groupby("run_id")["t"]
        instants = {str(name): values.to_numpy(dtype=np.float64) for name, values in by_run}
        jobs = []
        for run in (job.runs[k] for k in np.flatnonzero(clean)):
            stall = final_stall_s(instants.get(run.run_id, np.empty(0)), run.seconds)
            if stall is not None and run.kv_cache_tokens is not None:
                jobs.append(delayed(_stall)(run, profile, stall, job.seed))
        scrape = fit_scrape(list(in_processes(jobs, job.workers)))
    calm = (
        clean & (job.table["running_mean"] < CALM).to_numpy() & (job.table["waiting_mean"] < 0.01).to_numpy()
    )
    rows = np.flatnonzero(calm)
    without = profile.model_copy(update={"frontend": Frontend(scrape=scrape)})
    measured = job.table["ttft_mean_ms"].to_numpy(dtype=np.float64)[rows]
    extra = measured - job.predicted(rows, without)["predicted_ttft_ms"].to_numpy(dtype=np.float64)
    constant = float(np.median(extra)) / 1e3 if len(extra) else 0.0
    return Frontend(first_token_s=max(constant, 0.0), scrape=scrape)


def _stall(run: MeasuredRun, profile: EngineProfile, stall_s: float, seed: int) -> StallEvidence:
    assert run.kv_cache_tokens is not None
    setup = run_setup(run, profile, run.kv_cache_tokens)
    records = simulate_requests(run_requests(run, profile, seed), setup, run.seconds, record_steps=True)
    return stall_evidence(records, stall_s)


def _left_out(job: _Job, profile: EngineProfile, evidence: Sequence[RunEvidence]) -> FidelityReport | None:
    """Every run predicted by a profile whose costs were fitted without the run's group."""
    groups = job.groups
    if len(groups) < 2:
        return None
    parts = []
    for done, group in enumerate(groups):
        fit = fit_costs(evidence, job.probes, left_out=group)
        without = profile.model_copy(update={"step": fit.step})
        parts.append(job.predicted(np.flatnonzero((job.table["group"] == group).to_numpy()), without))
        job.tell("groups left out", done + 1, len(groups))
    return FidelityReport(job.table, pd.concat(parts).sort_index())
