"""Tables show what they are given, and obey none of it."""

from __future__ import annotations

from scenarios.text.display import visible_lines
from scenarios.text.tables import figures, render, table

HOSTILE = "[red]a[/] :bug: \x1b[2J\n\u202e"
SHOWN = r"[red]a[/] :bug: \x1b[2J\n\u202e"


def test_titles_cells_and_lines_are_only_shown() -> None:
    text = render("line [red] :bug: \x1b[2J", table(("column", "last"), [(HOSTILE, HOSTILE)], title=HOSTILE))
    lines = text.splitlines()
    assert lines[0] == r"line [red] :bug: \x1b[2J"
    assert lines[1].strip() == SHOWN
    assert text.count(SHOWN) == 3
    assert visible_lines(text) == text


def test_figures_stand_behind_their_labels() -> None:
    text = render(figures([("adapters", 1234), (HOSTILE, 0.5), ("none", None)]))
    assert text.splitlines() == [
        f"{'adapters':<{len(SHOWN)}} 1234",
        f"{SHOWN} 0.5",
        f"{'none':<{len(SHOWN)}} –",
    ]
