"""YAML text to plain values that remember their lines, safe against hostile files.

The values are built from the parser's events: no object is constructed, nothing recurses without a
limit, and an alias costs as much as what it stands for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from scenarios.errors import Problem, ScenarioError
from scenarios.noun import Loc
from scenarios.scalars import MAX_DIGITS, resolve
from scenarios.words import shortened

MAX_NODES = 800_000
"""Most values in one document, each alias counted as what it stands for."""

MAX_DEPTH = 40
"""Deepest nesting of a document."""

TOO_DEEP = f"is nested more than {MAX_DEPTH} levels deep here"

FILE = "the file"
"""Path of problems that concern a file as a whole."""

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_TAG = "tag:yaml.org,2002:"
_SCALAR_TAGS = {"!", *(_TAG + kind for kind in ("str", "int", "float", "bool", "null"))}
_MERGE = "<<"


class Mapping(dict[str, object]):
    """A mapping with its line and the line of every key."""

    def __init__(self, line: int | None) -> None:
        super().__init__()
        self.line = line
        self.lines: dict[str, int | None] = {}


class Sequence(list[object]):
    """A list with its line and the line of every item."""

    def __init__(self, line: int | None) -> None:
        super().__init__()
        self.line = line
        self.lines: list[int | None] = []


def parse(text: str, source: str) -> object:
    """Return the value of a YAML document.

    Parameters
    ----------
    text
        The document.
    source
        What messages call it: its file name.

    Raises
    ------
    ScenarioError
        With everything wrong about the YAML itself.
    """
    builder = _Builder()
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except _FatalError as error:
        builder.problems.append(error.problem)
    except yaml.YAMLError as error:
        builder.problems.append(_syntax_problem(error, text))
    if not builder.documents and not builder.problems:
        builder.problems.append(Problem(FILE, "is empty", "write a value into it"))
    if builder.problems:
        raise ScenarioError(builder.problems, source)
    return builder.root


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
            line = value.lines.get(str(key)) if isinstance(value, Mapping) else None
            value = value[str(key)]
        elif isinstance(value, list | tuple) and isinstance(key, int) and key < len(value):
            line = value.lines[key] if isinstance(value, Sequence) else None
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

    def __init__(self, message: str, remedy: str, line: int) -> None:
        super().__init__(message)
        self.problem = Problem(FILE, message, remedy, line)


@dataclass
class _Frame:
    """A collection under construction."""

    value: Mapping | Sequence
    anchor: str | None
    nodes_before: int
    height: int = 1
    key: str | None = None
    bases: list[Mapping] = field(default_factory=list)


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
        frame = self._frames[-1] if self._frames else None
        if frame is not None and isinstance(frame.value, Mapping) and frame.key is None:
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

    def _key(self, frame: _Frame, mapping: Mapping, key: str, line: int) -> None:
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
        if frame is not None and isinstance(frame.value, Mapping) and frame.key is None:
            raise _FatalError("has a key here that is not plain text", "write keys as words", line)
        is_mapping = isinstance(event, yaml.MappingStartEvent)
        if event.tag is not None and event.tag not in ("!", f"{_TAG}{'map' if is_mapping else 'seq'}"):
            self._tagged(event.tag, line)
        if event.anchor:
            self._anchors[event.anchor] = None
        self._frames.append(_Frame(Mapping(line) if is_mapping else Sequence(line), event.anchor, before))

    def _close(self) -> None:
        frame = self._frames.pop()
        if isinstance(frame.value, Mapping):
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
        if frame is not None and isinstance(frame.value, Mapping) and frame.key is None:
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
        if isinstance(frame.value, Sequence):
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
        bases = value if isinstance(value, Sequence) else [value]
        for base in bases:
            if isinstance(base, Mapping):
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
            if isinstance(frame.value, Sequence):
                loc.append(len(frame.value))
            elif frame.key is not None:
                loc.append(frame.key)
        self.problems.append(Problem(path_text(tuple(loc)) or FILE, message, remedy, line))


def _line(event: yaml.Event) -> int:
    mark: Any = event.start_mark
    return int(mark.line) + 1


def _syntax_problem(error: yaml.YAMLError, text: str) -> Problem:
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.problem, error.context) if part)
        line = mark.line + 1 if mark is not None else None
        if "nesting depth" in what:  # newer parsers look ahead, and give up, before events say so
            return Problem(FILE, TOO_DEEP, "flatten it", line)
        at = f", column {mark.column + 1}" if mark is not None else ""
        return Problem(
            FILE, f"is not valid YAML{at}: {what}", "check indentation, colons, quotes and brackets", line
        )
    position = getattr(error, "position", None)
    if isinstance(position, int) and position <= len(text):
        char = (
            f"the character U+{ord(text[position]):04X}"
            if position < len(text)
            else "an unfinished character"
        )
        line = text.count("\n", 0, position) + 1
        return Problem(FILE, f"holds {char}, which YAML does not allow", "remove it", line)
    return Problem(FILE, f"is not valid YAML: {shortened(str(error))}", "check it with a YAML editor")
