"""Requests that are sent some time after an answer: of conversations, and of users in a closed loop.

When an answer ends is known to the engine alone. What is drawn are the times between, and so many requests
that no chain of them ends before the time drawn, however quick the answers are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from scenarios import Sessions
from twin.engine.requests import FloatArray, IntArray, Requests
from twin.workload.gaps import ExponentialGaps

LengthsOf = Callable[[IntArray], tuple[IntArray, IntArray]]
"""Tokens of the new part of a prompt, and of an answer, for the adapter of each request."""

MOST_TOKENS = 2**30
"""Longest prompt of a conversation; it is far above what any engine takes."""


def draw_closed_loop(
    rate: FloatArray, think_s: float, duration_s: float, rng: np.random.Generator, lengths: LengthsOf
) -> Requests:
    """Requests of users who think after each answer, and think when the time begins.

    If answers took no time, a user's requests were a Poisson process, whose gaps are the times to think.

    Parameters
    ----------
    rate
        Requests per second that the users of each adapter send at most, shape (n,): it has ``rate`` times
        ``think_s`` users, rounded, one at least, who think for users / ``rate`` on average.
    think_s
        Seconds.
    """
    users = np.maximum(np.rint(rate * think_s), 1.0).astype(np.int64)
    adapter_of = np.repeat(np.arange(len(rate), dtype=np.int32), users)
    of_user = (rate / users)[adapter_of]
    user, operational = ExponentialGaps().draw(of_user * duration_s, rng)
    at = operational / of_user[user]
    order = np.lexsort((at, user))
    user, at = user[order], at[order]
    first = np.append(True, user[1:] != user[:-1])[: len(user)]
    adapter = adapter_of[user]
    return _ordered(
        adapter, np.where(first, at, np.diff(at, prepend=0.0)), first, len(rate), *lengths(adapter)
    )


def draw_conversations(
    sessions: Sessions,
    rate: FloatArray,
    starts: tuple[IntArray, FloatArray],
    duration_s: float,
    rng: np.random.Generator,
    lengths: LengthsOf,
) -> Requests:
    """Requests of conversations.

    Those that are under way when the time begins are drawn as if they had started at random, at the mean
    rate, and had been answered at once; the first of their requests finds none of their text in a cache.

    Parameters
    ----------
    rate
        Requests per second of each adapter, shape (n,): 1 / ``turns`` of them are conversations.
    starts
        Adapter and instant of each conversation's first request, both of shape (conversations,).
    """
    turns, think_s = sessions.turns, sessions.think_s
    # As many wait for each of their later requests as send it in a mean time to think (Little's law).
    waiting = rng.poisson(rate * think_s * (turns - 1) / turns)
    adapter = np.repeat(np.arange(len(rate), dtype=np.int32), waiting)
    turn = rng.integers(1, turns, len(adapter))
    at = rng.exponential(think_s, len(adapter)) if think_s > 0 else np.zeros(len(adapter))
    adapter = np.concatenate([starts[0], adapter])
    at = np.concatenate([starts[1], at])
    turn = np.concatenate([np.zeros(len(starts[0]), dtype=np.int64), turn])
    prompt, output = (of.reshape(-1, turns).astype(np.int64) for of in lengths(np.repeat(adapter, turns)))
    said = np.cumsum(prompt + output, axis=1)
    number = np.arange(turns)
    think = rng.exponential(think_s, prompt.shape) if think_s > 0 else np.zeros(prompt.shape)
    think[number <= turn[:, None]] = 0.0
    sent = (number >= turn[:, None]) & (at[:, None] + np.cumsum(think, axis=1) < duration_s)

    conversation, nth = np.nonzero(sent)
    first = nth == turn[conversation]
    arrival = np.where(first, at[conversation], think[sent])
    common = np.where(first, 0, said[conversation, np.maximum(nth - 1, 0)])
    tokens = (np.minimum(of, MOST_TOKENS) for of in ((said - output)[sent], output[sent], common))
    return _ordered(adapter[conversation], arrival, first, len(rate), *tokens)


def _ordered(
    adapter: IntArray,
    arrival_s: FloatArray,
    first: NDArray[np.bool_],
    n_adapters: int,
    prompt: NDArray[np.signedinteger[Any]],
    output: NDArray[np.signedinteger[Any]],
    common: NDArray[np.int64] | None = None,
) -> Requests:
    """The requests of chains, given one chain after the other, as an engine gets them.

    Parameters
    ----------
    arrival_s
        Instant of the first request of a chain, seconds after the answer before of the others.
    first
        Which are the first of a chain.
    common
        Tokens of each prompt that begin the one before too; None: none do.
    """
    starts = np.flatnonzero(first)
    order = np.concatenate([starts[np.argsort(arrival_s[starts], kind="stable")], np.flatnonzero(~first)])
    place = np.empty(len(order), dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)
    follows = np.where(first, np.int32(-1), np.roll(place, 1))[order]
    return Requests(
        arrival_s=arrival_s[order],
        prompt_tokens=prompt[order].astype(np.int32),
        output_tokens=output[order].astype(np.int32),
        adapter=adapter[order],
        n_adapters=n_adapters,
        follows=follows,
        continues=None if common is None else follows,
        common_tokens=None if common is None else common[order].astype(np.int32),
    )
