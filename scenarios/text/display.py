"""Text from files and commands, made harmless for whoever shows it: a terminal, a spreadsheet."""

from __future__ import annotations

import unicodedata

_FORMULA = frozenset("=+-@\t\r\n＝＋－＠")
"""First characters by which spreadsheets take a text for a formula."""

_FILLERS = frozenset("\u034f\u115f\u1160\u3164\uffa0")
"""Letters and marks that show nothing, though Unicode does not count them among its controls."""


def visible(text: str) -> str:
    """Return text on one line, with escapes such as ``\\x1b`` for all that a terminal would obey or hide.

    These are control characters (line breaks too), marks of direction, characters without width, halves
    of surrogate pairs, and what Unicode leaves unassigned.
    """
    if text.isprintable() and _FILLERS.isdisjoint(text):
        return text
    return "".join(char if _is_shown(char) else escaped(char) for char in text)


def visible_lines(text: str) -> str:
    """Return text of several lines, each made `visible`."""
    return "\n".join(visible(line) for line in text.split("\n"))


def spreadsheet_cell(value: object) -> object:
    """Return a table's value as a spreadsheet may see it: no text is a formula, nothing in it is hidden.

    An apostrophe before the text keeps a spreadsheet from running it; what is no text stays as it is.
    """
    if not isinstance(value, str):
        return value
    return ("'" if value[:1] in _FORMULA else "") + visible(value)


def escaped(char: str) -> str:
    """Return a character as Python writes it in ASCII: ``\\x1b``, ``\\u202e``."""
    return char.encode("unicode_escape").decode("ascii")


def cut_in_middle(text: str, longest: int) -> str:
    """Return text, without its middle where it has more characters than that."""
    half = longest // 2 - 2
    return text if len(text) <= longest else f"{text[:half]} ... {text[-half:]}"


def is_whole(text: str) -> bool:
    """Whether all of a text's characters are whole: JSON may write half of a pair, which no file can hold."""
    return text.isascii() or not any("\ud800" <= sign <= "\udfff" for sign in text)


def _is_shown(char: str) -> bool:
    if char in _FILLERS:
        return False
    return char.isprintable() or unicodedata.category(char) == "Zs"  # spaces of other widths do no harm
