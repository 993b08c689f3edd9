from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from joblib import parallel_config, register_parallel_backend
from joblib.parallel import SequentialBackend

import learn
import scenarios
from learn import (
    BoundaryError,
    Dataset,
    DatasetError,
    DesignSpace,
    LearnParams,
    SamplingPlan,
)
from learn.boundaries import boundary_search
from learn.boundaries.boundary import BoundaryModel, boundary_points
from learn.boundaries.boundary_search import (
    BoundarySearch,
)
from learn.design import Composition, compositions
from learn.features import ADDITIVE
from learn.params import SearchParams
from learn.region_store import shipped_spaces
from learn.sampling import SAMPLING, add_overloads
from learn.traffic.kinds import TrafficKind
from scenarios import ACCEPTANCES, Acceptance, FixedLengths, ScenarioError, Workload
from tests.slow import slow
from twin import Effort, GPULoad, GPUVerdict, find_profile, judge

SEARCH = SearchParams()

FEW = SamplingPlan(compositions=8, round_size=4, max_runs=3, width=1.1, spread=1, seed=5)


@pytest.fixture(scope="module")
def few(space: DesignSpace) -> Dataset:
    return learn.sample(space, FEW)


def same(a: Dataset, b: Dataset) -> None:
    pd.testing.assert_frame_equal(a.table, b.table, check_exact=True)
    assert a.metadata == b.metadata


# --- design ----------------------------------------------------------------------------------------


def test_a_composition_depends_on_its_number_alone(space: DesignSpace) -> None:
    whole, part = compositions(space, 0, 30, 1), compositions(space, 11, 14, 1)
    for one, other in zip(whole[11:14], part, strict=True):
        assert one.option == other.option
        np.testing.assert_array_equal(one.weight, other.weight)
        np.testing.assert_array_equal(one.rank, other.rank)
    other = compositions(space, 0, 30, 2)
    assert any(len(a.weight) != len(b.weight) for a, b in zip(whole, other, strict=True))


def test_the_design_covers_both_regimes_of_every_option(space: DesignSpace) -> None:
    drawn = compositions(space, 0, 200, 0)
    for option in space.options:
        mine = [c for c in drawn if c.option == option]
        sizes = np.array([len(c.weight) for c in mine])
        shared = sizes > option.max_loras
        assert 0.65 < shared.mean() < 0.85
        assert sizes[~shared].min() <= option.max_loras / 4
        assert sizes[~shared].max() >= 0.9 * option.max_loras
        assert sizes[shared].max() >= 0.5 * space.most_adapters(option)


def test_compositions_are_valid_loads(space: DesignSpace) -> None:
    for one in compositions(space, 0, 64, 0):
        assert one.weight.sum() == pytest.approx(1.0)
        assert (one.weight > 0).all()
        assert set(one.rank.tolist()) <= {r for r in space.ranks if r <= one.option.max_lora_rank}
        load = one.load(space, 4.0)
        assert load.rate.sum() == pytest.approx(4.0)
        assert one.sums(space, 4.0)[ADDITIVE.index("rate")] == pytest.approx(4.0)


def test_mixes_go_from_uniform_to_heavily_skewed(space: DesignSpace) -> None:
    def ratio(one: Composition) -> float:
        return float(one.weight.max() / one.weight.min())

    ratios = [ratio(c) for c in compositions(space, 0, 128, 0) if len(c.weight) > 4]
    assert min(ratios) == pytest.approx(1.0)
    assert max(ratios) > 300


# --- sampling --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_two_workers_give_the_same_data_as_one(space: DesignSpace, few: Dataset) -> None:
    same(learn.sample(space, FEW, workers=2), few)


def test_an_interrupted_sampling_goes_on_to_the_same_data(
    space: DesignSpace, few: Dataset, tmp_path: Path
) -> None:
    def interrupt(*progress: object) -> None:
        if progress[1] == 6:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        learn.sample(space, FEW, directory=tmp_path, progress=interrupt)
    assert [p.name for p in sorted(tmp_path.iterdir())] == ["round-0000.csv"]
    seen: list[object] = []
    resumed = learn.sample(
        space,
        FEW,
        directory=tmp_path,
        progress=lambda label, done, _: seen.append(done) if label == SAMPLING else None,
    )
    assert seen == [0, 4, 5, 6, 7, 8]  # the first round was kept
    same(resumed, few)


def test_a_directory_of_another_sampling_is_refused(space: DesignSpace, few: Dataset, tmp_path: Path) -> None:
    few.save(tmp_path / "round-0000.csv")
    with pytest.raises(DatasetError, match="another sampling"):
        learn.sample(space, replace(FEW, seed=6), directory=tmp_path)


def test_a_directory_that_cannot_be_made_is_named_at_once(space: DesignSpace, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatasetError, match=r"file: no runs can be kept there .*; name a folder"):
        learn.sample(space, SamplingPlan(), directory=tmp_path / "file")


def test_no_workers_are_refused(space: DesignSpace) -> None:
    with pytest.raises(ScenarioError, match="workers is 0; give 1 or more"):
        learn.sample(space, FEW, workers=0)


def test_searches_bracket_the_boundary(dataset: Dataset) -> None:
    found = 0
    for _, runs in dataset.table.groupby("composition"):
        bad, good = runs[runs.starved == 1].total_rate, runs[runs.starved == 0].total_rate
        found += bool(len(bad) and len(good) and bad.min() <= 1.13 * good[good < bad.min()].max())
    assert found >= 0.8 * dataset.table["composition"].nunique()


def test_the_metadata_say_where_the_runs_come_from(few: Dataset, space: DesignSpace) -> None:
    assert few.metadata["plan"]["seed"] == 5
    assert few.metadata["space"]["profile"] == space.profile.name
    assert few.metadata["space"]["engine"]["max_num_seqs"] == 512


def test_a_mix_that_the_model_holds_for_starved_at_any_load_is_bracketed_first(space: DesignSpace) -> None:
    engines = np.array([(o.max_loras, o.max_lora_rank, o.kv_cache_tokens) for o in space.options], float)
    nothing_fits = np.full((len(engines), len(ADDITIVE)), 2.0)
    model = BoundaryModel(engines, nothing_fits, nothing_fits)
    mixes = compositions(space, 0, 4, 0)
    assert all(BoundarySearch(space, FEW, one).predict(model, 100.0) is None for one in mixes)


def test_the_first_estimate_is_near_the_boundary_whatever_the_lengths(space: DesignSpace) -> None:
    for output, seconds in ((150, 1200.0), (4, 20.0)):
        kind = TrafficKind(FixedLengths(tokens=200), FixedLengths(tokens=output))
        brief = space.workload.model_copy(update={"duration_s": seconds})
        other = replace(space, traffic=(kind,), workload=brief)
        for one in compositions(other, 0, 4, 0):
            search = BoundarySearch(other, replace(FEW, max_runs=8), one)
            estimate = search.first_estimate()
            assert 0.1 < estimate / search.bracket(estimate, 0.7).boundary < 5


def test_a_load_that_cannot_be_tried_ends_the_sampling_at_once(space: DesignSpace) -> None:
    params = LearnParams(search=SearchParams(max_requests=1200))  # two a second
    with pytest.raises(BoundaryError, match=r"for 600 s starve a GPU.*lower workload.duration_s.* or demand"):
        learn.sample(space, replace(FEW, compositions=40, spread=0), params=params)


def test_that_the_workload_is_shorter_does_not_help_where_it_is_not_looked_at(space: DesignSpace) -> None:
    params = LearnParams(search=SearchParams(max_requests=600))
    brief = Effort(settle_s=60.0, measure_s=540.0, requests=1, longest_s=540.0)
    kept_up = replace(space, acceptance="sustained", effort=brief, max_adapters=60)
    with pytest.raises(BoundaryError, match="whatever the adapters; demand more by service_levels"):
        learn.sample(kept_up, replace(FEW, round_size=8, spread=0), params=params)


def test_a_search_that_starts_below_the_lightest_load_still_runs(space: DesignSpace) -> None:
    (one,) = compositions(space, 0, 1, 0)
    bracket = BoundarySearch(space, FEW, one).bracket(SEARCH.min_rate / 2, 0.1)
    assert bracket.rows
    assert np.isfinite(bracket.boundary)


def test_runs_away_from_the_boundary_go_from_light_load_to_thorough_overload(dataset: Dataset) -> None:
    near, far = dataset.where(~dataset.scattered).table, dataset.where(dataset.scattered).table
    boundary = near[near.starved == 1].groupby("composition")["total_rate"].min()
    factor = far["total_rate"].to_numpy() / boundary.reindex(far["composition"]).to_numpy()
    assert 2.0 < np.nanmax(factor) < 4.6
    shared = (far["count"] > far["max_loras"]).to_numpy()
    for alike in (shared, ~shared):
        assert np.nanmin(factor[alike]) < 0.5
        assert np.nanmax(factor[alike]) > 1.5


def test_overloads_can_be_added_later(space: DesignSpace, tmp_path: Path) -> None:
    plan = replace(FEW, spread=2, max_runs=6)
    every = learn.sample(space, plan)
    without = learn.sample(space, plan, overloads=False, directory=tmp_path)
    assert 0 < without.scattered.sum() < every.scattered.sum() == 2 * plan.compositions
    same(add_overloads(without, space, plan), every)
    same(learn.sample(space, plan, directory=tmp_path), every)  # the rounds are those that were kept


@pytest.mark.slow
def test_overloads_tell_nothing_of_the_boundary(
    space: DesignSpace, dataset: Dataset, plan: SamplingPlan
) -> None:
    """All lie beyond its bracket, so regions are the same without them."""
    with_them = boundary_points(dataset)
    without = boundary_points(learn.sample(space, plan, overloads=False))
    np.testing.assert_array_equal(without.middle, with_them.middle)
    np.testing.assert_array_equal(without.composition, with_them.composition)


# --- files -----------------------------------------------------------------------------------------


def test_a_dataset_survives_its_file_exactly(few: Dataset, tmp_path: Path) -> None:
    few.save(tmp_path / "d.csv")
    same(learn.read_dataset(tmp_path / "d.csv"), few)


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "# {}\n", "# {}\ncomposition,run\n1,2\n", "# [\nx\n"])
def test_a_damaged_dataset_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(DatasetError, match="sample it again"):
        learn.read_dataset(path)


def test_a_missing_dataset_is_named(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"none\.csv"):
        learn.read_dataset(tmp_path / "none.csv")


def test_a_backend_that_hands_back_all_at_once_gives_the_same_runs(space: DesignSpace, few: Dataset) -> None:
    """As Ray's does."""

    class AllAtOnce(SequentialBackend):  # type: ignore[misc, unused-ignore]  # joblib has no types
        supports_return_generator = False

    register_parallel_backend("all-at-once", AllAtOnce)
    with parallel_config(backend="all-at-once"):
        same(learn.sample(space, FEW, workers=2), few)


# --- short requests --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def tiny() -> DesignSpace:
    """Requests of one token, of which a GPU serves thousands in a second."""
    scenario = scenarios.read(
        "paper_mixed_32", ["acceptance=paper", "workload.prompt=1", "workload.output=1"]
    )
    profile = find_profile(scenario.model, "H100-64GB")
    return learn.space_for(scenario, scenario.devices[0], profile)


def test_runs_of_short_requests_are_short(tiny: DesignSpace, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[float] = []

    def counted(load: GPULoad, workload: Workload, *rest: Any, **more: Any) -> GPUVerdict:
        seen.append(float(load.rate.sum()) * workload.duration_s)
        return judge(load, workload, *rest, **more)

    monkeypatch.setattr(boundary_search, "judge", counted)
    rows = [
        row
        for one in compositions(tiny, 0, 4, 0)
        for row in BoundarySearch(tiny, SamplingPlan(), one).runs(None)
    ]
    assert {row["starved"] for row in rows} == {0, 1}
    assert max(row["total_rate"] for row in rows) * 3600 > 10 * SEARCH.max_requests
    assert max(seen) < SEARCH.max_requests


def test_a_shorter_run_tells_the_same(tiny: DesignSpace) -> None:
    hour = replace(tiny, workload=tiny.workload.model_copy(update={"duration_s": 400.0}))
    one = compositions(hour, 0, 1, 0)[0]
    search = BoundarySearch(hour, SamplingPlan(max_runs=8), one)
    boundary = search.bracket(search.first_estimate(), SEARCH.bracketing_step).boundary
    for factor in (0.7, 1.5):
        rate = boundary * factor
        short = search.watched(rate).workload
        assert short.duration_s < 0.5 * 400.0
        verdicts = [
            judge(
                one.load(hour, rate),
                workload,
                hour.engine,
                hour.profile,
                max_loras=one.option.max_loras,
                max_lora_rank=one.option.max_lora_rank,
                service_levels=hour.service_levels,
                acceptance="paper",
                replications=1,
            )
            for workload in (hour.workload, short)
        ]
        whole, part = (verdict.served_share for verdict in verdicts)
        assert part == pytest.approx(whole, abs=0.02)
        assert verdicts[0].accepted == verdicts[1].accepted == (factor < 1)


@pytest.mark.parametrize("acceptance", ["sustained", *slow(one for one in ACCEPTANCES if one != "sustained")])
def test_runs_of_shipped_scenarios_are_as_long_as_all_are(acceptance: Acceptance) -> None:
    read = (scenarios.read(shipped.path, f"acceptance={acceptance}") for shipped in scenarios.shipped())
    for space in shipped_spaces((one, find_profile(one.model, "H100-64GB")) for one in read):
        for one in compositions(space, 0, 8, 0):
            search = BoundarySearch(space, SamplingPlan(), one)
            assert search.watched(SEARCH.heaviest * search.first_estimate()) is space
