"""Processes, rates and lengths are found again in logs that are drawn from known ones."""

from __future__ import annotations

import numpy as np
import pytest

from scenarios import FixedLengths, HistogramLengths, LognormalLengths, PoissonArrivals
from scenarios.importers.traffic.arrival_fits import fit_arrivals
from scenarios.importers.traffic.length_fits import fit_lengths
from scenarios.importers.traffic.windows import choose_window, dispersion_of, rate_interval
from scenarios.traffic.arrivals import GammaArrivals, HyperexponentialArrivals, OnOffArrivals

HOUR = 3600.0


def poisson(rng: np.random.Generator, rate: float, length_s: float = HOUR) -> np.ndarray:
    return np.sort(rng.random(rng.poisson(rate * length_s)) * length_s)


def gamma(rng: np.random.Generator, rate: float, cv: float) -> np.ndarray:
    gaps = rng.gamma(cv**-2, cv**2 / rate, int(2 * rate * HOUR) + 100)
    times = np.cumsum(gaps)
    return times[times < HOUR]


def on_off(rng: np.random.Generator, rate: float, on_s: float, off_s: float) -> np.ndarray:
    times, now = [], 0.0
    while now < HOUR:
        stay = rng.exponential(on_s)
        times.append(now + np.sort(rng.random(rng.poisson(rate * stay)) * stay))
        now += stay + rng.exponential(off_s)
    joined = np.concatenate(times)
    return joined[joined < HOUR]


def test_poisson_passes_nearly_always() -> None:
    rng = np.random.default_rng(1)
    fits = [fit_arrivals(poisson(rng, 0.2), HOUR, 1) for _ in range(200)]
    assert sum(isinstance(fit.arrivals, PoissonArrivals) for fit in fits) >= 190


def test_of_many_poisson_adapters_hardly_any_is_called_otherwise() -> None:
    rng = np.random.default_rng(2)
    fits = [fit_arrivals(poisson(rng, 0.1), HOUR, 100) for _ in range(100)]
    assert sum(isinstance(fit.arrivals, PoissonArrivals) for fit in fits) >= 99


def test_poisson_of_a_clock_that_ticks_in_seconds_is_poisson() -> None:
    rng = np.random.default_rng(3)
    fits = [fit_arrivals(np.floor(poisson(rng, 1.0)), HOUR, 1) for _ in range(20)]
    assert sum(isinstance(fit.arrivals, PoissonArrivals) for fit in fits) >= 18


@pytest.mark.parametrize("cv", [0.5, 2.0])
def test_gamma_is_found_with_its_variation(cv: float) -> None:
    rng = np.random.default_rng(4)
    fits = [fit_arrivals(gamma(rng, 0.5, cv), HOUR, 1).arrivals for _ in range(20)]
    found = [fit.cv for fit in fits if isinstance(fit, GammaArrivals)]
    assert len(found) >= 18
    assert np.median(found) == pytest.approx(cv, rel=0.1)


def test_long_cycles_of_on_and_off_are_never_called_poisson() -> None:
    rng = np.random.default_rng(5)
    fits = [fit_arrivals(on_off(rng, 1.0, 200, 400), HOUR, 1).arrivals for _ in range(20)]
    assert not any(isinstance(fit, PoissonArrivals) for fit in fits)


def test_short_cycles_are_found_as_bursts_of_the_right_kind() -> None:
    rng = np.random.default_rng(6)
    fits = [fit_arrivals(on_off(rng, 10.0, 5, 20), HOUR, 1).arrivals for _ in range(10)]
    kinds = [fit for fit in fits if isinstance(fit, HyperexponentialArrivals | OnOffArrivals)]
    assert len(kinds) >= 8
    cycles = [fit for fit in kinds if isinstance(fit, OnOffArrivals)]
    assert all(fit.on_s == pytest.approx(5, rel=0.5) for fit in cycles)
    assert all(fit.off_s == pytest.approx(20, rel=0.5) for fit in cycles)


def test_a_rate_that_doubles_within_the_hour_is_not_called_poisson() -> None:
    rng = np.random.default_rng(7)
    fits = []
    for _ in range(20):
        early, late = poisson(rng, 0.3, HOUR / 2), poisson(rng, 0.9, HOUR / 2) + HOUR / 2
        fits.append(fit_arrivals(np.concatenate((early, late)), HOUR, 1).arrivals)
    assert not any(isinstance(fit, PoissonArrivals) for fit in fits)


def test_few_requests_are_too_few_to_tell() -> None:
    fit = fit_arrivals(np.linspace(0, 100, 50), 100, 1)
    assert fit.arrivals is None
    assert not fit.enough


@pytest.mark.parametrize("mean", [3, 30, 300])
def test_intervals_hold_the_rate_as_often_as_they_say(mean: int) -> None:
    rng = np.random.default_rng(8)
    held = 0
    for count in rng.poisson(mean, 1000):
        low, high = rate_interval(int(count), 1.0, 1.0)
        held += low <= mean <= high
    assert held >= 940


def test_intervals_of_bursts_are_widened_until_they_hold_the_rate() -> None:
    rng = np.random.default_rng(9)
    held = narrow = 0
    for _ in range(200):
        times = gamma(rng, 0.2, 3.0)
        low, high = rate_interval(len(times), HOUR, dispersion_of(times, HOUR))
        held += low <= 0.2 <= high
        low, high = rate_interval(len(times), HOUR, 1.0)
        narrow += low <= 0.2 <= high
    assert held >= 180
    assert narrow < 150


def test_the_busiest_hour_is_found_wherever_it_begins() -> None:
    rng = np.random.default_rng(10)
    quiet = poisson(rng, 0.1, 86_400.0)
    times = np.sort(np.concatenate((quiet, 30_001.5 + poisson(rng, 2.0))))
    window = choose_window(times - times[0], "busiest")
    assert window.begin_s + times[0] == pytest.approx(30_001.5, abs=60)
    assert window.last - window.first == pytest.approx(7560, rel=0.05)
    whole = choose_window(times - times[0], "mean")
    assert (whole.first, whole.last) == (0, len(times))
    assert "only" in choose_window(np.linspace(0, 100, 11), "busiest").told


def test_lengths_that_are_all_equal_are_fixed() -> None:
    assert fit_lengths(np.full(50, 7, dtype=np.int32)) == FixedLengths(tokens=7)
    assert fit_lengths(np.full(49, 7, dtype=np.int32)) is None


def test_lognormal_lengths_are_found_with_their_mean() -> None:
    rng = np.random.default_rng(11)
    for n in (100, 2000, 50_000):
        seen = np.maximum(np.rint(rng.lognormal(5, 0.8, n)), 1).astype(np.int32)
        fit = fit_lengths(seen)
        assert isinstance(fit, LognormalLengths)
        assert fit.mean_tokens == pytest.approx(seen.mean(), rel=0.01)
        assert fit.max == seen.max()


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng: np.where(rng.random(5000) < 0.7, 100, 2000) + rng.integers(0, 50, 5000),
        lambda rng: rng.integers(1, 5, 5000),
        lambda rng: np.where(rng.random(5000) < 0.99, 1, 4000),
        lambda rng: np.minimum(np.rint(rng.pareto(1.1, 5000) * 20) + 1, 100_000),
        lambda rng: np.minimum(rng.integers(1, 4000, 5000), 512),
        lambda rng: rng.choice([1, 2, 3, 1000, 2000, 3000, 4000, 5000, 6000, 7000, 8000, 9000], 5000),
    ],
)
def test_other_lengths_are_a_histogram_with_the_mean_that_was_seen(draw) -> None:  # type: ignore[no-untyped-def]
    seen = draw(np.random.default_rng(12)).astype(np.int32)
    fit = fit_lengths(seen)
    assert isinstance(fit, HistogramLengths)
    assert len(fit.weights) <= 20
    assert fit.mean_tokens == pytest.approx(seen.mean(), rel=0.01)
