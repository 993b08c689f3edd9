"""What a result says of a plan's verdicts, and which version it says it is of."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import optimizer
import scenarios
from optimizer.packing.model.problem import Bin, Packing
from optimizer.search.cut_loop import AcceptedPlan
from optimizer.search.preparation import instance_of
from optimizer.search.result_builder import _validation
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
