"""Tables and progress bars show what they are given, and obey none of it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from optimizer.cli.progress_display import progress_shown
from optimizer.tables import render, table
from scenarios.display import visible_lines

HOSTILE = "[red]a[/] :bug: \x1b[2J\n\u202e"
SHOWN = r"[red]a[/] :bug: \x1b[2J\n\u202e"


def test_titles_cells_and_lines_are_only_shown() -> None:
    text = render("line [red] :bug: \x1b[2J", table(("column", "last"), [(HOSTILE, HOSTILE)], title=HOSTILE))
    lines = text.splitlines()
    assert lines[0] == r"line [red] :bug: \x1b[2J"
    assert lines[1].strip() == SHOWN
    assert text.count(SHOWN) == 3
    assert visible_lines(text) == text


def test_a_label_of_progress_is_only_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr("optimizer.cli.progress_display.PATIENCE_S", -1.0)
    monkeypatch.setattr(
        "optimizer.cli.progress_display.Console",
        lambda **_: Console(file=screen, force_terminal=True, width=120),
    )
    with progress_shown() as progress:
        progress(f"[/] {HOSTILE}", 1, 2)
    assert f"[/] {SHOWN}" in screen.getvalue()
