"""What a result says of a plan's verdicts, and which version it says it is of."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import optimizer
import scenarios
from optimizer.packing.model.problem import Bin, Packing
from optimizer.search.cut_loop import AcceptedPlan
from optimizer.search.minimize_gpus import GPUMinimum
from optimizer.search.params import SolveParams
from optimizer.search.preparation import instance_of
from optimizer.search.result_builder import _cut_short, _validation
from scenarios import AdapterClass, EngineConfig, FixedLengths, ServiceLevelObjectives, Workload
from twin import Criterion, GPULoad, Violation, find_profile, judge

ROOT = Path(optimizer.__file__).parent.parent


def test_a_validation_keeps_all_that_the_verdict_says_under_the_names_of_each_gpu() -> None:
    scenario = scenarios.read("paper_mixed_32")
    instance = instance_of(scenario)
    counts = [1] * len(instance.classes)
    packing = Packing((Bin(0, counts), Bin(0, counts)))
    load = replace(GPULoad.from_classes(instance.classes, counts), names=tuple(map(str, range(len(counts)))))
    profile = instance.profiles["H100-64GB"]
    verdict = judge(
        load,
        scenario.workload.model_copy(update={"duration_s": 60.0}),
        scenario.engine,
        profile,
        max_loras=1,
        max_lora_rank=32,
        service_levels=scenario.service_levels,
        replications=1,
    )
    assert verdict.starved
    failure = Violation(code=Criterion.NO_KV_MEMORY, remedy="no remedy")
    verdict = verdict.model_copy(update={"violations": (*verdict.violations, failure)})
    report = _validation(instance, AcceptedPlan(packing, (verdict, verdict), instance.inner, None))
    first, second = report.gpus
    assert report.distinct == 1
    assert first.starved == tuple(instance.classes[int(k)].names[0] for k in verdict.starved)
    assert first.memory_failure == second.memory_failure == "no_kv_memory"
    second_names = {c.names[1] for c in instance.classes}
    assert len(second.starved) == len(first.starved)
    assert second_names.issuperset(second.starved)
    assert second.worst_adapter in second_names
    assert f'"{second.starved[0]}"' in " ".join(second.reasons)
    assert f'"{first.starved[0]}"' not in " ".join(second.reasons)


@pytest.fixture(scope="module")
def hot() -> scenarios.Scenario:
    """Adapters so hot that no eight of them fit a GPU, the least number at which the greedy tests one."""
    return scenarios.read("paper_mixed_32", overrides=["replications=1", "adapters[0].rate=6"])


def test_what_no_gpu_and_no_time_helps_is_not_blamed_on_them(hot: scenarios.Scenario) -> None:
    result = optimizer.solve(hot, method="greedy")
    assert (result.status, result.stop_reason) == ("no_plan", "finished")
    assert "no plan: even an empty GPU fails the first test, that of 8 adapters" in result.message
    for advice in ("raise", "give more"):
        assert advice not in result.message


def test_the_advice_is_what_helps(hot: scenarios.Scenario) -> None:
    few = optimizer.solve(hot, method="bfd", gpus=2)
    assert few.message == "no plan of bfd fits 2 GPUs; give more GPUs (--gpus), or choose another method"
    two = scenarios.override(hot, ["devices[0].count=2"])
    assert "give more GPUs (devices[].count)" in optimizer.solve(two, method="bfd").message
    late = optimizer.solve(hot, method="bfd", time_limit_s=1e-9)
    assert (late.stop_reason, late.message) == (
        "time_limit",
        "stopped by the time limit without a plan that the twin accepts; raise it",
    )


def test_what_is_not_proven_is_no_zero(hot: scenarios.Scenario) -> None:
    infeasible = optimizer.solve(hot, gpus=2)
    assert infeasible.status == "infeasible"
    assert (infeasible.bound, infeasible.outer_bound) == (None, None)


def test_a_latency_on_the_fewest_gpus_says_how_to_have_more(hot: scenarios.Scenario) -> None:
    light = scenarios.override(hot, ["adapters[0].rate=0.1"])
    result = optimizer.solve(light, method="bfd", objective="latency", time_limit_s=4)
    assert "on the fewest GPUs, 1 of 128; --gpus N (gpus=N in Python) allows more" in result.message
    for given in ({"objective": "latency", "gpus": 2}, {"objective": ("gpus", "latency")}, {}):
        other = optimizer.solve(light, method="bfd", time_limit_s=4, **given)
        assert "on the fewest GPUs" not in other.message


@pytest.mark.parametrize(
    ("objective", "finished", "said"),
    [
        (("gpus",), False, ""),
        (("gpus", "latency"), True, "the search for the best latency used up its share of the time limit"),
        (("gpus", "ttft"), False, "the search for the fewest GPUs used up its 50% of the time limit"),
    ],
)
def test_which_search_was_cut_short_is_told(objective: tuple[str, ...], finished: bool, said: str) -> None:
    outcome: Any = SimpleNamespace(
        instance=SimpleNamespace(scenario=SimpleNamespace(objective=objective)),
        minimum=GPUMinimum(finished=finished),
        search=SimpleNamespace(params=SolveParams()),
    )
    assert _cut_short(outcome).startswith(said)
    assert bool(_cut_short(outcome)) == bool(said)


def test_the_parts_of_an_adapter_starve_as_one() -> None:
    one = AdapterClass(8, 40.0, FixedLengths(tokens=200), FixedLengths(tokens=200), ("a", "b"))
    verdict = judge(
        GPULoad.from_classes([one]),
        Workload(prompt=one.prompt, output=one.output, duration_s=60.0),
        EngineConfig(),
        find_profile("llama-3.1-8b-instruct", "H100-64GB"),
        max_loras=2,
        max_lora_rank=8,
        service_levels=ServiceLevelObjectives(),
        replications=1,
    )
    assert set(verdict.starved) == {"a", "b"}
    assert verdict.of(1, {"a": "hot", "b": "hot"}).starved == ("hot",)


def test_a_copy_that_is_not_installed_knows_its_version() -> None:
    code = (
        "import importlib.metadata as m\n"
        "def refuse(name): raise m.PackageNotFoundError(name)\n"
        "m.version = m.distribution = m.metadata = refuse\n"
        "import optimizer\n"
        "from optimizer.baselines import run\n"
        "print(optimizer.__version__)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    assert said.stdout.strip() == optimizer.__version__


def test_a_baselines_message_says_what_its_gpus_miss() -> None:
    levels = ["service_levels.ttft_ms.p99=1", "replications=1", "workload.duration_s=60"]
    result = optimizer.solve(scenarios.read("paper_mixed_32", overrides=levels), method="maxbackbone")
    assert result.message == "the twin rejects 1 of 1 GPU: 1 GPU misses a limit on latency"
