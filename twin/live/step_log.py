"""Steps of a running engine, as its server logs them under ``--enable-logging-iteration-details``.

vLLM has the argument from 0.14.0 on. A line tells what a step was scheduled, and for how long the engine
waited for it. What stands around that differs between releases, and is not read:

- 0.14.0 to 0.25.0, ``vllm/v1/engine/core.py``: the line is the engine's own, and ends after the milliseconds.
- 0.26.0 to 0.32.0, ``vllm/v1/metrics/loggers.py``: the server prints it, with the number of the engine in
  front, and behind it the use of the KV cache.

From 0.23.0 on engines of several (data parallelism) log steps without requests, marked ``(dummy)``, which are
left out. The time is that between the hand-over of a step and its tokens (``EngineCore.step``): scheduling
before and the update of the requests after it are not in it.
A request is in its context until it has a token; one that was preempted later counts as generating, however
many tokens it computes again (``compute_iteration_details``, ``vllm/v1/utils.py``).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from scenarios import LorapackError
from scenarios.errors import cause_of

MARK = "Iteration("
"""By which a line of a step is told."""

_STEP = re.compile(
    r"Iteration\((\d{1,15})\): (\d{1,12}) context requests, (\d{1,12}) context tokens, "
    r"(\d{1,12}) generation requests, (\d{1,12}) generation tokens, "
    r"iteration elapsed time: (\d{1,12}\.\d{1,12}) ms( \(dummy\))?"
)


class StepLogError(LorapackError, OSError):
    """A log cannot be read."""


class StepLine(NamedTuple):
    """One step.

    Parameters
    ----------
    number
        As the engine counts, from 0.
    context_requests, context_tokens
        Requests without a token yet, and what was computed of their prompts.
    generation_requests, generation_tokens
        The others, and their tokens.
    elapsed_ms
        Milliseconds for which the engine waited for the step.
    """

    number: int
    context_requests: int
    context_tokens: int
    generation_requests: int
    generation_tokens: int
    elapsed_ms: float


class StepLog(NamedTuple):
    """What was read of a log.

    Parameters
    ----------
    steps
        In the order of the log.
    offset
        Bytes up to which it was read: whole lines.
    damaged
        Steps that could not be read, as other output stands in them.
    """

    steps: list[StepLine]
    offset: int
    damaged: int


def read_steps(path: str | Path, start_offset: int = 0) -> StepLog:
    """Read the steps of a log that may still grow.

    Parameters
    ----------
    path
        What a server, of one engine, prints.
    start_offset
        Bytes to pass over: the ``offset`` of an earlier call. A file that is shorter is a new one, and is
        read from its start.

    Raises
    ------
    StepLogError
        If the file cannot be read.
    """
    path, offset, damaged = Path(path), start_offset, 0
    steps: list[StepLine] = []
    try:
        with path.open("rb") as file:
            if path.stat().st_size < offset:
                offset = 0
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    break  # it is being written
                offset += len(line)
                marks = line.count(MARK.encode())
                if marks:
                    found = list(_STEP.finditer(line.decode("utf-8", errors="replace")))
                    damaged += marks - len(found)
                    steps += [_step(one) for one in found if not one[7]]
    except OSError as error:
        raise StepLogError(
            f"{path}: cannot be read ({cause_of(error)}); name the file that the server's output goes to"
        ) from error
    return StepLog(steps, offset, damaged)


def _step(match: re.Match[str]) -> StepLine:
    number, context, context_tokens, generation, generation_tokens = map(int, match.groups()[:5])
    return StepLine(number, context, context_tokens, generation, generation_tokens, float(match[6]))
