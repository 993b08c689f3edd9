"""How surrogates and regions fare against measured serving runs, beside what the paper reports of its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from joblib import delayed
from numpy.typing import NDArray

from learn.assessment import macro_f1, smape
from learn.features import ADDITIVE, FEATURES, Engines, FloatArray, candidate_features
from learn.region import Regions
from learn.space import DesignSpace
from learn.surrogate import Surrogate, within
from scenarios import Problem, ScenarioError
from twin.load import GPULoad
from twin.measured.predict import predict_all
from twin.measured.runs import MeasuredRun, measured_runs, read_runs, run_requests, selected
from twin.metrics import GPUMetrics
from twin.parallel import in_processes
from twin.profile import EngineProfile
from twin.simulate import simulate

PAPER = (
    ("random forest", "4.39 / 5.28", "10.99 / 8.96", ".955 / .994"),
    ("k nearest neighbours", "4.52 / 5.28", "9.74 / 8.95", ".955 / .990"),
    ("support vectors", "6.84 / 7.46", "11.0 / 12.6", ".977 / .930"),
    ("small tree", "10.25 / 12.89", "", ".925 / .969"),
)
"""arXiv 2508.08343 and 2602.24044: half-SMAPE of throughput and ITL in percent, macro-F1 (Llama / Qwen)."""


QUALITIES = ("clean", "client_cap_saturated")
"""Runs whose throughput and ITL are those of the engine."""

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
    workers: int = 1,
) -> list[MeasuredQuality]:
    """Hold surrogates and regions of a space to the runs of its model in a table of serving runs.

    The twin plays the runs that the surrogates are asked about, too: once as it taught them, an hour in
    which whoever asks never waits (*open loop*), and twice with what the measuring client did: it could
    hold so many requests open, and it read the engine's metrics, which stalls the server.

    Parameters
    ----------
    path
        Table as `twin.measured.runs.read_runs` reads it, with the columns ``total_throughput``,
        ``itl_mean_ms`` and ``starved``.
    workers
        Processes for the twin's runs, at least 1.

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
    runs = measured_runs(table)
    known = np.array(
        [run.kv_cache_tokens is not None and run.pool_mean_input is not None for run in runs], bool
    )
    table, runs = table[known], [run for run, k in zip(runs, known, strict=True) if k]
    if not runs:
        return []
    features = np.vstack([_features(run, profile) for run in runs])
    found = [_of_surrogate(surrogate, features, table) for surrogate in surrogates]
    asked = surrogates[0].inside(features) if surrogates else np.zeros(len(runs), dtype=np.bool_)
    if asked.any():
        played, truth = [run for run, a in zip(runs, asked, strict=True) if a], table[asked]
        unseen = profile.model_copy(update={"frontend": profile.frontend.model_copy(update={"scrape": None})})
        found += [
            replace(quality, outside=int((~asked).sum()))
            for quality in (
                _of_open_loop(space, played, truth, workers),
                _of_twin("twin, client cap", unseen, played, truth, workers),
                _of_twin("twin, stalls too", profile, played, truth, workers),
            )
        ]
    alike = _of_lengths(features, space)
    return found + [_of_region(regions, kind, runs, features, alike, table) for kind in ("inner", "outer")]


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


def _of_lengths(features: FloatArray, space: DesignSpace) -> NDArray[np.bool_]:
    """Which runs have requests as long as those of a space, or almost: its rows know no others."""
    tokens = space.means[:, :2]
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


def _of_surrogate(surrogate: Surrogate, features: FloatArray, table: pd.DataFrame) -> MeasuredQuality:
    inside = surrogate.inside(features)
    if not inside.any():
        return _unasked(surrogate.method, len(table))
    said = surrogate.predict(features[inside], outside="allow")
    return _quality(
        surrogate.method,
        table[inside],
        said.served_share < SERVED,
        outside=int((~inside).sum()),
        throughput=said.throughput_tok_per_s,
        itl=said.itl_ms,
    )


def _of_open_loop(
    space: DesignSpace, runs: Sequence[MeasuredRun], table: pd.DataFrame, workers: int
) -> MeasuredQuality:
    """The twin under the workload that it taught the surrogates with, at the runs' rates."""
    said = list(in_processes((delayed(_hour)(space, run) for run in runs), workers))
    return _quality(
        "twin, open loop",
        table,
        np.array([gpu.served_share < SERVED for gpu in said]),
        throughput=np.array([gpu.served_tok_per_s for gpu in said]),
        itl=1e3 * np.array([gpu.itl.mean_s for gpu in said]),
    )


def _hour(space: DesignSpace, run: MeasuredRun) -> GPUMetrics:
    n = len(run.rate)
    load = GPULoad(
        names=tuple(f"a{k}" for k in range(n)),
        rank=run.rank,
        rate=run.rate,
        prompt=(space.workload.prompt,) * n,
        output=(space.workload.output,) * n,
    )
    result = simulate(
        load,
        space.workload,
        space.engine,
        space.profile,
        max_loras=run.max_loras,
        max_lora_rank=run.max_lora_rank,
        kv_cache_tokens=run.kv_cache_tokens,
    )
    return result.gpu


def _of_twin(
    name: str, profile: EngineProfile, runs: Sequence[MeasuredRun], table: pd.DataFrame, workers: int
) -> MeasuredQuality:
    said = predict_all(runs, lambda _: profile, workers=workers)
    return _quality(
        name,
        table,
        said["predicted_starved"].to_numpy(dtype=np.bool_),
        throughput=said["predicted_total_throughput"].to_numpy(dtype=np.float64),
        itl=said["predicted_itl_ms"].to_numpy(dtype=np.float64),
    )


def _of_region(
    regions: Regions,
    kind: str,
    runs: Sequence[MeasuredRun],
    features: FloatArray,
    alike: NDArray[np.bool_],
    table: pd.DataFrame,
) -> MeasuredQuality:
    region = regions.inner if kind == "inner" else regions.outer
    options = {(o.max_loras, o.max_lora_rank) for o in region.options}
    asked = alike & np.array([(run.max_loras, run.max_lora_rank) in options for run in runs])
    if not asked.any():
        return _unasked(f"{kind} region", len(table))
    starved = np.array(
        [
            not region.contains(run.max_loras, run.max_lora_rank, row[: len(ADDITIVE)])
            for run, row, a in zip(runs, features, asked, strict=True)
            if a
        ]
    )
    return _quality(f"{kind} region", table[asked], starved, outside=int((~asked).sum()))


def _unasked(name: str, outside: int) -> MeasuredQuality:
    """Of what could not be asked about a single run."""
    return MeasuredQuality(name, 0, outside, math.nan, math.nan, math.nan, 0, 0)


def _quality(
    name: str,
    table: pd.DataFrame,
    starved: NDArray[np.bool_],
    *,
    outside: int = 0,
    throughput: FloatArray | None = None,
    itl: FloatArray | None = None,
) -> MeasuredQuality:
    truth = table["starved"].astype(bool).to_numpy()

    def error(said: FloatArray | None, column: str) -> float:
        if said is None:
            return math.nan
        measured = table[column].to_numpy(dtype=np.float64)
        known = np.isfinite(measured)
        return smape(measured[known], said[known])

    return MeasuredQuality(
        name=name,
        runs=len(table),
        outside=outside,
        throughput_smape=error(throughput, "total_throughput"),
        itl_smape=error(itl, "itl_mean_ms"),
        macro_f1=macro_f1(truth, starved),
        missed=int((truth & ~starved).sum()),
        false_alarms=int((~truth & starved).sum()),
    )


def measured_text(found: Sequence[MeasuredQuality]) -> str:
    """A table for a terminal, the paper's figures below; one line if there are no measured runs."""
    if not found:
        return "no measured runs of this model"
    lines = ["measured runs    runs  outside  throughput     ITL  macro-F1  missed  false alarms"]
    lines += [
        f"{q.name:<17}{q.runs:>4}{q.outside:>9}{_percent(q.throughput_smape):>12}{_percent(q.itl_smape):>8}"
        f"{_score(q.macro_f1):>10}{q.missed:>8}{q.false_alarms:>14}"
        for q in found
    ]
    lines += [
        "(SMAPE with factor 2; outside: left out, beyond what was sampled, of other lengths or without rows)",
        "",
        "the paper's models, Llama / Qwen     throughput          ITL     macro-F1   (half-SMAPE, %)",
    ]
    lines += [f"{name:<30}{thr:>17}{itl:>13}{f1:>13}" for name, thr, itl, f1 in PAPER]
    return "\n".join(lines)


def _percent(value: float) -> str:
    return f"{value:.2f} %" if np.isfinite(value) else "–"


def _score(value: float) -> str:
    return f"{value:.4f}" if np.isfinite(value) else "–"
