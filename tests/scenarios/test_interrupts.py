"""Signals that only set a flag, and the deadlines that see it."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import threading
import time
from types import SimpleNamespace

import pytest

from scenarios import UNLIMITED, Deadline, Stopped, interrupted, noticed
from scenarios.stopping import deadline
from scenarios.stopping.interrupts import request, unbroken


@pytest.fixture(autouse=True)
def _ctrl_c_raises() -> object:
    """Python's own handler, which a test runner in the background does not have."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def press(times: int = 1) -> None:
    for _ in range(times):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.01)


def test_within_a_block_ctrl_c_is_a_flag() -> None:
    with noticed():
        assert not interrupted()
        press()
        assert interrupted()
        assert Deadline.after(60).reached
        assert UNLIMITED.left_s == 0
    assert not interrupted()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_the_flag_lasts_until_the_outermost_block_ends() -> None:
    with noticed():
        with noticed():
            press()
        assert interrupted()
    assert not interrupted()


def test_who_presses_again_and_again_is_heard_at_once() -> None:
    with pytest.raises(KeyboardInterrupt), noticed():
        press(3)
    assert not interrupted()


def test_a_program_that_handles_signals_itself_keeps_its_handler() -> None:
    told = []
    signal.signal(signal.SIGINT, lambda *_: told.append(1))
    with noticed():
        press()
        assert not interrupted()
    assert told == [1]


def test_a_block_in_another_thread_leaves_signals_alone() -> None:
    seen = []

    def work() -> None:
        with noticed():
            seen.append(signal.getsignal(signal.SIGINT) is signal.default_int_handler)
            request()
            seen.append(interrupted())

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [True, True]
    assert not interrupted()


def test_what_is_unbroken_is_finished_before_the_signal_acts() -> None:
    done = []

    def work() -> None:
        with unbroken():
            press()
            done.append(1)

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == [1]
    with noticed():  # within other work that notices, the flag is left to it
        with unbroken():
            press()
        assert interrupted()


def test_a_part_of_a_limit_ends_by_what_is_counted_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: now[0]))
    whole = Deadline.after(60)
    part = whole.part(5)
    now[0] += 30
    assert (part.left_s, whole.left_s, whole.clock_s) == (5, 60, 30)
    whole.work.add(4)
    assert not part.reached
    part.work.add(2)
    assert part.reached
    assert (part.left_s, whole.left_s) == (0, 54)
    assert not whole.reached
    assert part.no_sooner(1).left_s == 1
    now[0] += 31  # the clock ends the whole limit, and with it all parts
    assert whole.reached
    assert (whole.part(5).left_s, whole.clock_s) == (0, 0)


def test_a_limit_is_one_of_counted_work_too() -> None:
    whole = Deadline.after(60)
    whole.work.add(60)
    assert whole.reached
    assert whole.left_s == 0
    assert whole.clock_s > 59
    assert Deadline.after(60).left_s == 60  # another limit counts for itself


def test_a_deadline_is_the_sooner_end() -> None:
    assert UNLIMITED.left_s == math.inf
    assert not UNLIMITED.reached
    assert Deadline.after(5).within(60).left_s <= 5
    assert Deadline.after(60).within(5).left_s <= 5
    assert Deadline.after(-1).reached
    assert Deadline.after(-1).no_sooner(60).left_s > 59
    with pytest.raises(Stopped, match=r"^the time limit was reached while testing$"):
        Deadline.after(-1).check("testing")
    with noticed():
        request()
        with pytest.raises(Stopped, match=r"^interrupted while testing$"):
            UNLIMITED.check("testing")


TAKEN_OVER = """
import os, signal, sys, time
from scenarios import noticed, interrupted
from scenarios.stopping import deadline
from scenarios.stopping.interrupts import ignore_signals, take_over
take_over(lambda: os._exit(4))
number = getattr(signal, sys.argv[1])
with noticed():
    os.kill(os.getpid(), number)
    time.sleep(0.01)
    print(interrupted(), flush=True)
if sys.argv[2] == "ignored":
    ignore_signals()
os.kill(os.getpid(), number)
time.sleep(0.01)
print("went on")
"""


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize(("after", "code", "last"), [("left", 4, "True"), ("ignored", 0, "went on")])
def test_a_command_that_took_signals_over_is_left_at_once(
    name: str, after: str, code: int, last: str
) -> None:
    done = subprocess.run([sys.executable, "-c", TAKEN_OVER, name, after], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (code, "")
    assert done.stdout.splitlines()[0] == "True"
    assert done.stdout.splitlines()[-1] == last
