"""Plain YAML scalars to values, after YAML 1.2."""

from __future__ import annotations

import re

MAX_DIGITS = 400
"""Most characters of a number."""

INT = re.compile(r"[-+]?[0-9](?:_?[0-9])*|0x[0-9a-fA-F]+|0o[0-7]+")
FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9](?:_?[0-9])*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_SPECIAL = re.compile(r"([-+]?)\.(inf|Inf|INF|nan|NaN|NAN)")
_WORDS: dict[str, object] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def resolve(text: str) -> object:
    """Return the value of a plain scalar.

    ``1e-3`` is a number, ``16_384`` too; ``on``, ``no`` and ``12:30`` are text, ``010`` is ten.

    Raises
    ------
    ValueError
        If it is a number with too many digits to mean anything.
    """
    if text in _WORDS:
        return _WORDS[text]
    if text[0] not in "+-.0123456789":
        return text
    if special := _SPECIAL.fullmatch(text):
        return float("".join(special.groups()))
    if len(text) > MAX_DIGITS:
        if text.strip("+-.0123456789_eE"):
            return text
        raise ValueError(f"is a number of {len(text):,} characters")
    if INT.fullmatch(text):
        return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))
    return float(text) if FLOAT.fullmatch(text) else text
