"""What is read off simulations of whole runs: tokens held by running requests, first reads of adapters."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from twin.calibration.loads_and_lengths import crossing
from twin.engine.records import SERIES
from twin.engine.run import simulate_requests
from twin.measured.predict import observe
from twin.measured.replayed import run_requests, run_setup
from twin.measured.runs import MeasuredRun
from twin.profile import EngineProfile

READ_TOLERANCE = 1 / 64
"""Width of the last interval of a first read, as a share of the longest; the runs say no more."""


def tokens_held(run: MeasuredRun, profile: EngineProfile, seed: int) -> float:
    """Mean KV tokens of a running request of a simulated run, in whole blocks; nan without any."""
    setup = run_setup(run, profile)
    records = simulate_requests(run_requests(run, profile, seed), setup, run.horizon_s)
    sums = dict(zip(SERIES, records.series.sum(axis=0), strict=True))
    running = float(sums["running_s"])
    return float(sums["blocks_s"]) * setup.block_size / running if running > 0 else math.nan


def fit_first_read(runs: Sequence[MeasuredRun], profile: EngineProfile, slowest_s: float, seed: int) -> float:
    """Seconds for the first read of an adapter from disk, from mean times to first token.

    A measured engine starts with no adapter in memory. With hundreds of adapters, the first minutes go into
    reading them, one after the other, while requests queue up: that is what most of the mean time to first
    token of a run at ease consists of. Single reads were measured too, but not under such a load.

    Parameters
    ----------
    runs
        Runs at ease with many adapters, with their mean times to first token.
    profile
        Profile with everything else.
    slowest_s
        Longest read that is looked for.
    seed
        Seed of the runs' requests.
    """

    def excess(read_s: float) -> float:
        tried = profile.model_copy(update={"first_read_s": read_s})
        ratios = []
        for run in runs:
            requests, setup = run_requests(run, tried, seed), run_setup(run, tried)
            _, view = observe(requests, setup, run.frontend(tried), run.horizon_s)
            ratios.append(math.log(view.ttft_s / ((run.ttft_mean_ms or math.nan) / 1e3)))
        # The median: a run that tips over would carry any mean.
        return float(np.median(ratios))

    return round(crossing(excess, 0.0, slowest_s, slowest_s * READ_TOLERANCE), 3)
