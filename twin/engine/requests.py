"""The requests that one engine gets, as arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int32]


@dataclass(frozen=True)
class Requests:
    """Requests in arrival order; ties keep the order given.

    Parameters
    ----------
    arrival_s
        Seconds from the start, ascending, shape (n,).
    prompt_tokens, output_tokens
        Tokens of the prompt and of the answer, both at least 1, shape (n,).
    adapter
        Index of each request's adapter, from 0, shape (n,).
    n_adapters
        How many adapters the engine serves, also those that got no request.
    follows
        Request after whose last token each is sent, ``arrival_s`` seconds later, or -1; no request has two
        followers, and all that follow come after those that do not. Shape (n,), absent: none follows.
    continues, common_tokens
        With whose text each prompt begins, and for how many tokens: that of a request (its prompt and
        answer), or as n + k the k-th of m texts that are no request's own; -1 is none. After those of the
        requests stand those of the m texts, which may begin with others too. Requests of different adapters
        have no text in common for a prefix cache. Shapes (n + m,), absent: none.
    cached_tokens
        Tokens of each prompt that are found in the prefix cache whatever was computed, shape (n,); absent: 0.
    """

    arrival_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    adapter: IntArray
    n_adapters: int
    follows: IntArray | None = None
    continues: IntArray | None = None
    common_tokens: IntArray | None = None
    cached_tokens: IntArray | None = None

    def __repr__(self) -> str:
        return f"<Requests: {len(self):,} of {self.n_adapters:,} adapters>"

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def n_independent(self) -> int:
        """How many follow no other; they come first."""
        return len(self) if self.follows is None else int(np.count_nonzero(self.follows < 0))
