"""Files of arguments that ``vllm serve --config`` names, as the words of a command line."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from scenarios.importers.adapters import plain_address
from scenarios.importers.servers.engine_values import SWITCHES, refused
from scenarios.importers.servers.shell.unknown import UNKNOWN
from scenarios.importers.servers.source_places import yaml_mapping
from scenarios.importers.source import HEAD_BYTES, Source
from scenarios.text.display import visible
from scenarios.text.formatting import listed, shortened, shown

FLAG = "--config"

MOST_BYTES = 4 * 2**20
"""Longest file that is read."""

_FORMS = (".yaml", ".yml")


class Config(NamedTuple):
    """What a command's file of arguments says.

    Parameters
    ----------
    words
        What vLLM puts between the model and the other words, so that those count where both say a thing.
    origin
        The file.
    notes
        What a user must know of it.
    """

    words: tuple[str, ...]
    origin: str
    notes: tuple[str, ...] = ()


def config_of(words: Sequence[str], origin: str, folder: str) -> Config:
    """The file of arguments of a command; without words where it names none, or none that is here.

    vLLM reads it where ``--config`` is a word of its own, and takes YAML alone (vllm/utils/argparse_utils.py,
    `_pull_args_from_config` and `load_config_file`, 0.32.0; vllm/utils.py, 0.6.0).

    Parameters
    ----------
    words
        The command's after ``serve``.
    origin
        Where the command is.
    folder
        Where a relative path begins; empty: its paths are those of another machine, or of a container.

    Raises
    ------
    ImportSourceError
        If the file is none that vLLM takes.
    """
    if FLAG not in words:
        joined = any(word.startswith(f"{FLAG}=") for word in words)
        note = "Its --config=FILE is one word, which vLLM passes over: it reads --config FILE."
        return Config((), "", (note,) if joined else ())
    place = words.index(FLAG) + 1
    told = words[place] if place < len(words) else ""
    if not told.endswith(_FORMS) and UNKNOWN not in told:
        raise refused(f"{origin}, {FLAG}", f"is {shown(told)}", "name a file that ends in .yaml or .yml")
    source = _source(told, folder)
    if source is None:
        called = shortened(visible(plain_address(told.replace(UNKNOWN, "$"))))
        note = f"Its {FLAG} names {called}, which is not here: what arguments it holds is not known."
        return Config((), "", (note,))
    if len(source.head) >= HEAD_BYTES and source.path.stat().st_size > MOST_BYTES:
        raise source.error(f"is longer than {MOST_BYTES:,} bytes", "give the arguments alone")
    given = yaml_mapping(source)
    return Config(tuple(_words(source, given)), source.path.name, tuple(_notes(given)))


def _source(told: str, folder: str) -> Source | None:
    if UNKNOWN in told or "\0" in told or not folder:
        return None
    try:
        path = Path(folder, told)
        return Source(path) if path.is_file() else None
    except OSError:
        return None


def _words(source: Source, given: Mapping[str, object]) -> Iterator[str]:
    """Yield the words that vLLM makes of keys and values."""
    for key, value in given.items():
        flag = f"--{key}"
        if not key or key.split() != [key] or key.startswith("-"):
            raise source.error(f"has the key {shown(key)}", "name arguments without --")
        if isinstance(value, bool):
            yield flag if value else f"--no-{key}"
        elif isinstance(value, tuple):
            yield from (flag, *map(_text, value)) if value else ()
        elif value is not None:  # of nothing vLLM's parser makes the default
            yield from (flag, _text(value))


def _text(value: object) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value) if isinstance(value, dict) else str(value)


def _notes(given: Mapping[str, object]) -> Iterator[str]:
    off = [key for key, value in given.items() if value is False and key.replace("-", "_") in SWITCHES]
    if off:
        yield f"Its {FLAG} says false of {listed(off, 5)}, which releases before 0.28.0 pass over."
