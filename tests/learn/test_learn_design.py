from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations

import pytest

import learn
from learn import DesignSpace, SamplingPlan
from learn.boundaries.boundary_search import BoundarySearch
from learn.design import TEST_SEED, assessment_plan, compositions
from learn.space import Option, no_option
from optimizer.cli import main
from scenarios import Adapter, AdapterSLO, FixedLengths, LatencyLimits, Scenario, ScenarioError, override
from twin import EngineProfile


@pytest.fixture(scope="module")
def cramped(scenario: Scenario, profile: EngineProfile) -> DesignSpace:
    """A space on a GPU that holds no engine."""
    small = override(scenario, ["devices[0].memory_gib=5"])
    return learn.space_for(small, small.devices[0], profile)


# --- memory that holds no engine -------------------------------------------------------------------


def test_a_gpu_without_room_for_an_engine_says_which_and_what_to_do(cramped: DesignSpace) -> None:
    assert not cramped.options
    text = str(no_option(cramped))
    for part in ("memory_gib is 5 on H100-64GB", "8 slots of rank 16", "use a GPU with more memory"):
        assert part in text


def test_a_space_without_options_cannot_be_sampled(cramped: DesignSpace) -> None:
    with pytest.raises(ScenarioError, match=r"memory_gib is 5 .* fits"):
        learn.sample(cramped, SamplingPlan(compositions=4, round_size=4))
    with pytest.raises(ScenarioError, match="more memory"):
        compositions(cramped, 0, 1, 0)


def test_fitting_a_scenario_without_room_ends_as_solving_it_does(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("mixed_ranks", "--set", "devices[0].memory_gib=5", "--quiet")
    for command in ("solve", "fit"):
        monkeypatch.setattr("sys.argv", ["lorapack", command, *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        assert stop.value.code == 3
        shown = capsys.readouterr()
        assert "with 8 slots" in " ".join((shown.out + shown.err).split())
        assert ("no engine configuration fits" in shown.err) == (command == "fit")


# --- values that sample nothing --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "value", "remedy"),
    [
        ("compositions", 0, "at least 1"),
        ("round_size", 0, "at least 1"),
        ("round_size", 1.5, "at least 1"),
        ("max_runs", -1, "at least 1"),
        ("max_runs", True, "at least 1"),
        ("spread", -1, "at least 0"),
        ("seed", -1, "at least 0"),
        ("width", 1.0, "above 1"),
        ("width", math.nan, "above 1"),
        ("width", math.inf, "above 1"),
    ],
)
def test_a_plan_that_samples_nothing_is_refused_by_field(name: str, value: object, remedy: str) -> None:
    with pytest.raises(ScenarioError, match=rf"plan: 1 problem\n  {name} is {value!r}; give .*{remedy}"):
        replace(SamplingPlan(), **{name: value})


def test_the_plan_of_a_test_has_mixes_of_its_own() -> None:
    test = assessment_plan(SamplingPlan(), 50)
    assert (test.seed, test.compositions) == (TEST_SEED, 50)
    assert test.width < SamplingPlan().width
    assert test.spread > SamplingPlan().spread
    with pytest.raises(ScenarioError, match="compositions is 0"):
        assessment_plan(SamplingPlan(), 0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("memory_gib", 0.0, r"memory_gib is 0\.0; give"),
        ("memory_gib", math.nan, "memory_gib is nan; give"),
        ("max_adapters", 0, "max_adapters is 0; give"),
        ("traffic", (), "traffic is empty; give"),
        ("ranks", (), r"ranks are \(\); give"),
        ("ranks", (16, 8), r"ranks are \(16, 8\); give"),
        (
            "options",
            (Option("H100-64GB", 8, 4, 1000),),
            r"options\[0\] is .*max_lora_rank=4.*; raise its rank to 8",
        ),
        ("options", (Option("H100-64GB", 8, 16, 0),), r"options\[0\] is .*kv_cache_tokens=0.*; give"),
    ],
)
def test_a_space_in_which_a_gpu_can_be_given_nothing_is_refused(
    name: str, value: object, message: str, space: DesignSpace
) -> None:
    with pytest.raises(ScenarioError, match=rf"space: 1 problem\n  {message}"):
        replace(space, **{name: value})  # type: ignore[arg-type]


def test_a_gpu_has_the_memory_of_its_profile_unless_the_scenario_says_other(
    scenario: Scenario, profile: EngineProfile
) -> None:
    for stated, expected in ((None, profile.gpu_memory_gib), (80.0, 80.0)):
        device = scenario.devices[0].model_copy(update={"memory_gib": stated})
        assert profile.memory_of(device) == expected
        assert learn.space_for(scenario, device, profile).memory_gib == expected


# --- adapters with levels of their own -------------------------------------------------------------

STRICT = AdapterSLO(itl_ms=LatencyLimits(mean=25.0))


@pytest.fixture(scope="module")
def mixed(scenario: Scenario) -> Scenario:
    """Some of the adapters are strict, with lengths of their own."""
    own = Adapter(
        name="own", count=2, rank=16, rate=0.3, output=FixedLengths(tokens=60), service_levels=STRICT
    )
    return scenario.model_copy(update={"adapters": (*scenario.adapters, own)})


def test_every_mix_has_adapters_with_the_levels_and_they_are_alike(
    mixed: Scenario, profile: EngineProfile
) -> None:
    space = learn.space_for(mixed, mixed.devices[0], profile, levels=STRICT)
    assert space.own_levels is not None
    ((rank, pair),) = space.own_levels.kinds
    assert (rank, space.traffic[pair].output) == (16, FixedLengths(tokens=60))
    mixes = compositions(space, 0, 40, 3)
    for mix in mixes:
        load = mix.load(space, 5.0)
        strict = [k for k, levels in enumerate(load.levels) if levels == STRICT]
        ((levels, adapters),) = load.groups()
        assert (levels, adapters.tolist()) == (STRICT, strict)
        assert {(load.rank[k], load.output[k]) for k in strict} == {(16, FixedLengths(tokens=60))}
        assert load.rate.sum() == pytest.approx(5.0)
    alone = [all(mix.strict) for mix in mixes if mix.strict is not None]
    assert 0 < sum(alone) < 20


def test_mixes_are_as_ever_without_levels(mixed: Scenario, profile: EngineProfile) -> None:
    space = learn.space_for(mixed, mixed.devices[0], profile)
    assert space.own_levels is None
    assert "own_levels" not in space.describe()
    assert all(
        mix.strict is None and mix.load(space, 1.0).levels == () for mix in compositions(space, 0, 8, 3)
    )


def test_regions_of_levels_are_others(mixed: Scenario, profile: EngineProfile) -> None:
    device, laxer = mixed.devices[0], AdapterSLO(itl_ms=LatencyLimits(mean=30.0))
    *others, own = mixed.adapters
    adapters = (*others, own.model_copy(update={"service_levels": laxer}))
    described = [
        learn.space_for(mixed, device, profile).describe(),
        learn.space_for(mixed, device, profile, levels=STRICT).describe(),
        learn.space_for(
            mixed.model_copy(update={"adapters": adapters}), device, profile, levels=laxer
        ).describe(),
    ]
    assert described[1]["own_levels"]["levels"] == {"itl_ms": {"mean": 25.0}}
    assert all(a != b for a, b in combinations(described, 2))


@pytest.mark.parametrize("acceptance", ["paper", "sustained"])
def test_the_boundary_of_a_mix_is_where_its_strict_adapters_are_too_slow(
    acceptance: str, mixed: Scenario, profile: EngineProfile
) -> None:
    """At a load that the GPU bears, and its strict adapters do not."""
    changed = override(mixed, f"acceptance={acceptance}")
    space = learn.space_for(changed, changed.devices[0], profile, levels=STRICT)
    mix = next(one for one in compositions(space, 0, 40, 3) if not one.shared and len(one.weight) > 4)
    row = BoundarySearch(space, SamplingPlan(), mix).observe(24.0, 0)
    without = replace(mix, strict=None)
    free = BoundarySearch(space, SamplingPlan(), without).observe(24.0, 0)
    assert (row["starved"], free["starved"]) == (1, 0)
    assert row["margin"] < 0 < free["margin"]


@pytest.mark.parametrize("acceptance", ["paper", "sustained"])
def test_the_search_steps_as_far_as_a_limited_latency_is_off(
    acceptance: str, mixed: Scenario, profile: EngineProfile
) -> None:
    """From half and from twice the boundary it is bracketed within a few runs."""
    changed = override(mixed, f"acceptance={acceptance}")
    space = learn.space_for(changed, changed.devices[0], profile, levels=STRICT)
    assert space.limits_latencies
    mix = next(one for one in compositions(space, 0, 40, 3) if not one.shared and len(one.weight) > 4)
    search = BoundarySearch(space, SamplingPlan(max_runs=6, width=1.04), mix)
    for start in (10.0, 40.0):
        bracket = search.bracket(start, 0.1)
        assert math.isfinite(bracket.width)
        assert bracket.width < 0.4
