"""Fidelity: simulate measured serving runs and compare."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import delayed

from scenarios import check_writable
from scenarios.stopping.progress import Progress, silent
from twin.engine.records import RunRecords
from twin.engine.requests import Requests
from twin.engine.run import UnservableRequestError, simulate_requests
from twin.engine.setup import EngineSetup
from twin.measured.client_view import ClientView, client_view, held_back, stalls
from twin.measured.measurement import files_of
from twin.measured.params import FidelityParams
from twin.measured.replayed import run_engine, run_requests, run_setup
from twin.measured.report import FidelityReport
from twin.measured.run_tables import measured_runs, read_runs
from twin.measured.runs import MeasuredRun
from twin.memory import plan_memory
from twin.parallel import in_processes
from twin.profile import EngineProfile, Frontend, UnknownProfileError, find_profile, read_profile

SIMULATING = "simulating measured runs"
"""What is being done, for progress."""


@dataclass(frozen=True)
class Prediction:
    """What the twin says of one measured run; nan where its engine would not start.

    Parameters
    ----------
    run_id
        Name of the run.
    predicted_total_throughput, predicted_output_throughput
        Tokens of completed requests per second.
    predicted_itl_ms, predicted_tpot_ms, predicted_ttft_ms
        Means over completed requests, as the measuring client saw them.
    predicted_starved
        Whether throughput falls 10 % or more short of what was offered.
    predicted_starts
        Whether the engine starts, from its memory.
    wall_s
        Seconds that the simulation took.
    """

    run_id: str
    predicted_total_throughput: float
    predicted_output_throughput: float
    predicted_itl_ms: float
    predicted_tpot_ms: float
    predicted_ttft_ms: float
    predicted_starved: bool
    predicted_starts: bool
    wall_s: float


COLUMNS = tuple(field.name for field in fields(Prediction))
"""Columns of the output table."""


def predict(
    run: MeasuredRun, profile: EngineProfile, seed: int = 0, params: FidelityParams | None = None
) -> Prediction:
    """Simulate one measured run.

    The run's own KV capacity is used where the table has it, else the computed one. Means are taken over
    replications where the run has few requests.

    Raises
    ------
    UnservableRequestError
        If the run's KV cache cannot hold one of its requests.
    """
    begin, params = time.perf_counter(), params or FidelityParams()
    tokens, starts = capacity(run, profile)
    if tokens is None:
        return Prediction(run.run_id, *(np.nan,) * 5, False, False, time.perf_counter() - begin)
    setup = run_setup(run.model_copy(update={"kv_cache_tokens": tokens}), profile)
    enough = min(params.max_replications, -(-params.enough_requests // run.arrivals))
    replications = enough if run.is_drawn else 1
    try:
        results = np.array([_replication(run, profile, setup, seed + k) for k in range(replications)])
    except UnservableRequestError as error:
        raise UnservableRequestError(f"run {run.run_id}: {error}") from error
    known = ~np.isnan(results)
    sums, numbers = np.where(known, results, 0.0).sum(axis=0), known.sum(axis=0)
    total, output, itl, tpot, ttft = np.where(numbers > 0, sums / np.maximum(numbers, 1), np.nan)
    ideal = run.arrivals / run.total_time_s * sum(run.asked_tokens(profile.lengths))
    return Prediction(
        run_id=run.run_id,
        predicted_total_throughput=float(total),
        predicted_output_throughput=float(output),
        predicted_itl_ms=1e3 * float(itl),
        predicted_tpot_ms=1e3 * float(tpot),
        predicted_ttft_ms=1e3 * float(ttft),
        predicted_starved=bool(total < (1 - params.starved_shortfall) * ideal),
        predicted_starts=starts,
        wall_s=time.perf_counter() - begin,
    )


def capacity(run: MeasuredRun, profile: EngineProfile) -> tuple[int | None, bool]:
    """Tokens of a run's KV cache, its own or computed, and whether the engine starts; None if it does not."""
    plan = plan_memory(
        profile.memory,
        run_engine(run, profile),
        profile.gpu_memory_gib,
        run.max_loras,
        run.max_lora_rank,
    )
    starts = plan.failure is None
    if run.kv_cache_tokens is not None:
        return run.kv_cache_tokens, starts
    return (plan.kv_cache_tokens, True) if starts else (None, False)


def _replication(
    run: MeasuredRun, profile: EngineProfile, setup: EngineSetup, seed: int
) -> tuple[float, float, float, float, float]:
    """Total and output throughput in tokens/s, then ITL, TPOT and TTFT in seconds."""
    requests = run_requests(run, profile, seed)
    records, view = observe(requests, setup, run.frontend(profile), run.horizon_s)
    done, seconds = records.finished, run.seconds(records)
    prompt = float(records.requests.prompt_tokens[done].sum(dtype=np.int64)) / seconds
    output = float(records.requests.output_tokens[done].sum(dtype=np.int64)) / seconds
    return prompt + output, output, view.itl_s, view.tpot_s, view.ttft_s


def observe(
    requests: Requests, setup: EngineSetup, frontend: Frontend, seconds: float
) -> tuple[RunRecords, ClientView]:
    """Play requests behind a server and look at them as the measuring client did.

    With readings of the metrics the run is played twice: once to know which pairs of adapters occur and
    so how long each reading stalls the server, then with the requests that the stalls hold back.
    """
    scrape = frontend.scrape
    records = simulate_requests(requests, setup, seconds, record_steps=scrape is not None)
    if scrape is None:
        return records, client_view(records, frontend)
    spans = stalls(records, scrape)
    records = simulate_requests(held_back(requests, spans), setup, seconds, record_steps=True)
    return records, client_view(records, frontend, spans, requests.arrival_s)


def predict_all(
    runs: Sequence[MeasuredRun],
    profiles: Callable[[str], EngineProfile],
    seed: int = 0,
    workers: int = 1,
    progress: Progress = silent,
    params: FidelityParams | None = None,
) -> pd.DataFrame:
    """Predictions of runs, in their order; the same for any number of workers."""
    jobs = (delayed(predict)(run, profiles(run.model), seed, params) for run in runs)
    rows = []
    progress(SIMULATING, 0, len(runs))
    for prediction in in_processes(jobs, workers):
        rows.append(asdict(prediction))
        progress(SIMULATING, len(rows), len(runs))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def fidelity(
    runs_csv: str | Path,
    profile: EngineProfile | str | Path | None = None,
    out: str | Path | None = None,
    *,
    device: str | None = None,
    seed: int = 0,
    workers: int = 1,
    progress: Progress = silent,
    params: FidelityParams | None = None,
) -> FidelityReport:
    """Simulate every run of a table and compare with what was measured.

    Rates and ranks are dealt round-robin; each run has its own KV capacity and mean lengths, lasts its
    ``total_time_s``, and is measured by a client that holds so many requests open and no more.

    Parameters
    ----------
    runs_csv
        Table of serving runs, whose columns are those of `twin.measured.runs.MeasuredRun`, or a folder with
        one; the measured columns may be missing or empty, then there is no comparison.
    profile
        Profile, or file of one, for every row; absent: the shipped one of each row's model.
    out
        CSV file to write the predictions to.
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
        If the table cannot be used; every fault is named.
    ProfileError, UnknownProfileError
        If there is no profile.
    OutputFileError
        If the predictions cannot be written; that is noticed before the first run is simulated.
    """
    if out is not None:
        check_writable(out, [*files_of(runs_csv), *([profile] if isinstance(profile, str | Path) else [])])
    table = read_runs(runs_csv)
    given = read_profile(profile) if isinstance(profile, str | Path) else profile
    runs = measured_runs(table, runs_csv)
    try:
        profiles = {name: given or find_profile(name, device) for name in sorted(set(table["model"]))}
        predictions = predict_all(runs, profiles.__getitem__, seed, workers, progress, params)
    except (UnknownProfileError, UnservableRequestError) as error:
        raise type(error)(f"{runs_csv}: {error}") from error
    report = FidelityReport(table, predictions)
    if out is not None:
        report.write_predictions(out)
    return report
