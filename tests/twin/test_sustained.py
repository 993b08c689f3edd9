"""The criterion *sustained*: how long is watched, who is late, what grows, and what a verdict then says."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import scenarios
import twin
from scenarios import (
    AdapterClass,
    AdapterSLO,
    ClosedLoopArrivals,
    EngineConfig,
    EngineOption,
    FixedLengths,
    GammaArrivals,
    HyperexponentialArrivals,
    LatencyLimits,
    OnOffArrivals,
    PiecewiseArrivals,
    PoissonArrivals,
    ServiceLevelObjectives,
    TraceArrivals,
    UnpredictableArrivals,
    Workload,
)
from twin import Criterion, Effort, GPUContent, GPUVerdict, TwinJudge
from twin.sustained.pooled import Pooled, longest_awaited_s
from twin.sustained.rule import verdict_of
from twin.sustained.waits import Waits

PROMPT, OUTPUT = FixedLengths(tokens=222), FixedLengths(tokens=195)
WORKLOAD = Workload(prompt=PROMPT, output=OUTPUT, duration_s=600.0)
SHORT = Effort(settle_s=200.0, measure_s=1200.0, requests=10, longest_s=1200.0, wander_s=1200.0)


@pytest.fixture(scope="module")
def profile() -> twin.EngineProfile:
    return twin.find_profile("llama-3.1-8b-instruct", "H100-64GB")


def load_of(*rates: float, levels: AdapterSLO | None = None) -> twin.GPULoad:
    return twin.GPULoad.from_classes(
        [AdapterClass(8, rate, PROMPT, OUTPUT, (f"a{k}",), levels) for k, rate in enumerate(rates)]
    )


def judged(profile: twin.EngineProfile, load: twin.GPULoad, **changes: Any) -> GPUVerdict:
    arguments: dict[str, Any] = {
        "max_loras": 8,
        "max_lora_rank": 8,
        "service_levels": ServiceLevelObjectives(),
        "effort": SHORT,
        "replications": 2,
    }
    workload = changes.pop("workload", WORKLOAD)
    return twin.judge(load, workload, EngineConfig(max_model_len=4096), profile, **(arguments | changes))


# --- how long is watched ---------------------------------------------------------------------------


def observed(arrivals: scenarios.Arrivals, rate: float = 1.0, patience_s: float = 10.0) -> twin.Observation:
    return twin.observation_of([arrivals], rate, patience_s)


@pytest.mark.parametrize(
    ("rate", "seconds"), [(10.0, 14_400.0), (0.1, 20_000.0), (1 / 30, 60_000.0), (0.001, 86_400.0)]
)
def test_steady_arrivals_are_watched_for_hours_and_for_2000_requests(rate: float, seconds: float) -> None:
    for arrivals in (PoissonArrivals(), GammaArrivals(cv=3.0)):
        watched = observed(arrivals, rate)
        assert (watched.settle_s, watched.measure_s) == (1800.0, pytest.approx(seconds))
        assert watched.horizon_s == pytest.approx(1800 + seconds + 10)


def test_growth_is_measured_between_the_first_and_the_last_quarter() -> None:
    assert observed(PoissonArrivals()).compared == ((1800.0, 5400.0), (12_600.0, 16_200.0))


@pytest.mark.parametrize(
    ("window_s", "factors", "settle_s", "measure_s"),
    [
        (600.0, (1.0, 2.0), 2400.0, 14_400.0),
        (3600.0, (1.0,) * 24, 86_400.0, 86_400.0),
        (500.0, (1.0, 0.5, 1.5), 3000.0, 15_000.0),
    ],
)
def test_arrivals_that_repeat_are_watched_for_whole_periods(
    window_s: float, factors: tuple[float, ...], settle_s: float, measure_s: float
) -> None:
    watched = observed(PiecewiseArrivals(window_s=window_s, factors=factors))
    assert (watched.settle_s, watched.measure_s) == (settle_s, measure_s)
    (first, _), (last, end) = watched.compared
    assert first >= 0
    assert end == watched.end_s
    assert (last - first) % (window_s * len(factors)) == pytest.approx(0.0, abs=1e-6)


def test_rates_that_wander_are_watched_for_eight_hours() -> None:
    assert observed(UnpredictableArrivals()).measure_s == 28_800.0


@pytest.mark.parametrize(
    ("cycle_s", "seconds"), [(2.0, 28_800.0), (100.0, 28_800.0), (200.0, 57_600.0), (7200.0, 86_400.0)]
)
def test_switched_rates_are_watched_for_many_of_their_periods(cycle_s: float, seconds: float) -> None:
    assert observed(OnOffArrivals(on_s=cycle_s / 4, off_s=3 * cycle_s / 4)).measure_s == pytest.approx(
        seconds
    )


@pytest.mark.parametrize(
    "arrivals", [HyperexponentialArrivals(cv=4), ClosedLoopArrivals(users=9, think_s=90)], ids=repr
)
def test_bursts_and_users_are_watched_like_steady_arrivals(arrivals: scenarios.Arrivals) -> None:
    assert observed(arrivals, 0.1).measure_s == pytest.approx(20_000.0)
    assert observed(arrivals, 0.1).period_s is None


def test_several_processes_are_watched_as_long_as_the_longest_asks_in_whole_periods() -> None:
    hour, week = (PiecewiseArrivals(window_s=w, factors=(1.0, 2.0)) for w in (1800.0, 302_400.0))
    walk, steady = UnpredictableArrivals(), PoissonArrivals()

    def of(*arrivals: scenarios.Arrivals, rate: float = 1.0) -> tuple[float, float, float | None]:
        watched = twin.observation_of(arrivals, rate, 10.0)
        return watched.settle_s, watched.measure_s, watched.period_s

    assert of(steady, walk) == (1800.0, 28_800.0, None)
    assert of(steady, hour) == (3600.0, 14_400.0, 3600.0)
    assert of(hour, steady, rate=0.1) == (3600.0, 21_600.0, 3600.0)  # 2,000 requests take 20,000 s
    assert of(hour, week, walk) == (604_800.0, 604_800.0, 604_800.0)


def test_a_verdict_watches_what_its_adapters_send(profile: twin.EngineProfile) -> None:
    """An entry's walk makes a GPU watched for longer, and only if the GPU serves it."""
    calm, walk = load_of(2.0, 1.0), replace(load_of(2.0, 1.0), arrivals=(None, UnpredictableArrivals()))
    effort = replace(SHORT, wander_s=3600.0)
    due = [judged(profile, load, effort=effort).sustained.due for load in (calm, walk)]
    assert due[0] == pytest.approx(2 * 3 * 1200, rel=0.1)
    assert due[1] == pytest.approx(2 * 3 * 3600, rel=0.3)


def test_the_requests_of_a_verdict_are_those_of_its_processes(profile: twin.EngineProfile) -> None:
    scenario = scenarios.read("mixed_traffic")
    judge = TwinJudge(scenario, {"H100-64GB": profile})
    option = EngineOption("H100-64GB", 8, 32)
    chat, _, job, shop = (one.kind for one in scenario.classes)
    calm, shops = (judge.requests(GPUContent(option, ((chat, 2), (other, 2)))) for other in (chat, shop))
    assert calm == pytest.approx(1.05 * 3.2 * (1800 + 14_400 + 10) * 3)
    assert shops == pytest.approx(1.05 * 2.2 * (1800 + 86_400 + 10) * 3)
    jobs = judge.requests(GPUContent(option, ((job, 2),)))  # which may wait for a minute
    assert jobs == pytest.approx(1.05 * 1.0 * (1800 + 14_400 + 60) * 3)


def test_the_verdict_does_not_look_at_the_workloads_duration(profile: twin.EngineProfile) -> None:
    """Whatever a file says of how long to simulate, a GPU keeps up or it does not."""
    said = {
        judged(profile, load_of(5.0, 4.0), workload=WORKLOAD.model_copy(update=changes)).model_dump_json()
        for changes in (
            {"duration_s": 900.0},
            {"duration_s": 28_800.0},
            {"duration_s": 7200.0, "warmup_s": 600.0},
        )
    }
    assert len(said) == 1


# --- the rule, on requests made by hand --------------------------------------------------------------


def run_of(
    waits: list[tuple[int, float, float]], n: int, *, growth_per_s: float = 0.0, seconds: float = 3600.0
) -> Waits:
    """A run from the adapter, the arrival and the wait of each request."""
    waits = sorted(waits, key=lambda one: one[1])
    adapter, arrival, wait = (np.array(column) for column in zip(*waits, strict=True))
    return Waits(
        adapter=adapter.astype(np.int32),
        arrival_s=arrival.astype(float),
        wait_s=wait.astype(float),
        e2e_s=wait + 10.0,
        tpot_s=np.full(len(waits), 0.05),
        gap_counts=np.zeros(4, dtype=np.int64),
        gap_seconds=np.full(n, 0.05),
        n_gaps=np.ones(n),
        growth_per_s=growth_per_s,
        offered_tokens=100.0,
        served_tokens=100.0,
        due_shares=np.ones(n),
        seconds=seconds,
    )


def said_of(
    runs: list[Waits],
    load: twin.GPULoad,
    levels: ServiceLevelObjectives | None = None,
    period_s: float | None = None,
) -> GPUVerdict:
    pooled = Pooled(load, levels or ServiceLevelObjectives(), runs, period_s)
    return verdict_of(pooled, headroom=0.0, kv_cache_tokens=1, cut_requests=0)


def codes(verdict: GPUVerdict) -> set[Criterion]:
    return {violation.code for violation in verdict.violations}


def mixed(n: int, late: int, adapter: int = 0, apart_s: float = 20.0) -> list[tuple[int, float, float]]:
    """So many requests of an adapter, the first of which are late, one after the other."""
    return [(adapter, apart_s * k, 11.0 if k < late else 0.1) for k in range(n)]


def test_one_late_request_in_a_hundred_is_allowed_and_not_one_more() -> None:
    load = load_of(1.0)
    enough = said_of([run_of(mixed(1000, 10), 1)], load)
    assert enough.accepted
    assert enough.margin is not None
    assert enough.margin > 0
    more = said_of([run_of(mixed(1000, 11), 1)], load)
    assert codes(more) == {Criterion.LATE_SHARE}
    assert more.margin is not None
    assert more.margin < 0
    assert more.violations[0].sentence == (
        "1.1 % of the requests wait longer than 10 s for the first token, where 1 % may"
    )


def test_late_requests_are_pooled_over_the_runs() -> None:
    load = load_of(1.0)
    assert said_of([run_of(mixed(500, 8), 1), run_of(mixed(500, 2), 1)], load).accepted
    assert not said_of([run_of(mixed(500, 8), 1), run_of(mixed(500, 3), 1)], load).accepted


@given(st.lists(st.floats(0.01, 100.0), min_size=1, max_size=60), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_margin_has_the_sign_of_the_rule(waits: list[float], share: float) -> None:
    levels = ServiceLevelObjectives(late_share=share)
    verdict = said_of(
        [run_of([(0, 30.0 * k, wait) for k, wait in enumerate(waits)], 1)], load_of(1.0), levels
    )
    too_many = sum(wait > 10.0 for wait in waits) > share * len(waits) + 1e-9
    assert (Criterion.LATE_SHARE in codes(verdict)) == too_many
    assert verdict.margin is not None
    assert (verdict.margin < 0) == too_many


def test_a_class_is_held_to_the_limit_from_300_requests_on() -> None:
    """Two adapters of one rate are exchangeable, and together have enough requests to be judged."""
    load = load_of(1.0, 0.1, 0.1)
    few = [*mixed(2000, 0), *mixed(149, 2, 1, 200.0), *mixed(149, 2, 2, 200.0)]
    assert said_of([run_of(few, 3)], load).accepted
    enough = [*mixed(2000, 0), *mixed(150, 2, 1, 200.0), *mixed(150, 2, 2, 200.0)]
    verdict = said_of([run_of(enough, 3)], load)
    assert codes(verdict) == {Criterion.CLASS_LATE_SHARE}
    assert [one.name for one in verdict.violations[0].adapters] == ["a1", "a2"]
    assert verdict.starved == ("a1", "a2")
    assert verdict.sustained is not None
    assert (verdict.sustained.worst_class, verdict.sustained.worst_class_size) == ("a1", 2)


def test_adapters_of_equal_lengths_are_alike_though_these_are_several_objects() -> None:
    lengths = [FixedLengths(tokens=222) for _ in range(4)] + [FixedLengths(tokens=223)]
    load = twin.GPULoad.from_classes(
        [AdapterClass(8, 1.0, one, one.model_copy(), (f"a{k}",)) for k, one in enumerate(lengths)]
    )
    first, *others, last = load.kind_of()
    assert others == [first] * 3
    assert last != first


def test_an_adapter_is_judged_late_where_chance_does_not_explain_it() -> None:
    load = load_of(1.0, 0.1)
    n, late = 100, 7
    assert stats.binom.sf(late - 1, n, 0.01) < 0.001 / 2 < stats.binom.sf(late - 2, n, 0.01)
    rest = mixed(5000, 0)
    assert said_of([run_of([*rest, *mixed(n, late - 1, 1)], 2)], load).accepted
    verdict = said_of([run_of([*rest, *mixed(n, late, 1)], 2)], load)
    assert codes(verdict) == {Criterion.ADAPTER_LATE_SHARE}
    assert verdict.sustained is not None
    assert (verdict.sustained.latest_adapter, verdict.sustained.latest_adapter_late_share) == ("a1", 0.07)


def test_waits_that_overlap_are_one_event() -> None:
    """A slot that is held too long makes all requests late that wait for it: that is bad luck once."""
    load = load_of(1.0, 0.1)
    together = [(1, 1.0 * k, 20.0 - k) for k in range(8)] + [(1, 100.0 + 10 * k, 0.1) for k in range(92)]
    assert said_of([run_of([*mixed(5000, 0), *together], 2)], load).accepted
    apart = [(1, 30.0 * k, 20.0 - k) for k in range(8)] + [(1, 300.0 + 10 * k, 0.1) for k in range(92)]
    assert not said_of([run_of([*mixed(5000, 0), *apart], 2)], load).accepted


def test_equal_lengths_in_objects_of_their_own_are_one_class() -> None:
    own = [FixedLengths(tokens=222) for _ in range(3)]
    load = twin.GPULoad.from_classes(
        [AdapterClass(8, 1.0, one, OUTPUT, (f"a{k}",)) for k, one in enumerate(own)]
    )
    assert load.kind_of().tolist() == [0, 0, 0]
    assert load_of(1.0, 2.0, 1.0).kind_of().tolist() == [0, 1, 0]


def test_the_class_nearest_to_its_limit_suffers_first() -> None:
    """Of its adapters the one of which the most requests wait beyond what the class may."""
    load = load_of(1.0, 0.5, 0.5)
    busy = [(0, 2.0 * k, 0.2 + 1e-4 * k) for k in range(1000)]
    slow = [(1 + k % 2, 4.0 * k, 3.0 if k % 97 == 0 else 1.0 + 1e-3 * (k % 2)) for k in range(500)]
    verdict = said_of([run_of([*busy, *slow], 3)], load)
    assert verdict.accepted
    assert verdict.first_to_suffer in {"a1", "a2"}
    patient = load_of(1.0, 0.5, 0.5, levels=AdapterSLO(patience_s=1000.0))
    assert patient.levels is not None
    levels = (None, *patient.levels[1:])  # as long a patience of the slow ones puts the busy one first
    patient = twin.GPULoad(load.names, load.rank, load.rate, load.prompt, load.output, levels)
    assert said_of([run_of([*busy, *slow], 3)], patient).first_to_suffer == "a0"


def test_a_rare_adapter_suffers_first_where_chance_does_not_explain_its_waits() -> None:
    load = load_of(1.0, 0.1)
    for slow, first in ((7, "a1"), (1, "a0")):
        rare = [(1, 20.0 * k, 5.0 if k < slow else 0.1) for k in range(100)]
        busy = [(0, 1.0 * k, 2.0 if k % 150 == 0 else 0.1 + 1e-5 * k) for k in range(5000)]
        verdict = said_of([run_of([*busy, *rare], 2)], load)
        assert verdict.accepted
        assert verdict.first_to_suffer == first
    assert said_of([run_of([(0, 0.0, 0.1)], 2)], load).first_to_suffer == "a0"


def test_the_adapter_that_is_rejected_as_the_load_grows_was_named_before(
    profile: twin.EngineProfile,
) -> None:
    """A hot adapter keeps the only slot as its load grows, and the others wait for it."""
    verdicts = [judged(profile, load_of(hot, 0.1, 0.1), max_loras=1) for hot in (0.2, 0.3, 0.4, 0.6)]
    number = next(k for k, verdict in enumerate(verdicts) if not verdict.accepted)
    assert number > 0
    first = verdicts[number - 1].first_to_suffer
    assert first in {"a1", "a2"}
    assert first in {adapter.name for one in verdicts[number].violations for adapter in one.adapters}


def test_an_adapter_without_requests_is_not_judged_and_counted() -> None:
    verdict = said_of([run_of(mixed(1000, 0), 3)], load_of(1.0, 1e-5, 2e-5))
    assert verdict.accepted
    assert verdict.sustained is not None
    assert verdict.sustained.not_judged == 2


def test_growth_is_held_against_a_share_of_the_arrivals() -> None:
    load, seconds = load_of(1.0), 3600.0
    arrivals = 1000 / seconds
    for factor, accepted in ((0.9, True), (1.1, False)):
        run = run_of(mixed(1000, 0, apart_s=3.0), 1, growth_per_s=factor * 0.005 * arrivals, seconds=seconds)
        verdict = said_of([run], load)
        assert verdict.accepted == accepted
        assert codes(verdict) <= {Criterion.GROWTH}
        assert verdict.sustained is not None
        assert verdict.sustained.growth_per_h == pytest.approx(factor * 0.005 * 1000)
    assert "unfinished requests become 5.5 more every hour, above the 5" in verdict.reasons[0]


def test_growth_is_the_mean_of_the_runs() -> None:
    allowed = 0.005 * 1000 / 3600
    for factors, accepted in (((0.6, 1.3), True), ((0.8, 1.3), False)):
        runs = [run_of(mixed(1000, 0, apart_s=3.0), 1, growth_per_s=factor * allowed) for factor in factors]
        assert said_of(runs, load_of(1.0)).accepted == accepted


def test_the_smallest_share_of_an_adapter_over_the_runs_is_told() -> None:
    runs = [
        replace(run_of(mixed(1000, 0), 2), due_shares=np.array(shares)) for shares in ((0.9, 0.7), (0.6, 1.0))
    ]
    verdict = said_of(runs, load_of(1.0, 1.0))
    assert (verdict.worst_adapter, verdict.worst_served_share) == ("a0", 0.6)


def test_waits_of_one_adapter_are_no_part_of_those_of_another() -> None:
    """However late one waits, what the next one waits for before are events of its own."""
    late_at_the_end = [(0, 100_000.0 + 30 * k, 11.0) for k in range(20)]
    apart = [(1, 30.0 * k, 12.0 if k < 8 else 0.1) for k in range(100)]
    verdict = said_of([run_of([*mixed(5000, 0), *late_at_the_end, *apart], 2)], load_of(1.0, 0.1))
    assert codes(verdict) == {Criterion.ADAPTER_LATE_SHARE}


@pytest.mark.parametrize("runs", [1, 2])
def test_the_interval_of_the_late_share_is_that_of_its_hours(runs: int) -> None:
    """One late request of an hour's hundred and three of the next one's, in one run or in two."""
    hours = [[(0, 30.0 * k, 11.0 if k < late else 0.1) for k in range(100)] for late in (1, 3)]
    if runs == 1:
        later = [(adapter, 3600.0 + arrival, wait) for adapter, arrival, wait in hours[1]]
        watched = [run_of([*hours[0], *later], 1, seconds=7200.0)]
    else:
        watched = [run_of(hour, 1) for hour in hours]
    figures = said_of(watched, load_of(1.0), ServiceLevelObjectives(late_share=0.5)).sustained
    assert figures is not None
    assert figures.late_share == 0.02
    assert figures.late_share_low == 0.0
    assert figures.late_share_high == pytest.approx(0.02 + stats.t.ppf(0.975, 1) / 100)


def test_no_hour_of_a_period_is_sacrificed_to_the_mean() -> None:
    load, period = load_of(1.0), 4 * 3600.0
    quiet = [(0, float(t), 0.1) for t in range(0, 4 * 3600, 2)]
    peak = [(0, 7200.0 + 10 * k, 15.0) for k in range(20)] + [(0, 7205.0 + 9 * k, 0.1) for k in range(300)]
    waits = [one for one in quiet if not 7200 <= one[1] < 10_800] + peak
    verdict = said_of([run_of(waits, 1, seconds=period)], load, period_s=period)
    assert codes(verdict) == {Criterion.HOUR_LATE_SHARE}
    assert "in hour 3 of the arrivals' period" in verdict.reasons[0]
    assert said_of(
        [run_of(waits, 1, seconds=period)], load
    ).accepted  # without a period there is no such hour


def test_latencies_are_over_all_requests_and_those_without_token_have_waited_until_the_end() -> None:
    load = load_of(1.0)
    levels = ServiceLevelObjectives(ttft_ms=LatencyLimits(p99=2000.0), patience_s=100.0)
    waits = [(0, 20.0 * k, 5.0 if k < 15 else 0.1) for k in range(1000)]
    verdict = said_of([run_of(waits, 1)], load, levels)
    assert codes(verdict) == {Criterion.TTFT_P99}
    assert verdict.margin is not None
    assert verdict.margin == pytest.approx(math.log(2.0 / 5.0))


def test_a_request_without_its_last_token_is_as_old_as_it_was_at_the_end(profile: twin.EngineProfile) -> None:
    """An overload that completes next to nothing of what comes late is not judged by what completed."""
    verdict = judged(profile, load_of(60.0, 30.0), replications=1)
    table = verdict.latencies
    assert table.ttft.p99 is not None
    assert table.e2e.p99 is not None
    assert table.e2e.p99 >= table.ttft.p99 > 100_000
    limited = ServiceLevelObjectives(e2e_ms=LatencyLimits(p50=60_000.0))
    missed = judged(profile, load_of(60.0, 30.0), replications=1, service_levels=limited)
    assert Criterion.E2E_P50 in codes(missed)


def test_a_run_goes_on_until_limits_on_percentiles_are_decided() -> None:
    own = AdapterSLO(e2e_ms=LatencyLimits(p90=40_000.0, mean=90_000.0), itl_ms=LatencyLimits(p99=70_000.0))
    load = load_of(1.0, levels=own)
    assert longest_awaited_s(load_of(1.0), ServiceLevelObjectives()) == 10.0
    assert longest_awaited_s(load, ServiceLevelObjectives()) == 40.0
    levels = ServiceLevelObjectives(ttft_ms=LatencyLimits(p99=50_000.0), patience_s=20.0)
    assert longest_awaited_s(load, levels) == 50.0
    endless = ServiceLevelObjectives(ttft_ms=LatencyLimits(p99=1e12))
    assert longest_awaited_s(load, endless) == 86_400.0


def test_an_entry_may_be_more_patient_than_the_rest() -> None:
    patient = AdapterSLO(patience_s=60.0)
    load = twin.GPULoad.from_classes(
        [
            AdapterClass(8, 1.0, PROMPT, OUTPUT, ("chat",)),
            AdapterClass(8, 1.0, PROMPT, OUTPUT, ("batch",), patient),
        ]
    )
    waits = [*mixed(1000, 0), *((1, 60.0 * k, 50.0) for k in range(1000))]
    assert said_of([run_of(waits, 2)], load).accepted
    assert not said_of([run_of([(1 - a, t, w) for a, t, w in waits], 2)], load).accepted


def test_a_limit_within_the_interval_of_the_late_share_is_close() -> None:
    load = load_of(1.0)
    rng = np.random.default_rng(0)
    waits = [(0, 3.6 * k, 12.0 if rng.random() < 0.009 else 0.1) for k in range(12_000)]
    near = said_of([run_of(waits, 1, seconds=43_200.0)], load).sustained
    assert near is not None
    assert near.late_share_low is not None
    assert near.late_share_high is not None
    assert near.late_share_low < 0.009 < near.late_share_high
    assert near.close
    far = said_of([run_of(mixed(12_000, 0, apart_s=3.6), 1, seconds=43_200.0)], load).sustained
    assert far is not None
    assert not far.close


# --- verdicts of the twin ------------------------------------------------------------------------------


def test_a_light_load_is_sustained_and_an_overload_is_not(profile: twin.EngineProfile) -> None:
    light, heavy = (judged(profile, load_of(*rates)) for rates in ((2.0, 1.0), (60.0, 40.0)))
    assert light.accepted
    assert light.sustained is not None
    assert (light.sustained.late_share, light.starved) == (0.0, ())
    assert {Criterion.LATE_SHARE, Criterion.GROWTH} <= codes(heavy)
    assert heavy.margin is not None
    assert light.margin is not None
    assert heavy.margin < 0 < light.margin


def test_headroom_is_more_load(profile: twin.EngineProfile) -> None:
    more = judged(profile, load_of(6.0, 3.0), headroom=0.5)
    same = judged(profile, load_of(9.0, 4.5))
    assert more.sustained is not None
    assert same.sustained is not None
    assert more.sustained.headroom == 0.5
    assert replace_headroom(more) == replace_headroom(same)


def replace_headroom(verdict: GPUVerdict) -> dict[str, Any]:
    assert verdict.sustained is not None
    return verdict.model_copy(
        update={"sustained": verdict.sustained.model_copy(update={"headroom": 0.0})}
    ).model_dump()


def test_more_adapters_than_slots_make_requests_late_that_throughput_does_not_show(
    profile: twin.EngineProfile,
) -> None:
    """Twelve busy adapters on four slots: tokens are served, one after the other, but nobody's in time."""
    load = load_of(*[0.4] * 12)
    few = judged(profile, load, max_loras=4)
    assert Criterion.LATE_SHARE in codes(few)
    assert judged(profile, load, max_loras=12).accepted


def test_an_engine_that_does_not_start_says_so_under_the_criterion(profile: twin.EngineProfile) -> None:
    verdict = judged(profile, load_of(1.0), gpu_memory_gib=20.0)
    assert not verdict.accepted
    assert verdict.memory_failure == "oom_cuda"
    assert verdict.sustained is not None
    assert (verdict.sustained.due, verdict.sustained.not_judged) == (0, 1)
    assert json.loads(verdict.model_dump_json())["sustained"]["late_share"] is None


def test_a_verdict_keeps_its_figures_under_other_names(profile: twin.EngineProfile) -> None:
    verdict = judged(profile, load_of(60.0, 40.0)).of(3, {"a0": "hot", "a1": "warm"})
    assert verdict.sustained is not None
    assert {verdict.sustained.latest_adapter, verdict.sustained.worst_class} <= {"hot", "warm"}
    assert GPUVerdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_a_gpu_may_have_as_many_times_its_load_as_the_twin_says(profile: twin.EngineProfile) -> None:
    scenario = scenarios.from_mapping(
        {
            "name": "growth",
            "model": "llama-3.1-8b-instruct",
            "adapters": [{"name": "a", "rank": 8, "rate": 20.0}],
            "workload": {"prompt": 222, "output": 195},
            "devices": "H100-64GB",
            "replications": 1,
        }
    )
    content = GPUContent(EngineOption("H100-64GB", 8, 8), ((scenario.classes[0].kind, 1),))
    judge = TwinJudge(scenario, {"H100-64GB": profile})
    factor, same = judge.growth_factors([content, content])
    assert factor == same
    assert factor is not None
    assert judge([content.scaled(factor)])[0].accepted
    assert not judge([content.scaled(1.0101 * factor)])[0].accepted


# --- arrivals ----------------------------------------------------------------------------------------------


def trace_file(folder: Path) -> Path:
    """A trace of an hour whose second half is four times as busy as the first."""
    rows = [f"2024-01-01 00:{s // 60:02d}:{s % 60:02d}.0000000,100,50" for s in range(0, 1800, 4)]
    rows += [f"2024-01-01 00:{s // 60:02d}:{s % 60:02d}.0000000,100,50" for s in range(1800, 3600)]
    path = folder / "trace.csv"
    path.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n" + "\n".join(rows) + "\n")
    return path


@pytest.mark.parametrize("rate", [0.05, 0.6, 2.5])
def test_a_trace_keeps_its_clock_at_any_rate(tmp_path: Path, rate: float) -> None:
    arrivals = TraceArrivals(file=str(trace_file(tmp_path)))
    workload = WORKLOAD.model_copy(update={"arrivals": arrivals})
    requests = twin.draw_requests(load_of(rate), workload, 1, 36_000.0, sustained=True)
    n = len(requests)
    assert n == pytest.approx(rate * 36_000, abs=5 * math.sqrt(rate * 36_000) + rate * 100)
    assert (np.diff(requests.arrival_s) >= 0).all()
    busy = (requests.arrival_s % 3600 >= 1800).mean()
    assert busy == pytest.approx(0.8, abs=0.12 if rate > 0.6 else 0.05)  # copies lie up to ten minutes apart


def test_wandering_rates_have_the_adapters_rate_as_their_mean() -> None:
    workload = WORKLOAD.model_copy(update={"arrivals": UnpredictableArrivals()})
    load = load_of(*[0.2] * 400)
    requests = twin.draw_requests(load, workload, 3, 6000.0, sustained=True)
    counts = np.bincount(requests.adapter, minlength=400)
    assert counts.mean() == pytest.approx(0.2 * 6000, rel=0.08)
    early, late = ((requests.arrival_s < 600).sum(), (requests.arrival_s >= 5400).sum())
    assert early == pytest.approx(late, rel=0.1)  # as published, the rate of the start would be the lowest
