"""Drawn lengths have the means and bounds that they promise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import ndtr

from scenarios import FixedLengths, HistogramLengths, Lengths, LognormalLengths
from twin.workload.lengths import (
    _clipped_mean,
    _log_moments,
    draw_lengths,
    first_lengths,
    lognormal_parameters,
    mean_square_tokens,
)

N = 200_000


def _within_noise(drawn: np.ndarray, mean: float) -> bool:
    return abs(drawn.mean() - mean) <= 4.5 * drawn.std() / np.sqrt(len(drawn)) + 1e-9


def test_fixed_lengths_are_all_equal() -> None:
    assert set(draw_lengths(FixedLengths(tokens=195), 10, np.random.default_rng(0))) == {195}


@pytest.mark.parametrize(
    "lengths",
    [
        LognormalLengths(mean=223, std=243, min=4, max=1024),
        LognormalLengths(mean=196, std=210, max=2048),
        LognormalLengths(mean=1.2, std=5, max=10),
        LognormalLengths(mean=900, std=500, max=1024),
        LognormalLengths(mean=5e5, std=1e6, max=10_000_000),
        LognormalLengths(mean=2, std=0.1, max=100),
        HistogramLengths(edges=(1, 2, 10.5, 100), weights=(1, 2, 0.5)),
        HistogramLengths(edges=(4, 38, 72), weights=(28_993, 0)),
    ],
)
def test_drawn_mean_is_the_mean_asked_for(lengths: Lengths) -> None:
    drawn = draw_lengths(lengths, N, np.random.default_rng(1))
    assert drawn.dtype == np.int32
    assert _within_noise(drawn, lengths.mean_tokens)
    assert drawn.min() >= 1
    if isinstance(lengths, LognormalLengths):
        assert lengths.min <= drawn.min()
        assert drawn.max() <= lengths.max


def _by_bisection(lengths: LognormalLengths) -> tuple[float, float]:
    """The parameters by plain bisection, whose last bits every recorded verdict depends on."""
    low, high = np.log(lengths.mean) - 40.0, np.log(lengths.mean) + 40.0
    for _ in range(100):
        middle = (low + high) / 2
        moments = _log_moments(middle, lengths.std)
        if _clipped_mean(*moments, lengths.min, lengths.max) < lengths.mean:
            low = middle
        else:
            high = middle
        if high - low < 1e-13:
            break
    return _log_moments((low + high) / 2, lengths.std)


@given(
    low=st.integers(1, 500),
    span=st.integers(2, 100_000),
    where=st.floats(0.001, 0.999),
    spread=st.floats(0.01, 10),
)
@settings(max_examples=60, deadline=None)
def test_parameters_are_those_of_plain_bisection_to_the_last_bit(
    low: int, span: int, where: float, spread: float
) -> None:
    mean = low + where * span
    lengths = LognormalLengths(mean=mean, std=spread * mean, min=low, max=low + span)
    assert lognormal_parameters(lengths) == _by_bisection(lengths)


@given(
    low=st.integers(1, 500),
    span=st.integers(2, 100_000),
    where=st.floats(0.02, 0.98),
    spread=st.floats(0.05, 5),
)
@settings(max_examples=40, deadline=None)
def test_lognormal_mean_is_met_wherever_it_lies(low: int, span: int, where: float, spread: float) -> None:
    mean = low + where * span
    lengths = LognormalLengths(mean=mean, std=spread * mean, min=low, max=low + span)
    mu, sigma = lognormal_parameters(lengths)
    tokens = np.arange(low, low + span)
    expected = low + ndtr((mu - np.log(tokens + 0.5)) / sigma).sum()
    assert expected == pytest.approx(mean, rel=1e-4)


def test_empty_bins_are_never_drawn() -> None:
    lengths = HistogramLengths(edges=(10, 20, 30, 40, 50), weights=(0, 1, 0, 0))
    drawn = draw_lengths(lengths, 10_000, np.random.default_rng(2))
    assert drawn.min() >= 20
    assert drawn.max() <= 30


def test_histogram_follows_its_weights() -> None:
    lengths = HistogramLengths(edges=(1, 101, 201, 301), weights=(5, 3, 2))
    drawn = draw_lengths(lengths, N, np.random.default_rng(3))
    share = np.histogram(drawn, bins=(1, 101, 201, 302))[0] / N
    assert share == pytest.approx([0.5, 0.3, 0.2], abs=0.006)


def test_the_same_generator_state_draws_the_same() -> None:
    lengths = LognormalLengths(mean=223, std=243)
    first, second = (draw_lengths(lengths, 100, np.random.default_rng(7)) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize(
    "lengths",
    [
        FixedLengths(tokens=20),
        LognormalLengths(mean=200, std=150, min=4, max=2000),
        HistogramLengths(edges=(1.0, 5.0, 90.0), weights=(1.0, 2.0)),
    ],
)
def test_first_lengths_are_those_of_a_fresh_generator_in_whatever_order_they_are_asked_for(
    lengths: Lengths,
) -> None:
    seeds = [np.random.SeedSequence(5, spawn_key=(k,)) for k in range(20)]
    for n in (1_000, 10, 0, 50_000, 1_001):
        for seed in seeds:
            fresh = draw_lengths(lengths, n, np.random.default_rng(seed))
            assert (first_lengths(lengths, n, seed) == fresh).all()
    wide = np.random.SeedSequence([1, 2**40])
    assert (first_lengths(lengths, 9, wide) == draw_lengths(lengths, 9, np.random.default_rng(wide))).all()


@pytest.mark.parametrize(
    "lengths",
    [
        FixedLengths(tokens=5),
        LognormalLengths(mean=250, std=300, max=4096),
        LognormalLengths(mean=400, std=900, min=3, max=2000),
        LognormalLengths(mean=30_000, std=1e6),
        HistogramLengths(edges=(1, 5, 20, 100), weights=(1, 2, 0.5)),
    ],
    ids=repr,
)
def test_the_mean_square_is_that_of_the_drawn_lengths(lengths: Lengths) -> None:
    drawn = draw_lengths(lengths, 400_000, np.random.default_rng(1)).astype(np.float64)
    assert mean_square_tokens(lengths) == pytest.approx((drawn**2).mean(), rel=0.02)
