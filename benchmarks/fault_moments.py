"""SIGINT, SIGTERM and SIGKILL at random moments of `solve --json`, `compare --csv` and `fit`.

Each command first runs undisturbed, which gives its answer and how many seconds of a processor it takes; the
moments are spread over all of these, at random, so that they do not depend on what else the machine does.
After each signal the rules of tests/faults/rules.py are held: every file is
whole, new or old or absent; no process lives on after two seconds; the exit code is right; an answer claims
no more than the undisturbed one, and has a plan if one had been accepted before SIGINT or SIGTERM. Then the
command is run again where the signal left its cache and its output: it must end as the undisturbed one did,
with the same answer and the same cache, and nothing temporary may be left. Where a signal before left the
same, it is not run again.

Prints a line for each command and signal, one for each fault, and with --every one for each signal.

Takes about 30 minutes on two cores with the defaults.
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.faults.commands import (
    OUTPUTS,
    REMAINS,
    Asked,
    Begun,
    Ending,
    Place,
    Started,
    begin_anew,
    new_place,
    start,
)
from tests.faults.forks import Forks
from tests.faults.rules import LEFT, Whole, faults, faults_again

SIGNALS = {"INT": signal.SIGINT, "TERM": signal.SIGTERM, "KILL": signal.SIGKILL}


class Options(NamedTuple):
    """How commands are started: on which scenario, with how many workers, and by what."""

    scenario: str
    workers: int
    begin: Callable[[Asked], Begun]

    def start(self, place: Place, command: str) -> Started:
        """Start one."""
        workers = ("--workers", str(self.workers))
        return start(place, command, *workers, scenario=self.scenario, begin=self.begin)


@dataclass
class Trials:
    """A command that is disturbed again and again.

    Parameters
    ----------
    folder
        Where each trial gets a folder of its own.
    whole
        The undisturbed run.
    options
        Arguments of `tests.faults.commands.start`.
    known
        What was wrong when it was run again, by what the signal had left.
    """

    folder: Path
    whole: Whole
    options: Options
    known: dict[frozenset[tuple[str, bytes]], list[str]] = field(default_factory=dict)

    def disturbed(self, number: int, moment: float, name: str, old: bytes | None) -> tuple[str, list[str]]:
        """Send a signal after so many seconds of a processor; what became of it, and what is wrong."""
        place = new_place(self.folder / name, old)
        begun = self.options.start(place, self.whole.command)
        begun.worked(moment)
        sent = time.monotonic()
        with suppress(ProcessLookupError):  # it has ended
            os.kill(begun.process.pid, number)
        ending = begun.ended(sent)
        found = list(faults(self.whole, place, ending, number, sent - begun.since, old))
        state = _state(place)
        if state not in self.known:
            again = self.options.start(place, self.whole.command).ended()
            self.known[state] = list(faults_again(self.whole, place, again))
        temporary = any(REMAINS in path for path, _ in state)
        became = _became(ending) + (" with a temporary file left" if temporary else "")
        return became, found + self.known[state]


def _state(place: Place) -> frozenset[tuple[str, bytes]]:
    """What there is for who comes next: it overwrites an output, and removes temporary files, unread."""
    target, found = str(place.target.relative_to(place.folder)), set[tuple[str, bytes]]()
    for path, content in place.content().items():
        known, temporary, _ = path.partition(REMAINS)
        found.add((known + temporary, b"" if temporary or path == target else content))
    return frozenset(found)


def _became(ending: Ending) -> str:
    """In words how a command ended."""
    if ending.code < 0:
        return "killed"
    if ending.err == LEFT:
        return "left at once"
    return {0: "an answer", 4: "no plan yet"}.get(ending.code, f"exit code {ending.code}")


def undisturbed(command: str, folder: Path, options: Options) -> tuple[Whole, float]:
    """The run that others are held against, after one that compiles, and its seconds of a processor."""
    for name in ("first", "whole"):
        place = new_place(folder / name)
        begun = options.start(place, command)
        used = begun.worked()
        ending = begun.ended()
    return Whole.of(command, place, ending), used


def tried(trials: Trials, name: str, moments: Sequence[float], *, every: bool) -> int:
    """Send a signal at each moment, print what came of it; how many went wrong."""
    became, wrong = Counter[str](), 0
    for k, moment in enumerate(moments):
        old = b'{"an": "older answer"}\n' if k % 2 else None
        ended, found = trials.disturbed(SIGNALS[name], moment, f"{name}-{k}", old)
        became[ended] += 1
        wrong += bool(found)
        if every or found:
            print(f"    {name:4} {moment:6.2f} s  {ended}  {'; '.join(found) or 'right'}", flush=True)
    told = ", ".join(f"{number} {what}" for what, number in became.most_common())
    print(
        f"{trials.whole.command:8} SIG{name:4} {len(moments) - wrong} of {len(moments)} right: {told}",
        flush=True,
    )
    return wrong


def main(arguments: Sequence[str] | None = None) -> int:
    """Try them; 1 if anything was wrong."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--each", type=int, default=30, help="moments of each signal (default: %(default)s)")
    parser.add_argument("--commands", default=",".join(OUTPUTS), help="which ones (default: %(default)s)")
    parser.add_argument("--signals", default=",".join(SIGNALS), help="which ones (default: %(default)s)")
    parser.add_argument(
        "--scenario", default="", help="a shipped one (default: a small one, of which little is sampled)"
    )
    parser.add_argument(
        "--latest",
        type=float,
        help="latest moment, seconds of a processor (default: the end of the undisturbed run)",
    )
    parser.add_argument("--workers", type=int, default=2, help="of each command (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument(
        "--loaded",
        action="store_true",
        help="begin each command in a copy of a process that has loaded everything, which saves two seconds "
        "of a processor for each (default: anew, so that its start is disturbed too)",
    )
    parser.add_argument("--every", action="store_true", help="a line for each signal (default: for faults)")
    given = parser.parse_args(arguments)
    how = "loaded" if given.loaded else "begun anew"
    print(
        f"Python {platform.python_version()}, seed {given.seed}, {given.workers} workers, {how}", flush=True
    )
    options = Options(given.scenario, given.workers, Forks() if given.loaded else begin_anew)
    rng, wrong, total = np.random.default_rng(given.seed), 0, 0
    for command in given.commands.split(","):
        with tempfile.TemporaryDirectory() as name:
            whole, used = undisturbed(command, Path(name), options)
            print(f"{command:8} undisturbed: {used:.2f} s of a processor", flush=True)
            trials = Trials(Path(name), whole, options)
            for sent in given.signals.split(","):
                moments = np.sort(rng.uniform(0.0, given.latest or used, given.each))
                wrong += tried(trials, sent, moments.tolist(), every=given.every)
                total += given.each
            print(f"{command:8} run again from {len(trials.known)} different states", flush=True)
    print(f"{total - wrong} of {total} right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
