"""Lengths that were seen as a distribution: fixed, lognormal or a histogram."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import ndtr

from scenarios.traffic.lengths import MAX_TOKENS, FixedLengths, HistogramLengths, Lengths, LognormalLengths

LEAST_REQUESTS = 50
"""Requests from which on an adapter has lengths of its own."""

MOST_BINS = 20

FIRST_BINS = 12
"""Bins of equal mass; further ones divide those whose middle is farthest from their mean."""

FEW_VALUES = 10
"""Up to so many different lengths, each is a bin of its own."""

CLOSE = 0.02
"""Distance of cumulative distributions within which a lognormal is taken whatever a test says.

Of many requests every form is refuted by a test, and no quantile is off by more than two in a hundred."""


def fit_lengths(seen: NDArray[np.int32]) -> Lengths | None:
    """The simplest distribution that lengths may be of; None: there are fewer than `LEAST_REQUESTS`.

    Parameters
    ----------
    seen
        Tokens, at least 1.
    """
    if len(seen) < LEAST_REQUESTS:
        return None
    values, counts = np.unique(seen, return_counts=True)
    if len(values) == 1:
        return FixedLengths(tokens=int(values[0]))
    return _lognormal(values, counts) or _histogram(values, counts)


def described(lengths: Lengths) -> str:
    """A distribution in a few words."""
    if isinstance(lengths, FixedLengths):
        return f"always {lengths.tokens:,}"
    kind = "lognormal" if isinstance(lengths, LognormalLengths) else "histogram"
    return f"{kind}, mean {lengths.mean_tokens:,.4g}"


def _lognormal(values: NDArray[np.int32], counts: NDArray[np.int64]) -> LognormalLengths | None:
    """A lognormal cut to the range that was seen; None: a test rejects it.

    Kolmogorov-Smirnov with estimated parameters, in Stephens' modified form for the normal (1986, case 3):
    distance × (√n − 0.01 + 0.85/√n), 1.035 at 1 %.
    """
    n = int(counts.sum())
    low, high, mean = int(values[0]), int(values[-1]), float((values * counts).sum() / n)
    logs = np.log(values)
    mu = float((logs * counts).sum() / n)
    sigma = math.sqrt(float(((logs - mu) ** 2 * counts).sum() / (n - 1)))
    if sigma == 0.0 or not low < mean < high:
        return None
    below = np.cumsum(counts) / n
    # A length k stands for what rounds to it; what is above the largest was cut to it.
    model = ndtr((np.log(values + 0.5) - mu) / sigma)
    before = ndtr((np.log(values - 0.5) - mu) / sigma)
    model[-1] = 1.0
    before[0] = 0.0
    distance = float(max(np.abs(below - model).max(), np.abs(below - counts / n - before).max()))
    root = math.sqrt(n)
    if distance > max(1.035 / (root - 0.01 + 0.85 / root), CLOSE):
        return None
    std = math.sqrt(math.expm1(sigma**2)) * math.exp(mu + sigma**2 / 2)
    if not 0 < std <= MAX_TOKENS:
        return None
    return LognormalLengths(mean=_rounded(mean), std=_rounded(std), min=low, max=high)


def _histogram(values: NDArray[np.int32], counts: NDArray[np.int64]) -> HistogramLengths:
    mean = float((values * counts).sum() / counts.sum())
    if len(values) <= FEW_VALUES:
        edges, weights = _single(values, counts)
    else:
        edges = _divided(values, counts)
        weights = np.add.reduceat(counts, np.searchsorted(values, edges[:-1])).astype(np.float64)
    return matched(edges, weights, mean)


def _single(
    values: NDArray[np.int32], counts: NDArray[np.int64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """A narrow bin for each of a few lengths, empty ones between; whole tokens would draw both ends."""
    width = 0.01
    edges = np.ravel(np.column_stack((values, values + width)))
    weights = np.zeros(len(edges) - 1)
    weights[::2] = counts
    return edges, weights


def _divided(values: NDArray[np.int32], counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Edges in whole tokens: `FIRST_BINS` of equal mass, then up to `MOST_BINS` where middles mislead."""
    cumulative = np.cumsum(counts)
    shares = np.arange(1, FIRST_BINS) / FIRST_BINS * cumulative[-1]
    inner = values[np.searchsorted(cumulative, shares)]
    edges = sorted({int(values[0]), *map(int, inner), int(values[-1]) + 1})
    while len(edges) <= MOST_BINS:
        starts = np.searchsorted(values, edges)
        errors = []
        for a, b, i, j in zip(edges, edges[1:], starts, starts[1:], strict=False):
            inside = float(counts[i:j].sum())
            off = abs(float((values[i:j] * counts[i:j]).sum()) - inside * (a + b) / 2)
            errors.append(off if j - i > 1 else 0.0)
        worst = int(np.argmax(errors))
        if errors[worst] <= 0:
            break
        i, j = int(starts[worst]), int(starts[worst + 1])
        within = np.cumsum(counts[i:j])
        cut = int(np.searchsorted(within, within[-1] / 2))
        edges.insert(worst + 1, int(values[i + min(max(cut, 1), j - i - 1)]))
    return np.asarray(edges, dtype=np.float64)


def matched(edges: NDArray[np.float64], weights: NDArray[np.float64], mean: float) -> HistogramLengths:
    """A histogram whose mean is that which was seen, as far as its bins allow.

    A bin stands for its middle. Weights are tilted by exp(λ · middle), the change that keeps most of the
    distribution (exponential tilting), with the λ that gives the mean.
    """
    middles = (edges[:-1] + edges[1:]) / 2
    scale = float(edges[-1] - edges[0])
    share = weights / weights.sum()

    def tilted(strength: float) -> NDArray[np.float64]:
        exponent = strength * (middles - mean) / scale
        raw = share * np.exp(exponent - exponent.max())
        return np.asarray(raw / raw.sum())

    held = middles[share > 0]
    if held.min() < mean < held.max():
        low, high = (float((tilted(end) * middles).sum()) - mean for end in (-500.0, 500.0))
        if low < 0 < high:
            strength = brentq(lambda one: float((tilted(one) * middles).sum()) - mean, -500.0, 500.0)
            share = tilted(float(strength))
    return HistogramLengths(
        edges=tuple(float(edge) for edge in edges), weights=tuple(_rounded(float(one)) for one in share)
    )


def _rounded(value: float) -> float:
    return float(f"{value:.6g}")
