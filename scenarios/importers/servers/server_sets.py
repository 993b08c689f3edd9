"""What several commands of one source say together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from scenarios.importers.facts import AdapterFacts, SourceFacts
from scenarios.importers.servers.vllm_command import CommandFacts


def facts_of(kind: str, servers: Sequence[CommandFacts], notes: Sequence[str] = ()) -> SourceFacts:
    """What a source says that starts servers: each adapter once, with the first source of its weights.

    Parameters
    ----------
    kind
        What the source is.
    servers
        What each of its commands says.
    notes
        What else is told of the source.
    """
    adapters: dict[str, AdapterFacts] = {}
    told = list(notes)
    for one in servers:
        for adapter in one.adapters:
            known = adapters.setdefault(adapter.served_name, adapter)
            if known.source and adapter.source and known.source.value != adapter.source.value:
                told.append(
                    f"{adapter.served_name} is at {known.source.value}, and at {adapter.source.value}."
                )
            if known.source is None and adapter.source is not None:
                adapters[adapter.served_name] = replace(known, source=adapter.source)
    names = tuple(dict.fromkeys(name for one in servers for name in one.base_names))
    return SourceFacts(
        kind,
        tuple(adapters.values()),
        tuple(one.server for one in servers),
        base_names=names,
        notes=tuple(dict.fromkeys(told)),
    )
