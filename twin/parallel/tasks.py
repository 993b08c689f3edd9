"""What is sent to a worker of a cluster, and what comes back of it."""

from __future__ import annotations

import hashlib
import platform
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from scenarios import LorapackError

PACKAGES = ("numpy", "numba", "scipy")
"""What the twin computes with: other versions may draw other requests, or round otherwise."""

SOURCES = ("scenarios", "twin", "learn")
"""Packages of ours that run on a worker."""

VERSION_DIGITS = 12
"""Of the digest that stands for our sources."""


class ClusterError(LorapackError, RuntimeError):
    """A cluster cannot do the work, or was lost in the middle of it."""


class Outcome(NamedTuple):
    """What became of a task: its value, or what it raised. Whatever else is raised is the cluster's."""

    value: Any = None
    error: BaseException | None = None


@dataclass(frozen=True)
class Task:
    """Work for a worker that runs what is run here.

    Parameters
    ----------
    work
        A function of nothing.
    versions
        `versions_here` of who sends it.
    """

    work: Callable[[], Any]
    versions: tuple[tuple[str, str], ...]

    def __call__(self) -> Outcome:
        """Do it; a worker of other versions refuses, as its answer might differ."""
        if differing := _differing(self.versions):
            return Outcome(error=ClusterError(differing))
        try:
            return Outcome(self.work())
        except Exception as error:
            error.add_note(f"On the worker {platform.node()}:\n{traceback.format_exc()}")
            return Outcome(error=error)


@cache
def versions_here() -> tuple[tuple[str, str], ...]:
    """Names and versions of all that an answer depends on; of ours the digest of the sources."""
    packages = tuple((name, version(name)) for name in PACKAGES)
    return ("lorapack", _sources()), ("Python", platform.python_version()), *packages


def _sources() -> str:
    """Digest of the Python files of the packages that run on workers."""
    root, digest = Path(__file__).parents[2], hashlib.sha256()
    for file in sorted(file for package in SOURCES for file in (root / package).rglob("*.py")):
        digest.update(str(file.relative_to(root)).encode() + file.read_bytes())
    return f"sources {digest.hexdigest()[:VERSION_DIGITS]}"


def _differing(theirs: tuple[tuple[str, str], ...]) -> str:
    """What differs between the versions of a sender and those here, in words; empty: nothing."""
    here = dict(versions_here())
    wrong = [f"{name} {here[name]}, not {asked}" for name, asked in theirs if here[name] != asked]
    if not wrong:
        return ""
    return f"the worker {platform.node()} has {', '.join(wrong)}; install there what is installed here"
