"""Processes that a benchmark starts: they write to a log, are waited for, and always end.

Only the standard library is imported: vLLM's workers may import this, in an environment of their own.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal

HOST = "127.0.0.1"

STOP_S = 30
"""Seconds that a process gets to end by itself."""

ASK_S = 0.5
"""Seconds between two questions to a server that is to serve."""

LOOK_S = 0.02
"""Seconds between two looks at processes that are to end."""

Process = subprocess.Popen[bytes]

Outcome = Literal["serves", "fails", "hangs"]


@contextlib.contextmanager
def running(
    words: Sequence[str | Path],
    log: Path,
    environment: Mapping[str, str],
    folder: Path | None = None,
    core: int | None = None,
) -> Iterator[Process]:
    """Run a command in a process group of its own, and end it whole on the way out.

    Parameters
    ----------
    words
        The command line.
    log
        File that gets what it prints.
    environment
        All of its environment variables.
    folder
        Where it runs; absent: here.
    core
        The core of this machine on which it runs, with all its processes; absent: on any.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        process = subprocess.Popen(
            list(map(str, words)),
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            cwd=folder,
            start_new_session=True,
            preexec_fn=None if core is None else lambda: os.sched_setaffinity(0, {core}),
        )
        try:
            yield process
        finally:
            stop(process)


def stop(process: Process) -> None:
    """End a process, and what it started, which is in its group."""
    process.terminate()
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(STOP_S)
    end = time.monotonic() + STOP_S
    with contextlib.suppress(ProcessLookupError):  # when none of the group is left
        while time.monotonic() < end:
            os.killpg(process.pid, signal.SIGKILL)
            process.poll()
            time.sleep(LOOK_S)


def wait(process: Process, url: str, limit_s: float) -> Outcome:
    """Wait until ``url`` answers, the process ends, or so many seconds are over."""
    end = time.monotonic() + limit_s
    while time.monotonic() < end:
        if process.poll() is not None:
            return "fails"
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            time.sleep(ASK_S)
        else:
            return "serves"
    return "hangs"


def is_taken(port: int) -> bool:
    """Whether something listens on a port of this host."""
    with socket.socket() as probe:
        return probe.connect_ex((HOST, port)) == 0


def free_ports(n: int) -> tuple[int, ...]:
    """The first of so many ports that follow each other and are free, and the others."""
    for first in range(18_800, 32_000, n):  # below those that systems hand out by themselves
        ports = tuple(range(first, first + n))
        if not any(map(is_taken, ports)):
            return ports
    raise OSError(f"no {n} ports in a row are free on {HOST} from 18,800 to 32,000; end what holds them")


def free_run_of_ports(engines: int) -> tuple[int, int]:
    """The first of ports in a row for engines, and one for a router, none of which is taken now."""
    (first,) = free_ports(1)
    while any(is_taken(first + k) for k in range(2 * engines + 1)):
        (first,) = free_ports(1)
    return first, first + 2 * engines


def end_on_signals() -> None:
    """Let SIGINT and SIGTERM end this program through its ``finally`` clauses, which end what it started."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: sys.exit(128 + number))
