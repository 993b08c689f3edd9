"""Rows of trace files: CSV with a header, or one JSON object a line; plain or compressed by gzip."""

from __future__ import annotations

import csv
import gzip
import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TextIO, TypeVar

from scenarios import LorapackError
from scenarios.errors import cause_of

T = TypeVar("T")
Row = dict[str, str]

SHOWN = 60
"""Most characters of a wrong value that a message shows."""


class TraceError(LorapackError, ValueError):
    """A trace file is missing or damaged; the message names file, line, value and remedy."""


def rows_of(path: Path) -> Iterator[tuple[int, Row]]:
    """Rows with their line numbers; a file whose first character is a brace holds one JSON object a line.

    Raises
    ------
    TraceError
        If the file is missing or damaged.
    """
    opener: Callable[..., TextIO] = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8-sig", newline="") as file:
            first = file.read(1)
            file.seek(0)
            yield from (_json_rows if first == "{" else _csv_rows)(path, file)
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({cause_of(error)}); give the path of a trace") from error
    except (EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path}: is damaged ({error}); fetch it again") from error


def rows_with(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, Row]]:
    """Rows of a file that has at least these columns, with their line numbers.

    Raises
    ------
    TraceError
        If the file is missing or damaged, or lacks a column.
    """
    for line, row in rows_of(path):
        missing = [name for name in columns if name not in row]
        if missing:
            raise TraceError(f"{path}, line 1: has no column {', '.join(missing)}; add it to the header")
        yield line, row


def parsed(path: Path, line: int, row: Row, column: str, parse: Callable[[str], T]) -> T:
    """A value of a row.

    Raises
    ------
    TraceError
        If it cannot be parsed.
    """
    try:
        return parse(row[column])
    except ValueError as error:
        raise TraceError(
            f'{path}, line {line}: {column} is "{row[column][:SHOWN]}" ({error}); correct or remove the row'
        ) from error


def _csv_rows(path: Path, file: TextIO) -> Iterator[tuple[int, Row]]:
    reader = csv.DictReader(file)
    for row in reader:
        if any(value is None for value in row.values()):
            raise TraceError(f"{path}, line {reader.line_num}: has too few fields; complete the row")
        yield reader.line_num, row


def _json_rows(path: Path, file: TextIO) -> Iterator[tuple[int, Row]]:
    for line, text in enumerate(file, 1):
        if not text.strip():
            continue
        try:
            held = json.loads(text)
        except json.JSONDecodeError as error:
            raise TraceError(f"{path}, line {line}: is no JSON ({error}); correct or remove it") from error
        if not isinstance(held, dict):
            raise TraceError(f"{path}, line {line}: is no JSON object; correct or remove it")
        yield line, {name: str(value) for name, value in held.items()}
