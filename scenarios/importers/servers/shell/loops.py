"""Loops of a script: which values a variable takes in turn, where the script itself says so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import dropwhile
from typing import NamedTuple

from scenarios.importers.servers.shell.unknown import UNKNOWN

MOST_TURNS = 4096
"""Most turns of a loop that are taken one by one."""

LOOPS = frozenset({"for", "while", "until", "select"})
_BEFORE = frozenset({"do", "then", "else", "{", "!", "time"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BRACES = re.compile(r"\{(-?\d{1,9})\.\.(-?\d{1,9})(?:\.\.(-?\d{1,9}))?\}")
_SEQUENCE = re.compile(rf"{UNKNOWN}?[`(]\s*seq ((?:-?\d{{1,9}}\s*){{1,3}})[)`]?")
_COUNTED = re.compile(
    r"\(\(\s*(?P<name>[A-Za-z_]\w*)\s*=\s*(?P<first>\d{1,9})\s*;\s*(?P=name)\s*(?P<sign><=?)\s*(?P<last>\d{1,9})"
    r"\s*;\s*(?:(?P=name)\s*\+\+|\+\+\s*(?P=name))\s*\)\)"
)
_HEAD = re.compile(r"\(\(\s*(?P<name>[A-Za-z_]\w*)?[^\n]{0,500}?\)\)")


class Turns(NamedTuple):
    """How often a loop is gone through.

    Parameters
    ----------
    name
        Its variable; empty: none.
    values
        What that is in turn; None: only a run could tell.
    """

    name: str
    values: tuple[str, ...] | None


class Counted(NamedTuple):
    """A loop with a counter.

    Parameters
    ----------
    turns
        How often it is gone through.
    end
        Where in the text its head ends.
    """

    turns: Turns
    end: int


def turns_of(words: Sequence[str]) -> Turns | None:
    """The turns of the loop that a command begins; None: it begins none.

    Parameters
    ----------
    words
        The command's, with variables put in: ``for p in 8000 8001``.
    """
    own = list(dropwhile(_BEFORE.__contains__, words))
    if not own or own[0] not in LOOPS:
        return None
    if own[0] != "for" or len(own) < 3 or own[2] != "in" or _NAME.fullmatch(own[1]) is None:
        name = own[1] if len(own) > 1 and own[0] == "for" else ""
        return Turns(name, None)
    values: list[str] = []
    for word in own[3:]:
        found = _values(word)
        if found is None or len(values) + len(found) > MOST_TURNS:
            return Turns(own[1], None)
        values += found
    return Turns(own[1], tuple(values) or None)


def counted(text: str, position: int) -> Counted | None:
    """The loop ``((i = 0; i < 4; i++))`` that begins at a position; None: none does."""
    found = _COUNTED.match(text, position)
    if found is None:
        head = _HEAD.match(text, position)
        return None if head is None else Counted(Turns(head["name"] or "", None), head.end())
    first, last = int(found["first"]), int(found["last"]) + (found["sign"] == "<=")
    turns = tuple(map(str, range(first, last))) if last - first <= MOST_TURNS else None
    return Counted(Turns(found["name"], turns), found.end())


def _values(word: str) -> list[str] | None:
    """The words that a word of a loop stands for; None: a run would tell."""
    if braces := _BRACES.fullmatch(word):
        return _range(int(braces[1]), int(braces[2]), int(braces[3] or 1))
    if sequence := _SEQUENCE.fullmatch(word):
        numbers = [int(part) for part in sequence[1].split()]
        first, last = numbers[0] if len(numbers) > 1 else 1, numbers[-1]
        step = numbers[1] if len(numbers) == 3 else 1
        return _range(first, last, step) if step > 0 and last >= first else None
    return None if UNKNOWN in word or "*" in word or "?" in word else [word]


def _range(first: int, last: int, step: int) -> list[str] | None:
    size = max(abs(step), 1)
    if abs(last - first) // size >= MOST_TURNS:
        return None
    return [
        str(k) for k in (range(first, last + 1, size) if last >= first else range(first, last - 1, -size))
    ]
