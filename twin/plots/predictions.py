"""A picture of predictions beside measurements."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from scenarios.plots import canvas_of
from scenarios.plots.figures import ALARM, BEST, gridded, log_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HEIGHT_INCHES = 3.0


@dataclass(frozen=True)
class Pairs:
    """A metric of some runs, measured and foretold; arrays of shape (n,), all above 0.

    Parameters
    ----------
    words
        What it is, with its unit.
    measured, foretold
        The values.
    starves
        Whether the run starves.
    error
        How far the two are from each other, in words.
    """

    words: str
    measured: NDArray[np.float64]
    foretold: NDArray[np.float64]
    starves: NDArray[np.bool_]
    error: str


def draw_predictions(metrics: Sequence[Pairs], title: str, ax: Axes | None = None) -> Figure:
    """Foretold over measured of every run, on logarithmic scales; a run on the line is foretold exactly.

    Parameters
    ----------
    metrics
        One panel for each.
    title
        What stands above.
    ax
        Axes to draw the first in, in place of those of a new figure.
    """
    canvas = canvas_of(ax, title, HEIGHT_INCHES, [1] * max(1, len(metrics)), joined=False)
    for axes, pairs in zip(canvas.panels, metrics, strict=False):
        _draw_metric(axes, pairs)
    return canvas.finish(["does not starve", "starves"])


def _draw_metric(axes: Axes, pairs: Pairs) -> None:
    for starves, marker, colour, label in (
        (False, "o", BEST, "does not starve"),
        (True, "x", ALARM, "starves"),
    ):
        some = pairs.starves == starves
        if some.any():
            axes.plot(
                pairs.measured[some], pairs.foretold[some], marker, color=colour, markersize=4, alpha=0.6,
                linestyle="none", label=label,
            )  # fmt: skip
    both = np.concatenate([pairs.measured, pairs.foretold])
    if len(both):
        ends = float(both.min()) / 1.2, float(both.max()) * 1.2
        axes.plot(ends, ends, color="black", linewidth=0.8)
        log_axis(axes, "x", *ends, most=4)
        log_axis(axes, "y", *ends)
    axes.set_title(pairs.error, fontsize=9, loc="left")
    axes.set_xlabel(f"measured {pairs.words}")
    axes.set_ylabel("foretold")
    axes.spines[["top", "right"]].set_visible(False)
    gridded(axes, "both")
