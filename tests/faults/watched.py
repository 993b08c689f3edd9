"""The command as it is, in a process that notes when a plan is accepted, and that may signal itself.

    python -c 'from tests.faults.watched import main; main()' LOG MOMENT ARGUMENT...

LOG is a file to which moments are added. MOMENT is ``-``, or ``NAME:NUMBER:SIGNAL``: the signal is sent when
what `MOMENTS` names has happened so many times. So a test chooses a moment by what the command is at, not by
seconds, and it is the same on every machine.
"""

from __future__ import annotations

import importlib.machinery
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import wraps
from importlib.abc import Loader, MetaPathFinder
from types import ModuleType
from typing import Any, NamedTuple

ACCEPTED = "accepted"
"""The moment that is always noted, with the time: the twin has accepted every GPU of a plan."""


class Moment(NamedTuple):
    """What can be waited for.

    Parameters
    ----------
    module, name
        The function or method that is called.
    before
        Whether it is the moment before the call, rather than after it.
    counts
        Whether a call counts, by its arguments and what it returned.
    """

    module: str
    name: str
    before: bool = False
    counts: Callable[[tuple[Any, ...], Any], bool] = lambda _, __: True


MOMENTS = {
    # Some runs of the twin are there, workers are at the next ones.
    "sampled": Moment(
        "scenarios.stopping.deadline", "Deadline.check", counts=lambda given, _: "sampled" in str(given[-1])
    ),
    # A round of runs, or the regions, have their place in the cache.
    "kept": Moment("learn.storage.rounds", "Rounds.keep"),
    ACCEPTED: Moment(
        "optimizer.search.cut_loop",
        "CutLoop.judged",
        counts=lambda _, plan: type(plan).__name__ == "AcceptedPlan",
    ),
    # A file is written in full under its temporary name.
    "written": Moment("scenarios.output.writing", "_rename", before=True),
}

FEW = {"compositions": 12, "round_size": 4, "max_runs": 4, "width": 1.3, "spread": 0, "seed": 1}
"""How much is sampled for regions that are not shipped: seconds of work, where the default takes minutes."""


def main() -> None:
    """Run the command."""
    watch(*sys.argv[1:])
    from optimizer.cli import main as command

    command()


def watch(log: str, moment: str, *arguments: str) -> None:
    """Watch what is imported from now on, and what has been; the arguments become those of the command."""
    sys.argv = ["lorapack", *arguments]
    watching = _Watch(log, moment)
    for module in list(sys.modules.values()):
        watching.prepare(module)
    sys.meta_path.insert(0, watching)


REGIONS = "learn.region_store"
_WATCHED = {REGIONS, *(one.module for one in MOMENTS.values())}


class _Watch(MetaPathFinder):
    """Wraps what is watched as soon as its module is there: nothing is imported earlier than it would be."""

    def __init__(self, log: str, moment: str) -> None:
        self.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        name, number, sent = moment.split(":") if moment != "-" else ("", "0", "SIGTERM")
        self.awaited, self.left, self.signal = name, int(number), signal.Signals[sent]

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module as it is found without this, with another loader if something in it is watched."""
        if fullname not in _WATCHED:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        assert spec is not None
        assert spec.loader is not None
        spec.loader = _Watched(spec.loader, self.prepare)
        return spec

    def prepare(self, module: ModuleType) -> None:
        """Wrap what is watched in a module."""
        for name, one in MOMENTS.items():
            if one.module == module.__name__ and name in (ACCEPTED, self.awaited):
                self._wrap(module, name, one)
        if module.__name__ == REGIONS:
            module.PLANS["paper"] = module.SamplingPlan(**FEW)  # type: ignore[attr-defined]

    def _wrap(self, module: ModuleType, name: str, one: Moment) -> None:
        *owners, last = one.name.split(".")
        owner: Any = module
        for part in owners:
            owner = getattr(owner, part)
        real = getattr(owner, last)

        @wraps(real)
        def noted(*given: Any, **named: Any) -> Any:
            if one.before and one.counts(given, None):
                self._happened(name)
            found = real(*given, **named)
            if not one.before and one.counts(given, found):
                self._happened(name)
            return found

        setattr(owner, last, noted)

    def _happened(self, name: str) -> None:
        if name == ACCEPTED:
            os.write(self.log, f"{time.monotonic()}\n".encode())
        if name == self.awaited:
            self.left -= 1
            if self.left == 0:
                os.kill(os.getpid(), self.signal)


class _Watched(Loader):
    """Loads a module, and then prepares it."""

    def __init__(self, real: Loader, prepare: Callable[[ModuleType], None]) -> None:
        self.real, self.prepare = real, prepare

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """The empty module."""
        return self.real.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run its source."""
        self.real.exec_module(module)
        self.prepare(module)
