"""A profile from a quarter of an hour, of an engine unlike the shipped ones, foretells other runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import pytest

import twin
from scenarios import ScenarioError
from twin.calibration.cost_terms import candidate_terms
from twin.calibration.least_squares import complexity, needed, terms_for, told_apart
from twin.calibration.loads_and_lengths import OfferedLengths
from twin.calibration.measurements import Probe
from twin.calibration.params import FitParams
from twin.engine.rules import rules_of
from twin.measured.predict import predict
from twin.step_cost import CostTerm, StepCost

Lorapack = Callable[..., tuple[int, str, str]]

TERMS = candidate_terms((1, 16))
NAMES = [term.name for term in TERMS]


@pytest.fixture(scope="module", autouse=True)
def _lengths_are_drawn_once() -> Iterator[None]:
    """Every fit draws the same lengths, to find how many answers end early, for a third of its time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(OfferedLengths, "_moments", cache(OfferedLengths._moments))
        yield


def errors(small_engine: ModuleType, engine: twin.EngineProfile, fitted: twin.EngineProfile) -> pd.DataFrame:
    """Errors in percent on runs that no measurement holds."""
    rows = []
    for stage in small_engine.others():
        measured = small_engine.played(stage, engine)
        said = predict(small_engine.recorded(stage, measured["total_time_s"]), fitted)
        pairs = {
            "itl": (measured["itl_mean_ms"], said.predicted_itl_ms),
            "throughput": (measured["total_throughput"], said.predicted_total_throughput),
        }
        rows.append({name: 100 * (b / a - 1) for name, (a, b) in pairs.items()})
    return pd.DataFrame(rows, index=[stage.name for stage in small_engine.others()])


def fitted(folder: Path | list[Path], **given: object) -> tuple[twin.EngineProfile, twin.CalibrationReport]:
    return twin.calibrate(folder, "tiny-llama", cross_validate=False, **given)  # type: ignore[arg-type]


def test_two_servers_of_three_runs_each_foretell_others(small_engine: ModuleType, tmp_path: Path) -> None:
    engine = small_engine.truth(tmp_path)
    for seed in range(3):
        small_engine.measure(tmp_path, engine, (4, 16), noise=0.025, seed=seed)
        profile, report = fitted(tmp_path)
        found = errors(small_engine, engine, profile)
        assert found["itl"].abs().mean() < 4, found
        assert found["itl"].abs().max() < 11, found
        assert found["throughput"].abs().max() < 4, found
        assert profile.rules == engine.rules  # a CPU runs no step ahead, whatever its release does
        assert "max_loras" not in report.summary()
        assert profile.frontend.first_token_s == pytest.approx(0.004, abs=0.004)


def test_without_noise_the_error_is_that_of_the_knots(small_engine: ModuleType, tmp_path: Path) -> None:
    engine = small_engine.truth(tmp_path)
    small_engine.measure(tmp_path, engine, (4, 16), noise=0.0)
    found = errors(small_engine, engine, fitted(tmp_path)[0])
    assert found["itl"].abs().max() < 4, found
    assert found["throughput"].abs().max() < 1.5, found


def two_folders(small_engine: ModuleType, tmp_path: Path) -> list[Path]:
    folders = [tmp_path / "four", tmp_path / "sixteen"]
    for folder, slots in zip(folders, (4, 16), strict=True):
        folder.mkdir()
        small_engine.measure(folder, small_engine.truth(folder), (slots,), noise=0.0)
    return folders


def test_folders_of_servers_with_other_slots_are_fitted_together(
    small_engine: ModuleType, tmp_path: Path
) -> None:
    folders, whole = two_folders(small_engine, tmp_path), tmp_path / "whole"
    shutil.copytree(folders[0], whole)
    shutil.copytree(folders[1] / "requests", whole / "other")
    for name in ("serving_runs", "probes"):
        first, second = (pd.read_csv(folder / f"{name}.csv") for folder in folders)
        if name == "serving_runs":
            second["requests_file"] = second["requests_file"].str.replace("requests/", "other/")
        pd.concat([first, second]).to_csv(whole / f"{name}.csv", index=False)
    (found, report), (same, _) = fitted(folders), fitted(whole)
    assert found.step == same.step
    assert found.frontend == same.frontend
    assert found.lengths == same.lengths
    assert "max_loras" not in report.summary()
    assert errors(small_engine, small_engine.truth(tmp_path), found)["itl"].abs().max() < 4


def test_groups_of_several_folders_are_left_out_one_by_one(small_engine: ModuleType, tmp_path: Path) -> None:
    """Each folder has a first run of the same name."""
    folders = two_folders(small_engine, tmp_path)
    _, report = twin.calibrate(folders, "tiny-llama")
    assert report.left_out is not None
    tables = {folder: pd.read_csv(folder / "serving_runs.csv") for folder in folders}
    names = {f"{folder}: {name}" for folder, table in tables.items() for name in table["group"]}
    assert set(report.left_out.measured["group"]) <= names
    assert len(report.left_out.measured) == sum(
        table["tpot_mean_ms"].notna().sum() for table in tables.values()
    )


@pytest.mark.parametrize(
    ("text", "other", "told"),
    [
        ("device: CPU", "device: L4", "device is L4 in"),
        ("block_size: 32", "block_size: 16", "engine.block_size is 16 in"),
        ("max_model_len: 2048", "max_model_len: 1024", "engine.max_model_len is 1024 in"),
    ],
)
def test_folders_of_servers_that_differ_in_more_are_refused(
    small_engine: ModuleType, tmp_path: Path, text: str, other: str, told: str
) -> None:
    folders = two_folders(small_engine, tmp_path)
    file = folders[1] / "measurement.yaml"
    file.write_text(file.read_text().replace(text, other))
    with pytest.raises(ScenarioError, match=told) as refused:
        fitted(folders)
    assert "fit a profile to each" in str(refused.value)


def test_a_folder_counts_once(small_engine: ModuleType, tmp_path: Path) -> None:
    folders = two_folders(small_engine, tmp_path)
    with pytest.raises(ScenarioError, match=r"four: 1 problem\n.* is given twice; name each folder once"):
        fitted([*folders, tmp_path / "sixteen" / ".." / "four"])


def test_the_command_takes_several_folders(
    small_engine: ModuleType, lorapack: Lorapack, tmp_path: Path
) -> None:
    folders, out = two_folders(small_engine, tmp_path), tmp_path / "profile.json"
    words = [*map(str, folders), "--model", "tiny-llama", "--out", str(out), "--no-cross-validate", "--quiet"]
    assert lorapack("calibrate", *words)[0] == 0
    assert twin.read_profile(out).step == fitted(folders)[0].step


def test_slots_that_were_not_varied_cost_the_same_and_the_report_says_so(
    small_engine: ModuleType, tmp_path: Path
) -> None:
    engine = small_engine.truth(tmp_path)
    small_engine.measure(tmp_path, engine, (4,), noise=0.0)
    profile, report = fitted(tmp_path)
    for term in profile.step.terms:
        assert (term.slots_power, term.rank_power, term.served_power) == (0, 0, 0), term
    said = "measured with max_loras 4 alone: others are taken to cost the same"
    assert said in report.summary()
    assert said in profile.provenance.note
    # With ten times what was measured of slots, adapters and load, within a fifth.
    found = errors(small_engine, engine, profile)
    assert found["itl"].abs().max() < 20, found


def test_a_cost_of_slots_is_found_by_two_servers(small_engine: ModuleType, tmp_path: Path) -> None:
    slots = CostTerm(name="slots", seconds=2e-4, lora=True, slots_power=1)
    engine = small_engine.truth(tmp_path, StepCost(terms=(*small_engine.TRUTH.terms, slots)))
    small_engine.measure(tmp_path, engine, (4, 16), noise=0.0)
    profile, _ = fitted(tmp_path)
    found = errors(small_engine, engine, profile)
    assert found["itl"].abs().max() < 5, found
    assert sum(term.slots_power * term.seconds for term in profile.step.terms) > 1e-4


PROMPTS = CostTerm(name="prompts", seconds=6e-3, per="prompts")
ANY = CostTerm(name="any", seconds=4e-3, lora=True, adapters_power=1, adapters_cap=1)


def test_what_only_steps_with_prompts_cost_is_found_by_a_log_of_steps(
    small_engine: ModuleType, tmp_path: Path
) -> None:
    engine = small_engine.truth(tmp_path, StepCost(terms=(*small_engine.TRUTH.terms, PROMPTS, ANY)))
    small_engine.measure(tmp_path, engine, (4, 16), noise=0.01, logged=True)
    profile, _ = fitted(tmp_path)
    known = {term.name: term.seconds for term in profile.step.terms}
    assert known["prompts"] == pytest.approx(PROMPTS.seconds, rel=0.25)
    assert known["any_adapter"] == pytest.approx(ANY.seconds, rel=0.25)
    found = errors(small_engine, engine, profile)
    assert found["itl"].abs().mean() < 3, found
    plain = fitted(tmp_path, params=twin.CalibrationParams.model_validate({"fit": {"few_observations": 0}}))
    assert not {"prompts", "any_adapter"} & {term.name for term in plain[0].step.terms}


def test_an_engine_without_such_costs_is_given_none(small_engine: ModuleType, tmp_path: Path) -> None:
    engine = small_engine.truth(tmp_path)
    for seed in range(3):
        small_engine.measure(tmp_path, engine, (4, 16), noise=0.02, seed=seed, logged=True)
        profile, _ = fitted(tmp_path)
        assert "prompts" not in {term.name for term in profile.step.terms}
        assert errors(small_engine, engine, profile)["itl"].abs().mean() < 4


def test_an_engine_that_schedules_ahead_is_fitted_as_well(small_engine: ModuleType, tmp_path: Path) -> None:
    plain = small_engine.truth(tmp_path)
    arguments = plain.measured.model_copy(update={"async_scheduling": True})
    engine = plain.model_copy(update={"rules": rules_of("0.32.0"), "measured": arguments})
    small_engine.measure(tmp_path, engine, (4, 16), noise=0.0)
    description = tmp_path / "measurement.yaml"
    description.write_text(description.read_text().replace("  async_scheduling: false\n", ""))
    profile, _ = fitted(tmp_path)
    assert profile.rules.async_scheduling
    found = errors(small_engine, engine, profile)
    assert found["itl"].abs().max() < 6, found


def test_groups_are_left_out_of_a_small_fit_too(small_engine: ModuleType, tmp_path: Path) -> None:
    small_engine.measure(tmp_path, small_engine.truth(tmp_path), (4, 16), noise=0.025)
    profile, report = twin.calibrate(tmp_path, "tiny-llama")
    assert report.left_out is not None
    told = report.left_out.errors(("group",))
    assert set(told["group"]) == {"open2", "open3", "open8", "open13", "open22"}
    assert told["itl_smape"].max() < 15
    assert len(profile.provenance.left_out_errors) == 5


def test_a_small_fit_keeps_few_terms(small_engine: ModuleType, tmp_path: Path) -> None:
    small_engine.measure(tmp_path, small_engine.truth(tmp_path), (4, 16), noise=0.025)
    few = fitted(tmp_path)[0].step.terms
    every = twin.CalibrationParams.model_validate({"fit": {"few_observations": 0}})
    many = fitted(tmp_path, params=every)[0].step.terms
    assert len(few) < 0.75 * len(many)
    assert len(few) < 16


# --- which terms -------------------------------------------------------------------------------------


def test_a_term_that_grows_as_one_before_it_is_not_told_apart() -> None:
    rng = np.random.default_rng(0)
    design = rng.random((30, len(TERMS)))
    for name, of, factor in (("slots", "step", 8.0), ("adapters_rank", "adapters", 16.0)):
        design[:, NAMES.index(name)] = factor * design[:, NAMES.index(of)]
    design[:, NAMES.index("lora")] = design[:, NAMES.index("step")]  # an engine without LoRA has it not
    apart = told_apart(design, TERMS)
    assert [name for name, known in zip(NAMES, apart, strict=True) if not known] == ["slots", "adapters_rank"]


def test_of_two_terms_that_explain_the_same_the_simpler_one_is_kept() -> None:
    rng = np.random.default_rng(0)
    design = np.zeros((40, len(TERMS)))
    adapters = rng.integers(1, 5, 40).astype(float)
    design[:, NAMES.index("step")] = 1.0
    design[:, NAMES.index("adapters")] = adapters
    design[:, NAMES.index("adapters_sqrt")] = np.sqrt(adapters)
    design[:, NAMES.index("adapters_tokens")] = adapters * rng.integers(1, 64, 40)
    design[:, NAMES.index("waiting")] = rng.random(40)

    def kept(target: np.ndarray) -> list[str]:
        noisy = target * np.exp(rng.normal(0, 0.03, 40))
        chosen = needed(design, noisy, np.ones(40), TERMS)
        return [name for name, known in zip(NAMES, chosen, strict=True) if known]

    assert kept(5 + 1.3 * adapters) == ["step", "adapters"]
    # What is there is seen.
    assert kept(5 + 0.2 * design[:, NAMES.index("adapters_tokens")]) == ["step", "adapters_tokens"]


def test_what_a_term_depends_on_is_counted() -> None:
    of = dict(zip(NAMES, TERMS, strict=True))
    assert complexity(of["step"]) == complexity(of["waiting"]) == 1
    assert complexity(of["adapters"]) < complexity(of["adapters_sqrt"])
    assert complexity(of["tokens_16"]) < complexity(of["tokens_16_lora"]) == complexity(of["tokens_16_slots"])


def test_only_steps_that_tell_them_make_terms_candidates(small_engine: ModuleType, tmp_path: Path) -> None:
    engine, params = small_engine.truth(tmp_path), FitParams()

    def step(tokens: int, decodes: int, adapters: int) -> Probe:
        return Probe(**small_engine.probe(engine, tokens, decodes, 50, adapters, 1.0, 1.0))

    def told(runs: int, *probes: Probe) -> list[str]:
        every = [term.name for term in terms_for(runs, probes, params)]
        assert every[: len(candidate_terms(params.token_knots))] == [
            term.name for term in candidate_terms(params.token_knots)
        ]
        return every[len(candidate_terms(params.token_knots)) :]

    alone, prompt, mixed, base = step(4, 4, 2), step(64, 0, 1), step(64, 2, 2), step(1, 1, 0)
    assert told(5, alone, prompt, mixed) == ["prompts"]
    assert told(5, alone, base) == ["any_adapter"]
    assert told(5, alone, base, mixed) == ["any_adapter", "prompts"]
    assert told(5, alone, prompt) == []  # prompts alone have the constant in what a step of tokens costs
    assert told(5, prompt, mixed) == []
    assert told(params.few_observations, alone, base, mixed) == []


def test_a_probe_s_engine_may_serve_more_adapters_than_are_in_the_step(
    small_engine: ModuleType, tmp_path: Path
) -> None:
    one = Probe(**small_engine.probe(small_engine.truth(tmp_path), 8, 8, 50, 4, 1.0, 1.0))
    assert one.steps.served == 16
    assert one.model_copy(update={"n_served": None}).steps.served == 4
