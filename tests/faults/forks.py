"""A process that has everything imported and compiled, and becomes the command in copies of itself.

A command takes two seconds of a processor before it begins; a copy takes none. Moments before that are those
of `tests/optimizer/test_signals.py` and of the benchmark, which start every command anew.
"""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from typing import Any, NoReturn

from tests.faults.commands import ROOT, Asked, Begun

SERVE = "from tests.faults.forks import serve; serve()"


class Forks:
    """Such a process; one command at a time."""

    def __init__(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE],
            cwd=ROOT,
            # A copy has no threads but the one that copies.
            env={**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def __call__(self, asked: Asked) -> Begun:
        """Begin a command."""
        return _Forked(self, int(self.said(json.dumps(asked._asdict()))))

    def said(self, line: str = "") -> str:
        """The next line that the process says, after it was told one."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        if line:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
        return self.process.stdout.readline()

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()


@dataclass(frozen=True)
class _Forked:
    """A copy that runs."""

    forks: Forks
    pid: int

    def wait(self) -> int:
        """Its exit code, negative where a signal ended it."""
        return int(self.forks.said())


def serve() -> None:
    """Become what each line asks for, in a copy; say its number, and later its exit code."""
    _prepare()
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(Asked(**json.loads(line)))
        print(pid, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


def _prepare() -> None:
    """Load what the commands load: modules, shipped regions, compiled loops."""
    import learn
    import optimizer.cli.commands
    import scenarios
    import twin
    from learn.region_store import shipped_regions
    from optimizer.packing.warm_up import KERNEL_GROUPS
    from optimizer.search.compilation import compile_loops
    from scenarios import UNLIMITED
    from scenarios.stopping.progress import silent

    assert optimizer.solve
    assert optimizer.compare
    assert learn.make_regions
    shipped_regions()
    profiles = twin.profiles_of(scenarios.read("mixed_ranks"))
    compile_loops(next(iter(profiles.values())), KERNEL_GROUPS, 1, UNLIMITED, silent)


def _become(asked: Asked) -> NoReturn:
    """Run the command in this process, in a session of its own."""
    os.setsid()
    os.environ.clear()
    os.environ.update(asked.environment)
    tempfile.tempdir = None
    streams: list[tuple[Any, int, int]] = [
        (os.devnull, os.O_RDONLY, 0),
        (asked.out, os.O_WRONLY | os.O_CREAT, 1),
        (asked.err, os.O_WRONLY | os.O_CREAT, 2),
    ]
    for path, flags, number in streams:
        os.dup2(os.open(path, flags), number)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if asked.largest_file:
        resource.setrlimit(resource.RLIMIT_FSIZE, (asked.largest_file,) * 2)
    from tests.faults.watched import watch

    watch(asked.log, asked.moment, *asked.arguments)
    from optimizer.cli import main

    main()
