"""Prometheus' text format 0.0.4: samples, line by line, and when they were taken.

A header ``# time: 2026-11-30T12:00:00Z`` is ours: it begins a snapshot, so that a file may hold several.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from scenarios.importers.facts import ImportSourceError

_SAMPLE = re.compile(
    r'([A-Za-z_:][A-Za-z0-9_:]*)(?:\{((?:[^"}]|"(?:[^"\\]|\\.)*")*)\})?[ \t]+([^ \t]+)'
    r"(?:[ \t]+(-?\d{1,18}))?[ \t]*"
)
_LABEL = re.compile(r'[ \t]*([A-Za-z_][A-Za-z0-9_]*)[ \t]*=[ \t]*"((?:[^"\\]|\\.)*)"[ \t]*(?:,|$)')
_TIME = re.compile(r"#[ \t]*time:[ \t]*(\S+)[ \t]*")
_IN_NAME = re.compile(r"(\d{4}-?\d{2}-?\d{2}T\d{2}[:_-]?\d{2}[:_-]?\d{2}Z?|(?<!\d)1\d{9}(?!\d))(?:\.\w+)*$")

Fault = Callable[[str, str, str], ImportSourceError]
"""Makes an error of what is wrong, a remedy, and where it is: `Source.error`."""


class Sample(NamedTuple):
    """A value of a metric.

    Parameters
    ----------
    name, labels
        The metric, and its labels as pairs.
    value
        Any float: what a counter may hold is for the caller to check.
    stamp_s
        Seconds since 1970, where the line says them.
    """

    name: str
    labels: frozenset[tuple[str, str]]
    value: float
    stamp_s: float | None


class Header(NamedTuple):
    """A line ``# time:``, at which a snapshot begins; seconds since 1970."""

    taken_s: float


def lines_of(text: str, fault: Fault) -> Iterator[tuple[int, Header | Sample]]:
    """Yield headers and samples with the numbers of their lines, from 1; comments are left out.

    Raises
    ------
    ImportSourceError
        Made by ``fault``, at the first line that is none of the format.
    """
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        header = _TIME.fullmatch(stripped)
        if header is not None:
            yield number, Header(_instant(header[1], number, fault))
        if stripped and not stripped.startswith("#"):
            yield number, _sample(stripped, number, fault)


def taken_of(path: Path, header_s: float | None, stamps: Sequence[float]) -> tuple[float, str]:
    """When a snapshot was taken, in seconds since 1970, and what says so.

    Parameters
    ----------
    path
        The file, whose name may say it; else it is when the file was last changed.
    header_s
        What its header says.
    stamps
        Times beside its values.
    """
    if header_s is not None:
        return header_s, "by their lines # time:"
    if stamps:
        return max(stamps), "by the times beside their values"
    named = _IN_NAME.search(path.name)
    if named is not None:
        text = named[1]
        if text.isdecimal():
            return float(text), "by the times in their names"
        digits = re.sub(r"\D", "", text)
        try:
            parsed = datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
            return parsed.timestamp(), "by the times in their names"
        except ValueError:
            pass  # no date, though it looks like one
    return path.stat().st_mtime, "by when the files were last changed"


def _sample(text: str, number: int, fault: Fault) -> Sample:
    found = _SAMPLE.fullmatch(text)
    try:
        if found is None:
            raise ValueError
        value = float(found[3])
        labels = _labels(found[2] or "")
    except ValueError as error:
        message = "is no line of Prometheus' text format"
        raise fault(message, "fetch the file again", f"line {number}") from error
    return Sample(found[1], labels, value, None if found[4] is None else int(found[4]) / 1000)


def _labels(text: str) -> frozenset[tuple[str, str]]:
    labels, place = [], 0
    while place < len(text):
        found = _LABEL.match(text, place)
        if found is None:
            raise ValueError
        value = re.sub(r"\\(.)", lambda one: "\n" if one[1] == "n" else one[1], found[2])
        labels.append((found[1], value))
        place = found.end()
    return frozenset(labels)


def _instant(text: str, number: int, fault: Fault) -> float:
    try:
        if re.fullmatch(r"\d{9,11}(\.\d{1,9})?", text):
            return float(text)
        when = datetime.fromisoformat(text)
        return (when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError) as error:
        message = "has no time of ISO 8601 or of seconds since 1970 after # time:"
        raise fault(message, "correct it", f"line {number}") from error
