"""Ctrl-C and SIGTERM as requests that long work sees at safe points.

An exception out of a signal handler comes up wherever Python happens to be: on the way out of compiled code,
inside a solver's callback, in the middle of an import. There it gets lost, or ends in another error. So
within `noticed` a signal only sets a flag, which the work asks for between its steps by `interrupted`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

PRESSES = 3
"""Signals after which the work is left at once: somebody does not want to wait for a safe point."""


@dataclass
class _Notice:
    """What the process has been asked.

    Parameters
    ----------
    depth
        How many `noticed` blocks there are.
    requests
        Signals since the outermost of them began.
    leave
        Ends the process at once, if the signals are a command's to handle.
    threads
        Threads that were left behind.
    lock
        Held while the depth changes, as searches may run in several threads.
    """

    depth: int = 0
    requests: int = 0
    leave: Callable[[], None] | None = None
    threads: list[threading.Thread] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)


_notice = _Notice()


def interrupted() -> bool:
    """Whether the work at hand has been asked to come to an end."""
    return _notice.requests > 0


def request() -> None:
    """Ask the work at hand to come to an end, as a signal does."""
    _notice.requests += 1


@contextmanager
def noticed() -> Iterator[None]:
    """Within, Ctrl-C raises nothing: `interrupted` tells of it until the outermost such block ends.

    Outside of the main thread, and where the program handles SIGINT by itself, signals are left alone.
    """
    main = threading.current_thread() is threading.main_thread()
    ours = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if ours:
        signal.signal(signal.SIGINT, _on_signal)
    with _notice.lock:
        _notice.depth += 1
    try:
        yield
    finally:
        with _notice.lock:
            _notice.depth -= 1
            if _notice.depth == 0:
                _notice.requests = 0
        if ours:
            signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def unbroken() -> Iterator[None]:
    """Within, nothing is broken off; a signal that comes meanwhile acts at the end."""
    with noticed():
        yield
        asked = interrupted() and _notice.depth == 1
    if asked:
        _act()


def take_over(leave: Callable[[], None]) -> None:
    """Handle SIGINT and SIGTERM for a command: noticed where work notices them, else the command is left.

    Parameters
    ----------
    leave
        Ends the process at once; it runs between any two instructions, so it may touch nothing but the
        process.
    """
    _notice.leave = leave
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # as a background job, or under nohup
            signal.signal(number, _on_signal)


def leave_behind(thread: threading.Thread) -> None:
    """Note a thread that goes on in native code after the work was interrupted, as it cannot be ended."""
    _notice.threads.append(thread)


def left_behind() -> bool:
    """Whether there is such a thread."""
    return any(thread.is_alive() for thread in _notice.threads)


def ignore_signals() -> None:
    """Let nothing more break into a command's end, where signals were taken over."""
    if _notice.leave is not None:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)


def _on_signal(_number: int, _frame: FrameType | None) -> None:
    if _notice.depth == 0:
        _act()
    _notice.requests += 1
    if _notice.requests >= PRESSES:
        _act()


def _act() -> None:
    if _notice.leave is not None:
        _notice.leave()
    raise KeyboardInterrupt
