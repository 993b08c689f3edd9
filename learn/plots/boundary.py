"""A picture of the boundary of one way to run a GPU: where its regions end, and what the twin says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scenarios.plots import canvas_of
from scenarios.plots.figures import ACCEPTED, ALARM, BEST, gridded

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from learn.boundaries.boundary_map import BoundaryMap

HEIGHT_INCHES = 3.6


def draw_boundary(boundary: BoundaryMap, ax: Axes | None = None) -> Figure:
    """Total rate over adapters: the edge of each region, and twin runs on both sides.

    Parameters
    ----------
    boundary
        What was found.
    ax
        Axes to draw in, in place of those of a new figure.
    """
    canvas = canvas_of(ax, boundary.headline, HEIGHT_INCHES)
    axes = canvas.panels[0]
    counts = [edge.adapters for edge in boundary.edges]
    inner = [edge.inner for edge in boundary.edges]
    outer = [edge.outer for edge in boundary.edges]
    axes.fill_between(counts, inner, outer, color=ACCEPTED, alpha=0.35, label="left to the twin")
    axes.plot(counts, inner, color=BEST, label="inner region: safe below")
    axes.plot(counts, outer, color=BEST, linestyle="--", label="outer region: hopeless above")
    for accepted, marker, colour, label in (
        (True, "o", BEST, "twin: accepted"),
        (False, "X", ALARM, "twin: rejected"),
    ):
        runs = [run for run in boundary.runs if run.accepted == accepted]
        axes.plot(
            [run.adapters for run in runs], [run.rate for run in runs], marker, color=colour,
            markeredgecolor="black", markeredgewidth=0.6, markersize=6, linestyle="none", label=label,
        )  # fmt: skip
    axes.set_xlabel("adapters, all alike")
    axes.set_ylabel("requests per second, of all of them")
    axes.set_ylim(bottom=0)
    axes.spines[["top", "right"]].set_visible(False)
    gridded(axes, "both")
    return canvas.finish(columns=2)
