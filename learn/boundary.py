"""The boundary of starvation as a linear model whose coefficients vary smoothly from option to option.

At the boundary of option o the left-hand side Σ_k a_k(o) · (sum of feature k) is 1. The coefficients are
a_k(o) = Σ_m θ_km z_m(o), with few covariates z of the option (KV cache and slots), so that all options
learn from each other's runs. θ ≥ 0: another adapter never makes room.

A GPU with a slot for every adapter (*resident*) works differently from one whose adapters wait for
slots (*shared*); the feasible set is the union of both, and each has rows of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import nnls

from learn.dataset import Dataset
from learn.features import ADDITIVE, FloatArray
from scenarios import LorapackError

Regime = Literal["resident", "shared"]
REGIMES: tuple[Regime, ...] = ("resident", "shared")

_COUNT = ADDITIVE.index("count")
_RATE = ADDITIVE.index("rate")
_TOKENS = tuple(ADDITIVE.index(name) for name in ("prompt_rate", "output_rate", "resident_rate"))
_ACTIVE = tuple(k for k, name in enumerate(ADDITIVE) if name.startswith("active_"))

_SMOOTH = (0, 1, 2, 3, 4, 5)
_ALL = (0, 1, 2, 3, 4, 5, 6, 7)
"""Indices of covariates: without and with those that grow as slots get scarce."""

ROUNDS = 30
"""Most rounds of assigning points to rows."""

HINGE_WEIGHT = 0.7
"""Weight of a point that another row explains but this one would cut off."""


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
    """

    engines: FloatArray
    accepted: FloatArray
    starved: FloatArray
    composition: NDArray[np.int64]

    @property
    def middle(self) -> FloatArray:
        """Feature sums between the two runs, shape (n, K)."""
        return np.asarray(np.sqrt(self.accepted * self.starved), dtype=np.float64)

    @property
    def shared(self) -> NDArray[np.bool_]:
        """Which have more adapters than slots."""
        return np.asarray(self.middle[:, _COUNT] > self.engines[:, 0] + 0.5)

    def where(self, mask: NDArray[np.bool_]) -> BoundaryPoints:
        """The points of a mask."""
        return BoundaryPoints(
            self.engines[mask], self.accepted[mask], self.starved[mask], self.composition[mask]
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
    return BoundaryPoints(engines[above], sums[below], sums[above], groups[above])


@dataclass(frozen=True)
class RowModel:
    """One row of a regime for all options.

    Parameters
    ----------
    meaning
        What it limits.
    theta
        Coefficients over features and covariates, at least 0, shape (K, M).
    """

    meaning: str
    theta: FloatArray


@dataclass(frozen=True)
class BoundaryModel:
    """Rows of both regimes for all options.

    Parameters
    ----------
    rows
        Rows of each regime.
    kv_reference_tokens
        KV cache that the covariates are relative to.
    """

    rows: dict[Regime, tuple[RowModel, ...]]
    kv_reference_tokens: float

    def coefficients(self, regime: Regime, engine: Sequence[float]) -> FloatArray:
        """Coefficients of one option (slots, max rank, KV tokens), shape (rows, K)."""
        z = covariates(np.array([engine], dtype=np.float64), self.kv_reference_tokens)[0]
        return np.stack([row.theta @ z for row in self.rows[regime]])

    def values(self, regime: Regime, sums: FloatArray, engines: FloatArray) -> FloatArray:
        """Largest left-hand side of a regime's rows; sums of shape (n, K), engines of (n, 3)."""
        z = covariates(engines, self.kv_reference_tokens)
        return np.asarray(np.max([((sums @ row.theta) * z).sum(axis=1) for row in self.rows[regime]], axis=0))

    def fill(
        self, sums: FloatArray, max_loras: ArrayLike, max_lora_rank: ArrayLike, kv_cache_tokens: ArrayLike
    ) -> FloatArray:
        """How full GPUs are, 1 at the boundary, shape (n,); the engine's numbers are broadcast."""
        columns = (max_loras, max_lora_rank, kv_cache_tokens)
        engines = np.stack([np.broadcast_to(c, len(sums)) for c in columns], axis=1).astype(np.float64)
        shared = sums[:, _COUNT] > engines[:, 0] + 0.5
        resident, waiting = (self.values(regime, sums, engines) for regime in REGIMES)
        return np.where(shared, waiting, resident)


def covariates(engines: FloatArray, kv_reference_tokens: float) -> FloatArray:
    """Covariates of options, shape (n, 8): scarcity of KV, slots, rank, scarcity of slots, and products."""
    kv = kv_reference_tokens / np.maximum(engines[:, 2], 1.0)
    slots, rank, scarce = engines[:, 0] / 100.0, engines[:, 1] / 16.0, 10.0 / engines[:, 0]
    return np.stack([np.ones_like(kv), kv, slots, kv * slots, rank, kv * rank, scarce, kv * scarce], axis=1)


def fit_boundary(dataset: Dataset) -> BoundaryModel:
    """Fit the rows of both regimes to the boundary points of a dataset.

    Raises
    ------
    BoundaryError
        If the dataset brackets no boundary at all.
    """
    return fit_points(boundary_points(dataset, widest=2.0))


def fit_points(points: BoundaryPoints) -> BoundaryModel:
    """Fit the rows of both regimes to boundary points.

    Raises
    ------
    BoundaryError
        If there are none.
    """
    if not len(points.engines):
        raise BoundaryError("no composition has both accepted and starved runs; sample more compositions")
    reference = float(points.engines[:, 2].max())
    rows: dict[Regime, tuple[RowModel, ...]] = {}
    for regime in REGIMES:
        mine = points.where(points.shared == (regime == "shared"))
        source = mine if len(mine.engines) else points
        rows[regime] = _fit_rows(source, regime, reference)
    return BoundaryModel(rows, reference)


def _fit_rows(points: BoundaryPoints, regime: Regime, reference: float) -> tuple[RowModel, ...]:
    """Rows whose largest is 1 at every point: each point is assigned to a row, each row fitted, again."""
    load = _load_features(points.middle)
    if regime == "resident":
        shapes = [
            ("work", (_COUNT, *load, *_ACTIVE), _SMOOTH),
            ("work of many adapters", (*load, *_ACTIVE), _ALL),
        ]
    else:
        shapes = [("work", (*load, *_ACTIVE), _SMOOTH), ("slots", (*load, *_ACTIVE), _ALL)]
    z = covariates(points.engines, reference)
    columns = [_products(points.middle[:, features], z[:, kinds]) for _, features, kinds in shapes]
    solved = [_solve(a, np.ones(len(a))) for a in columns]
    owner = np.full(len(z), -1)
    for _ in range(ROUNDS):
        values = np.stack([a @ t for a, t in zip(columns, solved, strict=True)])
        if (owner == values.argmax(axis=0)).all():
            break
        owner = values.argmax(axis=0)
        for k, a in enumerate(columns):
            weight = np.where(owner == k, 1.0, np.where(a @ solved[k] > 1.0, HINGE_WEIGHT, 0.0))
            if np.count_nonzero(weight) >= min(5, len(z)):
                solved[k] = _solve(a, weight)
    rows = []
    for (meaning, features, kinds), t in zip(shapes, solved, strict=True):
        theta = np.zeros((len(ADDITIVE), z.shape[1]))
        theta[np.ix_(features, kinds)] = t.reshape(len(features), len(kinds))
        rows.append(RowModel(meaning, theta))
    return tuple(rows)


def _load_features(sums: FloatArray) -> tuple[int, ...]:
    """Features of the token load: the rate alone where all adapters have the same lengths."""
    per_request = sums[:, _TOKENS] / sums[:, [_RATE]]
    same = (np.ptp(per_request, axis=0) <= 1e-6 * per_request.max(axis=0)).all()
    return (_RATE,) if same else (_RATE, *_TOKENS)


def _products(x: FloatArray, z: FloatArray) -> FloatArray:
    return np.asarray((x[:, :, None] * z[:, None, :]).reshape(len(x), -1))


def _solve(a: FloatArray, weight: FloatArray) -> FloatArray:
    """Non-negative t that makes a @ t close to 1, columns scaled to equal size."""
    scale = np.abs(a).mean(axis=0) + 1e-300
    t, _ = nnls(a / scale * weight[:, None], weight)
    return np.asarray(t / scale)
