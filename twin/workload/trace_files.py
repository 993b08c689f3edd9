"""Trace files into traces: the public forms, told apart by their columns."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path

import numpy as np

from scenarios.errors import cause_of
from twin.workload.trace_rows import Row, TraceError, parsed, rows_of
from twin.workload.traces import Trace

_INSTANT = re.compile(r"(.*?)(\.\d+)?(Z|[+-]\d\d:?\d\d)?", re.DOTALL)
"""Date and time, fraction of a second, offset from UTC: Azure's files of 2024 have the last."""

_ORIGIN = datetime(2000, 1, 1, tzinfo=UTC)

MOST_TOKENS = 10_000_000
"""Most tokens of a prompt or an answer that are taken for a length."""


def _of_date(text: str) -> float:
    # The fraction apart: datetime reads six decimals, and Azure wrote seven in 2023. No offset is UTC.
    whole, fraction, offset = _INSTANT.fullmatch(text.strip()).groups(default="")  # type: ignore[union-attr]
    instant = datetime.fromisoformat(whole + offset)
    if not offset:
        instant = instant.replace(tzinfo=UTC)
    return (instant - _ORIGIN).total_seconds() + float("0" + fraction)


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("must be finite")
    return value


def _of_milliseconds(text: str) -> float:
    return _number(text) / 1000.0


@dataclass(frozen=True)
class TraceFormat:
    """The form of a public trace.

    Parameters
    ----------
    source
        Who publishes such traces.
    instant, prompt, output
        Columns of the arrival, and of the tokens of prompt and answer.
    seconds
        The instant as seconds from some origin.
    """

    source: str
    instant: str
    prompt: str
    output: str
    seconds: Callable[[str], float]

    @property
    def columns(self) -> tuple[str, str, str]:
        """The columns that a file of this form has."""
        return self.instant, self.prompt, self.output


FORMATS = (
    TraceFormat("Azure", "TIMESTAMP", "ContextTokens", "GeneratedTokens", _of_date),
    TraceFormat("BurstGPT", "Timestamp", "Request tokens", "Response tokens", _number),
    TraceFormat("Mooncake", "timestamp", "input_length", "output_length", _of_milliseconds),
)
"""Azure/AzurePublicDataset (dates), HPMLL/BurstGPT (seconds), kvcache-ai/Mooncake (milliseconds)."""


def read_trace(path: Path | str) -> Trace:
    """Read a trace in one of the `FORMATS`: CSV, or one JSON object a line; plain or compressed by gzip.

    A request of 0 tokens, as BurstGPT has for those that failed, counts with one.

    Raises
    ------
    TraceError
        If the file is missing or damaged, or of no known form.
    """
    path = Path(path)
    try:
        stamp = path.stat()
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({cause_of(error)}); give the path of a trace") from error
    return _read_trace(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=8)
def _read_trace(path: Path, _modified_ns: int, _size: int) -> Trace:
    instants: list[float] = []
    prompts: list[int] = []
    outputs: list[int] = []
    form: TraceFormat | None = None
    for line, row in rows_of(path):
        form = form or _form(path, row)
        if missing := [name for name in form.columns if name not in row]:
            raise TraceError(f"{path}, line {line}: has no {', '.join(missing)}; complete or remove the row")
        instants.append(parsed(path, line, row, form.instant, form.seconds))
        prompts.append(parsed(path, line, row, form.prompt, _tokens))
        outputs.append(parsed(path, line, row, form.output, _tokens))
    if len(instants) < 2 or max(instants) <= min(instants):
        raise TraceError(f"{path}: holds {len(instants)} requests; a trace needs two at different instants")
    order = np.argsort(instants, kind="stable")
    arrival = np.asarray(instants)[order]
    arrival = arrival - arrival[0]
    period = float(arrival[-1]) * len(arrival) / (len(arrival) - 1)
    trace = Trace(arrival, np.asarray(prompts, np.int32)[order], np.asarray(outputs, np.int32)[order], period)
    for array in (trace.arrival_s, trace.prompt_tokens, trace.output_tokens):
        array.setflags(write=False)
    return trace


def _form(path: Path, row: Row) -> TraceFormat:
    for form in FORMATS:
        if set(form.columns) <= row.keys():
            return form
    known = "; ".join(f"{', '.join(form.columns)} ({form.source})" for form in FORMATS)
    raise TraceError(f"{path}, line 1: has none of the sets of columns {known}; rename its columns")


def trace_digest(path: Path | str) -> str:
    """Digest of the content of a trace, by which its requests are known whatever its name.

    Raises
    ------
    TraceError
        If the file is missing or damaged.
    """
    trace = read_trace(path)
    digest = hashlib.sha256()
    for array in (trace.arrival_s, trace.prompt_tokens, trace.output_tokens):
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def _tokens(text: str) -> int:
    tokens = int(text)
    if not 0 <= tokens <= MOST_TOKENS:
        raise ValueError("must be from 0 to 10,000,000")
    return max(tokens, 1)
