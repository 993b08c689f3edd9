"""What is read off replays of whole runs: tokens held by running requests, and first reads of adapters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from twin.engine.records import SERIES
from twin.engine.run import simulate_requests
from twin.measured.predict import observe
from twin.measured.runs import MeasuredRun, run_requests, run_setup
from twin.profile import EngineProfile

SLOWEST_READ_S = 1.0
HALVINGS = 6


def tokens_held(run: MeasuredRun, profile: EngineProfile, seed: int) -> float:
    """Mean KV tokens of a running request of a replay, in whole blocks; nan without any."""
    assert run.kv_cache_tokens is not None
    setup = run_setup(run, profile, run.kv_cache_tokens)
    records = simulate_requests(run_requests(run, profile, seed), setup, run.seconds)
    sums = dict(zip(SERIES, records.series.sum(axis=0), strict=True))
    running = float(sums["running_s"])
    return float(sums["blocks_s"]) * setup.block_size / running if running > 0 else math.nan


def fit_first_read(
    runs: Sequence[MeasuredRun], ttft_s: Sequence[float], profile: EngineProfile, seed: int
) -> float:
    """Seconds for the first read of an adapter from disk, from mean times to first token.

    A measured engine starts with no adapter in memory. With hundreds of adapters, the first minutes go into
    reading them, one after the other, while requests queue up: that is what most of the mean time to first
    token of a run at ease consists of.

    Parameters
    ----------
    runs
        Runs at ease with many adapters.
    ttft_s
        Their measured mean times to first token.
    profile
        Profile with everything else.
    seed
        Seed of the runs' requests.
    """
    low, high = 0.0, SLOWEST_READ_S
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        tried = profile.model_copy(update={"first_read_s": middle})
        excess = [
            math.log(_ttft_s(run, tried, seed) / measured) for run, measured in zip(runs, ttft_s, strict=True)
        ]
        if float(np.median(excess)) > 0:
            high = middle
        else:
            low = middle
    return round((low + high) / 2, 3)


def _ttft_s(run: MeasuredRun, profile: EngineProfile, seed: int) -> float:
    assert run.kv_cache_tokens is not None
    setup = run_setup(run, profile, run.kv_cache_tokens)
    return observe(run_requests(run, profile, seed), setup, profile, run.seconds)[1].ttft_s
