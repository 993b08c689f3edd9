"""Work dealt to threads, processes or a cluster: results in their order, until a deadline.

Processes end with this one, and a signal stops the work between two results. What a process was at that was
killed, as where memory runs out, is done again.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager, nullcontext, suppress
from functools import cache
from multiprocessing import resource_tracker
from typing import Any, cast

import psutil
from joblib import Parallel, delayed
from joblib.externals.loky.backend import resource_tracker as loky_tracker
from joblib.parallel import LokyBackend, ThreadingBackend, get_active_backend

from scenarios import UNLIMITED, Deadline, LorapackError
from twin.parallel.cluster_backend import ClusterBackend

_log = logging.getLogger(__name__)

LOOK_S = 0.2
"""Seconds between two looks at the deadline, and of a worker at whether its parent still is there."""

MOST_LOSSES = 3
"""Processes that may be killed, one after the other without a result between, before the work is given up."""

Call = tuple[Callable[..., Any], tuple[Any, ...], dict[str, Any]]
"""What joblib's `delayed` makes: a function and its arguments."""


class WorkersLostError(LorapackError, RuntimeError):
    """Processes were killed again and again at the same work."""


class _NotStartedError(Exception):
    """The system gives no processes; the text says why."""


def in_processes(
    jobs: Iterable[Call], workers: int, *, deadline: Deadline = UNLIMITED, work: str = "working"
) -> Iterator[Any]:
    """Results of joblib's delayed calls in their order, each as soon as it is there.

    Within `twin.parallel.on_cluster`, or ``joblib.parallel_config`` with a backend, the calls go there.

    Parameters
    ----------
    jobs
        Delayed calls.
    workers
        Processes; one works in this process. A cluster has as many as it has.
    deadline
        When to stop; absent: when the work is interrupted.
    work
        What is being done, for messages.

    Raises
    ------
    Stopped
        If the end comes before the last result; the workers are then ended, and what a cluster has not begun
        is cancelled.
    ClusterError
        If a cluster cannot do it, or is lost.
    WorkersLostError
        If processes of this machine are killed again and again.
    """
    options: dict[str, Any] = {"n_jobs": workers, "batch_size": 1}
    if not isinstance(get_active_backend()[0], LokyBackend):
        return _delivered(list(jobs), options, deadline, work)
    options["initializer"] = _watching(os.getpid())
    return _surviving(list(jobs), options, deadline, work)


def in_threads(
    jobs: Iterable[Call], workers: int, *, deadline: Deadline = UNLIMITED, work: str = "working"
) -> Iterator[Any]:
    """The same as `in_processes` of calls that run without the interpreter's lock: here threads suffice."""
    calls = list(jobs)
    options = {"n_jobs": min(workers, len(calls)) or 1, "prefer": "threads"}
    if isinstance(get_active_backend(prefer="threads")[0], ThreadingBackend):  # none that wait are begun
        calls = [delayed(_unless_over)(deadline, work, call) for call in calls]
    return _delivered(calls, options, deadline, work)


def _unless_over(deadline: Deadline, work: str, call: Call) -> Any:
    deadline.check(work)
    function, given, named = call
    return function(*given, **named)


def _surviving(calls: list[Call], options: dict[str, Any], deadline: Deadline, work: str) -> Iterator[Any]:
    """Results in their order; what is not delivered when a process is killed is dealt to new ones.

    Where none can be started, as without room for semaphores in ``/dev/shm``, this process does the work.
    """
    delivered, losses = 0, 0
    while delivered < len(calls):
        if losses == MOST_LOSSES:
            raise WorkersLostError(
                f"worker processes were killed while {work}, {losses} of them one after the other, most "
                "likely as memory ran out; make room, or use fewer workers (--workers 1)"
            )
        losses += 1
        # A joblib that is told of the loss between two results says nothing and ends early.
        try:
            for result in _delivered(calls[delivered:], options, deadline, work):
                delivered, losses = delivered + 1, 0
                yield result
        except BrokenExecutor:
            continue
        except _NotStartedError as error:
            _say_alone(str(error))
            options = {**options, "n_jobs": 1}


def _delivered(calls: list[Call], options: dict[str, Any], deadline: Deadline, work: str) -> Iterator[Any]:
    """Results in their order, until the deadline is reached."""
    delivered, results = 0, cast("Iterable[Any]", ())
    try:
        if calls:
            deadline.check(work)
        parallel = _parallel(options)
        backend = get_active_backend(options.get("prefer"))[0]
        own_processes = isinstance(backend, LokyBackend) and options["n_jobs"] > 1
        elsewhere = own_processes or isinstance(backend, ClusterBackend)
        with _ending_work(deadline, backend) if elsewhere else nullcontext():
            with _starting() if own_processes else nullcontext():
                results = parallel(calls)
            for result in results:
                delivered += 1
                yield result
                if delivered < len(calls):
                    deadline.check(work)
    except (Exception, KeyboardInterrupt):
        if not deadline.reached:
            raise
        if delivered < len(calls):
            deadline.check(work)  # what comes of ended workers is no failure
    finally:
        _close(results)


@contextmanager
def _ending_work(deadline: Deadline, backend: Any) -> Iterator[None]:
    """Within, what runs elsewhere is given up when the deadline is reached, whatever it is at.

    joblib looks up only when the next result is there.
    """
    over = threading.Event()

    def watch() -> None:
        while not over.wait(LOOK_S):
            if deadline.reached:
                backend.abort_everything() if isinstance(backend, ClusterBackend) else _end_own_processes()
                return

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        over.set()


def _end_own_processes() -> None:
    """End joblib's own workers."""
    for child in psutil.Process().children():
        with suppress(psutil.Error):
            if any("popen_loky" in word for word in child.cmdline()):
                child.kill()


def _close(results: Iterable[Any]) -> None:
    """End the workers where results are left."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # joblib warns of results that nobody fetched
        if isinstance(results, Generator):
            results.close()


def _parallel(options: dict[str, Any]) -> Any:
    """Hands results over as they come; all at the end where the backend (Ray's own) cannot."""
    try:
        return Parallel(**options, return_as="generator")
    except ValueError:
        return Parallel(**options)


@contextmanager
def _starting() -> Iterator[None]:
    """Within, processes are started."""
    try:
        with _without_signals():
            yield
    except OSError as error:
        raise _NotStartedError(error.strerror or str(error)) from error


@cache
def _say_alone(reason: str) -> None:
    _log.warning("no worker processes can be started (%s), so one process does all the work", reason)


@contextmanager
def _without_signals() -> Iterator[None]:
    """Within, processes start that get neither SIGINT nor SIGTERM.

    A terminal, `timeout` and systemd signal all processes, and it is for the parent to end its workers. What
    is blocked when a process starts stays blocked in it.
    """
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        yield
        return
    _start_trackers()
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start_trackers() -> None:
    """Start joblib's and Python's own trackers of resources, which would unblock signals in the middle.

    They clean up after a process that ended at once, and are not to say so, nor that they find no semaphores.
    """
    quiet, said = "ignore::UserWarning", os.environ.get("PYTHONWARNINGS")
    os.environ["PYTHONWARNINGS"] = quiet if said is None else f"{said},{quiet}"
    try:
        for tracker in (resource_tracker, loky_tracker):
            tracker.ensure_running()
    finally:
        if said is None:
            del os.environ["PYTHONWARNINGS"]
        else:
            os.environ["PYTHONWARNINGS"] = said


@cache  # joblib starts all workers anew for another function
def _watching(parent: int) -> Callable[[], None]:
    """What a worker does first: look again and again whether its parent still is there.

    However that ended, by SIGKILL too. A function within a function travels by value, so that a worker need
    not import this package before it looks. And where it compiles, its end leaves no escape sequence on the
    terminal: numba starts colorama for its messages, whether colours are wanted or not (numba 0.68,
    `numba.core.errors:ColorShell`).
    """
    seconds = LOOK_S

    def watch() -> None:
        import contextlib
        import os
        import threading
        import time

        with contextlib.suppress(ImportError, AttributeError):
            from colorama import initialise  # type: ignore[import-untyped, unused-ignore]

            initialise.atexit_done = True  # as if its last sequence were registered already

        def look() -> None:
            while os.getppid() == parent:
                time.sleep(seconds)
            os._exit(1)

        threading.Thread(target=look, daemon=True).start()

    return watch
