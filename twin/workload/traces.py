"""Traces: arrivals of one service, and how requests are dealt to adapters."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from scenarios.reading.row_files import TraceError
from scenarios.text.formatting import listed
from twin.engine.requests import FloatArray, IntArray, Requests

Rows = NDArray[np.int64]

SHOWN_NAMES = 5
"""Most names that a message shows."""


@dataclass(frozen=True)
class PrefixHashes:
    """Hashes of the blocks of each prompt; equal ones are equal from the prompt's beginning on.

    Parameters
    ----------
    start
        Where the hashes of each request begin, and after the last one end, shape (n + 1,).
    ids
        The hashes of all requests end to end, from 0, shape (start[n],).
    block_tokens
        Tokens of a block.
    """

    start: Rows
    ids: Rows
    block_tokens: int

    def of(self, rows: Rows) -> tuple[Rows, Rows]:
        """How many hashes each of some requests has, and their ids end to end."""
        count = self.start[rows + 1] - self.start[rows]
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return count, self.ids[np.repeat(self.start[rows], count) + within]

    def taken(self, rows: Rows) -> PrefixHashes:
        """The hashes of some requests."""
        count, ids = self.of(rows)
        return PrefixHashes(np.concatenate(([0], np.cumsum(count))), ids, self.block_tokens)


@dataclass(frozen=True)
class Trace:
    """Arrivals of one service.

    Parameters
    ----------
    arrival_s
        Seconds from the first request of the file, ascending, shape (n,).
    prompt_tokens, output_tokens
        Tokens of prompt and answer, at least 1, shape (n,).
    period_s
        After how many seconds the trace may be repeated: of a whole file n mean gaps.
    names
        Names of adapters; empty: the trace has none.
    name
        Which of the names each request has, -1 is none, shape (n,); None: the trace has none.
    guessed
        Whether the names may be of models that are no adapters, which nobody stated.
    hashes
        Hashes of the prompts' blocks, or None.
    """

    arrival_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    period_s: float
    names: tuple[str, ...] = ()
    name: IntArray | None = None
    guessed: bool = False
    hashes: PrefixHashes | None = None

    def __repr__(self) -> str:
        return f"<Trace: {len(self):,} requests in {self.period_s:,.6g} s>"

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def mean_rate(self) -> float:
        """Requests per second."""
        return len(self) / self.period_s

    @cached_property
    def digest(self) -> str:
        """Digest of the content."""
        digest = hashlib.sha256()
        for array in (self.arrival_s, self.prompt_tokens, self.output_tokens):
            digest.update(array.tobytes())
        if self.name is not None:
            digest.update("\0".join(self.names).encode() + self.name.tobytes())
        if self.hashes is not None:
            digest.update(self.hashes.start.tobytes() + self.hashes.ids.tobytes())
        return digest.hexdigest()[:16]

    @cached_property
    def numbers(self) -> Mapping[str, int]:
        """Number of each name."""
        return {name: k for k, name in enumerate(self.names)}

    def stretched(self, speed: float) -> Trace:
        """The same trace, ``speed`` times as fast."""
        return replace(self, arrival_s=self.arrival_s / speed, period_s=self.period_s / speed)

    def between(self, start_s: float, end_s: float) -> Trace:
        """What came from one second on and before another, with a clock of its own.

        Raises
        ------
        TraceError
            If nothing came then.
        """
        rows = np.flatnonzero((self.arrival_s >= start_s) & (self.arrival_s < end_s))
        if not len(rows):
            raise TraceError(
                f"no request came from second {start_s:g} to {end_s:g}; the trace has {len(self):,} in "
                f"{self.period_s:,.6g} s"
            )
        part = self.taken(rows)
        return replace(part, arrival_s=part.arrival_s - start_s, period_s=end_s - start_s)

    def taken(self, rows: Rows) -> Trace:
        """Some of its requests, ascending, with the clock and the period of all."""
        return replace(
            self,
            arrival_s=self.arrival_s[rows],
            prompt_tokens=self.prompt_tokens[rows],
            output_tokens=self.output_tokens[rows],
            name=None if self.name is None else self.name[rows],
            hashes=None if self.hashes is None else self.hashes.taken(rows),
        )


def lacking(missing: list[str], trace: Trace) -> str:
    """What is wrong where a trace lacks names, with the remedy."""
    if not trace.names:
        return (
            f'the trace names no adapters, and "{missing[0]}" is asked for; say which column does: '
            "columns: {adapter: NAME}"
        )
    return (
        f"the trace has no request for {listed(missing, SHOWN_NAMES)}, but for "
        f"{listed(trace.names, SHOWN_NAMES)}; rename the adapters, say by adapter_name under which of these "
        "their requests are, or set columns: {adapter: false} to deal all by rate"
    )


def deal_by_weight(n: int, weight: FloatArray, rng: np.random.Generator) -> IntArray:
    """Deal n requests to adapters, independently in proportion to their weights; shape (n,)."""
    cumulative = np.cumsum(weight / weight.sum())
    return np.minimum(np.searchsorted(cumulative, rng.random(n), side="right"), len(weight) - 1).astype(
        np.int32
    )


def deal_within(group: IntArray, of_adapter: Rows, rate: FloatArray, rng: np.random.Generator) -> IntArray:
    """Deal requests to the adapters of their groups, in proportion to their rates.

    Parameters
    ----------
    group
        Number of each request's group, shape (n,).
    of_adapter, rate
        Number of each adapter's group, and its rate, shape (n_adapters,).
    """
    order = np.argsort(of_adapter, kind="stable")
    first = np.searchsorted(of_adapter[order], np.arange(of_adapter.max() + 2))
    adapter = order[np.minimum(first[group], len(order) - 1)].astype(np.int32)
    for number in np.flatnonzero(np.diff(first) > 1):
        members, requests = order[first[number] : first[number + 1]], np.flatnonzero(group == number)
        adapter[requests] = members[deal_by_weight(len(requests), rate[members], rng)]
    return adapter


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
    _check_enough(n, n_adapters)
    return deal_to_each(n, rng.dirichlet(np.full(n_adapters, alpha)), rng)


def deal_to_each(n: int, weight: FloatArray, rng: np.random.Generator) -> IntArray:
    """Deal n requests to adapters in proportion to their weights, at least one to each; shape (n,).

    Raises
    ------
    TraceError
        If there are fewer requests than adapters.
    """
    n_adapters = len(weight)
    _check_enough(n, n_adapters)
    adapter = deal_by_weight(n, weight, rng)
    # One request of each adapter is set at a place chosen at random, the rest keep what they drew.
    adapter[rng.permutation(n)[:n_adapters]] = np.arange(n_adapters, dtype=np.int32)
    return adapter


def _check_enough(n: int, n_adapters: int) -> None:
    """Refuse fewer requests than adapters."""
    if n < n_adapters:
        raise TraceError(
            f"{n:,} requests cannot give each of {n_adapters:,} adapters one; use fewer adapters or a "
            "longer trace"
        )


def with_adapters(trace: Trace, adapter: IntArray, n_adapters: int) -> Requests:
    """The trace's requests, each with the adapter that it was dealt to."""
    return Requests(trace.arrival_s, trace.prompt_tokens, trace.output_tokens, adapter, n_adapters)


def child_seed(seed: np.random.SeedSequence | int, child: int) -> np.random.SeedSequence:
    """A seed of its own for a child, without counting up the caller's sequence."""
    parent = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    return np.random.SeedSequence(parent.entropy, spawn_key=(*parent.spawn_key, child))
