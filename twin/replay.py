"""Replay of recorded schedules: the same workload through the twin's scheduler.

A schedule is a JSON document with an ``engine``, a ``latency`` (closed formula of a step's length) and
``requests``; its ``result`` is what a scheduler did with them. vLLM's own scheduler recorded some.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from scenarios.base import FrozenModel
from scenarios.errors import LorapackError
from scenarios.output import OutputFileError, check_writable, write_whole
from twin.engine.records import STEP_COLUMNS, RunRecords
from twin.engine.requests import Requests
from twin.engine.run import simulate_requests
from twin.engine.setup import EngineSetup, SchedulerRules, StepTables, rules_of

logger = logging.getLogger(__name__)

START_DIGITS = 9
"""Digits after the point of the start of a step, as in vLLM's records."""


class ScheduleError(LorapackError, ValueError):
    """A schedule could not be read."""


class ScheduleEngine(BaseModel):
    """Arguments of the engine, in vLLM's names."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

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

    @field_validator("version")
    @classmethod
    def _known(cls, version: str) -> str:
        rules_of(version)
        return version

    def rules(self) -> SchedulerRules:
        """Rules of the version, but for what the schedule says itself."""
        said = {"reserve_full_isl": self.scheduler_reserve_full_isl, "watermark": self.watermark}
        return rules_of(self.version).model_copy(update={k: v for k, v in said.items() if v is not None})


class ScheduleLatency(FrozenModel):
    """A step lasts base_s + per_token_s · scheduled tokens + per_adapter_s · distinct adapters."""

    base_s: float = Field(ge=0)
    per_token_s: float = Field(ge=0)
    per_adapter_s: float = Field(ge=0)


class Schedule(BaseModel):
    """A workload with its engine."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

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
    horizon_s: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _in_order(self) -> Schedule:
        for k, (before, after) in enumerate(zip(self.requests, self.requests[1:], strict=False)):
            if after[0] < before[0]:
                raise ValueError(
                    f"requests[{k + 1}] arrives at {after[0]:g} s, before the one above it; sort by arrival"
                )
        return self


def replay(schedule: Mapping[str, Any] | str | Path) -> dict[str, Any]:
    """Play a recorded workload with the twin's own scheduler.

    Parameters
    ----------
    schedule
        The document, or the path of its file. A ``result`` in it is not looked at.

    Returns
    -------
    The same document with the twin's ``result``: per request ``ttft_s``, ``finish_s`` (None if the horizon
    came first) and ``preemptions``; one row per step.

    Raises
    ------
    ScheduleError
        If the file cannot be read or is no schedule; the message names every fault.
    UnservableRequestError
        If a request needs more blocks than there are.
    """
    source = "schedule" if isinstance(schedule, Mapping) else str(schedule)
    document = dict(schedule) if isinstance(schedule, Mapping) else _read(Path(schedule))
    checked = _check(document, source)
    requests = _requests(checked)
    horizon = inf if checked.horizon_s is None else checked.horizon_s
    records = simulate_requests(requests, _setup(checked, requests), horizon, record_steps=True)
    return {**document, "result": _result(records)}


def replay_files(paths: Sequence[str | Path], out_dir: str | Path) -> list[Path]:
    """Replay files into a folder, under the same names; a file appears whole or not at all.

    Raises
    ------
    ScheduleError
        If a file is no schedule, or two have the same name.
    OutputFileError
        If a result cannot be written, or would overwrite a file that is replayed.
    """
    sources = [Path(path) for path in paths]
    names = [source.name for source in sources]
    for name in names:
        if names.count(name) > 1:
            raise ScheduleError(f'two files are called "{name}"; replay them into different folders')
    folder = Path(out_dir)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFileError(f"{folder}: cannot make the folder ({error.strerror}); name another") from error
    for source in sources:
        check_writable(folder / source.name, sources)
    return [write_whole(folder / source.name, _text(replay(source))) for source in sources]


def _text(document: Mapping[str, Any]) -> str:
    return json.dumps(document, separators=(",", ":"), allow_nan=False) + "\n"


def _read(path: Path) -> dict[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise ScheduleError(f"{path}: cannot read the schedule ({error})") from error
    except (json.JSONDecodeError, RecursionError) as error:
        raise ScheduleError(f"{path}: not JSON ({error})") from error
    if not isinstance(document, dict):
        raise ScheduleError(f"{path}: a schedule is a JSON object, this is a {type(document).__name__}")
    return document


def _check(document: Mapping[str, Any], source: str) -> Schedule:
    try:
        schedule = Schedule.model_validate(document)
    except ValidationError as error:
        faults = [
            f"  {'.'.join(str(part) for part in fault['loc']) or 'schedule'}: {fault['msg']}"
            for fault in error.errors()[:20]
        ]
        raise ScheduleError("\n".join([f"{source}: not a schedule", *faults])) from error
    unknown = schedule.engine.model_extra
    if unknown:
        logger.warning("%s: engine arguments without effect here: %s", source, ", ".join(sorted(unknown)))
    return schedule


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
