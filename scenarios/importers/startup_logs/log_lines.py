"""Records of a log, whatever carried it: terminals, containers, collectors of logs, archives."""

from __future__ import annotations

import gzip
import io
import json
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, NamedTuple

MAX_LINE = 2**20
"""Characters of a line that are read; an engine names thousands of adapters in less."""

_DOCKER_PIECE = 16_000
"""Bytes from which on Docker's entry without a line break is a piece of a longer line: it cuts at 16 KiB."""

_ANSI = re.compile(
    r"(?:\x1b|\^\[|#033|\\x1b|\\u001b|\\033)\[[0-9;?]{0,20}[A-Za-z]|\x1b\][^\x07\x1b]{0,200}\x07"
)
"""Colours and titles, also as `cat -v`, rsyslog and JSON write them."""

_CRI = re.compile(r"\d{4}-\d\d-\d\dT\S{1,40} (?:stdout|stderr) ([FP]) ")
"""What Kubernetes' runtimes put before a line; P: the line goes on in the next entry."""

_MESSAGE_KEYS = (
    "log",
    "message",
    "msg",
    "MESSAGE",
    "textPayload",
    "text",
    "line",
    "content",
    "body",
    "event",
)
"""Where collectors of logs keep the line: Docker, ECS, journald, Google Cloud and others."""

_HEADER = re.compile(
    r"(?:\([^()]{0,80}pid=\d{1,12}[^()]{0,60}\)\s{0,4}){0,3}"
    r"\b(?:DEBUG|INFO|WARNING|ERROR|CRITICAL)\s{1,4}\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d{1,6})?\s{1,4}"
    r"\[?(?P<file>[\w./-]{1,120}):\d{1,6}\]\s?",
    re.ASCII,
)
"""What vLLM's logger puts before a message, since 0.4; `logger.py` of each release."""

_WORKER = re.compile(r"\([^()]{0,80}pid=(\d{1,12}(?:, ip=[\d.]{1,20})?)[^()]{0,40}\)|\[rank(\d{1,6})\]:")
"""The process that speaks, as executors and Ray mark its lines."""

_REPEATED = re.compile(r"\[repeated (\d{1,6})x across cluster\]")
"""How Ray counts the equal lines for which it writes one."""


class Record(NamedTuple):
    """One message of a log.

    Parameters
    ----------
    line
        Its line, counted from 1.
    text
        The message, without what was put before it.
    file
        The source file that its logger names; empty: none.
    worker
        The process that speaks, as the log marks it; empty: not marked.
    headed
        Whether the text is known to begin where the message begins.
    speakers
        Processes that it stands for: Ray writes the first of equal lines, and later the rest as one.
    """

    line: int
    text: str
    file: str
    worker: str
    headed: bool
    speakers: int


def lines_of(path: Path) -> Iterator[str]:
    """Yield a file's lines, unpacked and decoded, each cut at `MAX_LINE`.

    An archive that breaks off, or is damaged further on, ends there: what it held so far is as good as ever.

    Raises
    ------
    OSError
        If the file cannot be read.
    """
    with path.open("rb") as raw:
        packed = raw.peek(2)[:2] == b"\x1f\x8b"
        data: IO[bytes] = io.BufferedReader(gzip.GzipFile(fileobj=raw)) if packed else raw
        try:
            head = data.peek(256)[:256]  # type: ignore[attr-defined]
            with io.TextIOWrapper(data, encoding=_encoding(head), errors="replace", newline="\n") as text:
                yield from _cut_lines(text)
        except (EOFError, gzip.BadGzipFile, zlib.error):
            return


def _cut_lines(text: IO[str]) -> Iterator[str]:
    while line := text.readline(MAX_LINE):
        yield line
        while not line.endswith("\n") and len(line) == MAX_LINE:
            line = text.readline(MAX_LINE)


def _encoding(head: bytes) -> str:
    """Return the encoding of a file that begins like this; PowerShell redirects in UTF-16."""
    if head[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    zeros = [head[k::2].count(0) for k in (0, 1)]
    if max(zeros) > len(head) // 4:
        return "utf-16-be" if zeros[0] > zeros[1] else "utf-16-le"
    return "utf-8-sig"


def records(lines: Iterable[str], wanted: Callable[[str], bool]) -> Iterator[Record]:
    """Yield the messages of a log's lines: unwrapped, uncoloured, one by one where a line holds several.

    Parameters
    ----------
    lines
        The lines as they are.
    wanted
        Whether a line need be looked at, asked when its turn comes.
    """
    for number, text, wrapped in _whole_lines(lines, wanted):
        for part in re.split(r"[\r\n]+", text):
            plain = _ANSI.sub("", part.replace("\0", ""))
            if plain:
                yield from _messages(number, plain, wrapped)


def _messages(number: int, text: str, wrapped: bool) -> Iterator[Record]:
    """Yield what a line says: progress bars and other processes write into it without breaking it."""
    headers = list(_HEADER.finditer(text))
    first = headers[0].start() if headers else len(text)
    if text[:first].strip():
        yield _record(number, text[:first], text[:first], "", wrapped)
    for k, header in enumerate(headers):
        end = headers[k + 1].start() if k + 1 < len(headers) else len(text)
        marks = text[: header.end()] if k == 0 else header[0]
        yield _record(number, text[header.end() : end], marks, header["file"], True)


def _record(number: int, text: str, marks: str, file: str, headed: bool) -> Record:
    found = list(_WORKER.finditer(marks[:400]))
    worker = (found[-1][1] or f"rank {found[-1][2]}") if found else ""
    repeated = _REPEATED.search(text)
    return Record(number, text, file, worker, headed, int(repeated[1]) if repeated else 1)


def _whole_lines(lines: Iterable[str], wanted: Callable[[str], bool]) -> Iterator[tuple[int, str, bool]]:
    """Yield number and text of each line, without its wrapping, and whether it had one.

    Pieces into which a container's runtime has cut a line are joined.
    """
    held, held_from = "", 0
    for number, line in enumerate(lines, start=1):
        if not wanted(line) and not held:
            continue
        text, wrapped, goes_on = _unwrapped(line[:MAX_LINE])
        if goes_on and len(held) < MAX_LINE:
            held, held_from = held + text, held_from or number
            continue
        yield held_from or number, held + text, wrapped
        held, held_from = "", 0
    if held:
        yield held_from, held, True


def _unwrapped(line: str) -> tuple[str, bool, bool]:
    """Return a line without its wrapping, whether it had one, and whether it goes on in the next."""
    text, goes_on, wrapped = line, False, False
    if runtime := _CRI.match(text):
        text, goes_on = text[runtime.end() :].removesuffix("\n"), runtime[1] == "P"
    for _ in range(3):  # a collector may wrap what a container's runtime has wrapped
        message = _message_of(text)
        if message is None:
            break
        piece = not message.endswith("\n") and len(message.encode(errors="replace")) >= _DOCKER_PIECE
        text, wrapped, goes_on = message, True, goes_on or piece
    return text, wrapped, goes_on


def _message_of(text: str) -> str | None:
    """Return the line that a JSON object carries; None: it is none, or carries none."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return None
    for key in _MESSAGE_KEYS if isinstance(entry, dict) else ():
        value = entry.get(key)
        if isinstance(value, str):
            return value
        if isinstance(value, list) and all(isinstance(n, int) and 0 <= n < 256 for n in value):
            return bytes(value).decode(errors="replace")  # journald's way with what is not plain text
    return None
