"""The scenarios that come with lorapack."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from scenarios.reading.yaml_reader import parse

FOLDER = Path(__file__).parent
"""Where the shipped scenarios lie."""


class ShippedScenario(NamedTuple):
    """A scenario that comes with lorapack; `scenarios.read` takes its name or its path."""

    name: str
    path: Path
    description: str


def shipped() -> list[ShippedScenario]:
    """Return name, file and description of every shipped scenario, by name."""
    found = []
    for file in sorted(FOLDER.glob("*.yaml")):
        root = parse(file.read_text(encoding="utf-8"), file.name)
        description = root.get("description", "") if isinstance(root, dict) else ""
        found.append(ShippedScenario(file.stem, file, str(description).strip()))
    return found
