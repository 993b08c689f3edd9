"""Work in processes: its results in order, what a deadline makes of it, and that processes may be killed."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from joblib import delayed

from scenarios import Deadline, Stopped
from tests.slow import slow
from twin.parallel import WorkersLostError, dealing, in_processes


@dataclass(frozen=True)
class Switch(Deadline):
    """A deadline that strikes when it is told to."""

    struck: list[bool] = field(default_factory=list)

    @property
    def reached(self) -> bool:
        return bool(self.struck)


def delivered(workers: int, strikes_after: int, jobs: int = 4) -> list[int]:
    """Results until the deadline strikes, which it does when so many are there."""
    deadline, results = Switch(at=0.0), list[int]()
    if strikes_after == 0:
        deadline.struck.append(True)
    try:
        for result in in_processes((delayed(abs)(-k) for k in range(jobs)), workers, deadline=deadline):
            results.append(result)
            if len(results) == strikes_after:
                deadline.struck.append(True)
    except Stopped:
        results.append(-1)
    return results


@pytest.mark.parametrize("workers", [1, 2])
def test_a_deadline_that_strikes_after_the_last_result_stops_nothing(workers: int) -> None:
    assert delivered(workers, strikes_after=4) == [0, 1, 2, 3]
    assert delivered(workers, strikes_after=5) == [0, 1, 2, 3]


@pytest.mark.parametrize("strikes_after", [0, 1, 3])
def test_a_deadline_that_strikes_before_the_last_result_stops(strikes_after: int) -> None:
    assert delivered(1, strikes_after) == [*range(strikes_after), -1]


def test_workers_go_on_with_what_comes_later() -> None:
    """Each of them takes seconds to import what it needs."""
    workers = {pid for _ in range(3) for pid in in_processes([delayed(os.getpid)() for _ in range(8)], 2)}
    assert os.getpid() not in workers
    assert len(workers) <= 2


def test_where_there_is_no_work_there_is_nothing_to_stop() -> None:
    assert delivered(2, strikes_after=0, jobs=0) == []


def test_a_failure_is_told_as_it_is() -> None:
    with pytest.raises(TypeError):
        list(in_processes([delayed(abs)("text")], 1))


def killed(times: int, log: Path) -> Callable[[int], int]:
    """A call that kills its process so many times, and then gives its square; it travels by value."""

    def call(number: int) -> int:
        with log.open("a") as file:
            file.write(f"{number}\n")
        if number == 3 and log.read_text().splitlines().count("3") <= times:
            os.kill(os.getpid(), signal.SIGKILL)
        return number * number

    return call


@pytest.mark.slow
def test_what_a_killed_process_was_at_is_done_again(tmp_path: Path) -> None:
    call = killed(2, tmp_path / "log")
    assert list(in_processes([delayed(call)(k) for k in range(8)], 2)) == [k * k for k in range(8)]


@pytest.mark.slow
def test_processes_that_are_killed_again_and_again_end_the_work_in_one_message(tmp_path: Path) -> None:
    call, results = killed(9, tmp_path / "log"), list[int]()
    with pytest.raises(WorkersLostError, match=r"killed while working, 3 of them .* \(--workers 1\)$"):
        results.extend(in_processes([delayed(call)(k) for k in range(8)], 2))
    assert (tmp_path / "log").read_text().splitlines().count("3") >= 3


def test_where_no_process_can_be_started_this_one_does_the_work_and_says_so_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = dealing._parallel

    def parallel(options: dict[str, Any]) -> Any:
        if options["n_jobs"] == 1:
            return real(options)

        def full(_: object) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        return full

    monkeypatch.setattr(dealing, "_parallel", parallel)
    dealing._say_alone.cache_clear()
    for _ in range(2):
        assert list(in_processes([delayed(abs)(-k) for k in range(3)], 2)) == [0, 1, 2]
    assert caplog.messages == [
        "no worker processes can be started (No space left on device), so one process does all the work"
    ]


@pytest.mark.parametrize("workers", [1, *slow([2])])
def test_a_failure_of_the_work_itself_is_no_failure_to_start(tmp_path: Path, workers: int) -> None:
    with pytest.raises(FileNotFoundError):
        list(in_processes([delayed(os.listdir)(tmp_path / "none")] * 2, workers))
