"""Which kind a source is, by its content; and the files of a folder that are sources."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path

from scenarios.errors import cause_of
from scenarios.importers.facts import ImportOptions, SourceFacts
from scenarios.importers.source import Kind, Source
from scenarios.text.display import is_whole
from scenarios.text.formatting import choice, shortened

MOST_FILES = 10_000
"""Most files of a folder that are looked at, beside adapters."""

DEEPEST = 4
"""Deepest folder whose files are looked at."""

_ADAPTER_FILES = ("adapter_config.json", "adapter_model.safetensors", "adapter_model.bin")


@cache
def kinds() -> tuple[Kind, ...]:
    """All kinds of sources, in the order in which they are tried."""
    from scenarios.importers import adapters, manifests, servers, traffic  # they import much

    # The traffic's last kind takes any table.
    return (*adapters.KINDS, *servers.KINDS, *manifests.KINDS, *traffic.KINDS)


def read_sources(paths: Sequence[Path], options: ImportOptions) -> list[SourceFacts]:
    """What files and folders say, in their order.

    Raises
    ------
    ImportSourceError
        If one cannot be read, is damaged, or nothing that is known.
    """
    facts: list[SourceFacts] = []
    for path in paths:
        source = Source(path)
        if not path.exists():
            raise source.error("does not exist", "correct the path")
        facts += _folder(source, options) if source.is_folder else [_file(source, options)]
    return facts


def _file(source: Source, options: ImportOptions) -> SourceFacts:
    kind = kind_of(source)
    if kind is not None:
        return _whole(source, kind.read(source, options))
    message = "is empty" if not source.head.strip() else "is nothing that is known"
    known = choice(list(dict.fromkeys(kind.name for kind in kinds())))
    raise source.error(message, f"give {known}")


def kind_of(source: Source) -> Kind | None:
    """The kind of a source; None where it is none."""
    return next((kind for kind in kinds() if kind.fits(source)), None)


def _folder(source: Source, options: ImportOptions) -> Iterator[SourceFacts]:
    """What the adapters in a folder say, and its files of other kinds; others are passed over."""
    found = False
    whole = kind_of(source)
    if whole is not None:
        found = True
        yield _whole(source, whole.read(source, options))
    for path in _files(source):
        file = Source(path)
        kind = kind_of(file)
        if kind is not None and (options.columns or not _takes_any_table(kind)):
            found = True
            yield _whole(file, kind.read(file, options))
    if not found:
        raise source.error("has no adapter_config.json and no file that is known", "give another folder")


def _whole(source: Source, facts: SourceFacts) -> SourceFacts:
    """The same; refused if a character of a text is none."""
    for text in _texts(facts):
        if not is_whole(text):
            escaped = shortened(text.encode("ascii", "backslashreplace").decode())
            raise source.error(f"holds {escaped}, with half of a surrogate pair", "write the whole character")
    return facts


def _texts(facts: SourceFacts) -> Iterator[str]:
    """The texts that a source may say without having been read as YAML."""
    yield from facts.base_names
    for adapter in facts.adapters:
        told = (adapter.source, adapter.base_model)
        yield from (adapter.served_name, *(said.value for said in told if said is not None))
    for server in facts.servers:
        named = (server.model, server.served_model_name, server.device)
        yield from (server.name, *server.adapters, *(said.value for said in named if said is not None))
        yield from (
            json.dumps(said.value, ensure_ascii=False, default=str) for said in server.engine.values()
        )
    for route in facts.routes:
        yield from (route.served_name, *route.weights)


def _is_looked_into(folder: str, name: str) -> bool:
    """Whether a folder may hold sources: none that is hidden, nor the nameless files of the hub's cache."""
    return not name.startswith(".") and not (name == "blobs" and Path(folder).name.startswith("models--"))


def _takes_any_table(kind: Kind) -> bool:
    """Whether a kind takes any file of rows: such a file in a folder is a log only where it is said."""
    from scenarios.importers.traffic.log_sources import MAPPED_LOG  # pandas takes half a second

    return kind is MAPPED_LOG


def _files(source: Source) -> Iterator[Path]:
    """Files of a folder that may be sources: none of an adapter, and none that is hidden."""
    number = 0

    def failed(error: OSError) -> None:
        raise source.error(f"cannot be read ({cause_of(error)})", "check its permissions") from error

    for folder, inner, names in os.walk(source.path, onerror=failed):
        depth = len(Path(folder).relative_to(source.path).parts)
        if any(name in names for name in _ADAPTER_FILES):
            inner.clear()
            continue
        inner[:] = [] if depth >= DEEPEST else sorted(name for name in inner if _is_looked_into(folder, name))
        for name in sorted(names):
            path = Path(folder, name)
            if name.startswith(".") or not path.is_file():
                continue
            number += 1
            if number > MOST_FILES:
                raise source.error(f"has more than {MOST_FILES:,} files", "name those that matter")
            yield path
