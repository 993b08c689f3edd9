"""Plain YAML scalars to values, after YAML 1.2, and the dumper that writes what this reads."""

from __future__ import annotations

import re
from typing import Any

import yaml

from scenarios.display import visible

MAX_DIGITS = 400
"""Most characters of a number."""

_INT = re.compile(r"[-+]?[0-9](?:_?[0-9])*|0x[0-9a-fA-F]+|0o[0-7]+")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9](?:_?[0-9])*(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
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
    if _INT.fullmatch(text):
        return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))
    return float(text) if _FLOAT.fullmatch(text) else text


_SafeDumper: Any = getattr(yaml, "CSafeDumper", yaml.SafeDumper)


class Dumper(_SafeDumper):  # type: ignore[misc]  # the C dumper is there or not
    """Writes YAML that both `resolve` and YAML 1.1 readers read back as it was."""

    def ignore_aliases(self, _data: object) -> bool:
        """Write equal values out instead of sharing them."""
        return True


for _tag, _pattern in (("int", _INT), ("float", _FLOAT)):
    Dumper.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_pattern.pattern})$"), list("+-.0123456789")
    )


def write_float(dumper: Any, value: float) -> Any:
    """Represent a float by its shortest text that reads back as the same float."""
    return dumper.represent_scalar("tag:yaml.org,2002:float", repr(value))


def write_text(dumper: Any, text: str) -> Any:
    """Represent text that would not be visible in double quotes, which alone may hold its escapes."""
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, '"' if visible(text) != text else None)


Dumper.add_representer(float, write_float)
Dumper.add_representer(str, write_text)
Dumper.add_representer(tuple, lambda dumper, value: dumper.represent_list(value))
