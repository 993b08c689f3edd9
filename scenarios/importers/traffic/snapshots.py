"""What snapshots of /metrics say together: by how much counters rose from one to the next."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from scenarios.errors import Problem
from scenarios.importers.facts import ImportOptions, ImportSourceError, MetricsSnapshot, SourceFacts
from scenarios.importers.traffic.counters import Rise, Series, adapters_of, rise_of, total_of
from scenarios.text.display import visible

SHORTEST_GAP_S = 5.0
"""Snapshots of a server must be further apart: by less, a rate is chance, or the times are none."""


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

    Raises
    ------
    ImportSourceError
        If two of one server are closer than `SHORTEST_GAP_S`, or cannot be of one server.
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
        _check(held)
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
    how = " and ".join(dict.fromkeys(one.taken_how for one in snapshots))
    notes = [f"{origin}: {seconds:,.6g} s apart, {how}"]
    if alone:
        notes.append(
            f"{alone} {'server has' if alone == 1 else 'servers have'} one snapshot, left out of the rates"
        )
    rise = Rise(rises, seconds)
    return SourceFacts(
        "metrics",
        adapters=adapters_of(rise, origin, options),
        total=total_of(rise, origin, tuple(notes)),
    )


def _check(held: Sequence[MetricsSnapshot]) -> None:
    """Refuse snapshots of one server, in the order of time, that say no rate.

    Raises
    ------
    ImportSourceError
        As `combined`.
    """
    for before, after in pairwise(held):
        both = f"{visible(before.name)} and {visible(after.name)}"
        gap = after.taken_s - before.taken_s
        if gap < SHORTEST_GAP_S:
            message = (
                f"are {gap:.3g} s apart {after.taken_how}, and of one server, as "
                f"{'they started at one time' if after.started_s else 'neither says when it started'}"
            )
            remedy = (
                "take them some minutes apart, and let a first line say when: # time: 2026-11-30T12:00:00Z; "
                "metrics of several servers need their process_start_time_seconds"
            )
            raise ImportSourceError([Problem(both, message, remedy)])
        fell = next((s for s, value in after.series.items() if value < before.series.get(s, 0.0)), None)
        if fell is not None and after.started_s is not None:
            message = f"are of servers that started at one time, and {fell[0]} fell from one to the other"
            remedy = "give the files of each server alone, or correct their times"
            raise ImportSourceError([Problem(both, message, remedy)])


def _risen(held: list[MetricsSnapshot]) -> dict[Series, float]:
    """By how much a server's counters rose from its first snapshot to its last."""
    rises: dict[Series, float] = {}
    for before, after in pairwise(held):
        for series, value in after.series.items():
            # A counter that was not there yet began at 0.
            grown = rise_of(np.array([before.series.get(series, 0.0), value]))
            rises[series] = rises.get(series, 0.0) + grown
    return rises
