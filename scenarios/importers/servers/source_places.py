"""Errors about a place, made errors about a file; mappings of YAML, read with care."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from scenarios.errors import ScenarioError
from scenarios.importers.facts import ImportSourceError
from scenarios.importers.source import Source
from scenarios.reading.yaml_reader import parse, plain
from scenarios.text.display import visible
from scenarios.text.formatting import shown


@contextmanager
def located(source: Source) -> Iterator[None]:
    """Put the path of a source before errors about a place in it.

    Raises
    ------
    ImportSourceError
        The error of what is done within.
    """
    try:
        yield
    except ImportSourceError as error:
        text = str(error)
        first = visible(str(error.problems[0]))
        raise ImportSourceError(
            error.problems, text if text != first else f"{source.path}: {first}"
        ) from error


def yaml_mapping(source: Source) -> Mapping[str, object]:
    """The mapping that a file of YAML holds.

    Raises
    ------
    ImportSourceError
        If it is no YAML, or holds something else.
    """
    try:
        value = plain(parse(source.text, str(source.path)))
    except ScenarioError as error:
        raise ImportSourceError(error.problems, f"{source.path}: {error.problems[0]}") from error
    if not isinstance(value, dict):
        raise source.error(f"is {shown(value)}", "give a mapping")
    return value


def mapping_at(source: Source, value: object, place: str) -> Mapping[str, object]:
    """A mapping at a place; nothing is an empty one.

    Raises
    ------
    ImportSourceError
        If it is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise source.error(f"is {shown(value)}", "give a mapping", place=place)
    return value


def list_at(source: Source, value: object, place: str) -> tuple[object, ...]:
    """A list at a place; nothing is an empty one.

    Raises
    ------
    ImportSourceError
        If it is something else.
    """
    if value is None:
        return ()
    if not isinstance(value, tuple):
        raise source.error(f"is {shown(value)}", "give a list", place=place)
    return value


def count_at(source: Source, value: object, place: str) -> int:
    """A number of replicas at a place, of which nothing and zero are one.

    Raises
    ------
    ImportSourceError
        If it is something else.
    """
    if value is None or value == "auto":
        return 1
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 4096:
        raise source.error(f"is {shown(value)}", "give a number of replicas up to 4,096", place=place)
    return max(value, 1)
