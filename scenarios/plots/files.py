"""Files of pictures: their formats, and how they are written."""

from __future__ import annotations

import io
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from scenarios import LorapackError, write_whole

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

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


def figure_of(axes: Axes) -> Figure:
    """The figure that axes are in.

    Raises
    ------
    PlotError
        If they are in none.
    """
    from matplotlib.figure import Figure

    figure = axes.get_figure(root=True)
    if not isinstance(figure, Figure):
        raise PlotError("the axes are in no figure; make them with matplotlib.pyplot.subplots()")
    return figure


def write_figure(figure: Figure, path: str | Path) -> None:
    """Write a figure in the format of the file's ending.

    Raises
    ------
    PlotError
        If the ending names no format, or the picture cannot be drawn.
    OutputFileError
        If the file cannot be written.
    """
    kind, picture = picture_format(path), io.BytesIO()
    try:
        with warnings.catch_warnings():
            # A box stands for a character that the font lacks, and a very wide name leaves the margins.
            warnings.simplefilter("ignore", UserWarning)
            figure.savefig(picture, dpi=150, format=kind)
    except (OSError, ValueError) as error:
        raise PlotError(f"{path} cannot be drawn: {error}; draw fewer rows at once") from error
    write_whole(Path(path), picture.getvalue())
