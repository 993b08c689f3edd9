"""What results share: a picture of each, and what a notebook shows of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from scenarios.text.tables import Part


class ResultView(ABC):
    """Base of results; a subclass says what is drawn, and what is shown."""

    @abstractmethod
    def _draw(self, ax: Any) -> Figure:
        """The picture: its main panel in the caller's axes, or all of it in a figure of its own."""

    @abstractmethod
    def _shown(self) -> Iterable[Part]:
        """What a notebook shows: a headline, then tables and lines."""

    def plot(self, path: str | Path | None = None, ax: Axes | Sequence[Axes] | None = None) -> Figure:
        """Draw the result; what is drawn is said where its class is described.

        Parameters
        ----------
        path
            Where to write the picture, if anywhere; its ending, .png, .svg or .pdf, is the format.
        ax
            Axes to draw the main panel in, in place of those of a new figure; where there are several main
            panels, axes for each.

        Raises
        ------
        PlotError
            If the ending is another one, or the picture cannot be drawn.
        OutputFileError
            If the file cannot be written.
        """
        from scenarios.plots import picture_format, write_figure

        if path is not None:
            picture_format(path)
        figure = self._draw(ax)
        if path is not None:
            write_figure(figure, path)
        return figure

    def _repr_html_(self) -> str:
        from scenarios.text.html import html_of

        return html_of(self._shown())
