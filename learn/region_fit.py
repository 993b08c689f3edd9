"""From twin runs to linear regions: the shared boundary model, calibrated option by option to each side.

The inner region is shrunk until, in cross-validation over compositions, a set share of the boundaries
lies outside; the outer one is widened until a set share lies inside. How much depends on the option:
its own residuals, drawn towards those of all.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from learn.boundaries.boundary import BoundaryModel, BoundaryPoints, boundary_points, fit_points
from learn.design import SamplingPlan, plan_values
from learn.features import ADDITIVE, FEATURES, REGIMES, FloatArray, IntArray, Regime
from learn.latency.floor import fit_floors
from learn.latency.upper import fit_latency
from learn.params import DEFAULTS, LearnParams, RegionFitParams
from learn.region import Domain, FeasibilityRegion, OptionErrors, OptionRows, Provenance, Regions, Row
from learn.space import DesignSpace
from learn.storage.dataset import Dataset

Kind = Literal["inner", "outer"]

UNITS = {f.name: f.unit for f in FEATURES if f.additive}


@dataclass(frozen=True)
class Calibration:
    """How far to shift the rows of each option of one regime, for the inner and for the outer region.

    Parameters
    ----------
    factors
        Factor on the coefficients by option, shape (n_options,).
    errors
        Cross-validated errors of the rows by option; None where there were no points.
    """

    factors: Mapping[Kind, FloatArray]
    errors: Mapping[Kind, tuple[OptionErrors | None, ...]]


def linearize(
    dataset: Dataset,
    space: DesignSpace,
    *,
    confirmed: Dataset | None = None,
    params: LearnParams = DEFAULTS,
    command: str = "learn.linearize",
) -> Regions:
    """Linear regions and latency estimates of every option of a space.

    Parameters
    ----------
    dataset
        Twin runs of the space.
    confirmed
        Runs of some of its mixes by the whole rule of the criterion. Where the boundary of a mix lies by
        these and by the dataset's shorter runs says how far the latter are to be trusted.
    params
        How rows and latencies are fitted, and how sure the regions are to keep starved runs out, and
        accepted runs in.
    command
        What to write down as the maker.

    Raises
    ------
    learn.boundaries.boundary.BoundaryError
        If no boundary was bracketed.
    """
    points = boundary_points(dataset, params.boundary)
    engines = np.array([o.numbers for o in space.options], dtype=np.float64)
    model = fit_points(points, engines, params.boundary)
    cross = _CrossValidation.of(points, model, params.region_fit.folds)
    again = None if confirmed is None else boundary_points(confirmed, params.boundary)
    calibrations = {
        regime: _calibrate(cross, _corrections(points, again, model, regime), regime, params.region_fit)
        for regime in REGIMES
    }
    # The base model alone has no adapter with a rate.
    max_rate = float(dataset.table["rate_max"].max() or dataset.table["total_rate"].max())
    inner, outer = (
        FeasibilityRegion(
            kind=kind,
            features=ADDITIVE,
            options=tuple(
                _option_rows(space, k, regime, model, calibrations, kind, max_rate, params)
                for k in range(len(space.options))
                for regime in REGIMES
            ),
        )
        for kind in ("inner", "outer")
    )
    return Regions(
        units=UNITS,
        provenance=Provenance(
            command=command,
            plan=dict(sorted(dataset.metadata["plan"].items())),
            runs=len(dataset) + (0 if confirmed is None else len(confirmed)),
            boundaries=len(points.engines),
            **origin(space, params),
        ),
        inner=inner,
        outer=outer,
        latency=tuple(
            latency
            for regime in REGIMES
            for latency in fit_latency(dataset, model, space, regime, params.latency_fit)
        ),
        floors=fit_floors(dataset, confirmed, space, params.latency_floor),
    )


def origin(space: DesignSpace, params: LearnParams) -> dict[str, Any]:
    """What regions say of the space and the parameters that they were made for."""
    return {
        "space": space.describe(),
        "inner_confidence": params.region_fit.inner_confidence,
        "outer_confidence": params.region_fit.outer_confidence,
        "params": params.of_regions(),
    }


def no_regions(space: DesignSpace, plan: SamplingPlan, params: LearnParams) -> Regions:
    """Regions without any option, for a space in which no engine starts."""
    return Regions(
        units=UNITS,
        provenance=Provenance(
            command="",
            plan=plan_values(plan),
            runs=0,
            boundaries=0,
            note="no option starts",
            **origin(space, params),
        ),
        inner=FeasibilityRegion(kind="inner", features=ADDITIVE, options=()),
        outer=FeasibilityRegion(kind="outer", features=ADDITIVE, options=()),
        latency=(),
    )


def _option_rows(
    space: DesignSpace,
    index: int,
    regime: Regime,
    model: BoundaryModel,
    calibrations: Mapping[Regime, Calibration],
    kind: Kind,
    max_rate: float,
    params: LearnParams,
) -> OptionRows:
    option = space.options[index]
    max_adapters = space.most_adapters(option, params.design)
    own = of_work = calibrations[regime].factors[kind][index]
    resident = calibrations["resident"]
    if kind == "inner" and any(resident.errors[kind]):
        # A GPU is inside if either regime's rows hold: those for shared slots must not let more work in.
        of_work = max(own, resident.factors[kind][index])
    rows = [
        _row(meaning, np.asarray(factor * coefficients))
        for meaning, factor, coefficients in zip(
            _MEANINGS, (of_work, own), model.rows(regime)[index], strict=False
        )
    ]
    if regime == "resident":
        rows.append(_count_row("a slot for every adapter", option.max_loras))
    elif kind == "inner":
        rows.append(_count_row("most adapters that were sampled", max_adapters))
    return OptionRows(
        device=space.device,
        max_loras=option.max_loras,
        max_lora_rank=option.max_lora_rank,
        regime=regime,
        kv_cache_tokens=option.kv_cache_tokens,
        rows=tuple(rows),
        domain=Domain(max_adapters=max_adapters, max_rate=_short(max_rate), min_rate=0.0),
        errors=calibrations[regime].errors[kind][index],
    )


_MEANINGS = ("work", "slots in use")
"""What the rows of the boundary limit; a GPU with a slot for every adapter has the first alone."""


def _row(meaning: str, coefficients: FloatArray) -> Row:
    return Row(meaning=meaning, coefficients=tuple(_short(value) for value in coefficients), bound=1.0)


def _short(value: float) -> float:
    """A number with six significant digits: enough for a reader, and the same on any machine."""
    return float(f"{value:.6g}")


def _count_row(meaning: str, upper_bound: int) -> Row:
    coefficients = tuple(1.0 if name == "count" else 0.0 for name in ADDITIVE)
    return Row(meaning=meaning, coefficients=coefficients, bound=float(upper_bound))


# --- calibration -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class _CrossValidation:
    """Models of the boundary that each did not see a part of the points.

    Parameters
    ----------
    points
        All points.
    option
        Option of each, shape (n,).
    fold
        Part to which each belongs, shape (n,).
    whole
        The model of all points.
    models
        By part, the model of the others.
    """

    points: BoundaryPoints
    option: IntArray
    fold: IntArray
    whole: BoundaryModel
    models: tuple[BoundaryModel, ...]

    @classmethod
    def of(cls, points: BoundaryPoints, whole: BoundaryModel, folds: int) -> _CrossValidation:
        option = np.array([np.flatnonzero((whole.engines == e).all(axis=1))[0] for e in points.engines])
        # Dealt option by option and regime by regime, so that every fit sees some of their own mixes, and
        # each from another fold on, so that those with few do not all lose theirs to the first folds.
        fold, kind = np.zeros(len(option), dtype=np.int64), 2 * option + points.shared
        for k in np.unique(kind):
            fold[kind == k] = (np.arange(np.count_nonzero(kind == k)) + k // 2) % folds
        seen = [points.where(fold != k) for k in range(folds)]
        models = tuple(fit_points(train, whole.engines, whole.params) for train in seen if len(train.engines))
        return cls(points, option, fold, whole, models)

    def logs(self, regime: Regime, prior: float) -> FloatArray:
        """Logarithms of left-hand sides at the regime's points, less the option's offset, shape (3, n)."""
        own = self.points.shared == (regime == "shared")
        logs = np.zeros((3, len(own)))
        for k, model in enumerate(self.models):
            test, train = own & (self.fold == k), own & (self.fold != k)
            if not (test.any() and train.any()):
                continue
            seen = self.points.where(train)
            residual = _log_values(model, regime, seen.middle, seen.engines)
            offset = _offset(residual, self.option[train], len(self.whole.engines), prior)
            left = self.points.where(test)
            for side, sums in enumerate((left.accepted, left.middle, left.starved)):
                logs[side, test] = _log_values(model, regime, sums, left.engines) - offset[self.option[test]]
        return logs[:, own]


def _corrections(
    points: BoundaryPoints, again: BoundaryPoints | None, model: BoundaryModel, regime: Regime
) -> FloatArray:
    """By how much the logarithm of the left-hand side is another at boundaries found again, shape (m,)."""
    if again is None:
        return np.zeros(1)
    shared = regime == "shared"
    first, second = points.where(points.shared == shared), again.where(again.shared == shared)
    _, of_first, of_second = np.intersect1d(first.composition, second.composition, return_indices=True)
    if not len(of_first):
        return np.zeros(1)
    at = [
        _log_values(model, regime, one.middle[places], one.engines[places])
        for one, places in ((first, of_first), (second, of_second))
    ]
    return np.asarray(at[1] - at[0])


def _calibrate(
    cross: _CrossValidation, corrections: FloatArray, regime: Regime, params: RegionFitParams
) -> Calibration:
    n = len(cross.whole.engines)
    mask = cross.points.shared == (regime == "shared")
    own, option = cross.points.where(mask), cross.option[mask]
    if len(own.engines) < 2 * params.folds:
        factor, none = np.full(n, params.unknown_factor), (None,) * n
        return Calibration({"inner": factor, "outer": 1 / factor}, {"inner": none, "outer": none})
    # Any point might have been found elsewhere by as much as any of those that were looked for again.
    logs = cross.logs(regime, params.prior_points)[:, :, None] + corrections
    # Options have too few points for quantiles of their own: the residuals of all, each over its option's
    # spread, give one quantile, and an option's spread turns it back into a shift.
    spread = _spread(logs[_MIDDLE].mean(axis=1) - corrections.mean(), option, n, params.prior_points)
    residual = logs[_MIDDLE] / spread[option][:, None]
    outside = params.inner_confidence[regime]
    share: dict[Kind, float] = {"inner": 1.0 - outside, "outer": params.outer_confidence}
    shifts = {kind: float(np.quantile(residual, share[kind])) * spread for kind in share}
    seen = _log_values(cross.whole, regime, own.middle, own.engines)
    base = _offset(seen, option, n, params.prior_points)
    return Calibration(
        factors={kind: np.exp(-(base + shift)) for kind, shift in shifts.items()},
        errors={kind: _errors_by_option(logs, option, shift) for kind, shift in shifts.items()},
    )


_ACCEPTED, _MIDDLE, _STARVED = range(3)
"""Rows of logarithms of left-hand sides: at the ends and in the middle of brackets."""


def _log_values(model: BoundaryModel, regime: Regime, sums: FloatArray, engines: FloatArray) -> FloatArray:
    return np.asarray(np.log(np.maximum(model.values(regime, sums, engines), 1e-6)))


def _offset(residual: FloatArray, option: IntArray, n_options: int, prior: float) -> FloatArray:
    """Mean residual of each option, drawn towards the mean of all, shape (n_options,)."""
    number = np.bincount(option, minlength=n_options)
    total = np.bincount(option, weights=residual, minlength=n_options)
    return np.asarray((total + prior * np.median(residual)) / (number + prior))


def _spread(residual: FloatArray, option: IntArray, n_options: int, prior: float) -> FloatArray:
    """Standard deviation of each option's residuals, drawn towards that of all, shape (n_options,)."""
    number = np.bincount(option, minlength=n_options)
    squares = np.bincount(option, weights=residual**2, minlength=n_options)
    typical = float(np.median(np.abs(residual)) / 0.6745)  # of a normal distribution; robust to outliers
    return np.asarray(np.sqrt((squares + prior * typical**2) / (number + prior)) + 1e-9)


def _errors_by_option(
    logs: FloatArray, option: IntArray, shift: FloatArray
) -> tuple[OptionErrors | None, ...]:
    return tuple(
        _errors(logs[:, option == k], float(shift[k])) if (option == k).any() else None
        for k in range(len(shift))
    )


def _errors(logs: FloatArray, shift: float) -> OptionErrors:
    n = logs.shape[1]  # over all corrections of each
    return OptionErrors(
        n_starved=n,
        n_accepted=n,
        false_feasible=_short((logs[_STARVED] < shift).mean()),
        false_infeasible=_short((logs[_ACCEPTED] > shift).mean()),
        mean_usage=_short(np.exp(logs[_MIDDLE] - shift).mean()),
    )
