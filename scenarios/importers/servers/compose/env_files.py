"""Files of variables that Compose gives to containers: ``env_file``, and ``.env`` beside it."""

from __future__ import annotations

import re
from collections import ChainMap
from collections.abc import Mapping, Sequence
from pathlib import Path

from scenarios.importers.servers.compose.interpolation import Interpolation
from scenarios.importers.source import HEAD_BYTES, Source

_NAME = re.compile(r"[ \t]*(?:export[ \t]+)?([A-Za-z_][A-Za-z0-9_.-]*)[ \t]*")
_VALUE = re.compile(
    r"""=[ \t]*'(?P<single>(?:\\.|[^'\\])*)'|=[ \t]*"(?P<double>(?:\\.|[^"\\])*)"|=(?P<plain>[^\n]*)""",
    re.DOTALL,
)
_REST = re.compile(r"[ \t\r]*(?:\#[^\n]*)?(?:\n|\Z)")
_COMMENT = re.compile(r"(?:^|[ \t])#.*")
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_SIGNS = {"n": "\n", "r": "\r", "t": "\t"}


def variables_in(path: Path, known: Mapping[str, str], *, is_raw: bool = False) -> dict[str, str]:
    """The variables of a file; those without ``=`` are none.

    After compose-spec/compose-spec, 05-services.md @2f44add1, Env_file format.

    Parameters
    ----------
    path
        The file.
    known
        Variables that values may use, beside those before them in the file.
    is_raw
        Whether values are taken as they are, with quotes and ``$``.

    Raises
    ------
    ImportSourceError
        If it is too long, no text, or a line is none of ``NAME=VALUE``; no value is shown, it may be secret.
    """
    source = Source(path)
    if len(source.head) >= HEAD_BYTES:
        raise source.error(f"is longer than {HEAD_BYTES:,} bytes", "give the variables alone")
    text, position, line = source.text, 0, 1
    found: dict[str, str] = {}
    all_known = ChainMap(found, dict(known))
    while position < len(text):
        begin, blank = position, _REST.match(text, position)
        if blank is not None:
            position = blank.end()
        else:
            name, value, position = _entry(source, text, position, line, all_known, is_raw)
            if value is not None:
                found[name] = value
        line += text.count("\n", begin, position)
    return found


def _entry(
    source: Source, text: str, position: int, line: int, known: Mapping[str, str], is_raw: bool
) -> tuple[str, str | None, int]:
    """Name and value of the variable at a position, and where the next line begins."""
    named = _NAME.match(text, position)
    if named is None:
        raise source.error("is no NAME=VALUE", "correct it", f"line {line}")
    given = _VALUE.match(text, named.end())
    if given is None or is_raw:
        end = text.find("\n", named.end()) % (len(text) + 1)
        told = text[named.end() : end].rstrip("\r")
        if told.startswith("="):
            return named[1], told[1:], end + 1
        if _REST.fullmatch(told) is None:
            raise source.error("is no NAME=VALUE", "correct it", f"line {line}")
        return named[1], None, end + 1
    if given["plain"] is not None:
        value = _COMMENT.sub("", given["plain"].rstrip("\r")).strip()
        if value.startswith(("'", '"')):
            raise source.error("has a quote that is not closed", "close it", f"line {line}")
        return named[1], Interpolation(known)(value), given.end() + 1
    rest = _REST.match(text, given.end())
    if rest is None:
        raise source.error("goes on after its quotes", "correct it", f"line {line}")
    if given["single"] is not None:
        return named[1], given["single"].replace("\\'", "'"), rest.end()
    value = _ESCAPE.sub(lambda match: _SIGNS.get(match[1], match[1]), given["double"])
    return named[1], Interpolation(known)(value), rest.end()


def joined_variables(
    entries: Sequence[tuple[str, bool]], folder: Path, known: Mapping[str, str]
) -> tuple[dict[str, str], list[str]]:
    """The variables of several files, of which the last counts, and those files that are not here.

    Parameters
    ----------
    entries
        Path of each, and whether its values are taken as they are.
    folder
        Where relative paths begin.
    known
        Variables that values may use.

    Raises
    ------
    ImportSourceError
        If one is damaged.
    """
    found: dict[str, str] = {}
    missing: list[str] = []
    for name, is_raw in entries:
        try:
            path = Path(folder, name)
            is_here = "\0" not in name and path.is_file()
        except OSError:
            is_here = False
        if is_here:
            found |= variables_in(path, {**known, **found}, is_raw=is_raw)
        else:
            missing.append(name)
    return found, missing
