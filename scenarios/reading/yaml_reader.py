"""YAML or JSON text to plain values that remember their lines, safe against hostile files.

The values are built from the parser's events: no object is constructed, nothing recurses without a
limit, and an alias costs as much as what it stands for. `yaml.compose` would build nodes first: that takes
over twice as long, forgets where an alias stands, and refuses an anchor's name that is used again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import yaml

from scenarios.errors import Problem, ScenarioError
from scenarios.reading.findings import Loc
from scenarios.reading.scalars import MAX_DIGITS, resolve
from scenarios.reading.yaml_syntax import (
    BOTH_HALVES,
    NO_CHARACTER,
    TOO_DEEP,
    events_of,
    fatal,
    syntax_problem,
    whole_text,
)
from scenarios.reading.yaml_syntax import FILE as FILE
from scenarios.reading.yaml_syntax import MAX_DEPTH as MAX_DEPTH
from scenarios.reading.yaml_syntax import json_problem as json_problem
from scenarios.reading.yaml_syntax import problem_of as problem_of
from scenarios.text.formatting import shortened

MAX_NODES = 4_000_000
"""Most values in one document, each alias counted as what it stands for."""

_TAG = "tag:yaml.org,2002:"
_TEXT_TAGS = ("!", f"{_TAG}str")
_PLAIN_TAGS: dict[type[yaml.Event], set[str]] = {
    yaml.ScalarEvent: {*_TEXT_TAGS, *(_TAG + kind for kind in ("int", "float", "bool", "null"))},
    yaml.SequenceStartEvent: {"!", f"{_TAG}seq"},
    yaml.MappingStartEvent: {"!", f"{_TAG}map"},
}
_MERGE = "<<"


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
    problems: list[Problem] = []
    value = None
    try:
        value = _Document(events_of(text, as_json), problems).value()
    except ScenarioError as error:
        problems += error.problems
    except yaml.YAMLError as error:
        problems.append((json_problem(text) if as_json else None) or syntax_problem(error, text))
    except (OverflowError, ValueError):  # the slow parser, of an escape such as \UFFFFFFFF
        problems.append(Problem(FILE, NO_CHARACTER, BOTH_HALVES))
    if problems:
        raise ScenarioError(problems, source)
    return value


def plain(value: object) -> object:
    """Return the value without lines: dicts, and tuples for lists."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return tuple(plain(item) for item in value)
    return value


def walk(root: object, loc: Loc) -> Iterator[tuple[str | int, object, int | None]]:
    """Yield key, value and line of every step of loc that exists below root; skip the others."""
    value: Any = root
    for key in loc:
        is_item = isinstance(value, list | tuple) and isinstance(key, int) and key < len(value)
        if is_item or (isinstance(value, dict) and key in value):
            lines = getattr(value, "lines", None)
            value = value[key]
            yield key, value, None if lines is None else lines[key]


def path_text(loc: Loc) -> str:
    """Return a location as text: ``adapters[3].rank``."""
    text = ""
    for key in loc:
        text += f"[{key}]" if isinstance(key, int) else f".{shortened(key)}" if text else shortened(key)
    return text


class _Document:
    """A document's value, built from the parser's events, with limits on all that can grow.

    Parameters
    ----------
    events
        The parser's.
    problems
        Gets what is wrong, unless reading cannot go on after it: that is raised.
    """

    def __init__(self, events: Iterator[yaml.Event], problems: list[Problem]) -> None:
        self._events = events
        self._problems = problems
        # Value, height and nodes of what an alias may stand for; None until its end is read.
        self._anchors: dict[str, tuple[object, int, int] | None] = {}
        self._path: list[str | int] = []
        self._nodes = 0

    def value(self) -> object:
        """Return the value of the only document."""
        next(self._events)  # the start of the stream
        if not isinstance(next(self._events), yaml.DocumentStartEvent):
            raise fatal("is empty", "write a value into it", None)
        value, _ = self._value(next(self._events))
        next(self._events)  # the end of the document
        if isinstance(after := next(self._events), yaml.DocumentStartEvent):
            raise fatal("holds a second document after ---", "keep one per file", _line(after))
        return value

    def _value(self, event: yaml.Event) -> tuple[object, int]:
        """Return the value that begins with an event, and its height: the levels within it."""
        line = _line(event)
        if isinstance(event, yaml.AliasEvent):
            return self._alias(str(event.anchor), line)
        assert isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent)
        before = self._nodes
        self._count(1, line)
        if event.tag is not None and event.tag not in _PLAIN_TAGS[type(event)]:
            shown = shortened(event.tag.replace(_TAG, "!!"))
            self._problem(f"has the tag {shown}", "remove it: only plain values are read", line)
        if event.anchor:
            self._anchors[event.anchor] = None
        value: object
        if isinstance(event, yaml.ScalarEvent):
            value, height = self._scalar(event, line), 0
        else:
            self._check_depth(1, line)
            is_mapping = isinstance(event, yaml.MappingStartEvent)
            value, height = self._mapping(line) if is_mapping else self._sequence(line)
        if event.anchor:
            self._anchors[event.anchor] = (value, height, self._nodes - before)
        return value, height

    def _scalar(self, event: yaml.ScalarEvent, line: int) -> object:
        text = whole_text(event.value, line)
        if event.style or event.tag in _TEXT_TAGS:
            return text
        try:
            return resolve(text)
        except ValueError as error:
            self._problem(str(error), f"write at most {MAX_DIGITS} digits", line)
            return None

    def _sequence(self, line: int) -> tuple[LocatedList, int]:
        items, height = LocatedList(line), 0
        while not isinstance(event := next(self._events), yaml.SequenceEndEvent):
            self._path.append(len(items))
            value, inner = self._value(event)
            self._path.pop()
            items.append(value)
            items.lines.append(_line(event))
            height = max(height, inner)
        return items, height + 1

    def _mapping(self, line: int) -> tuple[LocatedDict, int]:
        entries, height = LocatedDict(line), 0
        bases: list[LocatedDict] = []
        while not isinstance(event := next(self._events), yaml.MappingEndEvent):
            key = self._key(event, entries)
            self._path.append(key)
            event = next(self._events)
            value, inner = self._value(event)
            if key == _MERGE:
                bases += self._bases(value, _line(event))
            else:
                entries[key] = value
            self._path.pop()
            height = max(height, inner)
        for base in bases:
            for key in (key for key in base if key not in entries):
                entries[key], entries.lines[key] = base[key], base.lines[key]
        return entries, height + 1

    def _key(self, event: yaml.Event, entries: LocatedDict) -> str:
        line = _line(event)
        if isinstance(event, yaml.AliasEvent):
            raise fatal("has an alias for a key here", "write keys as words", line)
        self._count(1, line)
        if not isinstance(event, yaml.ScalarEvent):
            raise fatal("has a key here that is not plain text", "write keys as words", line)
        key = whole_text(event.value, line)
        if key in entries.lines:
            twice = f'has the key "{shortened(key)}" twice, first on line {entries.lines[key]}'
            self._problem(twice, "remove one of the two", line)
        if key != _MERGE:
            entries.lines[key] = line
        return key

    def _bases(self, value: object, line: int) -> list[LocatedDict]:
        """Return the mappings that a merge key names."""
        bases = value if isinstance(value, LocatedList) else [value]
        for _ in (base for base in bases if not isinstance(base, LocatedDict)):
            self._problem("merges with << what is no mapping", "name a mapping", line)
        return [base for base in bases if isinstance(base, LocatedDict)]

    def _alias(self, name: str, line: int) -> tuple[object, int]:
        anchored = self._anchors.get(name)
        if anchored is None:
            fault = "stands inside what it names" if name in self._anchors else "names nothing above it"
            self._problem(f"is the alias *{shortened(name)}, which {fault}", "write it out", line)
            anchored = (None, 0, 1)
        value, height, nodes = anchored
        self._count(nodes, line)
        self._check_depth(height, line)
        return value, height

    def _count(self, nodes: int, line: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise fatal(
                f"holds more than {MAX_NODES:,} values, with its aliases written out",
                "write equal adapters as one entry with a count, and use fewer aliases",
                line,
            )

    def _check_depth(self, height: int, line: int) -> None:
        if len(self._path) + height > MAX_DEPTH:
            raise fatal(TOO_DEEP, "flatten it", line)

    def _problem(self, message: str, remedy: str, line: int) -> None:
        self._problems.append(Problem(path_text(tuple(self._path)) or FILE, message, remedy, line))


def _line(event: yaml.Event) -> int:
    mark: Any = event.start_mark
    return int(mark.line) + 1
