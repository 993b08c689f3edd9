"""The command line, in process: tables, JSON, exit codes, messages."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import optimizer
import scenarios

Lorapack = Callable[..., tuple[int, str, str]]

FAST = ("--set", "replications=1", "--objective", "gpus", "--quiet")


def test_solve_prints_a_table_and_writes_json(lorapack: Lorapack, tmp_path: Path) -> None:
    out, placement = tmp_path / "out.json", tmp_path / "placement.json"
    code, text, _ = lorapack(
        "solve", "paper_mixed_32", "--json", str(out), "--placement", str(placement), *FAST
    )
    assert code == 0
    assert "optimal: no plan of the optimistic (outer) region" in " ".join(text.split())
    assert max(map(len, text.splitlines())) <= 100
    document = json.loads(out.read_text())
    jsonschema.validate(document, optimizer.result_schema())
    assert document["gpus"] == 1
    code, text, _ = lorapack("validate", "paper_mixed_32", str(out), "--set", "replications=1")
    assert code == 0
    assert text.startswith("accepted: 1 of 1 GPUs")
    assert lorapack("validate", "paper_mixed_32", str(placement), "--set", "replications=1")[0] == 0


def test_the_help_of_solve_lists_all_objectives(lorapack: Lorapack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = " ".join(lorapack("solve", "--help")[1].split())
    for name in ("gpus", "cost", "latency", "worst_latency", "ttft", "worst_ttft", "balance"):
        assert name in text
    assert "--gap-limit" in text
    assert "come on top" in text


def test_a_gap_limit_is_checked_and_passed_on(lorapack: Lorapack, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lorapack("solve", "paper_mixed_32", "--gap-limit", "1.5", *FAST)[0] == 2
    asked: dict[str, object] = {}
    solve = optimizer.solve

    def spy(*given: Any, **named: Any) -> optimizer.Result:
        asked.update(named)
        return solve(*given, **named)

    monkeypatch.setattr(optimizer, "solve", spy)
    assert lorapack("solve", "paper_mixed_32", "--gap-limit", "0.1", "--method", "bfd", *FAST)[0] == 0
    assert asked["gap_limit"] == 0.1


def test_json_to_standard_output_is_all_there_is(lorapack: Lorapack) -> None:
    code, text, _ = lorapack("solve", "paper_mixed_32", "--method", "bfd", "--json", "-", *FAST)
    assert code == 0
    assert json.loads(text)["method"] == "bfd"


def test_compare_lists_methods_side_by_side(lorapack: Lorapack, tmp_path: Path) -> None:
    csv = tmp_path / "table.csv"
    code, text, _ = lorapack(
        "compare", "paper_mixed_32", "paper_low_128", "--methods", "greedy,exact", "--csv", str(csv), *FAST
    )
    assert code == 0
    assert max(map(len, text.splitlines())) <= 100
    rows = csv.read_text().splitlines()
    assert len(rows) == 5
    assert {"scenario", "method", "status", "gpus", "bound", "accepted"} <= set(rows[0].split(","))


def test_an_infeasible_scenario_has_its_own_exit_code(lorapack: Lorapack) -> None:
    code, text, _ = lorapack("solve", "hot_adapter", *FAST)
    assert code == 3
    assert 'adapter "support"' in " ".join(text.split())


def test_a_rejected_placement_has_exit_code_1(lorapack: Lorapack, tmp_path: Path) -> None:
    scenario = scenarios.read("paper_high_128")
    names = tuple(name for c in scenario.classes for name in c.names)
    gpu = scenarios.PlacedGPU(gpu=0, device="H100-64GB", max_loras=64, max_lora_rank=32, adapters=names)
    file = tmp_path / "placement.json"
    scenarios.write_placement(scenarios.Placement(gpus=(gpu,)), file)
    code, text, _ = lorapack("validate", "paper_high_128", str(file), "--acceptance", "paper")
    assert code == 1
    assert "REJECTED" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("solve", "nowhere.yaml"), "nowhere.yaml"),
        (("solve", "paper_mixed_32", "--method", "magic"), 'method is "magic"'),
        (("solve", "paper_mixed_32", "--objective", "beauty"), 'objective is "beauty"'),
        (("solve", "paper_mixed_32", "--set", "engine.max_lora=3"), "max_lora"),
        (
            ("solve", "paper_mixed_32", "--set", "model=gpt-9"),
            'model is "gpt-9", for which no engine profile is shipped',
        ),
        (("solve",), "SCENARIO"),
        (("solve", "paper_mixed_32", "--gpus", "0"), "--gpus"),
        (("solve", "paper_mixed_32", "--gpus", "few"), "--gpus"),
        (("solve", "paper_mixed_32", "--time-limit", "1m"), "--time-limit"),
        (
            ("compare", "paper_mixed_32", "--methods", "greedy", "exact"),
            "exact is a method, no scenario; join methods by commas, as --methods greedy,exact",
        ),
        (("sovle", "paper_mixed_32"), "sovle"),
        (("compare", "paper_mixed_32", "--methods", "greedy,magic"), 'method is "magic"'),
        (("compare", "paper_mixed_32", "--methods", ""), "methods is empty"),
        (("compare", "paper_mixed_32", "--csv", "-", "--json", "-"), "--csv and --json"),
        (("validate", "paper_mixed_32", "nowhere.json"), "nowhere.json"),
        (("scenarios", "schema", "poem"), "poem"),
        (("replay", "nowhere.json", "--out", "out"), "nowhere.json"),
    ],
)
def test_wrong_usage_ends_with_one_message(lorapack: Lorapack, arguments: tuple[str, ...], said: str) -> None:
    code, out, err = lorapack(*arguments)
    assert code == 2
    assert said in err
    for word in ("Traceback", "Input should be"):
        assert word not in err + out


def test_a_file_that_cannot_be_written_is_named(lorapack: Lorapack, tmp_path: Path) -> None:
    target = tmp_path / "no" / "out.json"
    code, _, err = lorapack("solve", "paper_mixed_32", "--method", "bfd", "--json", str(target), *FAST)
    assert code != 0
    assert str(target) in err


def test_every_command_teaches(lorapack: Lorapack) -> None:
    _, text, _ = lorapack("--help")
    for command in ("solve", "compare", "validate", "simulate", "replay", "fit", "scenarios", "methods"):
        assert command in text
        code, help_, _ = lorapack(command, "--help")
        assert code == 0
        assert "Usage" in help_


def test_shipped_scenarios_are_listed_shown_and_checked(lorapack: Lorapack) -> None:
    code, text, _ = lorapack("scenarios", "list")
    assert code == 0
    assert "mixed_ranks" in text
    assert max(map(len, text.splitlines())) <= 100
    assert lorapack("scenarios", "show", "mixed_ranks")[0] == 0
    code, text, _ = lorapack("scenarios", "check", *[one.name for one in scenarios.shipped()])
    assert code == 0
    assert text.count(": good") == len(scenarios.shipped())
    code, text, _ = lorapack("scenarios", "schema", "result")
    assert json.loads(text) == optimizer.result_schema()


def test_simulate_one_gpu(lorapack: Lorapack) -> None:
    code, text, _ = lorapack("simulate", "paper_mixed_32", "--json", "-")
    assert code == 0
    assert json.loads(text)


def test_what_simulate_says_fits_the_terminal(lorapack: Lorapack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "60")
    code, text, _ = lorapack("simulate", "paper_high_128", "--acceptance", "paper", "--quiet")
    assert code == 0
    assert "REJECTED" in text
    assert max(map(len, text.splitlines())) <= 60


@pytest.mark.parametrize(
    "command", [("simulate",), ("validate", "placement.json"), ("fit", "--out", "regions.json")]
)
def test_commands_that_run_the_twin_announce_compiling(
    lorapack: Lorapack, command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They stop where they would compile, before any run."""
    monkeypatch.chdir(tmp_path)
    done = lorapack("solve", "paper_mixed_32", "--method", "bfd", "--placement", "placement.json", *FAST)
    assert done[0] == 0

    def compile_loops(*_: object) -> None:
        raise scenarios.ScenarioError([], "asked to compile")

    monkeypatch.setattr("optimizer.search.compilation.compile_loops", compile_loops)
    name, *further = command
    code, _, err = lorapack(name, "paper_mixed_32", *further)
    assert code == 2
    assert "asked to compile" in err


def test_methods_are_listed(lorapack: Lorapack) -> None:
    _, text, _ = lorapack("methods")
    for name in optimizer.methods():
        assert name in text


def test_the_measured_runs_of_a_report_are_read_before_the_work(
    lorapack: Lorapack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def work(*_: object, **__: object) -> None:
        raise AssertionError("it began to work")

    monkeypatch.setattr("learn.sample", work)
    other = tmp_path / "other.csv"
    other.write_text("a,b\n1,2\n")
    for wrong, said in ((tmp_path / "nowhere.csv", "does not exist; check its name"), (other, "is missing")):
        code, _, err = lorapack("fit", "paper_mixed_32", "--assess", "--measured", str(wrong))
        assert code == 2
        assert said in err
        assert str(wrong) in err
    code, _, err = lorapack("fit", "paper_mixed_32", "--measured", str(tmp_path / "nowhere.csv"))
    assert code == 2
    assert "--assess" in err


def test_no_default_points_outside_the_package(lorapack: Lorapack) -> None:
    """A clone has nothing beside it; a file that a command works on is named by its user."""
    code, text, _ = lorapack("fit", "--help")
    assert code == 0
    assert "shared" not in text
    for package in ("scenarios", "twin", "learn", "optimizer", "benchmarks"):
        for module in (Path(scenarios.__file__).parents[1] / package).rglob("*.py"):
            assert "../" not in module.read_text(encoding="utf-8"), module
            assert '/ "shared"' not in module.read_text(encoding="utf-8"), module
