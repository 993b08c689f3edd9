"""The criterion by which GPUs are accepted: its keys, and what becomes of those of the other one."""

from __future__ import annotations

import logging

import pytest

import scenarios
from scenarios import Scenario, ScenarioError, ServiceLevelObjectives
from scenarios.acceptance import foreign_keys, without_foreign

TEXT = """
name: criteria
model: llama-3.1-8b-instruct
adapters:
  - {name: chat, count: 3, rank: 8, rate: 1}
  - {name: batch, rank: 8, rate: 2, service_levels: {patience_s: 600}}
workload: {prompt: 200, output: 100, duration_s: 600, warmup_s: 60}
devices: H100-64GB
headroom: 0.2
service_levels: {patience_s: 5, ttft_ms: {p99: 2000}}
"""

PAPER = TEXT.replace("headroom: 0.2", "acceptance: paper")
PAPER = PAPER.replace("patience_s: 600", "served_share: 0.95").replace("patience_s: 5", "served_share: 0.8")


def problems(text: str, *overrides: str) -> list[str]:
    with pytest.raises(ScenarioError) as error:
        scenarios.loads(text, overrides)
    return [problem.path for problem in error.value.problems]


def test_sustained_is_the_default_with_headroom() -> None:
    scenario = scenarios.loads(TEXT)
    assert (scenario.acceptance, scenario.headroom, scenario.judged_load) == ("sustained", 0.2, 1.2)
    levels = scenario.service_levels
    assert (levels.patience_s, levels.late_share) == (5.0, 0.01)
    plain = scenarios.loads(TEXT.replace("headroom: 0.2\n", ""))
    assert plain.judged_load == 1.05


def test_paper_has_no_headroom() -> None:
    assert scenarios.loads(PAPER).judged_load == 1.0


def test_keys_of_the_other_criterion_are_refused_each_at_its_place() -> None:
    assert problems(TEXT.replace("headroom: 0.2", "headroom: 0.2\nacceptance: paper")) == [
        "adapters[1].service_levels.patience_s",
        "headroom",
        "service_levels.patience_s",
    ]
    assert problems(PAPER.replace("acceptance: paper", "acceptance: sustained")) == [
        "adapters[1].service_levels.served_share",
        "service_levels.served_share",
    ]
    with pytest.raises(ScenarioError, match="remove it, or write acceptance: paper"):
        scenarios.loads(TEXT, "service_levels.adapter_served_share=0.9")


def test_a_criterion_from_outside_sets_the_files_other_keys_aside(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        scenario = scenarios.loads(TEXT, "acceptance=paper", source="mine.yaml")
    assert scenario.acceptance == "paper"
    assert scenario.adapters[1].service_levels is not None
    assert scenario.adapters[1].service_levels.patience_s is None
    assert scenario.service_levels == ServiceLevelObjectives(ttft_ms=scenario.service_levels.ttft_ms)
    assert caplog.messages == [
        "mine.yaml: accepted by paper, so that headroom, service_levels.patience_s, "
        "adapters[1].service_levels.patience_s is set aside"
    ]


def test_what_is_given_with_the_criterion_is_not_set_aside() -> None:
    assert problems(TEXT, "acceptance=paper", "headroom=0.1") == ["headroom"]
    scenario = scenarios.loads(PAPER, ["acceptance=sustained", "headroom=0.1"])
    assert (scenario.acceptance, scenario.headroom) == ("sustained", 0.1)


def test_the_last_of_two_criteria_counts() -> None:
    for text, criteria in ((TEXT, ("sustained", "paper")), (PAPER, ("paper", "sustained"))):
        scenario = scenarios.loads(text, [f"acceptance={criterion}" for criterion in criteria])
        assert scenario.acceptance == criteria[-1]


def test_nothing_is_said_where_nothing_is_set_aside(caplog: pytest.LogCaptureFixture) -> None:
    scenario = scenarios.read("mixed_ranks")
    with caplog.at_level(logging.WARNING):
        paper = scenarios.override(scenario, "acceptance=paper")
    assert (paper.acceptance, caplog.messages) == ("paper", [])
    assert scenarios.override(paper, "acceptance=sustained") == scenario


@pytest.mark.parametrize("text", [TEXT, PAPER])
@pytest.mark.parametrize("defaults", [True, False])
def test_a_scenario_is_written_with_the_keys_of_its_criterion(text: str, *, defaults: bool) -> None:
    scenario = scenarios.loads(text)
    written = scenarios.dumps(scenario, defaults=defaults)
    assert scenarios.loads(written) == scenario
    assert Scenario.model_validate(scenario.model_dump(mode="json"), strict=False) == scenario
    other = "late_share" if scenario.acceptance == "paper" else "adapter_served_share"
    assert other not in written


def test_an_unknown_criterion_is_told_what_there_is() -> None:
    with pytest.raises(ScenarioError, match='did you mean "sustained"'):
        scenarios.loads(TEXT, "acceptance=sustaned")


def test_the_digest_follows_the_criterion_and_its_keys() -> None:
    base = scenarios.read("mixed_ranks")
    digests = {
        scenarios.override(base, changes).digest
        for changes in ([], ["acceptance=paper"], ["headroom=0.1"], ["service_levels.patience_s=5"])
    }
    assert len(digests) == 4


def test_keys_of_many_entries_are_set_aside_in_proportion_to_them() -> None:
    """Copying all entries for each would take minutes for as many as there may be."""
    entry = {"rank": 8, "rate": 1.0, "service_levels": {"patience_s": 60.0}}
    values = {"adapters": [{"name": f"a{k}", **entry} for k in range(50_000)], "headroom": 0.1}
    kept = without_foreign(values, "paper")
    assert not list(foreign_keys(kept, "paper"))
    assert kept["adapters"][7] == {"name": "a7", "rank": 8, "rate": 1.0, "service_levels": {}}
    assert len(list(foreign_keys(values, "paper"))) == 50_001  # the given ones stay as they are
    assert without_foreign(values, "sustained") is values
