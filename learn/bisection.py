"""Bisection of many brackets at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike

from learn.features import BoolArray, FloatArray


def bisect(
    holds: Callable[[FloatArray], BoolArray], low: ArrayLike, high: ArrayLike, *, halvings: int
) -> tuple[FloatArray, FloatArray]:
    """Ends, so many times closer, between which a condition ceases to hold.

    Unlike scipy's root finders it needs no more than yes and no, and always takes the same number of calls.

    Parameters
    ----------
    holds
        Whether the condition holds at each of some places, in their shape: at small ones, not at large ones.
    low, high
        Ends of the brackets. Where it holds at both, they come together at the high one; where at neither,
        at the low one.
    """
    low, high = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    for _ in range(halvings):
        middle = (low + high) / 2
        below = holds(middle)
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    return low, high
