"""Progress bars show what they are given, and obey none of it."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from optimizer.progress import progress_bar

HOSTILE = "[red]a[/] :bug: \x1b[2J\n\u202e"
SHOWN = r"[red]a[/] :bug: \x1b[2J\n\u202e"


def test_a_label_of_progress_is_only_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr("optimizer.progress.PATIENCE_S", -1.0)
    monkeypatch.setattr(
        "optimizer.progress.Console", lambda **_: Console(file=screen, force_terminal=True, width=120)
    )
    with progress_bar() as progress:
        progress(f"[/] {HOSTILE}", 1, 2)
    assert f"[/] {SHOWN}" in screen.getvalue()
