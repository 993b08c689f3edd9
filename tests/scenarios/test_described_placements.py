"""Placements that tell all that a deployment needs, in files."""

from __future__ import annotations

from pathlib import Path

import pytest

import scenarios
from scenarios import PlacedGPU, Placement, Scenario, ScenarioError

SCENARIO = """
name: s
model: org/base
adapters:
  - {name: fr, rank: 8, rate: 0.1, source: /a/fr, served_name: 'le français: #1'}
  - {name: de, count: 2, rank: 8, rate: 0.1, source: 's3://b/{name}'}
  - {name: plain, rate: 0.1}
workload: {prompt: 10, output: 10}
devices: H100-64GB
engine: {max_model_len: 4096}
export: {namespace: ml}
"""


def _scenario() -> Scenario:
    return scenarios.loads(SCENARIO)


def _placement() -> Placement:
    gpu = PlacedGPU(
        gpu=0, device="H100-64GB", max_loras=4, max_lora_rank=8, adapters=("fr", "de-1", "de-2", "plain")
    )
    return scenarios.described(Placement(gpus=(gpu,)), _scenario(), "0.8.5")


@pytest.mark.parametrize("name", ["plan.yaml", "plan.json"])
def test_a_described_placement_is_read_back_as_it_was_written(tmp_path: Path, name: str) -> None:
    placement = _placement()
    scenarios.write_placement(placement, tmp_path / name)
    assert scenarios.read_placement(tmp_path / name) == placement


def test_it_tells_sources_served_names_and_which_is_the_base_model() -> None:
    told = _placement().adapters
    assert told["fr"].served_name == "le français: #1"
    assert told["de-2"].source == "s3://b/de-2"
    assert told["plain"].base
    assert not told["fr"].base


def test_what_belongs_to_a_deployment_changes_no_result() -> None:
    moved = scenarios.override(_scenario(), ["export.namespace=other", "adapters[0].source=/b/fr"])
    assert moved.digest == _scenario().digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("adapters[1].source=/same", "one for 2 adapters"),
        ("adapters[1].served_name=x", "one for 2 adapters"),
        ("adapters[0].served_name=de-1", "served too"),
        ("export.namespace=Not a label", "namespace"),
        ("export.router_port=8000", "port of an engine"),
        ('adapters[0].source="a\\nb"', "source"),
    ],
)
def test_what_a_deployment_cannot_have_is_refused(change: str, message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        scenarios.override(_scenario(), [change])


def test_a_rank_or_a_rate_that_is_null_is_refused_with_all_else_that_is_empty() -> None:
    text = SCENARIO.replace("rank: 8, rate: 0.1, source: /a/fr", "rank: null, rate: null")
    with pytest.raises(ScenarioError) as told:
        scenarios.loads(text)
    assert {"adapters[0].rank", "adapters[0].rate"} <= {problem.path for problem in told.value.problems}
