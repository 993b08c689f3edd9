"""joblib's way to a cluster, whichever it is.

This stands in for joblib's backend for Dask and for that which Ray brings. The first (joblib 1.6,
joblib/_dask.py) is not told of a task that fails by the cluster's fault, as where a worker lacks a package,
and waits for ever. The second (ray 2.60, ray/util/joblib/ray_backend.py) hands results over at the end
only, and starts processes anew for every call.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol

from joblib.parallel import ParallelBackendBase

from twin.parallel.tasks import ClusterError, Outcome, Task, versions_here

LEAST_AT_ONCE = 2
"""joblib works in this process where there is but one worker."""


class Cluster(Protocol):
    """What runs tasks elsewhere."""

    address: str
    """As it was given, for messages."""

    def workers(self) -> int:
        """How many tasks it runs at a time."""

    def submit(self, task: Task) -> Any:
        """A future of the task's outcome, which the cluster repeats where a worker dies."""

    def cancel(self, future: Any) -> None:
        """Forget a task, as far as it has not begun."""

    def close(self) -> None:
        """Leave the cluster, or end it where it was started for this."""


class ClusterBackend(ParallelBackendBase):  # type: ignore[misc, unused-ignore]  # joblib has no types
    """Deals joblib's calls to a cluster; `joblib.parallel_config` takes it.

    Parameters
    ----------
    cluster
        Where they go.
    """

    supports_retrieve_callback = True

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(nesting_level=0)
        self.cluster = cluster
        self._asked: dict[Future[Any], Any] = {}
        # joblib sends the next call as soon as one is there: not from a thread that the cluster needs.
        self._listener = ThreadPoolExecutor(1, thread_name_prefix="lorapack-cluster")

    def effective_n_jobs(self, n_jobs: int) -> int:  # noqa: ARG002 (the cluster has as many as it has)
        """Calls that are run at a time."""
        return max(LEAST_AT_ONCE, self.cluster.workers())

    def submit(self, func: Callable[[], Any], callback: Callable[[Any], None] | None = None) -> Future[Any]:
        """Send a call; its result is told to the callback."""
        answer: Future[Any] = Future()
        if callback is not None:
            answer.add_done_callback(callback)
        there = self.cluster.submit(Task(func, versions_here()))
        self._asked[answer] = there
        there.add_done_callback(lambda done: self._hear(answer, done))
        return answer

    def _hear(self, answer: Future[Any], done: Any) -> None:
        with suppress(RuntimeError):  # the cluster has been left
            self._listener.submit(self._settle, answer, done)

    def _settle(self, answer: Future[Any], done: Any) -> None:
        """Hand over what came back."""
        self._asked.pop(answer, None)
        outcome = self._outcome(done)
        with suppress(InvalidStateError):  # it was cancelled meanwhile
            if outcome.error is None:
                answer.set_result(outcome.value)
            else:
                answer.set_exception(outcome.error)

    def _outcome(self, done: Any) -> Outcome:
        try:
            found: Outcome = done.result()
        except (Exception, CancelledError) as error:  # of the cluster: a task tells what it raised
            cause = getattr(error, "cause", None) or error  # Ray wraps it
            lacking = isinstance(cause, ImportError)
            remedy = "; install there what is installed here" if lacking else ""
            return self._failure(f"a task was lost: {_first_line(cause)}{remedy}")
        return self._failure(str(found.error)) if isinstance(found.error, ClusterError) else found

    def _failure(self, reason: str) -> Outcome:
        return Outcome(error=ClusterError(f"{self.cluster.address}: {reason}"))

    def retrieve_result_callback(self, out: Future[Any]) -> Any:
        """The result that a callback was told."""
        return out.result()

    def abort_everything(self, ensure_ready: bool = True) -> None:  # noqa: ARG002 (it always is)
        """Give up every call that is not answered, so that nobody waits for it."""
        for answer, there in list(self._asked.items()):
            self._asked.pop(answer, None)
            with suppress(Exception):  # a cluster that is gone forgets by itself
                self.cluster.cancel(there)
            answer.cancel()

    def close(self) -> None:
        """Leave the cluster."""
        self.abort_everything()
        self._listener.shutdown(wait=False, cancel_futures=True)
        self.cluster.close()


def _first_line(error: BaseException) -> str:
    """The first line of an error, or its name."""
    text = str(error).strip().partition("\n")[0]
    return text or type(error).__name__
