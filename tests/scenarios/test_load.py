"""A scenario with so many times its load."""

from __future__ import annotations

from typing import Any

import pytest

import scenarios
from scenarios import Scenario, ScenarioError, at_load

RATES: list[Any] = [
    0.3,
    [0.3, {"low": 0.1, "high": 0.4}],
    {"low": 0, "high": 0.5},
    {"zipf_total": 6, "exponent": 1.1},
]


def scenario_of(**entry: Any) -> Scenario:
    template = scenarios.read("paper_mixed_32").model_dump(mode="json")
    return scenarios.from_mapping(template | {"adapters": [{"name": "a", "count": 4, "rank": 8, **entry}]})


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("factor", [0.5, 1.1, 3])
def test_every_rate_is_multiplied_and_nothing_else(rate: Any, factor: float) -> None:
    before = scenario_of(rate=rate)
    after = at_load(before, factor)
    for old, new in zip(before.adapters, after.adapters, strict=True):
        assert new.rates() == pytest.approx([factor * one for one in old.rates()])
        assert new.low_shares() == pytest.approx(old.low_shares())
    exclude = {"adapters": {"__all__": {"rate"}}}
    assert after.model_dump(exclude=exclude) == before.model_dump(exclude=exclude)


def test_a_rate_has_no_noise() -> None:
    assert at_load(scenario_of(rate=0.3), 1.1).adapters[0].rate == 0.33


def test_users_become_more_and_are_never_none() -> None:
    loop = {"process": "closed_loop", "users": 3, "think_s": 10}
    before = scenario_of(arrivals=loop)
    assert [at_load(before, f).adapters[0].rates()[0] for f in (2.0, 0.01)] == [0.6, 0.1]


def test_once_its_load_is_the_scenario_itself() -> None:
    scenario = scenario_of(rate=1.0)
    assert at_load(scenario, 1.0) is scenario


@pytest.mark.parametrize("factor", [0, -1, float("nan"), float("inf"), True, "2"])
def test_what_is_no_factor_is_refused(factor: Any) -> None:
    with pytest.raises(ScenarioError, match="load_factor is"):
        at_load(scenario_of(rate=1.0), factor)


def test_a_rate_that_becomes_too_large_is_told_with_its_place() -> None:
    with pytest.raises(ScenarioError, match=r"adapters\[0\].*rate"):
        at_load(scenario_of(rate=90_000), 2)
