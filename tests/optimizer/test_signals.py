"""SIGINT and SIGTERM to the command, from its first moment to its last.

Moments that are chosen by what a command is at: `tests/test_faults.py`.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.faults.rules import LEFT, STARTING

pytestmark = [pytest.mark.skipif(os.name == "nt", reason="signals of POSIX"), pytest.mark.slow]

COMMAND = (sys.executable, "-c", "from optimizer.cli import main; main()")

SCENARIO = "paper_high_384_qwen"
"""Takes half a minute and 16 rounds; the fewest GPUs of the inner region are 11, the outer bound is 10."""

FEWEST, OUTER = 11, 10
PAPER = ("--acceptance", "paper")

MOMENTS = (0.1, 0.4, 0.9, 2.2, 6.5)
"""Seconds after the start: imports, compiling or loading, regions, first plans, bounds, cuts."""


def started(*arguments: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )


def signalled(
    process: subprocess.Popen[str], number: int, after_s: float, *, group: bool = False
) -> tuple[str, str, list[psutil.Process]]:
    """Output, errors, and the processes there were, of a command that got a signal."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(after_s)
    children = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
    (os.killpg if group else os.kill)(process.pid, number)
    out, err = process.communicate(timeout=60)
    return out, err, children


def are_gone(children: list[psutil.Process], within_s: float = 10.0) -> bool:
    """Whether the processes end; a busy machine may take its time over what takes half a second."""
    return not psutil.wait_procs(children, timeout=within_s)[1]


@pytest.mark.parametrize("after_s", MOMENTS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_is_a_limit(number: int, after_s: float, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    out, err, children = signalled(
        process := started("solve", SCENARIO, *PAPER, "--quiet", "--json", str(file)), number, after_s
    )
    assert are_gone(children)
    if process.returncode == -number or STARTING.fullmatch(err):  # a busy machine has not begun by then
        assert (after_s < 1, out, file.exists()) == (True, "", False)
        return
    assert err in ("", LEFT)
    if err:  # before the work began
        assert (process.returncode, out, file.exists()) == (4, "", False)
        return
    result = json.loads(file.read_text(encoding="utf-8"))
    assert process.returncode == (0 if result["gpus"] else 4)
    assert result["stop_reason"] in ("interrupted", "proven")  # a fast machine may be through
    if result["stop_reason"] == "interrupted":
        assert result["status"] == ("feasible" if result["gpus"] else "no_plan")
        assert "interrupted" in result["message"]
        assert result["bound"] is None or result["bound"] <= OUTER
    if result["gpus"]:
        assert result["gpus"] >= FEWEST
        assert result["validation"]["accepted"]
        assert f"{result['gpus']} GPUs for 384 adapters" in out


@pytest.fixture(scope="module")
def compiled() -> None:
    """The search on disk; else the first workers are those that compile it."""
    quick = ("solve", "paper_mixed_32", *PAPER, "--objective", "gpus", "--quiet")
    subprocess.run([*COMMAND, *quick], check=True, capture_output=True)


LEARNING = ("solve", "mixed_ranks", *PAPER, "--set", "workload.duration_s=1500", "--quiet")


@pytest.mark.usefixtures("compiled")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
def test_a_signal_while_regions_are_learned(number: int, tmp_path: Path) -> None:
    """To the command and to its workers, as a terminal sends it."""
    process = started(*LEARNING, env={"LORAPACK_CACHE": str(tmp_path)})
    wait_for_workers(process)
    out, err, children = signalled(process, number, 1.0, group=True)
    assert (process.returncode, err) == (4, "")
    assert "interrupted while the twin was sampled; there is no plan yet" in re.sub(r"\s+", " ", out)
    assert len(children) > 2
    assert are_gone(children)


def test_workers_end_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    process = started(*LEARNING, env={"LORAPACK_CACHE": str(tmp_path)})
    wait_for_workers(process)
    _, err, children = signalled(process, signal.SIGKILL, 1.0)
    assert err == ""
    assert len(children) > 2
    assert are_gone(children)
    left = [path for path in Path("/dev/shm").iterdir() if f"-{process.pid}-" in path.name]
    assert left == []


def wait_for_workers(process: subprocess.Popen[str]) -> None:
    """Two workers and loky's tracker."""
    for _ in range(600):
        if len(psutil.Process(process.pid).children(recursive=True)) > 2:
            return
        assert process.poll() is None
        time.sleep(0.1)
    raise AssertionError("no worker was started in a minute")


def test_a_signal_while_nobody_reads_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    quick = ("--set", "replications=1", "--objective", "gpus", "--quiet")
    process = started("solve", "paper_mixed_32", *quick, "--json", str(pipe))
    assert process.stdout is not None
    while "GPU " not in process.stdout.readline():  # the answer is told first
        assert process.poll() is None
    _, err, _ = signalled(process, signal.SIGTERM, 1.0)
    assert process.returncode == 2
    assert err == f"lorapack: {pipe} cannot be written (nobody reads the pipe); start what reads it\n"
