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
    """

    arrival_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    adapter: IntArray
    n_adapters: int

    def __repr__(self) -> str:
        return f"<Requests: {len(self):,} of {self.n_adapters:,} adapters>"

    def __len__(self) -> int:
        return len(self.arrival_s)
