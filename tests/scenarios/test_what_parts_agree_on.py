"""What a scenario's parts must agree on: prices, lengths and the engine, levels of an entry's own."""

from __future__ import annotations

import pytest

import optimizer
import scenarios
from scenarios import ScenarioError

TEXT = """
name: parts
model: llama-3.1-8b-instruct
adapters: [{name: a, count: 4, rank: 8, rate: 0.5}, {name: b, rank: 8, rate: 0.5}]
workload: {prompt: {mean: 200, std: 200, max: 1024}, output: {mean: 100, std: 50, max: 512}}
devices: [{name: H100-64GB, count: 4}, {name: L40S, count: 4}]
engine: {max_model_len: 2048}
"""


def refused(*overrides: str) -> str:
    """The one problem of the scenario with some values changed."""
    with pytest.raises(ScenarioError) as error:
        scenarios.loads(TEXT, overrides)
    (problem,) = error.value.problems
    return str(problem)


# --- prices ------------------------------------------------------------------------------------------


def test_a_device_without_a_price_has_none() -> None:
    assert [device.price_per_hour for device in scenarios.loads(TEXT).devices] == [None, None]


@pytest.mark.parametrize("objective", ["cost", "[gpus, cost]", "[cost, latency]", "[latency, cost]"])
def test_cost_without_any_price_is_refused(objective: str) -> None:
    with pytest.raises(ScenarioError) as error:
        scenarios.loads(TEXT, [f"objective={objective}"])
    paths = [problem.path for problem in error.value.problems]
    assert paths == ["devices[0].price_per_hour", "devices[1].price_per_hour"]
    assert all("give the price" in problem.remedy for problem in error.value.problems)


def test_cost_with_a_price_for_some_devices_only_is_refused() -> None:
    said = refused("objective=cost", "devices[0].price_per_hour=2.5")
    assert "devices[1].price_per_hour is missing for L40S, and the objective cost compares prices" in said
    scenarios.loads(TEXT, ["objective=cost", *(f"devices[{k}].price_per_hour=2.5" for k in (0, 1))])


@pytest.mark.parametrize("objective", ["cost", ["gpus", "cost"]])
def test_cost_without_a_price_is_refused_where_it_is_asked_of_solve(objective: str | list[str]) -> None:
    scenario = scenarios.loads(TEXT.replace("{name: L40S, count: 4}", ""))
    with pytest.raises(ScenarioError, match=r"devices\[0\]\.price_per_hour is missing for H100-64GB"):
        optimizer.solve(scenario, objective=objective)


# --- lengths and the engine --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("override", "path", "longest"),
    [
        ("workload.prompt={mean: 200, std: 200, max: 4096}", "workload.prompt.max", "4,096"),
        ("workload.prompt={mean: 200, std: 200, max: 2048}", "workload.prompt.max", "2,048"),
        ("workload.prompt={edges: [1, 500, 4095.5], weights: [9, 1]}", "workload.prompt.edges", "4,096"),
        ("adapters[1].prompt={mean: 200, std: 200, max: 4096}", "adapters[1].prompt.max", "4,096"),
    ],
)
def test_prompts_that_the_engine_refuses_are_refused(override: str, path: str, longest: str) -> None:
    said = refused(override)
    assert f"{path} lets prompts have {longest} tokens" in said
    assert "engine.max_model_len 2,048" in said
    assert "keep prompts below 2,048 tokens, or raise max_model_len to" in said


def test_too_long_lengths_are_told_where_they_stand() -> None:
    """An entry with an output of its own has the workload's prompts, of which the workload tells."""
    own_output = "adapters[0].output=20"
    for prompt in ("{mean: 200, std: 200, max: 4096}", "3000"):
        said = refused(own_output, f"workload.prompt={prompt}")
        assert "workload.prompt" in said
        assert "adapters[0]" not in said


@pytest.mark.parametrize(
    "prompt",
    [
        "2047",
        "{mean: 200, std: 200, max: 2047}",
        "{edges: [1, 500, 2047], weights: [9, 1]}",
        "{edges: [1, 500, 4096], weights: [9, 0]}",
        "{mean: 200, std: 200}",
    ],
)
def test_prompts_that_one_token_can_follow_are_taken(prompt: str) -> None:
    output = "workload.output=1" if prompt == "2047" else "workload.output=10"
    scenarios.loads(TEXT, [f"workload.prompt={prompt}", output])


@pytest.mark.parametrize("key", ["prompt", "output"])
def test_lengths_of_the_workload_are_needed_only_for_adapters_without_their_own(key: str) -> None:
    absent, own = f"workload.{key}=", [f"adapters[{k}].{key}=100" for k in (0, 1)]
    said = refused(absent, own[0])
    assert said.startswith(f"workload.{key} is missing, and adapters[1] has none of its own; add it")
    classes = scenarios.loads(TEXT, [absent, *own]).classes
    assert {getattr(group, key).mean_tokens for group in classes} == {100}


def test_a_workload_may_leave_out_all_lengths() -> None:
    own = [f"adapters[{k}].{key}=100" for k in (0, 1) for key in ("prompt", "output")]
    scenario = scenarios.loads(TEXT, [*own, "workload={duration_s: 60}"])
    assert scenario.workload == scenarios.Workload(duration_s=60)
    assert scenarios.loads(scenarios.dumps(scenario)) == scenario


def test_missing_lengths_are_told_with_what_else_is_wrong_and_with_their_line() -> None:
    with pytest.raises(ScenarioError) as error:
        scenarios.loads(TEXT.replace("output: {mean: 100, std: 50, max: 512}", "duration_s: 60"), ["seed=-1"])
    assert [(p.path, p.line) for p in error.value.problems] == [("seed", None), ("workload.output", 5)]


# --- levels of an entry's own ------------------------------------------------------------------------


def test_an_entrys_served_share_below_the_scenarios_is_refused() -> None:
    said = refused("acceptance=paper", "adapters[1].service_levels={served_share: 0.8}")
    assert (
        "adapters[1].service_levels.served_share is 0.8, below service_levels.adapter_served_share 0.9"
        in said
    )
    assert "raise it, or lower adapter_served_share" in said
    lower = "service_levels={adapter_served_share: 0.8}"
    scenarios.loads(TEXT, ["acceptance=paper", "adapters[1].service_levels={served_share: 0.8}", lower])
    scenarios.loads(TEXT, ["acceptance=paper", "adapters[1].service_levels={served_share: 0.99}"])


def test_what_the_parts_disagree_on_is_told_with_what_else_is_wrong() -> None:
    own = "adapters[1].service_levels={served_share: 0.8}"
    with pytest.raises(ScenarioError) as error:
        scenarios.loads(TEXT, ["acceptance=paper", "adapters[0].rank=-1", own])
    assert len(error.value.problems) == 2
