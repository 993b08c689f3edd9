"""What entries of a file may say of their own traffic, and what of it is refused."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

import scenarios
from scenarios import (
    Adapter,
    ClosedLoopArrivals,
    HyperexponentialArrivals,
    OnOffArrivals,
    ScenarioError,
    TraceArrivals,
    UnpredictableArrivals,
)
from tests.scenario_schema import scenario_validator

TEXT = """
name: traffic
model: llama-3.1-8b-instruct
adapters:
  - {name: a, count: 4, rank: 8, rate: 0.5}
  - {name: b, rank: 8, %s}
workload: {prompt: {mean: 200, std: 200, max: 1024}, output: {mean: 100, std: 50, max: 512}}
devices: [{name: H100-64GB, count: 4}]
engine: {max_model_len: 2048}
"""


def read(entry: str, *overrides: str) -> scenarios.Scenario:
    return scenarios.loads(TEXT % entry, overrides)


def refused(entry: str, *overrides: str) -> str:
    """The one problem of the scenario."""
    with pytest.raises(ScenarioError) as error:
        read(entry, *overrides)
    (problem,) = error.value.problems
    return str(problem)


# --- what may be said ------------------------------------------------------------------------------------

FORMS = {
    "rate: 2, arrivals: {process: hyperexponential, cv: 3}": HyperexponentialArrivals(cv=3),
    "rate: 2, arrivals: {process: on_off, on_s: 5, off_s: 20}": OnOffArrivals(on_s=5, off_s=20),
    "rate: 2, arrivals: {process: on_off, on_s: 5, off_s: 20, cv: 2, group: eu}": OnOffArrivals(
        on_s=5, off_s=20, cv=2, group="eu"
    ),
    "rate: 2, arrivals: {process: unpredictable, group: eu}": UnpredictableArrivals(group="eu"),
    "arrivals: {process: closed_loop, users: 30, think_s: 20}": ClosedLoopArrivals(users=30, think_s=20),
    "arrivals: {process: closed_loop, users: 30, think_s: 20}, rate: null": ClosedLoopArrivals(
        users=30, think_s=20
    ),
}


@pytest.mark.parametrize("entry", FORMS)
def test_each_process_is_read_and_written(entry: str) -> None:
    scenario = read(entry)
    assert scenario.adapters[1].arrivals == FORMS[entry]
    for defaults in (False, True):
        assert scenarios.loads(scenarios.dumps(scenario, defaults=defaults)) == scenario
    values = scenario.model_dump(mode="json")
    assert scenarios.loads(json.dumps(values)) == scenario


@pytest.mark.parametrize("entry", FORMS)
def test_the_schema_takes_each_process(entry: str) -> None:
    scenario_validator().validate(yaml.safe_load(TEXT % entry))


def test_the_schema_asks_for_a_rate_where_there_are_no_users() -> None:
    with pytest.raises(jsonschema.ValidationError):
        scenario_validator().validate(yaml.safe_load(TEXT % "arrivals: poisson"))


def test_users_say_the_rate_of_an_entry() -> None:
    (_, loop) = read("count: 2, arrivals: {process: closed_loop, users: 30, think_s: 20}").classes
    assert (loop.rate, loop.count, loop.kind.scaled(0.5).rate) == (1.5, 2, 0.75)
    assert loop.kind.uncertain is False
    assert Adapter(name="a", rate=None, arrivals=ClosedLoopArrivals(users=4, think_s=8)).rates() == (0.5,)


def test_a_written_closed_loop_has_no_rate() -> None:
    text = scenarios.dumps(read("arrivals: {process: closed_loop, users: 30, think_s: 20}"), defaults=True)
    assert "rate: null" not in text


def test_entries_of_other_traffic_are_of_other_classes() -> None:
    text = "rank: 8, rate: 0.5, prompt: 100, output: 50"
    entries = [
        f"{{name: x{k}, {text}{extra}}}"
        for k, extra in enumerate(
            (
                "",
                ", arrivals: poisson",
                ", arrivals: {process: on_off, on_s: 5, off_s: 5}",
                ", arrivals: {process: on_off, on_s: 5, off_s: 5, group: eu}",
                ", system_prompt: 100",
                ", sessions: {turns: 3}",
                ", cached_share: 0.2",
                "",
            )
        )
    ]
    scenario = read("rate: 2", f"adapters=[{', '.join(entries)}]")
    assert [c.names for c in scenario.classes] == [("x0", "x7"), *((f"x{k}",) for k in range(1, 7))]


def test_traces_of_entries_lie_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_text(
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:00:00.0,9,9\n2023-11-16 18:00:09.0,9,9\n"
    )
    (tmp_path / "fleet.yaml").write_text(TEXT % "rate: 1, arrivals: {process: trace, file: own.csv}")
    scenario = scenarios.read(tmp_path / "fleet.yaml")
    trace = scenario.adapters[1].arrivals
    assert isinstance(trace, TraceArrivals)
    assert trace.file == str((tmp_path / "own.csv").resolve())
    (tmp_path / "elsewhere").mkdir()
    scenarios.write(scenario, tmp_path / "elsewhere" / "copy.yaml")
    assert scenarios.read(tmp_path / "elsewhere" / "copy.yaml") == scenario


# --- what is refused ---------------------------------------------------------------------------------------

REFUSED = {
    "arrivals: poisson": ["adapters[1].rate is missing; add it"],
    "rate: null": ["adapters[1].rate is empty", "give it a value"],
    "rate: 2, arrivals: {process: closed_loop, users: 3, think_s: 20}": [
        "adapters[1].rate is given, and the users of closed_loop say it too",
        "remove it",
    ],
    "arrivals: {process: closed_loop, users: 1000000, think_s: 1}": [
        "adapters[1].arrivals.users makes users / think_s 1,000,000 requests/s, above 100,000",
        "raise think_s",
    ],
    "rate: 2, arrivals: {process: hyperexponential, cv: 1}": ["arrivals.cv is 1; give a number above 1"],
    "rate: 2, arrivals: {process: on_off, on_s: 0, off_s: 3}": ["arrivals.on_s is 0", "above 0"],
    "rate: 2, arrivals: {process: on_off, on_s: 1, off_s: 3, group: ''}": ["arrivals.group"],
    "arrivals: {process: closed_loop, users: 3, think_s: 20}, sessions: {turns: 3}": [
        "adapters[1].sessions are given, and arrivals are closed_loop, which start no conversations",
        "remove them",
    ],
    "rate: 2, sessions: {turns: 30}": [
        "adapters[1].sessions makes prompts of 4,550 tokens on average, with their answers 4,650, above "
        "engine.max_model_len 2,048",
        "have fewer turns, or raise max_model_len to 4,650 or more",
    ],
    "rate: 2, system_prompt: 1800": [
        "adapters[1].system_prompt makes prompts of 2,000 tokens on average, with their answers 2,100",
        "lower it, or raise max_model_len to 2,100 or more",
    ],
    "rate: 2, system_prompt: 1100": [
        "adapters[1].system_prompt lets prompts have 2,124 tokens",
        "raise max_model_len to 2,125 or more",
    ],
}


@pytest.mark.parametrize("entry", REFUSED)
def test_what_contradicts_itself_is_refused_with_a_remedy(entry: str) -> None:
    said = refused(entry)
    assert all(part in said for part in REFUSED[entry])


def test_conversations_may_be_cut_and_need_only_fit_on_average() -> None:
    read("rate: 2, sessions: {turns: 8}")


def test_users_are_of_entries_not_of_the_workload() -> None:
    said = refused("rate: 2", "workload.arrivals={process: closed_loop, users: 3, think_s: 5}")
    assert "workload.arrivals is closed_loop, whose users are those of an adapter; give it to entries" in said


def test_conversations_of_a_workloads_trace_are_refused() -> None:
    said = refused("rate: 2, sessions: {turns: 3}", "workload.arrivals={process: trace, file: x.csv}")
    assert "adapters[1].sessions are given, and workload.arrivals are trace" in said
    said = refused("rate: 2, sessions: {turns: 3}, arrivals: {process: trace, file: x.csv}")
    assert "adapters[1].sessions are given, and arrivals are trace" in said


def test_a_group_has_one_process() -> None:
    own = "rate: 2, arrivals: {process: on_off, on_s: 5, off_s: 5, group: eu}"
    read(own, "adapters[0].arrivals={process: on_off, on_s: 5, off_s: 5, group: eu}")
    read(own, "adapters[0].arrivals={process: on_off, on_s: 6, off_s: 5, group: us}")
    said = refused(own, "adapters[0].arrivals={process: on_off, on_s: 6, off_s: 5, group: eu}")
    assert 'adapters[1].arrivals.group is "eu", as in adapters[0].arrivals, which differs otherwise' in said
    said = refused(own, "workload.arrivals={process: unpredictable, group: eu}")
    assert 'adapters[1].arrivals.group is "eu", as in workload.arrivals' in said


def test_what_is_missing_is_told_with_all_else_that_is_wrong() -> None:
    with pytest.raises(ScenarioError) as error:
        read("system_prompt: -1")
    assert [problem.path for problem in error.value.problems] == [
        "adapters[1].rate",
        "adapters[1].system_prompt",
    ]
