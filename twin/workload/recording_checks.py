"""What a check says of recordings: which columns were taken, and for whom requests are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scenarios import AdapterClass, RecordedArrivals, Scenario, ServegenArrivals, TraceArrivals
from scenarios.text.formatting import counted
from twin.engine.requests import Requests
from twin.workload.servegen.clients import clients_of
from twin.workload.servegen.replay import client_of_adapters
from twin.workload.trace_files import stated_trace, taken_columns
from twin.workload.trace_replay import rows_of_names
from twin.workload.traces import with_adapters


class Recording(NamedTuple):
    """Where a scenario names a recording, and the classes of the adapters that get its requests."""

    where: str
    arrivals: TraceArrivals | ServegenArrivals
    classes: list[AdapterClass]


def recordings_of(scenario: Scenario) -> list[Recording]:
    """The recordings that a scenario names, of the workload and of entries."""
    places = {name: k for k, entry in enumerate(scenario.adapters) for name in entry.names()}
    found: dict[object, Recording] = {}
    for one in scenario.classes:
        arrivals = one.arrivals or scenario.workload.arrivals
        if isinstance(arrivals, RecordedArrivals):
            place = places[one.names[0]]
            own = scenario.adapters[place].arrivals is not None
            where = f"adapters[{place}].arrivals" if own else "workload.arrivals"
            key = where if not own else (scenario.adapters[place].arrivals, arrivals.recording)
            found.setdefault(key, Recording(where, arrivals, [])).classes.append(one)
    return list(found.values())


def recording_remarks(arrivals: RecordedArrivals, names: tuple[str, ...] | None) -> Iterator[str]:
    """Yield what a recording holds, one line each.

    Parameters
    ----------
    names
        Under which name the requests of each adapter were recorded; None: they are dealt by rate.

    Raises
    ------
    TraceError
        If a file is missing or damaged, or the recording has not all of the names.
    """
    if isinstance(arrivals, ServegenArrivals):
        yield from _of_clients(arrivals, names)
    elif isinstance(arrivals, TraceArrivals):
        yield from _of_trace(arrivals, names)


def requests_recorded(arrivals: TraceArrivals, names: tuple[str, ...] | None) -> Requests:
    """All requests of a trace that adapters may get, as of one adapter.

    Raises
    ------
    TraceError
        If the file is missing or damaged, or the trace has not all of the names.
    """
    trace = stated_trace(arrivals, names)
    if names is not None:
        trace = trace.taken(rows_of_names(trace, names)[0])
    return with_adapters(trace, np.zeros(len(trace), dtype=np.int32), 1)


def _of_clients(arrivals: ServegenArrivals, names: tuple[str, ...] | None) -> Iterator[str]:
    clients = clients_of(arrivals)
    rate, period = sum(client.mean_rate for client in clients), clients[0].period_s
    yield f"{len(clients):,} clients with {rate:,.4g} requests/s on average over {period / 3600:,.4g} h"
    if names is None:
        yield "requests of all are dealt by rate; each_client: true makes adapters of clients"
    elif unused := len(clients) - len(set(client_of_adapters(clients, names))):
        yield f"{unused:,} of them are of no adapter, and left out"


def _of_trace(arrivals: TraceArrivals, names: tuple[str, ...] | None) -> Iterator[str]:
    trace = stated_trace(arrivals, names)
    taken = taken_columns(arrivals.file, arrivals.columns, arrivals.time_unit)
    columns = f"time {taken.time} ({taken.unit}), prompt {taken.prompt}, output {taken.output}"
    columns += f", adapter {taken.adapter}" if names is not None else ""
    columns += f", hash_ids of {taken.hash_tokens} tokens" if taken.hash_tokens and arrivals.lengths else ""
    file = Path(arrivals.file).name
    yield f"{file} has {len(trace):,} requests in {trace.period_s:,.6g} s; columns: {columns}"
    if names is not None:
        left_out = len(trace) - len(rows_of_names(trace, names)[0])
        others = len(trace.names) - len(set(names))
        if left_out:
            under = counted(others, "other name") if others else "no name"
            yield f"left out here: {counted(left_out, 'request')} under {under}"
    elif trace.guessed:
        yield (
            f"requests are dealt by rate; columns: {{adapter: {taken.adapter}}} gives each adapter those "
            "under its name"
        )
