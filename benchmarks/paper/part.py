"""What a part of the benchmark is: cells, how one is measured, and how its rows are shown."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from benchmarks.paper.rows import CUT, LIMIT, Cell, Row, processor_share

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DEVICE = "H100-64GB"
MODELS = {"llama": "llama-3.1-8b-instruct", "qwen": "qwen-2.5-7b-instruct"}
"""The paper's base models, by the names that tables and options have."""


class MissingDataError(FileNotFoundError):
    """Data of others that a part needs are not where they were looked for."""


@dataclass(frozen=True)
class Settings:
    """What all parts are told.

    Parameters
    ----------
    quick
        Whether to measure a few small cells only, to see that all works.
    measurements, traces
        Folders of the public measurements and of the public traces.
    time_limit_s
        Seconds of the processor for the search of each plan.
    replications
        Twin runs per verdict.
    workers
        Processes.
    """

    quick: bool
    measurements: Path
    traces: Path
    time_limit_s: float
    replications: int
    workers: int

    @classmethod
    def of(cls, given: argparse.Namespace) -> Settings:
        """Those of the command line."""
        return cls(
            quick=given.quick,
            measurements=given.measurements,
            traces=given.traces,
            time_limit_s=given.time_limit,
            replications=given.replications,
            workers=given.workers,
        )

    def clock_limit_s(self) -> float:
        """Seconds of the clock that hold the seconds of the processor, on a machine as busy as now."""
        return self.time_limit_s / processor_share()

    def searched(self, stop_reason: str) -> Row:
        """Columns of a row that say how long was searched."""
        return {LIMIT: self.time_limit_s, CUT: stop_reason == "time_limit", "replications": self.replications}

    def file(self, folder: Path, name: str, option: str) -> Path:
        """A file of others' data.

        Raises
        ------
        MissingDataError
            If it is not there.
        """
        path = folder / name
        if not path.is_file():
            raise MissingDataError(
                f"{path} is not there; give the folder that holds {name} by {option} (docs/paper.md says "
                "where it is from)"
            )
        return path


@dataclass(frozen=True)
class Part:
    """One of the paper's tables.

    Parameters
    ----------
    name
        Name of the part, of its rows' file and of its pictures.
    cells
        What is to be measured, small and important things first.
    measure
        Rows of one cell.
    tables
        Tables of all rows, by the name of their place on the page.
    draw
        Pictures of all rows, by the name of their file.
    """

    name: str
    cells: Callable[[Settings], Iterator[Cell]]
    measure: Callable[[Cell, Settings], Sequence[Row]]
    tables: Callable[[pd.DataFrame], dict[str, pd.DataFrame]]
    draw: Callable[[pd.DataFrame], dict[str, Figure]]
