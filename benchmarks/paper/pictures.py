"""Pictures of the parts: bars in groups, and lines in panels, all in one style."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from scenarios import write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = (
    "#1b5e9b", "#e07b39", "#3a9b6f", "#b8508f", "#8c6d31", "#5bb5c9", "#6b6b6b", "#c9a227", "#7d5ba6",
    "#c0392b", "#222222",
)  # fmt: skip
MARKS = "osD^vPX*hd<"

Lines = Mapping[str, Sequence[tuple[float, float]]]
"""Points of each line, by its name."""


def bars(
    groups: Mapping[str, Mapping[str, float]], label: str, line: tuple[float, str] | None = None
) -> Figure:
    """A bar for each name in each group, in one colour for a name; where a group lacks one there is none.

    Parameters
    ----------
    groups
        Values by name, by group.
    label
        What the values are.
    line
        A value to draw across, and what it is.
    """
    names = list(dict.fromkeys(name for values in groups.values() for name in values))
    figure = Figure(figsize=(max(5.0, 1.4 * len(groups) + 1.5), 3.6), layout="constrained")
    axes, width = figure.add_subplot(), 0.8 / max(len(names), 1)
    for k, name in enumerate(names):
        at = [g + (k - (len(names) - 1) / 2) * width for g, v in enumerate(groups.values()) if name in v]
        heights = [values[name] for values in groups.values() if name in values]
        drawn = axes.bar(at, heights, width, label=name, color=COLOURS[k % len(COLOURS)])
        axes.bar_label(drawn, fmt="%.3g", fontsize=6, padding=1)
    if line is not None:
        axes.axhline(line[0], color="#444444", linewidth=0.8, linestyle="--", label=line[1])
    axes.set_xticks(np.arange(len(groups)), list(groups), fontsize=8)
    axes.set_ylabel(label)
    axes.spines[["top", "right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=3, fontsize=8, frameon=False)
    return figure


def panels(
    shown: Mapping[str, Lines],
    across: str,
    upward: str,
    *,
    columns: int = 2,
    log: bool = False,
    share: bool = False,
) -> Figure:
    """Lines in panels that share names, colours and what the axes are.

    Parameters
    ----------
    shown
        Lines of each panel, by its title.
    across, upward
        What the axes are.
    columns
        Panels beside each other.
    log
        Whether both axes are logarithmic, with the base 2.
    share
        Whether all panels have the same axes.
    """
    names = list(dict.fromkeys(name for lines in shown.values() for name in lines))
    rows = -(-len(shown) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.7 * rows + 0.8), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share).ravel()
    for axes, (title, lines) in zip(grid, shown.items(), strict=False):
        _draw_lines(axes, lines, names, log=log)
        axes.set_title(title, fontsize=9)
        axes.set_xlabel(across, fontsize=8)
        axes.set_ylabel(upward, fontsize=8)
        axes.tick_params(labelsize=8, labelbottom=True, labelleft=True)
    for axes in grid[len(shown) :]:
        axes.set_visible(False)
    handles = {
        label: handle
        for axes in grid
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
    }
    known = [name for name in names if name in handles]
    figure.legend(
        [handles[name] for name in known],
        known,
        loc="outside upper center",
        ncols=4,
        fontsize=8,
        frameon=False,
    )
    return figure


def _draw_lines(axes: Axes, lines: Lines, names: Sequence[str], *, log: bool) -> None:
    """Lines with hollow marks, each smaller than the one before, so that equal points all are seen."""
    if log:
        values = np.array([point for points in lines.values() for point in points], dtype=np.float64)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_ylim(0.8 * values[:, 1].min(), 1.25 * max(values[:, 1].max(), 2.0))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter("{x:g}")
    else:
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    for name, points in lines.items():
        k = names.index(name)
        x, y = zip(*sorted(points), strict=True)
        dashes = "--" if name.startswith("published") else "-"
        axes.plot(
            x, y, marker=MARKS[k % len(MARKS)], markersize=max(11.0 - 0.8 * k, 3.0), markerfacecolor="none",
            linewidth=1.0, color=COLOURS[k % len(COLOURS)], label=name, linestyle=dashes,
        )  # fmt: skip
    axes.grid(color="#e5e5e5", linewidth=0.6)
    axes.spines[["top", "right"]].set_visible(False)


def write_picture(figure: Figure, path: Path) -> None:
    """Write a picture as SVG with its texts as texts; drawn anew, it has the same bytes."""
    picture = io.BytesIO()
    with mpl.rc_context({"svg.hashsalt": "lorapack", "svg.fonttype": "none"}):
        figure.savefig(picture, format="svg", metadata={"Date": None})
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, picture.getvalue())
