"""Files of rows, opened: packed or not, with errors in our words, and limits on what is read at once."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

import pandas as pd

from scenarios.errors import LorapackError, cause_of
from scenarios.reading.syntax.words import csv_words

MOST_CHUNK_BYTES = 256 * 2**20
"""Bytes after which a chunk of CSV must have ended: a quote that nothing closes runs to the file's end."""

PARQUET = b"PAR1"
"""How Parquet files begin."""


class TraceError(LorapackError, ValueError):
    """A file of requests is missing or damaged; the message names file, line, value and remedy."""


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Say in our words why a file is not read.

    Raises
    ------
    TraceError
        If what is done within cannot read it.
    """
    try:
        yield
    except OSError as error:
        raise TraceError(
            f"{path}: cannot be read ({cause_of(error)}); check its name and permissions"
        ) from error
    except (EOFError, zlib.error, UnicodeDecodeError) as error:
        raise TraceError(f"{path}: is damaged ({cause_of(error)}); fetch it again") from error
    except (csv.Error, pd.errors.ParserError) as error:
        raise TraceError(
            f"{path}: is no CSV: {csv_words(str(error))}; correct it, or fetch it again"
        ) from error


class Metered(io.RawIOBase):
    """A file that tells how much was read of it since the last chunk ended, and refuses to go on for ever.

    Parameters
    ----------
    path
        Where it is, for messages.
    file
        Its bytes.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self._path, self._file, self.taken = path, file, 0

    def readable(self) -> bool:
        """True."""
        return True

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._file.read(size)
        self.taken += len(data)
        if self.taken > MOST_CHUNK_BYTES:
            raise TraceError(
                f"{self._path}: has rows of more than {MOST_CHUNK_BYTES:,} bytes; a quote may be left open"
            )
        return data


def opened(path: Path) -> BinaryIO:
    """A file's bytes, unpacked if it is packed by gzip."""
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b" or path.suffix == ".gz"
    return cast(BinaryIO, gzip.open(path)) if packed else path.open("rb")


@contextmanager
def parquet_of(path: Path) -> Iterator[Any]:
    """A Parquet file of pyarrow's, which is an extra.

    Raises
    ------
    TraceError
        If it is damaged, or pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise TraceError(
            f"{path}: is Parquet, which an extra reads; pip install 'lorapack[parquet]'"
        ) from error
    try:
        with parquet.ParquetFile(path) as file:
            yield file
    except pa.ArrowException as error:
        raise _no_parquet(path) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _no_parquet(path) from error  # pyarrow's own, of content that it cannot take apart


def _no_parquet(path: Path) -> TraceError:
    return TraceError(f"{path}: is damaged, or no Parquet; fetch it again")
