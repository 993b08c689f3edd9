"""Tables that fit a terminal of 100 columns, as text."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table

from scenarios.text.display import visible, visible_lines

Part = RenderableType
"""What is rendered: a table, or lines of text."""

WIDTH = 100
"""Columns that every table fits in."""


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, title: str = "") -> Table:
    """A plain table: names of columns (a leading ``>`` aligns right) and rows of printable cells.

    Only the last column wraps, if it is aligned left.
    """
    result = Table(
        title=visible(title) or None,
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    for k, column in enumerate(columns):
        right = column.startswith(">")
        text = not right and k == len(columns) - 1  # only what comes last may be long
        result.add_column(column.lstrip(">"), justify="right" if right else "left", no_wrap=not text)
    for row in rows:
        result.add_row(*(cell_text(cell) for cell in row))
    return result


def figures(rows: Iterable[tuple[str, object]]) -> Table:
    """Figures under each other, each behind its label."""
    result = Table.grid(padding=(0, 1))
    for label, figure in rows:
        result.add_row(visible(label), cell_text(figure))
    return result


def cell_text(cell: object) -> str:
    """Text of a cell: a dash for what is absent, four significant digits for a float, nothing hidden."""
    if cell is None or (isinstance(cell, float) and cell != cell):
        return "–"
    if isinstance(cell, bool):
        return "yes" if cell else "no"
    if isinstance(cell, float):
        return f"{cell:,.0f}" if abs(cell) >= 1000 else f"{cell:.4g}"
    return visible(str(cell))


def render(*parts: Part) -> str:
    """Text of tables and lines, `WIDTH` columns wide, without colour; what is in them is only shown."""
    console = Console(
        file=io.StringIO(), width=WIDTH, color_system=None, highlight=False, markup=False, emoji=False
    )
    for part in parts:
        console.print(visible_lines(part) if isinstance(part, str) else part)
    assert isinstance(console.file, io.StringIO)
    lines = console.file.getvalue().splitlines()
    return "\n".join(line.rstrip() for line in lines)
