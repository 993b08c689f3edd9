"""The well-known models whose facts are shipped, found by their names however they are written."""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path

from twin.architectures.architecture import ModelArchitecture
from twin.architectures.facts import ArchitectureError

_SHIPPED = Path(__file__).with_name("shipped.json")

_SUFFIXES = ("instruct", "chat", "base", "it", "hf")


@lru_cache(maxsize=1)
def shipped_architectures() -> tuple[ModelArchitecture, ...]:
    """The well-known models whose facts are shipped."""
    rows = json.loads(_SHIPPED.read_text(encoding="utf-8"))
    return tuple(ModelArchitecture.model_validate(row) for row in rows)


def find_architecture(name: str) -> ModelArchitecture:
    """The shipped architecture of this name.

    Owner, capitals, punctuation and endings such as ``-Instruct`` do not count:
    ``meta-llama/Llama-3.1-8B`` finds Llama-3.1-8B-Instruct. Words of a quantisation do count, so that a
    quantised checkpoint is never taken for the one in 16 bits.

    Raises
    ------
    ArchitectureError
        If none has the name; the message lists those that exist.
    """
    found = _by_plain_name().get(_plain(name))
    if found is not None:
        return found
    names = ", ".join(architecture.name for architecture in shipped_architectures())
    raise ArchitectureError(
        f'no shipped architecture is called "{name}"; shipped are {names}. Give the model\'s config.json to '
        "read_architecture"
    )


@lru_cache(maxsize=1)
def _by_plain_name() -> dict[str, ModelArchitecture]:
    return {_plain(architecture.name): architecture for architecture in reversed(shipped_architectures())}


def _plain(name: str) -> str:
    words = re.split(r"[^a-z0-9.]+", name.rsplit("/", 1)[-1].lower())
    plain = "".join(word for word in words if word not in _SUFFIXES)
    return plain.replace(".", "").removeprefix("meta")
