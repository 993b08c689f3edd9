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
        record = records[r]
        record.arrival, record.prompt, record.output, record.adapter = (
            arrival[r],
            prompt[r],
            output[r],
            adapter[r],
        )
        record.sent = record.first_scheduled = record.first_token = record.finish = np.nan
        record.paused, record.shift = 0.0, 0
        record.generated = record.computed = record.preemptions = 0
        record.follower = record.earlier = record.due_next = record.due_prev = record.order = 0
        record.place = 0
        record.decoding = False


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
        record = records[r]
        sent[r], first_scheduled[r] = record.sent, record.first_scheduled
        first_token[r], finish[r] = record.first_token, record.finish
        generated[r], preemptions[r] = record.generated, record.preemptions


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
    # Where instants are spread evenly, n buckets hold about one each and insertion moves few of them far, so
    # that time grows with n, not with n log n. Whoever calls sorts bursts in another way.
    n = len(instants)
    scale = n / top
    for r in range(n):
        bucket[r] = min(int(instants[r] * scale), n - 1)  # the latest is at the end of the last bucket
        first[bucket[r] + 1] += 1
    for b in range(n):
        if first[b + 1] > CROWDED:
            return False
        first[b + 1] += first[b]
    for r in range(n):
        order[first[bucket[r]]] = r
        first[bucket[r]] += 1
    # Ties keep their order: buckets are filled in it, and only what is later is moved past.
    for k in range(1, n):
        r, j = order[k], k - 1
        while j >= 0 and instants[order[j]] > instants[r]:
            order[j + 1] = order[j]
            j -= 1
        order[j + 1] = r
    return True
