"""Rates that walk: each adapter's own, up or down by a factor at every change, within limits."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from scenarios import UnpredictableArrivals
from twin.engine.requests import FloatArray

MAX_STATES = 4000
"""States of a walk up to which its stationary law is computed; that of more is near its limit."""

_SAME = 1e-9
"""Relative difference up to which two factors are one state."""

FineLaw = tuple[FloatArray, FloatArray]
"""Factors, ascending, and the probability of each, both of shape (n,)."""


def rate_walk(
    arrivals: UnpredictableArrivals,
    n_adapters: int,
    n_windows: int,
    rng: np.random.Generator,
    start: FloatArray | None = None,
) -> FloatArray:
    """Factor on each adapter's rate in each window: a clipped random walk.

    Parameters
    ----------
    start
        Factors of the first window, shape (n_adapters,); absent: 1, as published (arXiv 2602.24044).

    Returns
    -------
    FloatArray
        Shape (n_adapters, n_windows).
    """
    factors = np.ones((n_adapters, n_windows))
    if start is not None:
        factors[:, 0] = start
    for window in range(1, n_windows):
        up = rng.random(n_adapters) < 0.5
        step = np.where(up, arrivals.factor, 1 / arrivals.factor)
        factors[:, window] = np.clip(factors[:, window - 1] * step, 1 / arrivals.limit, arrivals.limit)
    return factors


def stationary_walk(
    arrivals: UnpredictableArrivals, n_adapters: int, n_windows: int, rng: np.random.Generator
) -> FloatArray:
    """The walk as it is long after its start, divided by its mean, so that an adapter's rate is its mean.

    Returns
    -------
    FloatArray
        Shape (n_adapters, n_windows); each has mean 1.
    """
    factors, probability = stationary_law(arrivals.factor, arrivals.limit)
    start = rng.choice(factors, size=n_adapters, p=probability)
    return rate_walk(arrivals, n_adapters, n_windows, rng, start) / float(factors @ probability)


@lru_cache(maxsize=64)
def stationary_law(factor: float, limit: float) -> FineLaw:
    """Where a clipped walk is, long after its start.

    Clipping moves the walk off the lattice of its start and onto that of the limit, so the states are all
    that can be reached from there; the law solves π = πP. Of many states it is near that of a walk reflected
    at both ends, which is uniform in the logarithm.
    """
    states = _reachable(factor, limit)
    if states is None:
        edges = np.linspace(-math.log(limit), math.log(limit), MAX_STATES + 1)
        uniform: FloatArray = np.exp((edges[1:] + edges[:-1]) / 2)
        return uniform, np.full(MAX_STATES, 1.0 / MAX_STATES)
    n = len(states)
    moves = np.zeros((n, n))
    for step in (factor, 1 / factor):
        after = np.clip(states * step, 1 / limit, limit)
        moves[np.arange(n), _nearest(states, after)] += 0.5
    equations = np.vstack([moves.T - np.eye(n), np.ones(n)])
    law = np.linalg.lstsq(equations, np.append(np.zeros(n), 1.0), rcond=None)[0]
    law = np.maximum(law, 0.0)
    return states, law / law.sum()


def _reachable(factor: float, limit: float) -> FloatArray | None:
    """States that the walk comes to from its upper limit, ascending; None where they are too many."""
    if 4 * math.log(limit) / math.log(factor) + 4 > MAX_STATES:
        return None
    found = np.array([limit])
    while True:
        steps = np.concatenate([found, found * factor, found / factor]).clip(1 / limit, limit)
        every = np.sort(steps)
        distinct: FloatArray = every[np.append(True, np.diff(every) > _SAME * every[:-1])]
        if len(distinct) == len(found):
            return distinct
        found = distinct


def _nearest(states: FloatArray, values: FloatArray) -> NDArray[np.int64]:
    nearest: NDArray[np.int64] = np.abs(np.log(states)[None, :] - np.log(values)[:, None]).argmin(axis=1)
    return nearest
