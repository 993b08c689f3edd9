"""Pictures of many plans of one scenario."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from scenarios.plots import canvas_of
from scenarios.plots.figures import ALARM, BEST, GREY, PALETTE, gridded, short

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from optimizer.studies.front import Front
    from optimizer.studies.sweep import Sweep

HEIGHT_INCHES = 3.2
MARKERS = "osD^vP*X"
"""One for each method, so that none is known by its colour alone."""


def draw_sweep(sweep: Sweep, ax: Axes | None = None) -> Figure:
    """GPUs of each method over the values of a key; crossed out where the twin rejects the plan.

    A hollow mark at the bottom stands for no plan.

    Parameters
    ----------
    sweep
        The plans.
    ax
        Axes to draw in, in place of those of a new figure.
    """
    from matplotlib.ticker import MaxNLocator

    canvas = canvas_of(ax, sweep.headline, HEIGHT_INCHES)
    axes = canvas.panels[0]
    for k, method in enumerate(sweep.methods):
        plans = list(_plans(sweep, k))
        axes.plot(
            [value for value, _, _ in plans], [gpus for _, gpus, _ in plans],
            marker=MARKERS[k % len(MARKERS)], color=PALETTE[k % len(PALETTE)], label=short(method, 24),
        )  # fmt: skip
        wrong = [(value, gpus) for value, gpus, accepted in plans if not accepted]
        if wrong:
            axes.plot(
                *zip(*wrong, strict=True), "x", color=ALARM, markersize=12, linestyle="none",
                label="rejected by the twin",
            )  # fmt: skip
    for k, method in enumerate(sweep.methods):
        none = [v for v, r in zip(sweep.values, sweep.results, strict=True) if r[k].gpus is None]
        if none:
            axes.plot(
                none, [0] * len(none), marker=MARKERS[k % len(MARKERS)], color=PALETTE[k % len(PALETTE)],
                markerfacecolor="white", linestyle="none", label=f"{short(method, 24)}: no plan",
            )  # fmt: skip
    axes.set_xlabel(short(sweep.path, 60), parse_math=False)
    axes.set_ylabel("GPUs")
    axes.set_ylim(bottom=0)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    axes.spines[["top", "right"]].set_visible(False)
    gridded(axes, "both")
    return canvas.finish()


def _plans(sweep: Sweep, method: int) -> Iterator[tuple[float, int, bool]]:
    """Value, GPUs and whether the twin accepts, of each plan of a method."""
    for value, results in zip(sweep.values, sweep.results, strict=True):
        gpus = results[method].gpus
        if gpus is not None:
            yield value, gpus, results[method].accepted


def draw_front(front: Front, ax: Axes | None = None) -> Figure:
    """The latency of the best plans over what they cost; a line joins those that nothing beats in both.

    Parameters
    ----------
    front
        The plans.
    ax
        Axes to draw in, in place of those of a new figure.
    """
    canvas = canvas_of(ax, front.headline, HEIGHT_INCHES)
    axes = canvas.panels[0]
    priced = bool(front.points) and all(point.cost_per_hour is not None for point in front.points)
    places = [
        ((p.cost_per_hour if priced else None) or p.gpus, p.value, p.gpus, p.best) for p in front.points
    ]
    best = [(x, y) for x, y, _, is_best in places if is_best]
    if best:
        axes.step(*zip(*best, strict=True), where="post", color=BEST, label="no plan is better in both")
    for x, y, gpus, is_best in places:
        axes.plot(
            x, y, "o" if is_best else "X", color=BEST if is_best else GREY, markeredgecolor="black",
            markeredgewidth=0.6, linestyle="none",
        )  # fmt: skip
        axes.annotate(f"{gpus} GPU{'s' * (gpus != 1)}", (x, y), (6, 5), textcoords="offset points")
    axes.set_xlabel("cost per hour" if priced else "GPUs")
    axes.set_ylabel(front.heading)
    axes.margins(0.12)
    axes.spines[["top", "right"]].set_visible(False)
    gridded(axes, "both")
    return canvas.finish()
