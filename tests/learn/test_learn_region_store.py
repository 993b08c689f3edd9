from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import learn
from learn import region_store as make
from learn.design import SamplingPlan
from scenarios import Scenario, read
from scenarios.files import override, shipped
from twin.profile import EngineProfile, find_profile

TINY = SamplingPlan(compositions=24, round_size=24, max_runs=5, width=1.15, spread=0, seed=1)


def regions(
    scenario: Scenario, profile: EngineProfile, cache: Path, plan: SamplingPlan = TINY
) -> learn.Regions:
    return learn.regions_for(scenario, scenario.devices[0], profile, workers=1, cache_dir=cache, plan=plan)


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


def test_a_trace_has_the_regions_of_poisson_arrivals(scenario: Scenario, profile: EngineProfile) -> None:
    trace = override(scenario, ["workload.arrivals={process: trace, file: t.csv}"])
    device = scenario.devices[0]
    assert learn.space_for(trace, device, profile) == learn.space_for(scenario, device, profile)


# --- shipped regions -------------------------------------------------------------------------------


@pytest.mark.usefixtures("no_sampling")
@pytest.mark.parametrize("name", [one.name for one in shipped()])
def test_every_shipped_scenario_has_its_regions_ready(name: str, tmp_path: Path) -> None:
    scenario = read(name)
    profile = find_profile(scenario.model, scenario.devices[0].name)
    found = regions(scenario, profile, tmp_path, make.PLAN)
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
    assert regions(scenario, profile, tmp_path, make.PLAN).inner.options
    for path in edited.iterdir():
        document = json.loads(path.read_text(encoding="utf-8"))
        document["inner"]["options"][0]["rows"][0]["coefficients"][1] *= 40
        path.write_text(json.dumps(document), encoding="utf-8")
    make.shipped_regions.cache_clear()
    with pytest.raises(AssertionError, match="the twin was sampled"):
        regions(scenario, profile, tmp_path, make.PLAN)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == len(list(edited.iterdir()))
    assert all("json: its content is not what was written; it is left out, install" in one for one in said)


@pytest.mark.usefixtures("no_sampling", "edited")
def test_shipped_regions_of_other_confidences_are_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario = read("mixed_ranks")
    profile = find_profile(scenario.model, scenario.devices[0].name)
    monkeypatch.setattr(make, "OUTER_CONFIDENCE", 0.9)
    with pytest.raises(AssertionError, match="the twin was sampled"):
        regions(scenario, profile, tmp_path, make.PLAN)
