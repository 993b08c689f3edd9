"""A small space that the twin samples in a few seconds, and its runs."""

from __future__ import annotations

import pytest

import learn
from learn import Dataset, DesignSpace, SamplingPlan
from scenarios import Scenario, from_mapping
from twin import EngineProfile, find_profile

SMALL = {
    "name": "small",
    "model": "llama-3.1-8b-instruct",
    "adapters": [{"name": "a", "count": 6, "rank": [8, 16], "rate": [0.5, 1.0]}],
    "workload": {
        "prompt": {"distribution": "fixed", "tokens": 200},
        "output": {"distribution": "fixed", "tokens": 150},
        "duration_s": 600,
    },
    "devices": [{"name": "H100-64GB", "count": 4}],
    "engine": {"max_num_seqs": 512, "max_num_batched_tokens": 2048, "slots": [8, 64], "max_lora_rank": 16},
    "acceptance": "paper",
}

PLAN = SamplingPlan(compositions=40, round_size=20, max_runs=9, width=1.06, spread=1, seed=3)


@pytest.fixture(scope="session")
def scenario() -> Scenario:
    return from_mapping(SMALL)


@pytest.fixture(scope="session")
def profile(scenario: Scenario) -> EngineProfile:
    return find_profile(scenario.model, scenario.devices[0].name)


@pytest.fixture(scope="session")
def space(scenario: Scenario, profile: EngineProfile) -> DesignSpace:
    return learn.space_for(scenario, scenario.devices[0], profile)


@pytest.fixture(scope="session")
def plan() -> SamplingPlan:
    return PLAN


@pytest.fixture(scope="session")
def dataset(space: DesignSpace, plan: SamplingPlan) -> Dataset:
    return learn.sample(space, plan)
