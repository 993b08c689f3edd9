"""What a check says of recordings: which columns were taken, and for whom requests are."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from scenarios import AdapterClass, RecordedArrivals, Scenario, ServegenArrivals, TraceArrivals
from twin.engine.requests import Requests
from twin.workload.servegen.clients import clients_of
from twin.workload.servegen.replay import client_named, client_of_adapters
from twin.workload.trace_files import taken_columns, trace_of
from twin.workload.trace_replay import adapter_of_requests
from twin.workload.traces import with_adapters


class Recording(NamedTuple):
    """Where a scenario names a recording, and the classes of the adapters that get its requests."""

    where: str
    arrivals: TraceArrivals | ServegenArrivals
    classes: list[AdapterClass]


def recordings_of(scenario: Scenario) -> list[Recording]:
    """The recordings that a scenario names, of the workload and of entries."""
    found: dict[RecordedArrivals, Recording] = {}
    entries = {entry.arrivals: k for k, entry in reversed(list(enumerate(scenario.adapters)))}
    for one in scenario.classes:
        arrivals = scenario.workload.arrivals if one.arrivals is None else one.arrivals
        if isinstance(arrivals, RecordedArrivals):
            own = one.arrivals is not None
            where = f"adapters[{entries[one.arrivals]}].arrivals" if own else "workload.arrivals"
            found.setdefault(arrivals, Recording(where, arrivals, [])).classes.append(one)
    return list(found.values())


def recording_remarks(arrivals: RecordedArrivals, names: tuple[str, ...]) -> Iterator[str]:
    """Yield what a recording holds, one line each, for adapters of these names.

    Raises
    ------
    TraceError
        If a file is missing or damaged, or the recording has not all of the names.
    """
    if isinstance(arrivals, ServegenArrivals):
        yield from _of_clients(arrivals, names)
    elif isinstance(arrivals, TraceArrivals):
        yield from _of_trace(arrivals, names)


def requests_recorded(arrivals: TraceArrivals, names: tuple[str, ...]) -> Requests:
    """All requests of a trace that adapters of these names may get, as of one adapter.

    Raises
    ------
    TraceError
        If the file is missing or damaged, or the trace has not all of the names.
    """
    trace = trace_of(arrivals)
    if arrivals.adapter_name is not None:
        trace = trace.taken(trace.rows_of(arrivals.adapter_name))
    elif trace.is_of(names):
        trace = trace.taken(np.flatnonzero(adapter_of_requests(trace, names) >= 0))
    return with_adapters(trace, np.zeros(len(trace), dtype=np.int32), 1)


def _of_clients(arrivals: ServegenArrivals, names: tuple[str, ...]) -> Iterator[str]:
    clients = clients_of(arrivals)
    rate, period = sum(client.mean_rate for client in clients), clients[0].period_s
    yield f"{len(clients):,} clients with {rate:,.4g} requests/s on average over {period / 3600:,.4g} h"
    if arrivals.adapter_name is not None:
        client_named(clients, arrivals.adapter_name)
        yield f"requests of {arrivals.adapter_name} are dealt by rate"
    elif client_of_adapters(clients, names) is None:
        yield "no adapter is named as a client is (client-N): the requests of all are dealt by rate"
    elif unused := len(clients) - len(names):
        yield f"{unused:,} clients are of no adapter, and left out"


def _of_trace(arrivals: TraceArrivals, names: tuple[str, ...]) -> Iterator[str]:
    trace, taken = trace_of(arrivals), taken_columns(arrivals.file, arrivals.columns, arrivals.time_unit)
    named = trace.is_of(names) or (arrivals.adapter_name is not None and taken.adapter is not None)
    columns = f"time {taken.time} ({taken.unit}), prompt {taken.prompt}, output {taken.output}"
    columns += f", adapter {taken.adapter}" if named else ""
    columns += f", hash_ids of {taken.hash_tokens} tokens" if taken.hash_tokens and arrivals.lengths else ""
    file = Path(arrivals.file).name
    yield f"{file} has {len(trace):,} requests in {trace.period_s:,.6g} s; columns: {columns}"
    if arrivals.adapter_name is not None:
        n = len(trace.rows_of(arrivals.adapter_name))
        yield f"{n:,} requests of {arrivals.adapter_name} are dealt by rate"
    elif named:
        left_out = int(np.count_nonzero(adapter_of_requests(trace, names) < 0))
        if left_out:
            others = len(trace.names) - len(names)
            yield f"{others:,} of its adapters are not in the scenario; {left_out:,} requests are left out"
    elif taken.adapter is not None:
        yield f"its column {taken.adapter} names no adapter of the scenario: requests are dealt by rate"
