"""Pictures of comparisons and plans."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from optimizer.plots.files import PlotError, figure_of, write_figure
from scenarios.text.formatting import counted, shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from optimizer.result import Result

BEST, ACCEPTED, REJECTED, GREY = "#1b5e9b", "#92bfe3", "#dddddd", "#777777"
ROW_INCHES, WIDTH_INCHES = 0.27, 8.0

BAR = 0.72
"""Height of a bar, as a share of its row's."""

_METHOD_LABELS = {
    BEST: "fewest GPUs, accepted by the twin",
    ACCEPTED: "accepted by the twin",
    REJECTED: "not accepted",
}
_VERDICT_LABELS = {BEST: "served, accepted by the twin", REJECTED: "served, rejected by the twin"}

CUT_AT = 2.5
"""A bar is cut off where it is longer than so many times the fewest GPUs of any scenario of the picture."""

Row = dict[Any, Any]


def draw_comparison(
    results: Sequence[Result], path: str | Path | None = None, ax: Axes | Sequence[Axes] | None = None
) -> Figure:
    """GPUs and mean TTFT for each scenario and method, on scales that all scenarios share.

    The fewest GPUs that the twin accepted are dark, what it rejected is hatched, a tick marks each bound.

    Parameters
    ----------
    results
        One per scenario and method.
    path
        Where to, if anywhere; its ending names the format.
    ax
        Axes to draw the GPUs in, one per scenario, in place of those of a new figure.

    Raises
    ------
    PlotError
        If the ending of the path names no format, there are not as many axes as scenarios, or the picture
        cannot be drawn.
    OutputFileError
        If the file cannot be written.
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
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold")
        panels[-1].set_xlabel("GPUs")
    for axes, (name, rows) in zip(panels, groups.items(), strict=True):
        _draw_methods(axes, name, rows, limit, in_words=not latencies)
    if latencies:
        _draw_latencies(latencies, [(rows, _colors(rows)) for rows in groups.values()])
    return _finished(figure, panels, results, path, own=ax is None)


def draw_plan(result: Result, path: str | Path | None = None, ax: Axes | None = None) -> Figure:
    """Load, adapters and mean TTFT of every GPU of a plan; hatched where the twin rejected it.

    Parameters
    ----------
    result
        With a plan, or without: then the picture says so.
    path
        As in `draw_comparison`.
    ax
        Axes to draw the load in, in place of those of a new figure; the adapters if there is no verdict.

    Raises
    ------
    PlotError
        If the ending of the path names no format, or the picture cannot be drawn.
    OutputFileError
        If the file cannot be written.
    """
    rows, title = result.to_frame().to_dict("records"), _plan_title(result)
    judged = result.validation is not None
    draws = [_draw_load, _draw_adapters] if judged else [_draw_adapters]
    if ax is not None:
        figure, panels, draws = figure_of(ax), [ax], draws[:1]
        ax.set_title(title, loc="left", parse_math=False)
    else:
        figure, columns = _new_figure([max(1, len(rows))], (4, 3, 3) if judged else (1,))
        panels = [column[0] for column in columns]
        figure.suptitle(title, x=0.01, ha="left", fontweight="bold", parse_math=False)
    for axes, draw in zip(panels, draws, strict=False):
        draw(axes, rows)
    _name_rows(panels[0], [f"GPU {row['gpu']}" for row in rows])
    if len(panels) > len(draws):
        _draw_latencies(panels[-1:], [(rows, [_verdict_color(row) for row in rows])])
    return _finished(figure, panels[:1], [result], path, own=ax is None)


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
    return f"{title}, {f'{rejected} REJECTED' if rejected else 'accepted'} by the twin"


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
        _bar(axes, y, min(gpus, limit), color, _METHOD_LABELS[color])
        if gpus > limit:
            _cut(axes, y, limit)
        if row["bound"] is not None and row["bound"] <= limit:
            label = _once(axes, "proven bound")
            axes.vlines(row["bound"], y - 0.45, y + 0.45, colors="black", linewidth=2, label=label)
        words = f"   TTFT {_duration(row['ttft_ms'])}" if in_words and row["ttft_ms"] is not None else ""
        axes.text(min(gpus, limit) + gap, y, f"{gpus}{words}", va="center_baseline", fontweight=weight)
    _name_rows(axes, [shortened(row["method"]) for row in rows])
    for text, color in zip(axes.get_yticklabels(), colors, strict=True):
        text.set_fontweight("bold" if color == BEST else "normal")
    axes.set_title(shortened(name), loc="left", fontsize=11, fontweight="bold", parse_math=False)
    _count_axis(axes, limit, room=0.7 if in_words else 0.12)


def _cut(axes: Axes, y: int, limit: float) -> None:
    """Two white strokes near the end of a bar, as of an axis that is broken."""
    axes.plot(
        [0.93 * limit, 0.96 * limit], [y, y], linestyle="none", marker=[(-1, -2), (1, 2)], markersize=11,
        color="white", markeredgewidth=2.5, label=_once(axes, f"// bar cut off at {limit:.0f} GPUs"),
    )  # fmt: skip


def _draw_load(axes: Axes, rows: Sequence[Row]) -> None:
    """Offered tokens per second in outline, served ones filled, and their share."""
    loads = [(_number(row["offered_tok_per_s"]), _number(row["served_tok_per_s"])) for row in rows]
    longest = max((max(load) for load in loads), default=0.0) or 1.0
    for y, (row, (offered, served)) in enumerate(zip(rows, loads, strict=True)):
        color = _verdict_color(row)
        _bar(axes, y, served, color, _VERDICT_LABELS[color])
        axes.barh(
            y, offered, height=BAR, facecolor="none", edgecolor="black", linewidth=0.8,
            label=_once(axes, "offered"),
        )  # fmt: skip
        share = f"{served / offered:.1%}" if offered else ""
        share = "does not start" if isinstance(row["memory_failure"], str) else share
        axes.text(max(offered, served) + 0.015 * longest, y, share, va="center_baseline")
    axes.set_xlabel("tokens per second")
    _name_rows(axes, [""] * len(rows))
    _count_axis(axes, longest, room=0.24, ticks=4)


def _draw_adapters(axes: Axes, rows: Sequence[Row]) -> None:
    """How many adapters there are, and the largest rank that the GPU takes."""
    longest = max((row["adapters"] for row in rows), default=0) or 1
    for y, row in enumerate(rows):
        _bar(axes, y, row["adapters"], _verdict_color(row), "")
        label = f"{row['adapters']}, rank {row['max_lora_rank']}"
        axes.text(row["adapters"] + 0.015 * longest, y, label, va="center_baseline")
    axes.set_xlabel("adapters")
    _name_rows(axes, [""] * len(rows))
    _count_axis(axes, longest, room=0.6, ticks=4)


def _draw_latencies(panels: Sequence[Axes], groups: Sequence[tuple[Sequence[Row], Sequence[str]]]) -> None:
    """A dot for each mean TTFT, on one logarithmic scale; of none where nothing was served."""
    values = [_number(row["ttft_ms"]) for rows, _ in groups for row in rows]
    low, high = min(filter(None, values), default=100.0) / 2, max(values, default=0.0) * 2 or 1000.0
    steps = (1,) if high / low > 30 else (1, 3)  # what has room
    ticks = [step * 10.0**k for k in range(-3, 9) for step in steps if low <= step * 10.0**k <= high]
    for axes, (rows, colors) in zip(panels, groups, strict=True):
        for y, (row, color) in enumerate(zip(rows, colors, strict=True)):
            if ttft := _number(row["ttft_ms"]):
                axes.plot(ttft, y, "o", color=color, markeredgecolor="black", markeredgewidth=0.6)
                axes.annotate(
                    _duration(ttft), (ttft, y), (7, 0), textcoords="offset points", va="center_baseline"
                )
        _name_rows(axes, [""] * len(rows))
        axes.set_xscale("log")
        axes.set_xlim(low, high * (high / low) ** 0.45)  # the texts are at the right of their dots
        axes.set_xticks(ticks, [_duration(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        axes.grid(axis="x", color="#e6e6e6")
        axes.set_axisbelow(True)
    panels[-1].set_xlabel("mean TTFT, logarithmic")


def _verdict_color(row: Row) -> str:
    return REJECTED if row.get("accepted") is False else BEST


def _bar(axes: Axes, y: int, length: float, color: str, label: str) -> None:
    plain = color != REJECTED
    axes.barh(
        y, length, height=BAR, color=color, hatch=None if plain else "////",
        edgecolor="white" if plain else "#8c8c8c", linewidth=0.5, label=_once(axes, label),
    )  # fmt: skip


def _once(axes: Axes, label: str) -> str:
    """A label for the first of its kind, so that a legend of the axes has it once."""
    return label if label and label not in axes.get_legend_handles_labels()[1] else "_nolegend_"


def _name_rows(axes: Axes, names: Sequence[str]) -> None:
    """The first on top."""
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)


def _count_axis(axes: Axes, longest: float, *, room: float, ticks: int = 6) -> None:
    """From 0 to the longest bar, with ticks at whole numbers, and room for texts as a share of it."""
    from matplotlib.ticker import MaxNLocator

    locator = MaxNLocator(nbins=ticks, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)
    places = [place for place in locator.tick_values(0, longest) if place <= longest]
    axes.set_xlim(0, (1 + room) * longest)
    axes.set_xticks(places, [f"{place:,.0f}" for place in places])


def _finished(
    figure: Figure, panels: Sequence[Axes], results: Sequence[Result], path: str | Path | None, *, own: bool
) -> Figure:
    """The figure, written if it is to be, with a legend if it is ours; the axes of others can make theirs."""
    if own:
        drawn = {
            label: handle
            for axes in panels
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        if drawn:
            known = [*_METHOD_LABELS.values(), *_VERDICT_LABELS.values()]
            labels = sorted(drawn, key=lambda label: known.index(label) if label in known else len(known))
            handles = [drawn[label] for label in labels]
            figure.legend(handles, labels, loc="outside lower left", ncols=3, frameon=False)
        figure.supxlabel(_origin(results), x=0.99, ha="right", fontsize=8, color=GREY)
    if path is not None:
        write_figure(figure, path)
    return figure


def _origin(results: Sequence[Result]) -> str:
    """Versions and seeds."""
    versions = ", ".join(dict.fromkeys(result.version for result in results))
    seeds = list(dict.fromkeys(str(result.seed) for result in results))
    return f"lorapack {versions}, {'seeds' if len(seeds) > 1 else 'seed'} {', '.join(seeds)}"


def _duration(milliseconds: float) -> str:
    seconds = milliseconds / 1e3
    if seconds < 1:
        return f"{milliseconds:.0f} ms"
    return f"{seconds:.3g} s" if seconds < 1e3 else f"{seconds:,.0f} s"


def _number(value: float | None) -> float:
    """A cell's value, 0 where there is none: pandas writes None or not a number, by what else is there."""
    return 0.0 if value is None or value != value else value
