"""Signals at chosen moments, full disks, homes that take nothing: no half file, no leftover, the same answer.

`benchmarks/fault_moments.py` sends many more signals, at random moments.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.faults.commands import Ending, Place, answer_of, new_place, start
from tests.faults.forks import Forks
from tests.faults.rules import LEFT, Whole, faults, faults_again

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")]

PATIENCE_S = 10.0
"""Seconds in which a busy machine ends what takes it half a second."""

OLD = b'{"an": "older answer"}\n'


class Case(NamedTuple):
    """When a command is disturbed.

    Parameters
    ----------
    command
        Its name.
    moment
        Name and number, as of `tests.faults.watched`.
    more
        Arguments.
    ends
        What a signal that can be noticed leads to: the exit code.
    """

    command: str
    moment: str
    more: tuple[str, ...]
    ends: int


METHODS = ("--methods", "bfd,exact")

CASES = {
    "solve learns": Case("solve", "kept:2", ("--workers", "1"), 4),
    "solve has a plan": Case("solve", "accepted:1", ("--workers", "1"), 0),
    "compare has a plan": Case("compare", "accepted:1", (*METHODS, "--workers", "1"), 0),
    "compare writes": Case("compare", "written:5", (*METHODS, "--workers", "1"), 0),
    "fit samples": Case("fit", "sampled:12", ("--workers", "2"), 4),
    "fit writes": Case("fit", "written:1", ("--workers", "1"), 0),
}
"""Two moments of each command; a comparison writes three rounds and the regions before its table."""


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    """Begins commands."""
    begin = Forks()
    yield begin
    begin.close()


@pytest.fixture(scope="module")
def wholes(forks: Forks, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Whole]:
    """The commands undisturbed."""
    found = {}
    for command, more in {one.command: one.more for one in CASES.values()}.items():
        place = new_place(tmp_path_factory.mktemp("whole") / command)
        found[command] = Whole.of(command, place, start(place, command, *more, begin=forks).ended())
        assert found[command].ending.code == 0, found[command].ending
    return found


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL], ids=lambda n: n.name)
@pytest.mark.parametrize("name", CASES)
def test_a_signal_leaves_nothing_half_and_the_next_run_gives_the_same(
    name: str, number: signal.Signals, wholes: dict[str, Whole], forks: Forks, tmp_path: Path
) -> None:
    case, place = CASES[name], new_place(tmp_path / "place", OLD)
    whole = wholes[case.command]
    begun = start(place, case.command, *case.more, moment=f"{case.moment}:{number.name}", begin=forks)
    ending = begun.ended(patience_s=PATIENCE_S)
    assert list(faults(whole, place, ending, number, ending.seconds, OLD)) == []
    assert ending.code == (-number if number == signal.SIGKILL else case.ends)
    if number == signal.SIGKILL:
        assert place.target.read_bytes() == OLD
        again = start(place, case.command, *case.more, "--workers", "1", begin=forks).ended()
        assert list(faults_again(whole, place, again)) == []


# --- what the rules see --------------------------------------------------------------------------------

RESULT = {
    "status": "feasible",
    "stop_reason": "interrupted",
    "gpus": 2,
    "bound": 1.0,
    "validation": {"accepted": True},
}
TOLD = Ending(0, "interrupted", "", 2.0)


def seen(place: Place, answer: str | None, ending: Ending, number: int = signal.SIGTERM) -> str:
    """What is wrong by the rules where `RESULT` was the whole answer, and the signal came after a second."""
    if answer is not None:
        place.target.write_text(answer)
    whole = Whole("solve", TOLD, {"cache/a": b"1", "out/answer": b""}, {**RESULT, "status": "optimal"})
    return "; ".join(faults(whole, place, ending, number, 1.0, OLD))


@pytest.mark.parametrize(
    ("changes", "ending", "found"),
    [
        ({}, TOLD, ""),
        ({}, TOLD._replace(living=("worker",)), "worker lives on"),
        ({}, TOLD._replace(code=4), "exit code 4 with a plan"),
        ({}, TOLD._replace(out="a plan"), "does not say that it was interrupted"),
        ({}, TOLD._replace(out=""), "said no answer; does not say that it was interrupted"),
        ({}, TOLD._replace(err="Traceback\nKeyError: 1"), "said on stderr: KeyError: 1"),
        ({}, TOLD._replace(code=-9), "was killed"),
        ({}, TOLD._replace(code=4, out="", err=LEFT), "left at once, but with exit code 4 and an answer"),
        ({"stop_reason": "proven"}, TOLD, "claims a proof"),
        ({"bound": 3.0}, TOLD, "bound 3 is above an accepted plan of 2 GPUs"),
        ({"gpus": 3, "status": "optimal"}, TOLD, "3 GPUs are not optimal"),
        ({"validation": {"accepted": False}}, TOLD, "the plan is not accepted; exit code 0 without a plan"),
        (
            {"gpus": None, "validation": None},
            TOLD._replace(code=4, accepted=(0.5,)),
            "a plan had been accepted, and none is told",
        ),
        ({"gpus": None, "validation": None}, TOLD._replace(code=4, accepted=(1.5,)), ""),
    ],
)
def test_the_rules_see(changes: dict[str, object], ending: Ending, found: str, tmp_path: Path) -> None:
    assert seen(new_place(tmp_path / "place"), json.dumps(RESULT | changes) + "\n", ending) == found


def test_the_rules_see_half_a_file_and_none(tmp_path: Path) -> None:
    place = new_place(tmp_path / "place")
    assert seen(place, None, TOLD) == "wrote no answer"
    assert seen(place, json.dumps(RESULT)[:40], TOLD).startswith("half a file: ")
    assert seen(place, json.dumps(RESULT), TOLD).startswith("half a file: ")
    place.target.write_bytes(OLD)
    assert seen(place, None, TOLD._replace(code=-15, out="")) == ""
    assert seen(place, None, TOLD._replace(code=-15)) == "died of the signal, though it had begun"


def test_the_rules_see_what_is_left_for_the_next_run(tmp_path: Path) -> None:
    place, whole = new_place(tmp_path / "place"), Whole("solve", TOLD, {"cache/a": b"1"}, RESULT)
    (place.cache / "a").write_text("1")
    place.target.write_text(json.dumps(RESULT) + "\n")
    assert list(faults_again(whole, place, TOLD)) == []
    for room in (place.temporary, place.target.parent, place.cache):
        (room / ".lorapack-0123456789ab").write_text("half")
    (place.cache / "a").write_text("2")
    place.target.write_text(json.dumps(RESULT | {"bound": 2.0}) + "\n")
    assert list(faults_again(whole, place, TOLD._replace(code=1, living=("worker",)))) == [
        "again: exit code 1, ''",
        "again: another answer",
        *(f"again: {room}/.lorapack-0123456789ab is left" for room in ("cache", "out", "tmp")),
        "again: the cache differs in cache/.lorapack-0123456789ab, cache/a",
        "again: worker lives on",
    ]


# --- places that take nothing ----------------------------------------------------------------------


SOLVE = CASES["solve learns"].more
SMALL_FILES = 3000
"""Bytes that a file may have: fewer than any round of runs, regions or an answer."""


def untimed(text: str) -> str:
    """What a command says, but for how long things took, which is told of what took long."""
    return re.sub(r"before the search: .*\n|[\d.]+ s\b", "", text)


def same(ending: Ending, whole: Whole) -> bool:
    """Whether the same answer is told."""
    return untimed(ending.out) == untimed(whole.ending.out)


def solved(place: Place, whole: Whole) -> bool:
    """Whether the file holds the same answer."""
    return answer_of("solve", place.target.read_bytes()) == whole.answer


def test_where_no_file_has_room_the_answer_is_told_and_nothing_half_is_left(
    wholes: dict[str, Whole], forks: Forks, tmp_path: Path
) -> None:
    place, whole = new_place(tmp_path / "place", OLD), wholes["solve"]
    ending = start(place, "solve", *SOLVE, begin=forks, largest_file=SMALL_FILES).ended()
    assert same(ending, whole)
    cache, answer = ending.err.splitlines()
    assert "cannot be written (File too large), so what is made now is made again next time" in cache
    assert answer == (
        f"lorapack: {place.target} cannot be written (File too large); raise the limit on the size of files "
        "(ulimit -f) or write less"
    )
    assert ending.code == 2
    assert place.content() == {"out/answer": OLD}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 KiB, which no round of runs has room on."""
    disk = tmp_path / "disk"
    disk.mkdir()
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=8k", "tmpfs", str(disk)], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip("this user may mount nothing")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_costs_a_line_and_no_answer(
    small_disk: Path, wholes: dict[str, Whole], forks: Forks, tmp_path: Path
) -> None:
    place, whole = new_place(tmp_path / "place"), wholes["solve"]
    ending = start(place, "solve", *SOLVE, begin=forks, LORAPACK_CACHE=str(small_disk)).ended()
    assert ending.code == 0
    assert same(ending, whole)
    (line,) = ending.err.splitlines()
    assert "cannot be written (No space left on device)" in line
    assert solved(place, whole)
    assert not [path for path in small_disk.rglob("*") if path.name.startswith(".")]


@pytest.mark.parametrize("home", ["/proc/none", "file", "nowhere"], ids=["read-only", "a file", "missing"])
def test_a_home_that_takes_nothing_costs_a_line_and_no_answer(
    home: str, wholes: dict[str, Whole], forks: Forks, tmp_path: Path
) -> None:
    """In /proc nobody makes a folder, not even root; a path that is not absolute counts as none."""
    place, whole = new_place(tmp_path / "place"), wholes["solve"]
    (tmp_path / "file").write_text("")
    at = str(tmp_path / "file") if home == "file" else home
    picture = place.target.with_name("plan.svg")
    variables = {"HOME": at, "LORAPACK_CACHE": "", "XDG_CACHE_HOME": ""}
    ending = start(place, "solve", *SOLVE, "--plot", str(picture), begin=forks, **variables).ended()
    assert ending.code == 0
    assert same(ending, whole)
    assert len(ending.err.splitlines()) == 1, ending.err
    assert solved(place, whole)
    assert picture.stat().st_size > 2000
