"""Values of a text of JSON, and why there are none, in our words."""

from __future__ import annotations

import json
import re
from typing import Any

from scenarios.reading.syntax.words import json_words

MOST_DIGITS = 300
"""Most digits of a whole number: one of more is no float, which has at most 308."""

TOO_DEEP = "it is nested too deep"
TOO_LONG = f"a number has more than {MOST_DIGITS} digits"

_LONG = re.compile(rf"[0-9]{{{MOST_DIGITS + 1}}}")


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


def json_value(text: str) -> Any:
    """The value of a text of JSON.

    ``NaN`` and ``Infinity``, which JSON does not have and Python writes, are read as Python does.

    Raises
    ------
    JsonTextError
        If it is none, is nested too deep, or has a number of too many digits.
    """
    try:
        # A digit in a text may stand among many; only then each number is looked at, which takes longer.
        return json.loads(text, parse_int=_whole) if _LONG.search(text) else json.loads(text)
    except json.JSONDecodeError as error:
        raise no_json(error) from error
    except RecursionError as error:
        raise JsonTextError(TOO_DEEP) from error


def no_json(error: json.JSONDecodeError) -> JsonTextError:
    """What Python's parser found, in our words."""
    return JsonTextError(f"{json_words(error.msg)} at column {error.colno}", error.lineno)


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > MOST_DIGITS:
        raise JsonTextError(TOO_LONG)
    return int(digits)
