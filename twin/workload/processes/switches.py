"""Rates that are switched on and off, by exponential periods."""

from __future__ import annotations

import math

import numpy as np

from scenarios import OnOffArrivals
from twin.engine.requests import FloatArray


def on_periods(
    arrivals: OnOffArrivals, n: int, duration_s: float, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """When each of n switches is on.

    Exponential periods forget how long they have lasted, so that a switch that begins on with the probability
    on_s / (on_s + off_s) is stationary.

    Returns
    -------
    tuple of arrays
        Start and end of each period in seconds, cut at the duration, both of shape (n, periods); those after
        the duration are empty.
    """
    begins_off = rng.random(n) * arrivals.cycle_s >= arrivals.on_s
    cycles = duration_s / arrivals.cycle_s
    chunk = math.ceil(cycles + 4 * math.sqrt(cycles)) + 4
    reached = np.zeros(n)
    starts: list[FloatArray] = []
    ends: list[FloatArray] = []
    while reached.min() < duration_s:
        off, on = rng.exponential(arrivals.off_s, (n, chunk)), rng.exponential(arrivals.on_s, (n, chunk))
        if not starts:
            off[:, 0] *= begins_off
        switched = reached[:, None] + np.cumsum(np.stack([off, on], axis=2).reshape(n, -1), axis=1)
        starts.append(switched[:, 0::2])
        ends.append(switched[:, 1::2])
        reached = switched[:, -1]
        chunk = 4
    return tuple(np.minimum(np.concatenate(part, axis=1), duration_s) for part in (starts, ends))  # type: ignore[return-value]
