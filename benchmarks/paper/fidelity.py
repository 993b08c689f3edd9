"""The twin against measured runs, and what chance alone does to a run of an hour.

Of *predictable* load every measured run is replayed, once by the shipped profiles, which were fitted to these
runs too, and once by profiles that were fitted without the run's group. Of *unpredictable* load no measured
run is public. There the twin plays the measured configurations under rates that walk, twice with other seeds:
how far two such hours are from each other is how far any twin must be from a run whose arrivals it is not
given.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from joblib import delayed

import scenarios
import twin
from benchmarks.paper.part import DEVICE, MODELS, Part, Settings
from benchmarks.paper.pictures import bars
from benchmarks.paper.published import published_value
from benchmarks.paper.rows import Cell, Row, file_digest, profile_digest, records
from benchmarks.paper.text import both_smapes, percent, whole
from benchmarks.paper_sets import TEMPLATES
from benchmarks.public_measurements import convert
from twin.measured.predict import predict_all
from twin.measured.report import FidelityReport, smape
from twin.measured.run_tables import measured_runs, read_runs, selected
from twin.measured.runs import MeasuredRun
from twin.metrics import GPUMetrics
from twin.parallel import in_processes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHIPPED, LEFT_OUT, SEEDS = "shipped profile", "group left out", "two seeds"
QUALITIES = ("clean", "client_cap_saturated")
LOADS = ("poisson", "unpredictable")
TABLE = "serving_runs.csv"
EVERY = 16
"""Of the measured configurations every so many-th is played under other seeds."""

QUICK_RUNS = 4
STARVED = 0.9
"""Share of the offered tokens below which the paper calls a GPU starved."""

METRICS = {"throughput": "throughput", "itl": "ITL", "ttft": "TTFT"}


def cells(settings: Settings) -> Iterator[Cell]:
    """Replays by both kinds of profiles, then hours of two seeds."""
    path = settings.file(settings.measurements, TABLE, "--measurements")
    inputs = {"table": file_digest(path), "runs": QUICK_RUNS if settings.quick else "all"}
    for what in (SHIPPED, SEEDS, LEFT_OUT):
        if settings.quick and what == LEFT_OUT:
            continue
        for model, name in MODELS.items():
            profile = twin.find_profile(name, DEVICE)
            for load in LOADS if what == SEEDS else ("poisson",):
                made_of = {**inputs, "profile": profile_digest(profile)}
                made_of |= {"every": EVERY} if what == SEEDS else {}
                yield Cell({"what": what, "load": load, "model": model}, made_of)


def measure(cell: Cell, settings: Settings) -> list[Row]:
    """Errors by quality, or the distance of two seeds."""
    model, what = MODELS[cell.key["model"]], cell.key["what"]
    if what == SEEDS:
        return [_two_seeds(cell.key["model"], cell.key["load"], settings)]
    if what == LEFT_OUT:
        with tempfile.TemporaryDirectory() as folder:
            convert(settings.measurements, Path(folder))
            start = twin.find_profile(model, DEVICE)
            _, report = twin.calibrate(folder, model, start=start, workers=settings.workers)
        assert report.left_out is not None  # the calibration cross-validates
        return list(_errors(report.left_out))
    table, runs = _runs(model, settings)
    profile = twin.find_profile(model, DEVICE)
    return list(
        _errors(FidelityReport(table, predict_all(runs, lambda _: profile, workers=settings.workers)))
    )


def _runs(model: str, settings: Settings) -> tuple[pd.DataFrame, list[MeasuredRun]]:
    """The measured runs of a model that ran, as a table and one by one."""
    path = settings.file(settings.measurements, TABLE, "--measurements")
    table = read_runs(path)
    table = table[selected(table, QUALITIES) & (table["model"] == model).to_numpy()]
    table = table[: QUICK_RUNS if settings.quick else len(table)].reset_index(drop=True)
    return table, measured_runs(table, path)


def _errors(report: FidelityReport) -> Iterator[Row]:
    """A row for each quality: errors, ours and the published twin's, and counts of starvation."""
    for quality in QUALITIES:
        at = (report.measured["quality"] == quality).to_numpy()
        if not at.any():
            continue
        part = FidelityReport(
            report.measured[at].reset_index(drop=True), report.predictions[at].reset_index(drop=True)
        )
        errors = part.errors(by=()).iloc[0]
        row: Row = {"quality": quality, "runs": int(errors["runs"])}
        for metric in METRICS:
            row[f"{metric}_smape"] = errors[f"{metric}_smape"]
            row[f"{metric}_peer_runs"] = int(errors[f"{metric}_peer_runs"])
            row[f"{metric}_peer_smape"] = errors[f"{metric}_peer_smape"]
            row[f"{metric}_smape_there"] = errors[f"{metric}_smape_there"]
        for count in records(part.starvation()):
            prefix = {"twin": "", "published": "peer_", "twin, there": "there_"}[str(count["who"])]
            row |= {f"{prefix}missed": count["missed"], f"{prefix}false_alarms": count["false alarms"]}
            row |= {f"{prefix}judged": count["runs"]}
        row["real_s"] = float(part.measured["total_time_s"].sum())
        row["twin_s"] = round(float(part.predictions["wall_s"].sum()), 1)
        yield row


# --- unpredictable load -----------------------------------------------------------------------------


def _two_seeds(model: str, load: str, settings: Settings) -> Row:
    """How far an hour of one seed is from one of another, over measured configurations."""
    _, runs = _runs(MODELS[model], settings)
    played = [run for run in runs[:: 1 if settings.quick else EVERY] if run.kv_cache_tokens is not None]
    jobs = [delayed(hour)(run, model, load, seed) for run in played for seed in (0, 1)]
    gpus: list[GPUMetrics] = list(in_processes(jobs, settings.workers))
    first, second = gpus[::2], gpus[1::2]
    starved = [[gpu.served_share < STARVED for gpu in part] for part in (first, second)]
    return {
        "quality": "configurations of both",
        "runs": len(played),
        **{
            f"{metric}_smape": smape([of(gpu) for gpu in first], [of(gpu) for gpu in second])
            for metric, of in (
                ("throughput", lambda gpu: gpu.served_tok_per_s),
                ("itl", lambda gpu: gpu.itl.mean_s),
                ("ttft", lambda gpu: gpu.ttft.mean_s),
            )
        },
        "missed": int(np.sum(np.array(starved[0]) & ~np.array(starved[1]))),
        "false_alarms": int(np.sum(~np.array(starved[0]) & np.array(starved[1]))),
        "judged": len(played),
    }


@cache
def _scenario(model: str, load: str) -> scenarios.Scenario:
    return scenarios.read(TEMPLATES[model], overrides=[f"workload.arrivals={load}"])


def hour(run: MeasuredRun, model: str, load: str, seed: int) -> GPUMetrics:
    """The twin's hour of a measured configuration, under a process of arrivals."""
    scenario, n = _scenario(model, load), len(run.rate)
    workload = scenario.workload
    assert workload.prompt is not None
    assert workload.output is not None  # the shipped scenarios say both
    gpu = twin.GPULoad(
        names=tuple(f"a{k}" for k in range(n)),
        rank=run.rank,
        rate=run.rate,
        prompt=(workload.prompt,) * n,
        output=(workload.output,) * n,
    )
    return twin.simulate(
        gpu,
        workload,
        scenario.engine,
        twin.find_profile(MODELS[model], DEVICE),
        max_loras=run.max_loras,
        max_lora_rank=run.max_lora_rank,
        max_cpu_loras=max(n, run.max_loras),
        kv_cache_tokens=run.kv_cache_tokens,
        seed=seed,
    ).gpu


# --- what is shown ----------------------------------------------------------------------------------


def tables(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Errors of replays; starvation and speed; distances of seeds."""
    replays, seeds = frame[frame["what"] != SEEDS], frame[frame["what"] == SEEDS]
    shown = {"fidelity": pd.DataFrame([_replay_row(row) for row in records(replays)])}
    shown["starvation"] = pd.DataFrame([_starved_row(row) for row in records(replays)])
    shown["seeds"] = pd.DataFrame([_seeds_row(row) for row in records(seeds)])
    return {name: table for name, table in shown.items() if len(table)}


def _replay_row(row: Row) -> Row:
    shown: Row = {
        "model": row["model"],
        "profile": row["what"],
        "runs": row["quality"],
        "of them": row["runs"],
    }
    for metric, title in METRICS.items():
        shown[f"{title}, usual (half)"] = both_smapes(row[f"{metric}_smape"])
    shown["runs of the published twin"] = whole(row["throughput_peer_runs"])
    for metric, title in METRICS.items():
        both = [percent(row[f"{metric}_{who}"]) for who in ("smape_there", "peer_smape")]
        shown[f"{title} there, usual: ours / published"] = " / ".join(both) if all(both) else ""
    return shown


def _starved_row(row: Row) -> Row:
    times = row["real_s"] / row["twin_s"] if row["twin_s"] else np.nan
    return {
        "model": row["model"],
        "profile": row["what"],
        "runs": row["quality"],
        "judged": int(row["judged"]),
        "missed": int(row["missed"]),
        "false alarms": int(row["false_alarms"]),
        "published twin: judged": whole(row.get("peer_judged")),
        "missed ": whole(row.get("peer_missed")),
        "false alarms ": whole(row.get("peer_false_alarms")),
        "times as fast as the run": f"{times:,.0f}",
    }


def _seeds_row(row: Row) -> Row:
    shown: Row = {"model": row["model"], "load": row["load"], "configurations": row["runs"]}
    for metric, title in METRICS.items():
        shown[f"{title}, usual (half)"] = both_smapes(row[f"{metric}_smape"])
    shown["starved in one of two"] = f"{row['missed'] + row['false_alarms']:.0f}"
    return shown


def draw(frame: pd.DataFrame) -> dict[str, Figure]:
    """Half-SMAPE of throughput, ITL and TTFT: ours and the published twin's, and of two seeds."""
    groups: dict[str, dict[str, float]] = {}
    for row in records(frame):
        if row["what"] == SHIPPED:
            continue
        seeds = row["what"] == SEEDS
        at = f"{row['model']}\n" + (f"{row['load']},\ntwo seeds" if seeds else row["quality"].split("_")[-1])
        groups[at] = {
            title: row[f"{metric}_smape"] / 2 for metric, title in METRICS.items() if metric != "ttft"
        }
        if row["throughput_peer_runs"] and not seeds:
            groups[at]["published twin, throughput"] = row["throughput_peer_smape"] / 2
            groups[at]["published twin, ITL"] = row["itl_peer_smape"] / 2
    line = published_value("twin throughput error")
    note = f"published: throughput below {line:.0f} %"
    return {"fidelity": bars(groups, "half-SMAPE, %", line=(line, note))} if groups else {}


PART = Part("fidelity", cells, measure, tables, draw)
