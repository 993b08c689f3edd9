"""Parameters of a search: from Python and TOML, recorded in results, with an effect."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import optimizer
import scenarios
from learn import LearnParams
from learn.params import SearchParams
from optimizer import SolveParams
from optimizer.baselines.params import BaselineParams
from optimizer.cli.commands import app
from optimizer.search.cut_loop import CutLoop
from optimizer.search.params import (
    GPUMinimizationParams,
    GroupingParams,
    LatencyBoundParams,
    LatencyParams,
    PolishParams,
)
from scenarios import Stopped


@pytest.fixture
def small() -> scenarios.Scenario:
    return scenarios.read("paper_mixed_32", overrides=["replications=1"])


def test_what_differs_from_the_defaults_is_recorded(small: scenarios.Scenario) -> None:
    params = SolveParams(gpus=GPUMinimizationParams(first_methods=("ffd",), max_first_rounds=2))
    result = optimizer.solve(small, objective="gpus", params=params)
    assert result.params == {"gpus": {"first_methods": ("ffd",), "max_first_rounds": 2}}
    assert scenarios.params_from(json.loads(result.to_json())["params"], SolveParams) == params
    assert optimizer.solve(small, "bfd").params == {}


def test_a_parameter_changes_the_search() -> None:
    """Without a first plan and without rows to look in, the twin is asked about the outer region alone."""
    quick = ["acceptance=paper", "replications=1", "objective=gpus"]
    scenario = scenarios.read("paper_high_32", overrides=quick)
    params = SolveParams(gpus=GPUMinimizationParams(first_methods=(), optimism=(), max_outer_rounds=1))
    rounds = [
        optimizer.solve(scenario, params=one, time_limit_s=20).iterations for one in (SolveParams(), params)
    ]
    assert rounds[0] > rounds[1] == 1


def test_a_heuristic_has_as_many_rounds_as_a_parameter_says(
    small: scenarios.Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, run = list[int](), CutLoop.run

    def noted(self: CutLoop, *args: Any, max_rounds: int, **how: Any) -> Any:
        asked.append(max_rounds)
        return run(self, *args, max_rounds=max_rounds, **how)

    monkeypatch.setattr(CutLoop, "run", noted)
    params = SolveParams(gpus=GPUMinimizationParams(max_rounds=7))
    assert optimizer.solve(small, "bfd", objective="gpus", params=params).accepted
    assert asked == [7]


def test_a_search_without_first_methods_finds_its_plans_all_the_same(small: scenarios.Scenario) -> None:
    bare = GPUMinimizationParams(first_methods=())
    little = {
        "polishing": PolishParams(requests=1e5),
        "latency_bounds": LatencyBoundParams(rounds=1, pieces=2),
    }
    latency = SolveParams(gpus=bare, **little)
    assert optimizer.solve(small, objective="latency", gpus=2, params=latency).accepted
    grouped = SolveParams(gpus=bare, grouping=GroupingParams(ungrouped_classes=2, groups=3))
    assert optimizer.solve(small, objective="gpus", params=grouped, time_limit_s=20).accepted


def test_the_command_reads_a_file(tmp_path: Path) -> None:
    file, out = tmp_path / "params.toml", tmp_path / "out.json"
    file.write_text("[gpus]\nmax_first_rounds = 2\n")
    quick = ["--method", "bfd", "--set", "replications=1"]
    given = ["solve", "paper_mixed_32", *quick, "--params", str(file), "--json", str(out)]
    assert CliRunner().invoke(app, given).exit_code == 0
    assert json.loads(out.read_text())["params"] == {"gpus": {"max_first_rounds": 2}}
    done = CliRunner().invoke(app, [*given[:-1], str(file)])
    assert done.exit_code != 0  # what is read is not written over
    assert file.read_text().startswith("[gpus]")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[gpus]\nmax_first_rounds = 0\n", "gpus.max_first_rounds is 0; give at least 1"),
        ("[gpu]\n", 'gpu is not a key that exists here; did you mean "gpus"?'),
        ('[gpus]\nfirst_methods = ["best"]\n', 'gpus.first_methods[0] is "best"; choose from greedy'),
        ("[latency]\nindifference = 'much'\n", 'latency.indifference is the text "much"; give a number'),
    ],
)
def test_a_wrong_file_is_told(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "params.toml"
    file.write_text(text)
    with pytest.raises(scenarios.ScenarioError) as error:
        scenarios.read_params(file, SolveParams)
    assert message in str(error.value)


def test_params_of_another_kind_are_refused(small: scenarios.Scenario) -> None:
    with pytest.raises(scenarios.ScenarioError, match=r"params is .*give optimizer\.SolveParams"):
        optimizer.solve(small, params=LatencyParams())  # type: ignore[arg-type]
    with pytest.raises(scenarios.ScenarioError, match="seed is -1; give a whole number of at least 0"):
        optimizer.solve(small, seed=-1)


def test_parameters_reach_learning_and_the_baselines(
    small: scenarios.Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Learning asks for its own regions, and a baseline for its own saturation."""
    params = SolveParams(
        learning=LearnParams(search=SearchParams(max_step=1.0)), baselines=BaselineParams(saturation_s=60.0)
    )
    asked: list[LearnParams] = []

    def regions_for(*_: object, params: LearnParams, **__: object) -> None:
        asked.append(params)
        raise Stopped("enough")

    monkeypatch.setattr("learn.regions_for", regions_for)
    assert optimizer.solve(small, params=params).status == "no_plan"
    assert asked == [params.learning]
    assert optimizer.solve(small, "maxbackbone", params=params).params == params.changed()


def test_a_representation_tells_what_differs_from_the_defaults() -> None:
    assert repr(SolveParams()) == "SolveParams()"
    tuned = scenarios.params_from({"gpus": {"max_first_rounds": 8}}, SolveParams)
    assert repr(tuned) == "SolveParams(gpus=GPUMinimizationParams(max_first_rounds=8))"
