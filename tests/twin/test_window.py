"""What the end of a window costs: requests in flight count as unserved."""

from __future__ import annotations

import numpy as np
import pytest

import scenarios
import twin
from scenarios import PlacedGPU, Placement, Scenario
from twin import RequestTimes

TEXT = """
name: window
model: llama-3.1-8b-instruct
adapters: [{name: a, count: 4, rank: 8, rate: 0.05}, {name: b, count: 2, rank: 8, rate: 0.05, output: 800}]
workload: {prompt: 200, output: {mean: 195, std: 210, max: 1024}}
devices: [{name: H100-64GB, count: 4}]
acceptance: paper
"""


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return scenarios.loads(TEXT)


@pytest.fixture(scope="module")
def times(scenario: Scenario) -> RequestTimes:
    return twin.times_alone(scenario, twin.profiles_of(scenario))


def test_the_share_that_an_idle_gpu_serves_by_hand() -> None:
    times = RequestTimes(tokens=np.array([100.0, 300.0]), seconds=np.array([2.0, 10.0]))
    assert times.served_share(100.0) == pytest.approx(1 - (100 * 2 + 300 * 10) / 400 / 100)
    assert times.served_share(5.0) == pytest.approx(1 - (100 * 2 + 300 * 5) / 400 / 5)
    assert times.served_share(100.0, warmup_s=10.0) == 1.0  # as many are in flight when it ends
    assert times.served_share(100.0, warmup_s=4.0) == pytest.approx(1 - 300 * 6 / 400 / 96)
    assert times.shortest_s(0.9) == pytest.approx(80.0, rel=0.01)
    assert times.shortest_s(1.0) is None
    assert times.shortest_s(1.0, warmup_s=20.0) is not None


@pytest.mark.parametrize("duration_s", [30.0, 60.0, 300.0, 3600.0])
def test_the_twin_serves_that_share_of_a_light_load(
    scenario: Scenario, times: RequestTimes, duration_s: float
) -> None:
    profile = twin.find_profile(scenario.model, "H100-64GB")
    load = twin.GPULoad.from_classes(scenario.classes)
    workload = scenario.workload.model_copy(update={"duration_s": duration_s})
    offered = served = 0.0
    runs = int(24_000 / duration_s) + 4
    for seed in range(runs):
        gpu = twin.simulate(
            load, workload, scenario.engine, profile, max_loras=8, max_lora_rank=8, seed=seed
        ).gpu
        offered, served = offered + gpu.offered_tok_per_s, served + gpu.served_tok_per_s
    predicted = times.served_share(duration_s)
    lost = 1 - predicted
    assert served / offered == pytest.approx(predicted, abs=0.25 * lost)
    assert served / offered < predicted + 0.05 * lost + 0.01


def test_a_window_that_is_long_enough_is_no_problem(scenario: Scenario, times: RequestTimes) -> None:
    assert twin.window_problem(scenario, times) is None
    assert twin.window_note(scenario, times) == ""
    for one in scenarios.shipped():
        chosen = scenarios.read(one.path, "acceptance=paper")
        assert twin.window_problem(chosen, twin.times_alone(chosen, twin.profiles_of(chosen))) is None


def test_a_window_that_is_too_short_is_told_with_one_that_is_not(
    scenario: Scenario, times: RequestTimes
) -> None:
    short = scenarios.override(scenario, ["workload.duration_s=20"])
    said = twin.window_problem(short, times)
    assert said is not None
    assert said.startswith(
        "workload.duration_s 20 is too short for service_levels.served_share 0.9: requests"
    )
    enough = float(said.split("raise workload.duration_s to ")[1].split(" s at least")[0])
    assert times.served_share(enough) >= 0.9 > times.served_share(0.9 * enough)
    longer = scenarios.override(scenario, [f"workload.duration_s={enough}"])
    assert twin.window_problem(longer, times) is None
    assert "requests in flight at the end take" in twin.window_note(longer, times)


def test_a_share_that_no_window_gives_is_told_with_one_that_it_gives(
    scenario: Scenario, times: RequestTimes
) -> None:
    whole = scenarios.override(scenario, ["service_levels.served_share=1"])
    said = twin.window_problem(whole, times)
    assert said is not None
    assert "requests in flight at the end count as unserved" in said
    assert "raise workload.duration_s" not in said
    most = float(said.split("lower served_share to at most ")[1].split()[0])
    assert most == pytest.approx(times.served_share(3600.0), abs=0.001)
    assert (
        twin.window_problem(scenarios.override(scenario, [f"service_levels.served_share={most}"]), times)
        is None
    )


def test_the_quickest_device_counts(scenario: Scenario) -> None:
    profile = twin.find_profile(scenario.model, "H100-64GB")
    terms = tuple(term.model_copy(update={"seconds": 3 * term.seconds}) for term in profile.step.terms)
    slow = profile.model_copy(update={"step": profile.step.model_copy(update={"terms": terms})})
    quick = twin.times_alone(scenario, {"quick": profile})
    both = twin.times_alone(scenario, {"slow": slow, "quick": profile})
    assert both.served_share(60.0) == quick.served_share(60.0)
    assert twin.times_alone(scenario, {"slow": slow}).served_share(60.0) < quick.served_share(60.0)


def test_a_verdict_says_where_the_end_of_the_window_decides(scenario: Scenario) -> None:
    names = tuple(name for group in scenario.classes for name in group.names)
    gpu = PlacedGPU(gpu=0, device="H100-64GB", max_loras=8, max_lora_rank=8, adapters=names)
    short = scenarios.override(scenario, ["workload.duration_s=20", "adapters[0].rate=1"])
    (reason,) = twin.validate(short, Placement(gpus=(gpu,))).gpus[0].reasons
    assert "are in flight at the end, which count as unserved" in reason
    assert "a longer workload.duration_s has fewer" in reason


def test_a_verdict_on_an_overloaded_gpu_does_not_blame_the_window(scenario: Scenario) -> None:
    names = tuple(name for group in scenario.classes for name in group.names)
    gpu = PlacedGPU(gpu=0, device="H100-64GB", max_loras=8, max_lora_rank=8, adapters=names)
    heavy = scenarios.override(scenario, ["adapters[0].rate=50", "workload.duration_s=600"])
    reasons = twin.validate(heavy, Placement(gpus=(gpu,))).gpus[0].reasons
    assert reasons[0].startswith("serves ")
    assert "in flight" not in " ".join(reasons)
