"""Figures of a run, measured or foretold, all computed in one way."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenarios import Scenario
from twin import GPULoad, Observation, RunRecords, Violation, metrics
from twin.engine.requests import FloatArray
from twin.metrics import Latency, Window
from twin.service_levels import Latencies, Replication, limited_latencies, limited_metrics, verdict_on
from twin.sustained.lateness import late_adapters, late_share
from twin.sustained.pooled import Pooled, longest_awaited_s
from twin.sustained.waits import waits_of

MOST_TAIL = 0.5
"""Share of a run, at its end, in which requests may not count, as they could not be late by then."""


@dataclass(frozen=True)
class RunFigures:
    """What a run shows.

    Parameters
    ----------
    requests, completed
        Requests that came, and that were answered whole.
    due, late
        Requests that count where it is asked who waited longer than the patience, and those that did.
    values
        Figures by name (`FIGURES`); None where there was nothing to measure.
    violations
        What the run misses of the scenario's criterion.
    preemptions
        Requests that lost their place and were computed again, as an engine knows it.
    of_adapters
        Figures of each adapter, by name, shape (n,); nan where there was nothing to measure.
    """

    requests: int
    completed: int
    due: int
    late: int
    values: Mapping[str, float | None]
    violations: tuple[Violation, ...]
    preemptions: int
    of_adapters: Mapping[str, NDArray[np.float64]]


def figures_of(records: RunRecords, frontend_s: float, load: GPULoad, scenario: Scenario) -> RunFigures:
    """Figures of a run.

    Requests count as late that waited longer than their patience, among those that could by the end.
    Latencies are over the requests answered whole.

    Parameters
    ----------
    records
        The run, with a horizon.
    frontend_s
        Seconds that a server in front adds to the time to first token and that the records do not have.
    load
        The adapters.
    scenario
        By what they are held to be served.
    """
    levels = scenario.service_levels
    tail = min(longest_awaited_s(load, levels), MOST_TAIL * records.horizon_s)
    observation = Observation(0.0, records.horizon_s - tail, tail)
    pooled = Pooled(load, levels, [waits_of(records, frontend_s, observation)], None)
    view = metrics.window(records)
    latencies = metrics.latencies_of(view, frontend_s)
    traffic = metrics.traffic(view)
    late = late_share(pooled)
    return RunFigures(
        requests=len(records.requests),
        completed=int(records.finished.sum()),
        due=len(pooled.late),
        late=int(pooled.late.sum()),
        values={
            "throughput_tok_per_s": traffic.served_tok_per_s,
            "served_share": traffic.served_share,
            "late_share": late.share,
            **_in_ms("ttft", latencies["ttft"], ("mean", "p50", "p99")),
            **_in_ms("itl", latencies["itl"], ("mean", "p99")),
            **_in_ms("tpot", latencies["tpot"], ("mean",)),
        },
        violations=tuple(_violations(view, frontend_s, latencies, pooled, scenario)),
        preemptions=int(records.preemptions.sum()),
        of_adapters=_of_adapters(view, frontend_s, pooled),
    )


def _in_ms(metric: str, latency: Latency, statistics: tuple[str, ...]) -> dict[str, float | None]:
    seconds = {name: float(getattr(latency, f"{name}_s")) for name in statistics}
    return {f"{metric}_{name}_ms": None if math.isnan(s) else 1e3 * s for name, s in seconds.items()}


def _violations(
    view: Window, frontend_s: float, latencies: Latencies, pooled: Pooled, scenario: Scenario
) -> Iterator[Violation]:
    """What a run misses: of *sustained* what a run of minutes can tell; no queue's growth."""
    load, levels = pooled.load, scenario.service_levels
    of_groups = [
        metrics.latencies_of(view, frontend_s, limited_metrics(own), adapters)
        for own, adapters in load.groups()
    ]
    if scenario.acceptance == "paper":
        run = Replication(
            traffic=metrics.traffic(view),
            in_flight_share=metrics.in_flight_share(view),
            adapter_shares=metrics.due_shares(view),
            latencies=latencies,
            group_latencies=tuple(of_groups),
            kv_cache_tokens=0,
            cut_requests=0,
        )
        yield from verdict_on(load, [run], levels).violations
        return
    yield from late_share(pooled).violations()
    yield from late_adapters(pooled)
    limited = list(limited_latencies(levels, [latencies]))
    for (own, adapters), measured in zip(load.groups(), of_groups, strict=True):
        limited += limited_latencies(own, [measured], adapters)
    for one in limited:
        yield from one.violations(load)


def _of_adapters(view: Window, frontend_s: float, pooled: Pooled) -> dict[str, FloatArray]:
    found = metrics.adapter_metrics(view, frontend_s)
    seconds, gaps = (getattr(pooled.runs[0], name) for name in ("gap_seconds", "n_gaps"))
    none: FloatArray = np.full(len(gaps), np.nan)
    due = pooled.due_of.astype(np.float64)
    return {
        "requests": found.requests.astype(np.float64),
        "completed": found.completed.astype(np.float64),
        "due": due,
        "late_share": np.divide(pooled.late_of, due, out=none.copy(), where=due > 0),
        "ttft_mean_ms": 1e3 * found.ttft["mean_s"],
        "itl_mean_ms": 1e3 * np.divide(seconds, gaps, out=none.copy(), where=gaps > 0),
    }
