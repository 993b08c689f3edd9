"""The part of a log that a plan must hold for, and how certain rates in it are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

HOUR_S = 3600.0

SHORTEST_S = 2 * HOUR_S
"""Logs shorter than this are taken whole: a busiest hour of them would be chance."""

EPOCH_S = 1e9
"""Seconds since 1970 from which on instants are dates: after 2001."""

CONFIDENCE = 0.95

COUNT_BINS = 20
"""Parts of a window whose counts are compared."""

_BLOCK = 1_000_000


@dataclass(frozen=True)
class Window:
    """A part of a log.

    Parameters
    ----------
    first, last
        Its requests: those from the first to before the last.
    begin_s, length_s
        Seconds since the log's first request at which it begins, and how long it is.
    told
        What it is, for a user.
    """

    first: int
    last: int
    begin_s: float
    length_s: float
    told: str


def choose_window(time_s: NDArray[np.float64], which: str) -> Window:
    """The busiest hour of all requests together, or the whole log.

    Parameters
    ----------
    time_s
        Seconds since the first request, ascending.
    which
        ``busiest`` or ``mean``.
    """
    n = len(time_s)
    # n requests span n - 1 gaps; one more makes the mean that of the gaps.
    whole_s = float(time_s[-1]) * n / (n - 1)
    if which == "mean" or whole_s < SHORTEST_S:
        return Window(0, n, 0.0, whole_s, whole_told("log", whole_s, which))
    best, first = 0, 0
    for start in range(0, n, _BLOCK):
        here = np.arange(start, min(start + _BLOCK, n))
        count = np.searchsorted(time_s, time_s[here] + HOUR_S) - here
        place = int(count.argmax())
        if count[place] > best:
            best, first = int(count[place]), start + place
    told = busiest_told(best / (n / whole_s * HOUR_S), whole_s)
    return Window(first, first + best, float(time_s[first]), HOUR_S, told)


def whole_told(what: str, length_s: float, which: str) -> str:
    """Says that all of something is taken, and if the busiest hour was asked for, why."""
    if which == "mean":
        return f"the whole {what} of {_long(length_s)}"
    return f"the whole {what}, which is only {_long(length_s)} long"


def busiest_told(times: float, length_s: float) -> str:
    """Says what the busiest hour is that has so many times the requests of a mean one."""
    return f"the busiest hour, with {times:.2f} times the requests of a mean hour of {_long(length_s)}"


def rate_interval(count: int, length_s: float, dispersion: float) -> tuple[float, float]:
    """Exact interval of 95 % of a Poisson rate in 1/s, widened where counts vary more.

    Of a process whose counts have `dispersion` times a Poisson's variance, count / dispersion is taken for
    Poisson (quasi-likelihood); the bounds of that are Garwood's (Biometrika 28, 1936).
    """
    k, tail = count / dispersion, (1 - CONFIDENCE) / 2
    low = float(chi2.ppf(tail, 2 * k)) / 2 if count else 0.0
    high = float(chi2.ppf(1 - tail, 2 * k + 2)) / 2
    return low * dispersion / length_s, high * dispersion / length_s


def dispersion_of(time_s: NDArray[np.float64], length_s: float) -> float:
    """By what factor counts vary more than a Poisson's, 1 where that may be chance.

    The larger of what the gaps say (the square of their coefficient of variation, right for renewals) and
    what counts in `COUNT_BINS` parts say (right for rates that change slowly).
    """
    n = len(time_s)
    if n < COUNT_BINS:
        return 1.0
    counts = np.histogram(time_s, COUNT_BINS, (0.0, length_s))[0]
    index = float(counts.var(ddof=1) / counts.mean())
    gaps = np.diff(time_s)
    square = float(gaps.var() / gaps.mean() ** 2) if gaps.mean() > 0 else 1.0
    by_counts = index if index * (COUNT_BINS - 1) > chi2.ppf(0.99, COUNT_BINS - 1) else 1.0
    # The square of a Poisson's coefficient has a standard deviation of about sqrt(8 / n).
    by_gaps = square if square > 1 + 2.6 * (8 / n) ** 0.5 else 1.0
    return max(by_counts, by_gaps)


def span(start_s: float | None, begin_s: float, length_s: float) -> str:
    """From when to when, in words: in UTC where the log tells dates."""
    if start_s is None:
        return f"from second {begin_s:,.6g} to {begin_s + length_s:,.6g} of the log"
    begin = datetime.fromtimestamp(start_s + begin_s, UTC)
    end = datetime.fromtimestamp(start_s + begin_s + length_s, UTC)
    form = "%H:%M:%S" if length_s < 600 else "%H:%M"
    later = "" if begin.date() == end.date() else "%Y-%m-%d "
    return f"from {begin:%Y-%m-%d {form}} to {end:{later}{form}} UTC"


def _long(seconds: float) -> str:
    for unit, of in (("days", 86_400.0), ("h", HOUR_S), ("min", 60.0)):
        if seconds >= 2 * of:
            return f"{seconds / of:,.3g} {unit}"
    return f"{seconds:,.3g} s"
