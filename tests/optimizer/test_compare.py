"""Several methods side by side: the figures, the tables, the picture."""

from __future__ import annotations

import inspect
import io
import json
import time
from pathlib import Path

import pandas as pd
import pytest

import optimizer
import optimizer.comparison as comparison_module
import scenarios
from optimizer.arguments import compared
from optimizer.cli.solve_commands import compare_command
from optimizer.comparison import MOST_SHOWN, Comparison, _least_headroom
from scenarios.plots import PlotError
from twin import Criterion

LONGEST = max(optimizer.BASELINES, key=len)


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    """Baselines, which need no region, on two scenarios; one plan with a bound put on it."""
    chosen = [
        scenarios.read(name, overrides=["acceptance=paper", "replications=1", "workload.duration_s=60"])
        for name in ("paper_high_32", "paper_high_128")
    ]
    methods = (name for name in ("maxbackbone", "random", "aibrix-binpack", LONGEST))
    made = optimizer.compare(chosen, methods, gpus=12)
    bounded = made.results[3].model_copy(update={"bound": 1.0, "gap": 0.5, "status": "optimal"})
    return Comparison((*made.results[:3], bounded, *made.results[4:]))


def test_the_frame_has_a_row_for_every_scenario_and_method(comparison: Comparison) -> None:
    frame = comparison.to_frame()
    assert len(frame) == 8
    expected = (
        "scenario method gpus bound gap accepted starved_adapters memory_errors itl_ms ttft_ms seconds status"
    )
    assert set(expected.split()) <= set(frame.columns)
    assert list(frame["scenario"]) == ["paper_high_32"] * 4 + ["paper_high_128"] * 4
    for row, result in zip(frame.to_dict("records"), comparison.results, strict=True):
        assert row["method"] == result.method
        assert result.validation is None or row["accepted"] == result.accepted
        said = result.validation.gpus if result.validation else ()
        if said:
            assert row["starved_adapters"] == sum(len(gpu.starved) for gpu in said)
            assert row["rejected_gpus"] == sum(not gpu.accepted for gpu in said)
            assert row["memory_errors"] == 0
    backbone = frame[frame["method"] == "maxbackbone"]
    assert (backbone["rejected_gpus"] > 0).all()
    assert backbone["starved_adapters"].sum() > 0
    no_plan = frame[frame["status"] == "no_plan"]
    assert list(no_plan["method"]) == ["aibrix-binpack"]  # 13 GPUs of ten adapters, 12 given
    assert list(no_plan["no_plan"]) == ["too_few_gpus"]
    assert frame["no_plan"].notna().sum() == 1
    assert no_plan["gpus"].isna().all()


def test_the_frame_survives_csv(comparison: Comparison) -> None:
    frame = comparison.to_frame()
    again = pd.read_csv(io.StringIO(frame.to_csv(index=False)))
    assert list(again.columns) == list(frame.columns)
    assert list(again["gpus"].fillna(0)) == list(frame["gpus"].fillna(0))


def test_a_spreadsheet_finds_no_formula(comparison: Comparison) -> None:
    one = comparison.results[0]
    named = one.model_copy(update={"scenario": one.scenario.model_copy(update={"name": "=1+1\x1b"})})
    table = pd.read_csv(io.StringIO(Comparison((named, *comparison.results[1:])).to_csv()))
    assert table["scenario"][0] == r"'=1+1\x1b"
    assert comparison.to_csv() == comparison.to_frame().to_csv(index=False)  # where there is nothing to hide


@pytest.mark.parametrize("width", [60, 80, 120])
def test_the_tables_fit_a_terminal_and_name_every_method_in_full(
    comparison: Comparison, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    text = comparison.summary()
    assert max(map(len, text.splitlines())) <= width
    overview = text.split("paper_high_32, maxbackbone:")[0]
    assert "…" not in overview
    for name in ("paper_high_32", "paper_high_128", "maxbackbone", LONGEST, "REJECTED", "p99"):
        assert name in overview
    for name in ("50.0%", "no plan"):
        assert (name in overview) == (width == 120)
    assert str(comparison) == text
    assert "<table" in comparison._repr_html_()


def test_large_plans_are_not_listed_gpu_by_gpu(comparison: Comparison) -> None:
    placed = comparison.results[1]
    large = placed.model_copy(update={"gpus": MOST_SHOWN + 1})
    assert "GPU  LoRAs" in Comparison((placed,)).summary()
    assert "GPU  LoRAs" not in Comparison((large,)).summary()
    assert "each of them: `lorapack solve`, or --json" in Comparison((large,)).summary()


def test_what_matters_comes_first(comparison: Comparison) -> None:
    first = "scenario acceptance method status gpus bound gap accepted itl_ms ttft_ms ttft_p50_ms ttft_p99_ms"
    assert list(comparison.to_frame().columns)[:12] == first.split()


def test_the_percentiles_of_ttft_are_those_of_the_worst_gpu(comparison: Comparison) -> None:
    for row, result in zip(comparison.to_frame().to_dict("records"), comparison.results, strict=True):
        for figure in ("ttft_p50_ms", "ttft_p99_ms"):
            known = [getattr(gpu, figure) for gpu in result.validation.gpus] if result.validation else []
            measured = [value for value in known if value is not None]
            assert row[figure] == max(measured) if measured else pd.isna(row[figure])


def test_the_greedy_as_published_stands_beside_its_fill_a_heuristic_and_exact() -> None:
    assert compared(("gpus", "latency")) == ("greedy", "greedy-fill", "bfd", "exact")
    assert compared(("latency",)) == ("greedy-lat", "spread", "bfd", "exact")
    for call in (compare_command, optimizer.compare):
        assert inspect.signature(call).parameters["methods"].default is None


def test_the_frame_has_the_value_of_every_objective() -> None:
    overrides = ["acceptance=paper", "replications=1", "devices[0].price_per_hour=2.5"]
    scenario = scenarios.read("paper_mixed_32", overrides=overrides)
    made = optimizer.compare(scenario, ["maxbackbone", "bfd"], objective=["cost", "gpus", "worst_ttft"])
    table = pd.read_csv(io.StringIO(made.to_csv()))
    for result, row in zip(made.results, table.to_dict("records"), strict=True):
        assert result.gpus is not None
        assert result.validation is not None
        assert row["objective"] == row["objective_cost"] == 2.5 * result.gpus
        assert row["objective_gpus"] == result.gpus
        slowest = max(gpu.ttft_ms or 0.0 for gpu in result.validation.gpus)
        assert row["objective_worst_ttft"] == pytest.approx(slowest)
    assert "cost/h" in made.summary()


def test_preparation_is_told_once_and_is_in_no_methods_seconds(comparison: Comparison) -> None:
    one, other = (
        r.model_copy(update={"seconds": 57.5, "preparation_seconds": 55.0}) for r in comparison.results[:2]
    )
    late = other.model_copy(update={"seconds": 2.5, "preparation_seconds": 0.0})
    text = Comparison((one, late)).summary()
    assert text.count("before the search: 55 s of compiling and learning") == 1
    assert text.count("search 2.5 s") == 2
    assert list(Comparison((one, late)).to_frame()["search_seconds"]) == [2.5, 2.5]
    assert "57.5" not in text


def test_a_plan_has_the_headroom_of_its_tightest_gpu(comparison: Comparison) -> None:
    result = comparison.results[0]
    assert result.validation is not None
    report = result.validation

    def least(*margins: float | None) -> float | None:
        gpus = tuple(
            report.gpus[0].model_copy(update={"margins": {Criterion.ITL_MEAN: margin}}) for margin in margins
        )
        told = result.model_copy(update={"validation": report.model_copy(update={"gpus": gpus})})
        return _least_headroom(told, {Criterion.ITL_MEAN: 20.0})

    assert least(0.3, -0.1, 0.2) == -0.1
    assert least(0.3, None, 0.2) is None  # one was not measured, and may be the tightest
    assert _least_headroom(result.model_copy(update={"validation": None}), {}) is None


def test_a_search_that_was_cut_short_is_told_where_plans_are_not(comparison: Comparison) -> None:
    result = comparison.results[0]
    assert result.validation is not None
    gpus = tuple(gpu.model_copy(update={"accepted": True}) for gpu in result.validation.gpus)
    report = result.validation.model_copy(update={"gpus": gpus})
    fine = result.model_copy(update={"validation": report, "message": "a plan; more time may help"})
    late = fine.model_copy(update={"stop_reason": "time_limit"})
    assert "a plan; more time may help" not in Comparison((fine,) * 3).summary()
    assert "a plan; more time may help" in Comparison((fine, fine, late)).summary()


def test_json_is_a_list_of_results(comparison: Comparison) -> None:
    documents = json.loads(comparison.to_json())
    assert [document["method"] for document in documents] == [r.method for r in comparison.results]
    assert [optimizer.Result.model_validate(document) for document in documents] == list(comparison.results)
    assert any(gpu["violations"] for d in documents if d["validation"] for gpu in d["validation"]["gpus"])


@pytest.mark.parametrize("ending", ["png", "svg", "pdf"])
def test_the_picture_is_drawn(comparison: Comparison, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"compare.{ending}"
    comparison.plot(path)
    assert path.stat().st_size > 2000


def test_a_picture_that_cannot_be_drawn_is_named(comparison: Comparison, tmp_path: Path) -> None:
    with pytest.raises(PlotError, match=r"picture.doc cannot be drawn.*use a .png"):
        comparison.plot(tmp_path / "picture.doc")
    with pytest.raises(scenarios.OutputFileError, match="nowhere"):
        comparison.plot(tmp_path / "nowhere" / "picture.png")


def test_an_unknown_method_is_refused_before_anything_is_solved() -> None:
    scenario = scenarios.read("paper_high_32")
    with pytest.raises(scenarios.ScenarioError, match='method is "magic"'):
        optimizer.compare(scenario, ["maxbackbone", "magic"])


def test_empty_tables_and_what_is_no_scenario_are_refused() -> None:
    scenario = scenarios.read("paper_mixed_32")
    with pytest.raises(scenarios.ScenarioError, match="methods is empty; give at least one method"):
        optimizer.compare(scenario, [])
    with pytest.raises(scenarios.ScenarioError, match="scenarios is empty"):
        optimizer.compare([], ["greedy"])
    with pytest.raises(scenarios.ScenarioError, match=r"scenarios\[0\] is 'paper_mixed_32', no scenario"):
        optimizer.compare(["paper_mixed_32"], "greedy")  # type: ignore[list-item]


def test_what_the_methods_need_is_compiled_at_once_and_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def compile_loops(_profile: object, kernels: set[str], workers: int, *_: object) -> None:
        asked.append((kernels, workers))
        time.sleep(0.2)

    monkeypatch.setattr(comparison_module, "compile_loops", compile_loops)
    hot = scenarios.read("hot_adapter", overrides=["replications=1"])
    first, second = optimizer.compare(hot, ["greedy", "bfd"], total_limit_s=1e-3, workers=3).results
    assert asked == [({"cuts", "heuristics"}, 3)]
    assert first.preparation_seconds >= 0.2
    assert first.seconds >= first.preparation_seconds
    assert second.preparation_seconds < 0.2


def test_a_comparison_without_any_plan_is_drawn(tmp_path: Path) -> None:
    hot = scenarios.read("hot_adapter", overrides=["replications=1"])
    comparison = optimizer.compare(hot, ["bfd", "exact"], total_limit_s=1e-3)
    assert [result.gpus for result in comparison.results] == [None, None]
    comparison.plot(tmp_path / "none.png")
    assert (tmp_path / "none.png").stat().st_size > 0
