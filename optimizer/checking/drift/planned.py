"""What a result plans for each GPU: rates, lengths, adapters, and what the twin shows of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from joblib import delayed

from optimizer.checking.drift.foretold import LONGEST_WINDOW_S, Foretold, Spread, foretell
from optimizer.result import Result
from scenarios import (
    AdapterKind,
    ClosedLoopArrivals,
    PlacedGPU,
    Placement,
    Problem,
    RecordedArrivals,
    Scenario,
    ScenarioError,
    as_started,
    described,
)
from scenarios.stopping.progress import Progress, silent
from twin import GPUContent, PlacementJudge, TwinJudge, profiles_of
from twin.engine.requests import FloatArray
from twin.parallel import in_threads

TOLERANCE = 0.05
"""By how much a rate, a length or a capacity may differ, as a share of what is planned, before it counts; of
rates the scenario's headroom, by which its GPUs were judged, where that is more."""

PLAYING = "the twin plays the plan"
"""What is being done, for progress."""


class Range(NamedTuple):
    """Between what a planned figure may be, as rates are between low and high; equal where they are known."""

    low: float
    high: float


@dataclass(frozen=True)
class PlannedGPU:
    """What is planned for a GPU.

    Parameters
    ----------
    gpu
        Engine and adapters.
    rate
        Requests per second.
    prompt, output
        Mean tokens of the requests answered.
    by_name
        Requests per second by served name, adapters and the base model.
    loras
        Served names of its adapters.
    foretold
        What the twin shows at the high rates.
    at_most
        What it shows at the highest rates that are tolerated.
    """

    gpu: PlacedGPU
    rate: Range
    prompt: Range
    output: Range
    by_name: Mapping[str, Range]
    loras: frozenset[str]
    foretold: Foretold
    at_most: Foretold


def placement_of(result: Result) -> Placement:
    """The plan of a result, with served names.

    Raises
    ------
    ScenarioError
        If there is no plan.
    """
    if result.placement is None:
        problem = Problem("placement", "is absent: there is no plan", "find one first: see message")
        raise ScenarioError([problem], "check")
    return described(result.placement, result.scenario)


def tolerated_load(scenario: Scenario) -> float:
    """How many times its rates a GPU may get: those by which it was judged, and `TOLERANCE` at least."""
    return max(scenario.judged_load, 1.0 + TOLERANCE)


def planned_gpus(
    result: Result, seconds: Mapping[int, float], *, workers: int = 1, progress: Progress = silent
) -> dict[int, PlannedGPU]:
    """What is planned for some GPUs, by number.

    Parameters
    ----------
    result
        With a plan.
    seconds
        How long each GPU was read.
    workers
        Threads. The answer does not depend on it.
    progress
        Called with progress.

    Raises
    ------
    ScenarioError
        If there is no plan.
    twin.UnknownProfileError, twin.ProfileError
        If an engine profile is not to be had.
    twin.simulate.MemoryFailure
        If an engine of the plan does not start.
    """
    scenario, placement = result.scenario, as_started(placement_of(result), result.scenario)
    judge = PlacementJudge(TwinJudge(scenario, profiles_of(scenario)))
    gpus = {gpu.gpu: gpu for gpu in placement.gpus if gpu.gpu in seconds}
    contents = {number: judge.content(gpu)[0] for number, gpu in gpus.items()}
    windows = {number: min(seconds[number], LONGEST_WINDOW_S) for number in gpus}
    asked = {number: (contents[number], windows[number]) for number in gpus}
    more = tolerated_load(scenario)
    loaded = {number: (contents[number].scaled(more), windows[number]) for number in gpus}
    jobs = list(dict.fromkeys((*asked.values(), *loaded.values())))
    played = _played(jobs, judge.judge, workers, progress)
    return {
        number: _planned(gpu, placement, scenario, played[asked[number]], played[loaded[number]])
        for number, gpu in gpus.items()
    }


def _played(
    jobs: list[tuple[GPUContent, float]], judge: TwinJudge, workers: int, progress: Progress
) -> dict[tuple[GPUContent, float], Foretold]:
    """What the twin shows of contents and windows; threads suffice, as its loop runs without the lock."""
    progress(PLAYING, 0, len(jobs))
    found = in_threads(
        (
            delayed(foretell)(content, judge.scenario, judge.profiles[content.option.device], window)
            for content, window in jobs
        ),
        workers,
    )
    played = {}
    for done, (job, foretold) in enumerate(zip(jobs, found, strict=True), start=1):
        played[job] = foretold
        progress(PLAYING, done, len(jobs))
    return played


def rates_by_name(gpus: Iterable[PlacedGPU], placement: Placement, scenario: Scenario) -> dict[str, Range]:
    """Requests per second of each served name on some GPUs of a placement together."""
    kinds = {name: one.kind for one in scenario.classes for name in one.names}
    found: dict[str, Range] = {}
    for gpu in gpus:
        for name in gpu.adapters:
            high, served = kinds[name].rate * gpu.share(name), placement.served_name(name)
            before = found.get(served, Range(0.0, 0.0))
            found[served] = Range(before.low + high * kinds[name].low_share, before.high + high)
    return found


def _planned(
    gpu: PlacedGPU, placement: Placement, scenario: Scenario, foretold: Foretold, at_most: Foretold
) -> PlannedGPU:
    kind_of = {name: one.kind for one in scenario.classes for name in one.names}
    kinds = [kind_of[name].scaled(gpu.share(name)) for name in gpu.adapters]
    return PlannedGPU(
        gpu=gpu,
        rate=_rate(kinds, scenario, foretold),
        prompt=_mean_range(kinds, [kind.mean_prompt_tokens for kind in kinds], foretold.prompt),
        output=_mean_range(kinds, [kind.output.mean_tokens for kind in kinds], foretold.output),
        by_name=rates_by_name([gpu], placement, scenario),
        loras=frozenset(
            placement.served_name(name) for name in gpu.adapters if name not in scenario.base_names
        ),
        foretold=foretold,
        at_most=at_most,
    )


def _rate(kinds: list[AdapterKind], scenario: Scenario, foretold: Foretold) -> Range:
    """Requests per second: as the scenario says, or of what it only replays or closes, as the twin shows."""
    high = sum(kind.rate for kind in kinds)
    processes = [kind.arrivals or scenario.workload.arrivals for kind in kinds]
    if any(isinstance(one, RecordedArrivals | ClosedLoopArrivals) for one in processes):
        return Range(foretold.requests_per_s, foretold.requests_per_s)
    return Range(sum(kind.rate * kind.low_share for kind in kinds), high)


def _mean_range(kinds: list[AdapterKind], lengths: list[float], spread: Spread) -> Range:
    """Between what the mean length is, whichever rates are high; at all high ones as the twin shows."""
    high = np.array([kind.rate for kind in kinds])
    low = high * np.array([kind.low_share for kind in kinds])
    order = np.argsort(lengths)
    length = np.array(lengths)[order]
    least, most = (
        end(_means(length, *(rates[order] for rates in pair)))
        for end, pair in ((np.min, (high, low)), (np.max, (low, high)))
    )
    at_high = float((length * high[order]).sum() / high.sum())
    return Range(spread.mean * float(least) / at_high, spread.mean * float(most) / at_high)


def _means(length: FloatArray, before: FloatArray, after: FloatArray) -> FloatArray:
    """Mean lengths where the first k have one rate and the others another one, for each k, shape (n + 1,)."""

    def sums(first: FloatArray, then: FloatArray) -> FloatArray:
        begun, left = np.cumsum(first), then.sum() - np.cumsum(then)
        found: FloatArray = np.concatenate([[then.sum()], begun + left])
        return found

    rate = sums(before, after)
    told = rate > 0
    means: FloatArray = sums(length * before, length * after)[told] / rate[told]
    return means
