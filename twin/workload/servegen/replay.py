"""Requests of ServeGen's clients, each an adapter of its own, or all dealt by rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scenarios.text.formatting import listed
from twin.engine.requests import FloatArray, IntArray
from twin.workload.gaps import ExponentialGaps, GammaGaps, Gaps, WeibullGaps
from twin.workload.servegen.clients import ClientTrace
from twin.workload.trace_rows import TraceError
from twin.workload.traces import SHOWN_NAMES, deal_by_weight


class ClientRequests(NamedTuple):
    """Requests of clients.

    Parameters
    ----------
    arrival_s
        Seconds from the start, ascending, shape (n,).
    client
        Index of the client of each, shape (n,).
    adapter
        Index of the adapter of each, shape (n,).
    start_s
        Second of the recording at which the run began.
    """

    arrival_s: FloatArray
    client: IntArray
    adapter: IntArray
    start_s: float


def client_of_adapters(clients: Sequence[ClientTrace], names: Sequence[str]) -> list[int] | None:
    """Index of the client that each adapter is, by its name; None if none is one.

    Raises
    ------
    TraceError
        If some are, and others are not or have no request.
    """
    numbers = {client.name: k for k, client in enumerate(clients)}
    if not any(name in numbers for name in names):
        return None
    wrong = [name for name in names if name not in numbers or not clients[numbers[name]].mean_rate]
    if wrong:
        raise TraceError(
            f"the recording has no client with requests for {listed(wrong, SHOWN_NAMES)}, but "
            f"{_known(clients)}; name all adapters after clients, or none, so that requests are dealt by rate"
        )
    return [numbers[name] for name in names]


def client_named(clients: Sequence[ClientTrace], name: str) -> ClientTrace:
    """The client of a name.

    Raises
    ------
    TraceError
        If there is none with a request.
    """
    found = client_of_adapters(clients, [name])
    if found is None:
        raise TraceError(f"the recording has no client {name}, but {_known(clients)}; correct adapter_name")
    return clients[found[0]]


def replay_clients(
    clients: Sequence[ClientTrace],
    rate: FloatArray,
    names: Sequence[str],
    duration_s: float,
    rng: np.random.Generator,
    *,
    start_s: float = 0.0,
) -> ClientRequests:
    """Requests of ServeGen's clients at the rates of some adapters.

    Within a window a client's gaps follow its pattern with the window's rate and coefficient of variation;
    windows are drawn independently, and the recording repeats. An adapter that is named as a client is that
    client, with its rate as the mean over the recording. If none is, the clients have as their total mean
    rate that of all adapters, and each request is dealt in proportion to the rates.

    Parameters
    ----------
    rate, names
        Requests per second, shape (n_adapters,), and name of each adapter.
    duration_s
        Seconds to draw.
    start_s
        Second of the recording at which the requests begin.

    Raises
    ------
    TraceError
        If some adapters are clients and others are not.
    """
    of_adapter = client_of_adapters(clients, names)
    if of_adapter is None:
        scale = np.full(len(clients), rate.sum() / sum(client.mean_rate for client in clients))
    else:
        scale = np.zeros(len(clients))
        scale[of_adapter] = [r / clients[k].mean_rate for r, k in zip(rate, of_adapter, strict=True)]
    drawn = [_arrivals(client, s, rng, start_s, duration_s) for client, s in zip(clients, scale, strict=True)]
    arrival = np.concatenate(drawn)
    client = np.repeat(np.arange(len(clients), dtype=np.int32), [len(part) for part in drawn])
    order = np.argsort(arrival, kind="stable")
    client = client[order]
    if of_adapter is None:
        adapter = deal_by_weight(len(client), rate, rng)
    else:
        adapter_of = np.zeros(len(clients), dtype=np.int32)
        adapter_of[of_adapter] = np.arange(len(names))
        adapter = adapter_of[client]
    return ClientRequests(arrival[order], client, adapter, start_s)


def client_lengths(
    clients: Sequence[ClientTrace], drawn: ClientRequests, rng: np.random.Generator
) -> tuple[IntArray, IntArray]:
    """Tokens of prompt and answer of each request, from what its client sends in its window.

    Of clients whose means alone are known they are geometric.
    """
    prompt, output = np.empty((2, len(drawn.client)), dtype=np.int32)
    order = np.argsort(drawn.client, kind="stable")
    edges = np.searchsorted(drawn.client[order], np.arange(len(clients) + 1))
    for k, client in enumerate(clients):
        members = order[edges[k] : edges[k + 1]]
        if not client.lengths:
            prompt[members] = rng.geometric(1 / max(client.mean_prompt_tokens, 1.0), len(members))
            output[members] = rng.geometric(1 / max(client.mean_output_tokens, 1.0), len(members))
            continue
        # Those of the last distribution before a window, as ServeGen takes them (servegen/clientpool.py).
        instant = (drawn.arrival_s[members] + drawn.start_s) % client.period_s
        begun = np.array([window.start_s for window in client.lengths])
        at = np.maximum(np.searchsorted(begun, instant // client.window_s * client.window_s, "right") - 1, 0)
        for number in np.unique(at):
            rows = members[at == number]
            prompt[rows] = client.lengths[number].prompt.draw(len(rows), rng)
            output[rows] = client.lengths[number].output.draw(len(rows), rng)
    return prompt, output


def _arrivals(
    client: ClientTrace, scale: float, rng: np.random.Generator, start_s: float, duration_s: float
) -> FloatArray:
    window_s = client.window_s
    first, last = int(start_s // window_s), math.ceil((start_s + duration_s) / window_s)
    parts = [np.zeros(0)]
    for window in range(first, last):
        index = window % len(client.rate)
        rate = client.rate[index] * scale
        if rate > 0:
            gaps = _gaps(float(client.cv[index]), bool(client.weibull[index]))
            _, events = gaps.draw(np.array([rate * window_s]), rng)
            parts.append(window * window_s + np.sort(events) / rate - start_s)
    arrival = np.concatenate(parts)
    return arrival[(arrival >= 0) & (arrival < duration_s)]


def _gaps(cv: float, weibull: bool) -> Gaps:
    if cv == 1:
        return ExponentialGaps()
    return WeibullGaps(cv) if weibull else GammaGaps(cv)


def _known(clients: Sequence[ClientTrace]) -> str:
    return listed([client.name for client in clients], SHOWN_NAMES)
