"""Adapters in CPU memory: what a server keeps that does not say so, and what a placement's word is worth.

The two scenarios are one load of a public article ("Serving 40 LoRA adapters on one base model": 40 adapters
of rank 16, under 5 requests a minute each, max_loras 8, max_cpu_loras 64), and the same with vLLM's default,
max_loras (vllm/config/lora.py). Lengths and expected figures are of shared/field/24_cpu_loras_default.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

import scenarios
import twin
from scenarios import PlacedGPU, Placement, Scenario
from twin import GPUVerdict, PlacementJudge, SimulationResult, TwinJudge

FOLDER = Path(__file__).parent / "data" / "cpu_loras_default"
STATED, STARTED = FOLDER / "as_lorapack_assumes.yaml", FOLDER / "as_vllm_starts.yaml"
Lorapack = Callable[..., tuple[int, str, str]]


def unstated() -> Scenario:
    return scenarios.read(STARTED, "engine.max_cpu_loras=null")


def simulated(scenario: Scenario, max_loras: int | None = None) -> SimulationResult:
    load = twin.GPULoad.from_classes(scenario.classes)
    (device,) = scenario.devices
    return twin.simulate(
        load,
        scenario.workload,
        scenario.engine,
        twin.profiles_of(scenario)[device.name],
        max_loras=max_loras,
        seed=scenario.seed,
    )


# --- a server ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("file", "ttft_s", "disk_loads"), [(STATED, 15.4, 0), (STARTED, 18.0, 2499)])
def test_first_tokens_come_later_where_adapters_are_read_from_disk(
    file: Path, ttft_s: float, disk_loads: int
) -> None:
    gpu = simulated(scenarios.read(file)).gpu
    assert gpu.ttft.mean_s == pytest.approx(ttft_s, abs=0.05)
    assert gpu.disk_loads == disk_loads


@pytest.mark.parametrize("max_loras", [None, 8])
def test_an_engine_that_states_its_slots_alone_keeps_as_many_as_vllm_does(
    max_loras: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    started = simulated(scenarios.read(STARTED))
    assert not caplog.messages
    assert simulated(unstated(), max_loras).to_dict() == started.to_dict()
    (line,) = caplog.messages
    assert line.startswith("engine.max_cpu_loras is not stated, so that the CPU keeps 8 of 40 adapters")
    assert line.endswith("state engine.max_cpu_loras: 40")


def test_an_engine_of_which_nothing_is_stated_has_a_slot_for_each_adapter(
    caplog: pytest.LogCaptureFixture,
) -> None:
    few = ["engine.max_cpu_loras=null", "engine.max_loras=null", "adapters[0].count=4"]
    assert simulated(scenarios.read(STARTED, few)).max_loras == 4
    assert simulated(scenarios.read(STARTED, ["engine.max_cpu_loras=null", "adapters[0].count=8"])).max_loras
    assert not caplog.messages  # 8 of 8 are in CPU memory: there is nothing to be told


def test_the_command_simulates_what_vllm_starts_and_says_so_once(
    lorapack: Lorapack, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "unstated.yaml"
    scenarios.write(unstated(), file)
    _, started, _ = lorapack("simulate", STARTED, "-q")
    caplog.clear()
    code, text, _ = lorapack("simulate", file, "-q")
    assert code == 0
    assert text == started  # the criterion's own runs too
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    _, wide, _ = lorapack("simulate", file, "-q", "--max-loras", 16, "--json", "-")
    assert json.loads(wide)["max_loras"] == 16
    assert "keeps 16 of 40 adapters" in caplog.messages[-1]


# --- placements --------------------------------------------------------------------------------------


def on_one(max_cpu_loras: int | None, max_loras: int = 8, count: int = 40) -> Placement:
    names = tuple(f"customer-{k:02d}" for k in range(1, count + 1))
    return Placement(
        gpus=(
            PlacedGPU(
                gpu=0,
                device="H100-64GB",
                max_loras=max_loras,
                max_lora_rank=16,
                max_cpu_loras=max_cpu_loras,
                adapters=names,
            ),
        )
    )


@cache
def verdict(max_cpu_loras: int | None, file: Path | None = None) -> GPUVerdict:
    """On the placement; its scenario says nothing of adapters in CPU memory unless it is named."""
    scenario = unstated() if file is None else scenarios.read(file)
    (found,) = twin.validate(scenario, on_one(max_cpu_loras)).gpus
    return found


def test_a_placement_is_judged_with_what_it_states() -> None:
    assert verdict(40) == verdict(64) == verdict(64, STARTED) == verdict(None, STATED)
    assert verdict(8) == verdict(None, STARTED) == verdict(8, STATED)
    assert (verdict(64).ttft_ms or 0) < (verdict(8).ttft_ms or 0)


def test_a_placement_that_does_not_state_it_is_run_as_vllm_starts_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    (found,) = twin.validate(unstated(), on_one(None)).gpus
    assert found == verdict(8)
    (line,) = caplog.messages
    assert line.startswith("GPU 0 states no max_cpu_loras, so that the CPU keeps max_loras adapters")
    assert line.endswith("state max_cpu_loras in the placement, or engine.max_cpu_loras: 40")


@pytest.mark.slow
def test_validate_says_so_once_and_with_the_remedy_it_is_silent(
    lorapack: Lorapack, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file = tmp_path / "plan.yaml"
    scenario = tmp_path / "unstated.yaml"
    scenarios.write(unstated(), scenario)
    scenarios.write_placement(on_one(None), file)
    code, text, _ = lorapack("validate", scenario, file, "-q", "--set", "replications=1", "--spare", "1")
    assert code == 1
    assert len(caplog.messages) == 1
    caplog.clear()
    scenarios.write_placement(on_one(8), file)
    assert lorapack("validate", scenario, file, "-q", "--set", "replications=1", "--spare", "1")[1] == text
    assert caplog.messages == []


def test_equal_questions_are_asked_once_whoever_states_them() -> None:
    judge = PlacementJudge(TwinJudge(unstated(), {}))
    asked = {value: judge.content(on_one(value).gpus[0])[0] for value in (None, 8, 20, 40, 64)}
    assert asked[None] == asked[40] == asked[64]
    assert len(set(asked.values())) == 3
    resident = {judge.content(on_one(value, 40).gpus[0])[0] for value in (None, 40, 64)}
    assert len(resident) == 1
    stated = PlacementJudge(TwinJudge(scenarios.read(STARTED), {}))
    alike = [stated.content(on_one(value).gpus[0])[0] for value in (None, 8, 40, 64)]
    assert alike[0] == alike[1] != alike[2] == alike[3]
