"""What the twin shows of a GPU in hours of its traffic: means, and how far minutes stray from them by chance.

A fleet is read for minutes only, so what is read strays. How far is no matter of formulas, for arrivals may
come in bursts, and queues have no simple law: the twin plays the GPU's own traffic for hours, and what it
shows in windows of the length that was read is what may be read.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from scenarios import Device, Scenario
from twin import Effort, EngineProfile, GPUContent, SimulationResult, observation_of, simulate
from twin.engine.requests import FloatArray, IntArray

LONGEST_WINDOW_S = 600.0
"""Seconds of a window at most: in one of an hour too few would fit into a run."""

WATCHED_S = 43_200.0
"""Seconds that the twin plays after the engine has settled: 72 windows of the longest."""

MOST_REQUESTS = 1_000_000
"""Requests for which it plays at most, on busy GPUs; never fewer than `LEAST_S` seconds."""

LEAST_S = 7200.0

INSTANT_S = 5.0
"""Seconds between instants at which queues are looked at."""

MANY_READINGS = 10
"""Readings from which on their mean is held against means over windows, not against instants."""


class Spread(NamedTuple):
    """A mean length and how it strays.

    Parameters
    ----------
    mean
        Mean tokens of the requests that are answered.
    variance
        Of one request, so that the mean of n strays by sqrt(variance / n); with bursts of alike requests.
    """

    mean: float
    variance: float


@dataclass(frozen=True)
class Foretold:
    """What the twin shows of a GPU.

    Parameters
    ----------
    window_s
        Seconds of a window.
    requests_per_s, dispersion
        Arrivals, and by what factor their number in a window varies more than a Poisson's; 1 at least.
    prompt, output
        Lengths of the requests answered.
    running, waiting
        Requests at instants `INSTANT_S` apart, or less in short windows, shape (n,).
    kv_use
        Share of the KV cache in use, means between those instants, shape (n,).
    preemptions_per_s, preemption_dispersion
        As of arrivals.
    kv_cache_tokens
        Tokens that the KV cache holds.
    """

    window_s: float
    requests_per_s: float
    dispersion: float
    prompt: Spread
    output: Spread
    running: FloatArray
    waiting: FloatArray
    kv_use: FloatArray
    preemptions_per_s: float
    preemption_dispersion: float
    kv_cache_tokens: int

    def most(self, values: FloatArray, readings: int, rare: float) -> float:
        """What the mean of some readings of a gauge exceeds in so small a part of the time."""
        if readings >= MANY_READINGS:
            values = np.convolve(values, np.full(self._steps, 1 / self._steps), mode="valid")
        return float(np.quantile(values, 1 - rare))

    def most_growth(self, rare: float) -> float:
        """By how many waiting requests a window's end exceeds its start in so small a part of the windows."""
        return float(np.quantile(self.waiting[self._steps :] - self.waiting[: -self._steps], 1 - rare))

    @property
    def _steps(self) -> int:
        """Instants in a window."""
        return _steps_in(self.window_s)


def foretell(content: GPUContent, scenario: Scenario, profile: EngineProfile, seconds: float) -> Foretold:
    """What the twin shows of a GPU, for as long as it takes to see what is rare.

    Parameters
    ----------
    content
        What the GPU serves, at its high rates.
    scenario
        Workload, engine, devices and seed.
    profile
        Of its device.
    seconds
        How long the GPU was read.

    Raises
    ------
    twin.simulate.MemoryFailure
        If the engine does not start.
    """
    load, option = content.load, content.option
    window = min(seconds, LONGEST_WINDOW_S)
    step = window / _steps_in(window)
    rate = float(load.rate.sum())
    watched = max(min(WATCHED_S, MOST_REQUESTS / rate), LEAST_S)
    effort = Effort(measure_s=watched, requests=0, wander_s=watched)
    observation = observation_of(load.processes(scenario.workload.arrivals), rate, 0.0, effort)
    settle, bins = np.ceil(observation.settle_s / step), np.ceil(observation.end_s / step)
    device = next(one for one in scenario.devices if one.name == option.device)
    result = simulate(
        load,
        scenario.workload.model_copy(update={"warmup_s": 0.0}),
        scenario.engine,
        profile,
        max_loras=option.max_loras,
        max_lora_rank=option.max_lora_rank,
        max_cpu_loras=_cpu_loras(content, scenario),
        seed=scenario.seed,
        gpu_memory_gib=_memory_gib(device),
        duration_s=float(bins * step),
        sustained=True,
        series_bins=int(bins),
    )
    return _seen(result, window, step, int(settle))


def _cpu_loras(content: GPUContent, scenario: Scenario) -> int:
    if content.max_cpu_loras is not None:
        return content.max_cpu_loras
    return scenario.engine.cpu_loras(content.load.n_adapters, content.option.max_loras)


def _memory_gib(device: Device) -> float | None:
    return device.memory_gib


def _steps_in(window_s: float) -> int:
    return max(1, round(window_s / INSTANT_S))


def _seen(result: SimulationResult, window: float, step: float, settle: int) -> Foretold:
    """Figures of a run from the settled step on."""
    records, steps = result.records, _steps_in(window)
    series = result.time_series().iloc[settle:]
    instants = series["start_s"].to_numpy(dtype=np.float64)
    begin, windows = float(instants[0]), len(instants) // steps
    edges: FloatArray = begin + window * np.arange(windows + 1, dtype=np.float64)

    def at(times: FloatArray) -> FloatArray:
        """How many of some events were by each instant."""
        return np.searchsorted(np.sort(times[~np.isnan(times)]), instants, side="right").astype(np.float64)

    sent, scheduled, finished = (
        at(times) for times in (records.sent_s, records.first_scheduled_s, records.finish_s)
    )
    arrivals = _per_window(records.sent_s, edges)
    preempted = series["preemptions"].to_numpy(dtype=np.float64)[: windows * steps] * step
    prompt, output = (
        _spread(tokens, records.finish_s, edges)
        for tokens in (records.requests.prompt_tokens, records.requests.output_tokens)
    )
    return Foretold(
        window_s=window,
        requests_per_s=float(arrivals.mean() / window),
        dispersion=_dispersion(arrivals),
        prompt=prompt,
        output=output,
        running=scheduled - finished,
        waiting=sent - scheduled,
        kv_use=series["kv_use"].to_numpy(dtype=np.float64),
        preemptions_per_s=float(preempted.mean() / step),
        preemption_dispersion=_dispersion(preempted.reshape(windows, steps).sum(axis=1)),
        kv_cache_tokens=result.kv_cache_tokens,
    )


def _per_window(times: FloatArray, edges: FloatArray, weights: FloatArray | None = None) -> FloatArray:
    """Sum of some weights, or number, of the events in each window."""
    told = ~np.isnan(times)
    chosen = None if weights is None else weights[told]
    return np.histogram(times[told], edges, weights=chosen)[0].astype(np.float64)


def _dispersion(counts: FloatArray) -> float:
    """Variance over mean of counts; 1 where that is less, or nothing happened."""
    mean = float(counts.mean())
    return max(1.0, float(counts.var(ddof=1)) / mean) if mean > 0 and len(counts) > 1 else 1.0


def _spread(tokens: IntArray, finish_s: FloatArray, edges: FloatArray) -> Spread:
    """Mean length, and how means of windows stray: a ratio's variance by its residuals (Cochran 1977)."""
    count = _per_window(finish_s, edges)
    total = _per_window(finish_s, edges, tokens.astype(np.float64))
    if not count.sum():
        return Spread(np.nan, np.nan)
    mean = float(total.sum() / count.sum())
    residuals = total - mean * count
    return Spread(mean, float((residuals**2).sum() / count.sum()))
