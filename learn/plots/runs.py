"""A picture of twin runs: what was sampled, and what starves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from learn.features import BoolArray, FloatArray
from scenarios.plots import canvas_of
from scenarios.plots.figures import ALARM, BEST, gridded, log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT_INCHES = 3.2


def draw_runs(
    adapters: FloatArray, tokens_per_s: FloatArray, starved: BoolArray, ax: Axes | None = None
) -> Figure:
    """Adapters and offered tokens of every run, and whether it starves.

    Parameters
    ----------
    adapters, tokens_per_s, starved
        Shape (n,).
    ax
        Axes to draw in, in place of those of a new figure.
    """
    title = f"{len(starved):,} twin runs, {int(np.sum(starved)):,} of which starve"
    canvas = canvas_of(ax, title, HEIGHT_INCHES)
    axes = canvas.panels[0]
    for which, marker, colour, label in (
        (~starved, "o", BEST, "does not starve"),
        (starved, "x", ALARM, "starves"),
    ):
        axes.plot(
            adapters[which], tokens_per_s[which], marker, color=colour, markersize=3, alpha=0.5,
            linestyle="none", label=label,
        )  # fmt: skip
    if len(starved):
        log_axis(axes, "x", max(0.8, float(adapters.min()) / 1.2), float(adapters.max()) * 1.2)
        log_axis(axes, "y", float(tokens_per_s.min()) / 1.2, float(tokens_per_s.max()) * 1.2)
    axes.set_xlabel("adapters")
    axes.set_ylabel("tokens per second, offered")
    axes.spines[["top", "right"]].set_visible(False)
    gridded(axes, "both")
    return canvas.finish()
