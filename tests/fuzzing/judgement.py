"""What reading a damaged file may do: end soon, in little memory, with an answer or one message of ours."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import resource
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Never

import psutil

from optimizer.cli import main
from scenarios import LorapackError

SECONDS = 10.0
"""Longest that a file may take."""

MEMORY = 2 * 2**30
"""Most bytes of memory that a file may take, beside what is held before."""

LONGEST_MESSAGE = 20_000
"""Most characters of a message: 50 problems of 400 each."""

FOREIGN = re.compile(
    r"Traceback|pydantic|numpy|pandas|dtype=|dtype\('|<class '|object at 0x|site-packages|\.py\b|"
    r"readthedocs|python\.org|pydata\.org|yaml\.org|Exceeds the limit|JSON compliant|Unable to allocate|"
    r"C error|tokenizing data|could not convert|invalid literal|codec can't|Input should be|"
    r"validation error|cannot convert|unhashable|has no attribute|not subscriptable|not iterable|"
    r"index out of|list index|KeyError|not supported between|unsupported operand|Expecting |Expected |"
    r"Unclosed |Unescaped |Extra data|Invalid control character|Unterminated string|Unable to parse|"
    r"found character|could not find expected|mapping values are not|expected <|found unexpected|"
    r"did not find|while scanning|while parsing|while constructing|block (?:mapping|sequence|end)|"
    r"flow (?:mapping|sequence)|Error -\d|CRC check|Compressed file ended|Not a gzipped|Arrow|"
    r"Parquet magic|thrift|\[Errno|NoneType|argument must be|takes \d+ positional|math domain|"
    r"out of range float|overflow encountered|invalid value encountered|divide by zero|Python int|"
    r"int too (?:large|big)|maximum recursion|Usecols"
)
"""Words of others, which no message may quote."""

WARNINGS = (RuntimeWarning, FutureWarning, DeprecationWarning, ResourceWarning, BytesWarning)
"""Warnings that are none of ours."""


class TooLongError(BaseException):
    """Reading a file takes longer than it may; no reader catches it."""


@dataclass(frozen=True)
class Ending:
    """How reading a file ended.

    Parameters
    ----------
    code
        Exit code of the command, or that which it would have.
    said
        What was printed on stderr, or the error's text.
    """

    code: int
    said: str


Reading = Callable[[Path], Ending]


def reads(call: Callable[[Path], object]) -> Reading:
    """A reading by a public function, which raises nothing but our errors."""

    def reading(path: Path) -> Ending:
        try:
            call(path)
        except LorapackError as error:
            wrong = isinstance(error, ValueError | LookupError | OSError)
            return Ending(2 if wrong else 1, str(error))
        return Ending(0, "")

    return reading


def commands(arguments: Callable[[Path], Sequence[str]]) -> Reading:
    """A reading by the command, in this process."""

    def reading(path: Path) -> Ending:
        before, said = sys.argv, io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        sys.argv = ["lorapack", *arguments(path)]
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        code: object = 0
        try:
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(said):
                main()
        except SystemExit as end:
            code = end.code
        finally:
            sys.argv = before
        said.seek(0)
        return Ending(int(str(code or 0)), said.read())

    return reading


def fault(reading: Reading, path: Path, codes: Sequence[int] = (0, 2)) -> str:
    """What is wrong with how reading a file ends; empty if nothing is.

    Parameters
    ----------
    reading
        Reads it.
    path
        The file, or the folder that holds it.
    codes
        Exit codes that it may end with.
    """
    begin = time.monotonic()
    logging.disable()  # what is said beside an answer
    try:
        with _limited(), warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            ending = reading(path)
    except (Exception, TooLongError) as error:
        where = traceback.extract_tb(error.__traceback__)
        ours = [one for one in where if os.sep + "tests" + os.sep not in one.filename]
        places = [f"{one.filename.rsplit('/', 3)[-2:]}:{one.lineno}" for one in ours[-3:]]
        return f"{type(error).__name__}: {str(error)[:200]} at {places}"
    finally:
        logging.disable(logging.NOTSET)
    took = time.monotonic() - begin
    foreign = [one for one in warned if issubclass(one.category, WARNINGS)]
    if foreign:
        one = foreign[0]
        return f"warns: {one.category.__name__}: {one.message} at {one.filename}:{one.lineno}"
    if took > SECONDS:
        return f"took {took:.1f} s"
    if ending.code not in codes:
        return f"exit code {ending.code}: {ending.said[:300]}"
    return wrong_words(ending.said, path) if ending.code == 2 else ""


def wrong_words(said: str, path: Path) -> str:
    """What is wrong with the words of a message about a file; empty if nothing is."""
    text = said.replace(str(path), "FILE").replace(str(path.parent), "FOLDER")
    if not said.strip():
        return "no message"
    if len(text) > LONGEST_MESSAGE:
        return f"a message of {len(text):,} characters: {text[:200]}"
    if found := FOREIGN.search(text):
        return f"words of others ({found[0]}): {text[:600]}"
    if not text.replace("\n", "").isprintable():
        return f"characters that a terminal obeys: {text[:200]!r}"
    if path.name not in said and "FOLDER" not in text:
        return f"does not name the file: {text[:300]}"
    if ";" not in text and ". " not in text:
        return f"no remedy: {text[:300]}"
    return ""


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    """Within, what lasts too long ends with `TooLongError`, what takes too much with `MemoryError`."""

    def too_long(number: int, frame: FrameType | None) -> Never:  # noqa: ARG001
        raise TooLongError(f"more than {SECONDS:g} s")

    before = signal.signal(signal.SIGALRM, too_long)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (psutil.Process().memory_info().vms + MEMORY, limits[1]))
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        resource.setrlimit(resource.RLIMIT_AS, limits)
        signal.signal(signal.SIGALRM, before)
