"""Requests of ServeGen's clients, each an adapter of its own, or all dealt by rate."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from scenarios.reading.row_files import TraceError
from scenarios.text.formatting import listed
from twin.engine.requests import FloatArray, IntArray
from twin.workload.gaps import gaps_of
from twin.workload.servegen.clients import ClientTrace
from twin.workload.traces import SHOWN_NAMES, Rows, deal_by_weight, deal_within


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


def client_of_adapters(clients: Sequence[ClientTrace], names: Sequence[str]) -> Rows:
    """Index of the client that each adapter is, by the name that it has in the recording.

    Raises
    ------
    TraceError
        If one is no client, or a client without requests.
    """
    numbers = {client.name: k for k, client in enumerate(clients) if client.mean_rate}
    if wrong := [name for name in dict.fromkeys(names) if name not in numbers]:
        known = listed([client.name for client in clients], SHOWN_NAMES)
        raise TraceError(
            f"the recording has no client with requests for {listed(wrong, SHOWN_NAMES)}, but {known}; name "
            "the adapters after clients, or leave each_client out to deal the requests of all by rate"
        )
    return np.array([numbers[name] for name in names], dtype=np.int64)


def replay_clients(
    clients: Sequence[ClientTrace],
    rate: FloatArray,
    names: Sequence[str] | None,
    duration_s: float,
    rng: np.random.Generator,
    *,
    start_s: float = 0.0,
) -> ClientRequests:
    """Requests of ServeGen's clients at the rates of some adapters.

    Within a window a client's gaps follow its pattern with the window's rate and coefficient of variation;
    windows are drawn independently, and the recording repeats. Rates are means over the recording.

    Parameters
    ----------
    rate
        Requests per second of each adapter, shape (n_adapters,).
    names
        Which client each adapter is, as ``client-N``; adapters of one share its requests in proportion to
        their rates. None: the requests of all clients are dealt so.
    duration_s
        Seconds to draw.
    start_s
        Second of the recording at which the requests begin.

    Raises
    ------
    TraceError
        If an adapter is no client.
    """
    if names is None:
        scale = np.full(len(clients), rate.sum() / sum(client.mean_rate for client in clients))
    else:
        of_adapter = client_of_adapters(clients, names)
        recorded = np.array([max(client.mean_rate, 1e-300) for client in clients])
        scale = np.bincount(of_adapter, weights=rate, minlength=len(clients)) / recorded
    drawn = [_arrivals(client, s, rng, start_s, duration_s) for client, s in zip(clients, scale, strict=True)]
    arrival = np.concatenate(drawn)
    client = np.repeat(np.arange(len(clients), dtype=np.int32), [len(part) for part in drawn])
    order = np.argsort(arrival, kind="stable")
    client = client[order]
    if names is None:
        adapter = deal_by_weight(len(client), rate, rng)
    else:
        adapter = deal_within(client, of_adapter, rate, rng)
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
            gaps = gaps_of(float(client.cv[index]), weibull=bool(client.weibull[index]))
            _, events = gaps.draw(np.array([rate * window_s]), rng)
            parts.append(window * window_s + np.sort(events) / rate - start_s)
    arrival = np.concatenate(parts)
    return arrival[(arrival >= 0) & (arrival < duration_s)]
