"""Rows that cells of a part gave: kept in one CSV file, so that a run goes on where another stopped."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from joblib.externals.loky import get_reusable_executor

from optimizer import __version__
from scenarios import write_whole
from twin import EngineProfile

Row = dict[str, Any]

DIGEST, CPU, WALL = "digest", "cpu_s", "wall_s"
"""Columns beside a cell's own: of what its rows were made; seconds of the processor and of the clock that the
cell took, in its first row alone."""


LIMIT, CUT = "time_limit", "cut"
"""Columns of rows that were searched for: seconds of search, and whether these were too few to end it."""

ENOUGH_S, SPIN_S, LEAST_SHARE = 10.0, 0.5, 0.02
"""From how many seconds of life on a process knows its share of the processor, for how long a younger one
tries it out, and below which share nothing is believed."""

_BEGUN = time.monotonic(), time.process_time()


@dataclass(frozen=True)
class Cell:
    """One thing to be measured.

    Parameters
    ----------
    key
        What names it; columns of its rows.
    inputs
        Whatever else its rows depend on, as digests or plain values.
    time_limit_s
        Seconds of search. What was not cut short is the same under any limit, so only rows that were are
        made again with a longer one.
    """

    key: Mapping[str, Any]
    inputs: Mapping[str, Any]
    time_limit_s: float = 0.0

    @property
    def digest(self) -> str:
        """Digest of key, inputs and the version of lorapack."""
        content = {"key": dict(self.key), "inputs": dict(self.inputs), "version": __version__}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:16]

    def __str__(self) -> str:
        return " ".join(f"{name}={value}" for name, value in self.key.items())


def records(frame: pd.DataFrame) -> list[Row]:
    """The rows of a frame; None where a value is missing."""
    known = frame.astype(object).where(frame.notna(), None)
    return [{str(name): value for name, value in row.items()} for row in known.to_dict("records")]


def grouped(frame: pd.DataFrame, *names: str) -> dict[tuple[Any, ...], list[Row]]:
    """Rows by their values of some columns, in the order in which these come."""
    groups: dict[tuple[Any, ...], list[Row]] = {}
    for row in records(frame):
        groups.setdefault(tuple(row[name] for name in names), []).append(row)
    return groups


class RowFile:
    """Rows of a part in a CSV file.

    A cell's rows are those with its digest. Rows with its key and another digest, made of other inputs, are
    replaced when it is measured again.

    Parameters
    ----------
    path
        The file; made with the first rows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rows: list[Row] = []
        if path.exists():
            self.rows = records(pd.read_csv(path, dtype={DIGEST: str}))

    def of(self, cell: Cell) -> list[Row]:
        """The rows of a cell; none if it was not measured, or of other inputs, or cut short too early."""
        rows = [row for row in self.rows if row[DIGEST] == cell.digest]
        early = any(row.get(CUT) and row[LIMIT] < cell.time_limit_s for row in rows)
        return [] if early else rows

    def keep(self, cell: Cell, rows: Sequence[Row], cpu_s: float, wall_s: float) -> None:
        """Put a cell's rows into the file, in place of older ones."""
        kept = [row for row in self.rows if any(row.get(name) != value for name, value in cell.key.items())]
        first = [{CPU: round(cpu_s, 1), WALL: round(wall_s, 1)}, *({} for _ in rows[1:])]
        new = [
            {**cell.key, **row, **took, DIGEST: cell.digest} for row, took in zip(rows, first, strict=True)
        ]
        self.rows = [*kept, *new]
        frame = pd.DataFrame(self.rows)
        last = [CPU, WALL, DIGEST]
        frame = frame[[*(name for name in frame.columns if name not in last), *last]]
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(self.path, frame.to_csv(index=False, float_format="%.6g"))


def processor_s() -> float:
    """Seconds of the processor that this process and all that it started have taken.

    Workers that wait for more work are ended first, as only those that ended are counted.
    """
    get_reusable_executor().shutdown(wait=True)
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def processor_share() -> float:
    """Share of a processor that this process has had, beside whatever else runs; a young one tries it out."""
    begin, cpu = _BEGUN
    if time.monotonic() - begin < ENOUGH_S:
        begin, cpu = time.monotonic(), time.process_time()
        while time.monotonic() - begin < SPIN_S:
            pass
    share = (time.process_time() - cpu) / (time.monotonic() - begin)
    return min(max(share, LEAST_SHARE), 1.0)


class Clock:
    """Seconds of the processor and of the clock since it was made."""

    def __init__(self) -> None:
        self._cpu, self._wall = processor_s(), time.monotonic()

    def read(self) -> tuple[float, float]:
        """Both."""
        return processor_s() - self._cpu, time.monotonic() - self._wall


def file_digest(path: Path) -> str:
    """Digest of a file's bytes."""
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def profile_digest(profile: EngineProfile) -> str:
    """Digest of all that an engine profile says."""
    return hashlib.sha256(profile.model_dump_json().encode()).hexdigest()[:16]
