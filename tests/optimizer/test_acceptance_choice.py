"""By which criterion GPUs are accepted is chosen in the scenario, the call or the command, and is told."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

import learn
import optimizer
import scenarios
import twin

Lorapack = Callable[..., tuple[int, str, str]]

FAST = ("--set", "replications=1", "--quiet")
OVERLOADED = """
name: overloaded
model: llama-3.1-8b-instruct
adapters: [{name: a, count: 4, rank: 8, rate: 20}]
workload: {prompt: 200, output: 200, duration_s: 60}
devices: [{name: H100-64GB}]
replications: 1
"""


@pytest.fixture(scope="module")
def small() -> scenarios.Scenario:
    return scenarios.read("paper_mixed_32", overrides=["replications=1"])


@pytest.fixture(scope="module")
def placement(small: scenarios.Scenario) -> scenarios.Placement:
    """All adapters of the scenario on one GPU, which both criteria accept."""
    names = tuple(name for entry in small.adapters for name in entry.names())
    gpu = scenarios.PlacedGPU(gpu=0, device="H100-64GB", max_loras=32, max_lora_rank=32, adapters=names)
    return scenarios.Placement(gpus=(gpu,))


@pytest.fixture
def plan(placement: scenarios.Placement, tmp_path: Path) -> str:
    scenarios.write_placement(placement, tmp_path / "plan.yaml")
    return str(tmp_path / "plan.yaml")


def says(result: optimizer.Result, criterion: str) -> None:
    """A result of the criterion, in all that it is written as."""
    assert (result.acceptance, result.scenario.acceptance) == (criterion, criterion)
    assert result.accepted
    assert result.validation is not None
    assert all((gpu.sustained is not None) == (criterion == "sustained") for gpu in result.validation.gpus)
    text = result.summary()
    assert f"twin ({criterion}): accepted" in text
    assert f"\n{criterion}: " in text
    assert json.loads(result.to_json())["acceptance"] == criterion
    assert ("late_share" in result.to_frame()) == (criterion == "sustained")


# --- in Python ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "criterion"), [(None, "sustained"), ("sustained", "sustained"), ("paper", "paper")]
)
def test_solve_judges_by_what_is_asked(asked: str | None, criterion: str, small: scenarios.Scenario) -> None:
    says(optimizer.solve(small, "bfd", acceptance=asked), criterion)


def test_the_call_counts_more_than_the_scenario(small: scenarios.Scenario) -> None:
    paper = scenarios.override(small, "acceptance=paper")
    says(optimizer.solve(paper, "bfd"), "paper")
    says(optimizer.solve(paper, "bfd", acceptance="sustained"), "sustained")


def test_compare_judges_every_method_by_what_is_asked(small: scenarios.Scenario) -> None:
    methods = ("greedy-fill", "bfd")
    for asked in ("paper", "sustained"):
        found = optimizer.compare(small, methods, acceptance=asked)
        assert found.to_frame()["acceptance"].tolist() == [asked] * 2
        assert f"\n{asked}: " in found.summary()
        for result in found.results:
            says(result, asked)


def test_replan_judges_by_what_is_asked(small: scenarios.Scenario, placement: scenarios.Placement) -> None:
    for asked in ("paper", "sustained"):
        change = optimizer.replan(small, placement, acceptance=asked, time_limit_s=30)
        assert change.moves == ()
        says(change.result, asked)


def test_the_criteria_decide_differently() -> None:
    """Half of the tokens may stay behind, but nothing waits for ever."""
    levels = "service_levels={served_share: 0.01, adapter_served_share: 0.01}"
    overloaded = scenarios.loads(OVERLOADED, ["acceptance=paper", levels])
    names = tuple(name for entry in overloaded.adapters for name in entry.names())
    gpu = scenarios.PlacedGPU(gpu=0, device="H100-64GB", max_loras=4, max_lora_rank=8, adapters=names)
    placed = scenarios.Placement(gpus=(gpu,))
    assert twin.validate(overloaded, placed).accepted
    report = twin.validate(scenarios.override(overloaded, "acceptance=sustained"), placed)
    assert not report.accepted
    assert {violation.code for violation in report.gpus[0].violations} >= {"late_share", "growth"}


def test_growth_says_how_much_more_a_gpu_bears(
    small: scenarios.Scenario, placement: scenarios.Placement
) -> None:
    (plain,) = twin.validate(small, placement).gpus
    assert plain.growth_factor is None
    (grown,) = twin.validate(small, placement, growth=True).gpus
    assert grown.growth_factor is not None
    assert grown.growth_factor > 1
    factor = grown.growth_factor
    for times, accepted in ((factor, True), (1.03 * factor, False)):
        rates = [f"{times * rate:.12g}" for rate in (0.6, 0.3, 0.15, 0.075, 0.0375)]
        louder = scenarios.override(small, f"adapters[0].rate=[{', '.join(rates)}]")
        assert twin.validate(louder, placement).accepted == accepted


# --- on the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "command",
    [
        ("solve", "paper_mixed_32"),
        ("compare", "paper_mixed_32"),
        ("replan", "paper_mixed_32", "--from", "PLAN"),
        ("validate", "paper_mixed_32", "PLAN"),
        ("simulate", "paper_mixed_32"),
        ("fit", "paper_mixed_32"),
    ],
    ids=lambda command: command[0],
)
def test_a_criterion_that_does_not_exist(command: tuple[str, ...], plan: str, lorapack: Lorapack) -> None:
    words = [plan if word == "PLAN" else word for word in command]
    code, out, err = lorapack(*words, "--acceptance", "papers", "--quiet")
    assert (code, out) == (2, "")
    said = " ".join(err.split())
    assert 'acceptance is the text "papers"; did you mean "paper"? use sustained or paper' in said
    assert "Traceback" not in err


@pytest.mark.parametrize(("criterion", "column"), [("sustained", "late"), ("paper", "worst")])
def test_the_commands_judge_by_what_is_asked(
    criterion: str, column: str, plan: str, tmp_path: Path, lorapack: Lorapack
) -> None:
    asked = ("--acceptance", criterion, *FAST)
    csv = tmp_path / "table.csv"
    for command, named in (
        (("solve", "paper_mixed_32", "--method", "bfd"), f"twin ({criterion}): accepted"),
        (
            ("compare", "paper_mixed_32", "--methods", "bfd", "--csv", str(csv)),
            f"twin ({criterion}): accepted",
        ),
        (("replan", "paper_mixed_32", "--from", plan), f"twin ({criterion}): accepted"),
        (("validate", "paper_mixed_32", plan), "accepted: 1 of 1 GPUs"),
    ):
        code, out, err = lorapack(*command, *asked)
        assert (code, err) == (0, "")
        assert named in out
        assert f" {column} " in out
        assert f"\n{criterion}: " in out
    assert f"paper_mixed_32,{criterion},bfd," in csv.read_text()


def test_simulate_says_which_runs_the_verdict_is_of(lorapack: Lorapack) -> None:
    for criterion, runs in (("sustained", "by longer runs of its own"), ("paper", "in this run")):
        code, out, _ = lorapack("simulate", "paper_mixed_32", "--acceptance", criterion, *FAST)
        assert code == 0
        assert f"accepted {runs}" in out
        assert f"\n{criterion}: " in out


def test_fit_learns_by_what_is_asked(lorapack: Lorapack, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def spy(space: learn.DesignSpace, **_: object) -> None:
        asked.append(space.acceptance)
        raise scenarios.ScenarioError([scenarios.Problem("spy", "has seen enough")], "test")

    monkeypatch.setattr(learn, "make_regions", spy)
    for criterion in ((), ("--acceptance", "paper"), ("--acceptance", "sustained")):
        lorapack("fit", "paper_mixed_32", *criterion, "--quiet")
    assert asked == ["sustained", "paper", "sustained"]


def test_validate_tells_how_much_more_a_gpu_bears(plan: str, tmp_path: Path, lorapack: Lorapack) -> None:
    file = tmp_path / "growth.json"
    code, out, _ = lorapack("validate", "paper_mixed_32", plan, "--growth", "--json", str(file), *FAST)
    assert code == 0
    assert "grows" in out
    (row,) = [line for line in out.splitlines() if "accepted" in line and line.strip().startswith("0")]
    assert row.endswith("x")
    assert float(row.split()[-1].removesuffix("x")) > 1
    assert "grows" not in lorapack("validate", "paper_mixed_32", plan, *FAST)[1]
    (gpu,) = json.loads(file.read_text())["gpus"]
    assert gpu["growth_factor"] > 1
    assert gpu["margin"] > 0


# --- a file's keys of the other criterion --------------------------------------------------------------


def test_keys_of_the_other_criterion_are_set_aside_with_one_line(
    plan: str, tmp_path: Path, lorapack: Lorapack, caplog: pytest.LogCaptureFixture
) -> None:
    mine = tmp_path / "mine.yaml"
    paper = scenarios.read("paper_mixed_32", ["acceptance=paper", "service_levels.served_share=0.95"])
    mine.write_text(scenarios.dumps(paper))
    code, _, err = lorapack("validate", str(mine), plan, *FAST)
    assert (code, err, caplog.messages) == (0, "", [])
    code, out, _ = lorapack("validate", str(mine), plan, "--acceptance", "sustained", *FAST)
    assert code == 0
    assert "\nsustained: " in out
    (line,) = caplog.messages
    assert line.endswith("accepted by sustained, so that service_levels.served_share is set aside")


def test_keys_of_the_other_criterion_are_refused_where_nothing_names_it(
    tmp_path: Path, lorapack: Lorapack
) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text(OVERLOADED + "service_levels: {served_share: 0.9}\n")
    code, _, err = lorapack("solve", str(mine), *FAST)
    assert code == 2
    said = " ".join(err.split())
    assert "service_levels.served_share" in said
    assert "remove it, or write acceptance: paper" in said


def test_a_comparison_ends_well_where_one_method_has_a_plan(
    lorapack: Callable[..., tuple[int, str, str]],
) -> None:
    """The greedy as published often has none, which is no failure of the command."""
    few = ("mixed_ranks", "--quiet", "--set", "replications=1", "--methods")
    code, out, _ = lorapack("compare", *few, "greedy,bfd")
    assert "no plan" in out
    assert code == 0
    assert lorapack("compare", *few, "greedy")[0] == 4
