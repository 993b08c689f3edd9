"""What a server's log of steps adds to what its client sees: steps in which prompts and answers are mixed.

The log tells how long the engine waited for a step, and not what it did between two steps. How long that is,
a batch of fixed size tells, which keeps the engine busy from its first token to its last: its wall time less
all waits, over its steps.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from twin.live import Answers, StepLine, read_steps

SETTLE_S = 1.0
"""Seconds after a stage until its last steps are in the log."""

CONTEXT_BIN, DECODE_BIN = 64, 8
"""Prompt tokens, and requests that decode, in steps that are taken for alike."""

ENOUGH = 3
"""Steps that are alike from which on their median is taken."""


class MixedSteps(NamedTuple):
    """Steps that are alike and mix prompts with requests that decode; medians.

    Parameters
    ----------
    prompt_tokens
        Tokens of prompts in a step.
    decodes, requests
        Requests that decode in it, and all.
    step_ms
        Milliseconds from its start to the next one's.
    """

    prompt_tokens: float
    decodes: float
    requests: float
    step_ms: float


class FollowedLog:
    """A log that a server writes, read stage by stage.

    Parameters
    ----------
    path
        The file that the server's output goes to.

    Raises
    ------
    StepLogError
        If it cannot be read.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = read_steps(path).offset

    def begin(self) -> None:
        """Pass over what was logged until now."""
        self._offset = read_steps(self._path, self._offset).offset

    def steps(self) -> list[StepLine]:
        """The steps since the beginning of the stage, when the last ones had time to be written."""
        time.sleep(SETTLE_S)
        found = read_steps(self._path, self._offset)
        self._offset = found.offset
        return found.steps


def step_frame(steps: Sequence[StepLine], answers: Answers) -> pd.DataFrame:
    """Steps of a batch of fixed size with what the engine did between them, in ms; empty without steps."""
    frame = pd.DataFrame(steps, columns=list(StepLine._fields))
    if frame.empty:
        return frame
    ended = answers.finish_s[~np.isnan(answers.finish_s)]
    wall_ms = 1e3 * float(ended.max() - np.nanmin(answers.sent_s)) if len(ended) else 0.0
    between = max((wall_ms - float(frame["elapsed_ms"].sum())) / len(frame), 0.0)
    return frame.assign(between_ms=round(between, 4))


def prompt_step_ms(prefill: pd.DataFrame, alone: pd.DataFrame, alone_ms: float) -> float | None:
    """Milliseconds of a logged step of one prompt, from its start to the next one's; None if none is logged.

    Parameters
    ----------
    prefill
        Steps of prompts that were sent one at a time.
    alone
        Steps of requests that were sent one at a time.
    alone_ms
        What their clients saw of a step that decodes: by so much more than is logged is between two steps.
    """
    if prefill.empty or alone.empty:
        return None
    decoding = alone.loc[alone["context_tokens"] == 0, "elapsed_ms"]
    prompts = prefill.loc[prefill["context_tokens"] > 0, "elapsed_ms"]
    if decoding.empty or prompts.empty:
        return None
    return float(prompts.median()) + max(alone_ms - float(decoding.median()), 0.0)


def mixed_steps(frame: pd.DataFrame) -> Iterator[MixedSteps]:
    """Steps that mix prompts with requests that decode, those that are alike as one."""
    mixed = frame[(frame["context_tokens"] > 0) & (frame["generation_requests"] > 0)]
    bins = [
        (mixed["context_tokens"] // CONTEXT_BIN).rename("context"),
        (mixed["generation_requests"] // DECODE_BIN).rename("decode"),
    ]
    for _, alike in mixed.groupby(bins):
        if len(alike) >= ENOUGH:
            yield MixedSteps(
                float(alike["context_tokens"].median()),
                float(alike["generation_requests"].median()),
                float((alike["context_requests"] + alike["generation_requests"]).median()),
                float((alike["elapsed_ms"] + alike["between_ms"]).median()),
            )
