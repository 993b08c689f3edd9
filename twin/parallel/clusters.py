"""The cluster that work is dealt to: found by its address, tried, and left at the end."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

from joblib import parallel_config

from scenarios import UNLIMITED, Problem, ScenarioError
from twin.parallel.cluster_backend import Cluster, ClusterBackend
from twin.parallel.dealing import LOOK_S
from twin.parallel.tasks import ClusterError

REACH_S = 5.0
"""Seconds in which a port must answer."""

TRY_S = 60.0
"""Seconds in which a worker must have done the first task: it loads lorapack for it."""

FORMS = "give dask://HOST:PORT, ray://HOST:PORT or ray://local"
PACKAGES = {"dask": "distributed", "ray": "ray"}
"""What each kind of cluster needs, by the name of the extra that installs it."""

HINTS = {
    "dask": "",
    "ray": "; where it asks for a token, set RAY_AUTH_MODE=token and RAY_AUTH_TOKEN or ~/.ray/auth_token",
}
"""What may help where no cluster of a kind answers: Ray has tokens by default in new releases (2.60)."""

LOCAL = "local"


class ClusterAddressError(ScenarioError):
    """The address of a cluster is none."""


class Address(NamedTuple):
    """Where a cluster is: ``dask`` or ``ray``, host and port of its scheduler; port 0: in this process."""

    kind: str
    host: str
    port: int


def read_address(address: str) -> Address:
    """Take an address apart.

    Raises
    ------
    ClusterAddressError
        If it is none.
    """
    try:
        parts = urlsplit(address)
        found = Address(parts.scheme, parts.hostname or "", parts.port or 0)
    except ValueError:  # a port that is no number, a bracket without another
        found = Address("", "", 0)
    local = found == Address("ray", LOCAL, 0)
    if found.kind not in PACKAGES or not found.host or not (found.port or local):
        raise ClusterAddressError([Problem("cluster", f'is "{address}"', FORMS)], "on_cluster")
    return found


@contextmanager
def on_cluster(address: str, *, workers: int | None = None) -> Iterator[None]:
    """Within, the twin runs on a cluster: sampling, judging, and the search that asks it.

    Answers are those of one process, to the last byte where the workers' processors are of the same kind.
    What a worker was at that dies is done by another. The workers must have what is installed here: lorapack,
    Python, numpy, numba and scipy of the same versions, which each of them checks. Files that a scenario
    names (traces) must lie at the same path on their machines.

    Parameters
    ----------
    address
        ``dask://HOST:PORT``, a scheduler; ``ray://HOST:PORT``, a client server; or ``ray://local``, which
        starts a Ray of this machine and ends it, or uses one that runs in this process.
    workers
        Processes of ``ray://local``; None: one for each processor. A cluster has as many as it has.

    Raises
    ------
    ClusterAddressError
        If the address is none.
    ClusterError
        If the package for it is missing, if nothing answers there in time, or if a worker runs other
        versions; within also if the cluster is lost.
    """
    backend = ClusterBackend(_connected(address, workers))
    try:
        with parallel_config(backend=backend):
            _try(backend)
            yield
    finally:
        backend.close()


def _connected(address: str, workers: int | None) -> Cluster:
    """The cluster of an address."""
    kind, host, port = read_address(address)
    if port:
        _reach(address, host, port)
    try:
        if kind == "dask":
            from twin.parallel.dask_cluster import DaskCluster

            return DaskCluster(address, host, port)
        from twin.parallel.ray_cluster import RayCluster

        return RayCluster(address, workers)
    except ImportError as error:
        package = PACKAGES[kind]
        raise ClusterError(f"{address} needs {package}: pip install 'lorapack[{kind}]'") from error
    except Exception as error:  # of the library, whose errors have no common base
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ClusterError(f"{address}: no {kind} cluster answers there: {reason}{HINTS[kind]}") from error


def _reach(address: str, host: str, port: int) -> None:
    """Find out soon where there is nothing."""
    try:
        socket.create_connection((host, port), timeout=REACH_S).close()
    except OSError as error:
        reason = error.strerror or str(error)
        raise ClusterError(
            f"{address} cannot be reached: {reason}; is the cluster up, and is the port open?"
        ) from error


def _try(backend: ClusterBackend) -> None:
    """Have a worker do nothing, to find out whether there is one that can."""
    answer, end = backend.submit(_nothing), UNLIMITED.within(TRY_S)
    while not answer.done():
        UNLIMITED.check("a worker of the cluster was awaited")
        if end.reached:
            raise ClusterError(
                f"{backend.cluster.address}: no worker did anything within {TRY_S:.0f} s; start some"
            )
        wait([answer], LOOK_S)
    answer.result()


def _nothing() -> None:
    """The first task."""
