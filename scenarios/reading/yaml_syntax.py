"""The syntax of YAML and of JSON: the parser's events, and what is wrong, in our words."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import yaml

from scenarios.errors import Problem, ScenarioError
from scenarios.reading.syntax import json_text
from scenarios.reading.syntax.json_text import JsonTextError, json_value
from scenarios.reading.syntax.words import yaml_words

MAX_DEPTH = 40
"""Deepest nesting of a document."""

FILE = "the file"
"""Path of problems that concern a file as a whole."""

TOO_DEEP = f"is nested more than {MAX_DEPTH} levels deep here"
NO_CHARACTER = "has an escape that is no character: half of a surrogate pair, or a number above 10FFFF"
BOTH_HALVES = "write both halves, as \\ud83d\\ude00, or the character itself"

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_PAIR = r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
_JSON_ONLY = re.compile(_PAIR + "|[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
"""What JSON text may hold and YAML reads differently or not at all: the escapes of two halves that are one
character (before them whole ``\\\\``), and some characters."""

_REFUSED = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]")
"""Characters that YAML does not allow; the parser counts its way to them in bytes."""


def fatal(message: str, remedy: str, line: int | None) -> ScenarioError:
    """An error after which reading cannot go on."""
    return ScenarioError([Problem(FILE, message, remedy, line)])


def parser_events(text: str) -> Iterator[yaml.Event]:
    """The parser's events of text that is YAML.

    Raises
    ------
    yaml.YAMLError
        If it is none.
    """
    return iter(yaml.parse(text, Loader=_LOADER))


def events_of(text: str, as_json: bool) -> Iterator[yaml.Event]:
    """The parser's events of text that may be JSON, or is meant so.

    The fast parser refuses the escape of half a character, the other takes it.

    Raises
    ------
    ScenarioError
        If it is meant as JSON, and is none.
    yaml.YAMLError
        If it is no YAML.
    """
    loader = _LOADER
    if _JSON_ONLY.search(text):
        problem = json_problem(text)
        if problem is None:  # then all of these stand in double quotes, where YAML knows escapes
            text = _JSON_ONLY.sub(_yaml_escape, text)
        elif as_json:
            raise ScenarioError([problem])
        elif re.search(_PAIR, text):
            loader = yaml.SafeLoader
    return iter(yaml.parse(text, Loader=loader))


def _yaml_escape(match: re.Match[str]) -> str:
    backslashes, high, low = match.groups()
    if high is None:
        return f"\\u{ord(match[0]):04x}"
    return f"{backslashes}\\U{0x10000 + (int(high, 16) - 0xD800) * 0x400 + (int(low, 16) - 0xDC00):08x}"


def whole_text(text: str, line: int) -> str:
    """The text with each pair of surrogates as one character.

    Raises
    ------
    ScenarioError
        If it has half of a pair.
    """
    try:
        return text if text.isascii() else text.encode("utf-16", "surrogatepass").decode("utf-16")
    except UnicodeDecodeError:
        raise fatal(NO_CHARACTER, BOTH_HALVES, line) from None


def json_problem(text: str) -> Problem | None:
    """Say what is wrong with text as JSON; nothing if it is right, or too deep, which YAML's parser says."""
    try:
        json_value(text)
    except JsonTextError as error:
        return None if error.why == json_text.TOO_DEEP else problem_of(error)
    return None


def problem_of(error: JsonTextError) -> Problem:
    """What is wrong with a file of JSON."""
    if error.why == json_text.TOO_DEEP:
        return Problem(FILE, "is nested too deep", "flatten it")
    if error.why == json_text.TOO_LONG:
        return Problem(
            FILE, f"holds a number of more than {json_text.MOST_DIGITS} digits", "write fewer digits"
        )
    if error.why == json_text.INFINITE:
        return Problem(FILE, "holds a number that is infinite, or none", "write a finite number, or null")
    remedy = "check quotes, commas and brackets, and that its end is there"
    return Problem(FILE, f"is not valid JSON: {error.why}", remedy, error.line)


def syntax_problem(error: yaml.YAMLError, text: str) -> Problem:
    """Say what the parser found wrong with text."""
    mark: Any = None
    what, line, place = str(error), None, ""
    if isinstance(error, yaml.MarkedYAMLError):
        mark = error.problem_mark or error.context_mark
        what = " ".join(part for part in (error.problem, error.context) if part)
    if mark is not None:
        line, place = mark.line + 1, f", column {mark.column + 1}"
    if "nesting depth" in what:  # newer parsers look ahead, and give up, before events say so
        return Problem(FILE, TOO_DEEP, "flatten it", line)
    if "Unicode character escape" in what:
        return Problem(FILE, NO_CHARACTER, BOTH_HALVES, line)
    if mark is not None and text[mark.index : mark.index + 1] == "\t":
        return Problem(FILE, f"is not valid YAML: a tab indents line {line}", "use spaces", line)
    if mark is None and (refused := _REFUSED.search(text)):
        message = f"holds the character U+{ord(refused[0]):04X}, which YAML does not allow"
        return Problem(FILE, message, "remove it", text.count("\n", 0, refused.start()) + 1)
    remedy = "check indentation, colons, quotes and brackets"
    return Problem(FILE, f"is not valid YAML{place}: {yaml_words(what)}", remedy, line)
