"""From a scenario to an accepted plan, with the shipped regions and the real twin."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

import optimizer
import scenarios
import twin
from optimizer.search.cut_loop import CutLoop
from optimizer.search.judging import PatternJudge
from optimizer.search.latency.starts import spread
from optimizer.search.minimize_gpus import GPUMinimum, Search
from optimizer.search.objectives import LATENCY_OBJECTIVES
from optimizer.search.preparation import instance_of, learned_regions
from scenarios import Deadline


@pytest.fixture(scope="module")
def small() -> scenarios.Scenario:
    return scenarios.read("paper_mixed_32", overrides=["replications=1"])


@pytest.fixture(scope="module")
def small_result(small: scenarios.Scenario) -> optimizer.Result:
    return optimizer.solve(small)


def without_time(result: optimizer.Result) -> dict[str, Any]:
    return result.model_dump(mode="json", exclude={"seconds", "preparation_seconds"})


def test_a_plan_is_proven_and_accepted(small: scenarios.Scenario, small_result: optimizer.Result) -> None:
    assert small_result.status == "optimal"
    assert small_result.stop_reason == "finished"  # of the latency, which is second, nothing is proven
    assert small_result.accepted
    assert small_result.gpus == small_result.objective == small_result.bound == 1
    assert small_result.gap == 0
    placement = small_result.placement
    assert placement is not None
    scenarios.check_placement(placement, small)
    placed = [name for gpu in placement.gpus for name in gpu.adapters]
    assert sorted(placed) == sorted(name for c in small.classes for name in c.names)


def test_the_twin_agrees_with_the_verdicts_of_the_result(
    small: scenarios.Scenario, small_result: optimizer.Result
) -> None:
    assert small_result.placement is not None
    assert small_result.validation is not None
    report = twin.validate(small, small_result.placement)
    assert report.accepted
    for verdict, said in zip(report.gpus, small_result.validation.gpus, strict=True):
        assert said.served_tok_per_s == pytest.approx(verdict.served_tok_per_s)
        assert said.itl_ms == pytest.approx(verdict.itl_ms)


def test_the_json_follows_its_schema(small_result: optimizer.Result) -> None:
    document = json.loads(small_result.to_json())
    schema = optimizer.result_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(document, schema)
    required = (
        "status stop_reason method objective bound gap gpus placement validation iterations seconds seed "
        "version scenario"
    )
    assert set(required.split()) <= document.keys()
    gpu = document["placement"]["gpus"][0]
    assert {"gpu", "device", "max_loras", "max_lora_rank", "adapters"} <= gpu.keys()
    verdict = document["validation"]["gpus"][0]
    expected = (
        "gpu accepted reasons offered_tok_per_s served_tok_per_s worst_adapter worst_served_share itl_ms "
        "ttft_ms kv_cache_tokens"
    )
    assert set(expected.split()) <= verdict.keys()
    assert scenarios.from_mapping(document["scenario"]) == small_result.scenario


def test_results_print(small_result: optimizer.Result) -> None:
    text = small_result.summary()
    assert "1 GPU for 32 adapters" in text
    assert "accepted" in text
    assert max(len(line) for line in text.splitlines()) <= 100
    assert str(small_result) == text
    frame = small_result.to_frame()
    assert list(frame["gpu"]) == [0]
    assert frame["accepted"].all()
    assert "<table" in small_result._repr_html_()


@pytest.mark.slow
def test_the_answer_does_not_depend_on_the_workers() -> None:
    scenario = scenarios.read("paper_mixed_128", overrides=["replications=1"])
    one, two = (optimizer.solve(scenario, workers=n, time_limit_s=120) for n in (1, 2))
    assert one.stop_reason == "finished"
    assert without_time(one) == without_time(two)


def test_another_seed_is_another_run(small: scenarios.Scenario) -> None:
    one, other = (optimizer.solve(small, "bfd", seed=seed) for seed in (None, 5))
    assert other.seed == other.scenario.seed == 5
    assert other.placement == one.placement
    assert other.validation is not None
    assert one.validation is not None
    assert other.validation.itl_ms != one.validation.itl_ms


def test_an_adapter_hotter_than_a_gpu_is_named_when_replicas_are_forbidden() -> None:
    result = optimizer.solve(scenarios.read("hot_adapter", overrides=["replications=1"]))
    assert result.status == "infeasible"
    assert result.stop_reason == "proven"
    assert '"support"' in result.message
    assert "allow_replicas" in result.message
    assert result.placement is None
    jsonschema.validate(json.loads(result.to_json()), optimizer.result_schema())


def test_a_hot_adapter_is_split_over_as_few_gpus_as_needed() -> None:
    scenario = scenarios.read("hot_adapter", overrides=["allow_replicas=true", "replications=1"])
    result = optimizer.solve(scenario, method="bfd")
    assert result.accepted
    assert result.placement is not None
    holders = [gpu for gpu in result.placement.gpus if "support" in gpu.adapters]
    assert len(holders) == 2
    assert sum(gpu.share("support") for gpu in holders) == pytest.approx(1)
    scenarios.check_placement(result.placement, scenario)


@pytest.mark.slow
def test_latency_is_no_worse_than_the_fewest_gpu_plan_spread() -> None:
    scenario = scenarios.read("paper_mixed_32", overrides=["replications=1"])
    fewest = optimizer.solve(scenario)
    latency = optimizer.solve(scenario, objective="latency", gpus=2, time_limit_s=20)
    assert latency.gpus is not None
    assert latency.gpus <= 2
    assert latency.accepted
    assert latency.objective is not None
    instance = instance_of(scenario)
    kinds = tuple(one.kind for one in instance.classes)
    loop = CutLoop(PatternJudge(twin.TwinJudge(scenario, instance.profiles), kinds))
    plan = loop.run(
        instance.inner,
        lambda problem, _seconds, _bound: optimizer.pack(problem, "bfd"),
        Deadline.after(60),
        max_rounds=1,
    ).plan
    assert fewest.gpus == 1
    assert plan is not None
    packing = spread(instance.inner, plan.packing, 2)
    verdicts = loop.verdicts(instance.inner, packing, Deadline.after(60))
    assert verdicts is not None
    measured = LATENCY_OBJECTIVES["latency"].measure(instance.inner, packing, verdicts)
    assert latency.objective <= measured * (1 + 1e-9)


@pytest.mark.parametrize("name", ["worst_latency", "ttft", "worst_ttft", "balance"])
def test_other_objectives_on_a_given_number_of_gpus(small: scenarios.Scenario, name: str) -> None:
    result = optimizer.solve(small, objective=name, gpus=2, time_limit_s=8, method="bfd")
    assert result.accepted
    assert result.gpus == 2
    assert result.objectives == (name,)
    assert result.objective is not None
    assert result.validation is not None
    if name == "worst_latency":
        assert result.objective == max(gpu.itl_ms or 0.0 for gpu in result.validation.gpus)
    if name == "worst_ttft":
        assert result.objective == max(gpu.ttft_ms or 0.0 for gpu in result.validation.gpus)
    if name == "balance":
        assert 0 < result.objective < 1


@pytest.mark.slow
def test_fewest_then_latency_keeps_the_number(small: scenarios.Scenario) -> None:
    result = optimizer.solve(small, objective=["gpus", "latency"], time_limit_s=10)
    assert result.gpus == 1
    assert result.objective == 1
    assert result.objectives == ("gpus", "latency")
    assert result.validation is not None
    assert result.objective_values == (1, pytest.approx(result.validation.itl_ms))
    assert f"; then latency {result.objective_values[1]:.4g} ms" in result.headline
    assert "optimal in gpus: no plan of the optimistic (outer) region needs fewer GPUs" in result.message
    assert result.stop_reason != "proven"  # nothing is proven of the latency
    jsonschema.validate(json.loads(result.to_json()), optimizer.result_schema())


def test_more_gpus_than_exist_are_not_used(small: scenarios.Scenario) -> None:
    few = scenarios.override(small, ["devices[0].count=2"])
    result = optimizer.solve(few, objective="latency", gpus=3, time_limit_s=4, method="bfd")
    assert result.gpus == 2
    assert "3 GPUs were asked for, 2 exist" in result.message


def test_learning_regions_takes_nothing_from_the_time_limit(
    small: scenarios.Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(*given: Any, **named: Any) -> Any:
        time.sleep(1.5)
        return learned_regions(*given, **named)

    left: list[float] = []

    def first_look(_search: Search, deadline: Deadline) -> GPUMinimum:
        left.append(deadline.left_s)
        return GPUMinimum()

    monkeypatch.setattr("optimizer.search.solve.learned_regions", slow)
    monkeypatch.setattr("optimizer.search.solve.cheapest_plan", first_look)
    optimizer.solve(small, time_limit_s=1.0)
    assert left[0] > 0.5


@pytest.fixture
def two_devices(tmp_path: Path) -> scenarios.Scenario:
    """Two GPUs of the same engine costs; the one with half the memory costs a third."""
    profile = tmp_path / "profile.json"
    twin.write_profile(twin.find_profile("llama-3.1-8b-instruct", "H100-64GB"), profile)
    scenario = scenarios.read("paper_mixed_32", overrides=["replications=1"])
    document = scenario.model_dump(mode="json")
    document["devices"] = [
        {"name": "H100-64GB", "count": 4, "price_per_hour": 3.0},
        {"name": "cheap", "count": 4, "price_per_hour": 1.0, "profile": str(profile)},
    ]
    return scenarios.from_mapping(document)


def test_cost_chooses_the_cheaper_device(two_devices: scenarios.Scenario) -> None:
    result = optimizer.solve(two_devices, objective="cost")
    assert result.status == "optimal"
    assert result.objective == result.bound == 1.0
    assert result.placement is not None
    assert {gpu.device for gpu in result.placement.gpus} == {"cheap"}


def test_fewest_gpus_then_cost(two_devices: scenarios.Scenario) -> None:
    result = optimizer.solve(two_devices, objective=["gpus", "cost"])
    assert result.objective == 1
    assert result.placement is not None
    assert [gpu.device for gpu in result.placement.gpus] == ["cheap"]


def test_unknown_names_are_refused(small: scenarios.Scenario) -> None:
    with pytest.raises(scenarios.ScenarioError, match=r"method is \"magic\".*choose from greedy"):
        optimizer.solve(small, method="magic")
    with pytest.raises(scenarios.ScenarioError, match="objective is"):
        optimizer.solve(small, objective="beauty")


def test_too_few_gpus_are_infeasible_and_say_so() -> None:
    scenario = scenarios.read("paper_high_128", overrides=["replications=1"])
    result = optimizer.solve(scenario, gpus=1, time_limit_s=30)
    assert result.status == "infeasible"
    assert "do not fit 1 GPU (H100-64GB)" in result.message


def test_a_tiny_time_limit_claims_no_more_than_is_proven() -> None:
    result = optimizer.solve(scenarios.read("paper_high_384", overrides=["replications=1"]), time_limit_s=0.1)
    assert (result.stop_reason == "proven") == (result.status == "optimal")
    if result.gpus is not None:
        assert result.accepted


def test_ctrl_c_returns_the_best_so_far(press_ctrl_c: Callable[[float], None]) -> None:
    said: set[str] = set()

    def report(label: str, _done: int, _total: int) -> None:
        if label == "the twin judges" and label not in said:
            press_ctrl_c(0.0)
        said.add(label)

    result = optimizer.solve(scenarios.read("paper_high_384"), time_limit_s=60, progress=report)
    assert (result.stop_reason, result.status) in {("interrupted", "feasible"), ("interrupted", "no_plan")}


def test_every_gpu_is_within_its_verdict(small_result: optimizer.Result) -> None:
    assert small_result.validation is not None
    for gpu in small_result.validation.gpus:
        assert gpu.served_tok_per_s is not None
        assert gpu.offered_tok_per_s is not None
        assert gpu.served_tok_per_s >= 0.9 * gpu.offered_tok_per_s
        assert np.isfinite(gpu.itl_ms or np.nan)
