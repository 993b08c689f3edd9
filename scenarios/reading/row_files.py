"""Rows of files of requests, column by column: CSV, JSON (an object a line, or a list), or Parquet."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO, Literal, TypeVar, cast

import pandas as pd

from scenarios.reading.json_stream import JsonStream, JsonStreamError
from scenarios.reading.row_opening import MOST_CHUNK_BYTES, PARQUET, Metered, opened, parquet_of, told
from scenarios.reading.row_opening import TraceError as TraceError
from scenarios.reading.syntax.json_text import JsonTextError, json_value

T = TypeVar("T")

Columns = Mapping[str, "pd.Series[Any]"]

CHUNK_ROWS = 200_000
"""Rows that are read at once: of a larger file only the numbers are held in memory."""

MOST_ROWS = 50_000_000
"""Most rows of a file; BurstGPT's largest has 5.3 million."""

CHUNK_BYTES = 32 * 2**20
"""About how many bytes are read at once: rows that hold whole conversations are long."""

MOST_HEADER = 1_000_000
"""Most bytes of the first line."""

DELIMITERS = ",;\t"

_LISTS: Mapping[tuple[tuple[str, ...], ...], re.Pattern[bytes]] = {
    (): re.compile(rb"\s*\[\s*\{"),
    (("data",),): re.compile(rb'\s*\{.*"data"\s*:\s*\[\s*\{', re.DOTALL),
}
"""How files begin that hold one list of rows, by the keys to it: an array, or that of ``data``."""


@dataclass(frozen=True)
class RowFile:
    """A file of rows.

    Parameters
    ----------
    path
        Where it is.
    kind
        What is in it, whatever its name.
    columns
        Names of its columns; of JSON the keys of the first object.
    delimiter
        What divides the cells of CSV.
    headed
        Whether its first row names the columns.
    within
        Of JSON keys to the list of rows, as `JsonStream.values` takes them; None: rows are lines.
    """

    path: Path
    kind: Literal["csv", "json", "parquet"]
    columns: tuple[str, ...]
    delimiter: str = ","
    headed: bool = True
    within: tuple[tuple[str, ...], ...] | None = None

    def chunks(
        self, columns: Sequence[str], texts: Sequence[str] = (), optional: Sequence[str] = ()
    ) -> Iterator[Columns]:
        """Some columns of all rows, at most `CHUNK_ROWS` at a time; their index counts rows from 0.

        Parameters
        ----------
        columns
            Names of columns that the file has.
        texts
            Those of them whose cells are texts even where they look like numbers.
        optional
            Those of them that a JSON object may lack; the cell is None.

        Raises
        ------
        TraceError
            If the file is damaged or too long.
        """
        wanted, rows = list(dict.fromkeys(columns)), 0
        with told(self.path):
            if self.kind == "csv":
                chunks = self._csv(wanted, texts)
            else:
                chunks = self._json(wanted, optional) if self.kind == "json" else self._parquet(wanted)
            for chunk in chunks:
                rows += len(chunk[wanted[0]])
                if rows > MOST_ROWS:
                    raise TraceError(f"{self.path}: has more than {MOST_ROWS:,} rows; cut it in parts")
                yield chunk

    def place(self, row: int) -> str:
        """Where a row stands, in words; rows are counted from 0."""
        if self.kind == "parquet" or self.within is not None:
            return f"{'row' if self.kind == 'parquet' else 'object'} {row + 1}"
        with told(self.path), opened(self.path) as file:
            text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
            if self.kind == "json":
                lines = (number for number, line in enumerate(text, 1) if line.strip())
                return f"line {next(islice(lines, row, None))}"
            reader = csv.reader(text, delimiter=self.delimiter)
            filled = (reader.line_num for cells in reader if len(cells) > 1 or "".join(cells).strip())
            return f"line {next(islice(filled, row + self.headed, None))}"

    def _csv(self, columns: list[str], texts: Sequence[str]) -> Iterator[Columns]:
        with opened(self.path) as file:
            metered = Metered(self.path, file)
            chunks = pd.read_csv(
                metered,
                sep=self.delimiter,
                names=None if self.headed else list(self.columns),
                header=0 if self.headed else None,
                usecols=columns,
                dtype={name: str for name in texts if name in columns},
                na_filter=False,  # an empty cell is none, not a number that is not one
                index_col=False,
                encoding="utf-8-sig",
                chunksize=self._rows_at_once(),
            )
            for chunk in chunks:
                metered.taken = 0
                yield {name: chunk[name] for name in columns}

    def _rows_at_once(self) -> int:
        """Rows of CSV that take about `CHUNK_BYTES`, by the first of them."""
        with opened(self.path) as file:
            head = file.read(MOST_HEADER)
        per_row = len(head) / max(head.count(b"\n"), 1)
        return int(min(max(CHUNK_BYTES / max(per_row, 1.0), 100), CHUNK_ROWS))

    def _json(self, columns: list[str], optional: Sequence[str]) -> Iterator[Columns]:
        with opened(self.path) as file:
            for objects, first in _numbered(self._objects_in(file)):
                rows = pd.RangeIndex(first, first + len(objects))
                yield {
                    name: _series(self._cells(objects, first, name, name in optional), rows, name)
                    for name in columns
                }

    def _objects_in(self, file: BinaryIO) -> Iterator[list[dict[str, object]]]:
        """Rows of JSON, at most `CHUNK_ROWS` and about `CHUNK_BYTES` at a time."""
        if self.within is not None:
            yield from self._items(JsonStream(file), self.within)
            return
        for block, first in _numbered(self._blocks(file)):
            yield self._objects(block, first)

    def _items(
        self, stream: JsonStream, within: Sequence[Sequence[str]]
    ) -> Iterator[list[dict[str, object]]]:
        """Rows of a list, at most `CHUNK_ROWS` and about `CHUNK_BYTES` at a time."""
        block: list[dict[str, object]] = []
        held, rows = 0, 0
        try:
            for value in stream.values(within):
                rows += 1
                if not isinstance(value, dict):
                    raise TraceError(f"{self.path}, {self.place(rows - 1)}: is no JSON object; remove it")
                block.append(value)
                if len(block) == CHUNK_ROWS or stream.taken - held >= CHUNK_BYTES:
                    yield block
                    block, held = [], stream.taken
        except JsonStreamError as error:
            raise TraceError(f"{self.path}, {error}; fetch it again, or cut it before that") from error
        if block:
            yield block

    def _blocks(self, file: BinaryIO) -> Iterator[list[bytes]]:
        """Lines that are not blank, at most `CHUNK_ROWS` and about `CHUNK_BYTES` at a time."""
        block: list[bytes] = []
        held = 0
        while line := file.readline(MOST_CHUNK_BYTES):
            if len(line) == MOST_CHUNK_BYTES:
                raise TraceError(
                    f"{self.path}: has a line of more than {MOST_CHUNK_BYTES:,} bytes; write an object a line"
                )
            if not line.strip():
                continue
            block.append(line)
            held += len(line)
            if len(block) == CHUNK_ROWS or held >= CHUNK_BYTES:
                yield block
                block, held = [], 0
        if block:
            yield block

    def _objects(self, block: list[bytes], first: int) -> list[dict[str, object]]:
        """The objects of some lines, of which the first is that of row ``first``."""
        try:
            # All at once takes a third of the time that one by one does.
            objects = json.loads(b"[" + b",".join(block) + b"]")
            if len(objects) == len(block) and all(type(one) is dict for one in objects):
                return cast("list[dict[str, object]]", objects)
        except (ValueError, RecursionError):
            pass  # one by one it is seen which line is wrong
        return [_object(self.path, line, partial(self.place, first + k)) for k, line in enumerate(block)]

    def _cells(self, objects: list[dict[str, object]], first: int, name: str, optional: bool) -> list[object]:
        if optional:
            return [found_at(values, name) for values in objects]
        try:
            return [values[name] for values in objects]
        except KeyError:
            row = first + next(k for k, values in enumerate(objects) if name not in values)
            raise TraceError(
                f"{self.path}, {self.place(row)}: has no {name}; complete or remove the row"
            ) from None

    def _parquet(self, columns: list[str]) -> Iterator[Columns]:
        first = 0
        with parquet_of(self.path) as file:
            for batch in file.iter_batches(batch_size=CHUNK_ROWS, columns=columns):
                rows = pd.RangeIndex(first, first + batch.num_rows)
                yield {
                    name: pd.Series(batch.column(name).to_pandas().to_numpy(), rows, name=name)
                    for name in columns
                }
                first += batch.num_rows


def _series(cells: list[object], rows: pd.RangeIndex, name: str) -> pd.Series[Any]:
    """Cells of JSON as a column; texts stay Python's, for pandas' own refuse half of a surrogate pair.

    That is with pyarrow, which pandas 3 takes for its strings where it is installed.
    """
    texts = any(isinstance(cell, str) for cell in cells)
    return pd.Series(cells, rows, dtype=object if texts else None, name=name)


def found_at(values: object, path: str) -> object:
    """What an object holds under a key, or along keys and places in lists with dots between them; or None."""
    if isinstance(values, dict) and path in values:
        return cast("dict[str, object]", values)[path]
    if "." not in path:
        return _inner(values, path)
    # A key may itself hold dots, as gen_ai.request.model does: the longest that is there counts.
    parts = path.split(".")
    for k in range(len(parts) - 1, 0, -1):
        inner = _inner(values, ".".join(parts[:k]))
        if inner is not None:
            return found_at(inner, ".".join(parts[k:]))
    return None


def _inner(values: object, key: str) -> object:
    if isinstance(values, dict):
        return values.get(key)
    if isinstance(values, list) and key.isdecimal() and len(key) < 6:
        return values[int(key)] if int(key) < len(values) else None
    return None


def open_rows(path: Path, names: Sequence[str] = ()) -> RowFile:
    """Tell what is in a file by how it begins.

    Parameters
    ----------
    names
        Columns of a CSV file without a header; empty: its first row names them.

    Raises
    ------
    TraceError
        If it is missing, empty or damaged, or nothing that is read.
    """
    with told(path):
        with opened(path) as file:
            first = file.readline(MOST_HEADER)
            while first and not first.strip():
                first = file.readline(MOST_HEADER)
        if first.startswith(PARQUET):
            with parquet_of(path) as table:
                return RowFile(path, "parquet", tuple(table.schema_arrow.names))
        listed = _list_in(path, first)
        if listed is not None:
            return listed
        if first.lstrip(b"\xef\xbb\xbf \t").startswith(b"{"):
            return RowFile(path, "json", tuple(_object(path, first, lambda: "line 1")))
        # pandas takes one mark of byte order more away than the decoder does.
        text = first.decode("utf-8-sig").removeprefix("\ufeff").strip("\r\n")
    if text.startswith("["):
        raise TraceError(f"{path}: is a JSON array without objects; give an array of objects, one a request")
    if not text:
        raise TraceError(f"{path}: is empty; give a file with a header")
    delimiter = max(DELIMITERS, key=text.count)
    with told(path):
        columns = tuple(names) or tuple(next(csv.reader([text], delimiter=delimiter)))
    return RowFile(path, "csv", columns, delimiter, not names)


def _list_in(path: Path, first: bytes) -> RowFile | None:
    """The file if it is one list of rows, whose first line is given; None: it is none."""
    if not first.lstrip(b"\xef\xbb\xbf \t").startswith((b"[", b"{")):
        return None
    with opened(path) as file:
        head = file.read(MOST_HEADER).removeprefix(b"\xef\xbb\xbf")
    within = next((keys for keys, begins in _LISTS.items() if begins.match(head)), None)
    if within is None or (within and _is_row(first)):
        return None
    with opened(path) as file:
        try:
            row = next(JsonStream(file).values(within), None)
        except JsonStreamError as error:
            raise TraceError(f"{path}, {error}; fetch it again") from error
    return RowFile(path, "json", tuple(map(str, row)), within=within) if isinstance(row, dict) else None


def _is_row(line: bytes) -> bool:
    """Whether a line is an object of its own, and no page with a list of them in ``data``."""
    try:
        held = json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        return False
    return isinstance(held, dict) and not isinstance(held.get("data"), list)


def _numbered(blocks: Iterator[list[T]]) -> Iterator[tuple[list[T], int]]:
    """Blocks of rows, each with the number of its first."""
    first = 0
    for block in blocks:
        yield block, first
        first += len(block)


def _object(path: Path, line: bytes, place: Callable[[], str]) -> dict[str, object]:
    try:
        held = json_value(line.decode("utf-8-sig"))
    except JsonTextError as error:
        raise TraceError(f"{path}, {place()}: is no JSON ({error.why}); correct or remove it") from error
    if not isinstance(held, dict):
        raise TraceError(f"{path}, {place()}: is no JSON object; correct or remove it")
    return held
