"""The folder of a measurement: what was sent and seen, stage by stage, and the tables that `calibrate` reads.

```text
FOLDER/subject.json            what is measured, and with which parameters and seed
FOLDER/stages/NAME.json        figures of a finished stage
FOLDER/requests/NAME.csv.gz    its requests, and what became of each
FOLDER/steps/NAME.csv          steps that the server logged meanwhile, of batches
FOLDER/measurement.yaml, serving_runs.csv, probes.csv, ...   written anew after each stage
```

A stage is there whole or not at all, so that a measurement that was broken off goes on with the next one.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import pandas as pd
import yaml
from pydantic import Field

from scenarios import FrozenModel, LorapackError, ScenarioError, write_whole
from scenarios.reading.parsing import model_from
from scenarios.reading.text_files import text_of
from scenarios.reading.yaml_reader import parse
from twin.live import Answers
from twin.measured.tables import LARGEST, Count, Number, TableRow, read_table
from twin.measuring.outcome import Outcome
from twin.measuring.params import MeasureParams
from twin.measuring.stage import Stage
from twin.measuring.subject import Subject
from twin.measuring.tables import tables_of

M = TypeVar("M", bound=FrozenModel)

SUBJECT = "subject.json"
STAGES, REQUESTS, STEPS = "stages", "requests", "steps"


class FolderError(LorapackError, ValueError):
    """A folder holds the measurement of something else."""


class SentRow(TableRow):
    """A request of a stage, and what became of it; seconds from the start of the stage."""

    arrival_s: Number
    """When it was to be sent."""
    adapter: Count
    """Number of its adapter; after them, the base model."""
    prompt_tokens: Count
    """Tokens of the prompt."""
    output_tokens: Count
    """Tokens asked of the answer."""
    follows: Annotated[int, Field(ge=-1, lt=LARGEST)]
    """Request whose end it waits for, or -1."""
    sent_s: Number | None = None
    """When it was sent."""
    first_token_s: Number | None = None
    """When its first token came."""
    finish_s: Number | None = None
    """When its last one came."""
    generated_tokens: Count
    """Tokens of the answer."""
    failure: str = ""
    """Why it was not answered whole."""


class StepRow(TableRow):
    """A step that the server logged."""

    number: Count
    """As the engine counts."""
    context_requests: Count
    """Requests without a token yet."""
    context_tokens: Count
    """What was computed of their prompts."""
    generation_requests: Count
    """The others."""
    generation_tokens: Count
    """Their tokens."""
    elapsed_ms: Number
    """Milliseconds for which the engine waited for the step."""
    between_ms: Number
    """Milliseconds between it and the next one."""


class Measured(FrozenModel):
    """What a folder is the measurement of."""

    subject: Subject
    """The server."""
    params: MeasureParams
    """How it is measured."""
    total_s: float
    """Seconds that were planned."""
    seed: int
    """Seed of what is sent."""


class MeasurementFolder:
    """Stages on disk, and the tables of all of them."""

    def __init__(self, path: Path, measured: Measured, config: Path | None) -> None:
        self.path, self.measured = path, measured
        self.outcomes: dict[str, Outcome] = {}
        self._answered: dict[str, pd.DataFrame] = {}
        self._steps: dict[str, pd.DataFrame] = {}
        self._config = config

    @classmethod
    def begun(cls, path: Path, measured: Measured, config: Path | None = None) -> MeasurementFolder:
        """The folder of a measurement, which goes on where it was broken off.

        Raises
        ------
        FolderError
            If it holds another server's measurement, or something else.
        ScenarioError
            If a file in it is damaged.
        """
        folder = cls(path, measured, config)
        if not path.exists() or not any(path.iterdir()):
            path.mkdir(parents=True, exist_ok=True)
            folder._write_subject()
            return folder
        if not (path / SUBJECT).is_file():
            raise FolderError(f"{path}: is no folder of a measurement, and not empty; name another one")
        before = _read(path / SUBJECT, Measured)
        if _same(before) != _same(measured):
            raise FolderError(
                f"{path}: holds a measurement of {before.subject.url} that was planned otherwise; name "
                "another folder, or give what was given for that one"
            )
        folder.measured = before
        for file in sorted((path / STAGES).glob("*.json")):
            outcome = _read(file, Outcome)
            answered = _read_requests(path / REQUESTS / f"{outcome.name}.csv.gz")
            if answered is not None:
                folder.outcomes[outcome.name], folder._answered[outcome.name] = outcome, answered
                folder._steps[outcome.name] = _read_steps(path / STEPS / f"{outcome.name}.csv")
        return folder

    def add(self, stage: Stage, answers: Answers, outcome: Outcome, steps: pd.DataFrame) -> None:
        """Keep a finished stage, and write the tables anew."""
        frame = requests_frame(answers)
        if len(steps):
            (self.path / STEPS).mkdir(exist_ok=True)
            write_whole(self.path / STEPS / f"{stage.name}.csv", steps.to_csv(index=False))
        for room in (STAGES, REQUESTS):
            (self.path / room).mkdir(exist_ok=True)
        text = frame.to_csv(index=False)
        write_whole(self.path / REQUESTS / f"{stage.name}.csv.gz", gzip.compress(text.encode(), mtime=0))
        write_whole(self.path / STAGES / f"{stage.name}.json", outcome.model_dump_json(indent=2) + "\n")
        self.outcomes[stage.name], self._answered[stage.name] = outcome, frame
        self._steps[stage.name] = steps
        self.write_tables()

    def in_order(self) -> tuple[Outcome, ...]:
        """The finished stages, as they were sent."""
        return tuple(sorted(self.outcomes.values(), key=lambda one: one.started_unix_s))

    def write_tables(self) -> None:
        """Write what `calibrate` reads."""
        subject = self.measured.subject
        write_whole(self.path / "measurement.yaml", self._description())
        for name, frame in tables_of(subject, self.in_order(), self._answered, self._steps).items():
            if len(frame):
                write_whole(self.path / f"{name}.csv", frame.to_csv(index=False))

    def _write_subject(self) -> None:
        write_whole(self.path / SUBJECT, self.measured.model_dump_json(indent=2) + "\n")
        if self._config is not None:
            source = self._config / "config.json" if self._config.is_dir() else self._config
            write_whole(self.path / "config.json", source.read_bytes())

    def _description(self) -> str:
        subject = self.measured.subject
        engine = json.loads(subject.engine.model_dump_json(exclude_defaults=True))
        for key in ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "block_size"):
            engine.setdefault(key, getattr(subject.engine, key))
        first = min((one.started_unix_s for one in self.outcomes.values()), default=0.0)
        day = pd.Timestamp(first, unit="s").strftime("%Y-%m-%d")
        description: Mapping[str, object] = {
            "device": subject.device,
            "gpu_memory_gib": subject.gpu_memory_gib,
            "engine_version": subject.engine_version,
            "engine": engine,
            "source": f"lorapack measure of a live server, {day}",
        }
        return yaml.safe_dump(dict(description), sort_keys=False, allow_unicode=True)


def requests_frame(answers: Answers) -> pd.DataFrame:
    """What was sent, as the twin replays it, and what became of it; seconds from the start of the stage."""
    requests = answers.requests
    follows = np.full(len(requests), -1) if requests.follows is None else requests.follows
    return pd.DataFrame(
        {
            "arrival_s": requests.arrival_s.round(6),
            "adapter": requests.adapter,
            "prompt_tokens": answers.prompt_tokens,
            "output_tokens": requests.output_tokens,
            "follows": follows,
            "sent_s": answers.sent_s.round(6),
            "first_token_s": answers.first_token_s.round(6),
            "finish_s": answers.finish_s.round(6),
            "generated_tokens": answers.generated_tokens,
            "failure": ["" if one is None else str(one) for one in answers.failures],
        }
    )


def _same(measured: Measured) -> tuple[object, ...]:
    """What must be the same for a measurement to go on: what a restarted server tells may differ a little."""
    subject = measured.subject
    return (
        subject.model,
        subject.device,
        subject.engine_version,
        subject.engine,
        subject.adapters,
        measured.params,
        measured.total_s,
        measured.seed,
    )


def _read(path: Path, kind: type[M]) -> M:
    source = str(path)
    return model_from(kind, parse(text_of(path, source), source), source)


def _read_requests(path: Path) -> pd.DataFrame | None:
    """Requests of a stage; None where the file is not there or not whole, so that the stage is repeated."""
    try:
        return read_table(path, SentRow)
    except ScenarioError:
        return None


def _read_steps(path: Path) -> pd.DataFrame:
    """Steps that were logged in a stage; none where the file is not there or not whole."""
    try:
        return read_table(path, StepRow)
    except ScenarioError:
        return pd.DataFrame()
