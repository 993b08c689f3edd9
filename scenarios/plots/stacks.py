"""Rows of bars that are made of parts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from scenarios.plots.figures import (
    BAR,
    PALETTE,
    ROW_INCHES,
    canvas_of,
    fitting,
    name_rows,
    once,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

REST = "others"
"""What parts are called for which there is no colour."""


class Stack(NamedTuple):
    """One row.

    Parameters
    ----------
    name
        What it is of.
    parts
        Length of each part by its name; what is below 0 is not there.
    good
        Whether it is plain; else it is hatched.
    limit
        A length that is marked on the row, if it is less than its parts have.
    words
        What stands at its end.
    """

    name: str
    parts: Mapping[str, float]
    good: bool = True
    limit: float | None = None
    words: str = ""


def draw_stacks(
    ax: Axes | None,
    title: str,
    stacks: Sequence[Stack],
    unit: str,
    *,
    line: float | None = None,
) -> Figure:
    """Draw the parts of each row beside each other.

    Parameters
    ----------
    ax
        Axes to draw in, in place of those of a new figure.
    title
        What stands above.
    stacks
        The rows, the first on top; parts have colours in the order in which they are first named.
    unit
        What the lengths are of.
    line
        A length that is marked on all rows.
    """
    canvas = canvas_of(ax, title, 1.25 * ROW_INCHES * max(1, len(stacks)))
    axes = canvas.panels[0]
    stacks, share = fitting(stacks)
    names = list(dict.fromkeys(name for stack in stacks for name in stack.parts))
    colours = dict(zip(names, PALETTE, strict=False))
    longest = max([sum(max(0.0, part) for part in stack.parts.values()) for stack in stacks], default=1.0)
    axes.set_xlim(0, (max(longest, line or 0.0) or 1.0) / (1 - share))
    for row, stack in enumerate(stacks):
        end = _draw_stack(axes, row, stack, colours)
        if stack.words:
            axes.text(end + 0.01 * longest, row, stack.words, va="center_baseline", parse_math=False)
    if line is not None:
        axes.axvline(line, color="black", linewidth=1.2)
    name_rows(axes, [stack.name for stack in stacks])
    axes.set_xlabel(unit, parse_math=False)
    return canvas.finish(names, columns=2)


def _draw_stack(axes: Axes, row: int, stack: Stack, colours: Mapping[str, str]) -> float:
    """The parts of one row; where they end."""
    left = 0.0
    for name, part in stack.parts.items():
        length = max(0.0, part)
        label = name if name in colours else REST
        axes.barh(
            row, length, BAR, left, color=colours.get(name, PALETTE[-1]), edgecolor="white", linewidth=0.5,
            hatch=None if stack.good else "////", label=once(axes, label),
        )  # fmt: skip
        left += length
    if stack.limit is not None and left > stack.limit:
        axes.plot([stack.limit] * 2, [row - 0.5, row + 0.5], color="black", linewidth=1.5)
    return left
