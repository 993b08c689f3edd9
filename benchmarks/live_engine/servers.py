"""A vLLM server that a benchmark starts from a command line as it is given."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from live_engine.environments import Environment
from live_engine.processes import HOST, Process, is_taken, running, wait

START_S = 300.0
"""Seconds after which a start counts as hung."""

TOLD = 20
"""Last lines of its log that are told of a server that does not start."""


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
            raise ServerError(f"{self.url} has ended with {self.process.returncode}:\n{_last(self.log)}")


@contextlib.contextmanager
def serving(
    words: Sequence[str | Path],
    environment: Environment,
    log: Path,
    *,
    port: int,
    swaps: bool = False,
    limit_s: float = START_S,
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
    swaps
        Whether adapters may be loaded and unloaded by requests.
    limit_s
        Seconds that it may take.

    Raises
    ------
    ServerError
        If it does not start, or the port is taken; the message has the last lines of its log.
    """
    if is_taken(port):
        raise ServerError(f"port {port} of {HOST} is taken; end what holds it, or give another")
    variables = environment.variables(**({"VLLM_ALLOW_RUNTIME_LORA_UPDATING": "True"} if swaps else {}))
    url = f"http://{HOST}:{port}"
    with running(words, log, variables) as process:
        outcome = wait(process, f"{url}/health", limit_s)
        if outcome != "serves":
            raise ServerError(f"{url} {outcome} at its start; {log} ends with\n{_last(log)}")
        yield LiveServer(url, log, process)


def _last(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-TOLD:])
