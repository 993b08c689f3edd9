"""The well-known models whose facts are shipped, found by their names however they are written."""

from __future__ import annotations

import json
import re
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path

from scenarios.text.formatting import shortened
from twin.architectures.architecture import ModelArchitecture
from twin.architectures.facts import ArchitectureError

_SHIPPED = Path(__file__).with_name("shipped.json")

_NEAREST = 5
"""Names that are listed where none is found."""

_LONGEST = 200
"""Characters of a name that are compared with others."""

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
    quantised checkpoint is never taken for the one in 16 bits; and where a shipped name has an owner, as
    several quantise a model in ways of their own, another owner's is not found.

    Raises
    ------
    ArchitectureError
        If none has the name; the message lists those that are most like it.
    """
    wanted, owner = _plain(name), _owner(name)
    for architecture in shipped_architectures():
        owners = {owner, _owner(architecture.name)} - {""}
        if wanted and wanted == _plain(architecture.name) and len(owners) < 2:
            return architecture
    plain = {_plain(architecture.name): architecture.name for architecture in shipped_architectures()}
    near = [plain[key] for key in get_close_matches(wanted[:_LONGEST], plain, n=_NEAREST, cutoff=0)]
    raise ArchitectureError(
        f'no shipped model is called "{shortened(name)}"; the nearest of {len(plain)} are {", ".join(near)}. '
        "Give one of their names, or the path of the model's config.json"
    )


def _owner(name: str) -> str:
    return name.rpartition("/")[0].rpartition("/")[2].lower()


def _plain(name: str) -> str:
    words = re.split(r"[^a-z0-9.]+", name.rsplit("/", 1)[-1].lower())
    plain = "".join(word for word in words if word not in _SUFFIXES)
    return plain.replace(".", "").removeprefix("meta")
