"""Requests of one GPU, drawn from the arrival processes of its adapters."""

from __future__ import annotations

import numpy as np

from scenarios import ClosedLoopArrivals, Lengths, RecordedArrivals, Workload
from twin.engine.requests import IntArray, Requests
from twin.load import GPULoad
from twin.workload.lengths import draw_lengths, first_lengths
from twin.workload.parts import Part, merged, order_of, with_common_text
from twin.workload.processes.followers import draw_closed_loop, draw_conversations
from twin.workload.processes.instants import WorkloadError, draw_instants
from twin.workload.recordings import recorded_names, replay_recorded
from twin.workload.traffic import Seed, Traffic, traffic_of

MAX_REQUESTS = 100_000_000
"""Most requests of one GPU that are drawn; more would not fit in memory."""


def draw_requests(
    load: GPULoad,
    workload: Workload,
    seed: Seed,
    duration_s: float | None = None,
    *,
    sustained: bool = False,
) -> Requests:
    """Draw the requests that the adapters of one GPU get, each by a process of its own or the workload's.

    Every process is stationary where its rate is: the time to an adapter's first request follows the
    residual of a gap, so that each adapter's expected number of requests is its rate times the duration
    whatever the variation of its gaps. Of conversations and users that holds if answers take no time.

    What adapters of one process are sent does not depend on adapters of other processes.

    Parameters
    ----------
    load
        The GPU's adapters.
    workload
        Arrival process and duration.
    seed
        Source of all randomness; the same seed gives the same requests.
    duration_s
        Seconds to draw; absent: the workload's.
    sustained
        Whether rates that walk begin in their stationary law with the adapter's rate as their mean, and a
        trace keeps its clock; else the walk begins at the adapter's rate, as published, and a trace is
        stretched to the adapters' total rate.

    Raises
    ------
    WorkloadError
        If the workload has too many requests or rate changes to hold in memory.
    scenarios.reading.row_files.TraceError
        If the trace's file is missing or damaged.
    """
    duration = workload.duration_s if duration_s is None else duration_s
    traffics = traffic_of(load, workload.arrivals)
    _check_size(load, traffics, duration)
    parts = [
        Part(_drawn(load.chosen(one.adapters), one, duration, seed, sustained=sustained), one.adapters)
        for one in traffics
    ]
    return with_common_text(merged(parts, len(load.names)), load)


def _drawn(load: GPULoad, traffic: Traffic, duration: float, seed: Seed, *, sustained: bool) -> Requests:
    """The requests of the adapters of one traffic."""
    arrivals, sessions = traffic.arrivals, traffic.sessions
    seeds = tuple(traffic.stream(seed, child) for child in range(3))
    if isinstance(arrivals, RecordedArrivals):
        return _replayed(load, arrivals, duration, seeds, sustained=sustained)
    arrival_seed, prompt_seed, output_seed = seeds
    rng = np.random.default_rng(arrival_seed)

    def lengths(adapter: IntArray) -> tuple[IntArray, IntArray]:
        return _lengths(load.prompt, adapter, prompt_seed), _lengths(load.output, adapter, output_seed)

    if isinstance(arrivals, ClosedLoopArrivals):
        return draw_closed_loop(load.rate, arrivals.think_s, duration, rng, lengths)
    rate = load.rate if sessions is None else load.rate / sessions.turns
    adapter, arrival = draw_instants(
        arrivals, rate, duration, rng, together=traffic.together(seed), sustained=sustained
    )
    if sessions is not None:
        return draw_conversations(sessions, load.rate, (adapter, arrival), duration, rng, lengths)
    order = order_of(arrival)
    adapter = adapter[order]
    prompt, output = lengths(adapter)
    return Requests(arrival[order], prompt, output, adapter, n_adapters=len(load.names))


def _check_size(load: GPULoad, traffics: list[Traffic], duration: float) -> None:
    expected = float(load.rate.sum()) * duration
    for one in traffics:
        rate = float(load.rate[one.adapters].sum())
        if isinstance(one.arrivals, ClosedLoopArrivals):
            expected += rate * one.arrivals.think_s  # its users
        elif one.sessions is not None:
            expected += rate * one.sessions.think_s * (one.sessions.turns - 1)  # said in those under way
    if expected > MAX_REQUESTS:
        raise WorkloadError(
            f"workload: {expected:,.0f} requests in {duration:g} s on one GPU are above the limit of "
            f"{MAX_REQUESTS:,}; shorten workload.duration_s or lower the adapters' rates"
        )


def _lengths(per_adapter: tuple[Lengths, ...], adapter: IntArray, seed: np.random.SeedSequence) -> IntArray:
    """Tokens of each request, from the distribution of its adapter."""
    # By value: equal scenarios must draw equal requests, however many objects hold equal lengths.
    kinds: dict[Lengths, int] = {}
    kind_of = np.array([kinds.setdefault(lengths, len(kinds)) for lengths in per_adapter])
    if len(kinds) == 1:
        return first_lengths(per_adapter[0], len(adapter), seed)
    rng = np.random.default_rng(seed)
    tokens = np.empty(len(adapter), dtype=np.int32)
    kind = kind_of[adapter]
    order = np.argsort(kind, kind="stable")
    edges = np.searchsorted(kind[order], np.arange(len(kinds) + 1))
    for lengths, index in kinds.items():
        members = order[edges[index] : edges[index + 1]]
        if len(members):
            tokens[members] = draw_lengths(lengths, len(members), rng)
    return tokens


def _replayed(
    load: GPULoad,
    arrivals: RecordedArrivals,
    duration: float,
    seeds: tuple[np.random.SeedSequence, ...],
    *,
    sustained: bool,
) -> Requests:
    """A recording at the adapters' rates."""
    arrival_seed, prompt_seed, output_seed = seeds
    rng = np.random.default_rng(arrival_seed)
    names = recorded_names(arrivals, load.arrivals, load.names)
    replay = replay_recorded(arrivals, load.rate, names, duration, rng, sustained=sustained)
    prompt, output = replay.prompt_tokens, replay.output_tokens
    return Requests(
        arrival_s=replay.arrival_s,
        prompt_tokens=_lengths(load.prompt, replay.adapter, prompt_seed) if prompt is None else prompt,
        output_tokens=_lengths(load.output, replay.adapter, output_seed) if output is None else output,
        adapter=replay.adapter,
        n_adapters=len(load.names),
        continues=replay.continues,
        common_tokens=replay.common_tokens,
    )
