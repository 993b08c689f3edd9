"""Rows of a request log into requests: which count, and what their cells say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scenarios.importers.facts import ImportSourceError
from scenarios.importers.source import Source
from scenarios.importers.traffic.log_forms import LogColumns
from scenarios.importers.traffic.request_log import NO_LENGTH, Collected, RequestLog
from scenarios.reading.row_cells import MOST_TOKENS, CellError, dates, is_date, numbers, refuse
from scenarios.reading.row_files import Columns, RowFile

_NOTHING = ("", "-", "null", "None", "nan")
"""How logs write that there is no value; Envoy writes a dash."""


def read_rows(source: Source, file: RowFile, taken: LogColumns) -> RequestLog:
    """The requests of a log in rows.

    Raises
    ------
    ImportSourceError
        If a cell holds what it cannot, with its line; or there are too few requests.
    scenarios.reading.row_files.TraceError
        If the file is damaged.
    """
    held = Collected(source, taken.source, taken.unit)
    texts = [taken.columns[name] for name in ("adapter", "status", "session") if name in taken.columns]
    texts += [name for name in (taken.fallback, taken.cached) if name is not None]
    for chunk in file.chunks(taken.all, texts, taken.all):
        _add_chunk(held, file, taken, chunk)
    return held.log()


def _add_chunk(held: Collected, file: RowFile, taken: LogColumns, chunk: Columns) -> None:
    cells = {name: chunk[column] for name, column in taken.columns.items()}
    names = _texts(cells["adapter"])
    if taken.fallback is not None:
        names = np.where(names == "", _texts(chunk[taken.fallback]), names)
    try:
        output = _lengths(cells["output_tokens"])
        kept = _kept(held, taken, chunk, names, output)
        time = cells["time"][kept]
        if not len(time):
            return
        prompt, output = _lengths(cells["prompt_tokens"])[kept], output[kept]
        if held.unit is None and is_date(time):
            held.unit = "date"
        instants = dates(time) if held.unit == "date" else numbers(time)
        took = _took(cells["end"][kept], instants, held.unit == "date") if "end" in cells else None
    except CellError as error:
        raise _cell_problem(held.source, file, error) from error
    held.count("requests tell no lengths", int(((prompt < 0) | (output < 0)).sum()))
    if "session" in cells:
        session = _texts(cells["session"][kept])
        # Half of a surrogate pair cannot be hashed; its escape can.
        whole = [one.encode("utf-8", "backslashreplace").decode() for one in session if one]
        session = np.array(whole, dtype=object)
        if len(session):
            held.sessions.append(pd.util.hash_array(session))
    held.add(instants, names[kept], _at_least_one(prompt), _at_least_one(output), took)


def _kept(
    held: Collected,
    taken: LogColumns,
    chunk: Columns,
    names: NDArray[np.object_],
    output: NDArray[np.int32],
) -> NDArray[np.bool_]:
    """Which requests reached an engine and name a model; the others are counted."""
    kept = np.ones(len(names), dtype=np.bool_)
    if taken.cached is not None:
        cached = np.array([text.lower() == "true" for text in _texts(chunk[taken.cached])], dtype=np.bool_)
        held.count("requests were answered from a cache, and left out", int(cached.sum()))
        kept &= ~cached
    if "status" in taken.columns:
        failed = kept & _failed(chunk[taken.columns["status"]])
        held.count("requests failed", int(failed.sum()))
        lost = failed & (output <= 0)
        held.count("of these had no output, and are left out", int(lost.sum()))
        kept &= ~lost
    nameless = kept & (names == "")
    held.count("requests name no model, and are left out", int(nameless.sum()))
    return np.asarray(kept & ~nameless)


def _took(ends: pd.Series[Any], begins: NDArray[Any], are_dates: bool) -> NDArray[np.float64]:
    """How long requests took, in the unit of their times; NaN where a cell is empty.

    Raises
    ------
    CellError
        If a cell holds no time.
    """
    told = ~_empty(ends)
    took = np.full(len(ends), np.nan)
    if told.any():
        given = ends[told]
        instants = dates(given) if are_dates else numbers(given)
        took[told] = np.subtract(instants, begins[told], dtype=np.float64)
    return took


def _empty(cells: pd.Series[Any]) -> NDArray[np.bool_]:
    """Which cells hold nothing."""
    if cells.dtype.kind in "iu":
        return np.zeros(len(cells), dtype=np.bool_)
    return np.array(
        [one is None or one != one or str(one).strip() in _NOTHING for one in cells], dtype=np.bool_
    )


def _cell_problem(source: Source, file: RowFile, error: CellError) -> ImportSourceError:
    # A column that was mapped wrongly may hold what people wrote, which no message shows.
    text = str(error.value)
    shown = f'"{text}"' if len(text) <= 24 and "@" not in text else f"a text of {len(text):,} characters"
    return source.error(
        f"holds {shown} ({error.why})",
        "correct or remove the row, or say by --map which column is meant",
        place=file.place(error.row),
    )


def _at_least_one(lengths: NDArray[np.int32]) -> NDArray[np.int32]:
    return np.where(lengths == 0, 1, lengths).astype(np.int32)


def _texts(cells: pd.Series[Any]) -> NDArray[np.object_]:
    """Cells as texts; empty where there is none. What is neither text nor number is none."""
    values = cells.astype(object)
    return np.array(
        [
            ""
            if one is None or isinstance(one, bool | dict | list) or one != one or str(one) in _NOTHING
            else str(one)
            for one in values
        ],
        dtype=object,
    )


def _lengths(cells: pd.Series[Any]) -> NDArray[np.int32]:
    """Lengths in tokens; `NO_LENGTH` where a cell is empty.

    Raises
    ------
    CellError
        If one is no whole number from 0 to `MOST_TOKENS`.
    """
    empty = _empty(cells)
    given = cells[~empty] if empty.any() else cells
    lengths = np.full(len(cells), NO_LENGTH, dtype=np.int32)
    if len(given):
        values = numbers(given)
        refuse(given, values != np.floor(values), "must be a whole number")
        refuse(given, (values < 0) | (values > MOST_TOKENS), f"must be from 0 to {MOST_TOKENS:,}")
        lengths[~empty] = values
    return lengths


def _failed(cells: pd.Series[Any]) -> NDArray[np.bool_]:
    """Whether a status says that a request failed: 400 and above, 0 (nobody answered), or a word for it."""
    codes, distinct = pd.factorize(_texts(cells))
    return np.array([_says_failure(text) for text in distinct], dtype=np.bool_)[codes]


def _says_failure(text: str) -> bool:
    word = text.strip().lower().split(" ")[0]
    if word.replace(".", "", 1).isdecimal():
        return not 0 < float(word) < 400
    return word not in ("", "success", "ok", "stop", "length", "succeeded", "completed", "true", "unset")
