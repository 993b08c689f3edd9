"""Numbers with bars beside them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Bar(NamedTuple):
    """A number with its bar."""

    name: str
    text: str
    share: float
    """Length of the bar, of the longest."""


def bars(
    values: Mapping[str, float], *, percent: bool = False, longest: float | None = None
) -> tuple[Bar, ...]:
    """Numbers with bars, each as long as its part of the longest, by default of the largest number."""
    longest = longest or max(values.values(), default=0.0) or 1.0
    return tuple(
        Bar(name, f"{value:.0%}" if percent else f"{value:,.2f}", max(0.0, value) / longest)
        for name, value in values.items()
    )
