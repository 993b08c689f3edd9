"""A report's contents against the results that they are made of."""

from __future__ import annotations

import hashlib
import importlib
import json
import math
from collections.abc import Callable, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import optimizer
import scenarios
import twin
from optimizer import Report, ReportParams, Result
from optimizer.reporting.contents import COLUMNS, HOURS_PER_MONTH, PlanReport
from optimizer.reporting.page.headlines import beside_greedy
from optimizer.reporting.runs import LEVELS
from optimizer.reporting.tiles import _rows
from scenarios import PlacedGPU, Placement, Scenario, ScenarioError
from tests.hostile_texts import HOSTILE_TEXTS

QUICK = ReportParams(other_gpus=0)
FAST = ("acceptance=paper", "replications=1", "objective=gpus")
"""Verdicts of one run of an hour, whose regions are shipped."""


def scenario_of(*entries: dict[str, Any], changes: Sequence[str] = ()) -> Scenario:
    template = scenarios.read("paper_high_128", overrides=[*FAST, *changes])
    return scenarios.from_mapping(template.model_dump(mode="json") | {"adapters": list(entries)})


@cache
def mixed() -> Result:
    entries = (
        {"name": "big", "count": 4, "rank": 32, "rate": 8.0},
        {"name": "small", "count": 12, "rank": 8, "rate": 3.0},
    )
    return optimizer.solve(scenario_of(*entries, changes=["devices[0].price_per_hour=2.5"]))


@cache
def by(method: str) -> Result:
    """Another method's plan for the same."""
    return optimizer.solve(mixed().scenario, method)


@cache
def few() -> Result:
    """Of one class of adapters on one GPU: what takes the least time."""
    return optimizer.solve(scenario_of({"name": "a", "count": 4, "rank": 8, "rate": 3.0}), "bfd")


@cache
def few_reported() -> PlanReport:
    return plan_of(few())


@cache
def reported() -> Report:
    return optimizer.report(mixed(), what_if=False, params=QUICK)


def plan_of(result: Result, **options: Any) -> PlanReport:
    return optimizer.report(result, what_if=False, params=QUICK, **options).contents.plans[0]


def plan() -> PlanReport:
    return reported().contents.plans[0]


def columns(made: PlanReport) -> dict[str, tuple[Any, ...]]:
    return {name: getattr(made.adapters, name) for name in COLUMNS}


# --- the answer --------------------------------------------------------------------------------------


def test_the_answer_is_that_of_the_result() -> None:
    answer, result = plan().answer, mixed()
    assert (answer.status, answer.gpus, answer.bound) == (result.status, result.gpus, result.bound)
    assert answer.accepted
    assert answer.devices == {"H100-64GB": result.gpus}
    assert answer.adapters == 16
    assert answer.sureness == "measured"
    assert "H100-64GB, vLLM 0.8.5" in answer.sureness_text
    assert answer.criterion.startswith("paper: 90 %")
    assert answer.bound_text == f"no plan has fewer than {result.gpus} GPUs"
    assert result.validation is not None
    offered = sum(verdict.offered_tok_per_s for verdict in result.validation.gpus)
    assert answer.offered_tok_per_s == pytest.approx(offered, rel=1e-3)


def test_a_month_costs_what_the_scenario_states() -> None:
    answer = plan().answer
    assert mixed().gpus is not None
    assert answer.cost_per_month == pytest.approx(HOURS_PER_MONTH * 2.5 * mixed().gpus)
    assert "price_per_hour" in answer.cost_unit


def test_without_a_stated_price_nothing_costs() -> None:
    answer = few_reported().answer
    assert answer.cost_per_month is None
    assert answer.greedy_cost_per_month is None
    assert answer.cost_unit == ""


def test_what_some_of_the_gpus_cost_is_not_told_as_the_cost_of_all() -> None:
    result = mixed()
    assert result.placement is not None
    first, *others = result.placement.gpus
    placement = result.placement.with_gpus([first.model_copy(update={"device": "L40S"}), *others])
    for price, cost in ((None, None), (1.5, 1.5 + 2.5 * len(others))):
        other = scenarios.Device(name="L40S", price_per_hour=price)
        scenario = result.scenario.model_copy(update={"devices": (*result.scenario.devices, other)})
        priced = result.model_copy(update={"placement": placement, "scenario": scenario})
        assert priced.cost_per_hour == cost


def test_the_greedy_stands_beside_as_it_is_solved_alone() -> None:
    alone = optimizer.solve(few().scenario, "greedy")
    greedy = few_reported().answer.greedy
    assert alone.gpus is not None
    assert greedy is not None
    assert (greedy.method, greedy.gpus, greedy.accepted) == ("greedy", alone.gpus, alone.accepted)
    assert greedy.message == alone.message


def test_where_the_papers_greedy_finds_no_plan_one_that_tests_every_number_stands_beside() -> None:
    assert by("greedy").gpus is None
    alone = by("greedy-fill")
    greedy = plan().answer.greedy
    assert greedy is not None
    assert (greedy.method, greedy.gpus, greedy.accepted) == ("greedy-fill", alone.gpus, True)
    assert beside_greedy(plan().answer).startswith("The paper's greedy finds none; greedy-fill")


def test_the_greedy_has_no_greedy_of_it() -> None:
    alone, filled = by("greedy"), by("greedy-fill")
    contents = optimizer.report([alone, filled, mixed()], what_if=False, params=QUICK).contents
    first, second, third = (one.answer.greedy for one in contents.plans)
    assert second is None
    for other in (first, third):
        assert other is not None
        assert (other.method, other.gpus) == ("greedy-fill", filled.gpus)


def test_what_was_proven_of_a_latency_is_told_with_its_unit() -> None:
    result = optimizer.solve(few().scenario, "spread", objective="latency", gpus=2)
    made = plan_of(result.model_copy(update={"bound": 41.5}))
    told = "no plan on so many GPUs has a smaller mean inter-token latency over the GPUs than 41.5 ms"
    assert made.answer.bound_text == told
    assert made.origin.command.endswith("--method spread --objective latency --gpus 2")
    assert made.answer.greedy is not None
    assert made.answer.greedy.method == "greedy-lat"
    unproven = plan_of(result).answer
    assert (unproven.bound, unproven.bound_text) == (None, "")
    assert unproven.no_bound.startswith("no bound: ")


def test_a_plan_that_the_twin_rejects_says_why() -> None:
    scenario = scenario_of({"name": "hot", "count": 40, "rank": 32, "rate": 4.0})
    result = optimizer.solve(scenario, "greedy")
    full = scenarios.PlacedGPU(
        gpu=0, device="H100-64GB", max_loras=40, max_lora_rank=32, adapters=scenario.classes[0].names
    )
    placement = scenarios.Placement(gpus=(full,))
    report = twin.validate(scenario, placement)
    assert not report.accepted
    made = plan_of(result.model_copy(update={"placement": placement, "validation": report, "gpus": 1}))
    (tile,) = made.tiles
    assert tile.accepted is False
    assert tile.reasons == report.gpus[0].reasons
    assert not made.answer.accepted
    assert made.runs[0].waiting[-1] > made.runs[0].waiting[0]


@pytest.mark.slow
def test_an_engine_that_does_not_start_has_no_run() -> None:
    scenario = scenario_of({"name": "a", "count": 2, "rank": 32, "rate": 1.0})
    result = optimizer.solve(scenario, "bfd")
    wrong = scenarios.PlacedGPU(
        gpu=0, device="H100-64GB", max_loras=2, max_lora_rank=8, adapters=scenario.classes[0].names
    )
    placement = scenarios.Placement.model_construct(gpus=(wrong,), adapters={}, export=None, model=None)
    verdicts = twin.PlacementJudge(twin.TwinJudge(scenario, twin.profiles_of(scenario))).report([wrong])
    made = plan_of(result.model_copy(update={"placement": placement, "validation": verdicts}))
    assert made.runs == ()
    assert made.adapters.loads == (None, None)
    assert made.tiles[0].kv_use_mean is None
    assert made.tiles[0].accepted is False


@pytest.mark.slow
def test_where_there_is_no_plan_the_report_says_why() -> None:
    result = optimizer.solve(scenarios.read("hot_adapter"))
    made = optimizer.report(result, params=QUICK).contents.plans[0]
    assert made.answer.status == "infeasible"
    assert (made.tiles, made.runs, made.adapters.name) == ((), (), ())
    assert "support" in made.reasons.why[0]
    assert made.what_if is not None
    assert {cell.state for cell in made.what_if.exact[0]} == {"no_plan", "solved"}  # at half the load it fits


# --- tiles, adapters and runs ------------------------------------------------------------------------


def test_tiles_hold_the_verdicts() -> None:
    result = mixed()
    assert result.validation is not None
    assert result.placement is not None
    rows = {row.gpu: row for row in result.explain().gpus}
    verdicts = {verdict.gpu: verdict for verdict in result.validation.gpus}
    for tile, gpu in zip(plan().tiles, result.placement.gpus, strict=True):
        verdict = verdicts[tile.gpu]
        assert (tile.gpu, tile.max_loras, tile.adapters) == (gpu.gpu, gpu.max_loras, len(gpu.adapters))
        assert tile.accepted is verdict.accepted
        assert tile.fill == pytest.approx(rows[gpu.gpu].fill, rel=1e-3)
        assert tile.ttft.p99 == pytest.approx(verdict.latencies.ttft.p99, rel=1e-3)
        assert tile.served_tok_per_s == pytest.approx(verdict.served_tok_per_s, rel=1e-3)
        assert 0 < (tile.kv_use_mean or 0) <= (tile.kv_use_peak or 0) <= 1


def test_every_adapter_stands_on_its_gpu() -> None:
    result, table = mixed(), columns(plan())
    assert result.placement is not None
    placed = {(gpu.gpu, name) for gpu in result.placement.gpus for name in gpu.adapters}
    assert set(zip(table["gpu"], table["name"], strict=True)) == placed
    for gpu in {*table["gpu"]}:
        shares = [s for s, g in zip(table["load_share"], table["gpu"], strict=True) if g == gpu]
        assert sum(shares) == pytest.approx(1, abs=1e-3)
    rates = dict(zip(table["name"], table["rate"], strict=True))
    assert {rates["big-1"], rates["small-01"]} == {8.0, 3.0}


def test_the_load_of_an_adapter_is_that_of_its_tokens() -> None:
    """Half as many requests of four times the length are two thirds of the load."""
    long = {"prompt": 800, "output": 400}
    scenario = scenario_of(
        {"name": "short", "rank": 8, "rate": 2.0, "prompt": 200, "output": 100},
        {"name": "long", "rank": 8, "rate": 1.0, **long},
    )
    classes = {name: one for one in scenario.classes for name in one.names}
    names = ("short", "long")
    placed = PlacedGPU(gpu=0, device="H100-64GB", max_loras=2, max_lora_rank=8, adapters=names)
    one: Any = SimpleNamespace(gpu=placed, names=names)
    rows = _rows(one, classes, Placement(gpus=(placed,)), None)
    assert [row["load_share"] for row in rows] == pytest.approx([1 / 3, 2 / 3], abs=1e-4)
    assert [row["rate"] for row in rows] == [2.0, 1.0]


def test_a_run_is_the_first_behind_the_verdict() -> None:
    result = mixed()
    assert result.validation is not None
    judge = twin.TwinJudge(result.scenario, twin.profiles_of(result.scenario))
    assert result.placement is not None
    gpu = result.placement.gpus[0]
    content, names = twin.PlacementJudge(judge).content(gpu)
    again, verdict = judge.run(content), result.validation.gpus[0]
    # One replication: the verdict is of this run alone.
    assert again.gpu.served_tok_per_s == pytest.approx(verdict.served_tok_per_s)
    assert again.gpu.ttft.p99_s * 1e3 == pytest.approx(verdict.ttft_p99_ms)
    run = next(one for one in plan().runs if one.gpu == gpu.gpu)
    assert np.mean(run.running) == pytest.approx(again.gpu.running, rel=1e-2)
    assert run.ttft_ms[LEVELS.index(0.99)] == pytest.approx(verdict.ttft_p99_ms, rel=1e-2)
    assert run.itl_ms[LEVELS.index(0.99)] == pytest.approx(verdict.itl_p99_ms, rel=1e-2)
    table = columns(plan())
    first = next(k for k, n in enumerate(table["name"]) if n == names["0"])
    assert table["ttft_p99_ms"][first] == pytest.approx(1e3 * again.adapters.ttft["p99_s"][0], rel=1e-3)


def test_a_run_of_a_sustained_verdict_is_watched_as_long_and_at_the_same_load() -> None:
    entry = {"name": "a", "count": 4, "rank": 8, "rate": 3.0}
    result = optimizer.solve(scenario_of(entry, changes=["acceptance=sustained"]), "bfd")
    made = plan_of(result)
    assert result.validation is not None
    verdict, run = result.validation.gpus[0], made.runs[0]
    assert run.load_factor == 1.05
    assert run.start_s[-1] + run.width_s == pytest.approx(
        16_210, rel=1e-3
    )  # 1,800 and 14,400 s, and patience
    served = np.array(run.served_tok_per_s)[np.array(run.start_s) >= 1800]
    assert served.mean() == pytest.approx(verdict.served_tok_per_s, rel=0.01)
    assert made.tiles[0].late_share == pytest.approx(
        verdict.sustained.late_share if verdict.sustained else None
    )


def test_series_are_equally_long_and_quantiles_never_fall() -> None:
    for run in plan().runs:
        names = ("running", "waiting", "kv_use", "slots_used", "loads_per_min", "offered_tok_per_s")
        assert {len(getattr(run, name)) for name in (*names, "served_tok_per_s")} == {len(run.start_s)}
        for latencies in (run.ttft_ms, run.itl_ms, run.e2e_ms):
            assert len(latencies) == len(LEVELS)
            assert all(a <= b for a, b in pairwise(latencies))


def test_equal_gpus_share_a_run() -> None:
    result = optimizer.solve(scenario_of({"name": "a", "count": 18, "rank": 8, "rate": 4.0}), "bfd")
    made = plan_of(result)
    first = {tile.like for tile in made.tiles}
    assert len(first) < len(made.tiles)
    assert {run.gpu for run in made.runs} == first
    assert made.left_out == ""


def test_runs_that_are_left_out_are_told() -> None:
    params = QUICK.model_copy(update={"runs": 1, "adapters": 5})
    made = optimizer.report(mixed(), what_if=False, params=params).contents.plans[0]
    distinct = len({tile.like for tile in made.tiles})
    assert distinct > 1
    assert len(made.runs) == 1
    assert made.left_out == f"shown over time are the fullest, 1 GPU of {distinct} that differ"
    fullest = max(made.tiles, key=lambda tile: tile.fill or 0)
    assert made.runs[0].gpu == fullest.like
    assert (len(made.adapters.name), made.adapters.left_out) == (5, 11)
    assert all(share is not None for share in made.adapters.served_share)


def test_a_split_adapter_has_a_row_for_each_gpu() -> None:
    result = optimizer.solve(scenario_of({"name": "hot", "rank": 8, "rate": 60.0}), "bfd")
    made = plan_of(result)
    table = columns(made)
    assert len(table["name"]) == result.gpus
    assert set(table["name"]) == {"hot"}
    assert sum(table["rate"]) == pytest.approx(60, rel=1e-3)


def test_the_base_model_is_no_adapter() -> None:
    scenario = scenarios.read("base_model_traffic", [*FAST])
    made = plan_of(optimizer.solve(scenario, "bfd"))
    assert made.answer.adapters == 20
    assert sum(tile.adapters for tile in made.tiles) == 20
    table = columns(made)
    base = [k for k, rank in enumerate(table["rank"]) if rank == 0]
    assert {table["served_name"][k] for k in base} == {"llama-3.1-8b-instruct"}
    assert sum(table["rate"][k] for k in base) == pytest.approx(12, rel=1e-3)


def test_a_plan_with_spare_says_what_becomes_of_it() -> None:
    result = optimizer.solve(scenario_of({"name": "a", "count": 4, "rank": 8, "rate": 3.0}), spare=1)
    made = plan_of(result)
    assert made.answer.survival.startswith("loss of any one GPU (paper): holds")
    assert "--spare 1 --recovery live" in made.origin.command


def test_uncertain_rates_run_at_the_corner_of_the_verdict() -> None:
    entry = {"name": "a", "count": 4, "rank": 8, "rate": {"low": 0.5, "high": 4.0}}
    result = optimizer.solve(scenario_of(entry), "bfd")
    assert result.validation is not None
    made = plan_of(result)
    for tile, run in zip(made.tiles, made.runs, strict=True):
        assert np.mean(run.offered_tok_per_s) == pytest.approx(tile.offered_tok_per_s, rel=0.01)


# --- reasons and origin ------------------------------------------------------------------------------


def test_reasons_are_those_of_the_explanation() -> None:
    told, reasons = mixed().explain(), plan().reasons
    assert reasons.why == told.why
    optimistic = next(one for one in told.arguments if one.region == "optimistic")
    assert reasons.total == pytest.approx(optimistic.total, rel=1e-3)
    assert sum(reasons.weights.values()) + reasons.other_weights == pytest.approx(optimistic.total, rel=1e-2)
    texts = {saving.name: saving.text for saving in reasons.savings}
    assert all(texts[one.name] == one.text for one in told.what_ifs)


def test_each_kind_of_gpu_of_a_scenario_is_told_what_it_saves_alone(tmp_path: Path) -> None:
    profile = tmp_path / "profile.json"
    twin.write_profile(twin.find_profile("llama-3.1-8b-instruct", "H100-64GB"), profile)
    values = few().scenario.model_dump(mode="json")
    values["devices"] = [{"name": "H100-64GB"}, {"name": "twin", "profile": str(profile)}]
    made = plan_of(optimizer.solve(scenarios.from_mapping(values), "bfd"))
    savings = {saving.name: saving for saving in made.reasons.savings}
    for name in ("only H100-64GB", "only twin"):  # of the same costs
        assert savings[name].saves == pytest.approx(0, abs=1e-6)
        assert "no fewer, so at least 1 GPU" in savings[name].text


def test_what_other_gpus_would_save_is_not_invented() -> None:
    params = ReportParams(other_gpus=3)
    made = optimizer.report(mixed(), what_if=False, params=params).contents.plans[0]
    others = [saving for saving in made.reasons.savings if saving.name.startswith("other GPUs: ")]
    assert others
    assert all(saving.saves is None for saving in others)
    names = [gpu.name for gpu in scenarios.gpus() if gpu.name != "H100-64GB"][:3]
    assert all(any(name in saving.text for saving in others) for name in names)


def test_the_origin_is_enough_to_repeat_it(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(mixed().to_json() + "\n")
    origin = optimizer.report(file, what_if=False, params=QUICK).contents.plans[0].origin
    assert scenarios.loads(origin.scenario_yaml) == mixed().scenario
    assert origin.scenario_sha256 == hashlib.sha256(origin.scenario_yaml.encode()).hexdigest()
    assert origin.result_file == "result.json"
    assert origin.result_sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert origin.result_sha256 == plan().origin.result_sha256  # the same without a file
    assert "sha256:" in origin.profiles["H100-64GB"]
    assert origin.regions["H100-64GB"].startswith("sha256:")
    assert origin.command == "lorapack solve scenario.yaml --method exact --objective gpus"
    assert origin.reported_with["lorapack"] == optimizer.__version__


def test_parameters_are_told_as_a_file_that_gives_them(tmp_path: Path) -> None:
    params = scenarios.params_from({"gpus": {"first_methods": ["bfd"]}}, optimizer.SolveParams)
    result = optimizer.solve(few().scenario, "bfd", params=params)
    origin = plan_of(result).origin
    assert origin.command.endswith("--params params.toml")
    file = tmp_path / "params.toml"
    file.write_text(origin.params_toml)
    assert scenarios.read_params(file, optimizer.SolveParams) == params


# --- the whole ---------------------------------------------------------------------------------------


def test_contents_do_not_depend_on_workers() -> None:
    (other,) = optimizer.report(mixed(), what_if=False, params=QUICK, workers=3).contents.plans
    assert other.model_dump_json() == plan().model_dump_json()


def test_hostile_texts_stay_what_they_are() -> None:
    entries = [
        {"name": f"a{k}", "rank": 8, "rate": 0.5, "source": text, "served_name": text}
        for k, text in enumerate(HOSTILE_TEXTS)
    ]
    scenario = scenario_of(*entries).model_copy(
        update={"name": "<script>alert(1)</script>", "description": "</script><b>\u2028"}
    )
    made = optimizer.report(optimizer.solve(scenario, "bfd"), what_if=False, params=QUICK)
    (only,) = made.contents.plans
    assert only.name == "<script>alert(1)</script>"
    assert only.adapters.served_name == HOSTILE_TEXTS
    again = type(made.contents).model_validate_json(made.to_json())
    assert again == made.contents


def test_nothing_that_is_shown_is_infinite_or_no_number() -> None:
    def numbers(value: object) -> list[float]:
        if isinstance(value, dict):
            return [n for one in value.values() for n in numbers(one)]
        if isinstance(value, list):
            return [n for one in value for n in numbers(one)]
        return [value] if isinstance(value, float) else []

    found = numbers(json.loads(reported().to_json()))
    assert len(found) > 100
    assert all(math.isfinite(number) for number in found)


def test_several_results_stand_in_the_order_given() -> None:
    results = [few(), *(optimizer.solve(few().scenario, method) for method in ("random", "greedy-fill"))]
    made = optimizer.report(results, what_if=False, params=QUICK)
    assert [one.answer.method for one in made.contents.plans] == ["bfd", "random", "greedy-fill"]
    assert made.contents.title == "paper_high_128"


def test_what_belongs_to_a_scenario_is_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    module = importlib.import_module("optimizer.reporting.collect")
    called: list[str] = []

    def counted(name: str) -> Callable[..., Any]:
        real = getattr(module, name)

        def call(*given: Any, **named: Any) -> Any:
            called.append(name)
            return real(*given, **named)

        return call

    for name in ("_prepared", "greedy_of", "other_gpus", "what_if_grid"):
        monkeypatch.setattr(module, name, counted(name))
    one_load = QUICK.model_copy(update={"least_load": 1.0, "most_load": 1.0})
    first, second = optimizer.report([few(), few()], params=one_load).contents.plans
    assert sorted(called) == ["_prepared", "greedy_of", "other_gpus", "what_if_grid"]
    assert first == second


def test_nothing_to_report_is_refused() -> None:
    with pytest.raises(ScenarioError, match="results is empty"):
        optimizer.report([])


def test_what_is_not_there_in_time_is_left_out_and_told() -> None:
    made = optimizer.report(mixed(), total_limit_s=1e-6, params=QUICK).contents.plans[0]
    assert made.answer.gpus == mixed().gpus
    assert made.runs == ()
    assert "could not be simulated in the time" in made.left_out
    assert made.what_if is None
    assert "time" in made.no_what_if
