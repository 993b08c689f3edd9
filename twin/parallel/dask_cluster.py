"""Tasks on a Dask cluster: its scheduler repeats those of a worker that dies."""

from __future__ import annotations

from typing import Any

from distributed import Client

from twin.parallel.tasks import Task

CONNECT_S = 10.0
"""Seconds in which a scheduler must answer."""


class DaskCluster:
    """A running scheduler and its workers.

    Parameters
    ----------
    address
        As it was given.
    host, port
        Where its scheduler listens, without TLS.
    """

    def __init__(self, address: str, host: str, port: int) -> None:
        self.address = address
        at = f"tcp://[{host}]:{port}" if ":" in host else f"tcp://{host}:{port}"
        self._client = Client(at, timeout=CONNECT_S, set_as_default=False)

    def workers(self) -> int:
        """Threads of all workers."""
        return sum(self._client.nthreads().values())

    def submit(self, task: Task) -> Any:
        """Send a task; equal ones are not taken for one, as Dask else does."""
        return self._client.submit(task, pure=False)

    def cancel(self, future: Any) -> None:
        """Forget a task."""
        self._client.cancel([future], asynchronous=False)

    def close(self) -> None:
        """Leave the cluster as it is."""
        self._client.close(timeout=CONNECT_S)
