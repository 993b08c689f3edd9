"""Progress on stderr: the step at hand on a terminal, else a line where a long step begins and ends."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Bars
from rich.text import Text

from optimizer.cli.streams import note
from scenarios import visible
from scenarios.stopping.progress import Progress, silent

PATIENCE_S = 1.0
"""Seconds of work before anything is shown on a terminal."""

LONG_S = 3.0
"""Seconds from which on a step is told where there is no terminal."""

LOOK_S = 0.5
"""Seconds between two looks at whether a step has become long."""


@contextmanager
def progress_shown(enabled: bool = True) -> Iterator[Progress]:
    """Progress on stderr: a bar of the step at hand, gone when the work is done; lines in a log."""
    if not enabled:
        yield silent
    elif sys.stderr.isatty():
        with _bar() as progress:
            yield progress
    else:
        lines = _Lines()
        try:
            yield lines
        finally:
            lines.close()


class _Count(ProgressColumn):
    """How much is done: 12/240, or 12 where nobody knows how much there is."""

    def render(self, task: Task) -> Text:
        total = "" if task.total is None else f"/{task.total:.0f}"
        return Text(f"{task.completed:.0f}{total}")


@contextmanager
def _bar() -> Iterator[Progress]:
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), _Count(), TimeElapsedColumn())
    bar = Bars(*columns, console=Console(stderr=True), transient=True)
    tasks: dict[str, int] = {}
    start = time.monotonic()
    started = False

    def progress(label: str, done: int, total: int) -> None:
        nonlocal started
        for other in tasks.keys() - {label}:  # what was done before is over
            bar.remove_task(tasks.pop(other))  # type: ignore[arg-type]
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


@dataclass
class _Step:
    """One step of the work; the first call with its label began it."""

    started: float = field(default_factory=time.monotonic)
    told: bool = False


class _Lines:
    """Tells a step of known size once it has become long, and again when it ends."""

    def __init__(self) -> None:
        self._steps, self._lock = dict[str, _Step](), threading.Lock()
        self._closed = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def __call__(self, label: str, done: int, total: int) -> None:
        if not total:
            return
        with self._lock:
            step = self._steps.setdefault(label, _Step())
            if done < total:
                return
            del self._steps[label]
        if step.told:
            note(f"lorapack: {visible(label)}: done in {time.monotonic() - step.started:.0f} s")

    def close(self) -> None:
        """Tell nothing more."""
        self._closed.set()

    def _watch(self) -> None:
        while not self._closed.wait(LOOK_S):
            with self._lock:
                long = [
                    (label, step)
                    for label, step in self._steps.items()
                    if not step.told and time.monotonic() - step.started > LONG_S
                ]
            for label, step in long:
                step.told = True
                note(f"lorapack: {visible(label)} ...")
