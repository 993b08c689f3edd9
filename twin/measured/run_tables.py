"""Tables of measured runs: a file, or a folder that holds one with a description and the requests sent."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scenarios import Problem, ScenarioError
from scenarios.reading.yaml_reader import FILE
from twin.measured.measurement import DESCRIPTION, read_measurement, table_file
from twin.measured.runs import MeasuredRun, RecordedRun
from twin.measured.sent_requests import read_requests
from twin.measured.tables import read_table, rows_of

RUNS = "serving_runs"
"""Name of a folder's table of runs."""

ENGINE_COLUMNS = ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "gpu_memory_utilization")
"""Columns that are the engine's arguments, which a folder's description has for all runs."""


def read_runs(source: str | Path) -> pd.DataFrame:
    """Read a table of serving runs; columns that are not those of `MeasuredRun` are kept as they are.

    Parameters
    ----------
    source
        The table, or a folder with ``serving_runs.csv``. What its rows do not say of their engine, a folder's
        ``measurement.yaml`` says.

    Raises
    ------
    ScenarioError
        If the file is no such table; names every column that is missing and every bad cell.
    """
    path = Path(source)
    if not path.is_dir():
        return read_table(path, MeasuredRun, strict=False)
    file = table_file(path, RUNS)
    if file is None:
        remedy = "name a table of runs, or a folder with one, as in docs/calibration.md"
        raise ScenarioError([Problem(FILE, f"is a folder without {RUNS}.csv", remedy)], str(path))
    table = read_table(file, MeasuredRun, strict=False)
    return _with_engine(table, path) if (path / DESCRIPTION).exists() else table


def _with_engine(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    engine = read_measurement(folder).engine
    own = [name for name in ENGINE_COLUMNS if name in table.columns]
    said = table.astype(dict.fromkeys(own, object))
    for name in ENGINE_COLUMNS:
        value = getattr(engine, name)
        said[name] = said[name].fillna(value) if name in own else value
    return said


def measured_runs(table: pd.DataFrame, source: str | Path) -> list[MeasuredRun]:
    """The runs of a table, or of some of its rows, with the requests of those that name a file of them.

    Parameters
    ----------
    table
        From `read_runs`.
    source
        What it was read from.

    Raises
    ------
    ScenarioError
        If a file of requests lies outside the table's folder.
    scenarios.reading.row_files.TraceError
        If one is missing or damaged.
    """
    folder = Path(source) if Path(source).is_dir() else Path(source).parent
    return [_with_requests(run, folder) for run in rows_of(table, MeasuredRun)]


def _with_requests(run: MeasuredRun, folder: Path) -> MeasuredRun:
    if not run.requests_file:
        return run
    file = folder / run.requests_file
    if not file.resolve().is_relative_to(folder.resolve()):
        where = f"run {run.run_id}, requests_file"
        what = f'is "{run.requests_file}", which lies outside the folder'
        raise ScenarioError([Problem(where, what, "copy it into a folder beside the table")], str(folder))
    known = {name: getattr(run, name) for name in MeasuredRun.model_fields}
    return RecordedRun(**known, recorded=read_requests(file, run.n_adapters))


def with_defaults(table: pd.DataFrame) -> pd.DataFrame:
    """A table from `read_runs` with the columns that it lacks, at their defaults."""
    absent = {name: f for name, f in MeasuredRun.model_fields.items() if name not in table.columns}
    return table.assign(**{name: f.default for name, f in absent.items() if not f.is_required()})


def selected(table: pd.DataFrame, qualities: Sequence[str]) -> NDArray[np.bool_]:
    """Which rows of a table ran and have one of these qualities."""
    table = with_defaults(table)
    chosen: NDArray[np.bool_] = ((table["status"] == "ok") & table["quality"].isin(qualities)).to_numpy()
    return chosen
