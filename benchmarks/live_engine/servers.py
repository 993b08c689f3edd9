"""A vLLM server that a benchmark starts from a command line as it is given."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from live_engine.environments import Environment
from live_engine.processes import HOST, Process, is_taken, running, wait

START_S = 300.0
"""Seconds after which a start counts as hung."""

SWAPS = {"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"}
"""Lets requests load and unload adapters."""

TOLD = 10
"""Lines of its log that are told of a server that does not start."""

_CAUSE = re.compile(r"(?!.* WARNING ).*\b\w*(?:Error|Exception): (?!Engine core initialization failed)")
"""By which the lines with causes are told (the last exception of a start names none)."""


class ServerError(RuntimeError):
    """A server does not start, or has ended."""


@dataclass(frozen=True)
class LiveServer:
    """A server that serves.

    Parameters
    ----------
    url
        Where it is asked.
    log
        What it has printed so far.
    process
        The process that was started, which has others below it.
    """

    url: str
    log: Path
    process: Process

    def check(self) -> None:
        """Raise `ServerError` if it has ended."""
        if self.process.poll() is not None:
            raise ServerError(f"{self.url} has ended with {self.process.returncode}:\n{_causes(self.log)}")


@contextlib.contextmanager
def serving(
    words: Sequence[str | Path],
    environment: Environment,
    log: Path,
    *,
    port: int,
    further: Mapping[str, str] | None = None,
    limit_s: float = START_S,
    core: int | None = None,
) -> Iterator[LiveServer]:
    """Start a server, wait until it serves, and end it on the way out.

    Parameters
    ----------
    words
        Its command line, which is not changed: what only the CPU build needs are environment variables.
    environment
        Where ``vllm`` is found.
    log
        File that gets what it prints.
    port
        Port of the command line, to be asked.
    further
        Environment variables beside those of the environment: ``SWAPS``.
    limit_s
        Seconds that it may take.
    core
        The core on which it runs; absent: on any. Its processes spin while they wait for each other
        (``shm_broadcast.py``, 0.32.0), so that two servers on two cores take the time of each other.

    Raises
    ------
    ServerError
        If it does not start, or the port is taken; the message has what its log says of it.
    """
    if is_taken(port):
        raise ServerError(f"port {port} of {HOST} is taken; end what holds it, or give another")
    url = f"http://{HOST}:{port}"
    with running(words, log, environment.variables(**(further or {})), core=core) as process:
        outcome = wait(process, f"{url}/health", limit_s)
        if outcome != "serves":
            raise ServerError(f"{url} {outcome} at its start; {log} says\n{_causes(log)}")
        yield LiveServer(url, log, process)


@contextlib.contextmanager
def side_by_side(
    scripts: Sequence[Path],
    environment: Environment,
    logs: Path,
    *,
    further: Mapping[str, str] | None = None,
) -> Iterator[list[LiveServer]]:
    """Servers of scripts of one command line, each kept on a core, as the GPUs of one host are served.

    Their logs, in a folder of such, have the names of the scripts.
    """
    with contextlib.ExitStack() as stack:
        servers = []
        for number, script in enumerate(scripts):
            core, log = number % (os.cpu_count() or 1), logs / f"{script.stem}.log"
            one = serving(
                ["bash", script], environment, log, port=port_of(script), further=further, core=core
            )
            servers.append(stack.enter_context(one))
        yield servers


def port_of(script: Path) -> int:
    """The port of a command line.

    Raises
    ------
    RuntimeError
        If it names none.
    """
    found = re.search(r"--port[= ](\d+)", script.read_text())
    if found is None:
        raise RuntimeError(f"{script} has no port")
    return int(found[1])


def _causes(log: Path) -> str:
    """The first lines of a log that tell an error, or else its last ones."""
    lines = log.read_text(errors="replace").splitlines()
    return "\n".join([line for line in lines if _CAUSE.match(line)][:TOLD] or lines[-TOLD:])
