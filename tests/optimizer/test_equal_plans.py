"""Equal scenarios get equal plans, however they were built."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from typing import Any

import pytest

import optimizer
import scenarios
from scenarios import Scenario

TEXT = """
name: equals
model: llama-3.1-8b-instruct
adapters:
  - {name: a, count: 6, rank: 8, rate: 0.5}
  - {name: b, count: 6, rank: 16, rate: [0.8, 0.4], prompt: {mean: 223, std: 243, min: 4, max: 1024}}
workload:
  prompt: {mean: 223, std: 243, min: 4, max: 1024}
  output: {mean: 195, std: 210, max: 1024}
devices: {name: H100-64GB, count: 8}
engine: {max_num_seqs: 2048}
replications: 1
"""


def _shared(scenario: Scenario) -> Scenario:
    """The scenario with the workload's own object as the lengths that are equal to it."""
    first, second = scenario.adapters
    second = second.model_copy(update={"prompt": scenario.workload.prompt})
    return scenario.model_copy(update={"adapters": (first, second)})


WAYS: dict[str, Callable[[Scenario], Scenario]] = {
    "one object": _shared,
    "one object, pickled": lambda s: pickle.loads(pickle.dumps(_shared(s))),
    "override": lambda s: scenarios.override(_shared(s), ["seed=0"]),
}


def _answer(scenario: Scenario, workers: int = 1) -> dict[str, Any]:
    result = optimizer.solve(scenario, method="exact", workers=workers)
    return result.model_dump(mode="json", exclude={"seconds", "preparation_seconds"})


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return scenarios.loads(TEXT)


@pytest.fixture(scope="module")
def expected(scenario: Scenario) -> dict[str, Any]:
    return _answer(scenario)


@pytest.mark.parametrize("way", WAYS)
def test_equal_scenarios_get_equal_plans(scenario: Scenario, expected: dict[str, Any], way: str) -> None:
    other = WAYS[way](scenario)
    assert other == scenario
    assert _answer(other) == expected


def test_plans_do_not_depend_on_the_number_of_workers(scenario: Scenario, expected: dict[str, Any]) -> None:
    assert _answer(scenario, workers=2) == expected
