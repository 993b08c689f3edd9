from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from learn import FEATURES, Engines, additive_features, candidate_features
from learn.estimators import INPUTS
from learn.features import ADDITIVE, additive_columns
from scenarios import AdapterClass, FixedLengths, LognormalLengths

NAMES = [f.name for f in FEATURES]


def of(rate: float, prompt: int = 200, output: int = 100, names: int = 1, rank: int = 8) -> AdapterClass:
    return AdapterClass(
        rank=rank,
        rate=rate,
        prompt=FixedLengths(tokens=prompt),
        output=FixedLengths(tokens=output),
        names=tuple(f"a{k}" for k in range(names)),
    )


def engines(m: int = 1, slots: float = 8.0) -> Engines:
    return Engines(np.full(m, slots), np.full(m, 16.0), np.full(m, 1e5))


def test_names_are_distinct_and_additive_ones_come_first() -> None:
    assert len(set(NAMES)) == len(NAMES)
    assert tuple(NAMES[: len(ADDITIVE)]) == ADDITIVE
    assert all(f.unit and f.meaning for f in FEATURES)


def test_additive_features_of_one_adapter_are_what_they_say() -> None:
    row = dict(zip(ADDITIVE, additive_features([of(0.5, prompt=200, output=100)])[0], strict=True))
    assert row["count"] == 1
    assert row["rate"] == 0.5
    assert row["prompt_rate"] == 100
    assert row["output_rate"] == 50
    assert row["sqrt_rate"] == pytest.approx(0.5**0.5)
    assert row["active_16s"] == pytest.approx(1 - np.exp(-8))


def test_an_adapter_holds_a_slot_while_it_has_requests_and_waits_between() -> None:
    rate, output, wait = np.array([1e-4, 1e-3, 0.01, 0.1, 1.0, 10.0]), 200.0, 600.0
    held = additive_columns(rate, 100.0, output, output**2)[:, ADDITIVE.index("held_40ms")]
    busy, idle = np.expm1(rate * output * 0.040) / rate, 1 / rate  # M/G/infinity
    np.testing.assert_allclose(held, busy / (busy + idle + wait), rtol=1e-9)
    assert held[0] < 0.002
    assert held[-1] == pytest.approx(1.0)


@given(st.lists(st.tuples(st.floats(1e-4, 50), st.integers(0, 9)), min_size=1, max_size=8))
def test_a_gpu_has_the_sum_of_its_adapters(mix: list[tuple[float, int]]) -> None:
    rate = np.array([r for r, _ in mix])
    counts = np.array([n for _, n in mix])
    grouped = counts @ additive_columns(rate, 100.0, 100.0, 2e4)
    each = additive_columns(np.repeat(rate, counts), 100.0, 100.0, 2e4)
    np.testing.assert_allclose(grouped, each.sum(axis=0), rtol=1e-12, atol=1e-12)


def test_features_of_classes_equal_those_of_their_adapters() -> None:
    rate, rank = np.array([0.5, 2.0]), np.array([8, 16])
    tokens = np.array([100.0, 300.0])
    grouped = candidate_features(rate, rank, tokens, tokens, tokens**2, [[3, 2]], engines())
    index = np.repeat([0, 1], [3, 2])
    each = candidate_features(
        rate[index], rank[index], tokens[index], tokens[index], tokens[index] ** 2, np.ones((1, 5)), engines()
    )
    np.testing.assert_allclose(grouped, each, rtol=1e-12)


def test_absent_classes_leave_no_trace() -> None:
    rate, rank, tokens = np.array([0.5, 9.0]), np.array([8, 64]), np.array([100.0, 900.0])
    both = candidate_features(rate, rank, tokens, tokens, tokens**2, [[4, 0]], engines())
    alone = candidate_features(rate[:1], rank[:1], tokens[:1], tokens[:1], tokens[:1] ** 2, [[4]], engines())
    np.testing.assert_allclose(both, alone)


def test_means_and_maxima_are_no_sums() -> None:
    flags = {f.name: f.additive for f in FEATURES}
    assert not any(flags[name] for name in ("rate_max", "rank_mean", "rate_std", "max_loras"))


def test_lengths_count() -> None:
    short, long = additive_features([of(1.0, output=50)]), additive_features([of(1.0, output=500)])
    assert (short != long).any()


def test_the_spread_of_answers_counts() -> None:
    even = of(1.0, output=400)
    uneven = replace(even, output=LognormalLengths(mean=400, std=900, max=100_000))
    row, other = (dict(zip(ADDITIVE, additive_features([one])[0], strict=True)) for one in (even, uneven))
    assert row["output_rate"] == other["output_rate"]
    assert other["resident_rate"] > 2 * row["resident_rate"]


def test_only_rates_that_wander_have_a_variance() -> None:
    k = ADDITIVE.index("output_variance")
    steady, wandering = (additive_columns([2.0, 1.0], 100.0, 500.0, 3e5, wander=w)[:, k] for w in (0.0, 1.5))
    np.testing.assert_array_equal(steady, 0.0)
    np.testing.assert_allclose(wandering, [1.5, 0.375])  # of 1,000 and 500 tokens/s, in millions


def test_surrogates_know_the_concentration_of_the_rates_instead() -> None:
    assert "output_variance" not in INPUTS
    assert "rate_concentration" in INPUTS
