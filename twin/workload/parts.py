"""Requests of several adapters put together, with the text that they have in common."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scenarios import PromptReuse
from twin.engine.compiled.bulk_copy import order_instants
from twin.engine.requests import FloatArray, IntArray, Requests
from twin.load import GPULoad


@dataclass(frozen=True)
class Part:
    """Requests of some adapters, numbered among themselves.

    Parameters
    ----------
    requests
        Those that follow none first, by arrival.
    adapters
        Which adapters of the GPU they are of, shape (requests.n_adapters,).
    """

    requests: Requests
    adapters: IntArray


def merged(parts: Sequence[Part], n_adapters: int) -> Requests:
    """The requests of all parts: by arrival those that follow none, then those that follow one."""
    if len(parts) == 1 and len(parts[0].adapters) == n_adapters:
        return parts[0].requests
    requests = [part.requests for part in parts]
    arrival = np.concatenate([one.arrival_s for one in requests])
    alone = np.concatenate([_or(one.follows, one, -1) for one in requests]) < 0
    order = np.flatnonzero(alone)
    order = np.concatenate([order[order_of(arrival[order])], np.flatnonzero(~alone)])
    place = np.empty(len(order), dtype=np.int32)
    place[order] = np.arange(len(order), dtype=np.int32)

    def joined(values: Iterable[IntArray]) -> IntArray:
        return np.concatenate(list(values))[order]

    def with_texts(values: Sequence[IntArray]) -> IntArray:
        """Those of all requests, then those of texts that are no request's own."""
        own = joined(of[: len(one)] for one, of in zip(requests, values, strict=True))
        return np.concatenate([own, *(of[len(one) :] for one, of in zip(requests, values, strict=True))])

    made = Requests(
        arrival_s=arrival[order],
        prompt_tokens=joined(one.prompt_tokens for one in requests),
        output_tokens=joined(one.output_tokens for one in requests),
        adapter=joined(part.adapters[part.requests.adapter] for part in parts),
        n_adapters=n_adapters,
    )
    requests = _renumbered(requests, place)
    if not alone.all():
        made = replace(made, follows=joined(_or(one.follows, one, -1) for one in requests))
    if any(one.continues is not None for one in requests):
        made = replace(
            made,
            continues=with_texts([_or(one.continues, one, -1) for one in requests]),
            common_tokens=with_texts([_or(one.common_tokens, one, 0) for one in requests]),
        )
    return made


def with_common_text(requests: Requests, load: GPULoad) -> Requests:
    """Requests whose prompts begin with the system prompt of their adapter, and are cached in part.

    A prompt that begins with the text of another request begins with the same system prompt.
    """
    if not any(load.reuse):
        return requests
    n, adapter = len(requests), requests.adapter
    reuse = [one or PromptReuse() for one in load.reuse]
    system = np.array([one.system_prompt for one in reuse], dtype=np.int32)[adapter]
    share = np.array([one.cached_share for one in reuse])[adapter]
    prompt = requests.prompt_tokens + system
    if system.any():
        continues, common = _or(requests.continues, requests, -1), _or(requests.common_tokens, requests, 0)
        # One text for each adapter, after all others: what its prompts begin with that continue no text.
        alone = np.where(system > 0, len(continues) + adapter, -1)
        own = np.where(continues[:n] >= 0, continues[:n], alone)
        texts = np.zeros(len(load.names), dtype=np.int32)
        requests = replace(
            requests,
            continues=np.concatenate([own.astype(np.int32), continues[n:], texts - 1]),
            common_tokens=np.concatenate([common[:n] + system, common[n:], texts]),
        )
    cached = np.floor(share * prompt).astype(np.int32) if share.any() else requests.cached_tokens
    return replace(requests, prompt_tokens=prompt, cached_tokens=cached)


def order_of(instants: FloatArray) -> NDArray[np.int64]:
    """Stable order of instants."""
    # Buckets save the logarithm of a sort where arrivals are spread evenly; bursts are left to NumPy.
    n, top = len(instants), float(instants.max(initial=0.0))
    order, bucket = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int32)
    if top > 0 and order_instants(instants, top, bucket, np.zeros(n + 1, dtype=np.int32), order):
        return order
    return np.argsort(instants, kind="stable")


def _or(values: IntArray | None, requests: Requests, otherwise: int) -> IntArray:
    """Values, or the same one for all requests where they are absent."""
    return np.full(len(requests), otherwise, dtype=np.int32) if values is None else values


def _renumbered(requests: Sequence[Requests], place: IntArray) -> list[Requests]:
    """The requests of each part, but that those and the texts that they name are numbered as in all."""
    found, start, texts = [], 0, len(place)
    for one in requests:
        n, m = len(one), 0 if one.continues is None else len(one.continues) - len(one)
        # What is -1 takes the last of these.
        number = np.concatenate([place[start : start + n], np.arange(texts, texts + m), [-1]]).astype(
            np.int32
        )
        found.append(
            replace(
                one,
                follows=None if one.follows is None else number[one.follows],
                continues=None if one.continues is None else number[one.continues],
            )
        )
        start, texts = start + n, texts + m
    return found
