"""Pictures of verdicts: load and latency of every GPU, and how far one is from each of its limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from scenarios.plots import Bar, canvas_of, draw_bars
from scenarios.plots.figures import (
    BAR,
    BEST,
    REJECTED,
    ROW_INCHES,
    count_axis,
    duration,
    gridded,
    name_rows,
    once,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from twin.verdict import GPUVerdict, ValidationReport

VERDICT_LABELS = {BEST: "served, accepted by the twin", REJECTED: "served, rejected by the twin"}

Row = Mapping[Any, Any]
"""What a table has of a GPU or a plan."""


def draw_verdicts(report: ValidationReport, ax: Axes | None = None) -> Figure:
    """Load and mean TTFT of every GPU; hatched where the twin rejected it.

    Parameters
    ----------
    report
        The verdicts.
    ax
        Axes to draw the load in, in place of those of a new figure.
    """
    rows = [{"gpu": verdict.gpu, **verdict.figures} for verdict in report.gpus]
    inches = ROW_INCHES * max(1, len(rows))
    canvas = canvas_of(
        ax, f"The twin's verdict ({report.acceptance}): {report.headline}", inches, (3, 2), joined=False
    )
    draw_load(canvas.panels[0], rows)
    name_rows(canvas.panels[0], [f"GPU {row['gpu']}" for row in rows])
    if canvas.own:
        draw_latencies(canvas.panels[1:], [(rows, [verdict_color(row) for row in rows])])
    return canvas.finish(list(VERDICT_LABELS.values()))


def draw_margins(verdict: GPUVerdict, ax: Axes | None = None) -> Figure:
    """How far one GPU is from each of its limits, as a share of it; hatched where it is beyond."""
    bars = [_margin_bar(f"{criterion}", margin) for criterion, margin in verdict.margins.items()]
    bars += [
        _margin_bar(f"{one.code.metric.upper()} {one.code.statistic} of {one.adapter}", one.margin)
        for one in verdict.adapter_latencies
    ]
    said = f"{'accepted' if verdict.accepted else 'REJECTED'} ({verdict.acceptance})"
    said += "" if verdict.accepted else f": {'; '.join(verdict.reasons)}"
    return draw_bars(
        ax, f"GPU {verdict.gpu} {said}", bars, "distance to the limit, in percent of it",
        line=(0.0, "the limit"), good="met", bad="missed",
    )  # fmt: skip


def _margin_bar(name: str, margin: float | None) -> Bar:
    words = name.replace("_", " ")
    if margin is None:
        return Bar(words, None, "not measured")
    return Bar(words, max(-200.0, 100 * margin), f"{100 * margin:.0f} %", margin >= 0)


def draw_load(axes: Axes, rows: Sequence[Row]) -> None:
    """Offered tokens per second in outline, served ones filled, and their share."""
    loads = [(known(row["offered_tok_per_s"]), known(row["served_tok_per_s"])) for row in rows]
    longest = max((max(load) for load in loads), default=0.0) or 1.0
    for y, (row, (offered, served)) in enumerate(zip(rows, loads, strict=True)):
        color = verdict_color(row)
        draw_bar(axes, y, served, color, VERDICT_LABELS[color])
        axes.barh(
            y, offered, height=BAR, facecolor="none", edgecolor="black", linewidth=0.8,
            label=once(axes, "offered"),
        )  # fmt: skip
        share = f"{served / offered:.1%}" if offered else ""
        share = "does not start" if isinstance(row["memory_failure"], str) else share
        axes.text(max(offered, served) + 0.015 * longest, y, share, va="center_baseline")
    axes.set_xlabel("tokens per second")
    name_rows(axes, [""] * len(rows))
    count_axis(axes, longest, room=0.24, ticks=4)


def draw_latencies(panels: Sequence[Axes], groups: Sequence[tuple[Sequence[Row], Sequence[str]]]) -> None:
    """A dot for each mean TTFT, on one logarithmic scale; of none where nothing was served."""
    values = [known(row["ttft_ms"]) for rows, _ in groups for row in rows]
    low, high = min(filter(None, values), default=100.0) / 2, max(values, default=0.0) * 2 or 1000.0
    steps = (1,) if high / low > 30 else (1, 3)  # what has room
    ticks = [step * 10.0**k for k in range(-3, 9) for step in steps if low <= step * 10.0**k <= high]
    for axes, (rows, colors) in zip(panels, groups, strict=True):
        for y, (row, color) in enumerate(zip(rows, colors, strict=True)):
            if ttft := known(row["ttft_ms"]):
                axes.plot(ttft, y, "o", color=color, markeredgecolor="black", markeredgewidth=0.6)
                axes.annotate(
                    duration(ttft), (ttft, y), (7, 0), textcoords="offset points", va="center_baseline"
                )
        name_rows(axes, [""] * len(rows))
        axes.set_xscale("log")
        axes.set_xlim(low, high * (high / low) ** 0.45)  # the texts are at the right of their dots
        axes.set_xticks(ticks, [duration(tick) for tick in ticks])
        axes.set_xticks([], minor=True)
        gridded(axes)
    panels[-1].set_xlabel("mean TTFT, logarithmic")


def draw_bar(axes: Axes, y: int, length: float, color: str, label: str) -> None:
    """One bar; hatched where it is of what was rejected."""
    plain = color != REJECTED
    axes.barh(
        y, length, height=BAR, color=color, hatch=None if plain else "////",
        edgecolor="white" if plain else "#8c8c8c", linewidth=0.5, label=once(axes, label),
    )  # fmt: skip


def verdict_color(row: Row) -> str:
    """The colour of what was accepted, or not judged, and of what was rejected."""
    return REJECTED if row.get("accepted") is False else BEST


def known(value: float | None) -> float:
    """A cell's value, 0 where there is none: pandas writes None or not a number, by what else is there."""
    return 0.0 if value is None or value != value else value
