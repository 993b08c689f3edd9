"""Work dealt to processes that end with this one, and that a signal stops between two results."""

from __future__ import annotations

import os
import signal
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from joblib import Parallel
from joblib.parallel import get_active_backend

from scenarios.deadline import UNLIMITED, Deadline

LOOK_S = 0.5
"""Seconds after which a worker notices that its parent is gone."""


def in_processes(
    jobs: Iterable[Any], workers: int, *, deadline: Deadline = UNLIMITED, work: str = "working"
) -> Iterator[Any]:
    """Results of joblib's delayed calls in their order, each as soon as it is there.

    Inside ``joblib.parallel_config(backend="ray")`` or ``"dask"`` the calls go to that cluster.

    Parameters
    ----------
    jobs
        Delayed calls.
    workers
        Processes; one works in this process.
    deadline
        When to stop; absent: when the work is interrupted.
    work
        What is being done, for messages.

    Raises
    ------
    Stopped
        If the end comes before the last result; the workers are then ended.
    """
    deadline.check(work)
    parallel = _parallel(workers)
    with _without_signals() if parallel.return_generator else nullcontext():
        results = parallel(jobs)
    try:
        for result in results:
            yield result
            deadline.check(work)
    finally:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # joblib warns of results that nobody fetched
            close = getattr(results, "close", None)
            if close is not None:
                close()


def _parallel(workers: int) -> Any:
    """Hands results over as they come; all at the end where the backend (Ray's) cannot."""
    options: dict[str, Any] = {"n_jobs": workers, "batch_size": 1}
    if type(get_active_backend()[0]).__name__ == "LokyBackend":
        options["initializer"] = _end_with(os.getpid())
    try:
        return Parallel(**options, return_as="generator")
    except ValueError:
        return Parallel(**options)


@contextmanager
def _without_signals() -> Iterator[None]:
    """Within, processes start that get neither SIGINT nor SIGTERM.

    A terminal, `timeout` and systemd signal the whole group of processes; it is for the parent to tell its
    workers. What is blocked here is blocked in the children for good.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _end_with(parent: int) -> Callable[[], None]:
    """What a worker does first: look again and again whether its parent still is there.

    However the parent ended, by SIGKILL too. A function within a function travels by value, so that a worker
    need not import this package before it looks.
    """
    seconds = LOOK_S

    def watch() -> None:
        import os
        import threading
        import time

        def look() -> None:
            while os.getppid() == parent:
                time.sleep(seconds)
            os._exit(1)

        threading.Thread(target=look, daemon=True).start()

    return watch
