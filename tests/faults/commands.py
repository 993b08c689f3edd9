"""Commands that are disturbed: in a place of their own, on a small scenario that must first be learned."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import psutil

import scenarios

ROOT = Path(__file__).resolve().parents[2]

SMALL = {
    "name": "small_fleet",
    "model": "llama-3.1-8b-instruct",
    "adapters": [
        {"name": "a", "count": 40, "rank": [8, 16], "rate": [0.5, 0.2]},
        {"name": "b", "count": 8, "rank": 16, "rate": 1.5},
    ],
    "workload": {
        "prompt": {"distribution": "fixed", "tokens": 200},
        "output": {"distribution": "fixed", "tokens": 150},
        "duration_s": 300,
    },
    "devices": [{"name": "H100-64GB", "count": 8}],
    "engine": {"max_num_seqs": 512, "max_num_batched_tokens": 2048, "slots": [8, 64], "max_lora_rank": 16},
    "acceptance": "paper",
    "replications": 1,
}
"""No region of it is shipped."""

OUTPUTS = {"solve": "--json", "compare": "--csv", "fit": "--out"}
"""The commands, and the option of each that names its output."""

REMAINS = ".lorapack-"
"""How the names of temporary files begin that are to become others."""

LONGEST_S = 300.0
"""Seconds after which a command counts as hanging."""


@dataclass(frozen=True)
class Place:
    """Where a command runs: its scenario, its cache, its output, and room for temporary files.

    Parameters
    ----------
    folder
        Holds all of it.
    """

    folder: Path

    @property
    def cache(self) -> Path:
        """Folder of the cache."""
        return self.folder / "cache"

    @property
    def target(self) -> Path:
        """The output; an older one may be there."""
        return self.folder / "out" / "answer"

    @property
    def temporary(self) -> Path:
        """What TMPDIR names."""
        return self.folder / "tmp"

    def content(self) -> dict[str, bytes]:
        """Every file that there is in cache, output and temporary folder, by its path."""
        rooms = (self.cache, self.target.parent, self.temporary)
        files = [path for room in rooms for path in sorted(room.rglob("*")) if path.is_file()]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files}

    def environment(self) -> dict[str, str]:
        """Variables of the command."""
        return {
            **{name: value for name, value in os.environ.items() if name != "XDG_CACHE_HOME"},
            "HOME": str(self.folder),
            "COLUMNS": "100",
            "LORAPACK_CACHE": str(self.cache),
            "TMPDIR": str(self.temporary),
            "PYTHONPATH": str(ROOT),
        }


def new_place(folder: Path, old: bytes | None = None) -> Place:
    """An empty place; with ``old`` an older output is there."""
    place = Place(folder)
    for room in (place.cache, place.target.parent, place.temporary):
        room.mkdir(parents=True)
    if old is not None:
        place.target.write_bytes(old)
    scenarios.write(scenarios.from_mapping(SMALL), folder / "small.yaml")
    return place


class Ending(NamedTuple):
    """How a command ended.

    Parameters
    ----------
    code
        As of `subprocess`: negative where a signal ended it.
    out, err
        What it said.
    seconds
        From its start.
    lasted_s
        From the signal.
    accepted
        Seconds from its start at which plans were accepted.
    living
        Processes of it that live on.
    """

    code: int
    out: str
    err: str
    seconds: float
    lasted_s: float = 0.0
    accepted: tuple[float, ...] = ()
    living: tuple[str, ...] = ()


class Asked(NamedTuple):
    """What is to be run.

    Parameters
    ----------
    arguments
        Of the command.
    moment
        When it signals itself (`tests.faults.watched`).
    environment
        Its variables.
    log, out, err
        Files for the moments that it notes, and for what it says.
    largest_file
        Bytes that a file of its may have; 0: any number.
    """

    arguments: tuple[str, ...]
    moment: str
    environment: dict[str, str]
    log: str
    out: str
    err: str
    largest_file: int = 0


class Begun(Protocol):
    """A process that runs a command, and leads its session."""

    @property
    def pid(self) -> int:
        """Its number."""

    def wait(self) -> int:
        """Its exit code, as soon as it has ended."""


def begin_anew(asked: Asked) -> Begun:
    """Run a command as a shell does."""
    with Path(asked.out).open("w") as out, Path(asked.err).open("w") as err:
        return subprocess.Popen(
            [
                *(sys.executable, "-c", "from tests.faults.watched import main; main()"),
                *(asked.log, asked.moment, *asked.arguments),
            ],
            cwd=ROOT,
            env=asked.environment,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=err,
            start_new_session=True,
            preexec_fn=_with_signals,
        )


def _with_signals() -> None:
    """Handle SIGINT as a program does that somebody started, though a shell in the background ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class Started:
    """A command that runs.

    Parameters
    ----------
    process
        The first of its processes.
    asked
        What it was asked.
    since
        When it was started, as `time.monotonic`.
    """

    process: Begun
    asked: Asked
    since: float

    def worked(self, until_s: float = math.inf) -> float:
        """Wait until its processes have used so many seconds of a processor, or it has ended; the seconds.

        They do not depend on what else a machine has to do.
        """
        used = 0.0
        with contextlib.suppress(psutil.NoSuchProcess):
            process = psutil.Process(self.process.pid)
            while used < until_s and process.status() != psutil.STATUS_ZOMBIE:
                used = max(used, _processor_s(process))
                time.sleep(0.005)
        return used

    def ended(self, sent: float | None = None, patience_s: float = 2.0) -> Ending:
        """Wait for its end, and ``patience_s`` more for that of its other processes."""
        over = threading.Timer(LONGEST_S, lambda: os.kill(self.process.pid, signal.SIGKILL))
        over.start()
        try:
            code = self.process.wait()
        finally:
            over.cancel()
        end = time.monotonic()
        living = tuple(_living(self.process.pid, patience_s))
        log, out, err = (Path(path) for path in (self.asked.log, self.asked.out, self.asked.err))
        noted = log.read_text(encoding="utf-8").split() if log.exists() else []
        return Ending(
            code,
            out.read_text(encoding="utf-8"),
            err.read_text(encoding="utf-8"),
            end - self.since,
            end - (sent or end),
            tuple(float(one) - self.since for one in noted),
            living,
        )


def _processor_s(process: psutil.Process) -> float:
    """Seconds of a processor that a process and those below it have used."""
    used = sum(process.cpu_times()[:4])
    for one in process.children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            used += sum(one.cpu_times()[:4])
    return float(used)


def _living(leader: int, patience_s: float) -> list[str]:
    """Processes of a session after some time; they are ended then."""
    end = time.monotonic() + patience_s
    while (left := list(_session(leader))) and time.monotonic() < end:
        time.sleep(0.05)
    named = []
    for one in left:
        with contextlib.suppress(psutil.Error):
            named.append(" ".join(one.cmdline())[-80:])
            one.kill()
    return named


def _session(leader: int) -> Iterator[psutil.Process]:
    """What runs of a session; a process that only waits to be buried does not."""
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if os.getsid(process.pid) == leader and process.status() != psutil.STATUS_ZOMBIE:
                yield process


def start(
    place: Place,
    command: str,
    *more: str,
    moment: str = "-",
    scenario: str = "",
    begin: Callable[[Asked], Begun] = begin_anew,
    largest_file: int = 0,
    **variables: str,
) -> Started:
    """Start a command.

    Parameters
    ----------
    place
        Where.
    command
        Of `OUTPUTS`.
    more
        Further arguments.
    moment, largest_file
        As of `Asked`.
    scenario
        A shipped one in place of the small one.
    begin
        How it is begun.
    variables
        Of its environment, beside those of the place.
    """
    run = place.folder / f"run-{time.monotonic_ns()}"
    chosen = scenario or str(place.folder / "small.yaml")
    asked = Asked(
        (command, chosen, OUTPUTS[command], str(place.target), "--quiet", *more),
        moment,
        place.environment() | variables,
        *(f"{run}.{ending}" for ending in ("log", "out", "err")),
        largest_file,
    )
    since = time.monotonic()
    return Started(begin(asked), asked, since)


def answer_of(command: str, content: bytes) -> Any:
    """What a whole output says, but for how long things took; raises `ValueError` if it is not whole."""
    text = content.decode()
    if not text.endswith("\n"):
        raise ValueError("its last line has no end")
    if command == "compare":
        rows = list(csv.DictReader(io.StringIO(text), strict=True))
        return [{k: v for k, v in row.items() if "seconds" not in str(k)} for row in rows]
    return _without_seconds(json.loads(text))


def _without_seconds(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_seconds(v) for k, v in value.items() if "seconds" not in k}
    if isinstance(value, list):
        return [_without_seconds(one) for one in value]
    return value
