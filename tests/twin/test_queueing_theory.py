"""The engine as a textbook queue: M/M/1, M/D/1 and processor sharing.

A step with one request at a time, each token a step of fixed length, is a single server; steps as long as
the batch is large make every request progress at the same share of one server.
"""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from tests.slow import slow
from twin import EngineSetup, Requests, SchedulerRules, StepTables
from twin.engine.run import simulate_requests

TICK_S = 0.001
MEAN_TOKENS = 150
RUNS, BUSY_RUNS, REQUESTS = 12, 24, 20_000


def queue(batch: int, *, shared: bool) -> EngineSetup:
    tokens = np.arange(max(batch, 2) + 1.0)
    return EngineSetup(
        max_loras=1,
        max_cpu_loras=1,
        max_num_seqs=batch,
        max_num_batched_tokens=max(batch, 2),
        long_prefill_token_threshold=0,
        block_size=16,
        usable_blocks=100_000_000,
        rules=SchedulerRules(),
        tables=StepTables(TICK_S * (tokens if shared else np.ones_like(tokens)), np.zeros(2), np.zeros(2)),
        gpu_load_s=np.zeros(1),
        disk_load_s=np.zeros(1),
    )


def poisson(rng: np.random.Generator, load: float, *, fixed: bool) -> Requests:
    """Poisson arrivals that keep a server busy for a share ``load`` of the time."""
    size = np.full(REQUESTS, MEAN_TOKENS) if fixed else rng.geometric(1 / MEAN_TOKENS, REQUESTS)
    return Requests(
        arrival_s=rng.exponential(MEAN_TOKENS * TICK_S / load, REQUESTS).cumsum(),
        prompt_tokens=np.ones(REQUESTS, dtype=np.int32),
        output_tokens=size.astype(np.int32),
        adapter=np.zeros(REQUESTS, dtype=np.int32),
        n_adapters=1,
    )


def mean_times(setup: EngineSetup, load: float, *, fixed: bool, sojourn: bool) -> np.ndarray:
    """Mean wait or sojourn of each run in units of the mean service; the first tenth is warm-up."""
    means = []
    for seed in np.random.SeedSequence(7).spawn(RUNS if load < 0.7 else BUSY_RUNS):  # these scatter more
        requests = poisson(np.random.default_rng(seed), load, fixed=fixed)
        records = simulate_requests(requests, setup)
        times = (records.finish_s if sojourn else records.first_scheduled_s) - requests.arrival_s
        means.append(times[REQUESTS // 10 :].mean() / (MEAN_TOKENS * TICK_S))
    return np.array(means)


def assert_within_interval(values: np.ndarray, expected: float) -> None:
    """The theory lies in the 99.9 % confidence interval, give or take half a percent for ticks."""
    half = stats.t.ppf(0.9995, len(values) - 1) * stats.sem(values)
    assert abs(values.mean() - expected) <= half + 0.005 * expected
    assert half < 0.1 * expected


@pytest.mark.parametrize("load", [0.6, *slow([0.3, 0.8])])
def test_mm1_wait(load: float) -> None:
    waits = mean_times(queue(1, shared=False), load, fixed=False, sojourn=False)
    assert_within_interval(waits, load / (1 - load))


@pytest.mark.parametrize("load", [0.6, *slow([0.3, 0.8])])
def test_md1_wait(load: float) -> None:
    waits = mean_times(queue(1, shared=False), load, fixed=True, sojourn=False)
    assert_within_interval(waits, load / (2 * (1 - load)))


@pytest.mark.parametrize("load", [0.3, *slow([0.6])])
@pytest.mark.parametrize("fixed", [False, True], ids=["exponential", "deterministic"])
def test_processor_sharing_depends_on_the_mean_only(load: float, fixed: bool) -> None:
    sojourns = mean_times(queue(4096, shared=True), load, fixed=fixed, sojourn=True)
    assert_within_interval(sojourns, 1 / (1 - load))


def test_processor_sharing_is_fair_to_every_size() -> None:
    """The mean sojourn of a request is proportional to its size, whatever its size."""
    slowdowns = []
    for seed in np.random.SeedSequence(11).spawn(RUNS):
        requests = poisson(np.random.default_rng(seed), 0.5, fixed=False)
        records = simulate_requests(requests, queue(4096, shared=True))
        slowdown = (records.finish_s - requests.arrival_s) / (requests.output_tokens * TICK_S)
        long, short = requests.output_tokens > MEAN_TOKENS, requests.output_tokens < MEAN_TOKENS // 2
        slowdowns.append([slowdown[long].mean(), slowdown[short].mean()])
    for column in np.array(slowdowns).T:
        assert column.mean() == pytest.approx(2.0, rel=0.03)
