from __future__ import annotations

from pathlib import Path

import pytest

import learn
from learn import make
from learn.design import Plan
from scenarios import Scenario, read
from scenarios.catalogue import shipped
from scenarios.files import override
from twin.profile import EngineProfile, find_profile

TINY = Plan(compositions=24, round_size=24, max_runs=5, width=1.15, spread=0, seed=1)


def regions(scenario: Scenario, profile: EngineProfile, cache: Path, plan: Plan = TINY) -> learn.Regions:
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


@pytest.mark.parametrize("damage", [b"", b"{", b"\xff\xfe\x00"])
def test_a_damaged_cache_is_made_again(
    damage: bytes,
    made: learn.Regions,
    scenario: Scenario,
    profile: EngineProfile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(make, "make_regions", lambda *_, **__: made)
    assert regions(scenario, profile, tmp_path) == made
    (path,) = (tmp_path / "regions").iterdir()
    path.write_bytes(damage)
    assert regions(scenario, profile, tmp_path) == made
    assert "making it again" in caplog.text
    assert path.read_text(encoding="utf-8") == made.to_json()


def test_a_cache_that_cannot_be_written_is_no_failure(
    made: learn.Regions,
    scenario: Scenario,
    profile: EngineProfile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    monkeypatch.setattr(make, "make_regions", lambda *_, **__: made)
    assert regions(scenario, profile, tmp_path / "file") == made
    assert "cannot keep the regions" in caplog.text


@pytest.mark.usefixtures("no_sampling")
def test_no_option_that_starts_gives_empty_regions(
    scenario: Scenario, profile: EngineProfile, tmp_path: Path
) -> None:
    crowded = override(scenario, ["engine.slots=[2000]"])
    assert regions(crowded, profile, tmp_path).inner.options == ()


def test_the_cache_folder_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("LORAPACK_CACHE", str(tmp_path / "a"))
    assert make.cache_folder() == tmp_path / "a"
    monkeypatch.delenv("LORAPACK_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "b"))
    assert make.cache_folder() == tmp_path / "b" / "lorapack"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert make.cache_folder() == Path.home() / ".cache" / "lorapack"
    assert make.cache_folder(tmp_path) == tmp_path


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
