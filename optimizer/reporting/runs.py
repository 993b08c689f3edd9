"""The GPUs of a plan simulated again, as they were judged: over time, over requests, and by adapter.

Each is the first of the runs behind its verdict, with the same requests (`TwinJudge.run`). A verdict is over
all of its runs, so figures of one run differ a little from it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed
from numpy.typing import NDArray

from optimizer.reporting.contents import GPURun
from optimizer.reporting.numbers import known_row, rounded, row
from optimizer.reporting.params import ReportParams
from scenarios import Deadline, PlacedGPU, Scenario
from scenarios.text.formatting import counted
from twin import (
    Corner,
    EngineInputError,
    GPUContent,
    GPUVerdict,
    MemoryFailure,
    PlacementJudge,
    SimulationResult,
    TwinJudge,
)
from twin.engine.records import SERIES, gap_edges_s

FloatArray = NDArray[np.float64]

LEVELS: tuple[float, ...] = (
    0.0, 0.01, 0.02, *(round(0.05 * k, 2) for k in range(1, 19)),
    *(round(0.9 + 0.01 * k, 2) for k in range(1, 10)), 0.995, 0.998, 0.999, 1.0,
)  # fmt: skip
"""Levels of the quantiles of latencies."""

SIMULATING = "simulating the plan again"
"""What is being done, for progress."""


@dataclass(frozen=True)
class AdapterFigures:
    """What a run says of each adapter of a GPU, in the order of the GPU's content; None: nothing measured."""

    served_share: tuple[float | None, ...]
    ttft_p50_ms: tuple[float | None, ...]
    ttft_p99_ms: tuple[float | None, ...]
    itl_ms: tuple[float | None, ...]
    loads: tuple[int, ...]


@dataclass(frozen=True)
class GPUFigures:
    """One GPU simulated again.

    Parameters
    ----------
    run
        Over time, and its latencies.
    adapters
        By adapter.
    kv_use_mean, kv_use_peak
        Share of the KV blocks in use: after the warm-up, and the largest mean over a part of the run.
    """

    run: GPURun
    adapters: AdapterFigures
    kv_use_mean: float
    kv_use_peak: float


@dataclass(frozen=True)
class PlacedContent:
    """A GPU of a plan, and what it is given.

    Parameters
    ----------
    gpu
        The GPU.
    content
        What it is given, at the worst corner of rates that are not known.
    names
        Names of the adapters, in the order of the content.
    like
        Number of the first GPU with an equal content.
    """

    gpu: PlacedGPU
    content: GPUContent
    names: tuple[str, ...]
    like: int


@dataclass(frozen=True)
class Runs:
    """The GPUs of a plan simulated again.

    Parameters
    ----------
    placed
        The GPUs by number.
    figures
        By number of a first GPU; absent of one that does not start, or was left out.
    shown
        Numbers of the first GPUs that are shown over time.
    left_out
        What is left out, in a sentence; empty where nothing is.
    """

    placed: Mapping[int, PlacedContent]
    figures: Mapping[int, GPUFigures]
    shown: tuple[int, ...]
    left_out: str

    def of(self, gpu: int) -> GPUFigures | None:
        """The figures of a GPU, of its own run or of an equal one's."""
        return self.figures.get(self.placed[gpu].like)


def simulate_again(
    judge: TwinJudge,
    gpus: Sequence[PlacedGPU],
    verdicts: Mapping[int, GPUVerdict],
    fills: Mapping[int, float],
    params: ReportParams,
    deadline: Deadline,
) -> Runs:
    """Simulate each distinct GPU of a plan once; which and what does not depend on the judge's workers.

    Parameters
    ----------
    judge
        The twin, with the scenario of the plan.
    gpus
        GPUs of the plan.
    verdicts
        By number, those that there are.
    fills
        How full a GPU is, by number, for the choice of those that are shown.
    params
        How many are simulated and shown.
    deadline
        When to stop; what is not simulated by then is left out.
    """
    placed = place_contents(judge, gpus, verdicts)
    first = [one for one in placed.values() if one.like == one.gpu.gpu]
    fullest = sorted(first, key=lambda one: (-fills.get(one.like, 0.0), -one.content.demand_tok_per_s))
    chosen = fullest[: params.figures]
    judge.progress(SIMULATING, 0, len(chosen))
    jobs = Parallel(n_jobs=min(judge.workers, len(chosen)) or 1, prefer="threads", return_as="generator")(
        delayed(_figures)(judge, one, deadline) for one in chosen
    )
    figures, stopped = {}, 0
    for done, (one, found) in enumerate(zip(chosen, jobs, strict=True), start=1):
        stopped += deadline.reached and found is None
        if found is not None:
            figures[one.like] = found
        judge.progress(SIMULATING, done, len(chosen))
    shown = [one.like for one in chosen if one.like in figures][: params.runs]
    return Runs(placed, figures, tuple(sorted(shown)), _left_out(len(first), chosen, figures, shown, stopped))


def place_contents(
    judge: TwinJudge, gpus: Sequence[PlacedGPU], verdicts: Mapping[int, GPUVerdict]
) -> dict[int, PlacedContent]:
    """What each GPU of a plan is given, by its number, in the order of the numbers."""
    asked, first, placed = PlacementJudge(judge), dict[object, int](), dict[int, PlacedContent]()
    for gpu in sorted(gpus, key=lambda one: one.gpu):
        content, names = asked.content(gpu)
        verdict = verdicts.get(gpu.gpu)
        corner = None if verdict is None else verdict.corner
        at = at_corner(content, corner, judge.scenario)
        like = first.setdefault((content, at), gpu.gpu)
        placed[gpu.gpu] = PlacedContent(gpu, at, tuple(names.values()), like)
    return placed


def at_corner(content: GPUContent, corner: Corner | None, scenario: Scenario) -> GPUContent:
    """The content with all rates known, as they are in a corner; the high ones where none is told."""
    if not content.uncertain:
        return content
    if corner is None or corner.kind == "high":
        return content.at_high
    key = (corner.kind, corner.number)
    others = content.other_corners(scenario.seed)
    return next(known for one, known in others if (one.kind, one.number) == key)


def _left_out(
    distinct: int,
    chosen: Sequence[PlacedContent],
    figures: Mapping[int, GPUFigures],
    shown: Sequence[int],
    stopped: int,
) -> str:
    """What is not shown, in a sentence."""
    parts = []
    if distinct > len(chosen):
        parts.append(f"adapters of {counted(distinct - len(chosen), 'GPU')} have no figures of their own")
    if stopped:
        parts.append(f"{counted(stopped, 'GPU')} could not be simulated in the time")
    if len(figures) > len(shown):
        rest = f"{counted(len(shown), 'GPU')} of {len(figures):,} that differ"
        parts.append(f"shown over time are the fullest, {rest}")
    return "; ".join(parts)


def _figures(judge: TwinJudge, one: PlacedContent, deadline: Deadline) -> GPUFigures | None:
    """One GPU simulated again; None where its engine does not start, or the time is over."""
    if deadline.reached:
        return None
    try:
        result = judge.run(one.content)
    except (MemoryFailure, EngineInputError):
        return None
    scenario = judge.scenario
    use = _series(result)["blocks_s"] / result.usable_blocks
    return GPUFigures(
        run=_over_time(result, one.like, scenario),
        adapters=_by_adapter(result),
        kv_use_mean=rounded(result.gpu.kv_use),
        kv_use_peak=rounded(float(use.max())),
    )


def _series(result: SimulationResult) -> dict[str, FloatArray]:
    """The time series per second of each part, by name."""
    records = result.records
    return {name: records.series[:, k] / _width_s(result) for k, name in enumerate(SERIES)}


def _width_s(result: SimulationResult) -> float:
    records = result.records
    finite = np.isfinite(records.series_width_s)
    return float(records.series_width_s) if finite else max(records.end_s, 1e-12)


def _over_time(result: SimulationResult, gpu: int, scenario: Scenario) -> GPURun:
    width, series, parts = _width_s(result), _series(result), len(result.records.series)
    requests, tokens = result.records.requests, result.window.tokens

    def per_second(instants: FloatArray) -> tuple[float, ...]:
        """Tokens of the requests by the part in which something happened to them."""
        here = np.isfinite(instants)
        at = np.minimum((instants[here] / width).astype(np.int64), parts - 1)
        return row(np.bincount(at, tokens[here].astype(np.float64), parts) / width)

    return GPURun(
        gpu=gpu,
        seed=scenario.seed,
        load_factor=scenario.judged_load,
        start_s=row(np.arange(parts) * width),
        width_s=rounded(width),
        running=row(series["running_s"]),
        waiting=row(series["waiting_s"]),
        kv_use=row(series["blocks_s"] / result.usable_blocks),
        slots_used=row(series["adapters_s"]),
        loads_per_min=row(60.0 * series["gpu_loads"]),
        offered_tok_per_s=per_second(requests.arrival_s),
        served_tok_per_s=per_second(result.records.finish_s),
        quantiles=LEVELS,
        **_latencies(result),
    )


def _latencies(result: SimulationResult) -> dict[str, tuple[float, ...]]:
    """Quantiles in ms of what completed after the warm-up; empty where nothing did."""
    records, ended = result.records, result.window.completed
    sent, first, finish = (a[ended] for a in (records.sent_s, records.first_token_s, records.finish_s))

    def quantiles(seconds: FloatArray) -> tuple[float, ...]:
        return row(1e3 * np.quantile(seconds, LEVELS)) if len(seconds) else ()

    return {
        "ttft_ms": quantiles(first - sent + result.frontend_s),
        "itl_ms": _gap_quantiles(records.gaps),
        "e2e_ms": quantiles(finish - sent + result.frontend_s),
    }


def _gap_quantiles(counts: NDArray[np.int64]) -> tuple[float, ...]:
    """Quantiles in ms of the gaps between tokens, each in the middle of its part of a histogram."""
    if not counts.any():
        return ()
    edges, below = gap_edges_s(), np.cumsum(counts)
    at = np.searchsorted(below, np.maximum(np.array(LEVELS) * below[-1], 1.0))
    return row(1e3 * np.sqrt(edges[:-1] * edges[1:])[at])


def _by_adapter(result: SimulationResult) -> AdapterFigures:
    m = result.adapters
    return AdapterFigures(
        served_share=known_row(np.where(m.requests > 0, m.served_share, np.nan)),
        ttft_p50_ms=known_row(1e3 * m.ttft["p50_s"]),
        ttft_p99_ms=known_row(1e3 * m.ttft["p99_s"]),
        itl_ms=known_row(1e3 * m.tpot["mean_s"]),
        loads=tuple(int(n) for n in m.gpu_loads),
    )
