"""The boundary of starvation as linear rows per option, fitted to the runs of the option and its likes.

A GPU is at its boundary for one of two reasons, and each is a row Σ_k a_k · (sum of feature k) ≤ 1 of its
own: it has as much *work* as it can do, or, where its adapters wait for slots (*shared*, in contrast to
*resident*), as many of them want *slots* at a time as there are. Which of the two stopped a boundary point
of shared slots is not observed: both rows are fitted in turn to the points that they explain better, a
regression of the maximum of two linear functions (Magnani and Boyd, Convex piecewise-linear fitting, 2009).

What an adapter costs depends on the engine in a few simple ways (a batch is shared by as many requests as
the KV cache holds, kernels grow with slots and rank), so a_k is a sum of these with coefficients t ≥ 0,
fitted to the boundary points of all options, weighted by how near an option is. a ≥ 0: another adapter
never makes room.

Where rates wander, a GPU keeps up as long as mean + k · √variance of its load stays below what it can do.
That is no sum over adapters, but its tangent near the boundary is: mean + k · (variance / (2 σ) + σ / 2). So
the row has the sum of the variances beside that of the rates.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.optimize import nnls
from scipy.spatial import KDTree

from learn.features import (
    ADDITIVE,
    REGIMES,
    VARIANCE,
    BoolArray,
    FloatArray,
    IntArray,
    Regime,
    shares_slots,
)
from learn.params import DEFAULTS, BoundaryParams
from learn.storage.dataset import Dataset
from scenarios import LorapackError

_COUNT = ADDITIVE.index("count")
_RATE = ADDITIVE.index("rate")
_TOKENS = tuple(ADDITIVE.index(name) for name in ("prompt_rate", "output_rate", "resident_rate"))
_SQRT = ADDITIVE.index("sqrt_rate")
_ACTIVE = tuple(k for k, name in enumerate(ADDITIVE) if name.startswith("active_"))
_VARIANCE = ADDITIVE.index(VARIANCE)
_HELD = tuple(k for k, name in enumerate(ADDITIVE) if name.startswith("held_"))


class BoundaryError(LorapackError, ValueError):
    """There are too few runs around the boundary to learn it."""


@dataclass(frozen=True)
class BoundaryPoints:
    """Where compositions start to starve: one entry per composition whose boundary was bracketed.

    Parameters
    ----------
    engines
        Slots, max rank and KV cache tokens, shape (n, 3).
    accepted, starved
        Feature sums of the heaviest accepted run below, and of the lightest starved run, shape (n, K).
    composition
        Number of the composition, shape (n,).
    place
        Where between the two the margin of the verdict crosses 0: 0 accepted to 1 starved, shape (n,).
    """

    engines: FloatArray
    accepted: FloatArray
    starved: FloatArray
    composition: IntArray
    place: FloatArray

    @cached_property
    def middle(self) -> FloatArray:
        """Feature sums where the margin crosses 0, shape (n, K)."""
        at = self.place[:, None]
        return np.asarray(self.accepted ** (1 - at) * self.starved**at, dtype=np.float64)

    @property
    def shared(self) -> BoolArray:
        """Which have more adapters than slots."""
        return shares_slots(self.middle[:, _COUNT], self.engines[:, 0])

    def where(self, mask: BoolArray) -> BoundaryPoints:
        """The points of a mask."""
        ends = self.accepted[mask], self.starved[mask]
        return BoundaryPoints(self.engines[mask], *ends, self.composition[mask], self.place[mask])


def boundary_points(
    dataset: Dataset, params: BoundaryParams = DEFAULTS.boundary, *, rough: bool = False
) -> BoundaryPoints:
    """The boundary of every composition of a dataset that has accepted and starved runs.

    Parameters
    ----------
    rough
        Whether brackets may be as wide as suffices to say where to search.
    """
    widest = params.max_rough_bracket if rough else params.max_bracket
    sums, starved, groups = dataset.sums, dataset.starved, dataset.groups
    rate = dataset.target("total_rate")
    accepted, rejected = [], []
    for group in np.unique(groups):
        bad = np.flatnonzero((groups == group) & starved)
        if not len(bad):
            continue
        first = bad[np.argmin(rate[bad])]
        good = np.flatnonzero((groups == group) & ~starved & (rate < rate[first]))
        if len(good) and rate[first] <= widest * rate[good].max():
            accepted.append(good[np.argmax(rate[good])])
            rejected.append(first)
    margin = dataset.target("margin")
    place = crossing(margin[accepted], margin[rejected], params)
    return BoundaryPoints(dataset.engines[rejected], sums[accepted], sums[rejected], groups[rejected], place)


def crossing(
    accepted: FloatArray, starved: FloatArray, params: BoundaryParams = DEFAULTS.boundary
) -> FloatArray:
    """Where between two runs the margin crosses 0, from their margins (≥ 0 and < 0), shape (n,)."""
    steepness = np.maximum(accepted - starved, 1e-9)
    ends = params.crossing_margin, 1.0 - params.crossing_margin
    return np.asarray(np.clip(accepted / steepness, *ends), dtype=np.float64)


@dataclass(frozen=True)
class BoundaryModel:
    """The rows of every option.

    Parameters
    ----------
    engines
        Slots, max rank and KV cache tokens of the options, shape (n_options, 3).
    work, slots
        Coefficients of the two rows, at least 0, shape (n_options, K). That of the slots counts where there
        are more adapters than slots.
    params
        Say which options are near each other.
    """

    engines: FloatArray
    work: FloatArray
    slots: FloatArray
    params: BoundaryParams = DEFAULTS.boundary

    def rows(self, regime: Regime) -> FloatArray:
        """Coefficients of the rows of a regime, shape (n_options, rows, K)."""
        return np.stack([self.work] if regime == "resident" else [self.work, self.slots], axis=1)

    def values(self, regime: Regime, sums: FloatArray, engines: FloatArray) -> FloatArray:
        """The larger of the left-hand sides; sums of shape (n, K), engines of (n, 3), each as its nearest."""
        rows = self.rows(regime)[self._nearest(engines)]
        return np.asarray((sums[:, None, :] * rows).sum(axis=2).max(axis=1))

    def fill(self, sums: FloatArray, engines: FloatArray) -> FloatArray:
        """How full GPUs are, 1 at the boundary, shape (n,); sums of shape (n, K), engines of (n, 3)."""
        resident, shared = (self.values(regime, sums, engines) for regime in REGIMES)
        return np.where(shares_slots(sums[:, _COUNT], engines[:, 0]), shared, resident)

    def stopped_by_work(self, points: BoundaryPoints) -> BoolArray:
        """Which points the row of the work explains better than that of the slots, shape (n,)."""
        sums, nearest = points.middle, self._nearest(points.engines)
        work, slots = ((sums * rows[nearest]).sum(axis=1) for rows in (self.work, self.slots))
        return np.asarray(~points.shared | (work > slots))

    def _nearest(self, engines: FloatArray) -> IntArray:
        return np.asarray(self._options.query(_place(engines, self.params))[1], dtype=np.int64)

    @cached_property
    def _options(self) -> KDTree:
        return KDTree(_place(self.engines, self.params))


def fit_boundary(dataset: Dataset, params: BoundaryParams = DEFAULTS.boundary) -> BoundaryModel:
    """Fit the boundary of every option of a dataset.

    Raises
    ------
    BoundaryError
        If the dataset brackets no boundary at all.
    """
    engines = np.unique(dataset.engines, axis=0)
    return fit_points(boundary_points(dataset, params, rough=True), engines, params)


def fit_points(
    points: BoundaryPoints, engines: FloatArray, params: BoundaryParams = DEFAULTS.boundary
) -> BoundaryModel:
    """Fit the boundary of these options to boundary points.

    Parameters
    ----------
    engines
        Slots, max rank and KV cache tokens of the options, shape (n_options, 3).

    Raises
    ------
    BoundaryError
        If there are no points.
    """
    if not len(points.engines):
        raise BoundaryError("no composition has both accepted and starved runs; sample more compositions")
    work_features = [_COUNT, *_load_features(points.middle), _SQRT, *_ACTIVE]
    if points.middle[:, _VARIANCE].any():
        work_features.append(_VARIANCE)

    def fitted(by_work: BoolArray, by_slots: BoolArray) -> BoundaryModel:
        work = _fit_rows(points.where(by_work), work_features, engines, params)
        slots = _fit_rows(points.where(by_slots), [*work_features, *_HELD], engines, params)
        return BoundaryModel(engines, work, slots, params)

    shared = points.shared
    # GPUs with a slot for every adapter are stopped by their work, and so are those that by the same row have
    # almost as much of it.
    model = fitted(_any(~shared), _any(shared))
    by_work = ~shared | (model.values("resident", points.middle, points.engines) > params.first_work)
    for _ in range(params.rounds):
        model = fitted(_any(by_work), _any(~by_work))
        before, by_work = by_work, model.stopped_by_work(points)
        if (before == by_work).all():
            break
    return model


def _any(mask: BoolArray) -> BoolArray:
    """The mask, or one of everything if it has nothing."""
    return mask if mask.any() else np.ones_like(mask)


def _fit_rows(
    points: BoundaryPoints, features: list[int], engines: FloatArray, params: BoundaryParams
) -> FloatArray:
    """Coefficients of a row of each option, shape (n_options, K)."""
    return np.stack([_fit_row(points, features, engine, params) for engine in engines])


def _fit_row(
    points: BoundaryPoints, features: list[int], engine: FloatArray, params: BoundaryParams
) -> FloatArray:
    """Coefficients of one option, shape (K,): non-negative least squares on relative errors.

    Parameters
    ----------
    points
        Boundary points, where the left-hand side should be 1.
    features
        Columns that may have a coefficient.
    """
    near, weight = _near(points, engine, params)
    columns = _columns(near, features)
    scale = columns.mean(axis=0) + 1e-300  # columns differ by orders of magnitude
    t, _ = nnls(columns / scale * weight[:, None], weight)
    row = np.zeros(len(ADDITIVE))
    row[features] = (t / scale).reshape(len(features), -1) @ _dependence(engine[None, :])[0]
    return row


def _near(
    points: BoundaryPoints, engine: FloatArray, params: BoundaryParams
) -> tuple[BoundaryPoints, FloatArray]:
    """Points that say something about an option, and how much: 1 for its own, less for those of others."""
    gap = _place(engine[None, :], params) - _place(points.engines, params)
    distance, reach = np.sqrt((gap**2).sum(axis=1)), 1.0
    enough = min(params.enough_points, 0.5 * len(distance))
    while (weight := np.exp(-((distance / reach) ** 2) / 2)).sum() < enough:
        reach *= params.widening
    return points.where(weight > params.min_weight), weight[weight > params.min_weight]


def _columns(points: BoundaryPoints, features: list[int]) -> FloatArray:
    """Features times each way in which their coefficients depend on the engine."""
    columns = points.middle[:, features, None] * _dependence(points.engines)[:, None, :]
    return columns.reshape(len(columns), columns.shape[1] * columns.shape[2])


def _dependence(engines: FloatArray) -> FloatArray:
    """Ways in which what an adapter costs depends on the engine, shape (n, 5): 1, 1/KV, 1/S, S and S·rank."""
    slots, rank, kv = engines.T
    return np.stack([np.ones_like(slots), 1 / np.maximum(kv, 1.0), 1 / slots, slots, slots * rank], axis=1)


def _place(engines: FloatArray, params: BoundaryParams) -> FloatArray:
    """Where engines of shape (n, 3) lie: like ones near each other."""
    return np.asarray(np.log(engines) / np.array([params.near_slots, params.near_rank, params.near_kv]))


def _load_features(sums: FloatArray) -> tuple[int, ...]:
    """Features of the token load: the rate alone where all adapters have the same lengths."""
    per_request = sums[:, _TOKENS] / sums[:, [_RATE]]
    same = (np.ptp(per_request, axis=0) <= 1e-6 * per_request.max(axis=0)).all()
    return (_RATE,) if same else (_RATE, *_TOKENS)
