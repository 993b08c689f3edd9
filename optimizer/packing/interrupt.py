"""Ctrl-C in the middle of a solver's native code: the solver is told to stop, its best answer is kept.

Python sees an interruption only between its own instructions, so a native search has to run in a thread
while the main one waits.
"""

from __future__ import annotations

import threading
from collections.abc import Callable


def solve_in_thread(solve: Callable[[], None], stop: Callable[[], None]) -> bool:
    """Run a search in a thread until it ends; whether it was interrupted.

    Parameters
    ----------
    solve
        The search; what it raises is raised here.
    stop
        Tells the search to come to an end soon; called on KeyboardInterrupt.
    """
    raised: list[BaseException] = []
    ended = threading.Event()

    def work() -> None:
        try:
            solve()
        except BaseException as error:  # whatever it is, it belongs to the caller
            raised.append(error)
        finally:
            ended.set()

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    interrupted = False
    while not ended.is_set():
        try:
            ended.wait(0.2)
        except KeyboardInterrupt:
            interrupted = True
            stop()
    if raised:
        raise raised[0]
    return interrupted
