"""How long work tells its progress: one kind of callback, whoever works."""

from __future__ import annotations

from collections.abc import Callable

from scenarios.stopping.interrupts import request

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is (0: unknown).

A step of known size begins with 0 done, and ends when all is.
"""


class _Silent:
    def __call__(self, label: str, done: int, total: int) -> None:
        """Tell nothing."""

    def __repr__(self) -> str:  # what `help` shows of a default
        return "silent"


silent = _Silent()
"""Progress that goes nowhere."""


def interruptible(progress: Progress) -> Progress:
    """A callback whose KeyboardInterrupt asks for the end, as Ctrl-C does, and breaks nothing off."""

    def told(label: str, done: int, total: int) -> None:
        try:
            progress(label, done, total)
        except KeyboardInterrupt:
            request()

    return told
