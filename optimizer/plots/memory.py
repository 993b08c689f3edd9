"""A picture of where a GPU's memory goes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from optimizer.plots.files import figure_of, write_figure
from twin.startup.text import PARTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    from twin import MemoryAnswer

COLOURS = ("#1b5e9b", "#e0912f", "#7fb069", "#b9b9b9", "#92bfe3", "#a06cb5", "#dcdcdc")
"""One for each part, in the order of `PARTS`."""

ROW_INCHES, WIDTH_INCHES = 0.34, 8.0
BAR = 0.68
"""Height of a bar, as a share of its row's."""


def draw_memory(
    answers: Sequence[MemoryAnswer], path: str | Path | None = None, ax: Axes | None = None
) -> Figure:
    """Memory of a GPU of each answer, stacked part by part; hatched where the engine does not start.

    A line marks what the GPU has, where its parts would take more.

    Parameters
    ----------
    answers
        One bar each, the first on top.
    path
        Where to, if anywhere; its ending names the format.
    ax
        Axes to draw in, in place of those of a new figure.

    Raises
    ------
    PlotError
        If the ending of the path names no format, or the picture cannot be drawn.
    OutputFileError
        If the file cannot be written.
    """
    axes = _new_axes(answers) if ax is None else ax
    for row, answer in enumerate(answers):
        _draw(axes, row, answer)
    names = [_name(answer) for answer in answers]
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_xlabel("GiB of one GPU")
    figure = figure_of(axes)
    if ax is None:
        figure.legend(handles=_key(), loc="outside lower left", ncols=2, frameon=False)
    if path is not None:
        write_figure(figure, path)
    return figure


def _new_axes(answers: Sequence[MemoryAnswer]) -> Axes:
    from matplotlib.figure import Figure

    inches = 1.7 + ROW_INCHES * len(answers)
    figure = Figure(figsize=(WIDTH_INCHES, inches), layout="constrained")
    figure.suptitle(_title(answers), x=0.01, ha="left", fontweight="bold", parse_math=False)
    return figure.subplots()


def _draw(axes: Axes, row: int, answer: MemoryAnswer) -> None:
    left = 0.0
    hatch = None if answer.starts else "////"
    for (name, _), colour in zip(PARTS, COLOURS, strict=True):
        gib = max(0.0, getattr(answer.plan, name))
        axes.barh(row, gib, BAR, left, color=colour, hatch=hatch, edgecolor="white", linewidth=0.5)
        left += gib
    if left > answer.plan.gpu_gib:
        axes.plot([answer.plan.gpu_gib] * 2, [row - 0.5, row + 0.5], color="black", linewidth=1.5)


def _key() -> list[Patch]:
    """What the colours stand for."""
    from matplotlib.patches import Patch

    return [Patch(color=colour, label=words) for (_, words), colour in zip(PARTS, COLOURS, strict=True)]


def _title(answers: Sequence[MemoryAnswer]) -> str:
    first = answers[0]
    slots = f"{first.max_loras} slots of rank {first.max_lora_rank}" if first.max_loras else "no LoRA"
    return f"{first.model}, vLLM {first.engine_version}, {slots}"


def _name(answer: MemoryAnswer) -> str:
    name = answer.device or f"{answer.plan.gpu_gib:g} GiB"
    return name if answer.starts else f"{name}: does not start"
