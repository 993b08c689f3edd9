"""Files of the requests that were sent in a measured run, one row each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scenarios import write_whole
from scenarios.reading.row_cells import LONGEST_S, MOST_TOKENS, numbers, parsed, refuse
from scenarios.reading.row_files import RowFile, TraceError, open_rows
from scenarios.text.formatting import choice, shortened
from twin.engine.requests import FloatArray, IntArray, Requests

COLUMNS = ("arrival_s", "adapter", "prompt_tokens", "output_tokens")
"""What every row says: when the request was sent, for which adapter (from 0), and its tokens."""

FOLLOWS = "follows"
"""Column, which may be absent, of the row (from 0) of the request after whose last token this one was sent,
``arrival_s`` seconds later; empty or -1: it was sent ``arrival_s`` seconds after the start of the run."""

MOST_REQUESTS = 2_000_000
"""Most requests of a run."""

Numbers = NDArray[Any]


def read_requests(path: Path, n_adapters: int) -> Requests:
    """Read the requests of a run.

    Parameters
    ----------
    path
        CSV file, packed or not, with the columns `COLUMNS` and perhaps `FOLLOWS`; rows in any order.
    n_adapters
        Adapters that the engine served.

    Raises
    ------
    TraceError
        If it is missing or damaged, or a row cannot be: the message names the row.
    """
    file = open_rows(path)
    known = [*COLUMNS, *([FOLLOWS] if FOLLOWS in file.columns else [])]
    if absent := [name for name in COLUMNS if name not in file.columns]:
        raise TraceError(
            f"{path}: has no column {choice(absent, 'and')}; its columns are "
            f"{shortened(choice(file.columns, 'and'))}, give {choice(COLUMNS, 'and')}"
        )
    parts = [_numbers_of(file, chunk, n_adapters) for chunk in _bounded(file, known)]
    if not sum(len(part[0]) for part in parts):
        raise TraceError(f"{path}: has no request; give a row for each, or leave requests_file empty")
    arrival, adapter, prompt, output, follows = (np.concatenate(part) for part in zip(*parts, strict=True))
    _check_follows(file, follows)
    return _in_order(arrival, adapter, prompt, output, follows, n_adapters)


def write_requests(requests: Requests, path: Path) -> None:
    """Write requests as `read_requests` reads them.

    Raises
    ------
    scenarios.OutputFileError
        If the file cannot be written.
    """
    columns = {name: getattr(requests, name) for name in COLUMNS}
    if requests.follows is not None:
        columns[FOLLOWS] = requests.follows
    write_whole(path, pd.DataFrame(columns).to_csv(index=False, float_format="%.6f"))


def _bounded(file: RowFile, columns: list[str]) -> Any:
    rows = 0
    for chunk in file.chunks(columns):
        rows += len(chunk[COLUMNS[0]])
        if rows > MOST_REQUESTS:
            raise TraceError(f"{file.path}: has more than {MOST_REQUESTS:,} requests; cut the run in parts")
        yield chunk


def _numbers_of(file: RowFile, chunk: Any, n_adapters: int) -> tuple[Numbers, ...]:
    """Columns of some rows: arrivals, adapters, prompts, outputs, and whom each follows."""

    def whole(name: str, least: int, most: int) -> Numbers:
        def read(cells: pd.Series[Any]) -> Numbers:
            values = numbers(cells)
            wrong = (values != np.floor(values)) | (values < least) | (values > most)
            refuse(cells, wrong, f"must be a whole number from {least} to {most:,}")
            return values.astype(np.int32)

        return parsed(file, chunk[name], read)

    def seconds(cells: pd.Series[Any]) -> Numbers:
        values = numbers(cells).astype(np.float64)
        refuse(cells, (values < 0) | (values > LONGEST_S), f"must be seconds from 0 to {LONGEST_S:,.0f}")
        return values

    if FOLLOWS in chunk:
        chunk = {**chunk, FOLLOWS: chunk[FOLLOWS].replace("", -1)}
        follows = whole(FOLLOWS, -1, MOST_REQUESTS)
    else:
        follows = np.full(len(chunk[COLUMNS[0]]), -1, dtype=np.int32)
    return (
        parsed(file, chunk["arrival_s"], seconds),
        whole("adapter", 0, n_adapters - 1),
        whole("prompt_tokens", 1, MOST_TOKENS),
        whole("output_tokens", 1, MOST_TOKENS),
        follows,
    )


def _check_follows(file: RowFile, follows: IntArray) -> None:
    """Refuse requests that follow none that there is, the same one as another, or each other in a circle."""
    n = len(follows)
    later = np.flatnonzero(follows >= 0)

    def refuse_row(rows: Numbers, why: str) -> None:
        if len(rows):
            row = int(rows[0])
            raise TraceError(f"{file.path}, {file.place(row)}: follows is {follows[row]}, {why}")

    refuse_row(later[follows[later] >= n], f"but the last row is {n - 1} (the first one is 0); correct it")
    _, first = np.unique(follows[later], return_index=True)
    twice = np.setdiff1d(later, later[first])
    refuse_row(twice, "as of a row before it; a request is followed by one other at most")
    successor = np.full(n, -1, dtype=np.int64)
    successor[follows[later]] = later
    reached, front = np.zeros(n, dtype=np.bool_), np.flatnonzero(follows < 0)
    while len(front):
        reached[front] = True
        front = successor[front]
        front = front[front >= 0]
    refuse_row(np.flatnonzero(~reached), "in a circle: none of these requests was ever sent; correct it")


def _in_order(
    arrival: FloatArray, adapter: IntArray, prompt: IntArray, output: IntArray, follows: IntArray, n: int
) -> Requests:
    """The requests as the engine wants them: those that follow none first, by arrival."""
    order = np.lexsort((np.where(follows < 0, arrival, 0.0), follows >= 0))
    place = np.empty(len(order), dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    whom = follows[order]
    return Requests(
        arrival_s=arrival[order],
        prompt_tokens=prompt[order],
        output_tokens=output[order],
        adapter=adapter[order],
        n_adapters=n,
        follows=np.where(whom >= 0, place[whom], -1).astype(np.int32) if (whom >= 0).any() else None,
    )
