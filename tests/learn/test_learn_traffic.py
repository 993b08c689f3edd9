"""Mixed traffic: kinds that differ in arrivals, common prompts and patience, and the base model."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import learn
from learn import DesignSpace, Engines, SamplingPlan, candidate_features
from learn.boundaries.boundary import boundary_points
from learn.design import compositions
from learn.features import ADDITIVE, FEATURES, additive_columns
from learn.latency.floor import fit_floors
from learn.params import DEFAULTS
from learn.storage.dataset import dataset_of
from learn.traffic.kinds import TrafficKind
from learn.traffic.unsteadiness import is_steady, unsteadiness
from scenarios import (
    AdapterSLO,
    Arrivals,
    FixedLengths,
    GammaArrivals,
    OnOffArrivals,
    PoissonArrivals,
    PromptReuse,
    Scenario,
    Sessions,
    TraceArrivals,
    UnpredictableArrivals,
    from_mapping,
)
from twin import EngineProfile

BURSTY = {"process": "gamma", "cv": 4}


def scenario_of(*entries: dict[str, Any], **other: Any) -> Scenario:
    """Entries on one kind of GPU with eight slots."""
    values = {
        "name": "traffic",
        "model": "llama-3.1-8b-instruct",
        "adapters": list(entries),
        "workload": {"prompt": 200, "output": 150, "duration_s": 600},
        "devices": [{"name": "H100-64GB", "count": 4}],
        "engine": {"slots": [8, 32], "max_lora_rank": 16},
    }
    return from_mapping(values | other)


ADAPTERS = {"name": "a", "count": 12, "rank": [8, 16], "rate": [0.5, 1.0]}
BASE = {"name": "base", "rate": 3.0}
JOBS = {"name": "job", "count": 4, "rank": 8, "rate": 0.5, "arrivals": BURSTY, "prompt": 600, "output": 50}


def space_of(scenario: Scenario, profile: EngineProfile) -> DesignSpace:
    return learn.space_for(scenario, scenario.devices[0], profile)


@pytest.fixture(scope="module")
def mixed() -> Scenario:
    patient = JOBS | {"service_levels": {"patience_s": 60}}
    return scenario_of(ADAPTERS, patient, BASE)


@pytest.fixture(scope="module")
def mixed_space(mixed: Scenario, profile: EngineProfile) -> DesignSpace:
    return space_of(mixed, profile)


def columns(scenario: Scenario) -> dict[str, np.ndarray]:
    """Features of one adapter of each class, by name."""
    found = learn.scenario_features(scenario, scenario.classes)
    return dict(zip(ADDITIVE, found.T, strict=True))


# --- kinds ---------------------------------------------------------------------------------------------


def test_traffic_that_only_differs_in_lengths_is_described_as_ever(profile: EngineProfile) -> None:
    space = space_of(scenario_of(ADAPTERS), profile)
    (kind,) = space.traffic
    assert kind == TrafficKind(FixedLengths(tokens=200), FixedLengths(tokens=150))
    fixed = [{"distribution": "fixed", "tokens": tokens} for tokens in (200, 150)]
    assert space.describe()["lengths"] == [fixed]


def test_in_mixed_traffic_every_kind_says_how_it_arrives_and_how_long_it_waits(
    mixed_space: DesignSpace,
) -> None:
    told = [(kind.arrivals, kind.patience_s, kind.base) for kind in mixed_space.traffic]
    assert told == [
        (GammaArrivals(cv=4), 60.0, False),
        (PoissonArrivals(), None, False),
        (PoissonArrivals(), None, True),
    ]
    own = [described[2] for described in mixed_space.describe()["lengths"]]
    assert own[0] == {"arrivals": {"process": "gamma", "cv": 4.0}, "patience_s": 60.0}
    assert own[2] == {"arrivals": {"process": "poisson"}, "base": True}


def test_ranks_of_a_space_are_those_of_adapters(mixed_space: DesignSpace, profile: EngineProfile) -> None:
    assert mixed_space.ranks == (8, 16)
    alone = scenario_of(BASE, engine={"slots": [8]})
    space = space_of(alone, profile)
    assert (space.ranks, learn.needed_ranks(alone)) == ((8,), (8,))
    assert {option.max_lora_rank for option in space.options} == {8}
    for mix in compositions(space, 0, 8, 0):
        assert not mix.rank.any()
        assert not mix.shared


def test_no_way_to_arrive_is_thinned_out(profile: EngineProfile) -> None:
    many = [
        JOBS | {"name": f"j{k}", "output": 20 + k, "arrivals": {"process": "gamma", "cv": 2 + k % 3}}
        for k in range(30)
    ]
    space = space_of(scenario_of(ADAPTERS, *many), profile)
    assert {kind.arrivals for kind in space.traffic} == {
        PoissonArrivals(), *(GammaArrivals(cv=cv) for cv in (2, 3, 4))
    }  # fmt: skip
    assert len(space.traffic) <= DEFAULTS.design.max_length_pairs


def test_regions_of_the_paper_take_every_entry_s_trace_for_poisson(
    profile: EngineProfile, tmp_path: Path
) -> None:
    trace = JOBS | {"arrivals": {"process": "trace", "file": str(tmp_path / "absent.csv")}}
    space = space_of(scenario_of(ADAPTERS, trace, acceptance="paper"), profile)
    assert {kind.arrivals for kind in space.traffic} == {PoissonArrivals()}
    assert space.steady


# --- features ------------------------------------------------------------------------------------------


def test_the_base_model_takes_no_slot_and_its_parts_add_up(mixed: Scenario) -> None:
    found = columns(mixed)
    base = [c.rank for c in mixed.classes].index(0)
    for name in ("count", "sqrt_rate", *(n for n in ADDITIVE if n.startswith(("active_", "held_")))):
        assert found[name][base] == 0
        assert (np.delete(found[name], base) > 0).all()
    assert found["rate"][base] == pytest.approx(3.0 * mixed.judged_load)
    whole = additive_columns([3.0], 200.0, 150.0, 150.0**2, bursts=0.25, adapter=0.0)
    parts = additive_columns([1.0, 2.0], 200.0, 150.0, 150.0**2, bursts=0.25, adapter=0.0)
    np.testing.assert_allclose(parts.sum(axis=0), whole[0])


def test_spreads_of_rates_and_ranks_are_of_the_adapters_alone() -> None:
    engine = Engines(*(np.array([value]) for value in (8.0, 16.0, 1e5)))

    def figures(counts: list[int]) -> dict[str, float]:
        tokens = np.array([200.0, 200.0, 200.0])
        found = candidate_features([1.0, 2.0, 50.0], [8, 16, 0], tokens, tokens, tokens**2, [counts], engine)
        return dict(zip((f.name for f in FEATURES), found[0], strict=True))

    without, beside, alone = figures([3, 2, 0]), figures([3, 2, 1]), figures([0, 0, 1])
    for name in ("count", "rate_std", "rate_max", "rank_mean", "rank_max", "rank_std", "slot_demand"):
        assert beside[name] == pytest.approx(without[name])
        assert alone[name] == 0
    assert beside["rate"] == pytest.approx(without["rate"] + 50)


def test_prompts_in_common_are_held_whole_and_computed_in_part() -> None:
    reuse = PromptReuse(system_prompt=400, sessions=Sessions(turns=5, think_s=10))
    kind = TrafficKind(FixedLengths(tokens=100), FixedLengths(tokens=50), reuse=reuse)
    whole = 400 + 100 * 3 + 50 * 2  # turns 1 to 5 have as many new parts, and an answer less
    assert kind.whole_prompt_tokens == whole
    assert kind.computed_prompt_tokens(prefix_caching=False) == whole
    assert kind.computed_prompt_tokens(prefix_caching=True) == 100
    measured = kind._replace(reuse=PromptReuse(cached_share=0.75), prompt=FixedLengths(tokens=400))
    assert measured.computed_prompt_tokens(prefix_caching=False) == 100
    assert measured.whole_prompt_tokens == 400
    entry = {"name": "c", "rank": 8, "rate": 1.0, "cached_share": 0.75, "prompt": 400}
    found = columns(scenario_of(entry))
    assert found["prompt_rate"][0] == pytest.approx(1.05 * 100)
    assert found["resident_rate"][0] == pytest.approx(1.05 * (400 * 150 + 150**2 / 2) / 1e6)


@pytest.mark.parametrize(("argument", "computed"), [(None, 100), (True, 100), (False, 500)])
def test_features_know_that_an_engine_caches_unless_it_is_told_not_to(
    argument: bool | None, computed: float
) -> None:
    entry = {"name": "c", "rank": 8, "rate": 1.0, "system_prompt": 400, "prompt": 100}
    scenario = scenario_of(entry)
    engine = scenario.engine.model_copy(update={"enable_prefix_caching": argument})
    found = columns(scenario.model_copy(update={"engine": engine}))
    assert found["prompt_rate"][0] == pytest.approx(1.05 * computed)


def test_the_longest_request_has_all_turns() -> None:
    kind = TrafficKind(
        FixedLengths(tokens=100), FixedLengths(tokens=50), reuse=PromptReuse(30, Sessions(turns=4))
    )
    assert kind.longest_tokens == 30 + 4 * 150


def test_every_class_waits_as_long_as_its_own_patience(mixed: Scenario) -> None:
    held = columns(mixed)["held_40ms"]
    hasty = columns(scenario_of(ADAPTERS, JOBS | {"service_levels": {"patience_s": 1}}, BASE))["held_40ms"]
    job = [c.names[0] for c in mixed.classes].index("job-1")
    assert hasty[job] > held[job]
    np.testing.assert_allclose(np.delete(hasty, job), np.delete(held, job))


# --- how far from steady -------------------------------------------------------------------------------


def test_a_burst_counts_by_the_variance_of_the_gaps_over_the_patience() -> None:
    found = unsteadiness("sustained", GammaArrivals(cv=4), 30.0, 100.0)
    assert (found.wander, found.bursts) == (0.0, pytest.approx(15 / 30))
    for steady in (PoissonArrivals(), GammaArrivals(cv=0.5)):
        assert unsteadiness("sustained", steady, 30.0, 100.0).bursts == 0


@pytest.mark.parametrize("wait_s", [0.01, 20.0, 300.0])
def test_a_switched_rate_varies_as_its_mean_over_the_patience_does(wait_s: float) -> None:
    """Against long records of on and off periods."""
    on, off, rng = 30.0, 90.0, np.random.default_rng(0)
    lengths = np.stack([rng.exponential(on, 200_000), rng.exponential(off, 200_000)], axis=1).ravel()
    ends = np.cumsum(lengths)
    on_until = np.cumsum(np.where(np.arange(len(lengths)) % 2 == 0, lengths, 0.0))  # seconds on by each end
    at = np.arange(0.0, ends[-1] - wait_s, max(wait_s, 10.0))
    times, totals = np.concatenate([[0.0], ends]), np.concatenate([[0.0], on_until])
    share = (np.interp(at + wait_s, times, totals) - np.interp(at, times, totals)) / wait_s
    expected = float((share / share.mean()).var())
    found = unsteadiness("sustained", OnOffArrivals(on_s=on, off_s=off), wait_s, 100.0)
    assert found.wander == pytest.approx(expected, rel=0.03)


def test_what_rises_together_adds_up_with_the_rate_and_not_with_its_square() -> None:
    alone = unsteadiness("sustained", OnOffArrivals(on_s=60, off_s=60), 10.0, 100.0)
    grouped = unsteadiness("sustained", OnOffArrivals(on_s=60, off_s=60, group="g"), 10.0, 100.0)
    assert alone.wander > 0 == alone.bursts
    assert grouped.bursts > 0 == grouped.wander
    walk = unsteadiness("sustained", UnpredictableArrivals(group="g"), 10.0, 100.0)
    assert walk.bursts > 0 == walk.wander


def test_a_trace_varies_as_its_parts_do(tmp_path: Path) -> None:
    def trace(name: str, rate: Any) -> TraceArrivals:
        rng, at, lines = np.random.default_rng(1), 0.0, ["Timestamp,Request tokens,Response tokens"]
        while at < 20_000:
            at += rng.exponential(1.0 / rate(at))
            lines.append(f"{at:.3f},100,50")
        (tmp_path / name).write_text("\n".join(lines) + "\n")
        return TraceArrivals(file=str(tmp_path / name))

    level = unsteadiness("sustained", trace("level.csv", lambda _: 1.0), 10.0, 100.0)
    waves = trace("waves.csv", lambda at: 1.0 + 0.8 * math.sin(2 * math.pi * at / 20_000))
    swinging = unsteadiness("sustained", waves, 10.0, 100.0)
    assert swinging.bursts == pytest.approx(2000 * 0.8 / math.sqrt(2) / 100, rel=0.1)
    assert level.bursts < 0.2 * swinging.bursts


@pytest.mark.parametrize(
    ("arrivals", "steady"),
    [(PoissonArrivals(), True), (GammaArrivals(cv=4), True), (OnOffArrivals(on_s=9, off_s=9), False)],
)
def test_floors_are_of_traffic_whose_every_kind_is_steady(
    arrivals: Arrivals, steady: bool, profile: EngineProfile
) -> None:
    assert is_steady(arrivals) == steady
    space = space_of(scenario_of(ADAPTERS, JOBS | {"arrivals": arrivals.model_dump()}), profile)
    assert space.steady == steady
    if not steady:
        nothing: Any = None  # of runs that are not looked at
        assert fit_floors(nothing, None, space, DEFAULTS.latency_floor) == ()


def test_slow_switches_are_labelled_by_the_whole_rule(profile: EngineProfile) -> None:
    def space(on_off_s: float, group: str | None = None) -> DesignSpace:
        arrivals = {"process": "on_off", "on_s": on_off_s, "off_s": on_off_s, "group": group}
        return space_of(scenario_of(ADAPTERS, JOBS | {"arrivals": arrivals}), profile)

    quick, slow, together = space(20.0), space(1800.0), space(1800.0, "shops")
    assert (quick.wander, slow.wander) == (0.0, 1.0)
    assert [quick.labelled(shared=shared).replications for shared in (False, True)] == [1, 1]
    assert [slow.labelled(shared=shared).replications for shared in (False, True)] == [3, 1]
    assert [together.labelled(shared=shared).replications for shared in (False, True)] == [3, 3]


# --- mixes ---------------------------------------------------------------------------------------------


def test_mixes_have_none_some_or_only_traffic_of_the_base_model(mixed_space: DesignSpace) -> None:
    mixes = compositions(mixed_space, 0, 120, 5)
    shares = np.array([mix.weight[mix.rank == 0].sum() for mix in mixes])
    shared = np.array([mix.shared for mix in mixes])
    assert 0.1 < (shares == 0).mean() < 0.4
    assert (shares > 1 - 1e-9).sum() >= 2
    assert not shared[shares > 1 - 1e-9].any()
    assert len(np.unique(np.round(shares, 2))) > 30
    assert shared.mean() == pytest.approx(0.75)
    for mix in mixes:
        assert mix.weight.sum() == pytest.approx(1.0)
        assert ((mix.rank == 0) == [mixed_space.traffic[k].base for k in mix.kind]).all()


def test_a_mix_is_loaded_with_the_traffic_of_its_kinds(mixed_space: DesignSpace) -> None:
    mix = max(compositions(mixed_space, 0, 40, 5), key=lambda one: len(set(one.kind.tolist())))
    load = mix.load(mixed_space, 6.0)
    kinds = [mixed_space.traffic[k] for k in mix.kind]
    assert set(mix.kind.tolist()) == {0, 1, 2}
    assert load.arrivals == tuple(kind.arrivals for kind in kinds)
    assert {level for level in load.levels if level} == {AdapterSLO(patience_s=60)}
    assert load.reuse == ()
    sums = dict(zip(ADDITIVE, mix.sums(mixed_space, 6.0), strict=True))
    assert sums["count"] == np.count_nonzero(load.rank)
    assert sums["rate"] == pytest.approx(6.0)


@pytest.fixture(scope="module")
def brief(mixed_space: DesignSpace) -> DesignSpace:
    """With runs that a test can wait for."""
    return mixed_space.shortened(0.1)


PLAN = SamplingPlan(compositions=48, round_size=24, width=1.1, spread=0, seed=2)


@pytest.mark.slow
def test_rows_are_learned_from_mixed_traffic(brief: DesignSpace) -> None:
    runs = learn.sample(brief, PLAN, overloads=False)
    regions = learn.linearize(runs, brief)
    assert len(boundary_points(runs).engines) >= 36
    for slots in (8, 32):
        light = additive_columns([4.0], 200.0, 150.0, 150.0**2, adapter=0.0)[0]
        fills = [regions.inner.fill(slots, 16, k * light) for k in (1.0, 2.0)]
        assert 0 < fills[0] < 1
        assert fills[1] == pytest.approx(2 * fills[0])  # any part of the base model fills its share
        assert regions.outer.fill(slots, 16, light) <= fills[0]


def test_runs_of_the_base_model_alone_are_kept(brief: DesignSpace) -> None:
    runs = learn.sample(brief, replace(PLAN, compositions=12, round_size=12, seed=6), overloads=False)
    assert (runs.target("count") == 0).any()
    assert dataset_of(runs.text()).table.equals(runs.table)
