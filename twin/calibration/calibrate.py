"""Calibration: an engine profile fitted to measured tables, with its errors on groups that it did not see."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import delayed
from numpy.typing import NDArray

from scenarios import LorapackError, Problem, ScenarioError
from scenarios.stopping.progress import Progress, silent
from twin.architectures import find_architecture, read_architecture
from twin.calibration.frontend import StallEvidence, final_stall_s, fit_scrape, stall_evidence
from twin.calibration.least_squares import fit_costs, terms_for
from twin.calibration.loads_and_lengths import OfferedLengths, fit_loads, offered_lengths
from twin.calibration.measurements import MeasuredFolders, Probe, read_folders
from twin.calibration.params import CalibrationParams
from twin.calibration.replays import fit_first_read, tokens_held
from twin.calibration.report import CalibrationReport, fitted_errors, group_errors, unvaried
from twin.calibration.run_evidence import RunEvidence, match
from twin.engine.rules import rules_of
from twin.engine.run import simulate_requests
from twin.measured.measurement import DESCRIPTION, Measurement
from twin.measured.predict import predict_all
from twin.measured.replayed import run_requests, run_setup
from twin.measured.report import CLEAN, RAN, FidelityReport
from twin.measured.runs import SATURATED, MeasuredRun
from twin.measured.tables import rows_of
from twin.memory import memory_model
from twin.parallel import in_processes
from twin.profile import EngineProfile, Frontend, Provenance, ServedLengths, Uncertainty
from twin.step_cost import CostTerm

log = logging.getLogger(__name__)

STARTED_FROM = ("step", "loads", "frontend", "lengths", "first_read_s")
"""Parts of a profile that another one gives where no measurement does."""


class CalibrationError(LorapackError, ValueError):
    """The measurements do not suffice for a profile."""


def calibrate(
    measurements: str | Path | Sequence[str | Path],
    model: str,
    *,
    measurement: Measurement | Sequence[Measurement] = (),
    start: EngineProfile | None = None,
    groups: Sequence[str] | None = None,
    cross_validate: bool = True,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = silent,
    params: CalibrationParams | None = None,
) -> tuple[EngineProfile, CalibrationReport]:
    """Fit a profile to folders of measurements, in the form of `twin.calibration.measurements`.

    Parameters
    ----------
    measurements
        Folder with ``serving_runs.csv``, the other tables, and ``measurement.yaml``; also with the model's
        ``config.json``, if it is none of the shipped architectures. Several are fitted together: of servers
        with other slots, but of one kind of GPU and release, whose other arguments are the same.
    model
        Base model, as in the tables.
    measurement
        Device, engine and source, of each folder where there are several; absent: those of
        ``measurement.yaml``.
    start
        Profile of the model whose step cost the matching starts from, which then takes one round instead
        of two, and which gives what a table that is not there would have given; absent: the step cost of
        the probes alone.
    groups
        Groups of serving runs to fit; absent: all.
    cross_validate
        Whether to fit once without each group and compare on it.
    seed
        Seed of everything random.
    workers
        Processes; the result does not depend on it.
    progress
        Called with progress.
    params
        Parameters of the calibration; absent: their defaults.

    Raises
    ------
    ScenarioError
        If a table cannot be read, or is missing and cannot be done without, or folders are of servers that
        no one profile is of.
    CalibrationError
        If no run of the model can be used, or too few can be matched.
    """
    paths = [measurements] if isinstance(measurements, str | Path) else measurements
    told = [measurement] if isinstance(measurement, Measurement) else measurement
    measured = read_folders(list(map(Path, paths)), told)
    about = measured.about
    job = _job(measured, model, groups, seed, workers, progress, params or CalibrationParams())
    profile, rounds = _start(measured, job, start), job.params.matching.cold_rounds
    if start is not None:
        profile = profile.model_copy(update={"lengths": _lengths(job, profile)})
        rounds = job.params.matching.warm_rounds
    profile, evidence, changes = _fitted(job, profile, rounds)
    profile = profile.model_copy(update={"frontend": _frontend(job, profile, about)})
    profile = profile.model_copy(update={"first_read_s": _first_read_s(job, profile)})
    left_out = _left_out(job, profile, evidence) if cross_validate else None
    made = _provenance(job, about, start, evidence, left_out)
    profile = profile.model_copy(update={"provenance": made})
    errors = fitted_errors(evidence, profile, job.terms)
    return profile, CalibrationReport(left_out, errors, changes, unvaried(job.runs, job.probes))


@dataclass(frozen=True)
class _Job:
    """What every step of a calibration needs; the tables are those of one model."""

    model: str
    tables: Mapping[str, pd.DataFrame]
    table: pd.DataFrame
    runs: list[MeasuredRun]
    probes: list[Probe]
    offered: OfferedLengths | None
    seed: int
    workers: int
    progress: Progress
    params: CalibrationParams

    @property
    def groups(self) -> list[str]:
        return sorted(set(self.table["group"]))

    @property
    def terms(self) -> tuple[CostTerm, ...]:
        """Candidate terms of the step cost."""
        return terms_for(len(self.runs), self.probes, self.params.fit)

    def matched(self, profile: EngineProfile, what: str) -> list[RunEvidence]:
        """Evidence of every run that can be matched."""
        how = profile, self.seed, self.terms, self.params.matching
        jobs = (delayed(match)(run, *how) for run in self.runs)
        matches = []
        self.progress(what, 0, len(self.runs))
        for evidence in in_processes(jobs, self.workers):
            matches.append(evidence)
            self.progress(what, len(matches), len(self.runs))
        return [evidence for evidence in matches if evidence is not None]

    def predicted(self, rows: NDArray[np.intp], profile: EngineProfile) -> pd.DataFrame:
        """Predictions of some rows of the table, indexed by row."""
        runs = [self.runs[k] for k in rows]
        frame = predict_all(runs, lambda _: profile, self.seed, self.workers, params=self.params.fidelity)
        return frame.set_index(pd.Index(rows))

    def spread(self, chosen: pd.Series[bool]) -> list[int]:
        """Rows that are chosen; of too many, some that are evenly spread."""
        rows = np.flatnonzero(chosen)
        count = min(self.params.replays.max_runs, len(rows))
        even = np.unique(np.linspace(0, len(rows) - 1, count).round().astype(int))
        return [int(k) for k in rows[even]]


def _job(
    measured: MeasuredFolders,
    model: str,
    groups: Sequence[str] | None,
    seed: int,
    workers: int,
    progress: Progress,
    params: CalibrationParams,
) -> _Job:
    every, folder = measured.tables, measured.source
    runs = every["serving_runs"]
    if runs["tpot_mean_ms"].isna().all():
        remedy = "measure it: what serving runs say of the step cost"
        problem = Problem("serving_runs.csv, column tpot_mean_ms", "is missing or empty", remedy)
        raise ScenarioError([problem], folder)
    tables = {name: table[table["model"] == model] for name, table in every.items() if "model" in table}
    usable = (runs["model"] == model) & runs["status"].isin(RAN) & runs["quality"].isin([*CLEAN, SATURATED])
    usable &= runs["kv_cache_tokens"].notna() & (runs["tpot_mean_ms"] > 0)
    if groups is not None:
        usable &= runs["group"].isin(groups)
    if not usable.any():
        known = ", ".join(sorted(set(runs["model"])))
        raise CalibrationError(f'{folder}: no usable run of model "{model}"; the table has {known}')
    table = runs[usable].reset_index(drop=True)
    table["quality"] = table["quality"].replace("", CLEAN[0])
    offered, lengths = None, (tables["length_histograms"], tables["length_means"])
    if any(len(part) for part in lengths):
        offered = offered_lengths(*lengths, measured.about.engine.block_size, folder)
    return _Job(
        model=model,
        tables=tables | {"metrics_readings": every["metrics_readings"]},
        table=table,
        runs=measured.runs_of(table),
        probes=rows_of(tables["probes"], Probe),
        offered=offered,
        seed=seed,
        workers=workers,
        progress=progress,
        params=params,
    )


def _start(measured: MeasuredFolders, job: _Job, start: EngineProfile | None) -> EngineProfile:
    """The profile from which matching starts: from the probes alone, or with the costs of one that is given.

    Raises
    ------
    ScenarioError
        With every table that is missing while there is no profile to start from, and if metrics were read
        without a known pause.
    """
    about, loads, readings = measured.about, job.tables["adapter_loads"], job.tables["metrics_readings"]
    absent = {
        "probes": not job.probes,
        "adapter_loads": loads.empty,
        "length_histograms and length_means": job.offered is None,
    }
    problems = [
        Problem(name, f'has no rows of model "{job.model}"', "add it, or give a profile to start from")
        for name, missing in absent.items()
        if missing and start is None
    ]
    if len(readings) and about.metrics_pause_s is None:
        remedy = f"add it to {DESCRIPTION}, or leave metrics_readings out"
        problems.append(Problem("metrics_pause_s", "is missing", remedy))
    if problems:
        raise ScenarioError(problems, measured.source)
    config = measured.config
    architecture = read_architecture(config, job.model) if config else find_architecture(job.model)
    length = min(about.engine.max_model_len, architecture.max_position_embeddings)
    known = {} if start is None else {name: getattr(start, name) for name in STARTED_FROM}
    if not loads.empty:
        known["loads"] = fit_loads(loads)
    if job.offered is not None:
        known["lengths"] = job.offered.served(float(_tokens_held(job.table).median()))
    if start is None:
        known["step"] = fit_costs([], job.probes, job.terms, job.params.fit).step
    return EngineProfile(
        name=f"{job.model}.{about.device.lower()}.vllm-{about.engine_version}",
        model=job.model,
        device=about.device,
        gpu_memory_gib=about.gpu_memory_gib,
        engine_version=about.engine_version,
        rules=rules_of(about.engine_version).scheduling(about.engine.async_scheduling),
        measured=about.engine.model_copy(update={"max_model_len": length}),
        memory=memory_model(architecture, about.engine_version),
        provenance=_provenance(job, about, start, [], None),
        **known,
    )


def _fitted(
    job: _Job, profile: EngineProfile, rounds: int
) -> tuple[EngineProfile, list[RunEvidence], tuple[float, ...]]:
    """Match all runs and fit the step costs, round by round; also the runs matched, and each round's change.

    Which steps a run had depends on the cost that is to be fitted. The first round takes them from what
    the probes say of it, which whole runs then correct; the next one from the corrected cost.
    """
    changes: list[float] = []
    for turn in range(rounds):
        if turn > 0:
            profile = profile.model_copy(update={"lengths": _lengths(job, profile)})
        evidence = job.matched(profile, f"matching runs, round {turn + 1} of {rounds}")
        # A first round may match few, if it is from probes that are unlike the runs.
        if len(evidence) < (job.params.matching.min_runs if turn == rounds - 1 else 1):
            raise CalibrationError(
                f"{len(evidence)} of {len(job.runs)} usable runs of {job.model} can be matched; "
                f"at least {job.params.matching.min_runs} are needed; measure probes that are more like "
                "them, or give a profile to start from"
            )
        fit = fit_costs(evidence, job.probes, job.terms, job.params.fit)
        profile = profile.model_copy(update={"step": fit.step})
        changes.append(float(np.mean([abs(np.log(e.scale)) for e in evidence])))
        log.info("round %d: step costs changed by %.2f %%", turn + 1, 100 * changes[-1])
    uncertainty = Uncertainty(residual_share=fit.residual_share, standard_errors_s=fit.standard_errors_s)
    return profile.model_copy(update={"uncertainty": uncertainty}), evidence, tuple(changes)


def _tokens_held(table: pd.DataFrame) -> pd.Series[float]:
    """Measured mean KV tokens of a running request, per run."""
    return table["kv_usage_mean"] * table["kv_cache_tokens"] / table["running_mean"]


def _lengths(job: _Job, profile: EngineProfile) -> ServedLengths:
    """Lengths with which simulated runs hold as many tokens as measured where the KV cache is full.

    There it decides how many requests run; elsewhere it hardly matters.
    """
    measured = _tokens_held(job.table)
    full = job.table["kv_usage_mean"] > job.params.replays.full_kv_share
    rows = job.spread(full & measured.notna())
    if job.offered is None or not rows:
        return profile.lengths
    ratios = [float(measured.iloc[k]) / tokens_held(job.runs[k], profile, job.seed) for k in rows]
    return job.offered.served(job.offered.tokens_held(profile.lengths) * float(np.median(ratios)))


def _first_read_s(job: _Job, profile: EngineProfile) -> float:
    """Seconds for the first read of an adapter; what the profile has where no run with many shows it."""
    table, params = job.table, job.params.replays
    many = (table["n_adapters"] >= params.many_adapters) & (table["max_loras"] >= params.many_adapters / 2)
    # Requests of a run with a queue wait for others too, and few slots for each other's adapters.
    eased = (table["quality"] == CLEAN[0]) & (table["waiting_mean"] < params.eased_waiting)
    rows = job.spread(many & eased & table["ttft_mean_ms"].notna())
    if not rows:
        return profile.first_read_s
    return fit_first_read([job.runs[k] for k in rows], profile, params.slowest_read_s, job.seed)


def _frontend(job: _Job, profile: EngineProfile, about: Measurement) -> Frontend:
    """The server's stalls, where the instants of metrics readings were recorded, and its constant delay."""
    table, params, frontend = job.table, job.params, profile.frontend
    clean = table["quality"] == CLEAN[0]
    scrape, readings = frontend.scrape, job.tables["metrics_readings"]
    if len(readings) and about.metrics_pause_s is not None:
        instants = dict(iter(readings.groupby("run_id")["t"]))
        jobs = []
        for run in (job.runs[k] for k in np.flatnonzero(clean) if job.runs[k].run_id in instants):
            read_s = instants[run.run_id].to_numpy(dtype=np.float64)
            stall = final_stall_s(read_s, run.total_time_s, about.metrics_pause_s, params.stalls)
            if stall is not None:
                jobs.append(delayed(_stall)(run, profile, stall, job.seed))
        evidence = list(in_processes(jobs, job.workers))
        scrape = fit_scrape(evidence, about.metrics_pause_s, params.stalls)
    calm = clean & (table["running_mean"] < params.replays.calm_running)
    calm &= (table["waiting_mean"] < params.replays.calm_waiting) & table["ttft_mean_ms"].notna()
    if not calm.any():
        return Frontend(first_token_s=frontend.first_token_s, scrape=scrape)
    # Where nothing waits and few run, all that the engine does not explain is the server and the network.
    rows = np.flatnonzero(calm)
    without = profile.model_copy(update={"frontend": Frontend(scrape=scrape)})
    measured_ms = table["ttft_mean_ms"].to_numpy(dtype=np.float64)[rows]
    extra_ms = measured_ms - job.predicted(rows, without)["predicted_ttft_ms"].to_numpy(dtype=np.float64)
    known = extra_ms[np.isfinite(extra_ms)]
    if not len(known):  # no run of the twin answers anything
        return Frontend(first_token_s=frontend.first_token_s, scrape=scrape)
    return Frontend(first_token_s=max(float(np.median(known)) / 1e3, 0.0), scrape=scrape)


def _stall(run: MeasuredRun, profile: EngineProfile, stall_s: float, seed: int) -> StallEvidence:
    requests, setup = run_requests(run, profile, seed), run_setup(run, profile)
    return stall_evidence(simulate_requests(requests, setup, run.total_time_s, record_steps=True), stall_s)


def _left_out(job: _Job, profile: EngineProfile, evidence: Sequence[RunEvidence]) -> FidelityReport | None:
    """Every run predicted by a profile whose costs were fitted without the run's group."""
    groups = job.groups
    if len(groups) < 2:
        return None
    parts, what = [], "predicting groups left out of the fit"
    job.progress(what, 0, len(groups))
    for done, group in enumerate(groups):
        fit = fit_costs(evidence, job.probes, job.terms, job.params.fit, left_out=group)
        without = profile.model_copy(update={"step": fit.step})
        parts.append(job.predicted(np.flatnonzero(job.table["group"] == group), without))
        job.progress(what, done + 1, len(groups))
    return FidelityReport(job.table, pd.concat(parts).sort_index())


def _provenance(
    job: _Job,
    about: Measurement,
    start: EngineProfile | None,
    evidence: Sequence[RunEvidence],
    left_out: FidelityReport | None,
) -> Provenance:
    """Where a profile's numbers come from, with its errors on groups left out of the fit."""
    changed, notes = job.params.changed(), unvaried(job.runs, job.probes)
    if changed:
        notes += (f"parameters that differ from their defaults: {changed}",)
    return Provenance(
        source=about.source,
        command=f"lorapack calibrate FOLDER --model {job.model}" + (" --start PROFILE" if start else ""),
        runs=len(evidence),
        probes=len(job.probes),
        groups=tuple(group for group in job.groups if group),
        left_out_errors=() if left_out is None else tuple(group_errors(left_out)),
        note="; ".join(notes),
    )
