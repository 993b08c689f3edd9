"""SIGINT, SIGTERM and SIGKILL at random moments of `solve --json`, `compare --csv` and `fit`.

Each command first runs undisturbed, which gives its answer and how long it lives; the moments are spread
over all of that, at random. After each signal the rules of tests/faults/rules.py are held: every file is
whole, new or old or absent; no process lives on after two seconds; the exit code is right; an answer claims
no more than the undisturbed one, and has a plan if one had been accepted before SIGINT or SIGTERM. Then the
command is run again where the signal left its cache and its output: it must end as the undisturbed one did,
with the same answer and the same cache, and nothing temporary may be left. Where a signal before left the
same, it is not run again.

Prints a line for each command and signal, one for each fault, and with --every one for each signal.

Takes about 40 minutes on two cores with the defaults.
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
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.faults.commands import OUTPUTS, REMAINS, Ending, Place, new_place, start
from tests.faults.rules import LEFT, Whole, faults, faults_again

SIGNALS = {"INT": signal.SIGINT, "TERM": signal.SIGTERM, "KILL": signal.SIGKILL}


@dataclass
class Trials:
    """A command that is disturbed again and again.

    Parameters
    ----------
    folder
        Where each trial gets a folder of its own.
    whole
        The undisturbed run.
    scenario
        A shipped one; empty: the small one.
    known
        What was wrong when it was run again, by what the signal had left.
    """

    folder: Path
    whole: Whole
    scenario: str
    known: dict[frozenset[tuple[str, bytes]], list[str]] = field(default_factory=dict)

    def disturbed(self, number: int, moment: float, name: str, old: bytes | None) -> tuple[str, list[str]]:
        """Send a signal at a moment in seconds; what became of the command, and what is wrong."""
        place = new_place(self.folder / name, old)
        begun = start(place, self.whole.command, scenario=self.scenario)
        time.sleep(max(0.0, begun.since + moment - time.monotonic()))
        sent = time.monotonic()
        os.kill(begun.process.pid, number)  # even if it has ended: it is not buried yet
        ending = begun.ended(sent)
        found = list(faults(self.whole, place, ending, number, sent - begun.since, old))
        state = _state(place)
        if state not in self.known:
            again = start(place, self.whole.command, scenario=self.scenario).ended()
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


def undisturbed(command: str, folder: Path, scenario: str) -> Whole:
    """The run that others are held against, after one that compiles what is not compiled yet."""
    for name in ("first", "whole"):
        place = new_place(folder / name)
        ending = start(place, command, scenario=scenario).ended()
    return Whole.of(command, place, ending)


def tried(trials: Trials, name: str, moments: Sequence[float], *, every: bool) -> int:
    """Send a signal at each moment, print what came of it; how many went wrong."""
    became, wrong, seconds = Counter[str](), 0, []
    for k, moment in enumerate(moments):
        begun = time.monotonic()
        old = b'{"an": "older answer"}\n' if k % 2 else None
        ended, found = trials.disturbed(SIGNALS[name], moment, f"{name}-{k}", old)
        seconds.append(time.monotonic() - begun)
        became[ended] += 1
        wrong += bool(found)
        if every or found:
            print(f"    {name:4} {moment:6.2f} s  {ended}  {'; '.join(found) or 'right'}", flush=True)
    told = ", ".join(f"{number} {what}" for what, number in became.most_common())
    print(
        f"{trials.whole.command:8} SIG{name:4} {len(moments) - wrong} of {len(moments)} right: {told}; "
        f"{median(seconds):.1f} s each",
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
        "--latest", type=float, help="latest moment, seconds (default: the end of the undisturbed run)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments (default: %(default)s)")
    parser.add_argument("--every", action="store_true", help="a line for each signal (default: for faults)")
    given = parser.parse_args(arguments)
    print(f"Python {platform.python_version()}, seed {given.seed}", flush=True)
    rng, wrong, total = np.random.default_rng(given.seed), 0, 0
    for command in given.commands.split(","):
        with tempfile.TemporaryDirectory() as name:
            whole = undisturbed(command, Path(name), given.scenario)
            print(f"{command:8} undisturbed {whole.ending.seconds:.1f} s", flush=True)
            trials = Trials(Path(name), whole, given.scenario)
            for sent in given.signals.split(","):
                moments = np.sort(rng.uniform(0.0, given.latest or whole.ending.seconds, given.each))
                wrong += tried(trials, sent, moments.tolist(), every=given.every)
                total += given.each
            print(f"{command:8} run again from {len(trials.known)} different states", flush=True)
    print(f"{total - wrong} of {total} right")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
