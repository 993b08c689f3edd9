"""Pictures of comparisons and plans."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from scenarios.plots import Canvas, PlotError, canvas_of, figure_of
from scenarios.plots.figures import (
    ACCEPTED,
    BEST,
    GREY,
    LONGEST_NAME,
    REJECTED,
    ROW_INCHES,
    WIDTH_INCHES,
    count_axis,
    duration,
    name_rows,
    once,
    short,
)
from scenarios.text.formatting import counted, shortened
from twin.plots.verdicts import VERDICT_LABELS, draw_bar, draw_latencies, draw_load, verdict_color

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from optimizer.result import Result

_METHOD_LABELS = {
    BEST: "fewest GPUs, accepted by the twin",
    ACCEPTED: "accepted by the twin",
    REJECTED: "not accepted",
}

CUT_AT = 2.5
"""A bar is cut off where it is longer than so many times the fewest GPUs of any scenario of the picture."""

Row = dict[Any, Any]


def draw_comparison(results: Sequence[Result], ax: Axes | Sequence[Axes] | None = None) -> Figure:
    """GPUs and mean TTFT for each scenario and method, on scales that all scenarios share.

    The fewest GPUs that the twin accepted are dark, what it rejected is hatched, a tick marks each bound.

    Parameters
    ----------
    results
        One per scenario and method.
    ax
        Axes to draw the GPUs in, one per scenario, in place of those of a new figure.

    Raises
    ------
    PlotError
        If there are not as many axes as scenarios.
    """
    groups: dict[str, list[Row]] = {}
    for result in results:
        groups.setdefault(result.scenario.name, []).append(_row(result))
    limit = _limit(groups.values())
    latencies: list[Axes] = []
    if ax is not None:
        panels = _given(ax, len(groups))
        figure = figure_of(panels[0])
    else:
        timed = any(row["ttft_ms"] is not None for rows in groups.values() for row in rows)
        widths = (3, 2) if timed else (3,)
        figure, (panels, *beside) = _new_figure([len(rows) for rows in groups.values()], widths)
        latencies = [axes for column in beside for axes in column]
        title = "GPUs and latency by method" if timed else "GPUs by method"
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", fontsize=10)
        panels[-1].set_xlabel("GPUs")
    for axes, (name, rows) in zip(panels, groups.items(), strict=True):
        _draw_methods(axes, name, rows, limit, in_words=not latencies)
    if latencies:
        draw_latencies(latencies, [(rows, _colors(rows)) for rows in groups.values()])
    canvas = Canvas(figure, tuple(panels), own=ax is None)
    return canvas.finish(list(_METHOD_LABELS.values()), foot=_origin(results))


def draw_plan(result: Result, ax: Axes | None = None) -> Figure:
    """Load, adapters and mean TTFT of every GPU of a plan; hatched where the twin rejected it.

    Parameters
    ----------
    result
        With a plan, or without: then the picture says so.
    ax
        Axes to draw the load in, in place of those of a new figure; the adapters if there is no verdict.
    """
    rows = result.to_frame().to_dict("records")
    judged = result.validation is not None
    draws = [draw_load, _draw_adapters] if judged else [_draw_adapters]
    inches = ROW_INCHES * max(1, len(rows)) + 0.4
    canvas = canvas_of(ax, _plan_title(result), inches, (4, 3, 3) if judged else (1,), joined=False)
    for axes, draw in zip(canvas.panels, draws, strict=False):
        draw(axes, rows)
    name_rows(canvas.panels[0], [f"GPU {row['gpu']}" for row in rows])
    if len(canvas.panels) > len(draws):
        draw_latencies(canvas.panels[-1:], [(rows, [verdict_color(row) for row in rows])])
    return canvas.finish(list(VERDICT_LABELS.values()), foot=_origin([result]))


def _row(result: Result) -> Row:
    """What is drawn of a result in a comparison; a bound of another objective is none of GPUs."""
    return {
        "method": result.method,
        "status": result.status,
        "gpus": result.gpus,
        "bound": result.bound if result.objectives[0] == "gpus" else None,
        "accepted": result.accepted,
        "ttft_ms": result.validation.ttft_ms if result.validation else None,
    }


def _plan_title(result: Result) -> str:
    title = f"{shortened(result.scenario.name)}, {shortened(result.method)}: "
    if result.placement is None:
        return title + result.status.replace("_", " ")
    title += counted(len(result.placement.gpus), "GPU")
    if result.validation is None:
        return f"{title}, not judged by the twin"
    rejected = len(result.validation.rejected)
    verdict = f"{rejected} REJECTED" if rejected else "accepted"
    return f"{title}, {verdict} by the twin ({result.acceptance})"


def _new_figure(heights: list[int], widths: tuple[int, ...]) -> tuple[Figure, list[list[Axes]]]:
    """A figure of panels in columns, each with one scale."""
    from matplotlib.figure import Figure

    rows = len(heights)
    inches = 1.3 + sum(heights) * ROW_INCHES + 0.55 * rows
    figure = Figure(figsize=(WIDTH_INCHES, inches), layout="constrained")
    grid = figure.subplots(
        rows, len(widths), squeeze=False, sharex="col", height_ratios=heights, width_ratios=widths
    )
    return figure, [list(column) for column in grid.T]


def _given(ax: Axes | Sequence[Axes], wanted: int) -> list[Axes]:
    given = list(np.ravel(np.array(ax, dtype=object)))
    if len(given) != wanted:
        raise PlotError(f"{len(given)} axes were given for {wanted} scenarios; give one for each")
    return given


def _limit(groups: Iterable[Sequence[Row]]) -> float:
    """The longest bar: all of them, unless some would squash all others to stubs."""
    there = [[row["gpus"] for row in rows if row["gpus"] is not None] for rows in groups]
    longest = max((max(gpus) for gpus in there if gpus), default=1)
    cut = CUT_AT * max((min(gpus) for gpus in there if gpus), default=1)
    return float(longest if longest <= 1.3 * cut else round(cut))


def _colors(rows: Sequence[Row]) -> list[str]:
    """The fewest accepted GPUs are dark."""
    accepted = [row["gpus"] for row in rows if row["accepted"]]
    return [
        REJECTED if not row["accepted"] else BEST if row["gpus"] == min(accepted) else ACCEPTED
        for row in rows
    ]


def _draw_methods(axes: Axes, name: str, rows: Sequence[Row], limit: float, in_words: bool) -> None:
    """The bars of one scenario, the first method on top; latency in words where it has no panel."""
    colors, gap = _colors(rows), 0.015 * limit
    for y, (row, color) in enumerate(zip(rows, colors, strict=True)):
        gpus, weight = row["gpus"], "bold" if color == BEST else "normal"
        if gpus is None:
            axes.text(gap, y, row["status"].replace("_", " "), va="center_baseline", color=GREY)
            continue
        draw_bar(axes, y, min(gpus, limit), color, _METHOD_LABELS[color])
        if gpus > limit:
            _cut(axes, y, limit)
        if row["bound"] is not None and row["bound"] <= limit:
            label = once(axes, "proven bound")
            axes.vlines(row["bound"], y - 0.45, y + 0.45, colors="black", linewidth=2, label=label)
        words = f"   TTFT {duration(row['ttft_ms'])}" if in_words and row["ttft_ms"] is not None else ""
        axes.text(min(gpus, limit) + gap, y, f"{gpus}{words}", va="center_baseline", fontweight=weight)
    name_rows(axes, [short(row["method"], LONGEST_NAME) for row in rows])
    for text, color in zip(axes.get_yticklabels(), colors, strict=True):
        text.set_fontweight("bold" if color == BEST else "normal")
    axes.set_title(short(name, LONGEST_NAME), loc="left", fontsize=10, fontweight="bold", parse_math=False)
    count_axis(axes, limit, room=0.7 if in_words else 0.12)


def _cut(axes: Axes, y: int, limit: float) -> None:
    """Two white strokes near the end of a bar, as of an axis that is broken."""
    axes.plot(
        [0.93 * limit, 0.96 * limit], [y, y], linestyle="none", marker=[(-1, -2), (1, 2)], markersize=11,
        color="white", markeredgewidth=2.5, label=once(axes, f"// bar cut off at {limit:.0f} GPUs"),
    )  # fmt: skip


def _draw_adapters(axes: Axes, rows: Sequence[Row]) -> None:
    """How many adapters there are, and the largest rank that the GPU takes."""
    longest = max((row["adapters"] for row in rows), default=0) or 1
    for y, row in enumerate(rows):
        draw_bar(axes, y, row["adapters"], verdict_color(row), "")
        label = f"{row['adapters']}, rank {row['max_lora_rank']}"
        axes.text(row["adapters"] + 0.015 * longest, y, label, va="center_baseline")
    axes.set_xlabel("adapters")
    name_rows(axes, [""] * len(rows))
    count_axis(axes, longest, room=0.6, ticks=4)


def _origin(results: Sequence[Result]) -> str:
    """Versions and seeds."""
    versions = ", ".join(dict.fromkeys(result.version for result in results))
    seeds = list(dict.fromkeys(str(result.seed) for result in results))
    return f"lorapack {versions}, {'seeds' if len(seeds) > 1 else 'seed'} {', '.join(seeds)}"
