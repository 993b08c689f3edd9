"""YAML or JSON text to plain values that remember their lines, safe against hostile files.

The values are built from the parser's events: no object is constructed, nothing recurses without a
limit, and an alias costs as much as what it stands for.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from scenarios.base import Loc
from scenarios.errors import Problem, ScenarioError
from scenarios.reading.scalars import MAX_DIGITS, resolve
from scenarios.words import shortened

MAX_NODES = 800_000
"""Most values in one document, each alias counted as what it stands for."""

MAX_DEPTH = 40
"""Deepest nesting of a document."""

TOO_DEEP = f"is nested more than {MAX_DEPTH} levels deep here"

FILE = "the file"
"""Path of problems that concern a file as a whole."""

_NO_CHARACTER = "has an escape that is no character: half of a surrogate pair, or a number above 10FFFF"
_BOTH_HALVES = "write both halves, as \\ud83d\\ude00, or the character itself"

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = {"!", *(_TAG + kind for kind in ("str", "int", "float", "bool", "null"))}
_MERGE = "<<"

_PAIR = r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
_JSON_ONLY = re.compile(_PAIR + "|[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON text may hold and YAML reads differently or not at all: the escapes of two halves that are one
character (before them whole ``\\\\``), and some characters."""

_REFUSED = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""Characters that YAML does not allow; the parser counts its way to them in bytes."""


class LocatedDict(dict[str, object]):
    """A mapping with its line and the line of every key."""

    def __init__(self, line: int | None) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int | None] = {}


class LocatedList(list[object]):
    """A list with its line and the line of every item."""

    def __init__(self, line: int | None) -> None:
        super().__init__()
        self.line = line
        self.lines: list[int | None] = []


def parse(text: str, source: str, *, as_json: bool = False) -> object:
    """Return the value of a YAML document, or of a JSON one, which is YAML but for its surrogate pairs.

    Parameters
    ----------
    text
        The document.
    source
        What messages call it: its file name.
    as_json
        Whether it is meant as JSON, for messages about its syntax.

    Raises
    ------
    ScenarioError
        With everything wrong about the YAML itself.
    """
    builder = _Builder()
    try:
        for event in _events(text, as_json):
            builder.take(event)
    except _FatalError as error:
        builder.problems.append(error.problem)
    except yaml.YAMLError as error:
        problem = _json_problem(text) if as_json else None
        builder.problems.append(problem or _syntax_problem(error, text))
    except (OverflowError, ValueError):  # the slow parser, of an escape such as \UFFFFFFFF
        builder.problems.append(Problem(FILE, _NO_CHARACTER, _BOTH_HALVES))
    if not builder.documents and not builder.problems:
        builder.problems.append(Problem(FILE, "is empty", "write a value into it"))
    if builder.problems:
        raise ScenarioError(builder.problems, source)
    return builder.root


def _events(text: str, as_json: bool) -> Iterator[yaml.Event]:
    """The parser's events. The fast parser refuses the escape of half a character, the other takes it."""
    loader = _LOADER
    if _JSON_ONLY.search(text):
        if _json_error(text) is None:  # then all of these stand in double quotes, where YAML knows escapes
            text = _JSON_ONLY.sub(_yaml_escape, text)
        elif as_json and (problem := _json_problem(text)):
            raise _FatalError(problem.message, problem.remedy, problem.line)
        elif re.search(_PAIR, text):
            loader = yaml.SafeLoader
    return iter(yaml.parse(text, Loader=loader))


def _yaml_escape(found: re.Match[str]) -> str:
    backslashes, high, low = found.groups()
    if high is None:
        return f"\\u{ord(found[0]):04x}"
    return f"{backslashes}\\U{0x10000 + (int(high, 16) - 0xD800) * 0x400 + (int(low, 16) - 0xDC00):08x}"


def _json_error(text: str) -> ValueError | RecursionError | None:
    """What is wrong with text as JSON."""
    try:
        json.loads(text)
    except (ValueError, RecursionError) as error:
        return error
    return None


def plain(value: object) -> object:
    """Return the value without lines: dicts, and tuples for lists."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(plain(item) for item in value)
    return value


def walk(root: object, loc: Loc) -> Iterator[tuple[str | int, object, int | None]]:
    """Yield key, value and line of every step of loc that exists below root; skip the others."""
    value = root
    for key in loc:
        if isinstance(value, dict) and key in value:
            line = value.lines.get(str(key)) if isinstance(value, LocatedDict) else None
            value = value[str(key)]
        elif isinstance(value, list | tuple) and isinstance(key, int) and key < len(value):
            line = value.lines[key] if isinstance(value, LocatedList) else None
            value = value[key]
        else:
            continue
        yield key, value, line


def path_text(loc: Loc) -> str:
    """Return a location as text: ``adapters[3].rank``."""
    text = ""
    for key in loc:
        text += f"[{key}]" if isinstance(key, int) else f".{shortened(key)}" if text else shortened(key)
    return text


class _FatalError(Exception):
    """Reading cannot go on."""

    def __init__(self, message: str, remedy: str, line: int | None) -> None:
        super().__init__(message)
        self.problem = Problem(FILE, message, remedy, line)


@dataclass
class _Frame:
    """A collection under construction."""

    value: LocatedDict | LocatedList
    anchor: str | None
    nodes_before: int
    height: int = 1
    key: str | None = None
    bases: list[LocatedDict] = field(default_factory=list)


@dataclass(frozen=True)
class _Anchored:
    """What an alias may stand for, with what it costs."""

    value: object
    nodes: int
    height: int


class _Builder:
    """Builds one document's value from the parser's events, with limits on all that can grow."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.documents = 0
        self.root: object = None
        self._frames: list[_Frame] = []
        self._anchors: dict[str, _Anchored | None] = {}
        self._nodes = 0

    def take(self, event: yaml.Event) -> None:
        """Take the next event."""
        if isinstance(event, yaml.ScalarEvent):
            self._scalar(event)
        elif isinstance(event, yaml.CollectionStartEvent):
            self._open(event)
        elif isinstance(event, yaml.CollectionEndEvent):
            self._close()
        elif isinstance(event, yaml.AliasEvent):
            self._alias(event)
        elif isinstance(event, yaml.DocumentStartEvent):
            self.documents += 1
            if self.documents > 1:
                line = _line(event)
                raise _FatalError("holds a second document after ---", "keep one per file", line)

    def _scalar(self, event: yaml.ScalarEvent) -> None:
        line = _line(event)
        self._count(1, line)
        if not event.value.isascii():
            event.value = _whole(event.value, line)
        frame = self._frames[-1] if self._frames else None
        if frame is not None and isinstance(frame.value, LocatedDict) and frame.key is None:
            self._key(frame, frame.value, event.value, line)
            return
        value = self._value(event, line)
        if event.anchor:
            self._anchors[event.anchor] = _Anchored(value, 1, 0)
        self._place(value, line, 0)

    def _value(self, event: yaml.ScalarEvent, line: int) -> object:
        if event.tag is not None and event.tag not in _SCALAR_TAGS:
            self._tagged(event.tag, line)
        if event.style or event.tag in ("!", f"{_TAG}str"):
            return event.value
        try:
            return resolve(event.value)
        except ValueError as error:
            self._problem(str(error), f"write at most {MAX_DIGITS} digits", line)
            return None

    def _key(self, frame: _Frame, mapping: LocatedDict, key: str, line: int) -> None:
        if key in mapping.lines:
            self._problem(
                f'has the key "{shortened(key)}" twice, first on line {mapping.lines[key]}',
                "remove one of the two",
                line,
            )
        frame.key = key
        mapping.lines[key] = line

    def _open(self, event: yaml.CollectionStartEvent) -> None:
        line = _line(event)
        before = self._nodes
        self._count(1, line)
        self._check_depth(1, line)
        frame = self._frames[-1] if self._frames else None
        if frame is not None and isinstance(frame.value, LocatedDict) and frame.key is None:
            raise _FatalError("has a key here that is not plain text", "write keys as words", line)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag is not None and event.tag not in ("!", f"{_TAG}{'map' if is_mapping else 'seq'}"):
            self._tagged(event.tag, line)
        if event.anchor:
            self._anchors[event.anchor] = None
        self._frames.append(
            _Frame(LocatedDict(line) if is_mapping else LocatedList(line), event.anchor, before)
        )

    def _close(self) -> None:
        frame = self._frames.pop()
        if isinstance(frame.value, LocatedDict):
            for base in frame.bases:
                for key in base:
                    if key not in frame.value:
                        frame.value[key] = base[key]
                        frame.value.lines[key] = base.lines[key]
        if frame.anchor:
            self._anchors[frame.anchor] = _Anchored(
                frame.value, self._nodes - frame.nodes_before, frame.height
            )
        self._place(frame.value, frame.value.line or 0, frame.height)

    def _alias(self, event: yaml.AliasEvent) -> None:
        line = _line(event)
        frame = self._frames[-1] if self._frames else None
        if frame is not None and isinstance(frame.value, LocatedDict) and frame.key is None:
            raise _FatalError("has an alias for a key here", "write keys as words", line)
        name = str(event.anchor)
        known = self._anchors.get(name)
        if known is None:
            fault = "stands inside what it names" if name in self._anchors else "names nothing above it"
            self._problem(f"is the alias *{shortened(name)}, which {fault}", "write it out", line)
            known = _Anchored(None, 1, 0)
        self._count(known.nodes, line)
        self._check_depth(known.height, line)
        self._place(known.value, line, known.height)

    def _place(self, value: object, line: int, height: int) -> None:
        if not self._frames:
            self.root = value
            return
        frame = self._frames[-1]
        frame.height = max(frame.height, height + 1)
        if isinstance(frame.value, LocatedList):
            frame.value.append(value)
            frame.value.lines.append(line)
        elif frame.key == _MERGE:
            del frame.value.lines[_MERGE]
            self._merge(frame, value, line)
            frame.key = None
        elif frame.key is not None:
            frame.value[frame.key] = value
            frame.key = None

    def _merge(self, frame: _Frame, value: object, line: int) -> None:
        bases = value if isinstance(value, LocatedList) else [value]
        for base in bases:
            if isinstance(base, LocatedDict):
                frame.bases.append(base)
            else:
                self._problem("merges with << what is no mapping", "name a mapping", line)

    def _count(self, nodes: int, line: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise _FatalError(
                f"holds more than {MAX_NODES:,} values, with its aliases written out",
                "write equal adapters as one entry with a count, and use fewer aliases",
                line,
            )

    def _check_depth(self, height: int, line: int) -> None:
        if len(self._frames) + height > MAX_DEPTH:
            raise _FatalError(TOO_DEEP, "flatten it", line)

    def _tagged(self, tag: str, line: int) -> None:
        shown = shortened(tag.replace(_TAG, "!!"))
        self._problem(f"has the tag {shown}", "remove it: only plain values are read", line)

    def _problem(self, message: str, remedy: str, line: int) -> None:
        loc: list[str | int] = []
        for frame in self._frames:
            if isinstance(frame.value, LocatedList):
                loc.append(len(frame.value))
            elif frame.key is not None:
                loc.append(frame.key)
        self.problems.append(Problem(path_text(tuple(loc)) or FILE, message, remedy, line))


def _whole(text: str, line: int) -> str:
    """The text with each pair of surrogates as one character."""
    try:
        return text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise _FatalError(_NO_CHARACTER, _BOTH_HALVES, line) from None


def _line(event: yaml.Event) -> int:
    mark: Any = event.start_mark
    return int(mark.line) + 1


def _json_problem(text: str) -> Problem | None:
    """Say what is wrong with text that is meant as JSON; nothing if it is right, or too deep to tell."""
    error = _json_error(text)
    if not isinstance(error, json.JSONDecodeError):
        return None
    what = f"is not valid JSON: {error.msg.removesuffix(' at')} at column {error.colno}"
    return Problem(FILE, what, "check quotes, commas and brackets, and that its end is there", error.lineno)


def _syntax_problem(error: yaml.YAMLError, text: str) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.problem, error.context) if part)
        line = mark.line + 1 if mark is not None else None
        if "nesting depth" in what:  # newer parsers look ahead, and give up, before events say so
            return Problem(FILE, TOO_DEEP, "flatten it", line)
        if "Unicode character escape" in what:
            return Problem(FILE, _NO_CHARACTER, _BOTH_HALVES, line)
        at = f", column {mark.column + 1}" if mark is not None else ""
        if mark is not None and text[mark.index : mark.index + 1] == "\t":
            return Problem(
                FILE, f"is not valid YAML{at}: a tab, which YAML does not take as indentation",
                "indent with spaces", line,
            )  # fmt: skip
        return Problem(
            FILE, f"is not valid YAML{at}: {what}", "check indentation, colons, quotes and brackets", line
        )
    if refused := _REFUSED.search(text):
        line = text.count("\n", 0, refused.start()) + 1
        message = f"holds the character U+{ord(refused[0]):04X}, which YAML does not allow"
        return Problem(FILE, message, "remove it", line)
    return Problem(FILE, f"is not valid YAML: {shortened(str(error))}", "check it with a YAML editor")
