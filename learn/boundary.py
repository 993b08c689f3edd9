"""The boundary of starvation as one linear row per option, fitted to the runs of the option and its likes.

At the boundary of an option the left-hand side Σ_k a_k · (sum of feature k) is 1. What an adapter costs
depends on the engine in a few simple ways (a batch is shared by as many requests as the KV cache holds,
kernels grow with slots and rank), so a_k is a sum of these with coefficients t ≥ 0, fitted to the boundary
points of all options, weighted by how near an option is. a ≥ 0: another adapter never makes room.

A GPU with a slot for every adapter (*resident*) works differently from one whose adapters wait for
slots (*shared*); the feasible set is the union of both, and each has a row of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls
from scipy.spatial import KDTree

from learn.features import ADDITIVE, FloatArray
from learn.storage.dataset import Dataset
from scenarios import LorapackError
from scenarios.engine import Regime as Regime

REGIMES: tuple[Regime, ...] = ("resident", "shared")

_COUNT = ADDITIVE.index("count")
_RATE = ADDITIVE.index("rate")
_TOKENS = tuple(ADDITIVE.index(name) for name in ("prompt_rate", "output_rate", "resident_rate"))
_SQRT = ADDITIVE.index("sqrt_rate")
_ACTIVE = tuple(k for k, name in enumerate(ADDITIVE) if name.startswith("active_"))
_HELD: dict[Regime, tuple[int, ...]] = {
    "resident": (),
    "shared": tuple(k for k, name in enumerate(ADDITIVE) if name.startswith("held_")),
}

NEAR_SLOTS, NEAR_KV, NEAR_RANK = 0.4, 0.4, 1.0
"""How far options are from each other when half forgotten: differences of logarithms."""

ENOUGH_POINTS = 40.0
"""Weight of points that an option is fitted to; options further away are drawn in until it is reached."""

WIDEN = 1.5
"""Factor by which the neighbourhood grows until then."""

LEAST_WEIGHT = 0.02
"""Points that say less than this are left out."""

OTHER_WEIGHT = 0.3
"""Weight of a point of the other regime that a row would wrongly hold for feasible."""

ROUNDS = 5
"""Most rounds of adding such points."""

INSIDE = (0.15, 0.85)
"""Range of the place of a boundary between the two runs around it."""


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
    composition: NDArray[np.int64]
    place: FloatArray

    @cached_property
    def middle(self) -> FloatArray:
        """Feature sums where the margin crosses 0, shape (n, K)."""
        at = self.place[:, None]
        return np.asarray(self.accepted ** (1 - at) * self.starved**at, dtype=np.float64)

    @property
    def shared(self) -> NDArray[np.bool_]:
        """Which have more adapters than slots."""
        return np.asarray(self.middle[:, _COUNT] > self.engines[:, 0] + 0.5)

    def where(self, mask: NDArray[np.bool_]) -> BoundaryPoints:
        """The points of a mask."""
        return BoundaryPoints(
            self.engines[mask],
            self.accepted[mask],
            self.starved[mask],
            self.composition[mask],
            self.place[mask],
        )


def boundary_points(dataset: Dataset, widest: float = 1.25) -> BoundaryPoints:
    """The boundary of every composition of a dataset that has accepted and starved runs.

    Parameters
    ----------
    widest
        Largest ratio between the two loads.
    """
    table, sums, starved = dataset.table, dataset.sums, dataset.starved
    rate, groups = table["total_rate"].to_numpy(), dataset.groups
    below, above = [], []
    for group in np.unique(groups):
        bad = np.flatnonzero((groups == group) & starved)
        if not len(bad):
            continue
        first = bad[np.argmin(rate[bad])]
        good = np.flatnonzero((groups == group) & ~starved & (rate < rate[first]))
        if len(good) and rate[first] <= widest * rate[good].max():
            below.append(good[np.argmax(rate[good])])
            above.append(first)
    engines = table[["max_loras", "max_lora_rank", "kv_cache_tokens"]].to_numpy(dtype=np.float64)
    margin = dataset.target("margin")
    place = crossing(margin[below], margin[above])
    return BoundaryPoints(engines[above], sums[below], sums[above], groups[above], place)


def crossing(accepted: FloatArray, starved: FloatArray) -> FloatArray:
    """Where between two runs the margin crosses 0, from their margins (≥ 0 and < 0), shape (n,).

    Kept off the ends: margins are as noisy as the runs.
    """
    steepness = np.maximum(accepted - starved, 1e-9)
    return np.asarray(np.clip(accepted / steepness, *INSIDE), dtype=np.float64)


@dataclass(frozen=True)
class BoundaryModel:
    """One row per option and regime.

    Parameters
    ----------
    engines
        Slots, max rank and KV cache tokens of the options, shape (n_options, 3).
    coefficients
        Coefficients of each regime's rows, at least 0, shape (n_options, K).
    """

    engines: FloatArray
    coefficients: dict[Regime, FloatArray]

    def values(self, regime: Regime, sums: FloatArray, engines: FloatArray) -> FloatArray:
        """Left-hand sides; sums of shape (n, K), engines of (n, 3), each taken for its nearest option."""
        return np.asarray((sums * self.rows(regime, engines)).sum(axis=1))

    def rows(self, regime: Regime, engines: FloatArray) -> FloatArray:
        """Coefficients, shape (n, K), of the options that are nearest to engines of shape (n, 3)."""
        return np.asarray(self.coefficients[regime][self._nearest(engines)])

    def _nearest(self, engines: FloatArray) -> NDArray[np.int64]:
        return np.asarray(self._options.query(_place(engines))[1], dtype=np.int64)

    @cached_property
    def _options(self) -> KDTree:
        return KDTree(_place(self.engines))

    def fill(
        self, sums: FloatArray, max_loras: ArrayLike, max_lora_rank: ArrayLike, kv_cache_tokens: ArrayLike
    ) -> FloatArray:
        """How full GPUs are, 1 at the boundary, shape (n,); the engine's numbers are broadcast."""
        columns = (max_loras, max_lora_rank, kv_cache_tokens)
        engines = np.stack([np.broadcast_to(c, len(sums)) for c in columns], axis=1).astype(np.float64)
        shared, nearest = sums[:, _COUNT] > engines[:, 0] + 0.5, self._nearest(engines)
        resident, waiting = (self.coefficients[regime][nearest] for regime in REGIMES)
        return np.asarray((sums * np.where(shared[:, None], waiting, resident)).sum(axis=1))


def fit_boundary(dataset: Dataset) -> BoundaryModel:
    """Fit the boundary of every option of a dataset.

    Raises
    ------
    BoundaryError
        If the dataset brackets no boundary at all.
    """
    table = dataset.table[["max_loras", "max_lora_rank", "kv_cache_tokens"]]
    engines = np.unique(table.to_numpy(dtype=np.float64), axis=0)
    return fit_points(boundary_points(dataset, widest=2.0), engines)


def fit_points(points: BoundaryPoints, engines: FloatArray) -> BoundaryModel:
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
    coefficients: dict[Regime, FloatArray] = {}
    for regime in REGIMES:
        mine = points.where(points.shared == (regime == "shared"))
        source = mine if len(mine.engines) else points
        others = points.where(~points.shared if regime == "shared" else np.zeros(len(points.engines), bool))
        features = [_COUNT, *_load_features(points.middle), _SQRT, *_ACTIVE, *_HELD[regime]]
        coefficients[regime] = np.stack([_fit_row(source, others, features, e) for e in engines])
    return BoundaryModel(engines, coefficients)


def _fit_row(
    points: BoundaryPoints, others: BoundaryPoints, features: list[int], engine: FloatArray
) -> FloatArray:
    """Coefficients of one option, shape (K,): non-negative least squares on relative errors.

    Parameters
    ----------
    points
        Boundary points of the row's regime, where the left-hand side should be 1.
    others
        Boundary points of the other regime, where it should be no less.
    features
        Columns that may have a coefficient.
    """
    weight, far = _weights(points, engine), _weights(others, engine)
    near, close = weight > LEAST_WEIGHT, far > LEAST_WEIGHT
    columns = np.vstack([_columns(points.where(near), features), _columns(others.where(close), features)])
    scale = columns.mean(axis=0) + 1e-300
    weights = np.concatenate([weight[near], np.zeros(np.count_nonzero(close))])
    inside = np.zeros(len(weights), dtype=np.bool_)
    for _ in range(ROUNDS):
        t, _ = nnls(columns / scale * weights[:, None], weights)
        now = (columns @ (t / scale) < 1.0) & (np.arange(len(weights)) >= np.count_nonzero(near))
        if not (now & ~inside).any():
            break
        inside |= now
        weights[inside] = OTHER_WEIGHT * far[close][inside[np.count_nonzero(near) :]]
    row = np.zeros(len(ADDITIVE))
    row[features] = (t / scale).reshape(len(features), -1) @ _dependence(engine[None, :])[0]
    return row


def _weights(points: BoundaryPoints, engine: FloatArray) -> FloatArray:
    """How much each point says about an option: 1 for its own, less for those of other options."""
    distance = _distances(engine[None, :], points.engines)[0]
    reach = 1.0
    while np.exp(-((distance / reach) ** 2) / 2).sum() < min(ENOUGH_POINTS, 0.5 * len(distance)):
        reach *= WIDEN
    return np.asarray(np.exp(-((distance / reach) ** 2) / 2))


def _columns(points: BoundaryPoints, features: list[int]) -> FloatArray:
    """Features times each way in which their coefficients depend on the engine."""
    columns = points.middle[:, features, None] * _dependence(points.engines)[:, None, :]
    return columns.reshape(len(columns), columns.shape[1] * columns.shape[2])


def _dependence(engines: FloatArray) -> FloatArray:
    """Ways in which what an adapter costs depends on the engine, shape (n, 5): 1, 1/KV, 1/S, S and S·rank."""
    slots, rank, kv = engines.T
    return np.stack([np.ones_like(slots), 1 / np.maximum(kv, 1.0), 1 / slots, slots, slots * rank], axis=1)


def _distances(a: FloatArray, b: FloatArray) -> FloatArray:
    """How unlike options are, shape (len(a), len(b))."""
    gap = _place(a)[:, None, :] - _place(b)[None, :, :]
    return np.asarray(np.sqrt((gap**2).sum(axis=2)))


def _place(engines: FloatArray) -> FloatArray:
    """Where engines of shape (n, 3) lie: like ones near each other."""
    return np.asarray(np.log(engines) / np.array([NEAR_SLOTS, NEAR_RANK, NEAR_KV]))


def _load_features(sums: FloatArray) -> tuple[int, ...]:
    """Features of the token load: the rate alone where all adapters have the same lengths."""
    per_request = sums[:, _TOKENS] / sums[:, [_RATE]]
    same = (np.ptp(per_request, axis=0) <= 1e-6 * per_request.max(axis=0)).all()
    return (_RATE,) if same else (_RATE, *_TOKENS)
