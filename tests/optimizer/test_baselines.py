"""Placement rules of others, worked out by hand, and how their plans are judged and reported."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import optimizer
import scenarios
import twin
from learn import SamplingPlan
from optimizer.baselines.assignment import (
    SingleAdapters,
    assigned,
    half_slots,
    single_adapters,
    third_slots,
)
from optimizer.baselines.dlora import dlora_proactive
from optimizer.baselines.loraserve import largest_remainder, loraserve
from optimizer.baselines.named import BASELINES, Baseline, Site
from optimizer.baselines.params import BaselineParams
from optimizer.baselines.rules import (
    bin_pack_capped,
    least_adapters,
    least_rate,
    max_backbone,
    random_placement,
)
from optimizer.baselines.run import BaselineSearch
from optimizer.baselines.saturation import Saturation, measured_throughputs
from optimizer.baselines.surrogate_oracle import SurrogateOracle, learned_surrogate
from optimizer.packing.model.problem import PackingError
from scenarios import Deadline, Stopped

SPREADING = ("random", "random-all", "least-rate", "least-rate-third", "dlora", "loraserve")


def single(
    rates: Sequence[float], ranks: Sequence[int] | None = None, tokens: float = 100.0
) -> SingleAdapters:
    n = len(rates)
    return SingleAdapters(
        "gpu",
        tuple(f"a{k}" for k in range(n)),
        np.array(ranks or [8] * n),
        np.array(rates, dtype=np.float64),
        np.full(n, tokens),
    )


def groups(plan: scenarios.Placement) -> list[list[int]]:
    return [[int(name[1:]) for name in gpu.adapters] for gpu in plan.gpus]


def slots(plan: scenarios.Placement) -> list[int]:
    return [gpu.max_loras for gpu in plan.gpus]


def ranks(plan: scenarios.Placement) -> list[int]:
    return [gpu.max_lora_rank for gpu in plan.gpus]


def shares(plan: scenarios.Placement) -> list[list[float]]:
    return [[gpu.share(name) for name in gpu.adapters] for gpu in plan.gpus]


# --- rules -------------------------------------------------------------------------------------------


def test_max_backbone_is_next_fit_on_the_throughput_without_lora() -> None:
    """Demands 300 100 200 100 tokens/s against 400: 300+100, then 200+100; no way back to the first."""
    given = single([3, 1, 2, 1], ranks=[8, 32, 8, 16])
    plan = max_backbone(given, 400.0)
    assert groups(plan) == [[0, 1], [2, 3]]
    assert slots(plan) == [2, 2]
    assert ranks(plan) == [32, 16]
    assert slots(max_backbone(given, 400.0, less_parallel=True)) == [1, 1]
    assert groups(max_backbone(single([9, 1]), 400.0)) == [[0], [1]]  # one too hot has a GPU of its own


def test_least_rate_and_its_slot_rules() -> None:
    """Rates 4 3 2 1 1 1 over two: 4 | 3, 2 to the second (5), 1 to the first (5), tie: first, then second."""
    given = single([4, 3, 2, 1, 1, 1])
    plan = least_rate(given, 2)
    assert groups(plan) == [[0, 3, 4], [1, 2, 5]]
    assert slots(plan) == [3, 3]
    assert slots(least_rate(given, 2, slots=third_slots)) == [1, 1]
    assert [half_slots(n) for n in (1, 2, 5)] == [1, 1, 2]


def test_aibrix_counts_adapters_only() -> None:
    given = single([100, 1, 1, 1, 1])
    assert groups(least_adapters(given, 2)) == [[0, 2, 4], [1, 3]]
    assert groups(bin_pack_capped(single([1] * 23))) == [list(range(10)), list(range(10, 20)), [20, 21, 22]]


def test_random_placements_depend_on_the_seed_alone() -> None:
    given = single([1.0] * 40)
    one, again, other = (random_placement(given, 4, seed) for seed in (3, 3, 4))
    assert groups(one) == groups(again)
    assert slots(one) == slots(again)
    assert groups(one) != groups(other)
    assert sorted(i for group in groups(one) for i in group) == list(range(40))
    assert all(1 <= gpu.max_loras <= len(gpu.adapters) for gpu in one.gpus)
    assert slots(one) != [len(group) for group in groups(one)]
    full = random_placement(given, 4, 3, slots=len_slots)
    assert slots(full) == [len(group) for group in groups(full)]


def len_slots(adapters: int) -> int:
    return adapters


def test_dlora_replicates_the_adapter_of_largest_deficit() -> None:
    """Peak 100, two GPUs, demands 100 10: the hot one has 100 on its own GPU, no deficit, no replica."""
    plan = dlora_proactive(single([100, 10], tokens=1.0), 2, 100.0, most_adapters=4)
    assert groups(plan) == [[0], [1]]


def test_dlora_stops_where_a_replica_lowers_the_smallest_burst_tolerance() -> None:
    """Demands 120 and 10 on GPUs of 100: a second replica of the hot one halves what the other has.

    Before, tolerances are 100/120 and 100/10. After, the hot one has 100 + 50 = 150 (1.25), the cold one
    50 (5): the smallest rises, so it is done, and requests of the hot one go to both in equal parts.
    With demands 120 and 90 it would be 150/120 and 50/90: the smallest falls from 0.83 to 0.56, so not.
    """
    plan = dlora_proactive(single([120, 10], tokens=1.0), 2, 100.0, most_adapters=4)
    assert groups(plan) == [[0], [0, 1]]
    assert shares(plan) == [[0.5], [0.5, 1.0]]
    assert groups(dlora_proactive(single([120, 90], tokens=1.0), 2, 100.0, most_adapters=4)) == [[0], [1]]


def test_dlora_stops_in_time() -> None:
    with pytest.raises(Stopped, match="while dLoRA's rule placed the adapters"):
        dlora_proactive(single([1.0] * 9), 3, 100.0, most_adapters=9, deadline=Deadline.after(0.0))


def test_more_adapters_than_an_engine_can_have_slots_for_share_them() -> None:
    many = single([0.001] * 5000)
    assert slots(least_rate(many, 1)) == [4096]
    assert slots(assigned(many, [list(range(5000))], half_slots)) == [2500]


def test_dlora_respects_the_adapters_of_a_gpu() -> None:
    assert groups(dlora_proactive(single([120, 10], tokens=1.0), 2, 100.0, most_adapters=1)) == [[0], [1]]
    with pytest.raises(PackingError, match="cannot hold 3"):
        dlora_proactive(single([1, 1, 1]), 2, 100.0, most_adapters=1)


def test_largest_remainder() -> None:
    assert largest_remainder(np.array([5.0, 3.0, 2.0]), 10).tolist() == [5, 3, 2]
    assert largest_remainder(np.array([1.0, 1.0, 1.0]), 4).tolist() == [2, 1, 1]
    assert largest_remainder(np.array([0.6, 0.1]), 1).tolist() == [1, 0]


def test_loraserve_apportions_gpus_and_splits_adapters() -> None:
    """Utilisation of rank 8: 200/100 = 2, of rank 16: 100/50 = 2; two of four GPUs each.

    Rank 8 has demands 150 and 50: the first fills GPU 0 (100) and half of GPU 1, the second the rest.
    """
    given = single([150, 50, 60, 40], ranks=[8, 8, 16, 16], tokens=1.0)
    plan = loraserve(given, 4, {8: 100.0, 16: 50.0})
    assert groups(plan) == [[0], [0, 1], [2], [2, 3]]
    split = shares(plan)
    assert split[0] == pytest.approx([100 / 150])
    assert split[1] == pytest.approx([50 / 150, 1.0])
    assert split[2] == pytest.approx([50 / 60])
    assert split[3] == pytest.approx([10 / 60, 1.0])
    assert ranks(plan) == [8, 8, 16, 16]


def test_loraserve_serves_a_rank_without_a_gpu_with_the_next_larger() -> None:
    given = single([1, 90, 2], ranks=[8, 16, 32], tokens=1.0)
    plan = loraserve(given, 1, {8: 1.0, 16: 1.0, 32: 1.0})
    assert groups(plan) == [[1, 2, 0]]
    assert ranks(plan) == [32]
    with pytest.raises(PackingError, match="no entry for rank 8"):
        loraserve(given, 1, {16: 1.0, 32: 1.0})


@pytest.mark.parametrize("seed", range(20))
def test_shares_always_sum_to_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    n, gpus = int(rng.integers(1, 30)), int(rng.integers(1, 9))
    given = single(rng.lognormal(0, 2, n).tolist(), rng.choice([8, 16, 32], n).tolist())
    for placement in (  # which refuses shares that do not sum to 1
        loraserve(given, gpus, {8: 110.0, 16: 105.0, 32: 100.0}),
        dlora_proactive(given, gpus, 500.0, most_adapters=n),
    ):
        assert len(placement.gpus) <= gpus
        assert {name for gpu in placement.gpus for name in gpu.adapters} == set(given.names)


def test_single_adapters_keep_the_scenarios_order() -> None:
    scenario = scenarios.read("mixed_ranks")
    found = single_adapters(scenario, "gpu")
    assert found.names == tuple(name for entry in scenario.adapters for name in entry.names())
    assert found.rates.tolist() == [rate for entry in scenario.adapters for rate in entry.rates()]
    assert found.ranks.tolist() == [rank for entry in scenario.adapters for rank in entry.ranks()]
    with pytest.raises(PackingError, match="one entry per adapter"):
        SingleAdapters("gpu", ("a",), np.array([8, 8]), np.array([1.0]), np.array([1.0]))


def test_ranks_are_padded_to_those_of_the_engine() -> None:
    given = single([1.0], ranks=[1])
    assert ranks(assigned(given, [[0], []])) == [8]


# --- the twin's word ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scenario() -> scenarios.Scenario:
    """32 adapters under a fifth of an hour's load, enough to starve one GPU but not two."""
    return scenarios.read(
        "paper_high_32", overrides=["acceptance=paper", "replications=1", "workload.duration_s=600"]
    )


@pytest.fixture(scope="module")
def profiles(scenario: scenarios.Scenario) -> dict[str, twin.EngineProfile]:
    return twin.profiles_of(scenario)


def test_the_judge_says_what_validate_says(
    scenario: scenarios.Scenario, profiles: dict[str, twin.EngineProfile]
) -> None:
    adapters = single_adapters(scenario, scenario.devices[0].name)
    placement = loraserve(adapters, 3, {8: 15_000.0, 16: 14_700.0, 32: 14_500.0})
    report = twin.validate(scenario, placement, profiles=profiles)
    judge = twin.PlacementJudge(twin.TwinJudge(scenario, profiles))
    assert judge.report(placement.gpus) == report
    assert judge.accepts(placement) == report.accepted


def test_saturation_is_near_what_was_measured(profiles: dict[str, twin.EngineProfile]) -> None:
    scenario = scenarios.read("paper_high_32")
    device = scenario.devices[0]
    saturation = Saturation(scenario, device, profiles[device.name])
    measured = measured_throughputs()[scenario.model, device.name]
    assert saturation.backbone_tok_per_s == measured.backbone_tok_per_s
    assert saturation.adapter_tok_per_s(16) == measured.adapter_tok_per_s[16]
    assert saturation.simulated_adapter(16) == pytest.approx(measured.adapter_tok_per_s[16], rel=0.1)
    longer = scenarios.override(scenario, ["workload.prompt=800", "workload.output=100"])
    other = Saturation(longer, device, profiles[device.name])
    assert other.adapter_tok_per_s(16) == other.simulated_adapter(16)
    assert other.backbone_tok_per_s == other.simulated_backbone() > other.adapter_tok_per_s(16)
    assert 1 < saturation.most_adapters(32) < saturation.most_adapters(8)


def test_a_plan_that_starves_is_returned_and_says_so() -> None:
    """120.5 requests/s of 418 tokens, next-fit into 17,814.5 tokens/s: three GPUs, two of them near that."""
    scenario = scenarios.read(
        "paper_high_128", overrides=["acceptance=paper", "replications=1", "workload.duration_s=1800"]
    )
    result = optimizer.solve(scenario, method="maxbackbone")
    assert (result.status, result.stop_reason, result.bound) == ("feasible", "finished", None)
    assert result.validation is not None
    assert not result.accepted
    assert result.gpus == result.objective == 3
    starved = [gpu for gpu in result.validation.gpus if gpu.starved]
    assert starved
    assert f"{sum(len(gpu.starved) for gpu in starved)} adapters starve" in result.message
    assert result.to_json()


def test_gpus_that_do_not_start_are_named(scenario: scenarios.Scenario) -> None:
    tight = scenarios.override(scenario, ["devices[0].memory_gib=20"])
    result = optimizer.solve(tight, method="aibrix-binpack", gpus=4)
    assert result.validation is not None
    assert all(gpu.memory_failure is not None for gpu in result.validation.gpus)
    assert "GPUs 0, 1, 2, 3 do not start" in result.message


def test_parameters_reach_the_rules_and_the_saturation(
    scenario: scenarios.Scenario, profiles: dict[str, twin.EngineProfile]
) -> None:
    device = scenario.devices[0]
    params = BaselineParams(adapters_per_gpu=16, saturation_s=60.0, length_tolerance=0.0)
    site = Site(scenario, device, profiles[device.name], params=params)
    placed = BASELINES["aibrix-binpack"].rule(site, 4)
    assert placed is not None
    assert [len(gpu.adapters) for gpu in placed.gpus] == [16, 16]
    assert site.saturation.adapter_tok_per_s(8) == site.saturation.simulated_adapter(8)
    longer = Site(scenario, device, profiles[device.name], params=BaselineParams(length_tolerance=0.0))
    assert site.saturation.simulated_adapter(8) != longer.saturation.simulated_adapter(8)


def test_a_rule_that_needs_more_gpus_than_given_has_no_plan(scenario: scenarios.Scenario) -> None:
    result = optimizer.solve(scenario, method="aibrix-binpack", gpus=3)
    assert result.status == "no_plan"
    assert "no plan of aibrix-binpack fits 3 GPUs; the rule opens" in result.message


def test_dlora_says_how_many_gpus_its_slots_need(scenario: scenarios.Scenario) -> None:
    many = scenarios.override(scenario, ["adapters[0].count=2000", "adapters[0].rank=32"])
    result = optimizer.solve(many, method="dlora", gpus=2)
    assert result.no_plan is not None
    assert result.no_plan.reason == "too_few_gpus"
    needed = int(re.findall(r"the rule needs (\d+): a GPU has slots for", result.message)[0])
    assert needed > 2
    enough = optimizer.solve(many, method="dlora", gpus=needed, time_limit_s=1e-9)
    assert enough.no_plan is not None
    assert enough.no_plan.reason == "time_limit"


@pytest.mark.parametrize("method", SPREADING)
def test_spreading_baselines_use_the_gpus_given(scenario: scenarios.Scenario, method: str) -> None:
    short = scenarios.override(scenario, ["workload.duration_s=60"])
    result = optimizer.solve(short, method=method, gpus=4)
    assert result.gpus == 4
    assert result.placement is not None
    scenarios.check_placement(result.placement, short)
    assert result.method == method


@pytest.mark.parametrize("method", ["dlora", "dlora-min"])
def test_a_plan_that_splits_adapters_is_refused_where_replicas_are_forbidden(method: str) -> None:
    hot = scenarios.read(
        "hot_adapter", overrides=["acceptance=paper", "replications=1", "workload.duration_s=60"]
    )
    result = optimizer.solve(hot, method=method, gpus=4)
    if result.placement is None:
        assert "allow_replicas" in result.message
        assert result.no_plan is not None
        assert result.no_plan.reason == "splits_adapters"
    else:
        assert not any(gpu.shares for gpu in result.placement.gpus)


class FakeJudge:
    """Healthy from a number of GPUs on."""

    def __init__(self, least: int) -> None:
        self.least = least

    def accepts(self, placement: scenarios.Placement) -> bool:
        return len(placement.gpus) >= self.least


def fewest(least: int, most: int, seconds: float = 60.0) -> BaselineSearch:
    scenario = scenarios.read("paper_high_128")
    site = Site(scenario, scenario.devices[0], twin.profiles_of(scenario)["H100-64GB"])
    judge: Any = FakeJudge(least)
    baseline = Baseline("spread", "", lambda site, gpus: least_adapters(site.adapters, gpus), "fewest")
    search = BaselineSearch(site, baseline, judge, most, Deadline.after(seconds))
    search.run()
    return search


@pytest.mark.parametrize("least", [1, 2, 3, 5, 11, 16, 17, 40])
def test_the_fewest_healthy_gpus_by_doubling_and_bisection(least: int) -> None:
    search = fewest(least, 40)
    assert search.tried[0] == 2  # 120.5 requests/s of 418 tokens, nine tenths of it, need 2.5 at least
    assert search.healthy == max(2, least)
    assert search.found is not None
    assert len(search.found.gpus) == max(2, least)
    assert len(search.tried) <= 11
    assert "fewest healthy" in search.how_found()


def test_where_no_number_is_healthy_the_largest_is_returned() -> None:
    search = fewest(41, 40)
    assert search.healthy is None
    assert search.tried == [2, 4, 8, 16, 32, 40]
    assert search.found is not None
    assert len(search.found.gpus) == 40


def test_no_other_number_is_tried_after_the_time_is_over() -> None:
    search = fewest(5, 40, seconds=-1.0)
    assert search.tried == [2]
    assert search.out_of_time
    assert "the time is over" in search.how_found()


def test_every_baseline_has_a_name_of_its_own_and_is_a_method() -> None:
    assert not BASELINES.keys() & optimizer.methods().keys()
    assert {f"{name}-min" for name in SPREADING} <= BASELINES.keys()
    with pytest.raises(scenarios.ScenarioError, match="or a baseline: `lorapack methods` lists them all"):
        optimizer.solve(scenarios.read("paper_high_32"), method="magic")


def test_the_model_of_the_twin_is_fitted_to_runs_that_are_kept(
    scenario: scenarios.Scenario,
    profiles: dict[str, twin.EngineProfile],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("LORAPACK_CACHE", str(tmp_path))
    short = scenarios.override(scenario, ["workload.duration_s=60"])
    device = short.devices[0]
    plan = SamplingPlan(compositions=16, round_size=16, max_runs=4)

    def surrogate_oracle(model: Any) -> SurrogateOracle:
        learned = learned_surrogate(short, device, profiles[device.name], model, plan=plan)
        return SurrogateOracle(learned, short, device, profiles[device.name])

    oracle = surrogate_oracle("tree")
    assert list((tmp_path / "samples").glob("*/round-0000.csv"))
    monkeypatch.setattr(
        "learn.boundaries.boundary_search.BoundarySearch.observe",
        lambda *_: pytest.fail("the twin was asked again"),
    )
    again = surrogate_oracle("tree")
    forest = surrogate_oracle("forest")
    assert forest.fits(forest.engine(8, 8))
    assert not forest.fits(forest.engine(4096, 32))
    one = np.ones(len(short.classes))
    engine = forest.engine(64, 32)
    loads = [0.05 * one, 0.2 * one, one, 4 * one, 40 * one]
    assert forest.throughput(0.05 * one, engine) < forest.throughput(one, engine)
    for counts in loads:
        assert oracle.starves(counts, engine) == again.starves(counts, engine)
        assert oracle.throughput(counts, engine) == again.throughput(counts, engine)


def test_the_greedy_with_a_model_of_the_twin_as_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle of `proposed` replaced by a rule: 12 adapters a GPU at most, so it closes at 8."""

    class Rule:
        def engine(self, max_loras: int, max_lora_rank: int) -> scenarios.EngineOption:
            return scenarios.EngineOption("H100-64GB", max_loras, max_lora_rank)

        def fits(self, *_: object) -> bool:
            return True

        def throughput(self, *_: object) -> float:
            return 0.0

        def starves(self, counts: np.ndarray, *_: object) -> bool:
            return bool(counts.sum() > 12)

    monkeypatch.setattr("optimizer.baselines.named.learned_surrogate", lambda *_args, **_options: Rule())
    monkeypatch.setattr("optimizer.baselines.named.SurrogateOracle", lambda rule, *_: rule)
    short = scenarios.read(
        "paper_mixed_32", overrides=["acceptance=paper", "replications=1", "workload.duration_s=60"]
    )
    result = optimizer.solve(short, method="proposed")
    assert result.placement is not None
    scenarios.check_placement(result.placement, short)
    assert [len(gpu.adapters) for gpu in result.placement.gpus] == [8, 8, 8, 8]
    assert [gpu.max_loras for gpu in result.placement.gpus] == [8, 8, 8, 8]
    rank_of = {name: c.rank for c in short.classes for name in c.names}
    first = [rank_of[name] for name in result.placement.gpus[0].adapters]
    assert first == [32] * 8
    assert optimizer.solve(short, method="proposed-fast", gpus=3).status == "no_plan"
