"""Files of one adapter, given themselves: its settings, or its weights."""

from __future__ import annotations

from scenarios.importers.adapters.adapter_folders import MARKS, adapters_in
from scenarios.importers.facts import ImportOptions, SourceFacts
from scenarios.importers.source import Kind, Source


def _fits(source: Source) -> bool:
    return source.path.name in MARKS and not source.is_folder


def _read(source: Source, options: ImportOptions) -> SourceFacts:
    del options
    adapters, notes = adapters_in(source.path.parent)
    if len(adapters) != 1:
        raise source.error("is no LoRA by its folder", "give the folder of the adapter")
    return SourceFacts(FILE_OF_ADAPTER.name, adapters, notes=notes)


FILE_OF_ADAPTER = Kind("adapter_config.json", _fits, _read)
"""What its folder says is read: a file of an adapter has the adapter's folder around it."""
