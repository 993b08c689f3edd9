from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import learn
from learn import LearnParams, SamplingPlan
from learn import region_store as make
from learn.design import plan_values
from learn.features import ADDITIVE
from learn.params import (
    BoundaryParams,
    DesignParams,
    LatencyFitParams,
    RegionFitParams,
    SearchParams,
    SurrogateParams,
)
from learn.region import FORMAT
from learn.storage.dataset import COLUMNS
from scenarios import Acceptance, Params, Scenario, override, read, shipped
from twin import EngineProfile, find_profile

TINY = SamplingPlan(compositions=24, round_size=24, max_runs=5, width=1.15, spread=0, seed=1)


def regions(
    scenario: Scenario,
    profile: EngineProfile,
    cache: Path,
    plan: SamplingPlan = TINY,
    params: LearnParams | None = None,
) -> learn.Regions:
    return learn.regions_for(
        scenario,
        scenario.devices[0],
        profile,
        workers=1,
        cache_dir=cache,
        plan=plan,
        params=params or LearnParams(),
    )


def of_group(group: Params) -> LearnParams:
    """Parameters of which one group is given."""
    name = next(n for n, info in LearnParams.model_fields.items() if info.annotation is type(group))
    return LearnParams(**{name: group})


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def made(scenario: Scenario, profile: EngineProfile, cache: Path) -> learn.Regions:
    return regions(scenario, profile, cache)


@pytest.fixture
def no_sampling(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the twin was sampled")

    monkeypatch.setattr(make, "sample", refuse)


def test_options_are_those_whose_memory_fits(made: learn.Regions) -> None:
    assert {(o.max_loras, o.max_lora_rank) for o in made.inner.options} == {(8, 16), (64, 16)}
    assert {o.regime for o in made.inner.options} == {"resident", "shared"}


@pytest.mark.usefixtures("no_sampling")
def test_the_second_time_comes_from_the_cache(
    made: learn.Regions, scenario: Scenario, profile: EngineProfile, cache: Path
) -> None:
    assert regions(scenario, profile, cache) == made


@pytest.mark.usefixtures("no_sampling")
@pytest.mark.parametrize(
    "change",
    [
        "seed=7",
        "objective=latency",
        "engine.max_model_len=4096",
        "devices[0].count=9",
        "adapters[0].count=50",
    ],
)
def test_what_does_not_change_how_a_gpu_serves_keeps_the_regions(
    change: str, made: learn.Regions, scenario: Scenario, profile: EngineProfile, cache: Path
) -> None:
    assert regions(override(scenario, [change]), profile, cache) == made


@pytest.mark.usefixtures("no_sampling")
@pytest.mark.parametrize(
    "change",
    [
        "engine.max_num_seqs=64",
        "engine.gpu_memory_utilization=0.8",
        "workload.output.tokens=151",
        "workload.duration_s=540",
        "service_levels.served_share=0.8",
        "service_levels.adapter_served_share=0.45",
        "service_levels.ttft_ms={p95: 2000}",
        "engine.max_cpu_loras=64",
    ],
)
def test_what_changes_how_a_gpu_serves_makes_new_regions(
    change: str, made: learn.Regions, scenario: Scenario, profile: EngineProfile, cache: Path
) -> None:
    assert made.inner.options
    with pytest.raises(AssertionError, match="the twin was sampled"):
        regions(override(scenario, [change]), profile, cache)


@pytest.mark.usefixtures("no_sampling")
def test_no_option_that_starts_gives_empty_regions(
    scenario: Scenario, profile: EngineProfile, tmp_path: Path
) -> None:
    crowded = override(scenario, ["engine.slots=[2000]"])
    assert regions(crowded, profile, tmp_path).inner.options == ()


def test_runs_of_the_paper_are_an_hour_at_most_with_half_of_it_to_warm_up(
    scenario: Scenario, profile: EngineProfile
) -> None:
    long = override(scenario, ["workload.duration_s=7200", "workload.warmup_s=3000"])
    said = learn.space_for(long, long.devices[0], profile).describe()
    assert (said["duration_s"], said["warmup_s"]) == (3600.0, 1800.0)


def test_another_plan_of_sampling_has_regions_of_its_own(space: learn.DesignSpace) -> None:
    names = {
        make.RegionRequest(space, replace(TINY, **changed), LearnParams()).key
        for changed in ({}, {"seed": 2}, {"compositions": 25}, {"width": 1.2}, {"confirmed": 3})
    }
    assert len(names) == 5


def test_a_trace_has_the_regions_of_poisson_arrivals_by_the_paper(
    scenario: Scenario, profile: EngineProfile
) -> None:
    trace = override(scenario, ["workload.arrivals={process: trace, file: t.csv}"])
    device = scenario.devices[0]
    assert learn.space_for(trace, device, profile) == learn.space_for(scenario, device, profile)


# --- shipped regions -------------------------------------------------------------------------------

AT_FIRST_USE = {
    "chat_sessions",
    "closed_loop_users",
    "limited_cpu_memory",
    "mixed_traffic",
    "odd_ranks",
    "public_trace",
    "speculative_decoding",
}
"""Shipped scenarios whose regions are made when they are first solved; `--missing` would ship them."""


def test_shipped_scenarios_without_regions_are_named() -> None:
    assert {one.name for one in shipped()} > AT_FIRST_USE


@pytest.mark.usefixtures("no_sampling")
@pytest.mark.parametrize("acceptance", ["sustained", "paper"])
@pytest.mark.parametrize("name", [one.name for one in shipped() if one.name not in AT_FIRST_USE])
def test_every_shipped_scenario_has_its_regions_ready(
    name: str, acceptance: Acceptance, tmp_path: Path
) -> None:
    scenario = read(name, f"acceptance={acceptance}")
    profile = find_profile(scenario.model, scenario.devices[0].name)
    found = regions(scenario, profile, tmp_path, make.PLANS[acceptance])
    assert found.inner.options
    assert not list(tmp_path.iterdir())


@pytest.fixture
def edited(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Path]:
    """A folder of shipped regions that somebody may edit."""
    folder = Path(shutil.copytree(make.SHIPPED, tmp_path / "shipped"))
    monkeypatch.setattr(make, "SHIPPED", folder)
    make.shipped_regions.cache_clear()
    yield folder
    make.shipped_regions.cache_clear()


@pytest.mark.usefixtures("no_sampling")
def test_a_shipped_file_that_was_edited_is_left_out(
    edited: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    scenario = read("mixed_ranks")
    profile = find_profile(scenario.model, scenario.devices[0].name)
    assert regions(scenario, profile, tmp_path, make.PLANS["sustained"]).inner.options
    for path in edited.iterdir():
        document = json.loads(path.read_text(encoding="utf-8"))
        document["inner"]["options"][0]["rows"][0]["coefficients"][1] *= 40
        path.write_text(json.dumps(document), encoding="utf-8")
    make.shipped_regions.cache_clear()
    with pytest.raises(AssertionError, match="the twin was sampled"):
        regions(scenario, profile, tmp_path, make.PLANS["sustained"])
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(list(edited.iterdir()))
    assert all("json: its content is not what was written; it is left out, install" in one for one in said)


@pytest.mark.usefixtures("no_sampling")
@pytest.mark.parametrize(
    "changed",
    [RegionFitParams(outer_confidence=0.9), BoundaryParams(rounds=4), LatencyFitParams(knots=(0.5,))],
)
def test_shipped_regions_are_those_of_the_defaults_alone(changed: Params, tmp_path: Path) -> None:
    scenario = read("mixed_ranks")
    profile = find_profile(scenario.model, scenario.devices[0].name)
    with pytest.raises(AssertionError, match="the twin was sampled"):
        regions(scenario, profile, tmp_path, make.PLANS["sustained"], of_group(changed))


@pytest.mark.usefixtures("no_sampling")
def test_regions_do_not_depend_on_how_surrogates_are_fitted(tmp_path: Path) -> None:
    scenario = read("mixed_ranks")
    profile = find_profile(scenario.model, scenario.devices[0].name)
    others = of_group(SurrogateParams(max_rules=8))
    assert regions(scenario, profile, tmp_path, make.PLANS["sustained"], others).inner.options


# --- parameters ------------------------------------------------------------------------------------


def key_of(content: dict[str, object]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:32]


def test_names_in_the_cache_are_those_from_before_there_were_parameters(
    space: learn.DesignSpace, tmp_path: Path
) -> None:
    request = make.RegionRequest(space, TINY, LearnParams())
    given = {"format": FORMAT, "space": space.describe(), "plan": plan_values(TINY)}
    confidences = {"inner_confidence": {"resident": 0.97, "shared": 0.83}, "outer_confidence": 0.995}
    assert request.key == key_of({"features": ADDITIVE, **given, **confidences})
    learn.sample(space, replace(TINY, compositions=1), cache=tmp_path)
    (folder,) = (tmp_path / "samples").iterdir()
    assert folder.name == key_of(
        {"columns": COLUMNS, **given, "plan": plan_values(replace(TINY, compositions=1))}
    )


@pytest.mark.usefixtures("made")
def test_other_parameters_make_other_regions_beside_those_of_the_defaults(
    scenario: Scenario, profile: EngineProfile, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {p: p.read_bytes() for p in cache.rglob("*") if p.is_file()}
    wide = of_group(RegionFitParams(unknown_factor=3.0))
    changed = regions(scenario, profile, cache, TINY, wide)
    assert changed.provenance.params == {"region_fit": {"unknown_factor": 3.0}}
    new = {p for p in cache.rglob("*") if p.is_file()} - before.keys()
    assert [p.parent.name for p in new] == ["regions"]  # the twin's runs are the same
    assert all(p.read_bytes() == content for p, content in before.items())

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("the twin was sampled")

    monkeypatch.setattr(make, "sample", refuse)
    assert regions(scenario, profile, cache, TINY, wide) == changed
    with pytest.raises(AssertionError, match="the twin was sampled"):
        regions(scenario, profile, cache, TINY, of_group(SearchParams(first_step=0.2)))


def test_runs_say_with_which_parameters_they_were_made(space: learn.DesignSpace, tmp_path: Path) -> None:
    few = replace(TINY, compositions=2, max_runs=1)
    params = of_group(DesignParams(max_skew=1.0))
    dataset = learn.sample(space, few, params=params, directory=tmp_path)
    assert dataset.metadata["params"] == {"design": {"max_skew": 1.0}}
    with pytest.raises(learn.DatasetError, match="another sampling"):
        learn.sample(space, few, directory=tmp_path)


@pytest.mark.usefixtures("no_sampling")
def test_known_regions_are_those_that_would_be_given_at_once(tmp_path: Path) -> None:
    scenario = read("paper_mixed_32")
    device, profile = scenario.devices[0], find_profile("llama-3.1-8b-instruct", "H100-64GB")
    known = learn.known_regions(scenario, device, profile, cache_dir=tmp_path)
    assert known == learn.regions_for(scenario, device, profile, cache_dir=tmp_path)


@pytest.mark.usefixtures("no_sampling")
def test_regions_that_would_have_to_be_made_are_not_known(tmp_path: Path) -> None:
    scenario = override(read("paper_mixed_32"), "service_levels.patience_s=7.125")
    profile = find_profile("llama-3.1-8b-instruct", "H100-64GB")
    assert learn.known_regions(scenario, scenario.devices[0], profile, cache_dir=tmp_path) is None


@pytest.mark.usefixtures("no_sampling")
def test_where_no_engine_starts_it_is_known_that_there_are_none(tmp_path: Path) -> None:
    scenario = override(read("paper_mixed_32"), "devices[0].memory_gib=12")
    profile = find_profile("llama-3.1-8b-instruct", "H100-64GB")
    known = learn.known_regions(scenario, scenario.devices[0], profile, cache_dir=tmp_path)
    assert known is not None
    assert known.inner.options == ()
