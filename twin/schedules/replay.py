"""Replay of recorded schedules: the same workload through the twin's scheduler.

A schedule is a JSON document with an ``engine``, a ``latency`` (closed formula of a step's length) and
``requests``; its ``result`` is what a scheduler did with them. vLLM's own scheduler recorded some.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isclose
from pathlib import Path
from typing import Any

import numpy as np

from scenarios import (
    OutputFileError,
    Problem,
    ScenarioError,
    check_writable,
    visible,
    write_whole,
)
from scenarios.errors import cause_of
from scenarios.reading.parsing import model_from
from scenarios.stopping.progress import Progress, silent
from twin.engine.records import STEP_COLUMNS, RunRecords
from twin.engine.requests import Requests
from twin.engine.run import UnservableRequestError, simulate_requests
from twin.engine.setup import EngineSetup, StepTables
from twin.schedules.schedule import Schedule, ScheduleResult, checked, document_of
from twin.schedules.texts import common_texts

START_DIGITS = 9
"""Digits after the point of the start of a step, as in vLLM's records."""

ROUNDING = 1e-9
"""Relative difference of two instants that is rounding."""

NO_TEXT = (0, 0, -1)
"""Group, tokens of its text and parent of a request of which no text is told."""

REPLAYING = "replaying schedules"
"""What is being done, for progress."""


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
        return _replayed(schedule, checked(schedule, "schedule"), "schedule")
    document = document_of(Path(schedule))
    return _replayed(document, checked(document, str(schedule)), str(schedule))


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
    documents = [document_of(source) for source in sources]
    schedules = [checked(document, str(source)) for document, source in zip(documents, sources, strict=True)]
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
        made = _replayed(document, schedule, str(source))
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
    for name in ("ttft_s", "finish_s", "preemptions", "cached_tokens"):
        expected, got = getattr(recorded, name), getattr(replayed, name)
        if expected is None or got is None:
            continue
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


def _replayed(document: Mapping[str, Any], schedule: Schedule, name: str) -> dict[str, Any]:
    requests = _requests(schedule)
    horizon = inf if schedule.horizon_s is None else schedule.horizon_s
    try:
        records = simulate_requests(requests, _setup(schedule, requests), horizon, record_steps=True)
    except UnservableRequestError as error:
        raise UnservableRequestError(f"{name}: {error}") from error
    return {**document, "result": _result(records)}


def _requests(schedule: Schedule) -> Requests:
    """The requests as arrays; vLLM ends an answer when prompt and answer reach ``max_model_len``."""
    arrival, prompt, output, adapter = (
        np.array([request[k] for request in schedule.requests]) for k in range(4)
    )
    room = np.maximum(schedule.engine.max_model_len - prompt, 1)
    told = any(len(request) > 4 for request in schedule.requests)
    rows = [(*request, *NO_TEXT)[:7] for request in schedule.requests] if told else []
    continues, common = common_texts(rows) if told else (None, None)
    return Requests(
        arrival_s=arrival.astype(np.float64),
        prompt_tokens=prompt.astype(np.int32),
        output_tokens=np.minimum(output, room).astype(np.int32),
        adapter=np.unique(adapter, return_inverse=True)[1].astype(np.int32),
        n_adapters=len(np.unique(adapter)),
        continues=continues,
        common_tokens=common,
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
        base=np.unique([request[3] for request in schedule.requests]) == 0,
        prefix_caching=engine.enable_prefix_caching,
        async_scheduling=engine.async_scheduling,
    )


def _result(records: RunRecords) -> dict[str, Any]:
    steps = np.zeros((0, len(STEP_COLUMNS))) if records.steps is None else records.steps
    rows = [[round(row[0], START_DIGITS), *(int(value) for value in row[1:])] for row in steps.tolist()]
    cached = records.cached_tokens
    return {
        "ttft_s": _numbers(records.first_token_s - records.requests.arrival_s),
        "finish_s": _numbers(records.finish_s),
        "preemptions": records.preemptions.tolist(),
        **({} if cached is None else {"cached_tokens": cached.tolist()}),
        "steps": {"columns": list(STEP_COLUMNS), "rows": rows},
    }


def _numbers(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[float | None]:
    return [None if np.isnan(value) else value for value in values.tolist()]
