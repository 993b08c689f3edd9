"""The scenarios that come with lorapack."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from scenarios.errors import Problem, ScenarioError
from scenarios.reading.yaml_reader import FILE, parse
from scenarios.text.formatting import nearest

FOLDER = Path(__file__).parent
"""Where the shipped scenarios lie."""


SUFFIXES = (".yaml", ".yml", ".json")
"""How names of scenario files end."""

_NOT_SHIPPED = "check its name and folder; `lorapack scenarios list` names the shipped scenarios"


class ShippedScenario(NamedTuple):
    """A scenario that comes with lorapack; `scenarios.read` takes its name or its path."""

    name: str
    path: Path
    description: str


def shipped() -> list[ShippedScenario]:
    """Return name, file and description of every shipped scenario, by name."""
    entries = []
    for file in sorted(FOLDER.glob("*.yaml")):
        root = parse(file.read_text(encoding="utf-8"), file.name)
        description = root.get("description", "") if isinstance(root, dict) else ""
        entries.append(ShippedScenario(file.stem, file, str(description).strip()))
    return entries


def find(path: str | os.PathLike[str]) -> Path:
    """Return the file that `read` reads: this one, or the shipped scenario of that name.

    Raises
    ------
    ScenarioError
        If there is neither.
    """
    path = Path(path)
    with suppress(OSError):  # a name that is too long is no file's
        if path.exists():
            return path
    names = {name: file for name, file, _ in shipped()}
    if path.stem in names and str(path.parent) in (".", "scenarios") and path.suffix in ("", ".yaml"):
        return names[path.stem]
    beside, close = _beside(path), nearest(path.stem, names)
    if beside is not None:
        remedy = f'did you mean "{beside}"?'
    else:
        remedy = f'did you mean the shipped scenario "{close}"?' if close else _NOT_SHIPPED
    raise ScenarioError([Problem(FILE, "does not exist", remedy)], str(path))


def _beside(path: Path) -> Path | None:
    """Return the scenario file in the path's folder whose name comes nearest, if any does."""
    try:
        files = [file.name for file in path.parent.iterdir() if file.suffix in SUFFIXES and file.is_file()]
    except OSError:
        return None
    close = nearest(path.name, files)
    return None if close is None else path.parent / close
