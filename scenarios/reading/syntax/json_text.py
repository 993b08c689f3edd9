"""Values of a text of JSON, and why there are none, in our words."""

from __future__ import annotations

import json
import math
import re
from typing import Any

from scenarios.reading.syntax.words import json_words

MOST_DIGITS = 300
"""Most digits of a whole number: one of more is no float, which has at most 308."""

TOO_DEEP = "it is nested too deep"
TOO_LONG = f"a number has more than {MOST_DIGITS} digits"

INFINITE = "a number is infinite, or none"

_LONG = re.compile(rf"[0-9]{{{MOST_DIGITS + 1}}}")
_LARGE = re.compile(r"NaN|Infinity|[eE][+]?[0-9]{3}|[0-9]{308}")


class JsonTextError(ValueError):
    """A text is no JSON, or holds what no reader takes.

    Parameters
    ----------
    why
        In our words: ``a colon is missing at column 3``.
    line
        Line of the text, counted from 1; None where it is not known.
    """

    def __init__(self, why: str, line: int | None = None) -> None:
        self.why, self.line = why, line
        super().__init__(why if line is None else f"line {line}: {why}")

    def __reduce__(self) -> tuple[type[JsonTextError], tuple[str, int | None]]:
        return type(self), (self.why, self.line)


def json_value(text: str, *, finite: bool = False) -> Any:
    """The value of a text of JSON.

    Parameters
    ----------
    text
        The document.
    finite
        Whether ``NaN``, ``Infinity`` and numbers that no float holds are refused. Otherwise they are read as
        Python does, which writes the first two where JSON has nothing.

    Raises
    ------
    JsonTextError
        If it is none, is nested too deep, or has a number of too many digits.
    """
    # Each number is looked at only if one may be too large, which takes longer.
    rules: dict[str, Any] = {"parse_int": _whole} if _LONG.search(text) else {}
    if finite and _LARGE.search(text):
        rules |= {"parse_float": _finite, "parse_constant": _finite}
    try:
        return json.loads(text, **rules)
    except json.JSONDecodeError as error:
        raise no_json(error) from error
    except RecursionError as error:
        raise JsonTextError(TOO_DEEP) from error


def no_json(error: json.JSONDecodeError) -> JsonTextError:
    """What Python's parser found, in our words."""
    return JsonTextError(f"{json_words(error.msg)} at column {error.colno}", error.lineno)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise JsonTextError(INFINITE)
    return value


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > MOST_DIGITS:
        raise JsonTextError(TOO_LONG)
    return int(digits)
