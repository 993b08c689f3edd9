"""Entries of adapters, dealt and grouped into classes of identical ones."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

import scenarios
from scenarios import padded_rank
from scenarios.adapter_classes import group

LENGTHS = scenarios.FixedLengths(tokens=100)
OTHER = scenarios.FixedLengths(tokens=50)


def entry(**fields: object) -> scenarios.Adapter:
    return scenarios.Adapter.model_validate({"name": "a", "rank": 8, "rate": 1.0, **fields})


@given(st.integers(1, 400), st.integers(1, 6))
def test_the_kth_of_m_values_goes_to_the_rounded_up_share(n: int, m: int) -> None:
    rates = [float(k + 1) for k in range(m)]
    counts = Counter(entry(count=n, rate=rates).rates())
    for k in range(m):
        assert counts[rates[k]] == max(0, math.ceil((n - k) / m))


def test_ranks_and_rates_are_dealt_side_by_side() -> None:
    dealt = entry(count=6, rank=[8, 16, 32], rate=[1.0, 2.0])
    assert dealt.ranks() == (8, 16, 32, 8, 16, 32)
    assert dealt.rates() == (1.0, 2.0, 1.0, 2.0, 1.0, 2.0)


@given(st.integers(1, 500), st.floats(0.01, 1e4), st.floats(0, 3))
def test_zipf_rates_sum_to_the_total_and_fall(n: int, total: float, exponent: float) -> None:
    rates = entry(count=n, rate={"zipf_total": total, "exponent": exponent}).rates()
    assert sum(rates) == pytest.approx(total)
    assert all(a >= b > 0 for a, b in pairwise(rates))
    assert rates[0] / rates[-1] == pytest.approx(n**exponent)


def test_names_are_numbered_evenly() -> None:
    assert entry().names() == ("a",)
    assert entry(count=10).names()[:2] == ("a-01", "a-02")


def test_classes_hold_equal_adapters_in_order() -> None:
    entries = [
        entry(name="x", count=4, rank=[8, 16]),
        entry(name="y", rank=8),
        entry(name="z", rank=8, prompt=OTHER),
        entry(name="w", rank=16, prompt=LENGTHS),
    ]
    classes = group(entries, LENGTHS, LENGTHS)
    assert [(c.rank, c.names) for c in classes] == [
        (8, ("x-1", "x-3", "y")),
        (16, ("x-2", "x-4", "w")),
        (8, ("z",)),
    ]
    assert [c.count for c in classes] == [3, 3, 1]
    assert classes[2].prompt == OTHER


@given(st.integers(1, 60), st.lists(st.sampled_from([8, 16, 32]), min_size=1, max_size=3))
def test_grouping_loses_no_adapter(n: int, ranks: list[int]) -> None:
    one = entry(count=n, rank=ranks, rate=[0.4, 0.2])
    classes = group([one], LENGTHS, LENGTHS)
    assert sorted(name for c in classes for name in c.names) == sorted(one.names())
    assert sum(c.rate * c.count for c in classes) == pytest.approx(sum(one.rates()))


@pytest.mark.parametrize(("rank", "padded"), [(1, 8), (8, 8), (9, 16), (64, 64), (300, 320), (512, 512)])
def test_a_rank_is_padded_to_vllms_next(rank: int, padded: int) -> None:
    assert padded_rank(rank) == padded


def test_a_rank_above_all_is_refused() -> None:
    with pytest.raises(ValueError, match="513"):
        padded_rank(513)


def test_slot_choices_are_the_fixed_one_or_all() -> None:
    assert scenarios.EngineConfig(max_loras=7).slot_choices == (7,)
    assert scenarios.EngineConfig(slots=(32, 8, 8)).slot_choices == (8, 32)


def test_service_levels_of_an_entry_make_classes_of_their_own() -> None:
    gold = scenarios.AdapterSLO(ttft_ms=scenarios.LatencyLimits(p90=500))
    levels = {"ttft_ms": {"p90": 500}}
    scenario = scenarios.from_mapping(
        {
            "name": "levels",
            "model": "llama-3.1-8b-instruct",
            "adapters": [
                {"name": "plain", "count": 2, "rank": 8, "rate": 1},
                {"name": "gold", "count": 3, "rank": 8, "rate": 1, "service_levels": levels},
            ],
            "workload": {"prompt": 100, "output": 100},
            "devices": "H100-64GB",
        }
    )
    assert [(c.count, c.levels) for c in scenario.classes] == [(2, None), (3, gold)]


def test_ranks_are_any_that_a_slot_holds() -> None:
    text = """
name: rank24
model: llama-3.1-8b-instruct
adapters:
  - {name: a, rank: 24, rate: 0.5}
  - {name: b, rank: 96, rate: 0.5}
  - {name: c, rank: 10, rate: 0.5}
workload: {prompt: 200, output: 100}
devices: [{name: H100-64GB, count: 2}]
"""
    scenario = scenarios.loads(text)
    assert [one.rank for one in scenario.classes] == [24, 96, 10]
    assert [scenarios.padded_rank(rank) for rank in (24, 96, 10, 512)] == [32, 128, 16, 512]
