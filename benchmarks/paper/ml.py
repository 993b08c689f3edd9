"""The learned models: against twin runs that shaped none of them, and against the measured runs.

Ours learn from a few thousand twin runs around the boundary of starvation, under the paper's criterion, the
paper's from 44,760 and 59,160 on a grid.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Literal

import pandas as pd

import learn
import scenarios
import twin
from benchmarks.paper.part import DEVICE, MODELS, Part, Settings
from benchmarks.paper.pictures import bars
from benchmarks.paper.rows import Cell, Row, file_digest, profile_digest, records
from benchmarks.paper.text import both_smapes
from benchmarks.paper_sets import TEMPLATES
from learn import PLANS, SamplingPlan
from learn.assessment import surrogate_quality
from learn.design import assessment_plan
from learn.estimators import Method
from learn.measured_evaluation import PAPER, assess_measured
from learn.storage.cache import cache_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CRITERION: Literal["paper"] = "paper"
METHODS: tuple[Method, ...] = ("forest", "neighbours", "svm", "tree", "extra")
"""The paper's four, and what lorapack takes where nothing is said."""

NAMES = {one.method: one.name for one in PAPER} | {"extra": "extremely randomised trees"}

TEST_MIXES = 320
QUICK_MIXES = 24
TWIN, MEASURED = "twin runs", "measured runs"


def cells(settings: Settings) -> Iterator[Cell]:
    """One for each base model: all of its models share the runs."""
    path = settings.file(settings.measurements, "serving_runs.csv", "--measurements")
    for model, name in MODELS.items():
        train, test = _plans(settings)
        inputs = {
            "table": file_digest(path),
            "profile": profile_digest(twin.find_profile(name, DEVICE)),
            "scenario": _scenario(model).digest,
            "train": repr(train),
            "test": repr(test),
            "methods": METHODS,
        }
        yield Cell({"model": model}, inputs)


def _plans(settings: Settings) -> tuple[SamplingPlan, SamplingPlan]:
    """How the runs to learn from and those to test on are sampled."""
    plan = PLANS[CRITERION]
    if settings.quick:
        plan = assessment_plan(plan, 4 * QUICK_MIXES)
        return plan, assessment_plan(plan, QUICK_MIXES)
    return plan, assessment_plan(plan, TEST_MIXES)


def _scenario(model: str) -> scenarios.Scenario:
    return scenarios.read(TEMPLATES[model], overrides=[f"acceptance={CRITERION}"])


def measure(cell: Cell, settings: Settings) -> list[Row]:
    """Errors of every model against both kinds of runs."""
    scenario = _scenario(str(cell.key["model"]))
    device = scenario.devices[0]
    profile = twin.find_profile(scenario.model, device.name)
    space = learn.space_for(scenario, device, profile)
    train_plan, test_plan = _plans(settings)
    kept, workers = cache_folder(), settings.workers
    searched = learn.sample(space, train_plan, workers=workers, cache=kept)
    train = learn.add_overloads(searched, space, train_plan, workers=workers, cache=kept)
    test = learn.sample(space, test_plan, workers=workers, cache=kept, overloads=True)
    surrogates = [learn.fit(train, method) for method in METHODS]
    rows = [_of_twin_runs(surrogate, test) | {"learned_from": len(train)} for surrogate in surrogates]
    runs = settings.measurements / "serving_runs.csv"
    regions = learn.regions_for(scenario, device, profile, workers=workers)
    for quality in assess_measured(runs, surrogates, regions, space, play=False, workers=workers):
        rows.append(
            {
                "runs_of": MEASURED,
                "method": quality.name,
                "runs": quality.runs,
                "throughput_smape": quality.throughput_smape,
                "itl_smape": quality.itl_smape,
                "macro_f1": quality.macro_f1,
                "missed": quality.missed,
                "false_alarms": quality.false_alarms,
            }
        )
    return rows


def _of_twin_runs(surrogate: learn.Surrogate, test: learn.Dataset) -> Row:
    quality = surrogate_quality(surrogate, test)
    return {
        "runs_of": TWIN,
        "method": quality.method,
        "runs": int(test.scattered.sum()),
        "throughput_smape": quality.smape["throughput_tok_per_s"],
        "itl_smape": quality.smape["itl_ms"],
        "macro_f1": quality.macro_f1,
        "macro_f1_at_boundary": quality.near_macro_f1,
        "ms_alone": quality.ms_alone,
        "us_in_a_batch": quality.us_per_candidate,
    }


# --- what is shown ----------------------------------------------------------------------------------


def tables(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Measured runs beside the paper's figures; twin runs."""
    rows = records(frame)
    of_twin = {(row["model"], row["method"]): row for row in rows if row["runs_of"] == TWIN}
    measured = [
        _measured_row(row, of_twin.get((row["model"], row["method"])))
        for row in rows
        if row["runs_of"] != TWIN
    ]
    tested = [_twin_row(row) for row in of_twin.values()]
    return {"ml_measured": pd.DataFrame(measured), "ml_twin": pd.DataFrame(tested)}


def _measured_row(row: Row, of_twin: Row | None) -> Row:
    published = next(
        (one for one in PAPER if (one.method, one.model) == (row["method"], MODELS[row["model"]])), None
    )
    return {
        "base model": row["model"],
        "model": NAMES.get(row["method"], row["method"]),
        "runs": row["runs"],
        "throughput, usual (half)": both_smapes(row["throughput_smape"]),
        "paper, half": "" if published is None else f"{published.throughput_half_smape:.2f} %",
        "ITL, usual (half)": both_smapes(row["itl_smape"]),
        "paper, half ": (
            ""
            if published is None or published.itl_half_smape is None
            else f"{published.itl_half_smape:.2f} %"
        ),
        "macro-F1": f"{row['macro_f1']:.3f}",
        "paper": "" if published is None else f"{published.macro_f1:.3f}",
        "one prediction, ms": "" if of_twin is None else f"{of_twin['ms_alone']:.2f}",
        "paper, ms": ""
        if published is None or published.prediction_ms is None
        else f"{published.prediction_ms}",
    }


def _twin_row(row: Row) -> Row:
    return {
        "base model": row["model"],
        "model": NAMES.get(row["method"], row["method"]),
        "learned from": f"{row['learned_from']:.0f}",
        "tested on": row["runs"],
        "throughput, usual (half)": both_smapes(row["throughput_smape"]),
        "ITL, usual (half)": both_smapes(row["itl_smape"]),
        "macro-F1": f"{row['macro_f1']:.3f}",
        "macro-F1 at the boundary": f"{row['macro_f1_at_boundary']:.3f}",
        "µs each, in batches of 1,000": f"{row['us_in_a_batch']:.1f}",
    }


def draw(frame: pd.DataFrame) -> dict[str, Figure]:
    """Half-SMAPE of throughput and ITL on measured runs, ours and the paper's."""
    groups: dict[str, dict[str, float]] = {}
    for row in records(frame[frame["runs_of"] == MEASURED]):
        for one in PAPER:
            if (one.method, one.model) == (row["method"], MODELS[row["model"]]):
                group = groups.setdefault(f"{row['model']}\n{one.name}", {})
                group["throughput"] = row["throughput_smape"] / 2
                group["published, throughput"] = one.throughput_half_smape
                group["ITL"] = row["itl_smape"] / 2
                if one.itl_half_smape is not None:
                    group["published, ITL"] = one.itl_half_smape
    return {"ml": bars(groups, "half-SMAPE on measured runs, %")} if groups else {}


PART = Part("ml", cells, measure, tables, draw)
