"""Work in processes: its results in order, and what a deadline makes of it."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import pytest
from joblib import delayed

from scenarios import Deadline, Stopped
from twin.parallel import in_processes


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
