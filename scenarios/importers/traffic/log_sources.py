"""Request logs as sources: what is one, and what it says."""

from __future__ import annotations

import csv
import json
import re
from contextlib import suppress

from scenarios.errors import Problem
from scenarios.importers.facts import ImportOptions, ImportSourceError, SourceFacts
from scenarios.importers.source import HEAD_BYTES, Kind, Source
from scenarios.importers.traffic.log_forms import has_all_by_name, take_columns
from scenarios.importers.traffic.log_rows import read_rows
from scenarios.importers.traffic.log_traffic import facts_of
from scenarios.reading.row_files import DELIMITERS, TraceError, open_rows
from scenarios.reading.row_opening import PARQUET
from scenarios.reading.yaml_reader import FILE

_DATA = re.compile(r'\{.*"data"\s*:\s*\[\s*\{', re.DOTALL)
"""How a page of rows begins."""


def _is_request_log(source: Source) -> bool:
    """Whether columns say by their names that each row is a request."""
    return has_all_by_name(_columns(source))


def _may_be_request_log(source: Source) -> bool:
    """Whether a file has rows of cells, of which a user may say what they hold."""
    return source.head.startswith(PARQUET) or len(_columns(source)) > 1


def _columns(source: Source) -> tuple[str, ...]:
    """Columns of a file of rows, of JSON the keys of the first line; empty: it has no rows."""
    head = source.head.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in head:
        return ()
    text = head.decode("utf-8", errors="replace").lstrip()
    lines = [line for line in text.splitlines() if line.strip()][:2]
    if not lines:
        return ()
    if text.startswith("[") or _DATA.match(text):
        with suppress(TraceError):
            return open_rows(source.path).columns
        return ()
    if lines[0].startswith("{") and len(head) > HEAD_BYTES - 4 and b"\n" not in head.strip():
        # A first request that holds a whole conversation is longer than a head.
        with suppress(TraceError):
            return open_rows(source.path).columns
        return ()
    if lines[0].startswith("{"):
        with suppress(ValueError, RecursionError):
            first = json.loads(lines[0])
            if isinstance(first, dict):
                return tuple(map(str, first))
        return ()
    delimiter = max(DELIMITERS, key=lines[0].count)
    with suppress(csv.Error):
        rows = list(csv.reader(lines, delimiter=delimiter))
        if len(rows) == 2 and len(rows[0]) > 1 and abs(len(rows[0]) - len(rows[1])) <= 1:
            return tuple(rows[0])
    return ()


def _read(source: Source, options: ImportOptions) -> SourceFacts:
    try:
        file = open_rows(source.path)
        taken = take_columns(source, file, options.columns)
        log = read_rows(source, file, taken)
    except TraceError as error:
        where = f"{source.path}: "
        message = str(error).removeprefix(where)
        raise ImportSourceError([Problem(FILE, message)], where + message) from error
    return facts_of(source, log, options)


REQUEST_LOG = Kind("request log", _is_request_log, _read)
"""A log whose columns are known: LiteLLM, Envoy AI Gateway, a trace with a column of adapters."""

MAPPED_LOG = Kind("request log with columns that are mapped", _may_be_request_log, _read)
"""Any file of rows; tried last of all kinds."""
