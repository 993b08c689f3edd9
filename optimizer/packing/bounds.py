"""Lower bounds on the price of a packing that need no search.

A bound is a *weight* per class such that no bin holds items of more weight than its price: the weight of
all items then bounds the price of every packing. The continuous bound's weights are the duals of a linear
programme; dual feasible functions make them from sizes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimizer.packing.options import useful_options
from optimizer.packing.outcome import Run
from optimizer.packing.problem import FloatArray, PackingProblem


@dataclass(frozen=True, eq=False)
class Continuous:
    """The continuous relaxation: bins of each option in fractions, items split over options.

    Parameters
    ----------
    bound
        Its optimum; infinite if not even the relaxation has a solution.
    duals
        Weight of an item per class, shape (n_classes,).
    """

    bound: float
    duals: FloatArray

    def proof(self, problem: PackingProblem) -> Proof | None:
        """The duals as a proof; None where limits have a part in the bound, whose duals are not kept."""
        if not np.isclose(self.duals @ problem.counts, self.bound, rtol=1e-7, atol=0.0):
            return None
        return Proof(self.bound, self.duals, np.zeros(len(problem.options)))


@dataclass(frozen=True, eq=False)
class Proof:
    """Duals that prove a bound: no bin is worth more than its price and toll.

    Parameters
    ----------
    bound
        Lower bound on the price of every packing.
    duals
        Worth of an item per class, shape (n_classes,).
    toll
        What a bin of each option costs beyond its price because limits bind, shape (n_options,).
    """

    bound: float
    duals: FloatArray
    toll: FloatArray


def continuous_relaxation(problem: PackingProblem) -> Continuous:
    """Solve the assignment model's linear relaxation, aggregated over bins."""
    from scipy.optimize import linprog

    options = useful_options(problem)
    classes = np.flatnonzero(problem.counts)
    n, k = len(classes), len(options)
    rows, limits = _relaxed_rows(problem, options, classes)
    equal = np.hstack([np.tile(np.eye(n), (1, k)), np.zeros((n, k))])
    # Not the number of items: the demand implies it, and its dual value would be missing in the weights.
    upper = [None if problem.rows[o].most[c] > 0 else 0.0 for o in options for c in classes]
    solved = linprog(
        np.concatenate([np.zeros(k * n), problem.prices[list(options)]]),
        A_ub=_sparse(rows),
        b_ub=limits,
        A_eq=_sparse(equal),
        b_eq=problem.counts[classes].astype(np.float64),
        bounds=[(0.0, u) for u in upper]
        + [(0.0, None if problem.options[o].limit is None else problem.options[o].limit) for o in options],
        method="highs",
    )
    duals = np.zeros(problem.n_classes)
    if solved.status == 2:
        return Continuous(float("inf"), duals)
    if solved.status != 0:
        return Continuous(0.0, duals)
    duals[classes] = np.maximum(solved.eqlin.marginals, 0.0)
    return Continuous(max(0.0, float(solved.fun)) * (1 - 1e-9), duals)


def _sparse(matrix: FloatArray) -> object:
    from scipy.sparse import csr_matrix

    return csr_matrix(matrix)


def _relaxed_rows(
    problem: PackingProblem, options: tuple[int, ...], classes: np.ndarray[tuple[int], np.dtype[np.int64]]
) -> tuple[FloatArray, FloatArray]:
    """Rows of all options, scaled to capacity 1 per bin, then the limits on bins and price."""
    n, k = len(classes), len(options)
    blocks, limits = [], []
    for j, o in enumerate(options):
        given = problem.rows[o]
        scale = np.maximum(given.capacity, 1).astype(np.float64)
        block = np.zeros((len(scale), k * n + k))
        block[:, j * n : (j + 1) * n] = given.usage[:, classes] / scale[:, None]
        block[:, k * n + j] = -given.capacity / scale
        blocks.append(block)
        limits += [0.0] * len(scale)
    for device, limit in problem.device_limits.items():
        blocks.append(_on_bins(n, [float(problem.options[o].device == device) for o in options]))
        limits.append(float(limit))
    if problem.max_bins is not None:
        blocks.append(_on_bins(n, [1.0] * k))
        limits.append(float(problem.max_bins))
    if problem.budget is not None:
        blocks.append(_on_bins(n, [float(problem.prices[o]) for o in options]))
        limits.append(problem.budget)
    return np.vstack(blocks), np.array(limits)


def _on_bins(n: int, weights: list[float]) -> FloatArray:
    return np.concatenate([np.zeros(len(weights) * n), weights])[None, :]


def continuous_bound(problem: PackingProblem) -> float:
    """Optimum of the continuous relaxation; infinite if it has no solution."""
    return continuous_relaxation(problem).bound


def dual_feasible_bound(problem: PackingProblem) -> float:
    """The best of the classic dual feasible functions over every row, at the least price.

    For a row whose sizes x are shares of the capacity of the largest bin: the identity, Fekete and
    Schepers' rounding u_k(x) = x if (k + 1) x is integer, else floor((k + 1) x) / k (2001), and their
    threshold function (1 above 1 - e, x between, 0 below e). Items of classes that an option does not
    admit count by the option where they take the smallest share, so the bound holds for several options.
    """
    options = useful_options(problem)
    price = float(problem.prices[list(options)].min())
    best = 0.0
    for share in _shares(problem, options):
        used = problem.counts > 0
        sizes, counts = share[used], problem.counts[used]
        best = max(best, float(sizes @ counts))
        for k in range(1, 51):
            scaled = (k + 1) * sizes
            whole = np.abs(scaled - np.rint(scaled)) < 1e-9
            best = max(best, float(np.where(whole, sizes, np.floor(scaled + 1e-9) / k) @ counts))
        for edge in np.unique(sizes[sizes <= 0.5]):
            weights = np.where(sizes > 1 - edge + 1e-12, 1.0, np.where(sizes < edge - 1e-12, 0.0, sizes))
            best = max(best, float(weights @ counts))
    return best * price * (1 - 1e-9)


def _shares(problem: PackingProblem, options: tuple[int, ...]) -> list[FloatArray]:
    """Sizes as shares of a bin, the least over options: row by row where all have the same rows."""
    heights = {len(problem.rows[o].capacity) for o in options}
    per_option = [problem.rows[o].usage / np.maximum(problem.rows[o].capacity, 1)[:, None] for o in options]
    admitted = np.array([problem.rows[o].most > 0 for o in options])
    if len(heights) > 1:
        return []
    found = []
    for r in range(heights.pop()):
        share = np.where(admitted, np.array([rows[r] for rows in per_option]), np.inf).min(axis=0)
        found.append(np.where(np.isfinite(share), share, 0.0))
    return found


def raise_bounds(run: Run) -> Continuous:
    """Raise a run's bound by all bounds of this module; the continuous relaxation is returned.

    If not even the relaxation has a solution, the run is marked infeasible.
    """
    continuous = continuous_relaxation(run.problem)
    if np.isinf(continuous.bound):
        run.infeasible = run.packing is None
    elif run.problem.objective == "price":
        run.raise_bound(continuous.bound)
        run.raise_bound(dual_feasible_bound(run.problem))
    run.statistics["continuous_bound"] = continuous.bound
    return continuous
