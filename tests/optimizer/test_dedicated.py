"""Adapters alone on a GPU: parts of hot ones, and what no GPU can give."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

import optimizer
import scenarios
import twin
from optimizer.packing.bounds.price_bounds import price_bound
from optimizer.search.dedicated import DedicatedGPUCheck, smallest_accepted
from optimizer.search.preparation import instance_of
from optimizer.search.splitting import InfeasibleError
from scenarios import UNLIMITED


@pytest.mark.parametrize(
    ("first", "guess", "least"), [(1, 2, 1), (2, 3, 3), (3, 9, 5), (3, 5, 23), (4, 4, 64)]
)
def test_the_fewest_that_are_accepted(first: int, guess: int, least: int) -> None:
    assert smallest_accepted(first, guess, 64, lambda n: n >= least) == least


def test_none_where_not_even_the_most_are_accepted() -> None:
    assert smallest_accepted(1, 2, 64, lambda _: False) is None


def test_a_hot_adapter_has_as_few_parts_as_the_twin_accepts() -> None:
    scenario = scenarios.read("hot_adapter", overrides=["allow_replicas=true", "replications=1"])
    for rate in (45, 90):
        hot = scenarios.override(scenario, [f"adapters[0].rate={rate}"])
        instance = instance_of(hot)
        parts = len(instance.classes[0].names)
        alone = DedicatedGPUCheck(twin.TwinJudge(hot, instance.profiles))
        assert alone.verdict(hot.classes[0], 1 / parts)[1].accepted
        assert not alone.verdict(hot.classes[0], 1 / (parts - 1))[1].accepted
        assert not len(instance.inner.unpackable())
        assert instance.split_in_words == f' for {parts} equal parts of adapter "support"'


@pytest.mark.parametrize("rate", [42, 60])
def test_a_whole_adapter_that_exceeds_a_gpu_is_named_with_the_rate_that_fits(rate: int) -> None:
    scenario = scenarios.read("hot_adapter", overrides=[f"adapters[0].rate={rate}", "replications=1"])
    with pytest.raises(
        InfeasibleError, match=r'"support" alone needs 1\.\d\d GPUs.*lower its rate to'
    ) as said:
        instance_of(scenario)
    fits = float(str(said.value).split("lower its rate to ")[1].split(" ")[0])
    assert 35 < fits < 42
    assert "allow_replicas: true" in str(said.value)


def test_the_outer_bound_holds_for_unequal_shares() -> None:
    """Two equal parts of 28 requests/s and a whole 22 need three GPUs; shares of 39 and 17 need two."""
    scenario = scenarios.read(
        "hot_adapter",
        overrides=[
            "acceptance=paper",
            "allow_replicas=true",
            "replications=1",
            "adapters[0].rate=56",
            "adapters[1].count=1",
            "adapters[1].rate=22",
            "adapters[1].rank=16",
        ],
    )
    instance = instance_of(scenario)
    assert instance.divisible is not None
    assert price_bound(instance.divisible, UNLIMITED, 1.0) == 2
    assert math.isinf(price_bound(replace(instance.divisible, max_bins=1), UNLIMITED, 1.0))


@pytest.mark.parametrize(
    ("levels", "said"),
    [
        ("{itl_ms: {p50: 1}}", "loosen service_levels.itl_ms.p50"),
        ("{ttft_ms: {p99: 1}}", "loosen service_levels.ttft_ms.p99"),
        ("{served_share: 1.0, adapter_served_share: 1.0}", "lower served_share to at most 0.999"),
    ],
)
def test_service_levels_that_no_load_meets_are_infeasible(levels: str, said: str) -> None:
    acceptance = "paper" if "served_share" in levels else "sustained"
    overrides = [f"acceptance={acceptance}", "replications=1", f"service_levels={levels}"]
    result = optimizer.solve(scenarios.read("hot_adapter", overrides=overrides))
    assert (result.status, result.stop_reason) == ("infeasible", "proven")
    assert said in result.message


def test_an_adapters_own_level_that_not_even_a_small_part_meets_is_infeasible() -> None:
    own = "adapters[0].service_levels={itl_ms: {p50: 1}}"
    scenario = scenarios.read("hot_adapter", overrides=[own, "allow_replicas=true", "replications=1"])
    result = optimizer.solve(scenario)
    assert (result.status, result.stop_reason) == ("infeasible", "proven")
    assert 'adapter "support" alone' in result.message
    assert "above 1 ms" in result.message


def test_rare_requests_do_not_make_a_load_infeasible() -> None:
    """A single request that is under way at the end is no reason: several adapters are asked about."""
    scenario = scenarios.read(
        "paper_low_1024", overrides=["acceptance=paper", "replications=1", "workload.duration_s=600"]
    )
    assert DedicatedGPUCheck(twin.TwinJudge(scenario, twin.profiles_of(scenario))).lightest()[1].accepted
