"""The ``lorapack`` command."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from typing import NoReturn

from optimizer.cli.exits import EXIT_FAILURE, EXIT_NO_PLAN, EXIT_SOLVED, EXIT_USAGE


def main() -> NoReturn:
    """Run the command; every expected error ends in one message and its exit code, without a traceback.

    From the first moment SIGINT and SIGTERM end it with one word; work that has something to lose by that
    notices them at its safe points instead (`scenarios.stopping.interrupts`).
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:  # a background job, or under nohup
            signal.signal(number, lambda *_: _leave())
    from scenarios.stopping.interrupts import (
        take_over,  # imports take a second: not before signals are handled
    )

    take_over(_leave)
    from optimizer.cli.streams import standard_streams

    try:
        with standard_streams():
            code = _run()
    except SystemExit as end:
        code = _code(end)
    _end(code)


def _run() -> int:
    # Said by joblib where the system has no semaphores, as without /dev/shm: one process then does all.
    warnings.filterwarnings("ignore", "(?s).*joblib will operate in serial mode", UserWarning)
    from optimizer.cli.commands import app
    from scenarios import LorapackError

    try:
        app()
    except SystemExit as end:
        return _code(end)
    except LorapackError as error:
        return _tell(error)
    return EXIT_SOLVED


def _code(end: SystemExit) -> int:
    return end.code if isinstance(end.code, int) else EXIT_SOLVED if end.code is None else EXIT_FAILURE


def _tell(error: Exception) -> int:
    """Print an error; its exit code."""
    from optimizer.cli.streams import note
    from scenarios import Stopped

    note(f"lorapack: {error}")
    if isinstance(error, Stopped):
        return EXIT_NO_PLAN
    # A wrong value, name or file is the caller's to mend; anything else is our failure.
    return EXIT_USAGE if isinstance(error, ValueError | LookupError | OSError) else EXIT_FAILURE


def _leave() -> NoReturn:
    """End the process from within a signal handler: nothing that was going on may be relied on."""
    if os.isatty(2):
        os.write(2, b"\x1b[?25h\n")  # the cursor, which a progress bar hides
    os.write(2, b"lorapack: interrupted\n")
    os._exit(EXIT_NO_PLAN)


def _end(code: int) -> NoReturn:
    """End the process with everything written, whatever signals come meanwhile."""
    from scenarios.stopping.interrupts import ignore_signals, left_behind

    ignore_signals()
    if left_behind():  # in native code, where an orderly exit might crash
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)
