"""Lower bounds on the price of a packing that need no search.

All are sums over items of a *weight* w(c) such that no bin holds items of more weight than its price:
then the sum over all items bounds the price of every packing (the dual of the pattern model).
"""

from __future__ import annotations

import numpy as np

from optimizer.options import useful_options
from optimizer.problem import FloatArray, PackingProblem


def continuous_bound(problem: PackingProblem) -> float:
    """The bound of the assignment model's linear relaxation, aggregated over bins.

    Minimise Σ price(o) · y(o) with fractional items split over options: the continuous bound with
    several bin types. The number of bins of each option is fractional.
    """
    from scipy.optimize import linprog

    options = useful_options(problem)
    classes = np.flatnonzero(problem.counts)
    n, k = len(classes), len(options)
    blocks = []
    for j, o in enumerate(options):
        rows = problem.rows[o]
        block = np.zeros((len(rows.capacity), k * n + k))
        scale = np.maximum(rows.capacity, 1).astype(np.float64)
        block[:, j * n : (j + 1) * n] = rows.usage[:, classes] / scale[:, None]
        block[:, k * n + j] = -rows.capacity / scale
        blocks.append(block)
    equal = np.zeros((n, k * n + k))
    for j in range(k):
        equal[:, j * n : (j + 1) * n] = np.eye(n)
    upper = [
        float(problem.counts[c]) if problem.rows[o].most[c] > 0 else 0.0 for o in options for c in classes
    ]
    solved = linprog(
        np.concatenate([np.zeros(k * n), problem.prices[list(options)]]),
        A_ub=np.vstack(blocks),
        b_ub=np.zeros(sum(len(b) for b in blocks)),
        A_eq=equal,
        b_eq=problem.counts[classes].astype(np.float64),
        bounds=[(0.0, u) for u in upper] + [(0.0, None)] * k,
        method="highs",
    )
    return float(solved.fun) * (1 - 1e-9) if solved.status == 0 else 0.0


def weight_bound(problem: PackingProblem, weights: FloatArray) -> float:
    """Σ weights · counts: a bound if no bin holds items of more weight than its price."""
    return float(weights @ problem.counts)
