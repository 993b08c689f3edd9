"""Schedules: a workload with its engine, and what a scheduler did with it, as JSON.

A schedule has an ``engine``, a ``latency`` (closed formula of a step's length) and ``requests``; its
``result`` is what a scheduler did with them. vLLM's own scheduler recorded some.
"""

from __future__ import annotations

import gzip
import logging
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Discriminator, Field, Tag

from scenarios import MAX_SLOTS, FrozenModel, Problem, ScenarioError
from scenarios.reading.findings import Finding
from scenarios.reading.parsing import model_from
from scenarios.reading.syntax.json_text import JsonTextError, json_value
from scenarios.reading.text_files import text_of
from scenarios.reading.yaml_reader import FILE, problem_of
from scenarios.text.formatting import shown
from twin.engine.records import STEP_COLUMNS
from twin.engine.rules import SchedulerRules, rules_of

logger = logging.getLogger(__name__)

MAX_BYTES = 256 * 2**20
"""Most text of a schedule that is read."""

LONGEST_S = 10 * 365.25 * 86_400
"""Most seconds of a schedule, as of a trace."""

LONGEST_STEP_S = 3600.0
"""Most seconds that a part of a step's length may be."""


class ScheduleEngine(FrozenModel):
    """Arguments of the engine, in vLLM's names."""

    model_config = ConfigDict(extra="allow")

    version: str = Field(min_length=1)
    max_loras: int = Field(ge=1, le=MAX_SLOTS)
    max_num_seqs: int = Field(ge=1, le=65_536)
    max_num_batched_tokens: int = Field(ge=1, le=1_048_576)
    num_blocks: int = Field(ge=2, le=100_000_000)
    block_size: int = Field(ge=1, le=65_536)
    max_model_len: int = Field(ge=1, le=10_000_000)
    long_prefill_token_threshold: int = Field(default=0, ge=0, le=10_000_000)
    enable_prefix_caching: bool = False
    async_scheduling: bool = False
    scheduler_reserve_full_isl: bool | None = None
    watermark: float | None = Field(default=None, ge=0, lt=1)

    def findings(self) -> Iterator[Finding]:
        """Yield a version of which no rules are known."""
        try:
            rules_of(self.version)
        except ValueError:
            yield Finding(("version",), f'is "{self.version}", no version of vLLM', "write it like 0.8.5")

    def rules(self) -> SchedulerRules:
        """Rules of the version, but for what the schedule says itself."""
        return rules_of(self.version).changed(self.scheduler_reserve_full_isl, self.watermark)


class ScheduleLatency(FrozenModel):
    """A step lasts base_s + per_token_s · scheduled tokens + per_adapter_s · distinct adapters."""

    base_s: float = Field(ge=0, le=LONGEST_STEP_S)
    per_token_s: float = Field(ge=0, le=LONGEST_STEP_S)
    per_adapter_s: float = Field(ge=0, le=LONGEST_STEP_S)


class ScheduleSteps(FrozenModel):
    """What a scheduler did in each step."""

    columns: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]

    def findings(self) -> Iterator[Finding]:
        """Yield columns that are not those of a step, and rows of another length."""
        if self.columns != STEP_COLUMNS:
            yield Finding(("columns",), f"are {', '.join(self.columns)}", f"give {', '.join(STEP_COLUMNS)}")
        for k, row in enumerate(self.rows):
            if len(row) != len(STEP_COLUMNS):
                yield Finding(("rows", k), f"has {len(row)} values", "give one for each column")


class ScheduleResult(FrozenModel):
    """What a scheduler did: per request in their order, and per step."""

    model_config = ConfigDict(extra="ignore")

    ttft_s: tuple[float | None, ...]
    """Time to first token; empty where the horizon came first."""
    finish_s: tuple[float | None, ...]
    """Instant at which the request completed; empty where the horizon came first."""
    preemptions: tuple[int, ...]
    """How often it was preempted."""
    cached_tokens: tuple[int, ...] | None = None
    """Tokens that were found in the prefix cache when it was first scheduled."""
    steps: ScheduleSteps


_Number = Annotated[int, Field(ge=0, le=10_000_000)]
_Tokens = Annotated[int, Field(ge=1, le=10_000_000)]
_Seconds = Annotated[float, Field(ge=0, le=LONGEST_S)]
_Parent = Annotated[int, Field(ge=-1, le=10_000_000)]
_Plain = tuple[_Seconds, _Tokens, _Tokens, _Number]
_WithText = tuple[_Seconds, _Tokens, _Tokens, _Number, _Number, _Number, _Parent]


def _form(value: object) -> str:
    """Tell whether the text of a request is told, so that only that form's errors are reported."""
    return "text" if isinstance(value, Sequence) and len(value) > 4 else "plain"


_Request = Annotated[
    Annotated[_Plain, Tag("plain")] | Annotated[_WithText, Tag("text")], Discriminator(_form)
]


class Schedule(FrozenModel):
    """A workload with its engine, and what a scheduler did with it, where that was recorded."""

    model_config = ConfigDict(extra="ignore")

    engine: ScheduleEngine
    latency: ScheduleLatency
    requests: tuple[_Request, ...]
    """Arrival in seconds, prompt tokens, output tokens and number of the adapter of each request, 0 for the
    base model. Where texts are told: number of a common text, how many tokens the prompt begins with of it,
    and the request with whose prompt and answer it begins instead, or -1."""
    horizon_s: float | None = Field(default=None, gt=0, le=LONGEST_S)
    result: ScheduleResult | None = None

    def findings(self) -> Iterator[Finding]:
        """Yield requests that are not in the order of their arrival."""
        for k, (before, after) in enumerate(zip(self.requests, self.requests[1:], strict=False)):
            if after[0] < before[0]:
                message = f"arrives at {after[0]:g} s, before the one above it"
                yield Finding(("requests", k + 1), message, "sort by arrival")
        for k, request in enumerate(self.requests):
            if len(request) > 4 and request[6] >= len(self.requests):
                message = f"begins with the text of request {request[6]}, which there is not"
                yield Finding(("requests", k), message, "number requests from 0, or give -1")


def document_of(path: Path) -> dict[str, Any]:
    """What a schedule's file holds.

    Raises
    ------
    ScenarioError
        If it cannot be read, or is no JSON object.
    """
    try:
        document = json_value(_text(path), finite=True)
    except JsonTextError as error:
        raise ScenarioError([problem_of(error)], str(path)) from error
    if isinstance(document, dict):
        return document
    problem = Problem(FILE, f"holds {shown(document)} at its top", "give a schedule; see docs/twin.md")
    raise ScenarioError([problem], str(path))


def _text(path: Path) -> str:
    """The text of a schedule's file, decompressed where its name says so."""
    if not path.is_file():
        return text_of(path, str(path))  # which says what is wrong
    compressed = path.suffix == ".gz"
    try:
        with gzip.open(path) if compressed else path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) <= MAX_BYTES:
            return data.decode("utf-8-sig")
        what, remedy = f"holds more than {MAX_BYTES / 2**20:g} MiB", "replay a shorter schedule"
    except (OSError, EOFError, zlib.error, UnicodeDecodeError):
        what = "is no text compressed by gzip" if compressed else "cannot be read as text in UTF-8"
        remedy = "name a schedule as JSON, or compressed as .json.gz"
    raise ScenarioError([Problem(FILE, what, remedy)], str(path))


def checked(document: object, source: str) -> Schedule:
    """A schedule of a document; arguments of the engine that are not known are told, and have no effect.

    Raises
    ------
    ScenarioError
        If it is no schedule; the message names every fault.
    """
    schedule = model_from(Schedule, document, source)
    unknown = schedule.engine.model_extra
    if unknown:
        logger.warning("%s: engine arguments without effect here: %s", source, ", ".join(sorted(unknown)))
    return schedule
