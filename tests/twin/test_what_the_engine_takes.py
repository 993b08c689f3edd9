"""What vLLM refuses the twin refuses, and what it cuts short the twin counts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import scenarios
import twin
from optimizer.cli import main
from scenarios import (
    AdapterClass,
    EngineConfig,
    FixedLengths,
    Lengths,
    LognormalLengths,
    PlacedGPU,
    Placement,
    Scenario,
    ServiceLevelObjectives,
    TraceArrivals,
    Workload,
)

SHORT = FixedLengths(tokens=100)


@pytest.fixture(scope="module")
def profile() -> twin.EngineProfile:
    return twin.find_profile("llama-3.1-8b-instruct", "H100-64GB")


def load_of(rank: int = 8, prompt: Lengths = SHORT, output: Lengths = SHORT) -> twin.GPULoad:
    return twin.GPULoad.from_classes([AdapterClass(rank, 1.0, prompt, output, ("fr-legal", "fr-tax"))])


def simulate(
    profile: twin.EngineProfile, load: twin.GPULoad, workload: Workload, max_model_len: int
) -> twin.SimulationResult:
    engine = EngineConfig(max_model_len=max_model_len)
    return twin.simulate(load, workload, engine, profile, max_loras=2, max_lora_rank=8)


# --- ranks -------------------------------------------------------------------------------------------


def test_an_adapter_that_no_slot_holds_is_refused(profile: twin.EngineProfile) -> None:
    workload = Workload(prompt=SHORT, output=SHORT, duration_s=10.0)
    with pytest.raises(twin.EngineInputError, match=r'too small for "fr-legal" \(rank 64\).*raise it to 64'):
        simulate(profile, load_of(rank=64), workload, 2048)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-lora-rank", "8"], 'max_lora_rank 8 is too small for "tenant-001" (rank 64)'),
        (["--max-lora-rank", "24"], "--max-lora-rank is 24; vLLM takes 8, 16, 32"),
    ],
)
def test_simulate_refuses_ranks_that_the_engine_refuses(
    arguments: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command = ["lorapack", "simulate", "slots_exhaust_memory", "--max-loras", "8", *arguments]
    monkeypatch.setattr("sys.argv", command)
    with pytest.raises(SystemExit) as stop:
        main()
    assert stop.value.code == 2
    assert said in " ".join(capsys.readouterr().err.replace("│", " ").split())


# --- lengths -----------------------------------------------------------------------------------------


def test_prompts_of_a_trace_that_the_engine_refuses_are_refused(
    profile: twin.EngineProfile, tmp_path: Path
) -> None:
    rows = "".join(f"2023-11-16 18:17:{k:02d}.5,{1000 + 50 * k},20\n" for k in range(50))
    file = tmp_path / "trace.csv"
    file.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + rows)
    arrivals = TraceArrivals(file=str(file), lengths=True)
    workload = Workload(arrivals=arrivals, prompt=SHORT, output=SHORT, duration_s=25.0)
    with pytest.raises(twin.WorkloadError, match=r"refuses 29 of 50 .* up to 3,450 .*to 3,451 or"):
        simulate(profile, load_of(), workload, 2048)
    assert simulate(profile, load_of(), workload, 3451).cut_requests == 1
    assert simulate(profile, load_of(), workload, 3470).cut_requests == 0
    own = workload.model_copy(update={"arrivals": arrivals.model_copy(update={"lengths": False})})
    assert simulate(profile, load_of(), own, 2048).cut_requests == 0


def test_requests_that_are_cut_are_counted_and_told(profile: twin.EngineProfile) -> None:
    long = LognormalLengths(mean=300, std=200)
    load, workload = load_of(output=long), Workload(prompt=SHORT, output=long, duration_s=300.0)
    result = simulate(profile, load, workload, 600)
    drawn = twin.draw_requests(load, workload, 0)
    expected = int((drawn.prompt_tokens + drawn.output_tokens > 600).sum())
    assert result.cut_requests == expected > 0
    assert (result.records.requests.prompt_tokens + result.records.requests.output_tokens).max() == 600
    assert "to what max_model_len admits" in result.summary()
    assert result.to_dict()["cut_requests"] == expected
    whole = simulate(profile, load, workload, 100_000)
    assert whole.cut_requests == 0
    assert "max_model_len" not in whole.summary()


def test_a_verdict_tells_how_many_requests_were_cut() -> None:
    scenario = Scenario.model_validate(
        {
            "name": "cut",
            "model": "llama-3.1-8b-instruct",
            "adapters": [{"name": "a", "rank": 8, "rate": 1.0}],
            "workload": {"prompt": 100, "output": {"mean": 300, "std": 200}, "duration_s": 300},
            "devices": "H100-64GB",
            "engine": {"max_model_len": 600},
            "acceptance": "paper",
            "service_levels": ServiceLevelObjectives(served_share=0.5),
        }
    )
    gpu = PlacedGPU(gpu=0, device="H100-64GB", max_loras=1, max_lora_rank=8, adapters=("a",))
    report = twin.validate(scenario, Placement(gpus=(gpu,)))
    load = twin.GPULoad.from_classes(scenario.classes)
    cut = 0
    for child in np.random.SeedSequence(scenario.seed).spawn(scenario.replications):
        drawn = twin.draw_requests(load, scenario.workload, child)
        cut += int((drawn.prompt_tokens + drawn.output_tokens > 600).sum())
    assert report.gpus[0].cut_requests == cut > 0
    said = f"{cut:,} simulated requests were cut to the tokens that engine.max_model_len admits"
    assert said in report.summary()
    roomy = scenarios.override(scenario, ["engine.max_model_len=16384"])
    assert "cut" not in twin.validate(roomy, Placement(gpus=(gpu,))).summary()
