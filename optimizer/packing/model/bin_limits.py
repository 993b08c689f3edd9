"""Limits on how many bins there are, as rows over the options."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimizer.packing.model.problem import FloatArray, PackingProblem


@dataclass(frozen=True, eq=False)
class Limit:
    """A row least <= Σ weight(option) · bins <= most; weight at least 0, shape (n_options,)."""

    weight: FloatArray
    least: float = -np.inf
    most: float = np.inf


def limit_rows(problem: PackingProblem) -> list[Limit]:
    """The problem's own limits on bins."""
    rows: list[Limit] = []
    k = len(problem.options)
    for o, option in enumerate(problem.options):
        if option.limit is not None:
            rows.append(Limit(np.eye(k)[o], most=float(option.limit)))
    for device, limit in problem.device_limits.items():
        rows.append(Limit(np.array([float(o.device == device) for o in problem.options]), most=float(limit)))
    if problem.max_bins is not None:
        rows.append(Limit(np.ones(k), most=float(problem.max_bins)))
    if problem.budget is not None:
        rows.append(Limit(problem.prices.copy(), most=problem.budget))
    return [row for row in rows if row.most < problem.n_items * float(row.weight.max())]
