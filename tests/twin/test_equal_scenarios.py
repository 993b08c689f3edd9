"""Equal scenarios get equal requests and equal verdicts, however they were built."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import scenarios
import twin
from scenarios import PlacedGPU, Placement, Scenario

TEXT = """
name: equals
model: llama-3.1-8b-instruct
adapters:
  - {name: plain, count: 6, rank: 8, rate: 0.4}
  - {name: own, count: 4, rank: 16, rate: 0.3,
     prompt: {mean: 223, std: 243, min: 4, max: 1024}, output: {mean: 195, std: 210, max: 1024}}
  - {name: long, count: 3, rank: 8, rate: 0.2, prompt: {mean: 500, std: 300, max: 2048}, output: 300}
  - {name: late, count: 2, rank: 8, rate: 0.2, prompt: {mean: 500, std: 300, max: 2048}, output: 300}
  - {name: bins, count: 2, rank: 8, rate: 0.2, output: {edges: [1, 50, 400], weights: [1, 2]}}
  - {name: more, count: 2, rank: 16, rate: 0.2, output: {edges: [1, 50, 400], weights: [1, 2]}}
workload:
  prompt: {mean: 223, std: 243, min: 4, max: 1024}
  output: {mean: 195, std: 210, max: 1024}
  duration_s: 120
devices: H100-64GB
acceptance: paper
service_levels: {served_share: 0.5, adapter_served_share: 0.5}
replications: 2
"""


def _shared(scenario: Scenario) -> Scenario:
    """The scenario with one object for all lengths that are equal."""
    known: dict[object, object] = {}
    fields = ("prompt", "output")

    def one_object(noun: scenarios.Adapter | scenarios.Workload) -> dict[str, object]:
        given = {name: getattr(noun, name) for name in fields}
        return {name: value and known.setdefault(value, value) for name, value in given.items()}

    workload = scenario.workload.model_copy(update=one_object(scenario.workload))
    adapters = tuple(entry.model_copy(update=one_object(entry)) for entry in scenario.adapters)
    return scenario.model_copy(update={"workload": workload, "adapters": adapters})


def _written_and_read(scenario: Scenario, folder: Path) -> Scenario:
    scenarios.write(scenario, folder / "equals.yaml")
    return scenarios.read(folder / "equals.yaml")


WAYS: dict[str, Callable[[Scenario, Path], Scenario]] = {
    "read from text again": lambda _s, _f: scenarios.loads(TEXT),
    "written and read": _written_and_read,
    "override": lambda s, _: scenarios.override(s, ["seed=0"]),
    "one object for equal lengths": lambda s, _: _shared(s),
    "copied": lambda s, _: s.model_copy(deep=True),
    "copied by parts": lambda s, _: s.model_copy(
        update={"workload": s.workload.model_copy(update={"prompt": copy.deepcopy(s.workload.prompt)})}
    ),
    "pickled": lambda s, _: pickle.loads(pickle.dumps(s)),
    "one object, pickled": lambda s, _: pickle.loads(pickle.dumps(_shared(s))),
    "through JSON": lambda s, _: Scenario.model_validate_json(s.model_dump_json()),
    "built from values": lambda s, _: scenarios.from_mapping(s.model_dump(mode="json")),
}


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return scenarios.loads(TEXT)


def _requests(scenario: Scenario) -> twin.Requests:
    return twin.draw_requests(twin.GPULoad.from_classes(scenario.classes), scenario.workload, scenario.seed)


def _report(scenario: Scenario, workers: int = 1) -> twin.ValidationReport:
    names = tuple(name for group in scenario.classes for name in group.names)
    gpus = [
        PlacedGPU(gpu=k, device="H100-64GB", max_loras=8, max_lora_rank=16, adapters=names[k::2])
        for k in range(2)
    ]
    return twin.validate(scenario, Placement(gpus=tuple(gpus)), workers=workers)


@pytest.mark.parametrize("way", WAYS)
def test_equal_scenarios_draw_equal_requests_and_get_equal_verdicts(
    scenario: Scenario, way: str, tmp_path: Path
) -> None:
    other = WAYS[way](scenario, tmp_path)
    assert other == scenario
    assert other.digest == scenario.digest
    first, second = _requests(scenario), _requests(other)
    for name in ("arrival_s", "adapter", "prompt_tokens", "output_tokens"):
        assert np.array_equal(getattr(first, name), getattr(second, name)), name
    assert _report(other) == _report(scenario)


def test_lengths_of_an_adapters_own_that_equal_the_workloads_change_nothing(scenario: Scenario) -> None:
    workload = scenario.workload
    own = {"prompt": copy.deepcopy(workload.prompt), "output": copy.deepcopy(workload.output)}
    plain = scenario.adapters[0]
    as_plain = scenario.model_copy(update={"adapters": (plain,)})
    as_own = scenario.model_copy(update={"adapters": (plain.model_copy(update=own),)})
    assert np.array_equal(_requests(as_own).prompt_tokens, _requests(as_plain).prompt_tokens)
    assert np.array_equal(_requests(as_own).output_tokens, _requests(as_plain).output_tokens)


def test_verdicts_do_not_depend_on_the_number_of_workers(scenario: Scenario) -> None:
    assert _report(scenario, workers=2) == _report(scenario)
