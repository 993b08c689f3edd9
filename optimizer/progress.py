"""How work tells its progress."""

from __future__ import annotations

from typing import Protocol

from scenarios.stopping.interrupts import request


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
