"""Convex, piecewise-linear upper estimates of the mean latencies inside the region.

A latency is its value on an idle engine, plus a convex function of how full the region is, plus a
non-negative linear part in the adapters in flight, fitted so that a set share of the runs lies below at
any fill (quantile regression: Koenker and Bassett 1978).
"""

from __future__ import annotations

import numpy as np
from scipy import sparse
from scipy.ndimage import median_filter
from scipy.optimize import linprog

from learn.boundaries.boundary import BoundaryModel
from learn.features import ADDITIVE, FloatArray, Regime
from learn.params import LatencyFitParams
from learn.region import OptionLatency, Plane, Quality
from learn.space import DesignSpace, Option
from learn.storage.dataset import Dataset

_ACTIVE = tuple(k for k, name in enumerate(ADDITIVE) if name.startswith("active_"))


def fit_latency(
    dataset: Dataset, model: BoundaryModel, space: DesignSpace, regime: Regime, params: LatencyFitParams
) -> list[OptionLatency]:
    """Latency estimates of every option of the space under one regime."""
    full = model.values(regime, dataset.sums, dataset.engines)
    chosen = ~dataset.starved & (dataset.shared == (regime == "shared")) & (full <= 1.0)
    runs, full = dataset.where(chosen), full[chosen]
    knots = (0.0, *sorted(set(params.knots)))
    idle = {o.numbers: idle_step_ms(space, o) for o in space.options}
    base = np.array([idle.get(tuple(e), 0.0) for e in runs.engines.astype(int).tolist()])
    hinges = np.maximum(full[:, None] - np.array(knots), 0.0)
    columns = np.hstack([np.ones((len(runs), 1)), hinges, runs.sums[:, _ACTIVE]])

    def fitted(name: Quality) -> FloatArray:
        y = runs.target(name)
        observed = np.isfinite(y) & (y > 0)
        if not observed.any():
            return np.zeros(columns.shape[1])
        typical = _typical(full[observed], y[observed], params.neighbours)
        return fit_quantile(columns[observed], (y - base)[observed], typical, params.share_below)

    itl, ttft = fitted("itl_ms"), fitted("ttft_ms")
    return [
        OptionLatency(
            device=space.device,
            max_loras=o.max_loras,
            max_lora_rank=o.max_lora_rank,
            regime=regime,
            itl_ms=_planes(rows, idle[o.numbers], knots, itl),
            ttft_ms=_planes(rows, idle[o.numbers], knots, ttft),
        )
        for o, rows in zip(space.options, model.rows(regime), strict=True)
    ]


def idle_step_ms(space: DesignSpace, option: Option) -> float:
    """Length of a step that decodes one request on an otherwise idle engine, in ms."""
    tables = space.profile.step.tables(
        option.max_loras, option.max_lora_rank, space.engine.max_num_batched_tokens, 1
    )
    seconds = tables.token_s[1] + tables.adapter_s[1] + tables.adapter_token_s[1] + tables.decode_s
    speculation = space.engine.speculation
    if speculation is not None:  # between two tokens, of which a step gives several
        seconds *= min(1.0, speculation.step_factor / speculation.tokens_per_step)
    return float(seconds) * 1e3


def fit_quantile(
    columns: FloatArray, above_idle: FloatArray, typical: FloatArray, share_below: float
) -> FloatArray:
    """Coefficients of at least 0, one per column, by least pinball loss: so many of the runs lie below."""
    n = len(columns)
    size = columns.mean(axis=0) + 1e-300  # columns differ by orders of magnitude
    even = sparse.identity(n)
    solved = linprog(
        np.repeat([0.0, share_below, 1 - share_below], [len(size), n, n]),
        A_eq=sparse.hstack([sparse.csr_matrix(columns / size / typical[:, None]), even, -even]).tocsc(),
        b_eq=above_idle / typical,
        method="highs",
    )
    return np.asarray(solved.x[: len(size)] / size)


def _typical(full: FloatArray, y: FloatArray, neighbours: int) -> FloatArray:
    """Median of the runs that are about as full, shape (n,)."""
    order, typical = np.argsort(full, kind="stable"), np.empty(len(y))
    typical[order] = median_filter(y[order], min(neighbours, len(y)), mode="nearest")
    return typical


def _planes(
    rows: FloatArray, idle: float, knots: tuple[float, ...], coefficients: FloatArray
) -> tuple[Plane, ...]:
    """Planes of one option: by row one for each part of the convex function that is steeper than the last.

    Parameters
    ----------
    rows
        The option's rows, the largest of which says how full it is, shape (rows, K).
    coefficients
        A constant above an idle engine's time, changes of the slope at the knots, and slopes of ``_ACTIVE``.
    """
    planes: list[Plane] = []
    extra = np.zeros(rows.shape[1])
    extra[list(_ACTIVE)] = coefficients[1 + len(knots) :]
    slope, offset = 0.0, float(coefficients[0])
    for knot, change in zip(knots, coefficients[1 : 1 + len(knots)], strict=True):
        slope, offset = slope + change, offset - change * knot
        if change > 0 or not knot:
            for row in rows if slope > 0 else rows[:1]:
                values = (idle + offset, *(slope * row + extra).tolist())
                intercept, *slopes = (float(f"{value:.6g}") for value in values)
                planes.append(Plane(intercept=intercept, coefficients=tuple(slopes)))
    return tuple(planes)
