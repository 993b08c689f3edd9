from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import learn
import scenarios
from learn import Dataset, DesignSpace, Regions, region_store
from learn.measured_evaluation import PAPER, assess_measured, measured_text
from learn.traffic.kinds import TrafficKind
from optimizer.cli import main
from scenarios import FixedLengths, Scenario, ScenarioError

MEASURED = Path(__file__).parents[3] / "shared/measurements/serving_runs.csv"

RUN = {
    "model": "llama-3.1-8b-instruct",
    "max_loras": 8,
    "n_adapters": 8,
    "max_lora_rank": 16,
    "rates": "0.1;0.05",
    "sizes": "8;16",
    "kv_cache_tokens": 3e5,
    "pool_mean_input": 200.0,
    "pool_mean_output": 150.0,
    "status": "ok",
    "quality": "clean",
    "total_throughput": 210.0,
    "itl_mean_ms": 14.0,
    "starved": False,
}
"""A measured run with the lengths of the small space."""

LONG, OTHER = {"pool_mean_input": 1500.0}, {"model": "qwen2.5-7b-instruct"}


def written(folder: Path, *changes: dict[str, object]) -> Path:
    """A table with a run for each set of changes."""
    path = folder / "runs.csv"
    pd.DataFrame([RUN | {"run_id": f"r{k}"} | one for k, one in enumerate(changes)]).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def regions(dataset: Dataset, space: DesignSpace) -> Regions:
    return learn.linearize(dataset, space)


@pytest.mark.slow
@pytest.mark.skipif(not MEASURED.exists(), reason="the measured runs are not here")
def test_measured_runs_are_held_against_surrogates_twin_and_regions(
    dataset: Dataset, regions: Regions, space: DesignSpace, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = learn.fit(dataset, "tree")
    monkeypatch.setattr(learn.Surrogate, "inside", lambda _, x: np.arange(len(x)) < 3)
    as_measured = replace(space, traffic=(TrafficKind(FixedLengths(tokens=224), FixedLengths(tokens=196)),))
    found = assess_measured(MEASURED, [tree], regions, as_measured)
    twins = ["twin, open loop", "twin, client cap", "twin, stalls too"]
    assert [q.name for q in found] == ["tree", *twins, "inner region", "outer region"]
    assert all(q.missed + q.false_alarms <= q.runs for q in found)
    fitted, taught, capped, _, inner, outer = found
    assert taught.runs == capped.runs == fitted.runs == 3
    assert taught.outside == fitted.outside
    assert capped.throughput_smape < fitted.throughput_smape
    assert inner.runs == outer.runs > 0
    assert inner.false_alarms >= outer.false_alarms
    unplayed = assess_measured(MEASURED, [tree], regions, as_measured, play=False)
    assert unplayed == [fitted, inner, outer]
    text = measured_text(found)
    assert all(one.name in text and f"{one.macro_f1:.3f}" in text for one in PAPER)


def test_regions_are_not_held_to_runs_of_other_lengths(
    regions: Regions, space: DesignSpace, tmp_path: Path
) -> None:
    nearly = {"pool_mean_input": 206.0}
    found = assess_measured(written(tmp_path, {}, nearly, LONG, {}, LONG), [], regions, space)
    assert [(q.name, q.runs, q.outside) for q in found] == [("inner region", 3, 2), ("outer region", 3, 2)]
    assert all(q.macro_f1 == 1.0 for q in found)


def test_regions_without_a_comparable_run_have_no_score(
    regions: Regions, space: DesignSpace, tmp_path: Path
) -> None:
    found = assess_measured(written(tmp_path, LONG, {"max_loras": 4}), [], regions, space)
    assert [(q.runs, q.outside) for q in found] == [(0, 2), (0, 2)]
    assert all(math.isnan(q.macro_f1) for q in found)
    assert "nan" not in measured_text(found)


@pytest.mark.parametrize("change", [OTHER, {"quality": "bad"}, {"kv_cache_tokens": math.nan}])
def test_without_a_run_of_the_model_there_is_nothing_to_assess(
    change: dict[str, object], regions: Regions, space: DesignSpace, tmp_path: Path
) -> None:
    found = assess_measured(written(tmp_path, change), [], regions, space)
    assert found == []
    assert measured_text(found) == "no measured runs of this model"


def test_a_table_without_results_and_no_workers_are_refused(
    regions: Regions, space: DesignSpace, tmp_path: Path
) -> None:
    path = written(tmp_path, {})
    with pytest.raises(ScenarioError, match="workers is 0; give 1 or more"):
        assess_measured(path, [], regions, space, workers=0)
    pd.read_csv(path).drop(columns="starved").to_csv(path, index=False)
    with pytest.raises(ScenarioError, match=r"runs.csv: 1 problem\n  column starved is missing; add it"):
        assess_measured(path, [], regions, space)


def test_the_report_says_that_there_are_no_measured_runs_of_a_model(
    scenario: Scenario,
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(scenarios, "read", lambda *_, **__: scenario)
    for module in (learn, region_store):
        monkeypatch.setattr(module, "sample", lambda *_, **__: dataset)
        monkeypatch.setattr(module, "add_overloads", lambda given, *_, **__: given)
    monkeypatch.setattr(learn, "METHODS", ("tree",))
    table = str(written(tmp_path, OTHER))
    monkeypatch.setattr(
        "sys.argv", ["lorapack", "fit", "mixed_ranks", "--assess", "--measured", table, "--quiet"]
    )
    with pytest.raises(SystemExit) as stop:
        main()
    assert not stop.value.code
    assert "no measured runs of this model" in capsys.readouterr().out.splitlines()
