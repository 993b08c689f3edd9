"""Convex, piecewise-linear upper estimates of the mean latencies inside the region.

A latency is its value on an idle engine, plus a convex function of how full the region is, plus a
non-negative linear part in the adapters in flight, fitted so that a set share of the runs lies below at
any fill (quantile regression: Koenker and Bassett 1978).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import sparse
from scipy.ndimage import median_filter
from scipy.optimize import linprog

from learn.boundary import BoundaryModel
from learn.features import ADDITIVE, FloatArray, Regime
from learn.params import LatencyFitParams
from learn.region import OptionLatency, Plane
from learn.space import DesignSpace, Option
from learn.storage.dataset import Dataset

Quality = Literal["itl_ms", "ttft_ms"]
_ACTIVE = tuple(k for k, name in enumerate(ADDITIVE) if name.startswith("active_"))


def fit_latency(
    dataset: Dataset, model: BoundaryModel, space: DesignSpace, regime: Regime, params: LatencyFitParams
) -> list[OptionLatency]:
    """Latency estimates of every option of the space under one regime."""
    engines = dataset.engines
    idle = {o.numbers: idle_step_ms(space, o) for o in space.options}
    base = np.array([idle.get(tuple(e), 0.0) for e in engines.astype(int).tolist()])
    full = model.values(regime, dataset.sums, engines)
    chosen = ~dataset.starved & (dataset.shared == (regime == "shared")) & (full <= 1.0)
    knots = (0.0, *sorted(set(params.knots)))
    fits = {
        name: _fit(
            dataset.sums[chosen], full[chosen], base[chosen], dataset.target(name)[chosen], knots, params
        )
        for name in ("itl_ms", "ttft_ms")
    }
    return [
        OptionLatency(
            device=space.device,
            max_loras=o.max_loras,
            max_lora_rank=o.max_lora_rank,
            regime=regime,
            itl_ms=_planes(row, idle[o.numbers], knots, fits["itl_ms"]),
            ttft_ms=_planes(row, idle[o.numbers], knots, fits["ttft_ms"]),
        )
        for o, row in zip(space.options, model.coefficients[regime], strict=True)
    ]


def idle_step_ms(space: DesignSpace, option: Option) -> float:
    """Length of a step that decodes one request on an otherwise idle engine, in ms."""
    tables = space.profile.step.tables(
        option.max_loras, option.max_lora_rank, space.engine.max_num_batched_tokens, 1
    )
    one = tables.token_s[1] + tables.adapter_s[1] + tables.adapter_token_s[1] + tables.decode_s
    return float(one) * 1e3


@dataclass(frozen=True)
class _Estimate:
    """A latency above that of an idle engine, in ms: a constant, slopes from each knot and of ``_ACTIVE``."""

    constant: float
    slopes: FloatArray
    active: FloatArray


def _fit(
    sums: FloatArray,
    full: FloatArray,
    idle: FloatArray,
    y: FloatArray,
    knots: tuple[float, ...],
    params: LatencyFitParams,
) -> _Estimate:
    """The estimate above so many of the runs, by least pinball loss with coefficients of at least 0."""
    known = np.isfinite(y) & (y > 0)
    if not known.any():
        return _Estimate(0.0, np.zeros(len(knots)), np.zeros(len(_ACTIVE)))
    sums, full, idle, y = sums[known], full[known], idle[known], y[known]
    hinges = np.maximum(full[:, None] - np.array(knots), 0.0)
    columns = np.hstack([np.ones((len(y), 1)), hinges, sums[:, _ACTIVE]])
    size, typical = columns.mean(axis=0) + 1e-300, _typical(full, y, params.neighbours)
    scaled = sparse.csr_matrix(columns / size / typical[:, None])
    even = sparse.identity(len(y))
    solved = linprog(
        np.concatenate(
            [
                np.zeros(len(size)),
                np.full(len(y), params.share_below),
                np.full(len(y), 1 - params.share_below),
            ]
        ),
        A_eq=sparse.hstack([scaled, even, -even]).tocsc(),
        b_eq=(y - idle) / typical,
        method="highs",
    )
    constant, *slopes = solved.x[: len(size)] / size
    return _Estimate(float(constant), np.array(slopes[: len(knots)]), np.array(slopes[len(knots) :]))


def _typical(full: FloatArray, y: FloatArray, neighbours: int) -> FloatArray:
    """Median of the runs that are about as full, shape (n,)."""
    order, typical = np.argsort(full, kind="stable"), np.empty(len(y))
    typical[order] = median_filter(y[order], min(neighbours, len(y)), mode="nearest")
    return typical


def _planes(row: FloatArray, idle: float, knots: tuple[float, ...], estimate: _Estimate) -> tuple[Plane, ...]:
    """Planes of one option: one for each part of the convex function that is steeper than the last."""
    planes: list[Plane] = []
    extra = np.zeros(len(row))
    extra[list(_ACTIVE)] = estimate.active
    slope, offset = 0.0, estimate.constant
    for knot, step in zip(knots, estimate.slopes, strict=True):
        slope, offset = slope + step, offset - step * knot
        if step > 0 or not knot:
            values = (idle + offset, *(slope * row + extra).tolist())
            intercept, *coefficients = (float(f"{value:.6g}") for value in values)
            planes.append(Plane(intercept=intercept, coefficients=tuple(coefficients)))
    return tuple(planes)
