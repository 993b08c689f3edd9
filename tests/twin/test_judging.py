"""The twin as judge: starved GPUs and adapters, latency limits, engines that do not start, placements."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import scenarios
import twin
from scenarios import (
    Adapter,
    AdapterClass,
    Device,
    EngineConfig,
    FixedLengths,
    LatencyLimits,
    PlacedGPU,
    Placement,
    Scenario,
    ScenarioError,
    ServiceLevelObjectives,
    Workload,
)
from twin import (
    AdapterFigure,
    Criterion,
    GPUVerdict,
    RunRecords,
    SimulationResult,
    ValidationReport,
    Violation,
    metrics,
)
from twin.judging import run_again
from twin.metrics import due_shares
from twin.service_levels import Replication, verdict_on

PROMPT, OUTPUT = FixedLengths(tokens=222), FixedLengths(tokens=195)
WORKLOAD = Workload(prompt=PROMPT, output=OUTPUT, duration_s=600.0)


@pytest.fixture(scope="module")
def profile() -> twin.EngineProfile:
    return twin.find_profile("llama-3.1-8b-instruct", "H100-64GB")


def load_of(*rates: float, rank: int = 8) -> twin.GPULoad:
    return twin.GPULoad.from_classes(
        [AdapterClass(rank, rate, PROMPT, OUTPUT, (f"a{k}",)) for k, rate in enumerate(rates)]
    )


def judge(profile: twin.EngineProfile, load: twin.GPULoad, **changes: Any) -> twin.GPUVerdict:
    arguments: dict[str, Any] = {
        "max_loras": 8,
        "max_lora_rank": 8,
        "service_levels": ServiceLevelObjectives(),
        "acceptance": "paper",
    }
    engine = changes.pop("engine", EngineConfig())
    return twin.judge(load, WORKLOAD, engine, profile, **(arguments | changes))


def test_a_light_load_is_accepted(profile: twin.EngineProfile) -> None:
    verdict = judge(profile, load_of(*[0.1] * 16))
    assert verdict.accepted
    assert verdict.reasons == ()
    assert verdict.starved == ()
    assert verdict.replications == 3
    assert verdict.margins["served_share"] > 0
    assert verdict.itl_ms is not None
    assert 5 < verdict.itl_ms < 60
    assert verdict.kv_cache_tokens > 100_000


def test_an_overload_is_rejected_with_figures(profile: twin.EngineProfile) -> None:
    verdict = judge(profile, load_of(*[10.0] * 8))
    assert not verdict.accepted
    assert verdict.served_tok_per_s < 0.9 * verdict.offered_tok_per_s
    assert "of the offered tokens, below 90 %" in verdict.reasons[0]
    assert verdict.margins["served_share"] < 0
    assert verdict.worst_adapter in verdict.starved


def test_adapters_that_wait_for_a_slot_are_found_behind_a_good_total(profile: twin.EngineProfile) -> None:
    """One slot: the hot adapter keeps it, and rare ones wait."""
    verdict = judge(profile, load_of(6.0, *[0.004] * 20), max_loras=1)
    assert verdict.served_share > 0.9
    assert not verdict.accepted
    assert verdict.worst_adapter != "a0"
    assert "of the tokens asked for" in verdict.reasons[-1]


def test_the_adapter_with_the_least_of_what_it_must_get_suffers_first(profile: twin.EngineProfile) -> None:
    starving = judge(profile, load_of(6.0, *[0.004] * 20), max_loras=1)
    assert starving.first_to_suffer == starving.worst_adapter
    assert starving.of(1, {f"a{k}": f"b{k}" for k in range(21)}).first_to_suffer != starving.first_to_suffer
    assert judge(profile, load_of(0.1)).first_to_suffer is None  # it got all of its tokens
    stricter = replace(load_of(40.0, 40.0), levels=(None, scenarios.AdapterSLO(served_share=1.0)))
    assert judge(profile, stricter).first_to_suffer == "a1"


def test_latency_limits(profile: twin.EngineProfile) -> None:
    levels = ServiceLevelObjectives(itl_ms=LatencyLimits(mean=1.0), ttft_ms=LatencyLimits(p99=100_000.0))
    verdict = judge(profile, load_of(1.0), service_levels=levels)
    assert not verdict.accepted
    assert len(verdict.reasons) == 1
    assert verdict.reasons[0].startswith("mean ITL is ")
    assert verdict.reasons[0].endswith("above 1 ms")
    assert verdict.margins["itl_mean"] < 0 < verdict.margins["ttft_p99"]


@pytest.mark.parametrize("key", [key for key in LatencyLimits.model_fields if key != "mean"])
def test_every_percentile_can_be_limited(profile: twin.EngineProfile, key: str) -> None:
    limit = LatencyLimits.model_validate({key: 0.001})
    levels = ServiceLevelObjectives(itl_ms=limit, ttft_ms=limit, tpot_ms=limit, e2e_ms=limit)
    verdict = judge(profile, load_of(1.0), service_levels=levels)
    metrics = ("itl", "ttft", "tpot", "e2e")
    assert [v.code.path for v in verdict.violations] == [f"service_levels.{m}_ms.{key}" for m in metrics]
    assert set(verdict.margins) == {"served_share", "adapter_served_share", *(f"{m}_{key}" for m in metrics)}
    for missed in verdict.violations:
        assert missed.value == getattr(getattr(verdict.latencies, missed.metric), key)


@pytest.mark.parametrize("acceptance", ["paper", "sustained"])
def test_a_verdict_has_every_latency(profile: twin.EngineProfile, acceptance: str) -> None:
    effort = twin.Effort(settle_s=100.0, measure_s=600.0, requests=10, longest_s=600.0)
    verdict = judge(profile, load_of(2.0, 0.5), acceptance=acceptance, effort=effort, replications=1)
    table = verdict.latencies
    for figures in (table.itl, table.ttft, table.tpot, table.e2e):
        known = [figures.p50, figures.p90, figures.p95, figures.p99, figures.mean]
        assert all(value is not None and value > 0 for value in known)
        assert known[:4] == sorted(known[:4])  # type: ignore[type-var]  # none is None
    assert (table.itl.mean, table.ttft.mean) == (verdict.itl_ms, verdict.ttft_ms)
    assert (table.itl.p99, table.ttft.p50) == (verdict.itl_p99_ms, verdict.ttft_p50_ms)
    assert table.ttft.p50 is not None
    assert table.tpot.p50 is not None
    assert table.e2e.p50 == pytest.approx(table.ttft.p50 + 194 * table.tpot.p50, rel=0.05)
    frame = ValidationReport(gpus=(verdict,), distinct=1).to_frame()
    assert frame.loc[0, "e2e_p95_ms"] == table.e2e.p95
    assert GPUVerdict.model_validate_json(verdict.model_dump_json()) == verdict


def test_nothing_was_measured_of_an_engine_that_does_not_start(profile: twin.EngineProfile) -> None:
    verdict = judge(profile, load_of(0.1), max_loras=4000)
    assert set(verdict.latencies.flat.values()) == {None}
    assert verdict.adapter_latencies == ()


def test_memory_failures_are_verdicts(profile: twin.EngineProfile) -> None:
    verdict = judge(profile, load_of(0.1), max_loras=4000)
    assert not verdict.accepted
    assert verdict.memory_failure == "oom_cuda"
    assert "lower max_loras" in verdict.reasons[0]
    assert verdict.served_tok_per_s == 0
    assert verdict.itl_ms is None


def test_simulate_raises_where_the_engine_does_not_start(profile: twin.EngineProfile) -> None:
    with pytest.raises(twin.MemoryFailure, match="does not start"):
        twin.simulate(load_of(0.1), WORKLOAD, EngineConfig(), profile, max_loras=4000, max_lora_rank=8)


def test_adapters_of_too_high_a_rank(profile: twin.EngineProfile) -> None:
    verdict = judge(profile, load_of(0.1, rank=32))
    assert not verdict.accepted
    assert verdict.reasons == ('max_lora_rank 8 is too small for "a0" (rank 32)',)


def waiting_forever(count: int, *, served: int, since_s: float) -> SimulationResult:
    """A rare adapter: some requests served, the others waiting since some time before the end."""
    n = served + count
    requests = twin.Requests(
        arrival_s=np.r_[np.zeros(served), np.full(count, 1000.0 - since_s)],
        prompt_tokens=np.full(n, 100, dtype=np.int32),
        output_tokens=np.full(n, 100, dtype=np.int32),
        adapter=np.zeros(n, dtype=np.int32),
        n_adapters=1,
    )
    done = np.arange(n) < served
    moment = np.where(done, 1.0, np.nan)
    records = RunRecords(
        requests=requests,
        horizon_s=1000.0,
        end_s=1000.0,
        sent_s=requests.arrival_s,
        first_scheduled_s=moment,
        first_token_s=moment,
        finish_s=moment,
        generated_tokens=np.where(done, 100, 0).astype(np.int32),
        preemptions=np.zeros(n, dtype=np.int32),
        gpu_loads=np.zeros(1, dtype=np.int64),
        disk_loads=np.zeros(1, dtype=np.int64),
        gaps=np.zeros(1024, dtype=np.int64),
        series=np.zeros((1, 12)),
        series_width_s=1000.0,
    )
    return SimulationResult(records, ("rare",), 1, 8, 16_000, 1000)


@pytest.mark.parametrize(
    ("count", "served", "since_s", "share"),
    [
        (0, 0, 500.0, 1.0),  # nothing asked for
        (5, 5, 10.0, 1.0),  # waiting, but only just
        (5, 5, 19.9, 1.0),  # 20 s are the grace of a window of 1,000 s
        (5, 5, 20.1, 0.6),
        (1, 0, 500.0, 1.0),  # one unlucky request
        (2, 0, 500.0, 0.5),
        (5, 5, 500.0, 0.6),
        (100, 900, 500.0, 0.901),
    ],
)
def test_rare_adapters_are_judged_fairly(count: int, served: int, since_s: float, share: float) -> None:
    result = waiting_forever(count, served=served, since_s=since_s)
    assert due_shares(result.window)[0] == pytest.approx(share)


def replication(served: float, adapters: tuple[float, ...], seconds: float) -> Replication:
    """A run that served these shares of all tokens and of each adapter's; its latencies are all alike."""
    latency = metrics.Latency(*[seconds] * 5)
    return Replication(
        traffic=metrics.Traffic(100.0, 100.0 * served, 0.0, 0.0, served),
        in_flight_share=0.0,
        adapter_shares=np.array(adapters),
        latencies=dict.fromkeys(metrics.LATENCY_METRICS, latency),
        group_latencies=(),
        kv_cache_tokens=16,
        cut_requests=0,
    )


def test_every_figure_of_a_verdict_is_that_of_its_worst_replication() -> None:
    runs = [replication(0.96, (0.95, 0.91), 1.0), replication(0.91, (0.85, 1.0), 3.0)]
    levels = ServiceLevelObjectives(ttft_ms=LatencyLimits(p99=2900.0))
    verdict = verdict_on(load_of(1.0, 1.0), runs, levels)
    assert (verdict.served_share, verdict.worst_adapter, verdict.worst_served_share) == (0.91, "a0", 0.85)
    assert verdict.latencies.ttft.p99 == verdict.ttft_p99_ms == 3000.0
    assert [(one.code, one.value) for one in verdict.violations] == [
        (Criterion.ADAPTER_SERVED_SHARE, 0.85),
        (Criterion.TTFT_P99, 3000.0),
    ]


def test_just_what_is_asked_for_is_enough() -> None:
    levels = ServiceLevelObjectives(
        served_share=0.9, adapter_served_share=0.8, ttft_ms=LatencyLimits(p99=2000.0)
    )
    assert verdict_on(load_of(1.0), [replication(0.9, (0.8,), 2.0)], levels).accepted
    for less in (
        replication(0.899, (0.8,), 2.0),
        replication(0.9, (0.799,), 2.0),
        replication(0.9, (0.8,), 2.001),
    ):
        assert not verdict_on(load_of(1.0), [less], levels).accepted


def test_every_replication_has_requests_of_its_own_which_can_be_played_again(
    profile: twin.EngineProfile, scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.random.SeedSequence] = []

    def noted(*arguments: Any, **how: Any) -> SimulationResult:
        seen.append(how["seed"])
        return twin.simulate(*arguments, **how)

    monkeypatch.setattr(twin.judging, "simulate", noted)
    judge(profile, load_of(0.1), replications=3, seed=scenario.seed)
    spawned = np.random.SeedSequence(scenario.seed).spawn(3)
    assert [one.spawn_key for one in seen] == [one.spawn_key for one in spawned]
    assert {one.entropy for one in seen} == {scenario.seed}
    run_again(load_of(0.1), scenario, profile, max_loras=8, max_lora_rank=8, replication=2)
    assert seen[-1].spawn_key == spawned[2].spawn_key


def test_gaps_of_the_warm_up_are_no_part_of_a_simulation(profile: twin.EngineProfile) -> None:
    whole, later = (
        twin.simulate(
            load_of(2.0),
            WORKLOAD.model_copy(update={"duration_s": 60.0, "warmup_s": warmup_s}),
            EngineConfig(),
            profile,
            max_loras=8,
            max_lora_rank=8,
        ).records.gaps.sum()
        for warmup_s in (0.0, 30.0)
    )
    assert 0.2 * whole < later < 0.8 * whole


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return Scenario(
        name="two kinds",
        model="llama-3.1-8b-instruct",
        adapters=(
            Adapter(name="hot", count=4, rank=8, rate=0.5),
            Adapter(name="cold", count=4, rank=8, rate=0.05),
        ),
        workload=WORKLOAD,
        devices=(Device(name="H100-64GB"),),
        acceptance="paper",
        replications=2,
        seed=5,
    )


def placed(*groups: tuple[str, ...], slots: int = 4) -> Placement:
    return Placement(
        gpus=tuple(
            PlacedGPU(gpu=k, device="H100-64GB", max_loras=slots, max_lora_rank=8, adapters=group)
            for k, group in enumerate(groups)
        )
    )


HALVES = (("hot-1", "cold-3", "hot-2", "cold-1"), ("cold-2", "cold-4", "hot-3", "hot-4"))


def test_equal_gpus_are_judged_once_under_their_own_names(scenario: Scenario) -> None:
    report = twin.validate(scenario, placed(*HALVES))
    assert report.accepted
    assert report.distinct == 1
    assert {verdict.replications for verdict in report.gpus} == {scenario.replications}
    assert [verdict.gpu for verdict in report.gpus] == [0, 1]
    for verdict, group in zip(report.gpus, HALVES, strict=True):
        assert verdict.worst_adapter in group


def test_reasons_name_each_gpus_own_adapters(scenario: Scenario) -> None:
    levels = ServiceLevelObjectives(adapter_served_share=1.0, itl_ms=LatencyLimits(mean=0.001))
    busy = scenario.model_copy(update={"service_levels": levels})
    report = twin.validate(busy, placed(*HALVES))
    assert not report.accepted
    for verdict, group in zip(report.gpus, HALVES, strict=True):
        quoted = [part for reason in verdict.reasons for part in reason.split('"')[1::2]]
        assert set(quoted) <= set(group)


def test_the_report_does_not_depend_on_the_workers(scenario: Scenario) -> None:
    plan = placed(("hot-1", "hot-2", "hot-3", "hot-4"), ("cold-1", "cold-2", "cold-3", "cold-4"))
    one, two = twin.validate(scenario, plan), twin.validate(scenario, plan, workers=2)
    assert one == two
    assert one.to_json() == two.to_json()


def test_shares_divide_the_rate(scenario: Scenario) -> None:
    whole = placed(tuple(name for group in scenario.classes for name in group.names)).gpus[0]
    halves = [
        whole.model_copy(update={"shares": {"hot-1": 0.5}}),
        whole.model_copy(update={"gpu": 1, "adapters": ("hot-1",), "shares": {"hot-1": 0.5}}),
    ]
    report = twin.validate(scenario, Placement(gpus=tuple(halves)))
    assert report.gpus[1].offered_tok_per_s == pytest.approx(0.25 * 417, rel=0.3)


def test_a_placement_of_other_adapters_is_refused(scenario: Scenario) -> None:
    with pytest.raises(ScenarioError, match="leave out"):
        twin.validate(scenario, placed(HALVES[0]))


def test_the_report_prints_and_exports(scenario: Scenario) -> None:
    report = twin.validate(scenario, placed(*HALVES))
    assert json.loads(report.to_json())["accepted"] is True
    assert list(report.to_frame().gpu) == [0, 1]
    assert report.summary().startswith("accepted: 2 of 2 GPUs\n")
    assert str(report) == report.summary()
    assert "accepted" in report._repr_html_()


def test_requests_longer_than_the_model_are_cut(profile: twin.EngineProfile) -> None:
    long = scenarios.AdapterClass(8, 0.1, FixedLengths(tokens=5000), FixedLengths(tokens=5000), ("long",))
    result = twin.simulate(
        twin.GPULoad.from_classes([long]),
        WORKLOAD,
        EngineConfig(max_model_len=6000),
        profile,
        max_loras=1,
        max_lora_rank=8,
    )
    assert (result.records.requests.output_tokens == 1000).all()


def test_service_levels_of_some_adapters(profile: twin.EngineProfile) -> None:
    """Gold adapters have limits of their own; the others do not feel them."""
    strict = scenarios.AdapterSLO(ttft_ms=scenarios.LatencyLimits(p90=1.0), served_share=0.9)
    load = replace(load_of(0.5, 0.5, 0.5), levels=(None, strict, strict))
    verdict = judge(profile, load)
    assert not verdict.accepted
    (reason,) = verdict.reasons
    assert reason.startswith('p90 TTFT of "a1", "a2" is ')
    loose = scenarios.AdapterSLO(
        ttft_ms=scenarios.LatencyLimits(p90=60_000.0), itl_ms=scenarios.LatencyLimits(mean=500)
    )
    assert judge(profile, replace(load, levels=(None, loose, loose))).accepted


@pytest.mark.parametrize("acceptance", ["paper", "sustained"])
def test_latencies_of_some_adapters_have_figures(profile: twin.EngineProfile, acceptance: str) -> None:
    own = scenarios.AdapterSLO(tpot_ms=LatencyLimits(p90=500.0), e2e_ms=LatencyLimits(p95=10.0))
    load = replace(load_of(0.5, 0.5, 0.5), levels=(None, own, own))
    effort = twin.Effort(settle_s=100.0, measure_s=600.0, requests=10, longest_s=600.0)
    verdict = judge(profile, load, acceptance=acceptance, effort=effort)
    tpot, e2e = verdict.adapter_latencies
    assert (tpot.code, tpot.adapter, tpot.size, tpot.limit) == (Criterion.TPOT_P90, "a1", 2, 500.0)
    assert tpot.margin is not None
    assert 0.9 < tpot.margin < 1.0
    assert e2e.margin is not None
    assert e2e.margin < 0
    assert [(v.code, v.value) for v in verdict.violations] == [(Criterion.E2E_P95, e2e.value)]
    assert verdict.of(3, {"a0": "x", "a1": "y", "a2": "z"}).adapter_latencies[0].adapter == "y"
    text = " ".join(ValidationReport(gpus=(verdict,), distinct=1).summary().split())
    for said in ("entry TPOT p90 ms", "entry E2E p95 ms", "headroom", 'p95 E2E of "a1", "a2" is'):
        assert said in text


def test_a_stricter_share_of_some_adapters(profile: twin.EngineProfile) -> None:
    load = load_of(6.0, *[0.004] * 20)
    plain = judge(profile, load, max_loras=1)
    assert plain.starved
    lenient = scenarios.AdapterSLO(served_share=0.001)
    mixed = judge(profile, replace(load, levels=(None, *[lenient] * 20)), max_loras=1)
    assert len(mixed.starved) < len(plain.starved)


def rejected(*violations: Violation) -> GPUVerdict:
    return GPUVerdict(
        accepted=False, violations=violations, offered_tok_per_s=1.0, served_tok_per_s=0.5, served_share=0.5,
        worst_adapter="0", worst_served_share=0.5, itl_ms=None, ttft_ms=None, itl_p99_ms=None,
        ttft_p99_ms=None, kv_cache_tokens=0, margins={Criterion.SERVED_SHARE: -0.4, Criterion.TTFT_P99: None},
    )  # fmt: skip


SENTENCES = {
    'max_lora_rank 8 is too small for "a" (rank 32), "b" (rank 16)': Violation(
        code=Criterion.MAX_LORA_RANK,
        value=32,
        limit=8,
        adapters=(
            AdapterFigure(name="a", value=32, limit=8),
            AdapterFigure(name="b", value=16, limit=8),
        ),
    ),
    "the engine does not start: nothing is left for the KV cache; use a larger GPU": Violation(
        code=Criterion.NO_KV_MEMORY, remedy="use a larger GPU"
    ),
    "1.1 % of the requests wait longer than 10 s for the first token, where 1 % may": Violation(
        code=Criterion.LATE_SHARE, value=0.01001, limit=0.01, patience_s=10.0
    ),
    "in hour 3 of the arrivals' period, 6 % of the requests wait longer than 10 s for the first token, where "
    "5 % may": Violation(code=Criterion.HOUR_LATE_SHARE, value=0.06, limit=0.05, patience_s=10.0, hour=2),
    'requests of "a" (2 %) wait longer than 600 s for the first token, where 1 % may': Violation(
        code=Criterion.ADAPTER_LATE_SHARE,
        value=0.02,
        limit=0.01,
        patience_s=600.0,
        adapters=(AdapterFigure(name="a", value=0.02, limit=0.01),),
    ),
    "unfinished requests become 1,234 more every hour, above the 12.5 that chance explains: the load is more "
    "than the GPU can do": Violation(code=Criterion.GROWTH, value=1234.4, limit=12.5),
    "serves 89.9 % of the offered tokens, below 90 %": Violation(
        code=Criterion.SERVED_SHARE, value=0.89999, limit=0.9
    ),
    "serves 87 % of the offered tokens, below 90 %, as 5 % are in flight at the end, which count as unserved "
    "(a longer workload.duration_s has fewer, in share)": Violation(
        code=Criterion.SERVED_SHARE, value=0.87, limit=0.9, in_flight_share=0.05
    ),
    '"a" (1 %), "b" (2 %), "c" (3 %) and 1 more get less than 90 % or 95 % of the tokens asked '
    "for": Violation(
        code=Criterion.ADAPTER_SERVED_SHARE,
        value=0.01,
        limit=0.9,
        adapters=tuple(
            AdapterFigure(name=name, value=share / 100, limit=limit)
            for name, share, limit in (("a", 1, 0.9), ("b", 2, 0.95), ("c", 3, 0.9), ("d", 4, 0.9))
        ),
    ),
    "p99 TTFT is 7,107.3 ms, above 7,107.25 ms": Violation(
        code=Criterion.TTFT_P99, value=7107.26, limit=7107.25
    ),
    'no request completed, so mean ITL of "a" cannot meet 30.5 ms': Violation(
        code=Criterion.ITL_MEAN, limit=30.5, adapters=(AdapterFigure(name="a", value=None, limit=30.5),)
    ),
}


@pytest.mark.parametrize("sentence", SENTENCES)
def test_every_sentence_is_made_of_the_fields(sentence: str) -> None:
    violation = SENTENCES[sentence]
    assert violation.sentence == sentence
    again = Violation.model_validate_json(violation.model_dump_json())
    assert again == violation
    document = json.loads(violation.model_dump_json())
    latency = (document["metric"], document["statistic"])
    assert document["code"] == (f"{latency[0]}_{latency[1]}" if latency[1] else latency[0])


def test_names_with_quotes_are_renamed_whole() -> None:
    """A sentence would fall apart at the quotes in it; what is renamed are the fields."""
    figures = tuple(AdapterFigure(name=f"{k}", value=0.5, limit=0.9) for k in range(3))
    verdict = rejected(Violation(code=Criterion.ADAPTER_SERVED_SHARE, value=0.5, limit=0.9, adapters=figures))
    named = verdict.of(7, {"0": 'the "best"', "1": "1", "2": '0"'})
    assert (named.gpu, named.worst_adapter) == (7, 'the "best"')
    assert named.starved == ('the "best"', "1", '0"')
    assert named.reasons == (
        '"the "best"" (50 %), "1" (50 %), "0"" (50 %) get less than 90 % of the tokens asked for',
    )


def test_the_paths_of_service_levels_are_those_of_scenario_files() -> None:
    shares = ("late_share", "served_share", "adapter_served_share")
    levels = [c for c in Criterion if c.statistic is not None or c.value in shares]
    names = [name for name in ServiceLevelObjectives.model_fields if name.endswith("share")]
    metrics = ("itl_ms", "ttft_ms", "tpot_ms", "e2e_ms")
    names += [f"{metric}.{key}" for metric in metrics for key in LatencyLimits.model_fields]
    assert [level.path for level in levels] == [f"service_levels.{name}" for name in names]
    narrower = (Criterion.CLASS_LATE_SHARE, Criterion.ADAPTER_LATE_SHARE, Criterion.HOUR_LATE_SHARE)
    assert {one.path for one in narrower} == {"service_levels.late_share"}
    assert Criterion.GROWTH.path in Scenario.model_fields


def test_a_report_survives_json() -> None:
    report = ValidationReport(gpus=(rejected(*SENTENCES.values()),), distinct=1)
    document = json.loads(report.to_json())
    assert document["gpus"][0]["margins"] == {"served_share": -0.4, "ttft_p99": None}
    assert document["gpus"][0]["reasons"] == list(SENTENCES)
    assert document["gpus"][0]["memory_failure"] == "no_kv_memory"
    assert document["gpus"][0]["starved"] == ["a", "b", "c", "d"]
    assert ValidationReport.model_validate(document) == report


def test_a_report_shows_names_and_obeys_none() -> None:
    hostile = AdapterFigure(name="a\x1b[2J\n", value=0.5, limit=0.9)
    verdict = rejected(Violation(code=Criterion.ADAPTER_SERVED_SHARE, adapters=(hostile,)))
    text = ValidationReport(gpus=(verdict,), distinct=1).summary()
    shown = r'GPU 0: "a\x1b[2J\n" (50 %) gets less than 90 % of the tokens asked for'
    assert text.splitlines()[0] == "REJECTED: 1 of 1 GPUs"
    assert text.splitlines()[-1] == shown
