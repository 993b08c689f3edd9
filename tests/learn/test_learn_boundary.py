from __future__ import annotations

import numpy as np
import pytest

from learn import BoundaryError, Dataset
from learn.boundary import BoundaryPoints, boundary_points, crossing, fit_points
from learn.features import ADDITIVE, additive_columns

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


def test_rows_learned_with_noise_hold_for_points_without() -> None:
    noisy, _ = made_points(160, noise=0.03)
    clean, _ = made_points(160)
    model = fit_points(noisy, ENGINES)
    off = np.log(model.values("resident", clean.middle, clean.engines))
    assert off.std() < 0.02
    assert all((c >= 0).all() for c in model.coefficients.values())


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
