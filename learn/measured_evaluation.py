"""How surrogates and regions fare against measured serving runs, beside what the paper reports of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from joblib import delayed
from numpy.typing import ArrayLike

from learn.assessment import macro_f1, percent
from learn.estimators import Method
from learn.features import ADDITIVE, FEATURES, BoolArray, Engines, FloatArray, candidate_features
from learn.region import FeasibilityRegion, Regions
from learn.space import DesignSpace
from learn.surrogate import Surrogate, within
from scenarios import Problem, ScenarioError
from scenarios.stopping.progress import Progress, silent
from scenarios.text.tables import render, table
from twin import EngineProfile, GPULoad, simulate
from twin.measured.predict import predict_all
from twin.measured.replayed import run_requests
from twin.measured.report import smape
from twin.measured.run_tables import measured_runs, read_runs, selected
from twin.measured.runs import MeasuredRun
from twin.metrics import GPUMetrics
from twin.parallel import in_processes


class PublishedQuality(NamedTuple):
    """What the paper reports of one of its models against measured runs.

    Parameters
    ----------
    name, method
        In words, and ours that is nearest to it.
    model
        Base model.
    throughput_half_smape, itl_half_smape
        Half of the usual SMAPE, in percent; None: not reported.
    macro_f1
        Mean F1 of starved and healthy.
    prediction_ms
        Milliseconds of one prediction; None: not reported.
    """

    name: str
    method: Method
    model: str
    throughput_half_smape: float
    itl_half_smape: float | None
    macro_f1: float
    prediction_ms: float | None


_LLAMA, _QWEN = "llama-3.1-8b-instruct", "qwen-2.5-7b-instruct"

PAPER = (
    PublishedQuality("random forest", "forest", _LLAMA, 4.39, 10.99, 0.955, 0.25),
    PublishedQuality("random forest", "forest", _QWEN, 5.28, 8.96, 0.994, 0.21),
    PublishedQuality("k nearest neighbours", "neighbours", _LLAMA, 4.52, 9.74, 0.955, 0.21),
    PublishedQuality("k nearest neighbours", "neighbours", _QWEN, 5.28, 8.95, 0.990, 0.15),
    PublishedQuality("support vectors", "svm", _LLAMA, 6.84, 11.0, 0.977, 1.70),
    PublishedQuality("support vectors", "svm", _QWEN, 7.46, 12.6, 0.930, 2.24),
    PublishedQuality("small tree", "tree", _LLAMA, 10.25, None, 0.925, None),
    PublishedQuality("small tree", "tree", _QWEN, 12.89, None, 0.969, None),
)
"""arXiv 2508.08343 and 2602.24044, tables of the learned models."""


QUALITIES = ("clean", "client_cap_saturated")
"""Runs whose throughput and ITL are those of the engine."""

OPEN_LOOP = "simulating measured runs in an open loop"
"""What is being done, for progress."""

SERVED = 0.9
"""A run starves, to the paper, when the GPU serves less than this share of the tokens offered."""


RESULTS = ("total_throughput", "itl_mean_ms", "starved")
"""Columns that say what a run did."""

_LENGTHS = [[f.name for f in FEATURES].index(name) for name in ("prompt_mean", "output_mean")]


@dataclass(frozen=True)
class MeasuredQuality:
    """Errors against measured runs.

    Parameters
    ----------
    name
        A surrogate's method, a region, or the twin itself.
    runs
        Measured runs that were asked about.
    outside
        How many others lie outside what was sampled; for regions: have an option that the region lacks, or
        requests of other lengths than its space.
    throughput_smape, itl_smape
        Usual SMAPE in percent (factor 2); nan for regions. The paper's tables have half of it.
    macro_f1
        Mean F1 of starved and healthy, after the paper's definition: the GPU's tokens as a whole. Regions
        hold every adapter to its own share too, so they call more runs starved.
    missed, false_alarms
        Starved runs that are called healthy, and healthy ones that are called starved.
    """

    name: str
    runs: int
    outside: int
    throughput_smape: float
    itl_smape: float
    macro_f1: float
    missed: int
    false_alarms: int


def assess_measured(
    path: str | Path,
    surrogates: Sequence[Surrogate],
    regions: Regions,
    space: DesignSpace,
    *,
    play: bool = True,
    workers: int = 1,
    progress: Progress = silent,
) -> list[MeasuredQuality]:
    """Hold surrogates and regions of a space to the runs of its model in a table of serving runs.

    The twin plays the runs that the surrogates are asked about, too: once as it taught them, an hour in
    which whoever asks never waits (*open loop*), and twice with what the measuring client did: it could
    hold so many requests open, and it read the engine's metrics, which stalls the server.

    Parameters
    ----------
    path
        Table as `twin.measured.run_tables.read_runs` reads it, with the columns ``total_throughput``,
        ``itl_mean_ms`` and ``starved``.
    play
        Whether the twin plays the runs too, which takes minutes.
    workers
        Processes for the twin's runs, at least 1.
    progress
        Called with progress.

    Returns
    -------
    list of MeasuredQuality
        Empty if the table holds no run of the space's model that can be played.

    Raises
    ------
    ScenarioError
        If the file is no such table, or there are no workers.
    """
    if workers < 1:
        raise ScenarioError([Problem("workers", f"is {workers}", "give 1 or more")], "assess_measured")
    table, profile = read_results(path), space.profile
    table = table[selected(table, QUALITIES) & (table["model"] == profile.model).to_numpy()]
    runs = measured_runs(table, path)
    usable = np.array(
        [run.kv_cache_tokens is not None and run.pool_mean_input is not None for run in runs], bool
    )
    table = table[usable].reset_index(drop=True)
    runs = [run for run, use in zip(runs, usable, strict=True) if use]
    if not runs:
        return []
    features = np.vstack([_features(run, profile) for run in runs])
    answers: list[tuple[str, pd.DataFrame]] = [(s.method, _of_surrogate(s, features)) for s in surrogates]
    if play and surrogates and (compared := surrogates[0].inside(features)).any():
        unseen = profile.model_copy(update={"frontend": profile.frontend.model_copy(update={"scrape": None})})
        answers += [
            ("twin, open loop", _of_open_loop(space, runs, compared, workers, progress)),
            ("twin, client cap", _of_twin(unseen, runs, compared, workers, progress)),
            ("twin, stalls too", _of_twin(profile, runs, compared, workers, progress)),
        ]
    alike = _of_lengths(features, space)
    answers += [
        (f"{region.kind} region", _of_region(region, runs, features, alike))
        for region in (regions.inner, regions.outer)
    ]
    return [_quality(name, predicted, table) for name, predicted in answers]


def read_results(path: str | Path) -> pd.DataFrame:
    """The table that `assess_measured` reads.

    Raises
    ------
    ScenarioError
        If the file is no such table.
    """
    table = read_runs(path)
    missing = [Problem(f"column {name}", "is missing", "add it") for name in RESULTS if name not in table]
    if missing:
        raise ScenarioError(missing, str(path))
    return table


def _of_lengths(features: FloatArray, space: DesignSpace) -> BoolArray:
    """Which runs have requests as long as those of a space, or almost: its rows know no others."""
    tokens = np.column_stack([space.figures.prompt, space.figures.output])
    return np.asarray(within(features[:, _LENGTHS], tokens.min(axis=0), tokens.max(axis=0)).all(axis=1))


def _features(run: MeasuredRun, profile: EngineProfile) -> FloatArray:
    """Features of a run; its mean lengths are those served, as in a space, not those asked for."""
    n = len(run.rate)
    engine = (run.max_loras, run.max_lora_rank, run.kv_cache_tokens)
    requests = run_requests(run, profile)
    return candidate_features(
        run.rate,
        run.rank,
        np.full(n, requests.prompt_tokens.mean()),
        np.full(n, requests.output_tokens.mean()),
        np.full(n, (requests.output_tokens.astype(np.float64) ** 2).mean()),
        np.ones((1, n)),
        Engines(*(np.array([value], dtype=np.float64) for value in engine)),
    )


def _answers(compared: BoolArray, *columns: ArrayLike) -> pd.DataFrame:
    """Columns `RESULTS` as predicted for the runs that were asked about; nan for the others."""
    predicted = pd.DataFrame(np.column_stack(columns), index=np.flatnonzero(compared), columns=list(RESULTS))
    return predicted.reindex(range(len(compared)))


def _of_surrogate(surrogate: Surrogate, features: FloatArray) -> pd.DataFrame:
    inside = surrogate.inside(features)
    predicted = surrogate.predict(features[inside], outside="allow")
    starved = predicted.served_share < SERVED
    return _answers(inside, predicted.throughput_tok_per_s, predicted.itl_ms, starved)


def _of_open_loop(
    space: DesignSpace, runs: Sequence[MeasuredRun], compared: BoolArray, workers: int, progress: Progress
) -> pd.DataFrame:
    """The twin under the workload that it taught the surrogates with, at the runs' rates."""
    played = [run for run, a in zip(runs, compared, strict=True) if a]
    gpus = list[GPUMetrics]()
    progress(OPEN_LOOP, 0, len(played))
    for gpu in in_processes((delayed(_hour)(space, run) for run in played), workers):
        gpus.append(gpu)
        progress(OPEN_LOOP, len(gpus), len(played))
    return _answers(
        compared,
        [gpu.served_tok_per_s for gpu in gpus],
        1e3 * np.array([gpu.itl.mean_s for gpu in gpus]),
        [gpu.served_share < SERVED for gpu in gpus],
    )


def _hour(space: DesignSpace, run: MeasuredRun) -> GPUMetrics:
    n, kind = len(run.rate), space.traffic[0]
    load = GPULoad(
        names=tuple(f"a{k}" for k in range(n)),
        rank=run.rank,
        rate=run.rate,
        prompt=(kind.prompt,) * n,
        output=(kind.output,) * n,
    )
    result = simulate(
        load,
        space.workload,
        space.engine,
        space.profile,
        max_loras=run.max_loras,
        max_lora_rank=run.max_lora_rank,
        max_cpu_loras=space.engine.cpu_loras(n, run.max_loras),
        kv_cache_tokens=run.kv_cache_tokens,
    )
    return result.gpu


def _of_twin(
    profile: EngineProfile,
    runs: Sequence[MeasuredRun],
    compared: BoolArray,
    workers: int,
    progress: Progress,
) -> pd.DataFrame:
    played = [run for run, a in zip(runs, compared, strict=True) if a]
    predicted = predict_all(played, lambda _: profile, workers=workers, progress=progress)
    names = ("predicted_total_throughput", "predicted_itl_ms", "predicted_starved")
    return _answers(compared, *(predicted[name].to_numpy(dtype=np.float64) for name in names))


def _of_region(
    region: FeasibilityRegion, runs: Sequence[MeasuredRun], features: FloatArray, alike: BoolArray
) -> pd.DataFrame:
    options = {(o.max_loras, o.max_lora_rank) for o in region.options}
    compared = alike & np.array([(run.max_loras, run.max_lora_rank) in options for run in runs])
    starved = [
        not region.contains(runs[k].max_loras, runs[k].max_lora_rank, features[k, : len(ADDITIVE)])
        for k in np.flatnonzero(compared).tolist()
    ]
    unknown = np.full(len(starved), math.nan)
    return _answers(compared, unknown, unknown, starved)


def _quality(name: str, predicted: pd.DataFrame, table: pd.DataFrame) -> MeasuredQuality:
    """Errors of what was predicted, over the runs that were asked about."""
    compared = predicted["starved"].notna().to_numpy()
    truth = table["starved"].astype(bool).to_numpy()[compared]
    starved = predicted["starved"].to_numpy()[compared] > 0
    return MeasuredQuality(
        name=name,
        runs=int(compared.sum()),
        outside=int((~compared).sum()),
        throughput_smape=smape(table["total_throughput"], predicted["total_throughput"]),
        itl_smape=smape(table["itl_mean_ms"], predicted["itl_mean_ms"]),
        macro_f1=macro_f1(truth, starved) if compared.any() else math.nan,
        missed=int((truth & ~starved).sum()),
        false_alarms=int((~truth & starved).sum()),
    )


def measured_text(results: Sequence[MeasuredQuality]) -> str:
    """A table for a terminal, the paper's figures below; one line if there are no measured runs."""
    if not results:
        return "no measured runs of this model"
    rows = [
        (
            q.name, q.runs, q.outside, percent(q.throughput_smape), percent(q.itl_smape),
            f"{q.macro_f1:.4f}" if math.isfinite(q.macro_f1) else None, q.missed, q.false_alarms,
        )
        for q in results
    ]  # fmt: skip
    columns = (
        "measured runs", ">runs", ">outside", ">throughput", ">ITL", ">macro-F1", ">missed", ">false alarms",
    )  # fmt: skip
    return render(
        table(columns, rows),
        "(SMAPE with factor 2; outside: left out, beyond what was sampled, of other lengths or without rows)",
        "",
        "The paper's models, Llama / Qwen (half-SMAPE in percent)",
        table(("model", ">throughput", ">ITL", ">macro-F1"), _published_rows()),
    )


def _published_rows() -> list[list[str]]:
    """The paper's figures, those of both base models in one cell."""
    names = dict.fromkeys(one.name for one in PAPER)
    return [
        [name, *(
            " / ".join("" if value is None else form.format(value) for value in values)
            for form, values in (
                ("{:.2f}", [one.throughput_half_smape for one in PAPER if one.name == name]),
                ("{:.2f}", [one.itl_half_smape for one in PAPER if one.name == name]),
                ("{:.3f}", [one.macro_f1 for one in PAPER if one.name == name]),
            )
        )]
        for name in names
    ]  # fmt: skip
