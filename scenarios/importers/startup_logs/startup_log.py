"""The log of a starting vLLM server: what memory it found, what it took, and whether it started.

A log says what an engine really did; no formula comes near. It is read line by line, so that one of any size
can be read, and of the arguments in it only those are kept that memory depends on.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from pydantic import Field

from scenarios.base import FrozenModel
from scenarios.errors import LorapackError, cause_of
from scenarios.importers.startup_logs.log_facts import StartFacts
from scenarios.importers.startup_logs.log_lines import lines_of, records
from scenarios.importers.startup_logs.log_wordings import LOOKED_FOR, START_MARKS, STARTS, Failure
from scenarios.text.display import visible


class StartupLogError(LorapackError, ValueError):
    """What was given is no log of a starting vLLM server, or cannot be read."""


class StartupLog(FrozenModel):
    """What a starting engine said; None is what it did not say.

    Memory is that of one GPU. Where workers differ, the least of what there is and the most of what is used.
    """

    engine_version: str | None = None
    """Release of vLLM."""
    v1: bool | None = None
    """Whether it is the V1 engine, rather than V0."""
    model: str | None = None
    """Name or folder of the model, without password or query."""
    arguments: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """The arguments that memory depends on, as given, as announced or as in the engine's configuration."""
    gpu_name: str | None = None
    """Name of the card, where it comes up."""
    gpu_total_gib: float | None = None
    """GiB of a GPU."""
    free_gib: float | None = None
    """GiB that are free before the model is loaded."""
    weights_gib: float | None = None
    """GiB of the loaded model, with the slots of adapters."""
    activation_gib: float | None = None
    """GiB of activations at their peak."""
    non_torch_gib: float | None = None
    """GiB that are taken outside torch."""
    graph_gib: float | None = None
    """GiB of the captured CUDA graphs."""
    graph_estimated_gib: float | None = None
    """GiB that CUDA graphs were expected to take."""
    kv_cache_gib: float | None = None
    """GiB left for keys and values; below zero where the rest takes more than there is."""
    kv_cache_tokens: int | None = None
    """Tokens of the KV cache; where only its blocks are told, theirs."""
    num_gpu_blocks: int | None = None
    """Blocks of the KV cache."""
    num_cpu_blocks: int | None = None
    """Blocks for sequences that are swapped out; V0 only."""
    max_concurrency: float | None = None
    """Sequences of `concurrency_tokens` that the KV cache holds at once."""
    concurrency_tokens: int | None = None
    """Tokens of a sequence for `max_concurrency`."""
    attention_backend: str | None = None
    """Attention backend, as it is called there."""
    compile_s: float | None = None
    """Seconds that compiling took."""
    load_s: float | None = None
    """Seconds that loading the model took."""
    failure: Failure | None = None
    """Why it did not start, where it is for want of memory."""
    failure_text: str | None = None
    """What it said about that, with its figures."""
    started: bool | None = None
    """Whether it came to serve; None: the log ends before that."""
    workers: int | None = None
    """Processes that told of memory, each of its own GPU."""
    where: dict[str, int] = Field(default_factory=dict)
    """Line of each fact and argument, counted from 1."""


def read_startup_log(path: str | os.PathLike[str]) -> StartupLog:
    """Read the log of a starting vLLM server (0.4 to 0.32), as text or packed by gzip.

    Of several starts in one log, the last counts.

    Raises
    ------
    StartupLogError
        If it cannot be read, or says nothing of what an engine says when it starts.
    """
    file = Path(path)
    try:
        mode = file.stat().st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode)):
            raise _refused(str(path), "is a folder or a device", "name a file that holds the server's output")
        return parse_startup_log(lines_of(file), str(path))
    except (OSError, ValueError) as error:
        if isinstance(error, StartupLogError):
            raise
        raise _refused(
            str(path), f"cannot be read: {cause_of(error)}", "check its name and permissions"
        ) from error


def parse_startup_log(lines: Iterable[str], source: str = "log") -> StartupLog:
    """Return what the lines of a log say of a starting vLLM server; of several starts, the last counts.

    Parameters
    ----------
    lines
        The lines, in whatever a terminal, a container or a collector of logs has wrapped them.
    source
        What a message calls the log.

    Raises
    ------
    StartupLogError
        If they say nothing of what an engine says when it starts.
    """
    start, read = StartFacts(), 0

    def wanted(line: str) -> bool:
        nonlocal read
        read += 1
        return not start.serves or any(mark in line for mark in START_MARKS)

    for record in records(lines, wanted):
        if start.is_over and record.headed and STARTS.match(record.text):
            start = StartFacts()
        start.hear(record)
    if not start.is_known:
        what = f"says nothing of a starting vLLM server in {read:,} lines" if read else "is empty"
        raise _refused(
            source, what, f"give the server's output from its start on, with lines such as {LOOKED_FOR}"
        )
    return StartupLog(**start.told())


def _refused(source: str, message: str, remedy: str) -> StartupLogError:
    return StartupLogError(visible(f"{source}: {message}; {remedy}"))
