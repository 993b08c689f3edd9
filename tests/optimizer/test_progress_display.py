"""Progress of commands: a bar of the step at hand, or lines where long steps begin and end."""

from __future__ import annotations

import io
import time

import pytest
from rich.console import Console

from optimizer.cli.progress_display import progress_shown


def stderr_of(monkeypatch: pytest.MonkeyPatch) -> io.StringIO:
    """Standard error, from here on; not as a fixture, as pytest sets its own before the test begins."""
    stream = io.StringIO()
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr("optimizer.cli.progress_display.LOOK_S", 0.01)
    return stream


def until(stream: io.StringIO, text: str) -> None:
    """Wait for a text."""
    end = time.monotonic() + 30
    while text not in stream.getvalue():
        assert time.monotonic() < end, stream.getvalue()
        time.sleep(0.01)


def test_without_a_terminal_a_long_step_is_told_when_it_begins_and_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    screen = stderr_of(monkeypatch)
    monkeypatch.setattr("optimizer.cli.progress_display.LONG_S", 0.0)
    with progress_shown() as progress:
        progress("learning", 0, 2)
        until(screen, "lorapack: learning ...\n")
        progress("learning", 1, 2)
        progress("rounds", 1, 0)  # nobody knows how many
        progress("learning", 2, 2)
    assert screen.getvalue() == "lorapack: learning ...\nlorapack: learning: done in 0 s\n"


def test_without_a_terminal_short_steps_are_not_told(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = stderr_of(monkeypatch)
    with progress_shown() as progress:
        progress("learning", 0, 1)
        time.sleep(0.05)
        progress("learning", 1, 1)
    assert screen.getvalue() == ""


def test_quiet_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = stderr_of(monkeypatch)
    monkeypatch.setattr("optimizer.cli.progress_display.LONG_S", 0.0)
    with progress_shown(enabled=False) as progress:
        progress("learning", 0, 1)
        time.sleep(0.05)
        progress("learning", 1, 1)
    assert screen.getvalue() == ""


def test_a_terminal_shows_the_step_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = stderr_of(monkeypatch)
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr("optimizer.cli.progress_display.PATIENCE_S", -1.0)
    console = Console(file=screen, force_terminal=True, width=80)
    monkeypatch.setattr("optimizer.cli.progress_display.Console", lambda **_: console)
    with progress_shown() as progress:
        progress("learning", 1, 2)
        until(screen, "1/2")
        progress("rounds", 3, 0)
        until(screen, "rounds")
        before = len(screen.getvalue())
        progress("rounds", 4, 0)
        time.sleep(0.3)
    assert "learning" not in screen.getvalue()[before:]  # it is over


HOSTILE = "[red]a[/] :bug: \x1b[2J\n\u202e"
SHOWN = r"[red]a[/] :bug: \x1b[2J\n\u202e"


def test_a_label_of_progress_is_only_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = stderr_of(monkeypatch)
    monkeypatch.setattr(screen, "isatty", lambda: True)
    monkeypatch.setattr("optimizer.cli.progress_display.PATIENCE_S", -1.0)
    console = Console(file=screen, force_terminal=True, width=120)
    monkeypatch.setattr("optimizer.cli.progress_display.Console", lambda **_: console)
    with progress_shown() as progress:
        progress(f"[/] {HOSTILE}", 1, 2)
    assert f"[/] {SHOWN}" in screen.getvalue()
