"""Tables and lines that fit the terminal, as text, in colour where that is asked for."""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from rich import box
from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType
from rich.table import Table as Grid
from rich.text import Text

from scenarios.text.display import visible, visible_lines

Part = RenderableType
"""What is rendered: a table, a listing, or lines of text, marked or not."""

WIDTH = 100
"""Columns where there is no terminal and the environment has no COLUMNS."""

LEAST_TEXT = 24
"""Characters to which the last column, where it is text, may shrink before others are left out."""

EDGE = 2
"""Characters beside each column of a table."""

LEAST_RANGE = 3
"""Names in a row from which on the first and the last stand for all."""

GLUE = "\ue000"
"""What stands for a space at which no line breaks, until all is rendered; `visible` lets no text have it."""

_UNIT = re.compile(r"(?<=[0-9]) (?=(?:%|[num]?s|min|h|[KMG]i?B|tok/s|tokens/s|requests/s|GPUs?)(?![A-Za-z]))")
"""The space between a number and its unit."""

Mark = Literal["good", "close", "bad"]
"""What a reader should see at once: accepted, close to a limit, or rejected."""

_COLOURS: dict[Mark, str] = {"good": "green", "close": "yellow", "bad": "red"}


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Parameters
    ----------
    name
        Its heading; a leading ``>`` aligns it right.
    rank
        0 for what must be seen. Where the width does not suffice, the columns of the largest rank are left
        out first.
    """

    name: str
    rank: int = 0

    @property
    def heading(self) -> str:
        """The name without its sign."""
        return self.name.removeprefix(">")

    @property
    def right(self) -> bool:
        """Whether it is aligned right."""
        return self.name.startswith(">")


@dataclass(frozen=True)
class Table:
    """A table that leaves columns out where it is too wide, and becomes one block per row below that.

    Parameters
    ----------
    columns, rows
        The columns, and the text of each cell.
    title
        What stands above; empty: nothing.
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Text, ...], ...]
    title: str = ""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Render in the form that fits; no row is ever wrapped, save text in its last cell."""
        kept = list(range(len(self.columns)))
        while sum(self._least_width(k) + EDGE for k in kept) > options.max_width:
            rank = max(self.columns[k].rank for k in kept)
            if rank == 0:
                yield from self._blocks()
                return
            kept.remove(max(k for k in kept if self.columns[k].rank == rank))
        yield self._grid(kept)
        if len(kept) < len(self.columns):
            hidden = (column.heading for k, column in enumerate(self.columns) if k not in kept)
            yield Text(f"(too narrow for: {', '.join(hidden)})")

    def _least_width(self, k: int) -> int:
        """Characters that a column needs."""
        column = self.columns[k]
        longest = max((cell_len(row[k].plain) for row in self.rows), default=0)
        if self._wraps(k):
            longest = min(longest, LEAST_TEXT)
        return max(cell_len(column.heading), longest)

    def _wraps(self, k: int) -> bool:
        """Whether a column may hold text of any length: the last one, if it is aligned left."""
        return k == len(self.columns) - 1 and not self.columns[k].right

    def _grid(self, kept: Sequence[int]) -> Grid:
        grid = Grid(
            title=Text(visible(self.title), style="bold") if self.title else None,
            title_justify="left",
            box=box.SIMPLE_HEAD,
            pad_edge=False,
            collapse_padding=True,
        )
        for k in kept:
            grid.add_column(
                Text(visible(self.columns[k].heading)),
                justify="right" if self.columns[k].right else "left",
                no_wrap=not self._wraps(k),
                min_width=self._least_width(k),
            )
        for row in self.rows:
            grid.add_row(*(row[k] for k in kept))
        return grid

    def _blocks(self) -> Iterator[RenderableType]:
        """Every row as a block of its own, one line per column."""
        if self.title:
            yield Text(visible(self.title), style="bold")
        for k, row in enumerate(self.rows):
            if k or self.title:
                yield ""
            yield figures(zip((column.heading for column in self.columns), row, strict=True))


@dataclass(frozen=True)
class Listing:
    """A label and the names behind it on one line; those that do not fit are counted.

    Parameters
    ----------
    label
        What stands before the names.
    names
        The names, which are sorted; ``a-1 ... a-9`` stands for nine of them.
    """

    label: str
    names: Sequence[str]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[RenderableType]:
        """Render as much as the width has room for."""
        yield Text(self._fitting(options.max_width), no_wrap=True, overflow="ellipsis")

    def _fitting(self, width: int) -> str:
        runs = runs_of(self.names)
        line = best = visible(self.label)
        left = len(self.names)
        for k, run in enumerate(runs):
            line += (", " if k else ": ") + visible(run.text)
            left -= run.names
            text = f"{line} and {left:,} more" if left else line
            if cell_len(text) <= width:
                best = text
            elif cell_len(line) > width:
                break
        return best


class NameRun(NamedTuple):
    """Names that differ in a running number only, and how many they are."""

    text: str
    names: int


def runs_of(names: Iterable[str]) -> list[NameRun]:
    """Sorted names, those numbered in a row as ``first ... last``."""
    runs: list[list[_Numbered]] = []
    for name in sorted(map(_numbered, names)):
        if runs and name.follows(runs[-1][-1]):
            runs[-1].append(name)
        else:
            runs.append([name])
    joined = []
    for run in runs:
        if len(run) < LEAST_RANGE:
            joined += [NameRun(one.name, 1) for one in run]
        else:
            joined.append(NameRun(f"{run[0].name} ... {run[-1].name}", len(run)))
    return joined


class _Numbered(NamedTuple):
    """A name by what stands before the number at its end."""

    before: str
    number: int
    name: str

    def follows(self, other: _Numbered) -> bool:
        return self.before == other.before and self.number == other.number + 1 and self.number > 0


def _numbered(name: str) -> _Numbered:
    before, digits = re.fullmatch(r"(.*?)([0-9]{0,18})", name, flags=re.DOTALL).groups()  # type: ignore[union-attr]
    return _Numbered(before, int(digits) if digits else -1, name)


def table(columns: Iterable[str | Column], rows: Iterable[Sequence[object]], *, title: str = "") -> Table:
    """Build a table from names of columns (a leading ``>`` aligns right) and rows of printable cells.

    A column given by its name has rank 0. Only the last column wraps, if it is aligned left.
    """
    return Table(
        tuple(Column(column) if isinstance(column, str) else column for column in columns),
        tuple(tuple(_cell(cell) for cell in row) for row in rows),
        title,
    )


def figures(rows: Iterable[tuple[str, object]]) -> Grid:
    """Figures under each other, each behind its label."""
    result = Grid.grid(padding=(0, 1))
    for label, figure in rows:
        result.add_row(Text(visible(label)), _cell(figure))
    return result


def item(text: str) -> Grid:
    """One item of a list, whose further lines stand under its first."""
    return figures([("-", text)])


def marked(cell: object, mark: Mark | None) -> Text:
    """Text of a cell or line, in the colour of its mark; it must mean the same without."""
    return Text.assemble((cell_text(cell), _COLOURS[mark] if mark else ""))  # the padding stays plain


def _cell(cell: object) -> Text:
    return _glued(cell if isinstance(cell, Text) else Text(cell_text(cell)))


def _glued(text: Text) -> Text:
    """The text, in which no line breaks between a number and its unit."""
    glued = text.copy()
    glued.plain = _UNIT.sub(GLUE, text.plain)
    return glued


def cell_text(cell: object) -> str:
    """Text of a cell: a dash for what is absent, four significant digits for a float, nothing hidden."""
    if cell is None or (isinstance(cell, float) and cell != cell):
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.4g}"
    return visible(str(cell))


def render(*parts: Part, colour: bool = False) -> str:
    """Text of tables and lines, as wide as the terminal; what is in them is only shown.

    Where standard output is no terminal, COLUMNS of the environment counts, or else `WIDTH`.
    """
    console = Console(
        file=io.StringIO(),
        width=shutil.get_terminal_size((WIDTH, 0)).columns,
        force_terminal=colour,
        force_jupyter=False,  # a notebook would show each part by itself
        color_system="standard" if colour else None,
        highlight=False,
        markup=False,
        emoji=False,
    )
    for part in parts:
        text = Text(visible_lines(part)) if isinstance(part, str) else part
        console.print(_glued(text) if isinstance(text, Text) else text)
    assert isinstance(console.file, io.StringIO)
    rendered = console.file.getvalue().replace(GLUE, " ")
    lines = [line.rstrip() for line in rendered.splitlines()]
    kept = [line for k, line in enumerate(lines) if line or not k or lines[k - 1]]  # one empty line is enough
    return "\n".join(kept).removesuffix("\n")
