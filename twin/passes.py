"""One compiled pass over the records of all requests, where NumPy takes one for every field.

The records of an hour of traffic are larger than a processor's cache: passing over them again and again
took as long as the loop itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from twin.compiled import cached
from twin.requests import FloatArray, IntArray


@cached
def write_requests(
    records: Any, arrival: FloatArray, prompt: IntArray, output: IntArray, adapter: IntArray
) -> None:
    """Start the records (``twin.state.REQUEST``) of n requests, shape (n,)."""
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
