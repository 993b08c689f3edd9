"""Renewal processes with mean gap 1, drawn for many adapters at once."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from functools import lru_cache
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from twin.engine.requests import FloatArray, IntArray

_Counts = NDArray[np.int64]


class Gaps(Protocol):
    """A stationary renewal process with mean gap 1."""

    def draw(self, length: FloatArray, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
        """Draw the events of independent processes, process i over [0, length[i]).

        Returns
        -------
        tuple of arrays
            The process of each event, and the event's instant, both of shape (n_events,); grouped by no
            particular order.
        """


class ExponentialGaps:
    """Poisson processes: a Poisson number of events, uniform over the interval."""

    def draw(self, length: FloatArray, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
        """Draw the events; see `Gaps`."""
        process = _repeat(rng.poisson(length))
        return process, rng.random(len(process)) * length[process]


class DeterministicGaps:
    """Equal gaps with a uniform phase."""

    def draw(self, length: FloatArray, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
        """Draw the events; see `Gaps`."""
        phase = rng.random(len(length))
        counts = np.maximum(np.ceil(length - phase), 0).astype(np.int64)
        process = _repeat(counts)
        nth = np.arange(len(process)) - np.repeat(np.cumsum(counts) - counts, counts)
        return process, phase[process] + nth


class _RandomGaps(ABC):
    """Independent gaps; the first is the residual of a gap, so that the process is stationary."""

    def __init__(self, cv: float) -> None:
        self.cv = cv

    @abstractmethod
    def gaps(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw gaps of mean 1, shape (n,)."""

    @abstractmethod
    def covering_gaps(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw gaps as an instant chosen at random finds them: in proportion to their length."""

    def draw(self, length: FloatArray, rng: np.random.Generator) -> tuple[IntArray, FloatArray]:
        """Draw the events; see `Gaps`."""
        # Stationary: an instant at random falls into a gap in proportion to its length, anywhere in it.
        now = self.covering_gaps(len(length), rng) * rng.random(len(length))
        processes: list[IntArray] = []
        instants: list[FloatArray] = []
        active = np.flatnonzero(now < length).astype(np.int32)
        least = 4
        while len(active):
            processes.append(active)
            instants.append(now[active])
            left = length[active] - now[active]
            # Gaps enough to pass the end mostly: the number of events left is about normal (central limit of
            # renewals), with a standard deviation of cv times its root. Who falls short goes on.
            counts = (left + 2 * self.cv * np.sqrt(left)).astype(np.int64) + least
            rows = _repeat(counts)
            events = _grouped_cumsum(self.gaps(len(rows), rng), counts) + now[active][rows]
            now[active] = events[np.cumsum(counts) - 1]
            inside = events < length[active][rows]
            # The last event of a chunk begins the next one, so it is recorded there.
            inside[np.cumsum(counts) - 1] = False
            processes.append(active[rows[inside]])
            instants.append(events[inside])
            active = active[now[active] < length[active]]
            least = min(2 * least, 4096)  # heavy tails would otherwise take many rounds of few gaps
        if not processes:
            return np.zeros(0, dtype=np.int32), np.zeros(0)
        return np.concatenate(processes), np.concatenate(instants)


class GammaGaps(_RandomGaps):
    """Gamma-distributed gaps of a given coefficient of variation."""

    def gaps(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw gaps of mean 1, shape (n,)."""
        return rng.standard_gamma(self.cv**-2, n) * self.cv**2

    def covering_gaps(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw gaps in proportion to their length: a gamma of one more in shape."""
        return rng.standard_gamma(self.cv**-2 + 1, n) * self.cv**2


class WeibullGaps(_RandomGaps):
    """Weibull-distributed gaps of a given coefficient of variation.

    Powers are the C library's, one by one: NumPy's own of whole arrays have other last digits on processors
    with AVX-512 than without, and a seed gives the same gaps on all.
    """

    def __init__(self, cv: float) -> None:
        super().__init__(cv)
        self._shape = weibull_shape(cv)
        self._scale = math.exp(-math.lgamma(1 + 1 / self._shape))

    def gaps(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw gaps of mean 1, shape (n,)."""
        return rng.weibull(self._shape, n) * self._scale

    def covering_gaps(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw gaps in proportion to their length: the power of a gamma instead of an exponential."""
        powers = rng.standard_gamma(1 + 1 / self._shape, n).tolist()
        return np.array([power ** (1 / self._shape) for power in powers]) * self._scale


class HyperexponentialGaps(_RandomGaps):
    """Exponential gaps of two means that have equal parts in the time, of a coefficient of variation above 1.

    Source: two-moment fit of balanced means (Tijms, Stochastic Models, 1994, appendix B).
    """

    def __init__(self, cv: float) -> None:
        super().__init__(cv)
        short = (1 + math.sqrt((cv**2 - 1) / (cv**2 + 1))) / 2
        self._short = short
        self._means = (1 / (2 * short), 1 / (2 * (1 - short)))

    def gaps(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw gaps of mean 1, shape (n,)."""
        return rng.standard_exponential(n) * np.where(rng.random(n) < self._short, *self._means)

    def covering_gaps(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw gaps in proportion to their length: of either mean as often, as a gamma of shape 2."""
        return rng.standard_gamma(2.0, n) * np.where(rng.random(n) < 0.5, *self._means)


class LognormalGaps(_RandomGaps):
    """Lognormal gaps whose logarithm has a given standard deviation."""

    def __init__(self, sigma: float = 1.0) -> None:
        super().__init__(math.sqrt(math.expm1(sigma**2)))
        self._sigma = sigma

    def gaps(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw gaps of mean 1, shape (n,)."""
        return rng.lognormal(-(self._sigma**2) / 2, self._sigma, n)

    def covering_gaps(self, n: int, rng: np.random.Generator) -> FloatArray:
        """Draw gaps in proportion to their length: a lognormal shifted by its log-variance."""
        return rng.lognormal(self._sigma**2 / 2, self._sigma, n)


def gaps_of(cv: float, *, weibull: bool = False) -> Gaps:
    """Gamma or Weibull gaps of a coefficient of variation; of 1 both are exponential, drawn faster so."""
    if cv == 1:
        return ExponentialGaps()
    return WeibullGaps(cv) if weibull else GammaGaps(cv)


@lru_cache(maxsize=256)
def weibull_shape(cv: float) -> float:
    """Shape of the Weibull distribution with the given coefficient of variation.

    Solves Γ(1 + 2/k) / Γ(1 + 1/k)² = 1 + cv² by bisection in log k.
    """
    target = math.log1p(cv**2)
    low, high = math.log(0.01), math.log(1e4)
    for _ in range(200):
        middle = (low + high) / 2
        inverse = math.exp(-middle)
        if math.lgamma(1 + 2 * inverse) - 2 * math.lgamma(1 + inverse) > target:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def _repeat(counts: _Counts) -> IntArray:
    return np.repeat(np.arange(len(counts), dtype=np.int32), counts)


def _grouped_cumsum(values: FloatArray, counts: _Counts) -> FloatArray:
    """Cumulative sums that start anew at each group; group i has counts[i] > 0 values."""
    # One sum for all groups, less what came before each: a loop over the groups would take far longer.
    total = np.cumsum(values)
    starts = np.cumsum(counts) - counts
    before = np.concatenate(([0.0], total))[starts]
    return np.asarray(total - np.repeat(before, counts), dtype=np.float64)
