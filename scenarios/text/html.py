"""Tables and lines as HTML, for notebooks: what is in them is only shown."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from rich.text import Text

from scenarios.text.display import visible, visible_lines
from scenarios.text.tables import GLUE, Part, Table, render

_STYLES = {"green": "#1b7a3d", "yellow": "#9a6700", "red": "#c62828"}
"""Colours of marks that are readable on white and on black; each mark says the same in words."""

MOST_ROWS = 200
"""Rows of a table that a notebook shows; how many there are more is said."""


def html_of(parts: Iterable[Part]) -> str:
    """Parts of an answer as HTML: the first line is bold, tables are tables, all else is text as it is."""
    blocks: list[str] = []
    for part in parts:
        if isinstance(part, Table):
            blocks.append(_table(part))
        elif text := _text(part):
            blocks.append(f"<p><b>{text}</b></p>" if not blocks else f"<p>{text}</p>")
    return "\n".join(blocks)


def _text(part: Part) -> str:
    if isinstance(part, str):
        shown = escape(visible_lines(part).strip("\n"))
        return shown.replace("\n", "<br>")
    if isinstance(part, Text):
        return _marked(part)
    return f'<span style="white-space: pre-wrap">{escape(render(part))}</span>'


def _table(table: Table) -> str:
    title = f"<caption>{escape(visible(table.title))}</caption>" if table.title else ""
    align = ["right" if column.right else "left" for column in table.columns]
    heads = "".join(
        f'<th style="text-align: {side}">{escape(visible(column.heading))}</th>'
        for column, side in zip(table.columns, align, strict=True)
    )
    rows = [
        "".join(
            f'<td style="text-align: {side}">{_marked(cell)}</td>'
            for cell, side in zip(row, align, strict=True)
        )
        for row in table.rows[:MOST_ROWS]
    ]
    body = "".join(f"<tr>{cells}</tr>" for cells in rows)
    more = len(table.rows) - len(rows)
    said = f"<p>and {more:,} more</p>" if more > 0 else ""
    return f"<table>{title}<thead><tr>{heads}</tr></thead><tbody>{body}</tbody></table>{said}"


def _marked(text: Text) -> str:
    """Text in the colour of its mark."""
    plain = escape(text.plain.replace(GLUE, "\u00a0"))
    styles = [str(span.style) for span in text.spans] or [str(text.style)]
    colour = next((_STYLES[style] for style in styles if style in _STYLES), None)
    return plain if colour is None else f'<span style="color: {colour}">{plain}</span>'
