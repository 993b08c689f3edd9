"""A profile corrected by a few runs of an engine whose cost is known."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

import twin
from scenarios import read_params
from tests.slow import slow
from twin import CalibrationParams, EngineProfile, FidelityParams, UpdateError
from twin.calibration.params import UpdateParams
from twin.measured.predict import predict
from twin.measured.runs import MeasuredRun
from twin.profile import Frontend
from twin.step_cost import CostTerm
from twin.updating.groups import GROUPS, group_of, membership, scaled
from twin.updating.posterior import posterior
from twin.updating.update import prior_shares

LLAMA = "llama-3.1-8b-instruct"
QUICK = CalibrationParams(fidelity=FidelityParams(max_replications=1))
TRUTH = np.array([1.15, 0.9, 0.93])
"""Factors of compute, memory and overhead of the engine behind the runs."""

KINDS = {
    "light": {"max_loras": 8, "n_adapters": 8, "rates": "0.1"},
    "many": {"max_loras": 96, "n_adapters": 96, "rates": "0.1"},
    "full": {"max_loras": 32, "n_adapters": 64, "rates": "2"},
    "few slots": {"max_loras": 16, "n_adapters": 64, "rates": "0.3"},
}


def shipped() -> EngineProfile:
    """A shipped profile, of engines whose adapters were read before, and whose metrics nobody reads."""
    found = twin.find_profile(LLAMA, None)
    return found.model_copy(update={"first_read_s": 0.0, "frontend": Frontend()})


def true_engine() -> EngineProfile:
    return shipped().model_copy(update={"step": scaled(shipped().step, TRUTH)})


def measured(*names: str) -> list[MeasuredRun]:
    """Runs as the true engine has them, with other requests than a replay draws."""
    runs = []
    for name in names:
        asked = MeasuredRun(
            run_id=name,
            model=LLAMA,
            max_lora_rank=16,
            sizes="8;16",
            total_time_s=600.0,
            kv_cache_tokens=250_000,
            status="ok",
            quality="clean",
            **KINDS[name],  # type: ignore[arg-type]
        )
        said = predict(asked, true_engine(), seed=11, params=QUICK.fidelity)
        figures = {
            "total_throughput": said.predicted_total_throughput,
            "itl_mean_ms": said.predicted_itl_ms,
            "tpot_mean_ms": said.predicted_tpot_ms,
            "ttft_mean_ms": said.predicted_ttft_ms,
        }
        runs.append(asked.model_copy(update=figures))
    return runs


@pytest.fixture(scope="module")
def runs() -> list[MeasuredRun]:
    return measured(*KINDS)


def updated(profile: EngineProfile, runs: Sequence[MeasuredRun], **given: object) -> twin.UpdateReport:
    return twin.update_profile(profile, runs, params=QUICK, **given)  # type: ignore[arg-type]


# --- groups ------------------------------------------------------------------------------------------


def test_terms_belong_to_what_they_are_made_of() -> None:
    known = {term.name: group_of(term) for term in shipped().step.terms}
    assert known["step"] == known["waiting"] == known["decode"] == known["adapters_served"] == "overhead"
    assert known["context"] == known["adapters"] == known["adapters_rank"] == "memory"
    assert known["tokens_512_1024_lora"] == known["tokens_1024"] == known["adapters_tokens"] == "compute"
    assert group_of(CostTerm(name="prefill", seconds=1.0, per="prefill")) == "compute"
    assert group_of(CostTerm(name="prompts", seconds=1.0, per="prompts")) == "overhead"
    assert group_of(CostTerm(name="any", seconds=1.0, adapters_power=1, adapters_cap=1)) == "overhead"
    assert (membership(shipped().step).sum(axis=1) == 1).all()


# --- the posterior -----------------------------------------------------------------------------------

PRIOR = np.full(3, 0.1)


def test_without_runs_that_differ_the_prior_stays() -> None:
    found = posterior(np.full((1, 3), 1 / 3), np.zeros(1), PRIOR, UpdateParams())
    assert found.factors == pytest.approx(1.0)
    assert (found.shares < PRIOR).all()


def test_one_absurd_run_moves_no_factor_far() -> None:
    """Ten times slower than foretold: the prior holds, and the run hardly counts."""
    found = posterior(np.full((1, 3), 1 / 3), np.log([10.0]), PRIOR, UpdateParams())
    assert found.factors == pytest.approx(1.0, abs=0.05)
    assert found.weights[0] < 0.05
    assert found.shares == pytest.approx(PRIOR, rel=0.05)


def test_one_absurd_run_among_others_is_outvoted() -> None:
    shares = np.array([[0.6, 0.2, 0.2], [0.1, 0.1, 0.8], [0.2, 0.6, 0.2], [0.3, 0.3, 0.4]])
    scales = np.log(shares @ TRUTH)
    clean = posterior(shares, scales, PRIOR, UpdateParams())
    spoilt = posterior(
        np.vstack([shares, [[0.3, 0.3, 0.4]]]), np.append(scales, np.log(4)), PRIOR, UpdateParams()
    )
    assert spoilt.factors == pytest.approx(clean.factors, abs=0.03)
    assert spoilt.weights[-1] < 0.1 < spoilt.weights[:-1].min()


def test_many_runs_find_the_factors_and_the_band_shrinks() -> None:
    rng = np.random.default_rng(3)
    shares = rng.dirichlet(np.ones(3), size=200)
    scales = np.log(shares @ TRUTH) + rng.normal(0, 0.02, 200)
    widths = [posterior(shares[:n], scales[:n], PRIOR, UpdateParams()).shares.mean() for n in (1, 3, 10, 200)]
    assert widths == sorted(widths, reverse=True)
    found = posterior(shares, scales, PRIOR, UpdateParams())
    assert found.factors == pytest.approx(TRUTH, rel=0.02)
    assert found.run_share == pytest.approx(0.02, rel=0.4)


def test_a_narrow_prior_holds_a_factor_that_is_sure() -> None:
    shares, scales = np.full((3, 3), 1 / 3), np.full(3, np.log(1.2))
    found = posterior(shares, scales, np.array([0.2, 0.001, 0.2]), UpdateParams())
    assert found.factors[1] == pytest.approx(1.0, abs=0.001)
    assert found.factors[0] == pytest.approx(found.factors[2])
    assert found.factors[0] > 1.15


# --- a profile ---------------------------------------------------------------------------------------


def test_an_update_brings_a_profile_near_the_engine_that_was_measured(runs: list[MeasuredRun]) -> None:
    report = updated(shipped(), runs)
    found = np.array([factor.factor for factor in report.factors])
    assert np.abs(np.log(found / TRUTH)).max() < 0.75 * np.abs(np.log(TRUTH)).max()
    before, after = (report.errors().set_index("metric")[column] for column in ("before %", "after %"))
    assert before["itl"] > 4
    assert after["itl"] < before["itl"] / 2
    assert after["throughput"] < 1
    assert all(factor.share < factor.prior_share for factor in report.factors)


def test_a_light_run_tells_of_overhead_and_a_full_one_of_compute(runs: list[MeasuredRun]) -> None:
    by_name = {run.run_id: run for run in runs}
    shrunk = {}
    for name in ("light", "full"):
        factors = updated(shipped(), [by_name[name]]).factors
        shrunk[name] = {factor.group: factor.share / factor.prior_share for factor in factors}
    assert shrunk["light"]["overhead"] < 0.6 < shrunk["light"]["compute"]
    assert shrunk["full"]["compute"] < shrunk["light"]["compute"]


def test_a_profile_that_is_right_stays_as_it_is(runs: list[MeasuredRun]) -> None:
    report = updated(true_engine(), runs)
    assert [factor.factor for factor in report.factors] == pytest.approx([1.0] * 3, abs=0.03)


def test_what_is_written_says_where_it_comes_from_and_how_sure_it_is(runs: list[MeasuredRun]) -> None:
    report = updated(shipped(), runs)
    profile, old = report.profile, shipped()
    assert profile.name == f"{old.name}.updated"
    assert "updated by 4 runs: few slots, full, light, many" in profile.provenance.source
    for group in GROUPS:
        assert f"{group} " in profile.provenance.note
    assert profile.provenance.runs == old.provenance.runs + 4
    assert not profile.provenance.left_out_errors
    assert profile.uncertainty.residual_share == report.run_share
    errors = profile.uncertainty.standard_errors_s
    assert errors.keys() == {term.name for term in profile.step.terms}
    step = next(term for term in profile.step.terms if term.name == "step")
    (overhead,) = (factor for factor in report.factors if factor.group == "overhead")
    assert errors["step"] >= step.seconds * overhead.share
    assert (profile.memory, profile.loads, profile.lengths) == (old.memory, old.loads, old.lengths)
    assert updated(profile, runs).profile.name == profile.name


@pytest.mark.parametrize("workers", [1, *slow([2])])
def test_equal_runs_give_equal_profiles_in_any_order_and_number_of_processes(
    runs: list[MeasuredRun], workers: int
) -> None:
    one = updated(shipped(), runs)
    other = updated(shipped(), runs[::-1], workers=workers)
    assert one.profile == other.profile
    assert one.to_json() == other.to_json()


def test_the_report_is_told_as_text_and_as_json(runs: list[MeasuredRun]) -> None:
    report = updated(shipped(), runs[:1])
    assert repr(report) == f"<UpdateReport: {report.profile.name}, 1 of 1 runs>"
    assert str(report) == report.summary()
    assert "Factors on the step cost" in report.summary()
    assert any(line.startswith("compute is hardly known better") for line in report.advice)
    values = json.loads(report.to_json())
    assert [factor["group"] for factor in values["factors"]] == list(GROUPS)
    assert values["runs"][0]["measured"]["itl"] == pytest.approx(runs[0].itl_mean_ms)


def test_an_absurd_run_is_told_and_does_not_throw_the_others_off(runs: list[MeasuredRun]) -> None:
    slow = runs[0].model_copy(update={"run_id": "slow", "tpot_mean_ms": 6 * (runs[0].tpot_mean_ms or 0)})
    plain, spoilt = updated(shipped(), runs), updated(shipped(), [*runs, slow])
    factors = [[factor.factor for factor in report.factors] for report in (plain, spoilt)]
    assert factors[1] == pytest.approx(factors[0], abs=0.04)
    assert "slow counts 0.0" in spoilt.summary() or "slow is left out" in spoilt.summary()


def test_runs_that_say_nothing_are_named_with_why(runs: list[MeasuredRun]) -> None:
    without = runs[0].model_copy(update={"tpot_mean_ms": None, "itl_mean_ms": None})
    collided = runs[1].model_copy(update={"quality": "port_collision"})
    large = runs[2].model_copy(update={"max_loras": 384, "max_lora_rank": 64, "kv_cache_tokens": None})
    with pytest.raises(UpdateError) as caught:
        updated(shipped(), [without, collided, large])
    text = str(caught.value)
    assert "light has neither a mean time per output token nor one between tokens" in text
    assert "many is of status ok and quality port_collision" in text
    assert "full does not start by the profile's memory" in text
    report = updated(shipped(), [without, runs[1]])
    assert "light is left out: it has neither" in report.summary()


def test_the_time_between_tokens_stands_for_the_time_per_token(runs: list[MeasuredRun]) -> None:
    only = runs[0].model_copy(update={"tpot_mean_ms": None})
    report = updated(shipped(), [only])
    assert not report.runs[0].left_out


def test_a_prior_of_terms_is_weighted_by_what_they_cost() -> None:
    terms = shipped().step.terms
    names = [term.name for term in terms]
    shares = np.zeros(len(terms))
    shares[names.index("context")], shares[names.index("step")] = 0.25, 0.75
    assert prior_shares(shipped(), shares, QUICK) == pytest.approx(0.10)
    wide = CalibrationParams(update=UpdateParams(prior_share=0.3))
    assert prior_shares(shipped(), shares, wide) == pytest.approx(0.3)


def test_parameters_of_an_update_come_from_the_file_of_calibrate(tmp_path: object) -> None:
    path = tmp_path / "params.toml"  # type: ignore[operator]
    path.write_text("[update]\nprior_share = 0.2\n")
    assert read_params(path, CalibrationParams).update.prior_share == 0.2
