"""Figures and axes: made or given, titled, with rows, scales and a legend in one manner."""

from __future__ import annotations

import logging
import math
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar

from scenarios.plots.files import figure_of
from scenarios.text.display import visible

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BEST, ACCEPTED, REJECTED, GREY = "#1b5e9b", "#92bfe3", "#dddddd", "#777777"
ALARM = "#d55e00"
"""What is beyond a limit where it is no bar; red and green are never the only difference."""

PALETTE = ("#0072b2", "#e69f00", "#009e73", "#999999", "#56b4e9", "#cc79a7", "#dddddd", "#f0e442")
"""Colours that people who see few colours can tell apart (Okabe and Ito, Color Universal Design, 2008)."""

ROW_INCHES, WIDTH_INCHES = 0.27, 8.0

BAR = 0.72
"""Height of a bar, as a share of its row's."""

LEGEND_INCHES = 0.22
"""Height of a line of a legend."""

COLUMNS = 78
"""Characters for which the width has room beside the edges; of wide ones."""

LONGEST_NAME, LONGEST_WORDS = 40, 32
"""Most characters of the name of a row, and of the words at its end."""

TITLE_COLUMNS = 74
"""Characters of a line of a title, for which the width has room."""


@dataclass(frozen=True)
class Canvas:
    """Where a picture is drawn.

    Parameters
    ----------
    figure
        The figure.
    panels
        Its axes, from left to right; only the caller's own where these were given.
    own
        Whether the figure was made for the picture, which then has a legend of its own.
    """

    figure: Figure
    panels: tuple[Axes, ...]
    own: bool

    def finish(self, order: Sequence[str] = (), *, columns: int = 3, foot: str = "") -> Figure:
        """The figure; with one legend of all panels if it is ours: axes of others can make theirs.

        Parameters
        ----------
        order
            Labels in the order in which a legend has them; others follow.
        columns
            Most columns of the legend.
        foot
            What stands in small letters at the bottom.
        """
        if not self.own:
            return self.figure
        drawn = {
            label: handle
            for axes in self.panels
            for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)
        }
        if drawn:
            labels = sorted(drawn, key=lambda label: order.index(label) if label in order else len(order))
            handles = [drawn[label] for label in labels]
            columns = min(columns, 2) if foot else columns  # which stands beside it
            legend = self.figure.legend(
                handles, labels, loc="outside lower left", ncols=columns, frameon=False
            )
            for text in legend.get_texts():
                text.set_parse_math(False)
            further = math.ceil(len(labels) / columns) - 1
            self.figure.set_figheight(self.figure.get_figheight() + LEGEND_INCHES * further)
        if foot:
            self.figure.supxlabel(foot, x=0.99, ha="right", fontsize=8, color=GREY, parse_math=False)
        return self.figure


def canvas_of(
    ax: Axes | None, title: str, inches: float, widths: Sequence[int] = (1,), *, joined: bool = True
) -> Canvas:
    """A figure of panels beside each other with a title, or the axes of the caller.

    Parameters
    ----------
    ax
        Axes of the caller, which get the title and the first panel alone; None: a new figure.
    title
        Shown as it is: nothing in it is mathematics, and nothing is hidden.
    inches
        Height of the panels.
    widths
        Of the panels, relative to each other.
    joined
        Whether the panels have the same rows.

    Raises
    ------
    PlotError
        If the axes are in no figure.
    """
    if ax is not None:
        ax.set_title(folded(title, 60), loc="left", parse_math=False)
        return Canvas(figure_of(ax), (ax,), own=False)
    with _without_remarks():
        from matplotlib.figure import Figure

    text = folded(title)
    height = inches + 1.0 + 0.2 * text.count("\n")
    figure = Figure(figsize=(WIDTH_INCHES, height), layout="constrained")
    figure.suptitle(text, x=0.01, ha="left", fontweight="bold", fontsize=10, parse_math=False)
    grid = figure.subplots(1, len(widths), squeeze=False, sharey=joined, width_ratios=list(widths))
    return Canvas(figure, tuple(grid[0]), own=True)


@contextmanager
def _without_remarks() -> Iterator[None]:
    """Within, matplotlib may find that it cannot keep its list of fonts anywhere, but says nothing of it."""
    log = logging.getLogger("matplotlib")
    before = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(before)


def folded(title: str, columns: int = TITLE_COLUMNS) -> str:
    """A title on as many lines as it takes; what a reader would not see is escaped."""
    return textwrap.fill(visible(title), columns, max_lines=4, placeholder=" ...")


def name_rows(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows, the first on top."""
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.set_ylim(max(len(names), 1) - 0.4, -0.6)
    axes.tick_params(axis="y", length=0)
    axes.spines[["top", "right"]].set_visible(False)


def count_axis(axes: Axes, longest: float, *, room: float, ticks: int = 6) -> None:
    """From 0 to the longest bar, with ticks at whole numbers, and room for texts as a share of it."""
    from matplotlib.ticker import MaxNLocator

    locator = MaxNLocator(nbins=ticks, integer=True, steps=[1, 2, 5, 10], min_n_ticks=1)
    places = [place for place in locator.tick_values(0, longest) if place <= longest]
    axes.set_xlim(0, (1 + room) * longest)
    axes.set_xticks(places, [f"{place:,.0f}" for place in places])


def short(text: str, most: int) -> str:
    """Text on one line as a picture has room for it, cut in the middle."""
    shown = visible(text)
    half = most // 2 - 2
    return shown if len(shown) <= most else f"{shown[:half]} ... {shown[-half:]}"


R = TypeVar("R", bound="Row")


class Row(Protocol):
    """What rows of all pictures have: a name at the left, and words at the end."""

    @property
    def name(self) -> str: ...
    @property
    def words(self) -> str: ...
    def _replace(self, *, name: str = ..., words: str = ...) -> Any: ...


def fitting(rows: Sequence[R]) -> tuple[list[R], float]:
    """The rows with texts as long as there is room for, and the share of the width that the words need."""
    shown: list[R] = [
        row._replace(name=short(row.name, LONGEST_NAME), words=short(row.words, LONGEST_WORDS))
        for row in rows
    ]
    return shown, room_for([row.words for row in shown], [row.name for row in shown])


def room_for(words: Iterable[str], names: Iterable[str]) -> float:
    """Share of the axes' width that words at the ends of rows with such names need."""
    beside = COLUMNS - max(map(len, names), default=0)
    return min(0.75, (2 + max(map(len, words), default=0)) / beside)


def once(axes: Axes, label: str) -> str:
    """A label for the first of its kind, so that a legend of the axes has it once."""
    return label if label and label not in axes.get_legend_handles_labels()[1] else "_nolegend_"


def gridded(axes: Axes, axis: str = "x") -> None:
    """Faint lines behind what is drawn."""
    axes.grid(axis=axis, color="#e6e6e6")  # type: ignore[arg-type]
    axes.set_axisbelow(True)


_TICKS = ((0.8, (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)), (1.6, (1.0, 2.0, 5.0)), (3.0, (1.0, 3.0)))
"""Up to so many powers of ten, the ticks of each; beyond, one."""


def log_axis(
    axes: Axes,
    axis: Literal["x", "y"],
    low: float,
    high: float,
    *,
    most: int = 7,
) -> None:
    """A logarithmic scale between two values above 0, whose ticks are plain text.

    How many ticks a power of ten has depends on how many powers there are, and how many ticks have room.
    """
    powers = math.log10(high / low)
    steps = next((steps for most, steps in _TICKS if powers < most), (1.0,))
    stride = math.ceil(powers / 6)
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [step * 10.0**k for k in range(first, last + 1, stride) for step in steps]
    ticks = [tick for tick in ticks if low <= tick <= high] or [low]
    ticks = ticks[:: math.ceil(len(ticks) / most)]
    set_scale, set_limits = getattr(axes, f"set_{axis}scale"), getattr(axes, f"set_{axis}lim")
    set_ticks = getattr(axes, f"set_{axis}ticks")
    set_scale("log")
    set_limits(low, high)
    set_ticks(ticks, [compact(tick) for tick in ticks])
    set_ticks([], minor=True)


def compact(value: float) -> str:
    """A number in few characters: ``0.5``, ``300``, ``20k``, ``1M``."""
    for size, letter in ((1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:,g}{letter}"
    return f"{value:g}"


def duration(milliseconds: float) -> str:
    """A time in its usual unit: ``120 ms``, ``20.5 s``."""
    seconds = milliseconds / 1e3
    if seconds < 1:
        return f"{milliseconds:.0f} ms"
    return f"{seconds:.3g} s" if seconds < 1e3 else f"{seconds:,.0f} s"
