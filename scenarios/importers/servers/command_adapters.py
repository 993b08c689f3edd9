"""The adapters of a command: those that its words name, and those in a folder that it reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from scenarios.importers.adapters import MARKS, adapters_in, plain_address
from scenarios.importers.facts import TOLD, AdapterFacts, ImportSourceError, Said
from scenarios.importers.servers.command_flags import modules_of
from scenarios.importers.servers.shell.unknown import UNKNOWN


def adapters_of(
    given: object, keys: tuple[str, str], environment: Mapping[str, str], origin: str, folder: str
) -> tuple[tuple[AdapterFacts, ...], list[str]]:
    """The adapters of a command, by served name, and what is to be told of them.

    Parameters
    ----------
    given
        The words after ``--lora-modules``, or its like; None: there are none.
    keys
        As of `modules_of`.
    environment
        Variables of the command.
    origin
        Where the words are.
    folder
        Where relative paths begin; empty: its paths are those of another machine, or of a container.

    Raises
    ------
    ImportSourceError
        If a word names no adapter.
    """
    found: dict[str, AdapterFacts] = {}
    notes = []
    if any(UNKNOWN in str(word) for word in (given if isinstance(given, list) else [given])):
        notes.append("Some of its adapters are named by variables, which only a run could tell.")
    for module in modules_of(given, origin, keys) if given is not None else ():
        base = module.get("base_model_name")
        name, path = str(module[keys[0]]), plain_address(str(module[keys[1]]))
        here = _adapter_here(path) if folder else None
        known = AdapterFacts(name, origin) if here is None else replace(here, served_name=name, origin=origin)
        told_base = Said(plain_address(base), origin) if isinstance(base, str) and base else None
        source = Said(path, origin) if path else None
        base_model = told_base or known.base_model
        found[name] = replace(known, source=source, base_model=base_model, source_weight=TOLD)
    for variable in ("VLLM_LORA_RESOLVER_CACHE_DIR", "NIM_PEFT_SOURCE"):
        text = environment.get(variable, "")
        if text:
            resolved, more = folder_adapters(text, variable, folder)
            notes += more
            found = {**{adapter.served_name: adapter for adapter in resolved}, **found}
    return tuple(found.values()), notes


def _adapter_here(path: str) -> AdapterFacts | None:
    """What the folder of an adapter says, if it is on this machine."""
    try:
        is_here = Path(path).is_absolute() and any(Path(path, mark).is_file() for mark in MARKS)
    except (OSError, ValueError):
        return None
    return next(iter(adapters_in(Path(path))[0]), None) if is_here else None


def folder_adapters(text: str, what: str, folder: str) -> tuple[tuple[AdapterFacts, ...], list[str]]:
    """The adapters in a folder that a server reads, if it is there, and what is to be told of them.

    The root of a disk is none: this machine's has whatever lies on it, and parts that nobody may read.

    Parameters
    ----------
    text
        Its path.
    what
        What names it.
    folder
        Where a relative path begins; empty: such are not read.
    """
    path = Path(text) if Path(text).is_absolute() or not folder else Path(folder, text)
    try:
        is_folder = path.is_absolute() and path.parent != path and "\0" not in text and path.is_dir()
        if UNKNOWN not in text and is_folder:
            adapters, notes = adapters_in(path)
            if adapters:
                return adapters, list(notes)
    except (OSError, ValueError) as error:
        if isinstance(error, ImportSourceError):
            raise
    shown = plain_address(text.replace(UNKNOWN, "$"))
    return (), [f"Adapters are read from {shown} ({what}), which is not here: give that folder too."]
