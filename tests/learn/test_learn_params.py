"""Parameters of learning: from Python and from files, and what they are part of."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

import learn
import scenarios
from learn import Dataset, LearnParams, region_store
from learn.params import BoundaryParams, DesignParams, LatencyFitParams, RegionFitParams, SearchParams
from learn.region import regions_of
from learn.region_store import SHIPPED
from optimizer.cli import main
from scenarios import Params, Scenario, ScenarioError, read_params


def groups() -> list[type[Params]]:
    return [type(getattr(LearnParams(), name)) for name in LearnParams.model_fields]


def test_every_parameter_says_what_it_does() -> None:
    for group in (LearnParams, *groups()):
        assert all(info.description for info in group.model_fields.values())


def test_docs_name_every_parameter() -> None:
    text = (Path(__file__).parents[2] / "docs" / "learn.md").read_text(encoding="utf-8")
    for name in LearnParams.model_fields:
        section = re.search(rf"^\| `{name}` \|(.*)\|$", text, re.MULTILINE)
        assert section is not None, name
        listed = re.findall(r"`(\w+)`", section[1])
        assert listed == list(type(getattr(LearnParams(), name)).model_fields)


def test_a_file_names_what_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "params.toml"
    file.write_text("[search]\nfirst_step = 0.2\n[region_fit]\nfolds = 5\n[surrogate]\nmax_rules = 8\n")
    params = read_params(file, LearnParams)
    assert params.of_runs() == {"search": {"first_step": 0.2}}
    assert params.of_regions() == {"search": {"first_step": 0.2}, "region_fit": {"folds": 5}}
    assert LearnParams().of_runs() == {} == LearnParams().of_regions()


@pytest.mark.parametrize(
    ("group", "name", "value"),
    [
        (RegionFitParams, "outer_confidence", 1.0),
        (RegionFitParams, "prior_points", 0.0),
        (BoundaryParams, "widening", 1.0),
        (BoundaryParams, "crossing_margin", 0.5),
        (SearchParams, "max_step", 0.0),
        (DesignParams, "adapters_per_slot", 1),
        (LatencyFitParams, "knots", (1.0,)),
    ],
)
def test_values_with_which_nothing_can_be_learnt_are_refused(
    group: type[Params], name: str, value: object
) -> None:
    with pytest.raises(ScenarioError, match=name):
        group(**{name: value})


def test_a_sharper_or_looser_confidence_moves_the_rows(dataset: Dataset, space: learn.DesignSpace) -> None:
    def coefficients(params: LearnParams) -> np.ndarray:
        regions = learn.linearize(dataset, space, params=params)
        return np.stack([o.coefficients[0] for o in regions.inner.options if o.regime == "shared"])

    loose, strict = (
        coefficients(LearnParams(region_fit=RegionFitParams(shared_confidence=share)))
        for share in (0.5, 0.97)
    )
    assert (strict >= loose).all()
    assert (strict > loose).any()


def test_knots_are_taken_in_any_order(dataset: Dataset, space: learn.DesignSpace) -> None:
    given, sorted_ = (
        learn.linearize(dataset, space, params=LearnParams(latency_fit=LatencyFitParams(knots=knots)))
        for knots in ((0.9, 0.5, 0.9), (0.5, 0.9))
    )
    assert given.latency == sorted_.latency


# --- files -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(SHIPPED.glob("*.json")), ids=lambda path: path.name[:60])
def test_shipped_regions_are_written_as_they_were_read(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert regions_of(text).to_json() == text


def test_regions_of_other_parameters_say_so(dataset: Dataset, space: learn.DesignSpace) -> None:
    params = LearnParams(latency_fit=LatencyFitParams(knots=(0.5,)))
    text = learn.linearize(dataset, space, params=params).to_json()
    assert json.loads(text)["provenance"]["params"] == {"latency_fit": {"knots": [0.5]}}
    assert regions_of(text).to_json() == text
    assert "params" not in json.loads(learn.linearize(dataset, space).to_json())["provenance"]


# --- command line ----------------------------------------------------------------------------------


def fit(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr("sys.argv", ["lorapack", "fit", "mixed_ranks", "--quiet", *arguments])
    with pytest.raises(SystemExit) as stop:
        main()
    return int(stop.value.code or 0)


def test_fit_takes_parameters_from_a_file(
    scenario: Scenario,
    dataset: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    asked: list[LearnParams] = []

    def sample(*_: object, params: LearnParams, **__: object) -> Dataset:
        asked.append(params)
        return dataset

    monkeypatch.setattr(scenarios, "read", lambda *_, **__: scenario)
    monkeypatch.setattr(region_store, "sample", sample)
    file = tmp_path / "params.toml"
    file.write_text("[packing.annealing]\n[learning.region_fit]\nouter_confidence = 0.9\n")
    assert fit(monkeypatch, "--params", str(file)) == 0
    assert asked == [LearnParams(region_fit=RegionFitParams(outer_confidence=0.9))]
    provenance = json.loads(capsys.readouterr().out)["provenance"]
    assert (provenance["outer_confidence"], provenance["params"]) == (0.9, asked[0].changed())


def test_fit_refuses_wrong_parameters_before_the_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "params.toml"
    file.write_text("[learning.region_fit]\nfold = 5\nouter_confidence = 2.0\n")
    monkeypatch.setattr(region_store, "sample", lambda *_, **__: pytest.fail("the twin was sampled"))
    assert fit(monkeypatch, "--params", str(file)) == 2
    text = capsys.readouterr().err
    assert "learning.region_fit.outer_confidence is 2" in text
    assert 'learning.region_fit.fold is not a key that exists here; did you mean "folds"?' in text
    assert fit(monkeypatch, "--params", str(file), "--out", str(file)) == 2
    assert "fold = 5" in file.read_text()


def test_wrong_parameters_in_python_are_one_error() -> None:
    with pytest.raises(ScenarioError, match=r"search.max_step is -1; give .*above 0"):
        scenarios.params_from({"search": {"max_step": -1}}, LearnParams)
