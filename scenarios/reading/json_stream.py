"""Values deep within JSON of any length, one after another, without holding all of it.

The standard library's parser reads a text as a whole; here it reads one value at a time, of what lies on the
way to them only brackets and keys are looked at.
"""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator, Sequence
from typing import BinaryIO, cast

from scenarios.reading.syntax.words import json_words

MOST_CHARACTERS = 64 * 2**20
"""Most characters of one value."""

_CHUNK = 2**20
_NUMBER = re.compile(r"[-+.0-9eE]+")
_SPACE = " \t\r\n"


class JsonStreamError(ValueError):
    """A stream is no JSON.

    Parameters
    ----------
    line
        Line of it, counted from 1.
    why
        What is wrong.
    """

    def __init__(self, line: int, why: str) -> None:
        self.line, self.why = line, why
        super().__init__(f"line {line}: {why}")


class JsonStream:
    """Documents of JSON one after another: one of them, or one a line.

    Parameters
    ----------
    file
        Its bytes, of UTF-8.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._parse = json.JSONDecoder().raw_decode
        self._buffer, self._at, self._ended = "", 0, False
        self._line, self._counted = 1, 0
        self._passed = 0

    @property
    def taken(self) -> int:
        """Characters that it has gone through."""
        return self._passed + self._at

    @property
    def line(self) -> int:
        """Line at which it is."""
        self._line += self._buffer.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def values(self, path: Sequence[Sequence[str]]) -> Iterator[object]:
        """Yield the items of lists that lie along a path of keys in each document, or in lists of documents.

        Parameters
        ----------
        path
            Names of the key at each level: ``[("resourceSpans", "resource_spans"), ("spans",)]``; none: the
            items of documents that are lists.

        Raises
        ------
        JsonStreamError
            If it is no JSON, or one value is longer than `MOST_CHARACTERS`.
        OSError, EOFError, zlib.error
            If the bytes cannot be read.
        """
        while self._next():
            if self._next() == "[":
                for _ in self._items():
                    yield from self._inside(path) if path else (self._value(),)
            else:
                yield from self._inside(path or ((),))

    def _inside(self, path: Sequence[Sequence[str]]) -> Iterator[object]:
        """Yield the items along a path below the value that begins here."""
        if self._next() != "{":
            self._value()
            return
        for key in self._keys():
            if key not in path[0] or self._next() != "[":
                self._value()
                continue
            for _ in self._items():
                if len(path) > 1:
                    yield from self._inside(path[1:])
                else:
                    yield self._value()

    def _items(self) -> Iterator[None]:
        """Go through a list; whoever asks reads each item."""
        self._take("[")
        if self._next() == "]":
            self._take("]")
            return
        while True:
            yield
            if self._take(",", "]") == "]":
                return

    def _keys(self) -> Iterator[str]:
        """Go through a mapping; whoever asks reads the value of each key."""
        self._take("{")
        if self._next() == "}":
            self._take("}")
            return
        while True:
            if self._next() != '"':
                raise self._wrong("has no key here")
            key = cast(str, self._value())
            self._take(":")
            yield key
            if self._take(",", "}") == "}":
                return

    def _value(self) -> object:
        """The whole value that begins here."""
        self._next()
        while True:
            try:
                value, end = self._parse(self._buffer, self._at)
                if self._ended or not self._may_go_on(value):
                    self._at = end
                    return value
            except json.JSONDecodeError as error:
                if self._ended:
                    raise self._wrong(f"is no JSON ({json_words(error.msg)})") from error
            except ValueError as error:  # Python's own limit on the digits of a whole number
                raise self._wrong("has a number of too many digits") from error
            except RecursionError as error:
                raise self._wrong("is nested too deeply") from error
            if len(self._buffer) - self._at > MOST_CHARACTERS:
                raise self._wrong(f"has a value of more than {MOST_CHARACTERS:,} characters, or is no JSON")
            self._read()

    def _may_go_on(self, value: object) -> bool:
        """Whether a value is a number that reaches to the end of what was read."""
        if not isinstance(value, int | float):
            return False
        found = _NUMBER.match(self._buffer, self._at)
        return found is not None and found.end() == len(self._buffer)

    def _take(self, *signs: str) -> str:
        sign = self._next()
        if sign not in signs:
            raise self._wrong(f"lacks {' or '.join(signs)} here")
        self._at += 1
        return sign

    def _next(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            while self._at < len(self._buffer):
                if self._buffer[self._at] not in _SPACE:
                    return self._buffer[self._at]
                self._at += 1
            if self._ended:
                return ""
            self._read()

    def _read(self) -> None:
        """Read on, twice as much each time that a value has not ended."""
        _ = self.line
        self._passed += self._at
        rest = self._buffer[self._at :]
        data = self._file.read(max(_CHUNK, len(rest)))
        try:
            self._buffer = rest + self._decode(data, final=not data)
        except UnicodeDecodeError as error:
            raise self._wrong("is no text of UTF-8") from error
        self._ended, self._at, self._counted = not data, 0, 0

    def _wrong(self, why: str) -> JsonStreamError:
        return JsonStreamError(self.line, why)
