"""Files of several YAML documents, divided into the texts of each."""

from __future__ import annotations

from typing import Any

import yaml

from scenarios.errors import Problem, ScenarioError
from scenarios.reading.yaml_syntax import BOTH_HALVES, FILE, NO_CHARACTER, parser_events, syntax_problem


def document_texts(text: str, source: str) -> list[tuple[str, int]]:
    """Divide text of several YAML documents into those that hold something, for `parse` to read.

    Parameters
    ----------
    text
        Documents with ``---`` between them, or one of JSON.
    source
        What messages call it: its file name.

    Returns
    -------
    list
        The text of each document, and how many lines are before it.

    Raises
    ------
    ScenarioError
        If it is no YAML.
    """
    if text.lstrip()[:1] in ("{", "["):
        return [(text, 0)]
    try:
        starts: list[tuple[Any, Any]] = [
            (event.start_mark, event.end_mark)
            for event in parser_events(text)
            if isinstance(event, yaml.DocumentStartEvent)
        ]
    except yaml.YAMLError as error:
        raise ScenarioError([syntax_problem(error, text)], source) from error
    except (OverflowError, ValueError):  # as in `parse`
        raise ScenarioError([Problem(FILE, NO_CHARACTER, BOTH_HALVES)], source) from None
    ends = [start.index for start, _ in starts[1:]] + [len(text)]
    divided = [(text[begin.index : end], begin.line) for (_, begin), end in zip(starts, ends, strict=False)]
    return [(part, line) for part, line in divided if not _is_nothing(part)]


def _is_nothing(text: str) -> bool:
    """Whether a document has no value: blank lines, comments and its end alone."""
    lines = (line.strip() for line in text.split("\n"))
    return all(not line or line.startswith("#") or line == "..." for line in lines)
