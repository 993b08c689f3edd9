"""Compiled passes over all requests: over their records, where NumPy takes one per field, and to sort them.

The records of an hour of traffic are larger than a processor's cache: passing over them again and again
took as long as the loop itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin.engine.compilation import cached
from twin.engine.requests import FloatArray, IntArray


@cached
def write_requests(
    records: Any, arrival: FloatArray, prompt: IntArray, output: IntArray, adapter: IntArray
) -> None:
    """Start the records (``twin.engine.state.REQUEST``) of n requests, shape (n,)."""
    for r in range(len(records)):
        q = records[r]
        q.arrival, q.prompt, q.output, q.adapter = arrival[r], prompt[r], output[r], adapter[r]
        q.sent = q.first_scheduled = q.first_token = q.finish = np.nan
        q.paused, q.shift = 0.0, 0
        q.generated = q.computed = q.preemptions = 0
        q.follower = q.earlier = q.due_next = q.due_prev = q.order = 0
        q.place = r
        q.decoding = False


@cached
def read_requests(
    records: Any,
    sent: FloatArray,
    first_scheduled: FloatArray,
    first_token: FloatArray,
    finish: FloatArray,
    generated: IntArray,
    preemptions: IntArray,
) -> None:
    """Write what the records hold of n requests into arrays of shape (n,)."""
    for r in range(len(records)):
        q = records[r]
        sent[r], first_scheduled[r] = q.sent, q.first_scheduled
        first_token[r], finish[r] = q.first_token, q.finish
        generated[r], preemptions[r] = q.generated, q.preemptions


CROWDED = 64
"""Instants in a bucket beyond which they are not sorted by insertion."""


@cached
def order_instants(
    instants: FloatArray, top: float, bucket: IntArray, first: IntArray, order: NDArray[np.int64]
) -> bool:
    """Write the stable order of n instants from 0 to ``top``; False where they are crowded.

    A counting sort into n buckets, then insertion; instants of steady arrivals lie a few to a bucket.

    Parameters
    ----------
    instants
        Shape (n,).
    top
        The latest.
    bucket, first
        Space to work in, shapes (n,) and (n + 1,); ``first`` is 0.
    order
        Filled, shape (n,).
    """
    n = len(instants)
    scale = n / top
    for r in range(n):
        bucket[r] = min(int(instants[r] * scale), n - 1)
        first[bucket[r] + 1] += 1
    for b in range(n):
        if first[b + 1] > CROWDED:
            return False
        first[b + 1] += first[b]
    for r in range(n):
        order[first[bucket[r]]] = r
        first[bucket[r]] += 1
    for k in range(1, n):
        r, j = order[k], k - 1
        while j >= 0 and instants[order[j]] > instants[r]:
            order[j + 1] = order[j]
            j -= 1
        order[j + 1] = r
    return True
