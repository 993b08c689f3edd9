"""Work on a cluster: its address, what it answers, what dies of it, and that it gives what one process gives.

Dask and Ray are tried with two workers of this machine each where they are installed.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from joblib import delayed, parallel_config
from typer.testing import CliRunner

import learn
import scenarios
from optimizer.cli.commands import app
from scenarios import Deadline, Stopped
from scenarios.stopping.interrupts import noticed, request
from twin import ClusterAddressError, ClusterError, find_profile, on_cluster
from twin.parallel import clusters, in_processes, in_threads, tasks
from twin.parallel.cluster_backend import ClusterBackend
from twin.parallel.clusters import Address, read_address
from twin.parallel.tasks import Outcome, Task, versions_here

FEW = learn.SamplingPlan(compositions=2, round_size=2, max_runs=2, spread=0)
"""A plan of a second or two."""


# --- addresses -------------------------------------------------------------------------------------


def test_addresses_name_a_scheduler_or_this_machine() -> None:
    assert read_address("dask://10.0.0.5:8786") == Address("dask", "10.0.0.5", 8786)
    assert read_address("ray://head.cluster:10001") == Address("ray", "head.cluster", 10001)
    assert read_address("dask://[::1]:8786") == Address("dask", "::1", 8786)
    assert read_address("ray://local") == Address("ray", "local", 0)


@pytest.mark.parametrize(
    "wrong",
    ["", "dask", "dask://", "dask://host", "dask://local", "dask://host:port", "ray://[::1:1", "tcp://h:1"],
)
def test_what_is_no_address_is_refused_with_the_forms(wrong: str) -> None:
    with (
        pytest.raises(ClusterAddressError, match="give dask://HOST:PORT, ray://HOST:PORT or ray://local"),
        on_cluster(wrong),
    ):
        pytest.fail("there is no such cluster")


def test_a_port_where_nobody_listens_is_told_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    started = time.monotonic()
    with pytest.raises(ClusterError, match=f"dask://127.0.0.1:{port} cannot be reached: "):
        on_cluster(f"dask://127.0.0.1:{port}").__enter__()
    assert time.monotonic() - started < 2 * clusters.REACH_S


@pytest.mark.parametrize(
    ("address", "package", "extra"),
    [("dask://127.0.0.1:{}", "distributed", "dask"), ("ray://local", "ray", "ray")],
)
def test_a_package_that_is_missing_is_named_with_its_extra(
    address: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    monkeypatch.delitem(sys.modules, f"twin.parallel.{extra}_cluster", raising=False)
    remedy = rf"needs {package}: pip install 'lorapack\[{extra}\]'"
    with socket.create_server(("127.0.0.1", 0)) as server, pytest.raises(ClusterError, match=remedy):
        on_cluster(address.format(server.getsockname()[1])).__enter__()


def test_a_command_tells_a_wrong_address_in_one_line() -> None:
    done = CliRunner().invoke(app, ["solve", "paper_mixed_32", "--cluster", "dask://nowhere"])
    assert isinstance(done.exception, ClusterAddressError)


# --- answers ---------------------------------------------------------------------------------------


@dataclass
class Threads:
    """A cluster of threads; `broken` is what becomes of its tasks."""

    address: str = "dask://threads:1"
    broken: BaseException | None = None
    deaf: bool = False
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(2))

    def workers(self) -> int:
        return 1

    def submit(self, task: Task) -> Future[Any]:
        future: Future[Any] = Future()
        if self.deaf:
            return future
        if self.broken is None:
            return self.pool.submit(task)
        future.set_exception(self.broken)
        return future

    def cancel(self, future: Future[Any]) -> None:
        future.cancel()

    def close(self) -> None:
        self.pool.shutdown(wait=False)


@contextmanager
def on(cluster: Threads) -> Iterator[None]:
    backend = ClusterBackend(cluster)
    try:
        with parallel_config(backend=backend):
            yield
    finally:
        backend.close()


@pytest.mark.parametrize("deal", [in_processes, in_threads])
def test_results_come_in_their_order_whatever_the_workers(deal: Any) -> None:
    with on(Threads()):
        assert list(deal([delayed(abs)(-k) for k in range(50)], 1)) == list(range(50))


def test_what_a_task_raises_is_raised_here_with_where_it_happened() -> None:
    with on(Threads()), pytest.raises(TypeError, match="bad operand") as raised:
        list(in_processes([delayed(abs)("text")], 2))
    assert "On the worker" in raised.value.__notes__[0]


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (RuntimeError("killed 4 times\nand more"), "dask://threads:1: a task was lost: killed 4 times$"),
        (
            ModuleNotFoundError("No module named 'twin'"),
            "a task was lost: No module named 'twin'; install",
        ),
    ],
)
def test_what_a_cluster_cannot_do_is_told_with_its_address(broken: Exception, told: str) -> None:
    with on(Threads(broken=broken)), pytest.raises(ClusterError, match=told):
        list(in_processes([delayed(abs)(-1)], 2))


def test_a_worker_of_other_versions_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    older = tuple((name, "1.0" if name == "numpy" else is_) for name, is_ in versions_here())
    told = Task(lambda: pytest.fail("it worked"), older)()
    assert told.value is None
    assert "numpy" in str(told.error)
    assert "not 1.0; install there what is installed here" in str(told.error)
    monkeypatch.setattr("twin.parallel.cluster_backend.versions_here", lambda: older)
    with on(Threads()), pytest.raises(ClusterError, match=r"dask://threads:1: the worker \S+ has numpy"):
        list(in_processes([delayed(abs)(-1)], 2))


def test_versions_are_those_of_our_sources_and_of_what_computes() -> None:
    assert [name for name, _ in versions_here()] == ["lorapack", "Python", "numpy", "numba", "scipy"]
    assert tasks._sources() == dict(versions_here())["lorapack"]
    assert Task(tuple, versions_here())() == Outcome(())


def test_an_interruption_ends_the_wait_for_a_cluster() -> None:
    with noticed(), on(Threads(deaf=True)):
        results = in_processes([delayed(abs)(-1), delayed(abs)(-2)], 2)
        ThreadPoolExecutor(1).submit(lambda: (time.sleep(0.5), request()))
        with pytest.raises(Stopped, match="interrupted while working"):
            next(results)


def test_a_cluster_without_workers_is_told_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(clusters, "_connected", lambda *_: Threads(deaf=True))
    monkeypatch.setattr(clusters, "TRY_S", 0.5)
    with pytest.raises(ClusterError, match="no worker did anything within"), on_cluster("dask://threads:1"):
        pytest.fail("there is no worker")


# --- Dask and Ray ----------------------------------------------------------------------------------


@contextmanager
def dask_workers() -> Iterator[str]:
    distributed = pytest.importorskip("distributed", reason="lorapack[dask] is not installed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as cluster:
        yield cluster.scheduler_address.replace("tcp", "dask")


@contextmanager
def ray_workers() -> Iterator[str]:
    ray = pytest.importorskip("ray", reason="lorapack[ray] is not installed")
    with on_cluster("ray://local", workers=2):  # those below use the Ray that runs
        yield "ray://local"
    assert not ray.is_initialized()


BACKENDS = [
    pytest.param(start, id=name, marks=pytest.mark.slow)
    for name, start in {"dask": dask_workers, "ray": ray_workers}.items()
]


@pytest.fixture(scope="module", params=BACKENDS)
def cluster(request: pytest.FixtureRequest) -> Iterator[str]:
    """The address of two workers of this machine."""
    with request.param() as address:
        yield address


def space() -> learn.DesignSpace:
    scenario = scenarios.read("paper_mixed_32")
    device = scenario.devices[0]
    return learn.space_for(scenario, device, find_profile(scenario.model, device.name))


def plan_on(cluster: str | None, folder: Path) -> tuple[str, str]:
    """The plan of a command, and the verdicts on it."""
    there = [] if cluster is None else ["--cluster", cluster]
    files = {name: str(folder / f"{name}-{cluster is None}") for name in ("plan", "verdicts")}
    run, scenario = CliRunner().invoke, "paper_mixed_32"
    for line in (
        ["solve", scenario, "--placement", files["plan"], "--objective", "gpus", "--quiet", *there],
        ["validate", scenario, files["plan"], "--json", files["verdicts"], "--quiet", *there],
    ):
        done = run(app, line)
        assert done.exit_code == 0, done.output
    return Path(files["plan"]).read_text(), Path(files["verdicts"]).read_text()


def test_samples_are_to_the_byte_those_of_one_process(cluster: str, tmp_path: Path) -> None:
    for name, place in (("there", on_cluster(cluster)), ("here", nullcontext())):
        with place:
            learn.sample(space(), FEW).save(tmp_path / name)
    assert (tmp_path / "there").read_bytes() == (tmp_path / "here").read_bytes()


def test_plans_and_verdicts_are_to_the_byte_those_of_one_process(cluster: str, tmp_path: Path) -> None:
    assert plan_on(cluster, tmp_path) == plan_on(None, tmp_path)


def test_a_worker_that_is_killed_loses_nothing(cluster: str, tmp_path: Path) -> None:
    def work(number: int, died: str) -> int:
        import os
        import signal
        from pathlib import Path

        if number == 3 and not Path(died).exists():
            Path(died).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return number

    died = tmp_path / "died"
    with on_cluster(cluster):
        calls = [delayed(work)(number, str(died)) for number in range(8)]
        assert list(in_processes(calls, 2)) == list(range(8))
    assert died.exists()


def test_a_limit_ends_the_wait_for_what_runs_and_the_cluster_goes_on(cluster: str) -> None:
    with on_cluster(cluster):
        started = time.monotonic()
        with pytest.raises(Stopped, match="the time limit was reached"):
            list(in_processes([delayed(time.sleep)(5)] * 4, 2, deadline=Deadline.after(1)))
        assert time.monotonic() - started < 4.5
        assert list(in_processes([delayed(abs)(-k) for k in range(4)], 2)) == [0, 1, 2, 3]
