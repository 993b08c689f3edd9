"""Rows of bars from a line that matters: what is beyond it is hatched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from scenarios.plots.figures import (
    BAR,
    BEST,
    GREY,
    REJECTED,
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


class Bar(NamedTuple):
    """One row.

    Parameters
    ----------
    name
        What it is of.
    value
        Length of its bar; None: there is none, and the words stand in its place.
    words
        What stands at its end.
    good
        Whether it is plain; else it is hatched.
    """

    name: str
    value: float | None
    words: str
    good: bool = True


def draw_bars(
    ax: Axes | None,
    title: str,
    bars: Sequence[Bar],
    unit: str,
    *,
    start: float = 0.0,
    line: tuple[float, str] | None = None,
    good: str = "",
    bad: str = "",
) -> Figure:
    """Draw one bar in each row.

    Parameters
    ----------
    ax
        Axes to draw in, in place of those of a new figure.
    title
        What stands above.
    bars
        The rows, the first on top.
    unit
        What the bars measure.
    start
        Where bars begin.
    line
        A value that is marked, and what it is.
    good, bad
        What plain and hatched bars stand for.
    """
    canvas = canvas_of(ax, title, ROW_INCHES * max(1, len(bars)))
    axes = canvas.panels[0]
    bars, share = fitting(bars)
    known = [bar.value for bar in bars if bar.value is not None]
    ends = [start, *known, *(() if line is None else (line[0],))]
    low, high = min(ends), max(ends)
    sides = 1 + (low < start)
    room = ((high - low) or 1.0) / (1 - min(0.9, sides * share))
    axes.set_xlim(low - (share * room if low < start else 0.0), high + share * room)
    for y, bar in enumerate(bars):
        _draw_bar(axes, y, bar, start, 0.012 * room, good if bar.good else bad)
    if line is not None:
        axes.axvline(line[0], color="black", linewidth=1.2, zorder=1.5, label=once(axes, line[1]))
    name_rows(axes, [bar.name for bar in bars])
    axes.set_xlabel(unit, parse_math=False)
    gridded(axes)
    return canvas.finish([good, bad])


def _draw_bar(axes: Axes, y: int, bar: Bar, start: float, gap: float, label: str) -> None:
    """The bar with its words at the end that is farther from where bars begin."""
    if bar.value is None:
        axes.text(start + gap, y, bar.words, va="center_baseline", color=GREY, parse_math=False)
        return
    axes.barh(
        y, bar.value - start, left=start, height=BAR, color=BEST if bar.good else REJECTED,
        hatch=None if bar.good else "////", edgecolor="white" if bar.good else "#8c8c8c", linewidth=0.5,
        label=once(axes, label),
    )  # fmt: skip
    beyond = bar.value >= start
    axes.text(
        bar.value + (gap if beyond else -gap), y, bar.words, ha="left" if beyond else "right",
        va="center_baseline", parse_math=False, bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.5},
    )  # fmt: skip
