"""Learning under the criterion *sustained*: its spaces, its searches, and the boundaries found again."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

import learn
import learn.space as space_module
import scenarios
from learn import Dataset, DesignSpace, Regions, SamplingPlan
from learn.assessment import given_away
from learn.boundaries import boundary_search
from learn.boundaries.boundary import boundary_points
from learn.boundaries.boundary_search import BoundarySearch
from learn.design import Composition, compositions, confirmation_plan
from learn.features import ADDITIVE, WAIT_S, additive_columns
from learn.params import DEFAULTS, SearchParams
from learn.region_store import RegionRequest, make_regions
from learn.space import starting_options
from scenarios import (
    Acceptance,
    EngineConfig,
    PoissonArrivals,
    Scenario,
    TraceArrivals,
    TraceColumns,
    UnpredictableArrivals,
    override,
)
from twin import (
    FULL,
    LABEL,
    Criterion,
    Effort,
    EngineProfile,
    GPULoad,
    GPUVerdict,
    draw_requests,
    find_profile,
)
from twin.verdict import REJECTED_MARGIN
from twin.workload.walks import stationary_walk

FEW = SamplingPlan(compositions=12, round_size=12, max_runs=9, width=1.1, spread=0, confirmed=8, seed=5)
BRIEF = Effort(settle_s=60.0, measure_s=300.0, requests=100, longest_s=600.0, wander_s=300.0)


@pytest.fixture(scope="module")
def kept_up(scenario: Scenario) -> Scenario:
    """The small scenario by the default criterion."""
    return override(scenario, "acceptance=sustained")


@pytest.fixture(scope="module")
def kept_up_space(kept_up: Scenario, profile: EngineProfile) -> DesignSpace:
    return learn.space_for(kept_up, kept_up.devices[0], profile)


# --- the space -------------------------------------------------------------------------------------


def test_a_space_says_its_criterion_and_how_long_its_runs_are(kept_up_space: DesignSpace) -> None:
    said = kept_up_space.describe()
    assert json.loads(json.dumps(said)) == said
    assert (said["acceptance"], said["patience_s"], said["late_share"]) == ("sustained", 10.0, 0.01)
    assert said["effort"]["measure_s"] == LABEL.measure_s < FULL.measure_s
    assert said["replications"] == 1
    assert said["duration_s"] == LABEL.settle_s + LABEL.measure_s
    assert not {"warmup_s", "served_share", "adapter_served_share"} & said.keys()


def test_a_space_of_the_paper_says_nothing_of_the_other_criterion(space: DesignSpace) -> None:
    said = space.describe()
    assert {"warmup_s", "served_share", "adapter_served_share"} <= said.keys()
    assert not {"acceptance", "effort", "replications", "patience_s", "late_share"} & said.keys()


def described(scenario: Scenario, profile: EngineProfile, *changes: str) -> dict[str, Any]:
    changed = override(scenario, changes)
    return learn.space_for(changed, changed.devices[0], profile).describe()


@pytest.mark.parametrize("change", ["workload.duration_s=7000", "workload.warmup_s=30", "headroom=0.3"])
def test_what_the_criterion_does_not_look_at_keeps_the_regions(
    change: str, kept_up: Scenario, profile: EngineProfile
) -> None:
    assert described(kept_up, profile, change) == described(kept_up, profile)


@pytest.mark.parametrize(
    "change",
    [
        "service_levels.patience_s=5",
        "service_levels.late_share=0.02",
        "service_levels.ttft_ms={p95: 2000}",
        "service_levels.itl_ms={mean: 40}",
        "service_levels.e2e_ms={p50: 9000}",
        "acceptance=paper",
    ],
)
def test_what_the_criterion_looks_at_makes_others(
    change: str, kept_up: Scenario, profile: EngineProfile
) -> None:
    assert described(kept_up, profile, change) != described(kept_up, profile)


@pytest.mark.parametrize("part", ["rules", "memory", "step", "loads", "frontend"])
def test_a_profile_that_serves_otherwise_makes_others(
    part: str, kept_up: Scenario, profile: EngineProfile
) -> None:
    changes = {
        "rules": {"watermark": 0.01},
        "memory": {"context_gib": 0.8},
        "step": {"terms": profile.step.terms[:-1]},
        "loads": {"disk_s": 0.123},
        "frontend": {"first_token_s": 0.123},
    }
    changed = getattr(profile, part).model_copy(update=changes[part])
    assert changed != getattr(profile, part)
    other = profile.model_copy(update={part: changed})
    assert described(kept_up, other) != described(kept_up, profile)
    renamed = profile.model_copy(update={"first_read_s": 9.0})
    assert described(kept_up, renamed) == described(kept_up, profile)


SPECULATES = "{num_speculative_tokens: 3, mean_acceptance_length: 2.4, step_factor: 1.3}"


@pytest.mark.parametrize(
    "change",
    [
        "scheduler_reserve_full_isl=true",
        "watermark=0.01",
        "max_num_active_seqs=100",
        "max_num_scheduled_tokens=1000",
        f"speculative_config={SPECULATES}",
    ],
)
def test_arguments_that_an_engine_serves_by_make_others(
    change: str, kept_up: Scenario, profile: EngineProfile
) -> None:
    said = described(kept_up, profile, f"engine.{change}")
    assert json.loads(json.dumps(said)) == said
    plain = described(kept_up, profile)
    assert plain["engine"].items() < said["engine"].items()
    assert {**said, "engine": plain["engine"]} == plain


@pytest.mark.parametrize(
    "change",
    ["scheduling_policy=priority", "swap_space=16", "speculative_config={num_speculative_tokens: 3}"],
)
def test_arguments_that_are_not_modelled_keep_the_regions(
    change: str, kept_up: Scenario, profile: EngineProfile
) -> None:
    assert described(kept_up, profile, f"engine.{change}") == described(kept_up, profile)


def test_a_release_without_slots_of_a_rank_has_no_such_options(
    kept_up: Scenario, profile: EngineProfile
) -> None:
    older = profile.model_copy(
        update={"memory": profile.memory.model_copy(update={"engine_version": "0.7.0"})}
    )
    for rank, starts in ((256, True), (512, False)):
        for of, known in ((profile, True), (older, starts)):
            options = starting_options(of, EngineConfig(slots=(1,)), kept_up.devices[0], (rank,))
            assert bool(options) == known


def test_the_whole_rule_is_another_space(kept_up_space: DesignSpace) -> None:
    whole = kept_up_space.whole_rule()
    assert (whole.effort, whole.replications) == (FULL, 3)
    assert whole.describe() != kept_up_space.describe()
    requests = [RegionRequest(s, SamplingPlan(), DEFAULTS).key for s in (whole, kept_up_space)]
    assert len(set(requests)) == 2


def test_shortened_runs_are_shorter_in_all_parts(kept_up_space: DesignSpace) -> None:
    short = kept_up_space.shortened(0.1)
    assert short.run_s == pytest.approx(0.1 * kept_up_space.run_s)
    assert short.effort.requests == LABEL.requests / 10
    assert short.workload == kept_up_space.workload


# --- traces ----------------------------------------------------------------------------------------


def trace_file(folder: Path, name: str, seconds: float = 1.0) -> str:
    rows = [f"2024-01-01 00:00:{k * seconds:09.6f},100,50" for k in range(20)]
    path = folder / name
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    return str(path)


def of_trace(scenario: Scenario, profile: EngineProfile, file: str) -> DesignSpace:
    workload = scenario.workload.model_copy(update={"arrivals": TraceArrivals(file=file)})
    changed = scenario.model_copy(update={"workload": workload})
    return learn.space_for(changed, changed.devices[0], profile)


def test_a_trace_is_known_by_its_content_and_not_by_its_name(
    kept_up: Scenario, profile: EngineProfile, tmp_path: Path
) -> None:
    one, other_name = (of_trace(kept_up, profile, trace_file(tmp_path, n)) for n in ("a.csv", "b.csv"))
    slower = of_trace(kept_up, profile, trace_file(tmp_path, "a2.csv", 2.0))
    assert one.describe() == other_name.describe()
    assert one.describe() != slower.describe()
    assert "a.csv" not in json.dumps(one.describe())


@pytest.mark.parametrize(("acceptance", "kind"), [("sustained", TraceArrivals), ("paper", PoissonArrivals)])
def test_a_trace_is_sampled_as_a_trace_where_the_twin_watches_its_periods(
    acceptance: Acceptance,
    kind: type,
    kept_up: Scenario,
    profile: EngineProfile,
    tmp_path: Path,
    asked: list[dict[str, Any]],
) -> None:
    scenario = override(kept_up, f"acceptance={acceptance}")
    traced = of_trace(scenario, profile, trace_file(tmp_path, "a.csv"))
    (one,) = compositions(traced, 0, 1, 0)
    BoundarySearch(traced, FEW, one).observe(1.0, 0)
    assert isinstance(asked[0]["workload"].arrivals, kind)
    assert asked[0]["acceptance"] == acceptance


def test_a_trace_with_names_and_lengths_of_its_own_is_learned_as_it_is_but_dealt(
    kept_up: Scenario, profile: EngineProfile, tmp_path: Path
) -> None:
    (tmp_path / "named.csv").write_text(
        "arrival_time,prompt_tokens,output_tokens,lora\n"
        + "".join(f"{k}.5,{9000 + k},5,fr\n" for k in range(20))
    )
    columns = TraceColumns(adapter="lora")
    arrivals = TraceArrivals(file=str(tmp_path / "named.csv"), columns=columns, lengths=True)
    workload = kept_up.workload.model_copy(update={"arrivals": arrivals})
    changed = kept_up.model_copy(update={"workload": workload})
    space = learn.space_for(changed, changed.devices[0], profile)
    assert space.engine.max_model_len == kept_up.engine.max_model_len  # longer than the classes' lengths ask
    load = GPULoad.from_classes(kept_up.classes[:1])
    requests = draw_requests(load, space.workload, 0, 100.0, sustained=True)
    assert requests.prompt_tokens.min() >= 9000


# --- the design, and features ----------------------------------------------------------------------


def test_there_may_be_any_number_of_adapters_per_slot(space: DesignSpace, kept_up_space: DesignSpace) -> None:
    def most(of: DesignSpace) -> int:
        return max(len(c.weight) for c in compositions(of, 0, 200, 0) if c.option.max_loras == 8)

    assert most(space) <= 80 < 640 < most(kept_up_space)
    few = replace(kept_up_space, max_adapters=10)
    assert [few.most_adapters(option) for option in few.options] == [16, 128]


def test_features_are_at_the_judged_rates_and_wait_as_long_as_the_patience(kept_up: Scenario) -> None:
    impatient = override(kept_up, ["headroom=0.2", "service_levels.patience_s=5"])
    rates = np.array([c.rate for c in kept_up.classes])
    found = learn.scenario_features(impatient, impatient.classes)
    np.testing.assert_allclose(found, additive_columns(1.2 * rates, 200.0, 150.0, 150.0**2, 5.0))
    paper = override(kept_up, "acceptance=paper")
    found = learn.scenario_features(paper, paper.classes)
    np.testing.assert_allclose(found, additive_columns(rates, 200.0, 150.0, 150.0**2, WAIT_S))


def test_mixes_have_the_features_of_a_scenario(kept_up: Scenario, kept_up_space: DesignSpace) -> None:
    """Rows that are learned of mixes are those that a scenario's classes are held to."""
    one = Composition(0, kept_up_space.options[0], np.ones(1), np.full(1, 8), np.zeros(1, dtype=np.int32))
    (first, *_) = kept_up.classes
    expected = learn.scenario_features(kept_up, [first])[0]
    np.testing.assert_allclose(one.sums(kept_up_space, 1.05 * first.rate), expected)


# --- the search ------------------------------------------------------------------------------------


def verdict(accepted: bool, margin: float | None, **margins: float) -> GPUVerdict:
    return GPUVerdict(
        accepted=accepted,
        offered_tok_per_s=100.0,
        served_tok_per_s=100.0,
        served_share=1.0,
        worst_adapter="a0",
        worst_served_share=1.0,
        itl_ms=10.0,
        ttft_ms=100.0,
        itl_p99_ms=20.0,
        ttft_p99_ms=200.0,
        kv_cache_tokens=1000,
        margins={Criterion(code): value for code, value in margins.items()},
        margin=margin,
    )


def margin_by(acceptance: str, said: GPUVerdict) -> float:
    search = SimpleNamespace(space=SimpleNamespace(acceptance=acceptance))
    return BoundarySearch._margin(search, said)  # type: ignore[arg-type]


def test_the_margin_of_a_run_has_the_sign_of_its_verdict() -> None:
    assert margin_by("sustained", verdict(accepted=True, margin=0.7)) == 0.7
    # Rejected for its growth, though few are late.
    assert margin_by("sustained", verdict(accepted=False, margin=0.7)) == -REJECTED_MARGIN


def test_the_margin_of_the_paper_is_that_of_its_shares() -> None:
    assert margin_by("paper", verdict(True, 0.7, served_share=0.05, ttft_mean=0.2)) == 0.05
    assert margin_by("paper", verdict(False, 0.7, served_share=-5.0)) == -1.0


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What a twin is asked whose GPUs carry ten requests a second, of whom all wait equally long.

    Below that waits are those of a queue; above they grow with the surplus until the run ends.
    """
    calls: list[dict[str, Any]] = []

    def judge(load: GPULoad, workload: object, *_: object, effort: Effort, **more: Any) -> GPUVerdict:
        rate, patience_s = float(load.rate.sum()), more["service_levels"].patience_s
        calls.append({"rate": rate, "workload": workload, "effort": effort, **more})
        if rate < 10.0:
            wait_s = min(0.1 / (1 - rate / 10.0), patience_s)
        else:
            wait_s = 1.01 * patience_s + (effort.settle_s + effort.measure_s) * (1 - 10.0 / rate)
        return verdict(rate < 10.0, math.log(patience_s / wait_s), served_share=0.05)

    monkeypatch.setattr(boundary_search, "judge", judge)
    return calls


@pytest.fixture
def search(kept_up_space: DesignSpace) -> BoundarySearch:
    (one,) = compositions(kept_up_space, 0, 1, 0)
    plan = SamplingPlan(max_runs=20, width=1.04)
    return BoundarySearch(kept_up_space, plan, one)


@pytest.mark.parametrize("over", [1.05, 1.5, 4.0])
def test_a_starved_run_tells_by_its_waits_how_much_is_too_much(over: float, search: BoundarySearch) -> None:
    longest_s = search.space.run_s * (1 - 1 / over)
    margin = math.log(search.space.service_levels.patience_s / longest_s)
    assert search._excess(margin) == pytest.approx(math.log(over))


def test_waits_beyond_the_run_tell_no_more_than_a_heavy_overload(search: BoundarySearch) -> None:
    assert search._excess(-50.0) == pytest.approx(math.log(10.0))


@pytest.mark.parametrize(("start", "most_runs"), [(2.5, 12), (9.5, 6), (10.5, 5), (40.0, 9)])
def test_the_boundary_is_bracketed_from_either_side(
    start: float, most_runs: int, search: BoundarySearch, asked: list[dict[str, Any]]
) -> None:
    bracket = search.bracket(start, search.params.search.first_step)
    low, high = math.exp(bracket.accepted[0]), math.exp(bracket.starved[0])
    assert low < 10.0 <= high <= 1.04 * low
    assert low <= bracket.boundary <= high
    assert len(asked) <= most_runs
    assert {(call["acceptance"], call["replications"]) for call in asked} == {("sustained", 1)}
    assert {call["effort"] for call in asked} == {LABEL}


def test_a_gpu_far_from_its_limit_is_loaded_more_boldly(search: BoundarySearch) -> None:
    near, far = (next_step(search, margin) for margin in (0.1, SearchParams().near_margin + 1.0))
    assert near == pytest.approx(SearchParams().overshoot)
    assert far == pytest.approx(0.05)


def next_step(search: BoundarySearch, margin: float) -> float:
    """By how much the logarithm of the load grows after an accepted run."""
    bracket = boundary_search.Bracket([], search.params.boundary)
    bracket.add({"total_rate": 1.0, "margin": margin, "starved": 0})
    return search._beyond(bracket, 0.1)


def test_short_runs_that_tell_where_to_begin_are_a_tenth(
    search: BoundarySearch, asked: list[dict[str, Any]]
) -> None:
    assert search.rough_boundary() == pytest.approx(10.0, rel=0.2)
    assert {call["effort"] for call in asked} == {LABEL.shortened(0.1)}


def test_the_first_estimate_is_near_what_the_twin_sustains(kept_up_space: DesignSpace) -> None:
    brief = replace(kept_up_space, effort=BRIEF, max_adapters=60)
    for one in compositions(brief, 0, 4, 0):
        search = BoundarySearch(brief, replace(FEW, max_runs=8), one)
        estimate = search.first_estimate()
        assert 0.1 < estimate / search.bracket(estimate, 0.7).boundary < 10


# --- rates that wander -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def wandering() -> DesignSpace:
    return space_of_file("unpredictable_load")


def space_of_file(name: str, *overrides: str) -> DesignSpace:
    given = scenarios.read(name, list(overrides))
    return learn.space_for(given, given.devices[0], find_profile(given.model, given.devices[0].name))


def test_how_far_rates_wander_is_the_variance_of_their_walk(wandering: DesignSpace) -> None:
    arrivals = wandering.workload.arrivals
    assert isinstance(arrivals, UnpredictableArrivals)
    walk = stationary_walk(arrivals, 200, 2000, np.random.default_rng(0))
    assert wandering.wander == pytest.approx(walk.var(), rel=0.05)


@pytest.mark.parametrize(
    ("name", "acceptance"), [("mixed_ranks", "sustained"), ("unpredictable_load", "paper")]
)
def test_others_do_not_wander(name: str, acceptance: str) -> None:
    space = space_of_file(name, f"acceptance={acceptance}")
    assert space.wander == 0.0
    assert space.labelled(shared=False) is space


def test_few_adapters_whose_rates_wander_are_labelled_by_the_whole_rule(wandering: DesignSpace) -> None:
    assert wandering.labelled(shared=False) == wandering.whole_rule()
    assert wandering.labelled(shared=True) is wandering


def test_features_of_a_scenario_have_the_variance_of_its_judged_rates(wandering: DesignSpace) -> None:
    scenario = scenarios.read("unpredictable_load", ["headroom=0.2"])
    column = learn.scenario_features(scenario, scenario.classes)[:, ADDITIVE.index("output_variance")]
    output = np.array([1.2 * c.rate * c.output.mean_tokens for c in scenario.classes])
    np.testing.assert_allclose(column, wandering.wander * output**2 / 1e6)


# --- boundaries found again ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def brief_rule() -> Iterator[Effort]:
    """The whole rule, with runs that a test can wait for."""
    whole = replace(BRIEF, measure_s=600.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(space_module, "FULL", whole)
        patch.setattr(space_module, "REPLICATIONS", 2)
        yield whole


@pytest.fixture(scope="module")
def brief(kept_up_space: DesignSpace) -> DesignSpace:
    return replace(kept_up_space, effort=BRIEF, max_adapters=60)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("sustained")


@pytest.fixture(scope="module")
def made(brief: DesignSpace, brief_rule: Effort, folder: Path) -> tuple[Dataset, Regions]:
    assert brief.whole_rule().effort == brief_rule
    return make_regions(brief, FEW, workers=1, directory=folder)


@pytest.fixture(scope="module")
def confirmed(made: tuple[Dataset, Regions], folder: Path) -> Dataset:
    assert made[0].metadata["plan"]["confirmed"] == FEW.confirmed
    return learn.read_dataset(folder / "confirmed" / "round-0000.csv")


def test_the_first_boundaries_are_found_again_by_the_whole_rule(
    made: tuple[Dataset, Regions], confirmed: Dataset, brief_rule: Effort
) -> None:
    dataset, regions = made
    assert confirmed.metadata["space"]["effort"]["measure_s"] == brief_rule.measure_s
    assert confirmed.metadata["space"]["replications"] == 2
    assert confirmed.metadata["plan"]["compositions"] == FEW.confirmed
    assert set(confirmed.groups) == set(range(FEW.confirmed))
    assert regions.provenance.runs == len(dataset) + len(confirmed)
    assert regions.provenance.plan["confirmed"] == FEW.confirmed


def test_they_are_looked_for_near_those_of_the_shorter_runs(
    made: tuple[Dataset, Regions], confirmed: Dataset
) -> None:
    points = boundary_points(made[0])
    known = dict(zip(points.composition.tolist(), points.middle[:, ADDITIVE.index("rate")], strict=True))
    first = confirmed.table[confirmed.table["run"] == 0].set_index("composition")["total_rate"]
    both = [c for c in known if c in first.index]
    assert len(both) >= FEW.confirmed - 2
    for number in both:
        assert first[number] == pytest.approx(known[number], rel=1e-6)
    mixes = confirmed.table.groupby("composition")["count"].first()
    assert (mixes == made[0].table.groupby("composition")["count"].first()[: FEW.confirmed]).all()


def test_regions_are_those_of_both_runs_and_their_rows_say_what_they_limit(
    made: tuple[Dataset, Regions], confirmed: Dataset, brief: DesignSpace
) -> None:
    dataset, regions = made
    again = learn.linearize(dataset, brief, confirmed=confirmed, command=regions.provenance.command)
    assert again.to_json() == regions.to_json()
    for region, last in ((regions.inner, ["most adapters that were sampled"]), (regions.outer, [])):
        for option in region.options:
            resident = option.regime == "resident"
            expected = ["work", "a slot for every adapter"] if resident else ["work", "slots in use", *last]
            assert [row.meaning for row in option.rows] == expected


def test_the_plan_of_what_is_confirmed_is_of_the_same_mixes() -> None:
    plan = confirmation_plan(FEW)
    assert (plan.compositions, plan.confirmed, plan.spread) == (FEW.confirmed, 0, 0)
    assert (plan.seed, plan.width) == (FEW.seed, FEW.width)


# --- what they change ------------------------------------------------------------------------------


def moved(dataset: Dataset, space: DesignSpace, factor: float, of: range) -> Dataset:
    """Runs of some compositions with the same verdicts at so many times their loads."""
    runs = dataset.where(np.isin(dataset.groups, of))
    mixes = compositions(space, 0, of.stop, dataset.metadata["plan"]["seed"])
    table = runs.table.copy()
    table["total_rate"] *= factor
    table[list(ADDITIVE)] = np.stack(
        [mixes[k].sums(space, rate) for k, rate in zip(runs.groups, table["total_rate"], strict=True)]
    )
    return Dataset(table, runs.metadata)


def shifts(dataset: Dataset, space: DesignSpace, *confirmed: Dataset) -> dict[str, float]:
    """By what the rows for shared slots are multiplied where boundaries are found again elsewhere.

    Of the inner and the outer region; median over the options.
    """
    again = Dataset(pd.concat([one.table for one in confirmed], ignore_index=True), dataset.metadata)
    same = moved(dataset, space, 1.0, range(40))
    first, second = (learn.linearize(dataset, space, confirmed=one) for one in (same, again))
    found = {}
    for kind in ("inner", "outer"):
        pairs = zip(getattr(first, kind).options, getattr(second, kind).options, strict=True)
        ratios = [b.coefficients[0].sum() / a.coefficients[0].sum() for a, b in pairs if a.regime == "shared"]
        found[kind] = float(np.median(ratios))
    return found


def test_boundaries_that_are_found_where_they_were_change_nothing(
    dataset: Dataset, space: DesignSpace
) -> None:
    same = moved(dataset, space, 1.0, range(40))
    plain, held = learn.linearize(dataset, space), learn.linearize(dataset, space, confirmed=same)
    for kind in ("inner", "outer"):
        for a, b in zip(getattr(plain, kind).options, getattr(held, kind).options, strict=True):
            np.testing.assert_allclose(b.coefficients, a.coefficients, rtol=0.06)


def test_boundaries_that_are_found_a_tenth_lower_shrink_the_rows_by_it(
    dataset: Dataset, space: DesignSpace
) -> None:
    lower = moved(dataset, space, 0.9, range(40))
    found = shifts(dataset, space, lower)
    # A tenth less load is up to a tenth less of what the rows count: the adapters themselves stay.
    assert 1.04 < found["inner"] < 1 / 0.9 + 0.03
    assert 1.04 < found["outer"] < 1 / 0.9 + 0.03
    same = learn.linearize(dataset, space, confirmed=moved(dataset, space, 1.0, range(40)))
    held = learn.linearize(dataset, space, confirmed=lower)
    before, after = (given_away(r.inner, dataset, space) for r in (same, held))
    further = ((1 + after["given_away"]) / (1 + before["given_away"]))[before["regime"] == "shared"]
    assert float(further.median()) == pytest.approx(1 / 0.9, abs=0.05)


def test_boundaries_that_are_found_lower_or_higher_shrink_the_inner_and_widen_the_outer_rows(
    dataset: Dataset, space: DesignSpace
) -> None:
    lower, higher = moved(dataset, space, 0.8, range(20)), moved(dataset, space, 1.25, range(20, 40))
    found = shifts(dataset, space, lower, higher)
    assert found["inner"] > 1.03
    assert found["outer"] < 0.97


def test_boundaries_of_other_mixes_say_nothing(dataset: Dataset, space: DesignSpace) -> None:
    others = moved(dataset, space, 0.8, range(40))
    others = Dataset(others.table.assign(composition=others.table["composition"] + 1000), others.metadata)
    plain, held = learn.linearize(dataset, space), learn.linearize(dataset, space, confirmed=others)
    assert (held.inner, held.outer) == (plain.inner, plain.outer)
