"""Cells of files of requests into numbers: instants, tokens, names, hashes of prefixes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scenarios.reading.row_files import RowFile, TraceError
from scenarios.text.display import is_whole
from scenarios.text.formatting import shortened

T = TypeVar("T")

Tokens = NDArray[np.int32]

MOST_TOKENS = 10_000_000
"""Most tokens of a prompt or an answer that are taken for a length."""

MOST_NAMES = 250_000
"""Most names of adapters in a trace: as many as a scenario may have."""


PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000, "date": 1_000_000_000}
"""How many of a unit of time a second has; dates are held in ns."""

_EPOCHS = ((1e17, "ns"), (1e14, "us"), (1e11, "ms"), (1e9, "s"))
"""From which number on an instant counts a unit from 1970: any after 2001, to the year 5138."""

LONGEST_S = 10 * 365.25 * 86_400
"""Most seconds of a trace: what is longer has a wrong instant or another unit."""


class CellError(ValueError):
    """A cell holds something else than it should.

    Parameters
    ----------
    row
        Its row in the file, from 0.
    value
        What it holds.
    why
        What it should be.
    """

    def __init__(self, row: int, value: object, why: str) -> None:
        self.row, self.value, self.why = row, value, why
        super().__init__(why)


def parsed(file: RowFile, cells: pd.Series[Any], parse: Callable[[pd.Series[Any]], T]) -> T:
    """What a column of a file holds.

    Raises
    ------
    TraceError
        If a cell holds something else, with its line and what it holds.
    """
    try:
        return parse(cells)
    except CellError as error:
        raise TraceError(
            f'{file.path}, {file.place(error.row)}: {cells.name} is "{shortened(str(error.value))}" '
            f"({error.why}); correct or remove the row"
        ) from error


def numbers(cells: pd.Series[Any]) -> NDArray[Any]:
    """Finite numbers, as integers where all are.

    Raises
    ------
    CellError
        If one is none.
    """
    if cells.dtype.kind in "iu":
        return cells.to_numpy()
    if cells.dtype.kind != "f":
        refuse(cells, cells.map(lambda cell: isinstance(cell, bool | np.bool_)), "must be a number")
        # Beyond 64 bits pandas has no number for it.
        refuse(
            cells, cells.map(lambda cell: isinstance(cell, int) and abs(cell) >= 2**63), "must be a number"
        )
    values = pd.to_numeric(cells, errors="coerce").to_numpy()
    if values.dtype.kind not in "iu":
        values = values.astype(np.float64)
        refuse(cells, ~np.isfinite(values), "must be a finite number")
    return values


def tokens(cells: pd.Series[Any]) -> Tokens:
    """Lengths in tokens; those of 0, as BurstGPT has for requests that failed, count with one.

    Raises
    ------
    CellError
        If one is no whole number from 0 to `MOST_TOKENS`.
    """
    values = numbers(cells)
    refuse(cells, values != np.floor(values), "must be a whole number")
    refuse(cells, (values < 0) | (values > MOST_TOKENS), f"must be from 0 to {MOST_TOKENS:,}")
    lengths: Tokens = np.maximum(values, 1).astype(np.int32)
    return lengths


def dates(cells: pd.Series[Any]) -> NDArray[np.int64]:
    """Dates, with or without offset from UTC, in ns since 1970; without it they are UTC.

    Raises
    ------
    CellError
        If one is no date of ISO 8601 between 1970 and 2200.
    """
    why = "must be a date such as 2024-05-10 00:00:00.5 or 2024-05-10T00:00:00Z"
    if cells.dtype.kind in "iuf":
        raise _cell_error(cells, 0, why)
    texts = cells
    if cells.dtype == object:  # whole numbers among them are no dates; texts stay Python's
        texts = pd.Series([str(cell) for cell in cells], cells.index, dtype=object, name=cells.name)
    instants = pd.to_datetime(texts, format="ISO8601", utc=True, errors="coerce")
    refuse(cells, instants.isna(), why)
    refuse(cells, (instants.dt.year < 1970) | (instants.dt.year >= 2200), "must be from 1970 to 2199")
    return np.asarray(instants.dt.as_unit("ns").astype(np.int64), dtype=np.int64)


def is_date(cells: pd.Series[Any]) -> bool:
    """Whether instants are dates, as the first one shows."""
    first = cells.iloc[:1].map(lambda cell: 0 if isinstance(cell, int) else cell)  # pandas' end at 1e308
    return cells.dtype.kind == "M" or bool(pd.to_numeric(first, errors="coerce").isna().all())


def unit_of_values(instants: NDArray[Any]) -> str | None:
    """Unit of instants that count one from 1970, or have fractions; None: whole numbers may be of any."""
    least = float(instants.min())
    unit = next((unit for start, unit in _EPOCHS if least >= start), None)
    if unit is None and (instants != np.floor(instants)).any():
        return "s"  # logs of finer units count them
    return unit


def names(cells: pd.Series[Any]) -> NDArray[np.object_]:
    """Names of adapters as texts; empty where there is none.

    Raises
    ------
    CellError
        If one has half of a surrogate pair, which no file that it is written into can hold.
    """
    held = np.array(["" if _is_none(cell) else str(cell) for cell in cells], dtype=object)
    halves = [name for name in set(held) if not is_whole(name)]
    if halves:
        refuse(cells, np.isin(held, halves), "must be whole characters: it has half of a surrogate pair")
    return held


def hashes(cells: pd.Series[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Number of hashes of each row, and all hashes end to end; a row may have none.

    Raises
    ------
    CellError
        If a cell is no list of whole numbers.
    """
    why = "must be a list of whole numbers"
    rows: list[Iterable[Any]] = [() if _is_none(cell) else cell for cell in cells]
    refuse(cells, [not isinstance(cell, list | tuple | np.ndarray) for cell in rows], why)
    count = np.array([len(cell) for cell in rows], dtype=np.int64)  # type: ignore[arg-type]
    flat = list(chain.from_iterable(rows))
    try:
        held = np.array(flat, dtype=np.int64) if flat else np.zeros(0, dtype=np.int64)
        exact = all(issubclass(kind, int | np.integer) for kind in set(map(type, flat)))
    except (ValueError, TypeError, OverflowError):
        exact = False
    if exact:
        return count, held
    row = next(k for k, cell in enumerate(rows) if not all(_is_int64(value) for value in cell))
    raise _cell_error(cells, row, why)


def _is_int64(value: object) -> bool:
    return isinstance(value, int | np.integer) and -(2**63) <= int(value) < 2**63


def _is_none(cell: object) -> bool:
    return cell is None or (isinstance(cell, float) and cell != cell)


def refuse(cells: pd.Series[Any], wrong: Any, why: str) -> None:
    """Refuse the first cell that is wrong.

    Raises
    ------
    CellError
        If one is.
    """
    found = np.flatnonzero(np.asarray(wrong, dtype=np.bool_))
    if len(found):
        raise _cell_error(cells, int(found[0]), why)


def _cell_error(cells: pd.Series[Any], place: int, why: str) -> CellError:
    return CellError(int(cells.index[place]), cells.iloc[place], why)
