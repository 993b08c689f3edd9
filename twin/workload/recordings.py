"""Requests of what was recorded: a trace, or ServeGen's clients, at the rates of some adapters."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from scenarios import Arrivals, RecordedArrivals, ServegenArrivals, TraceArrivals
from twin.engine.requests import FloatArray, IntArray
from twin.workload.servegen.clients import ClientTrace, clients_of
from twin.workload.servegen.replay import client_lengths, replay_clients
from twin.workload.trace_files import stated_trace, trace_digest, trace_of
from twin.workload.trace_prefixes import common_prefixes
from twin.workload.trace_replay import replay_trace


class RecordedRequests(NamedTuple):
    """Requests of a recording, played again.

    Parameters
    ----------
    arrival_s
        Seconds from the start, ascending, shape (n,).
    adapter
        Index of each request's adapter, shape (n,).
    prompt_tokens, output_tokens
        Tokens of prompt and answer as recorded, shape (n,); None: those of the adapters count.
    continues, common_tokens
        As of `Requests`; None: nothing is known to be in common.
    """

    arrival_s: FloatArray
    adapter: IntArray
    prompt_tokens: IntArray | None = None
    output_tokens: IntArray | None = None
    continues: IntArray | None = None
    common_tokens: IntArray | None = None


def replay_recorded(
    arrivals: RecordedArrivals,
    rate: FloatArray,
    names: tuple[str, ...] | None,
    duration_s: float,
    rng: np.random.Generator,
    *,
    sustained: bool,
) -> RecordedRequests:
    """Play a recording at the rates of some adapters, as `replay_trace` and `replay_clients` do.

    Parameters
    ----------
    arrivals
        The recording, whatever its `adapter_name`.
    rate, names, duration_s, rng, sustained
        As of `replay_trace`.

    Raises
    ------
    TraceError
        If a file is missing or damaged, or the recording has not all of the names.
    """
    if isinstance(arrivals, ServegenArrivals):
        clients = clients_of(arrivals)
        drawn = replay_clients(clients, rate, names, duration_s, rng, start_s=arrivals.start_s)
        lengths = client_lengths(clients, drawn, rng) if arrivals.lengths else (None, None)
        return RecordedRequests(drawn.arrival_s, drawn.adapter, *lengths)
    assert isinstance(arrivals, TraceArrivals)
    trace = stated_trace(arrivals, names)
    replay = replay_trace(trace, rate, names, duration_s, rng, sustained=sustained)
    if not arrivals.lengths:
        return RecordedRequests(replay.arrival_s, replay.adapter)
    recorded = trace.prompt_tokens[replay.row], trace.output_tokens[replay.row]
    common = common_prefixes(trace, replay) or (None, None)
    return RecordedRequests(replay.arrival_s, replay.adapter, *recorded, *common)


def recorded_names(
    arrivals: RecordedArrivals, own: Sequence[Arrivals | None], names: tuple[str, ...]
) -> tuple[str, ...] | None:
    """Under which name the requests of each adapter were recorded; None: they are dealt by rate.

    Parameters
    ----------
    arrivals
        The recording of adapters that have no process of their own.
    own
        Process of each adapter's own, None where it has none; empty: none has.
    names
        The adapters' own names.
    """
    processes = [one if isinstance(one, RecordedArrivals) else arrivals for one in own] or [arrivals] * len(
        names
    )
    found = [one.of(name).adapter_name for one, name in zip(processes, names, strict=True)]
    known = tuple(name for name in found if name is not None)
    return known if len(known) == len(found) else None


def period_of(arrivals: RecordedArrivals) -> float:
    """Seconds after which a recording repeats: those of the whole file, whatever adapters take of it.

    Raises
    ------
    TraceError
        If a file is missing or damaged.
    """
    if isinstance(arrivals, ServegenArrivals):
        return clients_of(arrivals)[0].period_s
    assert isinstance(arrivals, TraceArrivals)
    return trace_of(arrivals).period_s


def arrival_values(arrivals: Arrivals) -> dict[str, Any]:
    """What determines arrivals, without what is absent; of recordings the content, whatever they are called.

    Raises
    ------
    TraceError
        If a file is missing or damaged.
    """
    if isinstance(arrivals, RecordedArrivals):
        return recording_values(arrivals)
    return arrivals.model_dump(mode="json", exclude_none=True)


def recording_values(arrivals: RecordedArrivals) -> dict[str, Any]:
    """What determines the requests of a recording: its settings, with its files' content for their names.

    Raises
    ------
    TraceError
        If a file is missing or damaged.
    """
    values: dict[str, Any] = arrivals.model_dump(mode="json")
    if isinstance(arrivals, ServegenArrivals):
        values |= dict.fromkeys(arrivals.file_keys) | {"clients": _digest_of(clients_of(arrivals))}
    if isinstance(arrivals, TraceArrivals):
        values["file"] = trace_digest(arrivals.file, arrivals.columns, arrivals.time_unit)
    return values


def _digest_of(clients: tuple[ClientTrace, ...]) -> str:
    digest = hashlib.sha256()
    for one in clients:
        digest.update(
            repr((one.client, one.window_s, one.mean_prompt_tokens, one.mean_output_tokens)).encode()
        )
        for array in (one.rate, one.cv, one.weibull):
            digest.update(array.tobytes())
        for window in one.lengths:
            digest.update(repr(window.start_s).encode())
            for part in (*window.prompt, *window.output):
                digest.update(part.tobytes())
    return digest.hexdigest()[:16]
