"""Numbers as a page holds them: four digits, and null where nothing was measured."""

from __future__ import annotations

import math
from collections.abc import Iterable

DIGITS = 4
"""Significant digits of what is shown."""


def rounded(value: float) -> float:
    """A finite number to so many digits as are shown."""
    return float(f"{value:.{DIGITS}g}")


def known(value: float | None) -> float | None:
    """The same, or None where it is not finite."""
    return None if value is None or not math.isfinite(value) else rounded(value)


def row(values: Iterable[float]) -> tuple[float, ...]:
    """Finite numbers, each to so many digits."""
    return tuple(rounded(float(value)) for value in values)


def known_row(values: Iterable[float]) -> tuple[float | None, ...]:
    """Numbers, None where one is not finite."""
    return tuple(known(float(value)) for value in values)
