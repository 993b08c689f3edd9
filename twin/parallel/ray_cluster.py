"""Tasks on a Ray cluster, or on a Ray of this process: repeated where a worker dies."""

from __future__ import annotations

import logging
import os
import signal
import threading
from typing import Any

import ray

from twin.parallel.tasks import Outcome, Task

REPEATS = 3
"""How often a task is sent again whose worker died; Dask does so as often."""


class RayCluster:
    """A cluster behind Ray's client server, or one of this machine.

    Parameters
    ----------
    address
        As it was given; ``ray://local`` starts workers here, or uses a Ray that the program started.
    workers
        Processes to start here; None: one for each processor.
    """

    def __init__(self, address: str, workers: int | None) -> None:
        self.address = address
        self._ours = not ray.is_initialized()
        if self._ours:
            _start(None if address == "ray://local" else address, workers)
        self._run = ray.remote(num_cpus=1, max_retries=REPEATS)(_run)

    def workers(self) -> int:
        """Processors of all nodes."""
        return int(ray.cluster_resources().get("CPU", 0))

    def submit(self, task: Task) -> Any:
        """Send a task."""
        return self._run.remote(task).future()

    def cancel(self, future: Any) -> None:
        """Forget a task."""
        ray.cancel(future.object_ref)

    def close(self) -> None:
        """Leave the cluster as it is, or end the workers that were started."""
        if self._ours:
            ray.shutdown()


def _run(task: Task) -> Outcome:
    return task()


def _start(address: str | None, workers: int | None) -> None:
    """Connect, or start workers; Ray handles SIGTERM from then on, which is not its to do here."""
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # else it tells its makers
        here: dict[str, Any] = {"address": "local", "num_cpus": workers, "include_dashboard": False}
    else:
        here = {"address": address}
    before = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**here, **quiet)
    finally:
        if threading.current_thread() is threading.main_thread():  # in others neither sets handlers
            signal.signal(signal.SIGTERM, before)
