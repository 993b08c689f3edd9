"""Rates of which only the lowest and the highest are known: files, errors, classes and kinds."""

from __future__ import annotations

import pytest

import scenarios
from scenarios import Scenario, ScenarioError, UncertainRate

TEXT = """
name: uncertain
model: llama-3.1-8b-instruct
adapters:
  - {{name: a, count: 4, rank: 8, rate: {rate}}}
workload: {{prompt: 200, output: 200}}
devices: H100-64GB
"""


def read(rate: str) -> Scenario:
    return scenarios.loads(TEXT.format(rate=rate))


def test_adapters_count_by_their_high_rate_and_know_how_low_it_may_be() -> None:
    (members,) = read("{low: 0.5, high: 1.5}").classes
    assert (members.rate, members.count) == (1.5, 4)
    assert members.rate * members.low_share == 0.5
    kind = members.kind
    assert kind.uncertain
    assert (kind.at(high=True).rate, kind.at(high=False).rate) == (1.5, 0.5)
    assert not kind.at(high=True).uncertain
    assert kind.scaled(0.5).at(high=False).rate == 0.25


def test_a_rate_between_equal_ones_is_that_rate() -> None:
    certain, same = read("1.5"), read("{low: 1.5, high: 1.5}")
    assert certain.classes == same.classes
    assert not same.uncertain


def test_lists_deal_uncertain_rates_too() -> None:
    scenario = read("[0.5, {low: 0, high: 1}]")
    assert [(c.rate, c.low_share, c.names) for c in scenario.classes] == [
        (0.5, 1.0, ("a-1", "a-3")),
        (1.0, 0.0, ("a-2", "a-4")),
    ]
    assert scenario.uncertain


def test_adapters_of_one_high_rate_and_other_low_ones_are_no_class() -> None:
    assert [c.count for c in read("[1, {low: 0.2, high: 1}, {low: 0.5, high: 1}]").classes] == [2, 1, 1]


@pytest.mark.parametrize("rate", ["{low: 0.5, high: 1.5}", "[0.5, {low: 0, high: 1}]"])
def test_files_read_back_equal(rate: str) -> None:
    scenario = read(rate)
    assert scenarios.loads(scenarios.dumps(scenario)) == scenario
    assert scenarios.loads(scenarios.dumps(scenario, defaults=True)) == scenario
    assert scenarios.from_mapping(scenario.model_dump(mode="json")) == scenario
    assert scenario.digest != read("1.5").digest


def test_a_rate_is_made_uncertain_from_outside() -> None:
    changed = scenarios.override(read("1"), "adapters[0].rate={low: 0.5, high: 1.5}")
    assert changed.adapters[0].rate == UncertainRate(low=0.5, high=1.5)
    raised = scenarios.override(changed, "adapters[0].rate.high=2")
    assert raised.adapters[0].rate == UncertainRate(low=0.5, high=2.0)


@pytest.mark.parametrize(
    ("rate", "problem"),
    [
        ("{low: 2, high: 1}", "adapters[0].rate.low is 2, above high 1; lower it or raise high"),
        ("{low: -1, high: 1}", "adapters[0].rate.low is -1; give at least 0"),
        ("{low: 1}", "adapters[0].rate.high is missing; add it"),
        ("{high: 1}", "adapters[0].rate.low is missing; add it"),
        ("{low: 0, high: 0}", "adapters[0].rate.high is 0; give a number above 0"),
        ("{low: 1, high: many}", 'adapters[0].rate.high is the text "many"; give a number'),
        ("{low: 1, hihg: 2}", 'adapters[0].rate.hihg is not a key that exists here; did you mean "high"?'),
        ("[1, {low: 3, high: 1}]", "adapters[0].rate[1].low is 3, above high 1"),
        ("[1, {zipf_total: 3}]", "adapters[0].rate[1] is a mapping with the keys zipf_total; give a number"),
        ("{low: [1, 2], high: 3}", "adapters[0].rate.low is a list of 2; give a number"),
    ],
)
def test_what_is_wrong_is_told_once_with_its_remedy(rate: str, problem: str) -> None:
    with pytest.raises(ScenarioError) as caught:
        read(rate)
    (told,) = caught.value.problems
    assert str(told).startswith(f"line 5: {problem}")


def test_the_schema_has_the_form() -> None:
    rate = scenarios.schema()["$defs"]["Adapter"]["properties"]["rate"]
    assert {"$ref": "#/$defs/UncertainRate"} in rate["anyOf"][0]["oneOf"]
