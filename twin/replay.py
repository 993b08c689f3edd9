"""Replay of recorded schedules: the same workload through the twin's scheduler.

A schedule is a JSON document with an ``engine``, a ``latency`` (closed formula of a step's length) and
``requests``; its ``result`` is what a scheduler did with them. vLLM's own scheduler recorded some.
"""

from __future__ import annotations

import gzip
import json
import logging
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import inf, isclose
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import ConfigDict, Field

from scenarios import (
    FrozenModel,
    OutputFileError,
    Problem,
    ScenarioError,
    check_writable,
    visible,
    write_whole,
)
from scenarios.errors import cause_of
from scenarios.reading.findings import Finding
from scenarios.reading.parsing import model_from
from scenarios.reading.text_files import text_of
from scenarios.reading.yaml_reader import FILE, json_problem
from scenarios.stopping.progress import Progress, silent
from scenarios.text.formatting import shown
from twin.engine.records import STEP_COLUMNS, RunRecords
from twin.engine.requests import Requests
from twin.engine.run import simulate_requests
from twin.engine.setup import EngineSetup, SchedulerRules, StepTables, rules_of

logger = logging.getLogger(__name__)

START_DIGITS = 9
"""Digits after the point of the start of a step, as in vLLM's records."""

ROUNDING = 1e-9
"""Relative difference of two instants that is rounding."""

REPLAYING = "replaying schedules"
"""What is being done, for progress."""

MAX_BYTES = 256 * 2**20
"""Most text of a schedule that is read."""


class ScheduleEngine(FrozenModel):
    """Arguments of the engine, in vLLM's names."""

    model_config = ConfigDict(extra="allow")

    version: str = Field(min_length=1)
    max_loras: int = Field(ge=1)
    max_num_seqs: int = Field(ge=1)
    max_num_batched_tokens: int = Field(ge=1, le=1_048_576)
    num_blocks: int = Field(ge=2)
    block_size: int = Field(ge=1)
    max_model_len: int = Field(ge=1)
    long_prefill_token_threshold: int = Field(default=0, ge=0)
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

    base_s: float = Field(ge=0)
    per_token_s: float = Field(ge=0)
    per_adapter_s: float = Field(ge=0)


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
    steps: ScheduleSteps


class Schedule(FrozenModel):
    """A workload with its engine, and what a scheduler did with it, where that was recorded."""

    model_config = ConfigDict(extra="ignore")

    engine: ScheduleEngine
    latency: ScheduleLatency
    requests: tuple[
        tuple[
            Annotated[float, Field(ge=0)],
            Annotated[int, Field(ge=1, le=10_000_000)],
            Annotated[int, Field(ge=1, le=10_000_000)],
            Annotated[int, Field(ge=0, le=10_000_000)],
        ],
        ...,
    ]
    """Arrival in seconds, prompt tokens, output tokens and number of the adapter of each request."""
    horizon_s: float | None = Field(default=None, gt=0)
    result: ScheduleResult | None = None

    def findings(self) -> Iterator[Finding]:
        """Yield requests that are not in the order of their arrival."""
        for k, (before, after) in enumerate(zip(self.requests, self.requests[1:], strict=False)):
            if after[0] < before[0]:
                message = f"arrives at {after[0]:g} s, before the one above it"
                yield Finding(("requests", k + 1), message, "sort by arrival")


@dataclass(frozen=True)
class ReplayedSchedule:
    """A schedule that was replayed.

    Parameters
    ----------
    source, written
        File of the schedule, and of what the twin did with it.
    steps
        Steps that the twin took.
    recorded
        Whether the schedule holds what another scheduler did.
    difference
        Where the two differ first, in words; empty if they agree, or nothing was recorded.
    """

    source: Path
    written: Path
    steps: int
    recorded: bool
    difference: str

    def __str__(self) -> str:
        if not self.recorded:
            verdict = "no recorded result to compare with"
        elif self.difference:
            verdict = f"DIFFERS from the recorded schedule: {self.difference}"
        else:
            verdict = "agrees with the recorded schedule"
        return visible(f"{self.source}: {self.steps:,} steps, {verdict}; {self.written}")


def replay(schedule: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    """Play a recorded workload with the twin's own scheduler.

    Parameters
    ----------
    schedule
        The document, or the path of its file, ``.json`` or ``.json.gz``. A ``result`` in it has no effect.

    Returns
    -------
    The same document with the twin's ``result``: per request ``ttft_s``, ``finish_s`` (None if the horizon
    came first) and ``preemptions``; one row per step.

    Raises
    ------
    ScenarioError
        If the file cannot be read or is no schedule; the message names every fault.
    UnservableRequestError
        If a request needs more blocks than there are.
    """
    if isinstance(schedule, Mapping):
        return _replayed(schedule, _checked(schedule, "schedule"))
    document = _document(Path(schedule))
    return _replayed(document, _checked(document, str(schedule)))


def replay_files(
    paths: Sequence[str | Path], out_dir: str | Path, *, progress: Progress = silent
) -> list[ReplayedSchedule]:
    """Replay files into a folder, as ``NAME.json`` each, and compare with what was recorded.

    All are read before the first is replayed. A file appears whole or not at all.

    Parameters
    ----------
    paths
        Schedules, ``.json`` or ``.json.gz``.
    out_dir
        The folder, made if it is not there.
    progress
        Called with progress.

    Raises
    ------
    ScenarioError
        If a file is no schedule, or two would be written under the same name.
    UnservableRequestError
        If a request needs more blocks than there are.
    OutputFileError
        If a result cannot be written, or would overwrite a file that is replayed.
    """
    sources, folder = [Path(path) for path in paths], Path(out_dir)
    targets = [folder / source.name.removesuffix(".gz") for source in sources]
    for target in targets:
        if targets.count(target) > 1:
            problem = Problem(f'the name "{target.name}"', "is that of two files", "use a folder for each")
            raise ScenarioError([problem], "replay")
    documents = [_document(source) for source in sources]
    schedules = [_checked(document, str(source)) for document, source in zip(documents, sources, strict=True)]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFileError(
            f"{folder}: cannot make the folder ({cause_of(error)}); name another"
        ) from error
    for target in targets:
        check_writable(target, sources)
    replayed = []
    progress(REPLAYING, 0, len(sources))
    for document, schedule, source, target in zip(documents, schedules, sources, targets, strict=True):
        made = _replayed(document, schedule)
        write_whole(target, json.dumps(made, separators=(",", ":"), allow_nan=False) + "\n")
        result = model_from(ScheduleResult, made["result"], str(target))
        difference = "" if schedule.result is None else first_difference(schedule.result, result)
        steps = len(result.steps.rows)
        replayed.append(ReplayedSchedule(source, target, steps, schedule.result is not None, difference))
        progress(REPLAYING, len(replayed), len(sources))
    return replayed


def first_difference(recorded: ScheduleResult, replayed: ScheduleResult) -> str:
    """Where two results differ first, in words, by more than rounding; empty if they agree."""
    for k, pair in enumerate(zip(recorded.steps.rows, replayed.steps.rows, strict=False)):
        for name, a, b in zip(STEP_COLUMNS, *pair, strict=True):
            if not _alike(a, b):
                return f"step {k + 1} (at {pair[0][0]:g} s) has {name} {a:.10g}, the twin {b:.10g}"
    a, b = len(recorded.steps.rows), len(replayed.steps.rows)
    if a != b:
        return f"it has {a:,} steps, the twin {b:,}"
    for name in ("ttft_s", "finish_s", "preemptions"):
        expected, got = getattr(recorded, name), getattr(replayed, name)
        if len(expected) != len(got):
            return f"it has {name} of {len(expected):,} requests, the twin of {len(got):,}"
        for k, (a, b) in enumerate(zip(expected, got, strict=True)):
            if not _alike(a, b):
                return f"request {k + 1} has {name} {_figure(a)}, the twin {_figure(b)}"
    return ""


def _alike(a: float | None, b: float | None) -> bool:
    if a is None or b is None:
        return a is b
    return isclose(a, b, rel_tol=ROUNDING, abs_tol=ROUNDING)


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.10g}"


def _document(path: Path) -> dict[str, Any]:
    text, problem = _text(path), None
    try:
        document = json.loads(text)
        if isinstance(document, dict):
            return document
        problem = Problem(FILE, f"holds {shown(document)} at its top", "give a schedule; see docs/twin.md")
    except json.JSONDecodeError:
        problem = json_problem(text)
    except RecursionError:
        problem = Problem(FILE, "is nested too deep", "give a schedule; see docs/twin.md")
    raise ScenarioError([] if problem is None else [problem], str(path))


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


def _checked(document: object, source: str) -> Schedule:
    schedule = model_from(Schedule, document, source)
    unknown = schedule.engine.model_extra
    if unknown:
        logger.warning("%s: engine arguments without effect here: %s", source, ", ".join(sorted(unknown)))
    return schedule


def _replayed(document: Mapping[str, Any], schedule: Schedule) -> dict[str, Any]:
    requests = _requests(schedule)
    horizon = inf if schedule.horizon_s is None else schedule.horizon_s
    records = simulate_requests(requests, _setup(schedule, requests), horizon, record_steps=True)
    return {**document, "result": _result(records)}


def _requests(schedule: Schedule) -> Requests:
    """The requests as arrays; vLLM ends an answer when prompt and answer reach ``max_model_len``."""
    arrival, prompt, output, adapter = (
        np.array([request[k] for request in schedule.requests]) for k in range(4)
    )
    room = np.maximum(schedule.engine.max_model_len - prompt, 1)
    numbers, index = np.unique(adapter, return_inverse=True)
    return Requests(
        arrival_s=arrival.astype(np.float64),
        prompt_tokens=prompt.astype(np.int32),
        output_tokens=np.minimum(output, room).astype(np.int32),
        adapter=index.astype(np.int32),
        n_adapters=len(numbers),
    )


def _setup(schedule: Schedule, requests: Requests) -> EngineSetup:
    engine, latency = schedule.engine, schedule.latency
    tokens = max(engine.max_num_batched_tokens, engine.max_num_seqs)
    adapters = min(requests.n_adapters, engine.max_loras)
    free = np.zeros(requests.n_adapters)
    return EngineSetup(
        max_loras=engine.max_loras,
        max_cpu_loras=max(requests.n_adapters, engine.max_loras),
        max_num_seqs=engine.max_num_seqs,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        long_prefill_token_threshold=engine.long_prefill_token_threshold,
        block_size=engine.block_size,
        usable_blocks=engine.num_blocks - 1,
        rules=engine.rules(),
        tables=StepTables(
            token_s=latency.base_s + latency.per_token_s * np.arange(tokens + 1.0),
            adapter_s=latency.per_adapter_s * np.arange(adapters + 1.0),
            adapter_token_s=np.zeros(adapters + 1),
        ),
        gpu_load_s=free,
        disk_load_s=free,
    )


def _result(records: RunRecords) -> dict[str, Any]:
    steps = np.zeros((0, len(STEP_COLUMNS))) if records.steps is None else records.steps
    rows = [[round(row[0], START_DIGITS), *(int(value) for value in row[1:])] for row in steps.tolist()]
    return {
        "ttft_s": _numbers(records.first_token_s - records.requests.arrival_s),
        "finish_s": _numbers(records.finish_s),
        "preemptions": records.preemptions.tolist(),
        "steps": {"columns": list(STEP_COLUMNS), "rows": rows},
    }


def _numbers(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]
