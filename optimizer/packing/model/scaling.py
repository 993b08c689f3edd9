"""Rows of floating-point numbers as rows of integers, rounded only towards safety.

This is the one place where floats become integers, so that CP-SAT, the MILP solvers, the patterns and
the heuristics solve the same model and agree on its optimum. Where all figures, or their shares of the
capacity, are whole numbers, decimal fractions of few digits or fractions of a small denominator, the
scaling is exact. Elsewhere usage is rounded up and capacity is `RESOLUTION`: a bin that satisfies the
integer row satisfies the given one, and at most 1/RESOLUTION of the capacity is held back per item.
Bounds hold for the integer rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import lcm

import numpy as np

from optimizer.packing.model.arrays import BoolArray, FloatArray, IntArray

RESOLUTION = 10_000_000
"""Integer capacity of a row that has no exact scaling."""

_LARGEST_EXACT = 1_000_000_000
_LARGEST_WHOLE = 1e11
"""Whole numbers up to here are told apart by the relative tolerance."""
_LARGEST_DENOMINATOR = 1_000
_POWERS = np.array([1.0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6])
_NOISE = 1e-15
"""Share of a capacity that is a rounding error of what was meant to be 0."""


@dataclass(frozen=True, eq=False)
class ScaledRows:
    """Rows of an option in integers.

    Parameters
    ----------
    usage
        Shape (m, n_classes); 0 for classes that may not enter.
    capacity
        Shape (m,).
    most
        Most items of each class in one bin, if nothing else is in it, shape (n_classes,); never more
        than there are.
    exact
        Whether the integers are an exact multiple of the given figures.
    """

    usage: IntArray
    capacity: IntArray
    most: IntArray
    exact: bool


def integer_rows(
    usage: FloatArray,
    capacity: FloatArray,
    allowed: BoolArray,
    counts: IntArray,
) -> ScaledRows:
    """Scale rows to integers.

    Parameters
    ----------
    usage, capacity
        Rows, shapes (m, n_classes) and (m,).
    allowed
        Classes that may enter, shape (n_classes,).
    counts
        Items per class, shape (n_classes,).
    """
    m, n = usage.shape
    ints = np.zeros((m, n), dtype=np.int64)
    room = np.zeros(m, dtype=np.int64)
    exact = True
    most = np.where(allowed, counts, 0)
    for r in range(m):
        # Items that do not fit alone are taken out first: their usage may need a finer scale than the rest.
        fits = allowed & (usage[r] <= capacity[r] * (1 + 1e-12))
        most = np.where(fits, most, 0)
        ints[r], room[r], row_exact = _scale(np.where(fits, usage[r], 0.0).tobytes(), float(capacity[r]))
        exact &= row_exact
    for r in range(m):
        used = ints[r] > 0
        most[used] = np.minimum(most[used], room[r] // ints[r][used])
    return ScaledRows(np.where(most > 0, ints, 0), room, most, exact)


@lru_cache(maxsize=512)
def _scale(row: bytes, capacity: float) -> tuple[IntArray, int, bool]:
    """One row as integers: usage, capacity, whether the scaling is exact.

    Problems of one search differ in their limits, prices and counts, and have most rows in common: those of
    both regions of 120 options. A row of 10,000 classes takes 160 kB here.
    """
    usage = np.frombuffer(row)
    # What is 0 but for rounding would make a scaling to small integers impossible.
    usage = np.where(usage < _NOISE * capacity, 0.0, usage)
    scaled = _exact(usage, capacity)
    if scaled is None and capacity > 0:
        scaled = _exact(usage / capacity, 1.0)
    if scaled is not None:
        return *scaled, True
    return np.ceil(usage * (RESOLUTION / capacity) - 1e-6).astype(np.int64), RESOLUTION, False


def _exact(usage: FloatArray, capacity: float) -> tuple[IntArray, int] | None:
    """A row as the smallest integers that are a multiple of it; None if there are none."""
    # Whole numbers are exact as they are, also the large ones that `exact_factor` refuses.
    largest = float(usage.max(initial=0.0))
    whole = largest <= _LARGEST_WHOLE and bool((usage == np.rint(usage)).all())
    factor = 1.0 if whole else exact_factor(usage)
    if factor is None:
        return None
    ints = np.rint(usage * factor).astype(np.int64)
    # The capacity may be rounded down to a multiple of what all usages have in common: none reaches between.
    divisor = max(1, int(np.gcd.reduce(ints)))
    room = int(np.floor(capacity * factor * (1 + 1e-12))) // divisor
    return (ints // divisor, room) if room <= _LARGEST_EXACT else None


def exact_factor(values: FloatArray) -> float | None:
    """Smallest power of ten up to 10^6, else least denominator, that makes all values integers.

    None if there is none: some value is no fraction of a denominator up to 1,000, or the integers are large.
    """
    with np.errstate(over="ignore", invalid="ignore"):  # what is infinite is too large
        scaled = values * _POWERS[:, None]
        exact = (np.abs(scaled - np.rint(scaled)) <= 1e-12 * np.abs(scaled)).all(axis=1)
    exact &= scaled.max(axis=1, initial=0.0) <= _LARGEST_EXACT
    return float(_POWERS[exact.argmax()]) if exact.any() else _common_denominator(values)


def _common_denominator(values: FloatArray) -> float | None:
    common = 1
    for value in np.unique(values)[::-1].tolist():  # large ones first: they exceed the limits soonest
        fraction = Fraction(value).limit_denominator(_LARGEST_DENOMINATOR)
        common = lcm(common, fraction.denominator)
        if abs(float(fraction) - value) > 1e-12 * value or common * value > _LARGEST_EXACT:
            return None
        if common > _LARGEST_DENOMINATOR**2:
            return None
    return float(common)
