"""How far rows are shrunk and widened: by shares of the boundaries, where little is known, and which rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from learn import Dataset, DesignSpace
from learn.boundaries.boundary import BoundaryModel, BoundaryPoints, boundary_points, fit_points
from learn.features import ADDITIVE, REGIMES, Regime
from learn.params import DEFAULTS, RegionFitParams
from learn.region import OptionErrors, OptionRows
from learn.region_fit import (
    _ACCEPTED,
    _MIDDLE,
    _STARVED,
    Calibration,
    Kind,
    _calibrate,
    _CrossValidation,
    _errors,
    _log_values,
    _offset,
    _option_rows,
    _spread,
)

FOLDS = 3
COUNT = ADDITIVE.index("count")
NOT_AGAIN = np.zeros(1)
"""No boundary was found again."""


@pytest.fixture(scope="module")
def points(dataset: Dataset) -> BoundaryPoints:
    return boundary_points(dataset)


@pytest.fixture(scope="module")
def engines(space: DesignSpace) -> np.ndarray:
    return np.array([option.numbers for option in space.options], dtype=np.float64)


@pytest.fixture(scope="module")
def model(points: BoundaryPoints, engines: np.ndarray) -> BoundaryModel:
    return fit_points(points, engines)


@pytest.fixture(scope="module")
def cross(points: BoundaryPoints, model: BoundaryModel) -> _CrossValidation:
    return _CrossValidation.of(points, model, FOLDS)


def inside(cross: _CrossValidation, regime: Regime, kind: Kind, params: RegionFitParams) -> float:
    """Share of the boundaries of a regime that lie inside its rows, by models that did not see them."""
    own = cross.points.shared == (regime == "shared")
    seen, option = cross.points.where(own), cross.option[own]
    base = _offset(
        _log_values(cross.whole, regime, seen.middle, seen.engines),
        option,
        len(cross.whole.engines),
        params.prior_points,
    )
    shift = -np.log(_calibrate(cross, NOT_AGAIN, regime, params).factors[kind]) - base
    return float((cross.logs(regime, params.prior_points)[_MIDDLE] <= shift[option] + 1e-9).mean())


@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("share", [0.2, 0.5, 0.7])
def test_regions_leave_out_and_take_in_the_shares_of_the_boundaries_that_are_asked_for(
    cross: _CrossValidation, regime: Regime, share: float
) -> None:
    n = np.count_nonzero(cross.points.shared == (regime == "shared"))
    params = RegionFitParams(
        folds=FOLDS, resident_confidence=share, shared_confidence=share, outer_confidence=share
    )
    assert inside(cross, regime, "inner", params) == pytest.approx(1 - share, abs=1.01 / n)
    assert inside(cross, regime, "outer", params) == pytest.approx(share, abs=1.01 / n)


def test_boundaries_that_are_held_out_are_not_fitted_to(
    points: BoundaryPoints, cross: _CrossValidation
) -> None:
    others = np.arange(len(ADDITIVE)) != COUNT  # which says what shares slots
    moved = (cross.fold == 0)[:, None] & others
    accepted, starved = (np.where(moved, 3.0 * ends, ends) for ends in (points.accepted, points.starved))
    changed = _CrossValidation.of(replace(points, accepted=accepted, starved=starved), cross.whole, FOLDS)
    assert changed.fold.tolist() == cross.fold.tolist()
    np.testing.assert_array_equal(changed.models[0].work, cross.models[0].work)
    assert not np.allclose(changed.models[1].work, cross.models[1].work)


def test_few_boundaries_shrink_the_inner_and_widen_the_outer_rows_by_a_factor(
    cross: _CrossValidation,
) -> None:
    unknown = _calibrate(cross, NOT_AGAIN, "shared", RegionFitParams(folds=1000, unknown_factor=3.0))
    assert set(unknown.factors["inner"]) == {3.0}
    assert set(unknown.factors["outer"]) == {1 / 3.0}
    assert not any(unknown.errors["inner"] + unknown.errors["outer"])


def test_the_spread_of_an_option_of_few_points_is_drawn_to_that_of_all() -> None:
    residual = np.array([0.1, -0.1] * 20 + [1.0])
    option = np.array([0] * 40 + [1])
    typical = 0.1 / 0.6745
    expected = [(40 * 0.01 + 4 * typical**2) / 44, (1.0 + 4 * typical**2) / 5, typical**2]
    np.testing.assert_allclose(_spread(residual, option, 3, prior=4.0), np.sqrt(expected), rtol=1e-6)


def test_errors_count_what_lies_on_the_wrong_side() -> None:
    logs = np.zeros((3, 5))
    logs[_ACCEPTED], logs[_STARVED] = [-0.5, -0.4, 0.1, 0.2, -0.1], [-0.2, 0.1, 0.4, 0.5, 0.6]
    found = _errors(logs, 0.05)
    assert (found.n_accepted, found.n_starved) == (5, 5)
    assert (found.false_infeasible, found.false_feasible) == (0.4, 0.2)
    assert found.mean_usage == pytest.approx(np.exp(-0.05), rel=1e-5)


# --- rows ------------------------------------------------------------------------------------------

KNOWN = OptionErrors(n_starved=9, n_accepted=9, false_feasible=0, false_infeasible=0, mean_usage=1)


def rows(
    space: DesignSpace, model: BoundaryModel, regime: Regime, kind: Kind, errors: OptionErrors | None
) -> tuple[OptionRows, list[float]]:
    """The rows of the first option, and the factors of those of the model, where resident ones have 2."""
    n = len(space.options)

    def by(factor: float) -> Calibration:
        factors = np.full(n, factor)
        known = {"inner": (errors,) * n, "outer": (None,) * n}
        return Calibration({"inner": factors, "outer": factors}, known)

    calibrations = {"resident": by(2.0), "shared": by(1.0)}
    found = _option_rows(space, 0, regime, model, calibrations, kind, 10.0, DEFAULTS)
    sums = [np.sum(coefficients) for coefficients in model.rows(regime)[0]]
    return found, [float(sum(row.coefficients) / of) for row, of in zip(found.rows, sums, strict=False)]


def test_rows_of_shared_slots_let_no_more_work_in_than_those_of_a_slot_each(
    space: DesignSpace, model: BoundaryModel
) -> None:
    assert rows(space, model, "shared", "inner", KNOWN)[1] == pytest.approx([2.0, 1.0], rel=1e-5)
    assert rows(space, model, "shared", "inner", None)[1] == pytest.approx([1.0, 1.0], rel=1e-5)
    assert rows(space, model, "shared", "outer", KNOWN)[1] == pytest.approx([1.0, 1.0], rel=1e-5)


def test_adapters_are_no_more_than_slots_or_than_were_sampled(
    space: DesignSpace, model: BoundaryModel
) -> None:
    option = space.options[0]
    limits = {
        (regime, kind): [
            row.bound for row in rows(space, model, regime, kind, KNOWN)[0].rows if "adapter" in row.meaning
        ]
        for regime in REGIMES
        for kind in ("inner", "outer")
    }
    assert limits == {
        ("resident", "inner"): [option.max_loras],
        ("resident", "outer"): [option.max_loras],
        ("shared", "inner"): [space.most_adapters(option)],
        ("shared", "outer"): [],
    }
