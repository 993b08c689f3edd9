"""Prompt and output lengths drawn from their distributions."""

from __future__ import annotations

import math
from functools import lru_cache
from threading import Lock

import numpy as np
from scipy.special import ndtr

from scenarios import MAX_ADAPTERS, FixedLengths, HistogramLengths, Lengths, LognormalLengths
from twin.engine.requests import FloatArray, IntArray

_EXACT_TERMS = 4096
"""Lengths up to this many above the shortest are summed one by one; beyond, the sum is an integral."""


DISTRIBUTIONS_KEPT = 2 * MAX_ADAPTERS
"""Distributions whose figures are kept: a prompt's and an answer's of every adapter."""

ROOM = 1.5
"""Ratio of a mean to the ends of its range from which on it is looked for by the secant method."""

MOST_KEPT, SEEDS_KEPT = 2_000_000, 16
"""Most lengths of a seed that are kept, and of how many seeds."""


def draw_lengths(lengths: Lengths, n: int, rng: np.random.Generator) -> IntArray:
    """Draw token counts.

    Parameters
    ----------
    lengths
        Distribution of the tokens of one prompt or answer.
    n
        How many to draw.
    rng
        Source of randomness.

    Returns
    -------
    IntArray
        Tokens, each at least 1, shape (n,). Their expectation is ``lengths.mean_tokens``.
    """
    if isinstance(lengths, FixedLengths):
        return np.full(n, lengths.tokens, dtype=np.int32)
    if isinstance(lengths, LognormalLengths):
        mu, sigma = lognormal_parameters(lengths)
        # In place: with millions of requests a new array a step would cost more than the arithmetic.
        drawn = rng.normal(mu, sigma, n)
        np.exp(drawn, out=drawn)
        np.clip(np.rint(drawn, out=drawn), lengths.min, lengths.max, out=drawn)
        return drawn.astype(np.int32)
    return _draw_histogram(lengths, n, rng)


def first_lengths(lengths: Lengths, n: int, seed: np.random.SeedSequence) -> IntArray:
    """The first n token counts of a seed, shape (n,); not to be written to.

    Those of the last seeds are kept, as runs that differ in their load alone share their random numbers.
    """
    if n > MOST_KEPT or not isinstance(lengths, LognormalLengths):
        return draw_lengths(lengths, n, np.random.default_rng(seed))
    entropy = seed.entropy if isinstance(seed.entropy, int) else tuple(seed.entropy or ())
    return _kept(lengths, entropy, tuple(seed.spawn_key)).first(n)


@lru_cache(maxsize=SEEDS_KEPT)
def _kept(lengths: LognormalLengths, entropy: int | tuple[int, ...], spawn_key: tuple[int, ...]) -> _Draws:
    return _Draws(lengths, np.random.SeedSequence(entropy, spawn_key=spawn_key))


class _Draws:
    """Draws of a seed, of which there may always be more: a generator draws them one after the other."""

    def __init__(self, lengths: LognormalLengths, seed: np.random.SeedSequence) -> None:
        self._lengths, self._rng, self._lock = lengths, np.random.default_rng(seed), Lock()
        self._drawn = np.zeros(0, dtype=np.int32)

    def first(self, n: int) -> IntArray:
        with self._lock:
            if n > len(self._drawn):
                more = draw_lengths(self._lengths, n - len(self._drawn), self._rng)
                self._drawn = np.concatenate([self._drawn, more])
                self._drawn.setflags(write=False)
            return self._drawn[:n]


def _draw_histogram(lengths: HistogramLengths, n: int, rng: np.random.Generator) -> IntArray:
    edges, cumulative = _histogram_arrays(lengths)
    # A bin by its weight, a place in the bin evenly: the inverse of the cumulative distribution.
    bins = np.searchsorted(cumulative, rng.random(n), side="right")
    position = edges[bins] + rng.random(n) * (edges[bins + 1] - edges[bins])
    # Rounding up with a probability equal to the fraction keeps each bin's mean at its middle.
    return np.floor(position + rng.random(n)).astype(np.int32)


@lru_cache(maxsize=256)
def _histogram_arrays(lengths: HistogramLengths) -> tuple[FloatArray, FloatArray]:
    """Edges, and the cumulative probability at the end of each bin but the last that has weight."""
    weights = np.asarray(lengths.weights, dtype=np.float64)
    last = int(np.flatnonzero(weights)[-1])
    cumulative = np.cumsum(weights / weights.sum())[:last]
    return np.asarray(lengths.edges, dtype=np.float64), cumulative


@lru_cache(maxsize=DISTRIBUTIONS_KEPT)
def lognormal_parameters(lengths: LognormalLengths) -> tuple[float, float]:
    """Parameters of the underlying normal whose rounded, clipped draws have the mean asked for.

    Returns
    -------
    tuple of float
        Mean and standard deviation of the logarithm.
    """
    # Rounding and clipping move the mean, so that the lognormal's own has to be another, with which it rises.
    start = math.log(lengths.mean)
    low, high, (root, near) = start - 40.0, start + 40.0, _root(lengths)
    for _ in range(100):
        middle = (low + high) / 2
        below = middle < root if abs(middle - root) > near else _mean_above(middle, lengths) < 0.0
        low, high = (middle, high) if below else (low, middle)
        if high - low < 1e-13:
            break
    return _log_moments((low + high) / 2, lengths.std)


def _mean_above(log_mean: float, lengths: LognormalLengths) -> float:
    """By how much the mean of what is drawn is above the one asked for; rises with the logarithm given."""
    return _clipped_mean(*_log_moments(log_mean, lengths.std), lengths.min, lengths.max) - lengths.mean


def _root(lengths: LognormalLengths) -> tuple[float, float]:
    """Where the mean is the one asked for, and from how far away that is certain; infinite if not found.

    By the secant method: bisection, which decides the last bits, then needs to look at few points only.
    """
    x = math.log(lengths.mean)
    if not ROOM * lengths.min <= lengths.mean <= lengths.max / ROOM:
        return x, math.inf  # next to an end the mean does not rise everywhere
    value, step = _mean_above(x, lengths), 1e-3
    for _ in range(12):
        after = _mean_above(x + step, lengths)
        slope = (after - value) / step
        x, value = x + step, after
        if not slope > 0.0:
            break
        step = min(max(-value / slope, -1.0), 1.0)
        noise = 256 * np.finfo(np.float64).eps * (lengths.mean + abs(x) * slope) / slope
        if abs(step) < 1e-9:
            return x + step, max(1e-12, noise, 1e-3 * abs(step))
    return x, math.inf


@lru_cache(maxsize=DISTRIBUTIONS_KEPT)
def mean_square_tokens(lengths: Lengths) -> float:
    """Mean of the squares of the lengths that `draw_lengths` draws, in tokens²; rounding left out."""
    if isinstance(lengths, FixedLengths):
        return float(lengths.tokens) ** 2
    if isinstance(lengths, LognormalLengths):
        mu, sigma = lognormal_parameters(lengths)
        low, high = ((math.log(end) - mu) / sigma for end in (lengths.min, lengths.max))
        between = float(ndtr(high - 2 * sigma) - ndtr(low - 2 * sigma))
        ends = lengths.min**2 * float(ndtr(low)) + lengths.max**2 * float(ndtr(-high))
        return ends + math.exp(2 * mu + 2 * sigma**2) * between
    edges, weights = np.asarray(lengths.edges), np.asarray(lengths.weights)
    squares = (edges[1:] ** 2 + edges[1:] * edges[:-1] + edges[:-1] ** 2) / 3
    return float((squares * weights).sum() / weights.sum())


def _log_moments(log_mean: float, std: float) -> tuple[float, float]:
    """Mean and standard deviation of log X for a lognormal X of mean exp(log_mean) and the given std."""
    variance = float(np.logaddexp(0.0, 2 * (math.log(std) - log_mean)))
    return log_mean - variance / 2, math.sqrt(variance)


def _clipped_mean(mu: float, sigma: float, low: int, high: int) -> float:
    """Mean of min(max(round(X), low), high) for log X normal: low plus the sum of P(X > k − 1/2)."""
    split = min(low + _EXACT_TERMS, high)
    head = float(ndtr((mu - _thresholds(low, split)) / sigma).sum())
    return low + head + _limited_mean(mu, sigma, high) - _limited_mean(mu, sigma, split)


@lru_cache(maxsize=64)
def _thresholds(low: int, high: int) -> FloatArray:
    """Logarithms of the ends between whole lengths."""
    return np.asarray(np.log(np.arange(low, high) + 0.5))


def _limited_mean(mu: float, sigma: float, limit: int) -> float:
    """Mean of min(X, limit) for log X normal."""
    z = (math.log(limit) - mu) / sigma
    below = math.exp(min(mu + sigma**2 / 2, 700.0)) * float(ndtr(z - sigma))
    return below + limit * float(ndtr(-z))
