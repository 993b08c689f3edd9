"""A native solver in a thread of its own, so that Ctrl-C and SIGTERM reach it.

Python runs signal handlers between its own instructions, which the main thread has none of while it is
inside a solver's search. So the search runs in a thread while the main one waits, and looks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from scenarios import interrupted

LOOK_S = 0.1
"""Seconds between two looks."""


def solve_in_thread(solve: Callable[[], object], stop: Callable[[], object]) -> None:
    """Run a search in a thread until it ends; what it raises is raised here.

    Parameters
    ----------
    solve
        The search.
    stop
        Tells the search to come to an end soon; called when the work is interrupted, again and again, as
        a search may not listen before it has begun.
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

    threading.Thread(target=work, daemon=True).start()
    while not ended.wait(LOOK_S):
        if interrupted():
            stop()
    if raised:
        raise raised[0]
