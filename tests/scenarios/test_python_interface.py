"""What users of Python see of the package: its names, its errors, and arguments that stand alone."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
from pydantic import ValidationError

import scenarios
from scenarios import ScenarioError


def test_dir_shows_what_users_need() -> None:
    assert dir(scenarios) == sorted(scenarios.__all__)
    assert all(hasattr(scenarios, name) for name in scenarios.__all__)
    assert {"Scenario", "read", "write", "override", "shipped", "Placement", "ScenarioError"} <= set(
        dir(scenarios)
    )
    assert {"visible", "noticed", "write_whole", "reading", "base"}.isdisjoint(dir(scenarios))


@pytest.mark.parametrize(
    ("build", "problems"),
    [
        (
            lambda: scenarios.Adapter(name="a", rank=-1, rate=-1),
            ["rank is -1; give at least 0", "rate is -1; give a number"],
        ),
        (
            lambda: scenarios.Adapter(nme="a", rank=8, rate=1),
            ['nme is not a key that exists here; did you mean "name"?'],
        ),
        (lambda: scenarios.LatencyLimits(p75=3), ["p75 is not a key", "mean, p50, p90, p95 and p99"]),
        (lambda: scenarios.EngineConfig(max_loras="x"), ['max_loras is the text "x"; give a whole number']),
        (lambda: scenarios.ZipfRates(zipf_total="x"), ['zipf_total is the text "x"; give a number']),
        (lambda: scenarios.Workload(warmup_s=9, duration_s=9), ["warmup_s is 9, not below duration_s 9"]),
        (
            lambda: scenarios.Scenario(
                name="s",
                model="m",
                adapters=(scenarios.Adapter(name="a", rank=64, rate=1),),
                workload=scenarios.Workload(prompt=3, output=4),
                devices="H100",
                engine=scenarios.EngineConfig(max_lora_rank=8),
            ),
            ["adapters[0].rank is 64, above engine.max_lora_rank 8"],
        ),
    ],
)
def test_constructors_raise_our_error(build: Callable[[], object], problems: list[str]) -> None:
    with pytest.raises(ScenarioError) as error:
        build()
    for problem in problems:
        assert problem in str(error.value)
    assert "pydantic" not in str(error.value)


def test_what_pydantic_offers_raises_what_pydantic_raises() -> None:
    with pytest.raises(ValidationError):
        scenarios.Adapter.model_validate({"name": "a"})


def test_models_are_changed_by_copies_only() -> None:
    scenario = scenarios.read("mixed_ranks")
    with pytest.raises(ScenarioError, match=r"seed cannot be changed; copy it: \.model_copy"):
        scenario.seed = 7
    with pytest.raises(ScenarioError, match="sed cannot be changed"):
        scenario.sed = 7
    with pytest.raises(ScenarioError, match="seed cannot be changed"):
        del scenario.seed
    assert scenario.model_copy(update={"seed": 7}).seed == 7
    assert copy.deepcopy(scenario) == pickle.loads(pickle.dumps(scenario)) == scenario


def test_one_override_may_stand_alone() -> None:
    scenario = scenarios.read("mixed_ranks", overrides="seed=7")
    assert scenario.seed == 7
    assert scenarios.override(scenario, "seed=8").seed == 8
    assert scenarios.loads(scenarios.dumps(scenario), "seed=9").seed == 9
    assert scenarios.from_mapping(scenario.model_dump(mode="json"), "seed=9").seed == 9


@pytest.mark.parametrize("overrides", [7, None, [7], {"seed": 7}, b"seed=7"])
def test_overrides_that_are_none_are_refused_in_one_sentence(overrides: object) -> None:
    with pytest.raises(ScenarioError, match="is no path=value; write it as engine") as error:
        scenarios.read("mixed_ranks", overrides)
    assert len(error.value.problems) == 1


@pytest.mark.parametrize("values", ["x", [1], None])
def test_values_that_are_no_mapping_are_refused(values: object) -> None:
    with pytest.raises(ScenarioError, match="at its top; write a mapping with the keys"):
        scenarios.from_mapping(values)
