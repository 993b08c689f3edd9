"""Convex, piecewise-linear upper estimates of the mean latencies inside the region.

A latency is modelled as its value on an idle engine, plus a convex function of how full the region is,
plus a non-negative linear part in the adapters in flight; all of it scaled up until most runs lie below.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from scipy.optimize import nnls

from learn.boundary import BoundaryModel, Regime
from learn.dataset import Dataset
from learn.design import Option, Space
from learn.features import ADDITIVE, FloatArray
from learn.region import OptionLatency, Plane

KNOTS = (0.0, 0.5, 0.75, 0.9)
"""How full the region is where the slope of the latency may grow."""

UPPER_SHARE = 0.9
"""Share of the accepted runs that lie below the estimate."""

Quality = Literal["itl_ms", "ttft_ms"]
_ACTIVE = tuple(k for k, name in enumerate(ADDITIVE) if name.startswith("active_"))


def fit_latency(dataset: Dataset, model: BoundaryModel, space: Space, regime: Regime) -> list[OptionLatency]:
    """Latency estimates of every option of the space under one regime."""
    engines = dataset.table[["max_loras", "max_lora_rank", "kv_cache_tokens"]].to_numpy(dtype=np.float64)
    shared = dataset.sums[:, ADDITIVE.index("count")] > engines[:, 0] + 0.5
    chosen = ~dataset.starved & (shared == (regime == "shared"))
    idle = {o: idle_step_ms(space, o) for o in space.options}
    base = np.array([idle.get(Option(*map(int, e)), 0.0) for e in engines])[chosen]
    full = model.values(regime, dataset.sums, engines)[chosen]
    fits = {
        name: _fit(dataset.sums[chosen], full, base, dataset.target(name)[chosen])
        for name in ("itl_ms", "ttft_ms")
    }
    return [
        OptionLatency(
            device=space.device,
            max_loras=o.max_loras,
            max_lora_rank=o.max_lora_rank,
            regime=regime,
            itl_ms=_planes(row, idle[o], *fits["itl_ms"]),
            ttft_ms=_planes(row, idle[o], *fits["ttft_ms"]),
        )
        for o, row in zip(space.options, model.coefficients[regime], strict=True)
    ]


def astuple(option: Option) -> tuple[int, int, int]:
    """Slots, max rank and KV cache tokens of an option."""
    return option.max_loras, option.max_lora_rank, option.kv_cache_tokens


def idle_step_ms(space: Space, option: Option) -> float:
    """Length of a step that decodes one request on an otherwise idle engine, in ms."""
    tables = space.profile.step.tables(
        option.max_loras, option.max_lora_rank, space.engine.max_num_batched_tokens, 1
    )
    one = tables.token_s[1] + tables.adapter_s[1] + tables.adapter_token_s[1] + tables.decode_s
    return float(one) * 1e3


def _fit(
    sums: FloatArray, full: FloatArray, idle: FloatArray, y: FloatArray
) -> tuple[float, FloatArray, FloatArray]:
    """Scale, slopes that start at each knot, and slopes of the adapters in flight."""
    known = np.isfinite(y) & (y > 0)
    hinges = np.maximum(full[known, None] - np.array(KNOTS), 0.0)
    a = np.hstack([hinges, sums[known][:, _ACTIVE]])
    if not known.any():
        return 1.0, np.zeros(len(KNOTS)), np.zeros(len(_ACTIVE))
    size = a.mean(axis=0) + 1e-300
    t, _ = nnls(a / size / y[known, None], np.maximum(y[known] - idle[known], 0.0) / y[known])
    t = t / size
    estimate = idle[known] + a @ t
    scale = float(np.quantile(y[known] / estimate, UPPER_SHARE))
    return scale, t[: len(KNOTS)], t[len(KNOTS) :]


def _planes(
    row: FloatArray, idle: float, scale: float, slopes: FloatArray, active: FloatArray
) -> tuple[Plane, ...]:
    """Planes of one option: one for each part of the convex function that is steeper than the last."""
    planes: list[Plane] = []
    extra = np.zeros(len(row))
    extra[list(_ACTIVE)] = active
    slope = offset = 0.0
    for knot, step in zip(KNOTS, slopes, strict=True):
        slope, offset = slope + step, offset - step * knot
        if step > 0 or knot == KNOTS[0]:
            values = (scale * (idle + offset), *(scale * (slope * row + extra)).tolist())
            intercept, *coefficients = (float(f"{value:.6g}") for value in values)
            planes.append(Plane(intercept=intercept, coefficients=tuple(coefficients)))
    return tuple(planes)
