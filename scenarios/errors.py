"""Errors that tell a user what is wrong, where, and what to do about it."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from json import JSONDecodeError

from scenarios.reading.syntax.words import json_words
from scenarios.text.display import cut_in_middle, escaped, visible, visible_lines

SHOWN_PROBLEMS = 50
"""Most problems of one input that an error's text spells out."""

LONGEST_PROBLEM = 2_000
"""Most characters of one of them; what is longer, as a name may be, is cut in the middle."""

LONGEST_LIST = 15_000
"""Most characters of all of them together."""


class LorapackError(Exception):
    """Base of every error that lorapack raises on purpose; nothing in its text is obeyed by a terminal."""

    def __str__(self) -> str:
        """The message, its lines kept."""
        return visible_lines(super().__str__())


def cause_of(error: Exception) -> str:
    """Return why reading or writing failed, without the number and the path that the system says too.

    Words of libraries are not quoted: Python's of gzip (``gzip.py``), codecs, whole numbers and recursion.
    """
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    match error:
        case LorapackError():
            return str(error)
        case JSONDecodeError():
            return f"no JSON: {json_words(error.msg)} at line {error.lineno}, column {error.colno}"
        case UnicodeDecodeError():
            return f"no text of UTF-8: byte 0x{error.object[error.start]:02x} at offset {error.start}"
        case UnicodeEncodeError():
            return f"half of a surrogate pair, {escaped(error.object[error.start])}, in a text"
        case EOFError():
            return "cut off: its packed content has no end"
        case gzip.BadGzipFile() | zlib.error():
            return "its packed content is damaged"
        case RecursionError():
            return "nested too deep"
        case ValueError() if "int_max_str_digits" in str(error):
            return "a number has too many digits"
    return str(error)


@dataclass(frozen=True)
class Problem:
    """One thing wrong with an input.

    Parameters
    ----------
    path
        Where, in the input's own terms: ``adapters[3].rank``.
    message
        What is wrong, with the value: ``is 128, above engine.max_lora_rank 64``.
    remedy
        What the user can do: ``raise it or drop adapter "fr-legal"``.
    line
        Line in the file, counted from 1; None where the input was no file.
    """

    path: str
    message: str
    remedy: str = ""
    line: int | None = None

    def __str__(self) -> str:
        where = f"line {self.line}: " if self.line is not None else ""
        return visible(f"{where}{self.path} {self.message}" + (f"; {self.remedy}" if self.remedy else ""))


def spelled_out(problems: Sequence[Problem]) -> list[str]:
    """A line for each of the first problems, as far as anybody reads, and one that counts the others."""
    lines, room = list[str](), LONGEST_LIST
    for problem in problems[:SHOWN_PROBLEMS]:
        line = cut_in_middle(f"  {problem}", LONGEST_PROBLEM)
        room -= len(line)
        if room < 0:
            break
        lines.append(line)
    hidden = len(problems) - len(lines)
    return [*lines, f"  ... and {hidden:,} more"] if hidden else lines


class InputError(LorapackError, ValueError):
    """What was given is wrong; holds every problem found at once."""

    def __init__(self, problems: Sequence[Problem], text: str = "") -> None:
        self.problems = tuple(problems)
        super().__init__(text or "\n".join(map(str, self.problems)))

    def __reduce__(self) -> tuple[type[InputError], tuple[object, ...]]:
        return type(self), (self.problems,)


class ScenarioError(InputError):
    """A scenario, a placement or another input file is wrong."""

    def __init__(self, problems: Sequence[Problem], source: str = "scenario") -> None:
        self.source = source
        count = "1 problem" if len(problems) == 1 else f"{len(problems):,} problems"
        super().__init__(problems, "\n".join([f"{visible(source)}: {count}", *spelled_out(problems)]))

    def __reduce__(self) -> tuple[type[ScenarioError], tuple[object, ...]]:
        return type(self), (self.problems, self.source)
