"""Texts of requests as the prefix cache of an engine numbers them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from twin.engine.requests import IntArray, Requests

TEXT = np.dtype([("continues", "i4"), ("shared", "i4"), ("start", "i8")], align=True)
"""Of a text: with which other it begins, for how many blocks, and the number of its block 0 if it had none of
them in common."""


def number_texts(requests: Requests, block_size: int) -> tuple[NDArray[np.void], int]:
    """Records (``TEXT``) of all texts, those of the requests first, and how many numbers there are."""
    n = len(requests)
    continues, common = _beginnings(requests)
    length = np.zeros(len(continues), dtype=np.int64)
    length[:n] = requests.prompt_tokens.astype(np.int64) + requests.output_tokens
    # A text that is no request's own is as long as what begins with it.
    begun = np.flatnonzero(continues >= n)
    np.maximum.at(length, continues[begun], common[begun])
    within = np.minimum(common, length)
    of_other = continues >= 0
    within[of_other] = np.minimum(within, length[continues])[of_other]
    texts = np.zeros(len(continues), dtype=TEXT)
    texts["continues"], texts["shared"] = continues, within // block_size
    own = np.maximum(length // block_size - texts["shared"], 0)
    ends = np.cumsum(own)
    texts["start"] = ends - own - texts["shared"]
    return texts, int(ends[-1]) if len(ends) else 0


def _beginnings(requests: Requests) -> tuple[IntArray, NDArray[np.int64]]:
    """With which text each begins and for how many tokens; a prompt that was cut for no more than it has."""
    n = len(requests)
    if requests.continues is None or requests.common_tokens is None:
        return np.full(n, -1, dtype=np.int32), np.zeros(n, dtype=np.int64)
    common = np.where(requests.continues >= 0, requests.common_tokens, 0).astype(np.int64)
    common[:n] = np.minimum(common[:n], requests.prompt_tokens)
    return requests.continues, common
