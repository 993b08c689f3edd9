"""The simplest arrival process that instants may be of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, minimize_scalar
from scipy.special import digamma, expit, gammainc
from scipy.stats import chi2

from scenarios.importers.traffic.windows import COUNT_BINS
from scenarios.traffic.arrivals import (
    Arrivals,
    GammaArrivals,
    HyperexponentialArrivals,
    OnOffArrivals,
    PoissonArrivals,
    WeibullArrivals,
)

FloatArray = NDArray[np.float64]

LEAST_GAPS = 100
"""Gaps from which on a process can be told."""

MOST_GAPS = 20_000
"""Gaps that are tested at most, the first of them: of more, every form is refuted by what does not matter."""

LEVEL = 0.02
"""Chance that of adapters which all are Poisson any is called otherwise."""

_STEPS_S = (1.0, 0.1, 0.01, 0.001)
"""Steps of clocks that logs write, in seconds."""


@dataclass(frozen=True)
class ArrivalFit:
    """What process instants are of.

    Parameters
    ----------
    arrivals
        The process; None: of those that are tried, none.
    told
        Why, in a few words.
    enough
        Whether there were enough instants to tell.
    """

    arrivals: Arrivals | None
    told: str
    enough: bool = True


@dataclass(frozen=True)
class _Family:
    """A fitted distribution of gaps.

    Parameters
    ----------
    arrivals
        The process.
    cumulative
        Its distribution, of gaps of mean 1.
    tail
        a and b of P(distance > x/√n) = a · exp(−b x²) where parameters are estimated.
    cv
        Coefficient of variation.
    """

    arrivals: Arrivals
    cumulative: Callable[[FloatArray], FloatArray]
    tail: tuple[float, float]
    cv: float


_ONE_ESTIMATED = (2.117, 3.13)
"""Through Stephens' points for the exponential with estimated mean (JASA 69, 1974): 1.094 at 5 %, 1.308
at 1 %."""

_SEVERAL_ESTIMATED = (5.9, 5.956)
"""Through his points where scale and shape are estimated, those of the normal: 0.895 at 5 %, 1.035 at 1 %."""


def fit_arrivals(time_s: FloatArray, length_s: float, adapters: int) -> ArrivalFit:
    """The first of poisson, gamma, weibull, hyperexponential and on_off that no test rejects.

    The gaps' distribution is tested (Kolmogorov-Smirnov with estimated parameters), and whether they follow
    each other without memory: by counts in `COUNT_BINS` parts of the window, and by the ranks of gaps one
    and two apart. Each test has its share of the level (Bonferroni), over adapters too.

    Parameters
    ----------
    time_s
        Instants within the window, ascending, shape (n,).
    length_s
        Length of the window in seconds.
    adapters
        How many adapters are tested beside each other, this one with them.
    """
    if len(time_s) < LEAST_GAPS + 1:
        return ArrivalFit(None, f"{len(time_s):,} requests are too few to tell a process", enough=False)
    used = time_s[: MOST_GAPS + 1]
    if len(used) < len(time_s):
        length_s = float(used[-1])
    gaps = np.diff(spread(used))
    gaps = np.maximum(gaps / gaps.mean(), 1e-12)
    level = LEVEL / adapters / 3
    mean_s = float(np.diff(used).mean())
    for family in _families(gaps, mean_s):
        odds = [
            _fits(gaps, family),
            _even(used, length_s, family.cv),
            _without_memory(gaps),
        ]
        if min(odds) > level:
            return ArrivalFit(family.arrivals, f"a test does not reject {family.arrivals.process}")
    return ArrivalFit(None, "no simple process passes a test")


def spread(time_s: FloatArray) -> FloatArray:
    """Instants of a clock that ticks coarsely, each somewhere within its tick; ascending.

    Within a tick a Poisson's requests are spread evenly, so that this gives it back exactly.
    """
    probe = time_s[:: max(len(time_s) // 1000, 1)]
    for step in _STEPS_S:
        ticks = probe / step
        if np.abs(ticks - np.rint(ticks)).max() < 1e-4:
            noise = np.random.default_rng(0).random(len(time_s)) * step
            return np.sort(time_s + noise)
    return time_s


def _families(gaps: FloatArray, mean_s: float) -> Iterator[_Family]:
    """Fitted families in the order in which they are tried; gaps have mean 1, which is so many seconds."""
    yield _Family(PoissonArrivals(), lambda x: -np.expm1(-x), _ONE_ESTIMATED, 1.0)
    shape = _gamma_shape(gaps)
    cv = shape**-0.5
    if 0 < cv <= 100:
        yield _Family(
            GammaArrivals(cv=_rounded(cv)), lambda x: gammainc(shape, shape * x), _SEVERAL_ESTIMATED, cv
        )
    power = _weibull_shape(gaps)
    scale = math.exp(-math.lgamma(1 + 1 / power))
    cv = math.sqrt(max(math.exp(math.lgamma(1 + 2 / power) - 2 * math.lgamma(1 + 1 / power)) - 1, 0.0))
    if 0 < cv <= 100:
        yield _Family(
            WeibullArrivals(cv=_rounded(cv)),
            lambda x: -np.expm1(-((x / scale) ** power)),
            _SEVERAL_ESTIMATED,
            cv,
        )
    short, fast, slow = _balanced(gaps)
    cv = math.sqrt(max(2 * (short / fast**2 + (1 - short) / slow**2) - 1, 0.0))
    if 1.02 < cv <= 100:
        yield _Family(
            HyperexponentialArrivals(cv=_rounded(cv)), _mixture(short, fast, slow), _SEVERAL_ESTIMATED, cv
        )
    switched = _on_off(gaps, mean_s)
    if switched is not None:
        yield switched


def _mixture(short: float, fast: float, slow: float) -> Callable[[FloatArray], FloatArray]:
    return lambda x: 1 - short * np.exp(-fast * x) - (1 - short) * np.exp(-slow * x)


def _on_off(gaps: FloatArray, mean_s: float) -> _Family | None:
    """A process that is switched on and off, whose gaps are of two kinds (Kuczura, Bell System J. 52, 1973).

    Poisson arrivals that are switched on and off are a renewal process with hyperexponential gaps; the
    latter's three parameters say the former's. They are estimated by expectation and maximization.

    Parameters
    ----------
    gaps
        Gaps of mean 1.
    mean_s
        What a gap of 1 is in seconds.
    """
    part, fast, slow = 0.5, 2.0, 0.5
    for _ in range(500):
        # By the logarithm of the odds: both densities may be too small for a float.
        weight = expit(math.log(part * fast / ((1 - part) * slow)) - (fast - slow) * gaps)
        was = part, fast, slow
        part = float(weight.mean())
        if not 1e-6 < part < 1 - 1e-6:
            return None
        fast = part * len(gaps) / float((weight * gaps).sum())
        slow = (1 - part) * len(gaps) / float(((1 - weight) * gaps).sum())
        if max(abs(math.log(a / b)) for a, b in zip(was, (part, fast, slow), strict=True)) < 1e-7:
            break
    peak = part * fast + (1 - part) * slow
    turned_on = fast * slow / peak
    turned_off = fast + slow - peak - turned_on
    if not (turned_on > 0 and turned_off > 0):
        return None
    on_s, off_s = mean_s / turned_off, mean_s / turned_on
    if not (0 < on_s <= 604_800 and 0 < off_s <= 604_800):
        return None
    cv = math.sqrt(max(2 * (part / fast**2 + (1 - part) / slow**2) - 1, 0.0))
    arrivals = OnOffArrivals(on_s=_rounded(on_s), off_s=_rounded(off_s))
    return _Family(arrivals, _mixture(part, fast, slow), _SEVERAL_ESTIMATED, cv)


def _fits(gaps: FloatArray, family: _Family) -> float:
    """Chance of a distance of distributions at least as large, of gaps that are the family's."""
    n = len(gaps)
    model = family.cumulative(np.sort(gaps))
    ranks = np.arange(1, n + 1) / n
    distance = float(max((ranks - model).max(), (model - ranks + 1 / n).max()))
    root = math.sqrt(n)
    one = family.tail is _ONE_ESTIMATED
    x = (distance - 0.2 / n) * (root + 0.26 + 0.5 / root) if one else distance * (root - 0.01 + 0.85 / root)
    a, b = family.tail
    return min(a * math.exp(-b * x * x), 1.0)


def _even(time_s: FloatArray, length_s: float, cv: float) -> float:
    """Chance of counts in parts of the window that differ as much, of renewals with this variation.

    Counts of long parts have cv² times a Poisson's variance; of a Poisson the test is exact.
    """
    parts = max(min(COUNT_BINS, int(len(time_s) / (5 * max(cv, 1.0) ** 2))), 4)
    counts = np.histogram(time_s, parts, (0.0, length_s))[0]
    index = float(counts.var(ddof=1) / counts.mean())
    return float(chi2.sf(index / cv**2 * (parts - 1), parts - 1))


def _without_memory(gaps: FloatArray) -> float:
    """Chance of ranks of gaps, one and two apart, that go as much together (Ljung-Box on ranks)."""
    n = len(gaps)
    ranks = gaps.argsort().argsort() - (n - 1) / 2
    total = float((ranks**2).sum())
    parts = [float((ranks[k:] * ranks[:-k]).sum() / total) ** 2 / (n - k) for k in (1, 2)]
    return float(chi2.sf(n * (n + 2) * sum(parts), 2))


def _gamma_shape(gaps: FloatArray) -> float:
    """Shape of greatest likelihood, of gaps of mean 1."""
    target = -float(np.log(gaps).mean())  # log of the mean, 0, less the mean of logs
    low, high = 1e-5, 1e6
    if target <= math.log(high) - float(digamma(high)):
        return high
    return float(brentq(lambda k: math.log(k) - float(digamma(k)) - target, low, high))


def _weibull_shape(gaps: FloatArray) -> float:
    """Shape of greatest likelihood."""
    logs = np.log(gaps)

    def slope(power: float) -> float:
        weight = np.exp(power * (logs - logs.max()))
        return float((weight * logs).sum() / weight.sum() - 1 / power - logs.mean())

    low, high = 0.02, 200.0
    if slope(low) > 0 or slope(high) < 0:
        return 1.0
    return float(brentq(slope, low, high))


def _balanced(gaps: FloatArray) -> tuple[float, float, float]:
    """Share of short gaps and both rates, of greatest likelihood; both kinds have equal parts of the time."""

    def cost(x: float) -> float:
        share = 1 / (1 + math.exp(-x))
        fast, slow = 2 * share, 2 * (1 - share)
        return -float(
            np.log(share * fast * np.exp(-fast * gaps) + (1 - share) * slow * np.exp(-slow * gaps)).sum()
        )

    found = minimize_scalar(cost, bounds=(0.0, 12.0), method="bounded")
    share = 1 / (1 + math.exp(-float(found.x)))
    return share, 2 * share, 2 * (1 - share)


def _rounded(value: float) -> float:
    return float(f"{value:.4g}")
