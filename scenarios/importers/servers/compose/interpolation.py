"""Variables in texts of Compose: ``$X``, ``${X}``, and with defaults.

After compose-spec/compose-spec, 12-interpolation.md @0a7f945e; ``${X:+Y}`` after docker/docs,
compose/environment-variables/env-file.md.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from scenarios.importers.servers.shell.unknown import UNKNOWN

DEEPEST = 10
"""Deepest default within a default."""

_BARE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_BRACED = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:(:?[-?+])(.*))?", re.DOTALL)
_BRACES = re.compile(r"\$\{|\}")


class Interpolation:
    """Puts variables into texts, and remembers which it put.

    Parameters
    ----------
    variables
        Those that are known; of others the default counts, and without one nothing is known.
    """

    def __init__(self, variables: Mapping[str, str]) -> None:
        self._variables = variables
        self.used: set[str] = set()

    def __call__(self, text: str, depth: int = 0) -> str:
        """A text with its variables put in; ``$$`` is ``$``, and what is not known stays, marked so."""
        pieces, position, closings = [], 0, _closings(text)
        while (at := text.find("$", position)) >= 0:
            pieces.append(text[position:at])
            after = text[at + 1 : at + 2]
            if (end := closings.get(at)) is not None:
                pieces.append(self._braced(text[at + 2 : end], depth))
                position = end + 1
            elif bare := _BARE.match(text, at + 1):
                pieces.append(self._known(bare[0], UNKNOWN + bare[0]))
                position = bare.end()
            else:
                pieces.append("$")
                position = at + 2 if after == "$" else at + 1
        return "".join((*pieces, text[position:]))

    def _known(self, name: str, otherwise: str) -> str:
        value = self._variables.get(name)
        if value is None:
            return otherwise
        self.used.add(name)
        return value

    def _braced(self, body: str, depth: int) -> str:
        unknown = f"{UNKNOWN}{{{body}}}"
        found = _BRACED.fullmatch(body)
        if found is None or depth >= DEEPEST:
            return unknown
        name, sign, rest = found[1], found[2] or "", found[3] or ""
        value = self._known(name, "")
        is_set = name in self._variables and (bool(value) or not sign.startswith(":"))
        if sign.endswith("+"):
            return self(rest, depth + 1) if is_set else ""
        if is_set:
            return value
        return self(rest, depth + 1) if sign.endswith("-") else unknown


def _closings(text: str) -> dict[int, int]:
    """Where each brace closes, by where it was opened; those that stay open are left out."""
    opened: list[int] = []
    closings: dict[int, int] = {}
    for match in _BRACES.finditer(text):
        if match[0] == "${":
            opened.append(match.start())
        elif opened:
            closings[opened.pop()] = match.start()
    return closings
