"""What snapshots of /metrics say together: by how much counters rose from one to the next."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from scenarios.importers.facts import ImportOptions, MetricsSnapshot, SourceFacts
from scenarios.importers.traffic.counters import Rise, Series, adapters_of, rise_of, total_of


def combined(snapshots: Sequence[MetricsSnapshot], options: ImportOptions | None = None) -> SourceFacts:
    """What snapshots say together: traffic of all, and of adapters where a gateway tells them apart.

    Snapshots of one server (by the second at which it started) are compared in the order of time; those of
    several servers are added.

    Parameters
    ----------
    snapshots
        Of any number of servers.
    options
        The form of rates.
    """
    options = options or ImportOptions()
    servers: dict[float | None, list[MetricsSnapshot]] = {}
    for one in snapshots:
        servers.setdefault(one.started_s, []).append(one)
    risen: list[tuple[float, dict[Series, float]]] = []
    names: list[str] = []
    for held in servers.values():
        held.sort(key=lambda one: one.taken_s)
        names += [one.name for one in held]
        if held[-1].taken_s > held[0].taken_s:
            risen.append((held[-1].taken_s - held[0].taken_s, _risen(held)))
    origin = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
    if not risen:
        since: dict[Series, float] = {}
        for one in snapshots:
            for series, value in one.series.items():
                since[series] = since.get(series, 0.0) + value
        note = f"{origin}: no rate, for each server has one snapshot; lengths are those since its start"
        return SourceFacts("metrics", total=total_of(Rise(since, None), origin, (note,)))
    seconds = float(np.mean([span for span, _ in risen]))
    rises: dict[Series, float] = {}
    for span, one_server in risen:
        for series, value in one_server.items():
            rises[series] = rises.get(series, 0.0) + value * seconds / span
    alone = len(servers) - len(risen)
    notes = [f"{origin}: {seconds:,.6g} s apart, {snapshots[0].taken_how}"]
    if alone:
        notes.append(f"{alone} servers have one snapshot, and are left out")
    rise = Rise(rises, seconds)
    return SourceFacts(
        "metrics",
        adapters=adapters_of(rise, origin, options),
        total=total_of(rise, origin, tuple(notes)),
    )


def _risen(held: list[MetricsSnapshot]) -> dict[Series, float]:
    """By how much a server's counters rose from its first snapshot to its last."""
    rises: dict[Series, float] = {}
    for before, after in pairwise(held):
        for series, value in after.series.items():
            # A counter that was not there yet began at 0.
            grown = rise_of(np.array([before.series.get(series, 0.0), value]))
            rises[series] = rises.get(series, 0.0) + grown
    return rises
