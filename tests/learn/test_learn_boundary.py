from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from learn import BoundaryError, Dataset
from learn.boundaries.boundary import BoundaryModel, BoundaryPoints, boundary_points, crossing, fit_points
from learn.features import ADDITIVE, REGIMES, Regime, additive_columns
from learn.params import BoundaryParams

ENGINES = np.array([[8.0, 8.0, 3e5], [16.0, 8.0, 2.9e5], [32.0, 16.0, 2.5e5], [64.0, 16.0, 2e5]])


def made_points(n: int, noise: float = 0.0) -> tuple[BoundaryPoints, np.ndarray]:
    """Points of resident mixes whose boundary is a row that depends on the engine, and their true rows."""
    rng = np.random.default_rng(3)
    which = rng.integers(len(ENGINES), size=n)
    engines = ENGINES[which]
    rows = np.zeros((n, len(ADDITIVE)))
    rows[:, ADDITIVE.index("rate")] = 0.01 + 5e3 / engines[:, 2]
    rows[:, ADDITIVE.index("count")] = 0.002 + 1e-4 * engines[:, 0]
    sums = []
    for engine, row in zip(engines, rows, strict=True):
        weight = rng.lognormal(0, 1, rng.integers(1, int(engine[0]) + 1))
        low, high = 1e-3, 1e4
        for _ in range(60):
            rate = np.sqrt(low * high) * weight / weight.sum()
            x = additive_columns(rate, 200.0, 100.0, 1e4).sum(axis=0)
            low, high = (rate.sum(), high) if row @ x < 1 else (low, rate.sum())
        sums.append(x * np.exp(noise * rng.standard_normal()))
    middle = np.array(sums)
    return BoundaryPoints(engines, middle, middle, np.arange(n), np.full(n, 0.5)), rows


def test_a_boundary_that_is_linear_is_found() -> None:
    points, _ = made_points(120)
    model = fit_points(points, ENGINES)
    np.testing.assert_allclose(model.values("resident", points.middle, points.engines), 1.0, rtol=0.01)


@pytest.mark.slow
def test_rows_learned_with_noise_hold_for_points_without() -> None:
    noisy, _ = made_points(160, noise=0.03)
    clean, _ = made_points(160)
    model = fit_points(noisy, ENGINES)
    off = np.log(model.values("resident", clean.middle, clean.engines))
    assert off.std() < 0.02
    assert all((model.rows(regime) >= 0).all() for regime in REGIMES)


def test_where_rates_wander_the_row_has_their_variance() -> None:
    """The boundary of mean + 2 σ, which few hot adapters reach at half the load of many."""
    rng, sums = np.random.default_rng(3), []
    for _ in range(160):
        weight = rng.lognormal(0, rng.uniform(0, 2), rng.integers(1, 65))
        share = weight / weight.sum()
        rate = 30.0 * share / (1.0 + 2.0 * np.sqrt(1.5 * (share**2).sum()))
        sums.append(additive_columns(rate, 200.0, 100.0, 1e4, wander=1.5).sum(axis=0))
    middle, engines = np.array(sums), np.tile(ENGINES[3], (160, 1))
    points = BoundaryPoints(engines, middle, middle, np.arange(160), np.full(160, 0.5))
    steady = middle * (np.array(ADDITIVE) != "output_variance")
    blind = replace(points, accepted=steady, starved=steady)
    off = [
        np.log(fit_points(known, ENGINES[3:]).values("resident", known.middle, engines)).std()
        for known in (points, blind)
    ]
    assert off[0] < 0.7 * off[1]
    assert not fit_points(blind, ENGINES[3:]).work[:, ADDITIVE.index("output_variance")].any()


# --- work and slots --------------------------------------------------------------------------------

RATE, COUNT, HELD = (ADDITIVE.index(name) for name in ("rate", "count", "held_40ms"))


def true_rows(engines: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Work and slots of engines, each of shape (n, K)."""
    work, slots = np.zeros((2, len(engines), len(ADDITIVE)))
    work[:, RATE] = 0.02 + 1e4 / engines[:, 2]
    slots[:, HELD] = 0.9 / engines[:, 0]
    return work, slots


def two_kinds(n: int, seed: int = 4) -> tuple[BoundaryPoints, np.ndarray]:
    """Boundary points of which the first stop by the row that is reached first, and which those are.

    Hot adapters have as much work as there can be before they want all slots; many cold ones want the slots
    of an engine that has little to do.
    """
    rng = np.random.default_rng(seed)
    engines = ENGINES[rng.integers(len(ENGINES), size=n)]
    work, slots = true_rows(engines)
    sums, by_work = [], []
    for engine, *rows in zip(engines, work, slots, strict=True):
        most = int(
            engine[0] * rng.uniform(0.5, 1.0) if rng.random() < 0.3 else engine[0] * rng.uniform(1.1, 6.0)
        )
        weight = rng.lognormal(0, rng.uniform(0, 2), max(most, 1))
        shared = most > engine[0]
        low, high = 1e-2, 1e3
        for _ in range(25):
            rate = np.sqrt(low * high) * weight / weight.sum()
            x = additive_columns(rate, 200.0, 100.0, 1e4, 10.0).sum(axis=0)
            reached = max(rows[0] @ x, rows[1] @ x) if shared else rows[0] @ x
            low, high = (rate.sum(), high) if reached < 1 else (low, rate.sum())
        sums.append(x)
        by_work.append(not shared or rows[0] @ x > rows[1] @ x)
    middle = np.array(sums)
    points = BoundaryPoints(engines, middle, middle, np.arange(n), np.full(n, 0.5))
    return points, np.array(by_work)


@pytest.fixture(scope="module")
def told_apart() -> tuple[BoundaryPoints, np.ndarray, BoundaryModel]:
    points, by_work = two_kinds(300)
    return points, by_work, fit_points(points, ENGINES)


def test_what_stops_a_gpu_is_told_though_it_is_not_observed(
    told_apart: tuple[BoundaryPoints, np.ndarray, BoundaryModel],
) -> None:
    points, by_work, model = told_apart
    assert 0.2 < by_work[points.shared].mean() < 0.8
    assert model.stopped_by_work(points)[~points.shared].all()
    assert (model.stopped_by_work(points) == by_work).mean() > 0.97


def test_both_rows_are_found(told_apart: tuple[BoundaryPoints, np.ndarray, BoundaryModel]) -> None:
    model = told_apart[2]
    fresh, by_work = two_kinds(150, seed=9)
    nearest = np.array([np.flatnonzero((e == ENGINES).all(axis=1))[0] for e in fresh.engines])
    for found, true in zip((model.work, model.slots), true_rows(fresh.engines), strict=True):
        values, expected = ((fresh.middle * rows).sum(axis=1) for rows in (found[nearest], true))
        told = fresh.shared & (expected > 0.5)
        assert told.sum() > 40
        np.testing.assert_allclose(values[told], expected[told], rtol=0.08)
    shared = fresh.where(fresh.shared)
    np.testing.assert_allclose(model.values("shared", shared.middle, shared.engines), 1.0, rtol=0.05)
    assert 0.2 < by_work[fresh.shared].mean() < 0.8


def test_points_that_scatter_are_told_apart_in_rounds() -> None:
    points, by_work = two_kinds(300)
    noise = np.exp(0.05 * np.random.default_rng(0).standard_normal(len(by_work)))[:, None]
    noisy = replace(points, accepted=points.accepted * noise, starved=points.starved * noise)
    once, told = (fit_points(noisy, ENGINES, BoundaryParams(rounds=rounds)) for rounds in (1, 6))
    right = [(m.stopped_by_work(points) == by_work)[points.shared].mean() for m in (once, told)]
    assert right[1] > 0.95 > right[0]
    shared = points.where(points.shared)
    off = [np.log(m.values("shared", shared.middle, shared.engines)).std() for m in (once, told)]
    assert off[1] < 0.05 < off[0]


def test_one_row_cannot_tell_both(told_apart: tuple[BoundaryPoints, np.ndarray, BoundaryModel]) -> None:
    """Why there are two: either row alone leaves points of the other far inside."""
    points, by_work, model = told_apart
    of_work = (points.middle * model.work[0]).sum(axis=1)
    own = (points.engines == ENGINES[0]).all(axis=1) & points.shared
    assert of_work[own & ~by_work].min() < 0.5
    assert of_work[own & by_work] == pytest.approx(1.0, rel=0.05)


def test_gpus_with_a_slot_for_every_adapter_have_the_row_of_the_work_alone(
    told_apart: tuple[BoundaryPoints, np.ndarray, BoundaryModel],
) -> None:
    points, _, model = told_apart
    assert model.rows("resident").shape == (len(ENGINES), 1, len(ADDITIVE))
    assert model.rows("shared").shape == (len(ENGINES), 2, len(ADDITIVE))
    np.testing.assert_array_equal(model.rows("resident")[:, 0], model.rows("shared")[:, 0])
    assert not model.work[:, [k for k, name in enumerate(ADDITIVE) if name.startswith("held_")]].any()
    for regime in REGIMES:
        own = points.where(points.shared == (regime == "shared"))
        np.testing.assert_array_equal(
            model.fill(own.middle, own.engines), model.values(regime, own.middle, own.engines)
        )


@pytest.mark.parametrize("regime", REGIMES)
def test_where_all_points_are_of_one_kind_there_still_are_both_rows(regime: Regime) -> None:
    points, _ = two_kinds(150)
    own = points.where(points.shared == (regime == "shared"))
    model = fit_points(own, ENGINES)
    assert np.isfinite(model.rows("shared")).all()
    assert (model.rows("shared").sum(axis=2) > 0).all()
    np.testing.assert_allclose(model.values(regime, own.middle, own.engines), 1.0, rtol=0.2)


def test_without_points_there_is_no_boundary() -> None:
    points, _ = made_points(4)
    with pytest.raises(BoundaryError, match="sample more"):
        fit_points(points.where(np.zeros(4, dtype=bool)), ENGINES)


@pytest.mark.parametrize(
    ("accepted", "starved", "place"), [(0.05, -0.05, 0.5), (0.09, -0.01, 0.85), (0.0, -0.3, 0.15)]
)
def test_the_boundary_lies_where_the_margin_crosses_zero(
    accepted: float, starved: float, place: float
) -> None:
    assert crossing(np.array(accepted), np.array(starved)) == pytest.approx(place)


def test_the_middle_lies_between_the_runs_around_it(dataset: Dataset) -> None:
    points = boundary_points(dataset)
    rate = ADDITIVE.index("rate")
    assert len(points.engines) > 20
    assert (points.accepted[:, rate] < points.middle[:, rate]).all()
    assert (points.middle[:, rate] < points.starved[:, rate]).all()
    assert (points.starved[:, rate] <= 1.25 * points.accepted[:, rate] * (1 + 1e-9)).all()
