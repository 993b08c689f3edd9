"""Rows of what is expected, as a band, and what came of it, as a point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from scenarios.plots.figures import (
    ACCEPTED,
    ALARM,
    BEST,
    GREY,
    ROW_INCHES,
    canvas_of,
    fitting,
    gridded,
    name_rows,
    once,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

LEAST, MOST = 1 / 32, 32.0
"""Ratios beyond these are drawn at the edge: one of a thousand would hide all others."""


class Span(NamedTuple):
    """One row; all values above 0, as shares of the same thing.

    Parameters
    ----------
    name
        What it is of.
    value
        What came of it; None: nothing.
    low, high
        What is expected; None: no such end.
    good
        Whether it is as expected.
    words
        What stands behind the point.
    """

    name: str
    value: float | None
    low: float | None
    high: float | None
    good: bool
    words: str


def draw_spans(
    ax: Axes | None, title: str, spans: Sequence[Span], unit: str, *, band: str, good: str, bad: str
) -> Figure:
    """Draw a band and a point in each row, on a logarithmic scale around 1.

    Parameters
    ----------
    ax
        Axes to draw in, in place of those of a new figure.
    title
        What stands above.
    spans
        The rows, the first on top.
    unit
        What the scale is.
    band, good, bad
        What a band, a point in it and one beside it stand for.
    """
    canvas = canvas_of(ax, title, ROW_INCHES * max(1, len(spans)))
    axes = canvas.panels[0]
    spans, share = fitting(spans)
    ends = [end for span in spans for end in (span.value, span.low, span.high) if end]
    low = max(LEAST, min([*ends, 0.8])) / 1.1
    high = min(MOST, max([*ends, 1.25])) * 1.1
    axes.set_xscale("log")
    axes.set_xlim(low, low * (high / low) ** (1 / (1 - share)))  # the words are at the right of their points
    for y, span in enumerate(spans):
        _draw_band(axes, y, span, low, high, band)
        _draw_point(axes, y, span, low, high, good if span.good else bad)
    axes.axvline(1.0, color="black", linewidth=0.8)
    name_rows(axes, [span.name for span in spans])
    places = _ticks(low, high)
    axes.set_xticks(places, [f"{place:.3g}" for place in places])
    axes.set_xticks([], minor=True)
    axes.set_xlabel(unit, parse_math=False)
    gridded(axes)
    return canvas.finish([band, good, bad])


def _draw_band(axes: Axes, y: int, span: Span, low: float, high: float, label: str) -> None:
    """From one end to the other; to the edge where there is none."""
    if span.low is None and span.high is None:
        return
    left, right = span.low or low, high if span.high is None else span.high
    axes.barh(y, max(right - left, 1e-9), left=left, height=0.5, color=ACCEPTED, label=once(axes, label))


def _draw_point(axes: Axes, y: int, span: Span, low: float, high: float, label: str) -> None:
    if span.value is None:
        axes.text(high, y, f"  {span.words}", va="center_baseline", color=GREY, parse_math=False)
        return
    x = min(max(span.value, low), high)
    axes.plot(
        x, y, "o" if span.good else "X", color=BEST if span.good else ALARM, markeredgecolor="black",
        markeredgewidth=0.6, linestyle="none", label=once(axes, label),
    )  # fmt: skip
    axes.annotate(
        span.words, (x, y), (8, 0), textcoords="offset points", va="center_baseline", parse_math=False
    )


def _ticks(low: float, high: float) -> list[float]:
    """Round ratios of the scale, no more than have room."""
    steps = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2, 1.4, 1.6, 2.0) if high / low < 4 else ()
    doubled = [2.0**k for k in range(math.ceil(math.log2(low)), math.floor(math.log2(high)) + 1)]
    return [step for step in (steps or doubled) if low <= step <= high]
