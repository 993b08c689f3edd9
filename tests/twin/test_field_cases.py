"""Scenarios of public reports that were once refused: each is checked and simulated."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import scenarios
import twin
from twin.workload.trace_files import read_trace

FIELD = Path(__file__).parent / "data" / "field"


def simulated(file: str, overrides: str = "", **options: int) -> twin.SimulationResult:
    scenario = scenarios.read(FIELD / file, overrides=[overrides] if overrides else [])
    twin.check_trace(scenario)
    load = twin.GPULoad.from_classes(scenario.classes)
    profile = twin.profiles_of(scenario)[scenario.devices[0].name]
    return twin.simulate(load, scenario.workload, scenario.engine, profile, **options)


@pytest.mark.parametrize(
    "file",
    [
        "22_azure2024_times/scenario.yaml",
        "23_rank_24/scenario.yaml",
        "27_base_model_traffic/scenario.yaml",
        "31_public_traces/scenario_burstgpt.yaml",
    ],
)
def test_what_was_refused_is_simulated(file: str) -> None:
    assert len(simulated(file).records.requests) > 0


def test_prompts_of_a_trace_that_are_too_long_are_told_before_anything_runs() -> None:
    file = "31_public_traces/scenario_mooncake.yaml"
    with pytest.raises(twin.WorkloadError, match=r"raise engine\.max_model_len to 40,161"):
        simulated(file)
    assert len(simulated(file, "engine.max_model_len=65536").records.requests) > 0


def test_times_with_an_offset_from_utc_and_without_fractions_are_read() -> None:
    trace = read_trace(FIELD / "22_azure2024_times" / "trace.csv")
    assert len(trace) == 4
    assert trace.arrival_s[-1] == pytest.approx(60.99, abs=0.01)


def test_slots_are_of_the_next_rank_that_the_engine_knows() -> None:
    assert simulated("23_rank_24/scenario.yaml").max_lora_rank == 128


def test_base_model_traffic_waits_for_no_slot() -> None:
    result = simulated("27_base_model_traffic/scenario.yaml", max_loras=1)
    records = result.records
    base = records.requests.adapter == 0
    assert result.names[0] == "base-model"
    assert base.mean() == pytest.approx(10 / 11, abs=0.02)
    assert records.gpu_loads[0] == 0
    queued = (records.first_scheduled_s - records.requests.arrival_s)[base]
    assert np.nanmax(queued) < 1.0
