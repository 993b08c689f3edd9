"""Placements: into files and back, and what is wrong with them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

import scenarios
from scenarios.files import RESULT_VERSION

SCENARIO = scenarios.loads(
    "name: s\nmodel: m\n"
    "adapters: [{name: a, rank: 8, rate: 1}, {name: b, rank: 64, rate: 1}, {name: c, rank: 64, rate: 1}]\n"
    "workload: {prompt: 1, output: 2}\ndevices: H100-64GB\n"
)


def gpu(number: int, adapters: list[str], **fields: object) -> dict[str, object]:
    return {
        "gpu": number,
        "device": "H100-64GB",
        "max_loras": 8,
        "max_lora_rank": 64,
        "adapters": adapters,
        **fields,
    }


def placement(*gpus: dict[str, object]) -> scenarios.Placement:
    return scenarios.Placement.model_validate({"gpus": gpus})


def written(tmp_path: Path, *gpus: dict[str, object]) -> Path:
    file = tmp_path / "plan.json"
    file.write_text(json.dumps({"gpus": gpus}, indent=1))
    return file


@pytest.mark.parametrize("name", ["plan.json", "plan.yaml"])
def test_a_placement_reads_back_equal(name: str, tmp_path: Path) -> None:
    plan = placement(gpu(0, ["a", "b"], shares={"a": 0.25}), gpu(1, ["a"], shares={"a": 0.75}))
    scenarios.write_placement(plan, tmp_path / name)
    assert scenarios.read_placement(tmp_path / name) == plan
    assert plan.gpus[0].share("a") == 0.25
    assert plan.gpus[0].share("b") == 1.0


def test_the_placement_inside_a_result_is_read(tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps({"gpus": 1, "placement": {"gpus": [gpu(0, ["a"])]}}))
    assert scenarios.read_placement(file) == placement(gpu(0, ["a"]))


@pytest.mark.parametrize("version", range(1, RESULT_VERSION + 1))
def test_results_of_versions_so_far_are_read(version: int, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    file.write_text(json.dumps({"result_version": version, "placement": {"gpus": [gpu(0, ["a"])]}}))
    assert scenarios.read_placement(file) == placement(gpu(0, ["a"]))


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        (RESULT_VERSION + 1, "is 4, newer than 3, the newest that is read here; update lorapack"),
        (0, "is 0, no version of results; give 1 to 3"),
        (True, "is true, no version of results"),
        ("2", 'is the text "2", no version of results'),
        (None, "is empty, no version of results"),
    ],
)
def test_a_result_of_another_version_is_refused(version: object, expected: str, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    text = json.dumps(
        {"status": "optimal", "result_version": version, "placement": {"of": "later"}}, indent=1
    )
    file.write_text(text)
    with pytest.raises(scenarios.ScenarioError) as caught:
        scenarios.read_placement(file)
    (problem,) = caught.value.problems
    assert (problem.path, problem.line) == ("result_version", 3)
    assert expected in str(caught.value)


@pytest.mark.parametrize(
    ("gpus", "expected"),
    [
        ([gpu(0, ["a", "a"])], 'gpus[0].adapters[1] is "a", listed twice on this GPU'),
        ([gpu(0, ["a"]), gpu(1, ["a"])], 'gpus[1].adapters place adapter "a" 2 times over all GPUs'),
        ([gpu(0, ["a"], shares={"a": 0.5})], 'gpus[0].adapters place adapter "a" 0.5 times'),
        ([gpu(0, ["a"], shares={"b": 0.5})], "gpus[0].shares.b is a share of an adapter not listed here"),
        ([gpu(0, ["a"], shares={"a": 1.5})], "gpus[0].shares.a is 1.5; give a number below 1"),
        ([gpu(0, ["a"]), gpu(0, ["b"])], "gpus[1].gpu is 0, a number used twice"),
        ([gpu(0, [])], "gpus[0].adapters is an empty list; give at least 1 item"),
        ([gpu(0, ["a"], max_lora_rank=24)], "gpus[0].max_lora_rank is 24; use 1, 8, 16, 32"),
        (
            [gpu(0, ["a"], max_lora=3)],
            'gpus[0].max_lora is not a key that exists here; did you mean "max_lora',
        ),
        ([], "gpus is an empty list"),
    ],
)
def test_a_wrong_placement_says_where(gpus: list[dict[str, object]], expected: str, tmp_path: Path) -> None:
    file = written(tmp_path, *gpus)
    with pytest.raises(scenarios.ScenarioError) as caught:
        scenarios.read_placement(file)
    assert expected in str(caught.value)
    assert all(problem.line and problem.remedy for problem in caught.value.problems)


def test_a_placement_is_checked_against_its_scenario() -> None:
    scenarios.check_placement(placement(gpu(0, ["a", "b", "c"])), SCENARIO)
    wrong = placement(gpu(0, ["bb"]), gpu(1, ["c"], max_lora_rank=8, device="A100"))
    with pytest.raises(scenarios.ScenarioError) as caught:
        scenarios.check_placement(wrong, SCENARIO)
    assert {problem.path for problem in caught.value.problems} == {
        "gpus[0].adapters[0]",
        "gpus[1].adapters[0]",
        "gpus[1].device",
        "gpus",
    }
    assert "of rank 64, above the GPU's max_lora_rank 8" in str(caught.value)
    assert "leave out the adapters a and b" in str(caught.value)


def test_python_users_get_the_same_findings() -> None:
    with pytest.raises(ValidationError, match=r"list it once"):
        placement(gpu(0, ["a"]), gpu(1, ["a"]))


MANY = scenarios.loads(
    "name: many\nmodel: m\n"
    "adapters: [{name: cold, count: 9, rank: 8, rate: 1}, {name: hot, count: 9, rank: 64, rate: 1}]\n"
    "workload: {prompt: 1, output: 2}\ndevices: H100-64GB\n"
)


def problems_of(wrong: scenarios.Placement) -> list[str]:
    with pytest.raises(scenarios.ScenarioError) as caught:
        scenarios.check_placement(wrong, MANY, "mine.json")
    assert str(caught.value).startswith("mine.json: ")
    return [str(problem) for problem in caught.value.problems]


def test_a_placement_of_another_scenario_is_told_in_a_few_lines() -> None:
    others = [f"chat-{k:03d}" for k in range(121)]
    assert problems_of(placement(gpu(0, others[:60]), gpu(1, others[60:]))) == [
        "gpus hold chat-000, chat-001, chat-002, chat-003, chat-004 and 116 more, unknown to the scenario; "
        "give a placement of this scenario's adapters",
        "gpus leave out the adapters cold-1, cold-2, cold-3, cold-4, cold-5 and 13 more; "
        "place every adapter of the scenario",
    ]


def test_many_adapters_of_too_high_a_rank_are_told_together() -> None:
    names = [name for group in MANY.classes for name in group.names]
    (problem,) = problems_of(placement(gpu(0, names, max_lora_rank=16)))
    assert problem.startswith(
        "gpus hold adapters above their GPU's max_lora_rank: hot-1 (rank 64 in slots of 16), "
    )
    assert problem.endswith(
        "hot-5 (rank 64 in slots of 16) and 4 more; raise max_lora_rank or move the adapters"
    )


def test_many_adapters_that_are_placed_twice_are_told_together(tmp_path: Path) -> None:
    names = [f"a{k}" for k in range(20)]
    with pytest.raises(scenarios.ScenarioError) as caught:
        scenarios.read_placement(written(tmp_path, gpu(0, names), gpu(1, names)))
    (problem,) = caught.value.problems
    assert str(problem).endswith(
        "gpus place a0, a1, a2, a3, a4 and 15 more not just once over all GPUs; "
        "list each once, or give it shares that sum to 1"
    )


def test_a_device_that_many_gpus_share_is_told_once() -> None:
    names = [name for group in MANY.classes for name in group.names]
    placed = placement(*(gpu(k, [name], device="A100") for k, name in enumerate(names)))
    assert problems_of(placed) == ['gpus[0].device is "A100", unknown to the scenario; use H100-64GB']


def test_only_adapters_that_are_missing_are_suggested() -> None:
    names = [name for group in MANY.classes for name in group.names]
    assert problems_of(placement(gpu(0, [*names, "hot-11"]))) == [
        'gpus[0].adapters[18] is "hot-11", unknown to the scenario; remove it'
    ]
    wrong = ["hto-1" if name == "hot-1" else name for name in names]
    assert problems_of(placement(gpu(0, wrong)))[0].endswith('unknown to the scenario; did you mean "hot-1"?')


def test_a_scenario_and_a_placement_are_not_taken_for_each_other(tmp_path: Path) -> None:
    scenario, placed, result = tmp_path / "s.yaml", tmp_path / "p.yaml", tmp_path / "r.json"
    scenarios.write(scenarios.read("paper_mixed_32"), scenario)
    placed.write_text("gpus: []\n")
    result.write_text('{"result_version": 2, "placement": null, "scenario": {}}')
    for file in (placed, result):
        with pytest.raises(scenarios.ScenarioError) as no_scenario:
            scenarios.read(file)
        (problem,) = no_scenario.value.problems
        assert "holds a placement, no scenario; name a scenario" in str(problem)
    with pytest.raises(scenarios.ScenarioError) as no_placement:
        scenarios.read_placement(scenario)
    (problem,) = no_placement.value.problems
    assert "holds a scenario, no placement; give what `solve --placement`" in str(problem)


# --- adapters in CPU memory --------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["plan.json", "plan.yaml"])
def test_adapters_in_cpu_memory_are_written_and_read_back(name: str, tmp_path: Path) -> None:
    plan = placement(gpu(0, ["a", "b"], max_cpu_loras=12), gpu(1, ["c"]))
    scenarios.write_placement(plan, tmp_path / name)
    assert scenarios.read_placement(tmp_path / name) == plan
    assert (tmp_path / name).read_text().count("max_cpu_loras") == 1  # what is not stated is not written


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (7, "gpus[0].max_cpu_loras is 7, below max_loras 8; raise it: the CPU must hold every adapter"),
        (0, "gpus[0].max_cpu_loras is 0"),
        (1.5, "gpus[0].max_cpu_loras is 1.5"),
        ("many", 'gpus[0].max_cpu_loras is the text "many"'),
    ],
)
def test_adapters_in_cpu_memory_that_no_engine_takes_are_refused(
    value: object, expected: str, tmp_path: Path
) -> None:
    with pytest.raises(scenarios.ScenarioError) as caught:
        scenarios.read_placement(written(tmp_path, gpu(0, ["a"], max_cpu_loras=value)))
    assert expected in str(caught.value)
    (problem,) = caught.value.problems
    assert problem.line
    assert problem.remedy


NINE = [f"a{k}" for k in range(9)]
"""More adapters than the slots of `gpu`."""


def test_a_gpu_that_does_not_state_them_has_those_of_its_slots(caplog: pytest.LogCaptureFixture) -> None:
    plan = placement(gpu(0, NINE), gpu(1, ["b"]), gpu(2, ["c"], max_cpu_loras=20))
    started = scenarios.as_started(plan, SCENARIO)
    assert [one.max_cpu_loras for one in started.gpus] == [8, 8, 20]
    (line,) = caplog.messages
    assert line.startswith("GPU 0 states no max_cpu_loras")
    assert line.endswith("engine.max_cpu_loras: 9")
    assert scenarios.as_started(started, SCENARIO) == started
    assert len(caplog.messages) == 1


def test_many_gpus_that_do_not_state_them_are_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    plan = placement(*(gpu(k, [f"{k}-{name}" for name in NINE[: 9 - k % 2]]) for k in range(14)))
    scenarios.as_started(plan, SCENARIO)
    (line,) = caplog.messages
    assert line.startswith("GPUs 0, 2, 4, 6, 8 and 2 more state no max_cpu_loras")


@pytest.mark.parametrize(("stated", "expected"), [(5, 8), (64, 64)])
def test_what_the_scenario_states_holds_for_its_gpus(
    stated: int, expected: int, caplog: pytest.LogCaptureFixture
) -> None:
    scenario = scenarios.override(SCENARIO, ["engine.slots=[4]", f"engine.max_cpu_loras={stated}"])
    started = scenarios.as_started(placement(gpu(0, NINE)), scenario)
    assert [one.max_cpu_loras for one in started.gpus] == [expected]
    assert caplog.messages == []
