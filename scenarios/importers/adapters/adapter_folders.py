"""Folders of adapters: one, many, in groups, or as the cache of a hub."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from scenarios.errors import cause_of
from scenarios.importers.adapters.adapter_config import CONFIG, AdapterConfig, read_adapter_config
from scenarios.importers.adapters.weight_header import WEIGHTS, read_weight_header
from scenarios.importers.facts import READ, AdapterFacts, ImportOptions, ImportSourceError, Said, SourceFacts
from scenarios.importers.source import Kind, Source
from scenarios.text.formatting import listed, shortened

DEEPEST = 4
"""Deepest folder, below the one that is given, in which adapters are looked for."""

MOST_ADAPTERS = 250_000
MOST_ENTRIES = 2_000_000
"""Most entries of folders that are looked at, links followed."""

MARKS = frozenset({CONFIG, WEIGHTS, "adapter_model.bin"})
"""Files by which a folder is an adapter."""

_HUB = "models--"
"""How folders of the hub's cache begin: ``models--OWNER--NAME`` (huggingface_hub 2.4.0, file_download.py,
``repo_folder_name``)."""

_EXPORTED = re.compile(r"(?:resolver|lora|peft)/g\d{1,6}/(?P<name>.+)")
"""Folders of links that our exports write for each GPU; the name by which clients ask is below."""

_LARGEST_RANK = 512
"""vLLM's largest ``--max-lora-rank`` (vllm/config/lora.py, 0.32.0)."""


class _Found(NamedTuple):
    """A folder that is an adapter, its served name, and which of its files there are."""

    path: Path
    name: str
    files: frozenset[str]


def adapters_in(folder: Path) -> tuple[tuple[AdapterFacts, ...], tuple[str, ...]]:
    """The adapters of a folder, and sentences about what else is there.

    Their served names are those that vLLM's resolver knows them by: paths relative to the folder, as
    ``team-a/fr`` (`lora_filesystem_resolver`, vllm/plugins/lora_resolvers/filesystem_resolver.py, 0.32.0,
    joins the folder and the name of the request).

    Raises
    ------
    ImportSourceError
        If an adapter is damaged, or there are too many.
    """
    facts: dict[str, AdapterFacts] = {}
    others: dict[str, str] = {}
    for found in _adapters(Source(folder)):
        if found.name in facts:
            continue
        adapter = _facts(found)
        if isinstance(adapter, str):
            others[found.name] = adapter
        else:
            facts[found.name] = adapter
    notes = []
    if others:
        kinds = ", ".join(sorted(set(others.values()))[:3])
        notes.append(
            f"{listed(list(others), 3)} left out: vLLM loads LoRA alone, and PEFT calls these {kinds}."
        )
    return tuple(facts.values()), tuple(notes)


def _adapters(source: Source) -> Iterator[_Found]:
    """Yield folders of adapters in the order of their names, each place of a link too."""
    number = entries = 0
    root = source.path
    stack: list[tuple[Path, str, tuple[tuple[int, int], ...]]] = [(root, "", ())]
    while stack:
        folder, name, above = stack.pop()
        files, inner, identity = _listing(folder)
        entries += len(files) + len(inner)
        if entries > MOST_ENTRIES:
            raise source.error(
                f"has more than {MOST_ENTRIES:,} entries", "name the folder of adapters itself"
            )
        if MARKS & files:
            number += 1
            if number > MOST_ADAPTERS:
                raise source.error(f"holds more than {MOST_ADAPTERS:,} adapters", "give a part of them")
            yield _Found(folder, _served_name(folder, name), frozenset(files))
            continue
        if len(above) >= DEEPEST or identity in above:
            continue
        chosen = _snapshots(folder, inner)
        stack += [
            (folder / one, f"{name}/{one}" if name else one, (*above, identity))
            for one in sorted(chosen, reverse=True)
        ]


def _listing(folder: Path) -> tuple[set[str], list[str], tuple[int, int]]:
    """Names of files and of folders, and what tells the folder from others."""
    files: set[str] = set()
    inner: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                with suppress(OSError):  # a link to itself
                    if entry.is_dir():
                        inner.append(entry.name)
                    elif entry.name in MARKS and entry.is_file():
                        files.add(entry.name)
        state = folder.stat()
    except OSError as error:
        raise Source(folder).error(f"cannot be read ({cause_of(error)})", "check its permissions") from error
    return files, inner, (state.st_dev, state.st_ino)


def _snapshots(folder: Path, inner: list[str]) -> list[str]:
    """Of a model of the hub's cache the snapshot that ``refs/main`` names; of other folders all."""
    if folder.name.startswith(_HUB) and "snapshots" in inner:
        return ["snapshots"]
    if folder.name != "snapshots" or not folder.parent.name.startswith(_HUB):
        return inner
    reference = folder.parent / "refs" / "main"
    try:
        if not reference.is_file():  # and no pipe, which would be waited for
            return inner
        with reference.open("rb") as file:
            current = file.read(200).decode("ascii").strip()
    except (OSError, ValueError):
        return inner
    return [current] if current in inner else inner


def _served_name(folder: Path, name: str) -> str:
    """The name of an adapter: of the hub's cache OWNER/NAME, with what lies below a snapshot."""
    parts = folder.absolute().parts
    for k in range(len(parts) - 2):
        if parts[k].startswith(_HUB) and parts[k + 1] == "snapshots":
            return "/".join((parts[k].removeprefix(_HUB).replace("--", "/"), *parts[k + 3 :]))
    exported = _EXPORTED.fullmatch(name)
    return exported["name"] if exported else name or folder.absolute().name


def _facts(found: _Found) -> AdapterFacts | str:
    """What a folder says of its adapter, or its kind where it is no LoRA."""
    path, name, files = found
    config_path, weights_path = path / CONFIG, path / WEIGHTS
    config = read_adapter_config(Source(config_path)) if CONFIG in files else None
    if config is not None and config.peft_type not in ("", "LORA"):
        return shortened(config.peft_type)
    notes = list(config.notes) if config is not None else [f"It has no {CONFIG}, which vLLM needs."]
    origin = f"{name}/{CONFIG if config is not None else WEIGHTS}"
    rank = _config_rank(config, origin)
    if WEIGHTS in files:
        header = read_weight_header(weights_path)
        if header.rank and (rank is None or header.rank != rank.value):
            if rank is not None:
                both = f"Its {CONFIG} says rank {rank.value} and its weights {header.rank}"
                notes.append(f"{both}; that of the weights counts.")
            rank = Said(header.rank, f"{name}/{WEIGHTS}, shapes of its {header.matrices:,} lora_A")
    elif "adapter_model.bin" in files:
        notes.append(
            "Its weights are adapter_model.bin, which is not opened: its rank is that of the settings."
        )
    else:
        notes.append("Its folder has no weights.")
    if rank is not None and rank.value > _LARGEST_RANK:
        notes.append(f"Its rank is above {_LARGEST_RANK}, the largest of vLLM's slots.")
    base = None if config is None or config.base_model is None else Said(config.base_model, origin)
    where = Said(str(path.absolute()), "where it was read")
    return AdapterFacts(name, origin, rank, where, base, notes=tuple(notes), source_weight=READ)


def _config_rank(config: AdapterConfig | None, origin: str) -> Said[int] | None:
    if config is None or config.rank is None:
        return None
    return Said(config.rank, f"{origin}, {'rank_pattern' if config.by_pattern else 'r'}")


def _has_adapters(source: Source) -> bool:
    if not source.is_folder:
        return False
    try:
        return next(_adapters(source), None) is not None
    except ImportSourceError:  # a folder that cannot be read is told of by whoever reads it
        return True


def _read_folder(source: Source, options: ImportOptions) -> SourceFacts:
    del options
    adapters, notes = adapters_in(source.path)
    if not adapters:
        raise source.error(f"holds no LoRA: {' '.join(notes)}", "give another folder")
    return SourceFacts(FOLDER.name, adapters, notes=notes)


FOLDER = Kind("folder of PEFT adapters", _has_adapters, _read_folder)
"""PEFT 0.21.2, peft/utils/constants.py: CONFIG_NAME, SAFETENSORS_WEIGHTS_NAME, WEIGHTS_NAME."""
