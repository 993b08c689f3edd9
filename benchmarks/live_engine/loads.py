"""What real servers are sent: streams and batches of requests, drawn by a seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from live_engine.tiny_engine import TinyEngine
from twin import Requests

PROMPT, OUTPUT = 48, 24
"""Mean tokens of the streams' prompts and answers."""


@dataclass(frozen=True)
class Case:
    """A run that is foretold and made.

    Parameters
    ----------
    name
        What it is.
    engine
        The engine that it needs.
    requests
        What is sent.
    seconds
        When it is cut; infinite: after the last answer.
    """

    name: str
    engine: TinyEngine
    requests: Requests
    seconds: float


def stream(engine: TinyEngine, rate: float, seconds: float, seed: int, skew: float = 0.0) -> Requests:
    """A Poisson stream of all adapters, alike or by Zipf's law, with geometric lengths."""
    rng = np.random.default_rng([seed, round(1000 * rate)])
    n, count = len(engine.model.ranks), max(rng.poisson(rate * seconds), 1)
    weights = np.arange(1, n + 1) ** -skew
    return Requests(
        arrival_s=np.sort(rng.random(count)) * seconds,
        prompt_tokens=np.minimum(rng.geometric(1 / PROMPT, count), 4 * PROMPT).astype(np.int32),
        output_tokens=np.minimum(rng.geometric(1 / OUTPUT, count), 4 * OUTPUT).astype(np.int32),
        adapter=rng.choice(n, size=count, p=weights / weights.sum()).astype(np.int32),
        n_adapters=n + 1,
    )


def batch(engine: TinyEngine, size: int, rounds: int, distinct: int) -> Requests:
    """So many requests at a time and no more, of a few adapters."""
    n = size * rounds
    follows = np.arange(n, dtype=np.int32) - size
    follows[:size] = -1
    return Requests(
        arrival_s=np.zeros(n),
        prompt_tokens=np.full(n, PROMPT, dtype=np.int32),
        output_tokens=np.full(n, 2 * OUTPUT, dtype=np.int32),
        adapter=(np.arange(n) % size % distinct).astype(np.int32),
        n_adapters=len(engine.model.ranks) + 1,
        follows=follows,
    )


def with_common_prefix(requests: Requests, tokens: int) -> Requests:
    """The same requests behind a text that all requests of an adapter begin with."""
    n, m = len(requests), requests.n_adapters
    continues = np.concatenate([n + requests.adapter, np.full(m, -1)]).astype(np.int32)
    common = np.concatenate([np.full(n, tokens), np.zeros(m)]).astype(np.int32)
    prompts = (requests.prompt_tokens + tokens).astype(np.int32)
    return replace(requests, prompt_tokens=prompts, continues=continues, common_tokens=common)
