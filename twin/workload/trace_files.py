"""Trace files into traces."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scenarios import TraceArrivals, TraceColumns
from scenarios.errors import cause_of
from scenarios.reading import row_cells
from scenarios.reading.row_cells import LONGEST_S, MOST_NAMES, PER_SECOND, parsed, unit_of_values
from scenarios.reading.row_files import RowFile, TraceError, open_rows
from scenarios.reading.trace_forms import HASHES, TakenColumns, take_columns
from twin.workload.traces import PrefixHashes, Trace

MOST_ID = 2**40
"""Hashes from here on are numbered: with the number of an adapter they must fit into 64 bits."""

_NOTHING_STATED = TraceColumns()


def trace_of(arrivals: TraceArrivals) -> Trace:
    """The trace that a scenario names, all of it.

    Raises
    ------
    TraceError
        If the file is missing or damaged, or it is not known which columns hold what.
    """
    return read_trace(arrivals.file, arrivals.columns, arrivals.time_unit)


def stated_trace(arrivals: TraceArrivals, names: tuple[str, ...] | None) -> Trace:
    """The same for adapters with these names in the trace; None: its requests are dealt by rate.

    Raises
    ------
    TraceError
        As `trace_of`, or if requests are dealt by rate, a column names adapters, and nobody said that it does
        not count.
    """
    trace, taken = _read(arrivals.file, arrivals.columns, arrivals.time_unit)
    if names is None and trace.names and not trace.guessed:
        raise TraceError(
            f"{arrivals.file}: has a column {taken.adapter}; say columns: {{adapter: {taken.adapter}}}, and "
            "each adapter gets the requests under its name, or columns: {adapter: false} to deal them by rate"
        )
    return trace


def read_trace(
    path: Path | str, columns: TraceColumns = _NOTHING_STATED, time_unit: str | None = None
) -> Trace:
    """Read a trace: CSV, one JSON object a line, both plain or compressed by gzip, or Parquet.

    A request of 0 tokens, as BurstGPT has for those that failed, counts with one.

    Parameters
    ----------
    path
        The file.
    columns
        Which columns hold what; those left out are found as `take_columns` does.
    time_unit
        Unit of the instants: s, ms, us, ns or date; absent: as the form, the column's name or values say.

    Raises
    ------
    TraceError
        If the file is missing or damaged, or it is not known which columns hold what.
    """
    return _read(path, columns, time_unit)[0]


def taken_columns(
    path: Path | str, columns: TraceColumns = _NOTHING_STATED, time_unit: str | None = None
) -> TakenColumns:
    """Which columns `read_trace` takes, with the unit that it takes the instants in.

    Raises
    ------
    TraceError
        As `read_trace` does.
    """
    return _read(path, columns, time_unit)[1]


def trace_digest(path: Path | str, columns: TraceColumns = _NOTHING_STATED, unit: str | None = None) -> str:
    """Digest of the content of a trace, by which its requests are known whatever its name.

    Raises
    ------
    TraceError
        As `read_trace` does.
    """
    return read_trace(path, columns, unit).digest


def _read(path: Path | str, columns: TraceColumns, unit: str | None) -> tuple[Trace, TakenColumns]:
    path = Path(path)
    try:
        stamp = path.stat()
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({cause_of(error)}); give the path of a trace") from error
    return _read_stamped(path, columns, unit, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=8)
def _read_stamped(
    path: Path, columns: TraceColumns, unit: str | None, _modified_ns: int, _size: int
) -> tuple[Trace, TakenColumns]:
    file = open_rows(path)
    taken = take_columns(path, file.columns, columns, unit)
    held = _Held(file, taken)
    named = () if taken.adapter is None else (taken.adapter,)
    for chunk in file.chunks(taken.columns, named, (*named, HASHES)):
        held.add(chunk)
    return held.trace(), held.taken


@dataclass
class _Held:
    """What was read of a file so far."""

    file: RowFile
    taken: TakenColumns
    rows: int = 0
    instants: list[NDArray[Any]] = field(default_factory=list)
    prompts: list[NDArray[np.int32]] = field(default_factory=list)
    outputs: list[NDArray[np.int32]] = field(default_factory=list)
    name: list[NDArray[np.int32]] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    counts: list[NDArray[np.int64]] = field(default_factory=list)
    ids: list[NDArray[np.int64]] = field(default_factory=list)

    def add(self, chunk: Any) -> None:
        """Take the next rows."""
        file, taken = self.file, self.taken
        if taken.unit is None and row_cells.is_date(chunk[taken.time]):
            self.taken = taken = replace(taken, unit="date")
        instants = row_cells.dates if taken.unit == "date" else row_cells.numbers
        self.instants.append(parsed(file, chunk[taken.time], instants))
        self.prompts.append(parsed(file, chunk[taken.prompt], row_cells.tokens))
        self.outputs.append(parsed(file, chunk[taken.output], row_cells.tokens))
        if taken.adapter is not None:
            self._add_names(parsed(file, chunk[taken.adapter], row_cells.names))
        if taken.hash_tokens:
            count, ids = parsed(file, chunk[HASHES], row_cells.hashes)
            self.counts.append(count)
            self.ids.append(ids)
        self.rows += len(chunk[taken.time])

    def _add_names(self, names: NDArray[np.object_]) -> None:
        code, distinct = pd.factorize(names)
        for name in distinct:
            if name:
                self.numbers.setdefault(name, len(self.numbers))
        if len(self.numbers) > MOST_NAMES:
            raise TraceError(
                f"{self.file.path}: has more than {MOST_NAMES:,} adapters in the column "
                f"{self.taken.adapter}; name another: columns: {{adapter: NAME}}, or false"
            )
        number = np.array([self.numbers.get(name, -1) for name in distinct], dtype=np.int32)
        self.name.append(number[code])

    def trace(self) -> Trace:
        """All that was read, in the order of arrival."""
        path, n = self.file.path, self.rows
        instants = np.concatenate(self.instants) if n else np.zeros(0)
        if n < 2 or instants.max() <= instants.min():
            raise TraceError(f"{path}: holds {n} requests; a trace needs two at different instants")
        self._know_unit(instants)
        # From the first on as they are written: ns since 1970 are more than a float holds.
        since = (instants - instants.min()).astype(np.float64)
        order = np.argsort(since, kind="stable")
        # By division: 40 ms are 0.04 s, and 40 times 0.001 is not quite that.
        arrival = since[order] / PER_SECOND[str(self.taken.unit)]
        if not arrival[-1] <= LONGEST_S:
            raise TraceError(
                f"{path}: has instants more than 10 years apart; correct {self.taken.time}, or say time_unit"
            )
        trace = Trace(
            arrival,
            np.concatenate(self.prompts)[order],
            np.concatenate(self.outputs)[order],
            float(arrival[-1]) * n / (n - 1),
            tuple(self.numbers),
            np.concatenate(self.name)[order] if self.numbers else None,
            self.taken.guessed,
            self._hashes(order),
        )
        for array in (trace.arrival_s, trace.prompt_tokens, trace.output_tokens):
            array.setflags(write=False)
        return trace

    def _know_unit(self, instants: NDArray[Any]) -> None:
        if self.taken.unit is not None:
            return
        unit = unit_of_values(instants)
        if unit is None:
            raise TraceError(
                f"{self.file.path}: whole numbers in {self.taken.time} may be of any unit; say which: "
                "time_unit: s, ms, us or ns"
            )
        self.taken = replace(self.taken, unit=unit)

    def _hashes(self, order: NDArray[np.int64]) -> PrefixHashes | None:
        if not self.taken.hash_tokens:
            return None
        start = np.concatenate(([0], np.cumsum(np.concatenate(self.counts))))
        ids = np.concatenate(self.ids)
        if len(ids) and (ids.min() < 0 or ids.max() >= MOST_ID):
            ids = np.unique(ids, return_inverse=True)[1].astype(np.int64)
        return PrefixHashes(start, ids, self.taken.hash_tokens).taken(order)
