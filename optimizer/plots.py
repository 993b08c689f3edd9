"""Pictures of results; the only module of the package that draws."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from scenarios import LorapackError, write_whole
from scenarios.text.formatting import shortened

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ACCEPTED, REJECTED = "#2f6fa7", "#d9d9d9"
ROW_INCHES = 0.27

FORMATS = ("png", "svg", "pdf")
"""Formats of pictures, as the endings of their files name them."""


class PlotError(LorapackError, OSError):
    """A picture cannot be drawn."""


def picture_format(path: str | Path) -> str:
    """Format that a file's ending names, in small or capital letters.

    Raises
    ------
    PlotError
        If it names none of `FORMATS`.
    """
    ending = Path(path).suffix.removeprefix(".").lower()
    if ending not in FORMATS:
        raise PlotError(f"{path} cannot be drawn: its ending names no format; use a .png, .svg or .pdf file")
    return ending


def draw_comparison(frame: pd.DataFrame, path: Path) -> None:
    """A bar of GPUs for each scenario and method; a tick marks each bound, hatching what the twin rejected.

    Parameters
    ----------
    frame
        As `Comparison.to_frame` gives it.
    path
        Where to; its ending names the format.

    Raises
    ------
    PlotError
        If its ending names no format, or the picture cannot be drawn.
    OutputFileError
        If the file cannot be written.
    """
    kind = picture_format(path)
    picture = io.BytesIO()
    try:
        with warnings.catch_warnings():
            # A box stands for a character that the font lacks, and a very wide name leaves the margins.
            warnings.simplefilter("ignore", UserWarning)
            _figure(frame).savefig(picture, dpi=150, format=kind)
    except (OSError, ValueError) as error:
        raise PlotError(f"{path} cannot be drawn: {error}; draw fewer scenarios at once") from error
    write_whole(path, picture.getvalue())


def _figure(frame: pd.DataFrame) -> Figure:
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(frame["scenario"]))
    groups = [frame[frame["scenario"] == name] for name in names]
    heights = [len(group) for group in groups]
    figure = Figure(figsize=(8.0, 1.2 + sum(heights) * ROW_INCHES + 0.55 * len(groups)), layout="constrained")
    panels = figure.subplots(len(groups), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axes, name, group in zip(panels, names, groups, strict=True):
        _draw_group(axes, name, group.to_dict("records"))
    panels[-1].set_xlabel("GPUs")
    figure.legend(handles=_legend(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _draw_group(axes: Axes, name: str, rows: list[dict[Any, Any]]) -> None:
    """The bars of one scenario, the first method on top."""
    from matplotlib.ticker import MaxNLocator

    most = max((row["gpus"] for row in rows if _is_there(row["gpus"])), default=1)
    for y, row in enumerate(rows):
        gpus = row["gpus"]
        if not _is_there(gpus):
            axes.text(0, y, f" {row['status'].replace('_', ' ')}", va="center", color="#777777")
            continue
        good = row["accepted"] is True
        axes.barh(
            y, gpus, height=0.72, color=ACCEPTED if good else REJECTED, hatch=None if good else "////",
            edgecolor="white" if good else "#8c8c8c", linewidth=0.5,
        )  # fmt: skip
        axes.text(gpus + 0.01 * most, y, f"{gpus:.0f}", va="center")
        if _is_there(row["bound"]):
            axes.vlines(row["bound"], y - 0.42, y + 0.42, colors="black", linewidth=2)
    axes.set_yticks(range(len(rows)), [shortened(row["method"]) for row in rows], parse_math=False)
    axes.set_ylim(len(rows) - 0.4, -0.6)
    axes.set_xlim(0, 1.08 * most)
    axes.set_title(shortened(name), loc="left", fontsize=11, fontweight="bold", parse_math=False)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))


def _is_there(value: float | None) -> bool:
    """Whether a cell holds a value: pandas writes None or not a number, by what else is in the column."""
    return value is not None and value == value


def _legend() -> list[Any]:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    return [
        Patch(color=ACCEPTED, label="every GPU accepted by the twin"),
        Patch(facecolor=REJECTED, edgecolor="#8c8c8c", hatch="////", label="rejected"),
        Line2D([], [], color="black", linewidth=2, label="proven bound"),
    ]
