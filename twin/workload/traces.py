"""Traces: arrivals of one service, stretched, repeated, and dealt to adapters."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from twin.engine.requests import FloatArray, IntArray, Requests
from twin.workload.trace_rows import TraceError

COPY_SHIFT_S = 600.0
"""Most seconds by which copies of a trace that are laid over each other lie apart: far less than a peak."""


@dataclass(frozen=True)
class Trace:
    """Arrivals of one service, without adapters.

    Parameters
    ----------
    arrival_s
        Seconds from the start, ascending from 0, shape (n,).
    prompt_tokens, output_tokens
        Tokens of prompt and answer, at least 1, shape (n,).
    period_s
        After how many seconds the trace may be repeated: n mean gaps.
    """

    arrival_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    period_s: float

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def mean_rate(self) -> float:
        """Requests per second."""
        return len(self) / self.period_s

    def stretched(self, speed: float) -> Trace:
        """The same trace, ``speed`` times as fast."""
        return Trace(self.arrival_s / speed, self.prompt_tokens, self.output_tokens, self.period_s / speed)


def repeat_trace(trace: Trace, duration_s: float) -> Trace:
    """The first ``duration_s`` seconds of the trace repeated without end."""
    copies = max(1, math.ceil(duration_s / trace.period_s))
    arrival = (np.arange(copies)[:, None] * trace.period_s + trace.arrival_s).ravel()
    n = int(np.searchsorted(arrival, duration_s, side="left"))
    return Trace(
        arrival[:n],
        np.tile(trace.prompt_tokens, copies)[:n],
        np.tile(trace.output_tokens, copies)[:n],
        duration_s,
    )


def clocked_trace(trace: Trace, rate: float, duration_s: float, rng: np.random.Generator) -> Trace:
    """The first ``duration_s`` seconds of a trace of another rate at the same clock, repeated without end.

    It is thinned at random; for more requests than it has, copies of it, each a few minutes later, are laid
    over it first. Unlike stretching, that leaves a peak as long as it was.
    """
    share = rate / trace.mean_rate
    copies = max(1, math.ceil(share))
    once, period = repeat_trace(trace, duration_s), trace.period_s
    arrivals, places = [], []
    for copy in range(copies):
        shift = 0.0 if copy == 0 else rng.uniform(0.0, min(COPY_SHIFT_S, period))
        kept = np.flatnonzero(rng.random(len(once)) * copies < share)
        arrivals.append((once.arrival_s[kept] + shift) % duration_s)
        places.append(kept)
    arrival, place = np.concatenate(arrivals), np.concatenate(places)
    order = np.argsort(arrival, kind="stable")
    place = place[order]
    return Trace(arrival[order], once.prompt_tokens[place], once.output_tokens[place], duration_s)


def deal_by_weight(n: int, weight: FloatArray, rng: np.random.Generator) -> IntArray:
    """Deal n requests to adapters, independently in proportion to their weights; shape (n,)."""
    cumulative = np.cumsum(weight / weight.sum())
    return np.minimum(np.searchsorted(cumulative, rng.random(n), side="right"), len(weight) - 1).astype(
        np.int32
    )


def deal_zipf(n: int, n_adapters: int, exponent: float, rng: np.random.Generator) -> IntArray:
    """Deal n requests to adapters whose popularity follows Zipf's law; adapter 0 is the most popular."""
    return deal_by_weight(n, np.arange(1, n_adapters + 1, dtype=np.float64) ** -exponent, rng)


def deal_dirichlet(n: int, n_adapters: int, alpha: float, rng: np.random.Generator) -> IntArray:
    """Deal n requests to adapters with Dirichlet(alpha) popularity and at least one request each.

    The protocol of the published real-trace experiments (arXiv 2602.24044), with alpha 0.5 there.

    Raises
    ------
    TraceError
        If there are fewer requests than adapters.
    """
    if n < n_adapters:
        raise TraceError(
            f"{n:,} requests cannot give each of {n_adapters:,} adapters one; use fewer adapters or a "
            "longer trace"
        )
    adapter = deal_by_weight(n, rng.dirichlet(np.full(n_adapters, alpha)), rng)
    # One request of each adapter is set at a place chosen at random, the rest keep what they drew.
    adapter[rng.permutation(n)[:n_adapters]] = np.arange(n_adapters, dtype=np.int32)
    return adapter


def with_adapters(trace: Trace, adapter: IntArray, n_adapters: int) -> Requests:
    """The trace's requests, each with the adapter that it was dealt to."""
    return Requests(trace.arrival_s, trace.prompt_tokens, trace.output_tokens, adapter, n_adapters)


def child_seed(seed: np.random.SeedSequence | int, child: int) -> np.random.SeedSequence:
    """A seed of its own for a child, without counting up the caller's sequence."""
    parent = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    return np.random.SeedSequence(parent.entropy, spawn_key=(*parent.spawn_key, child))
