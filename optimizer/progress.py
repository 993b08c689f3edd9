"""Progress on stderr, shown only for work that lasts longer than a second."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars

from scenarios.display import visible
from scenarios.stopping.interrupts import request

PATIENCE_S = 1.0
"""Seconds of work before anything is shown."""


class Progress(Protocol):
    """Called with what is being done, how much of it is done, and how much there is (0: unknown)."""

    def __call__(self, label: str, done: int, total: int) -> None:
        """Tell one step."""


def silent(label: str, done: int, total: int) -> None:
    """Tell nothing."""


def interruptible(progress: Progress) -> Progress:
    """A callback whose KeyboardInterrupt asks for the end, as Ctrl-C does, and breaks nothing off."""

    def told(label: str, done: int, total: int) -> None:
        try:
            progress(label, done, total)
        except KeyboardInterrupt:
            request()

    return told


@contextmanager
def progress_bar(enabled: bool = True) -> Iterator[Progress]:
    """Progress that draws one bar per label on stderr, gone when the work is done.

    Nothing is drawn when stderr is no terminal.
    """
    if not enabled or not sys.stderr.isatty():
        yield silent
        return
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
    )
    bar = Bars(*columns, TimeElapsedColumn(), console=Console(stderr=True), transient=True)
    tasks: dict[str, int] = {}
    start = time.monotonic()
    started = False

    def progress(label: str, done: int, total: int) -> None:
        nonlocal started
        if label not in tasks:
            tasks[label] = bar.add_task(visible(label), total=total or None)
        bar.update(tasks[label], completed=done, total=total or None)  # type: ignore[arg-type]
        if not started and time.monotonic() - start > PATIENCE_S:
            started = True
            bar.start()

    try:
        yield progress
    finally:
        if started:
            bar.stop()
