"""A running fleet beside its plan: which figures endanger it, and what that suggests.

Over-load endangers a plan and under-load does not: more requests, longer texts, fewer tokens in the KV cache,
longer queues, more preemptions, failures, and requests at the wrong server are *drift*; less of the same is
noted. What a figure may be hangs on how long it was read: arrivals and lengths stray by chance.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from optimizer.checking.drift.drift_report import DriftReport, DriftRow
from optimizer.checking.drift.engine_rows import adapter_rows, failure_rows, memory_rows, queue_rows
from optimizer.checking.drift.planned import (
    TOLERANCE,
    PlannedGPU,
    placement_of,
    planned_gpus,
    rates_by_name,
    tolerated_load,
)
from optimizer.checking.drift.traffic_rows import Chances, name_rows, traffic_rows
from optimizer.checking.readings import MetricsReading
from optimizer.result import Result
from scenarios import Placement, Problem, Scenario, ScenarioError
from scenarios.stopping.progress import Progress, silent
from scenarios.text.formatting import choice

CHANCE = 0.001
"""Probability that a fleet as planned shows drift by chance, over all of its GPUs: in its rates, in its
lengths, and in its queues, each."""

NAMED = 10
"""GPUs that a message names one by one."""


def check_drift(
    result: Result,
    readings: Sequence[MetricsReading],
    *,
    workers: int = 1,
    progress: Progress = silent,
) -> DriftReport:
    """Compare what a fleet's metrics say with the plan of a result.

    Parameters
    ----------
    result
        With a plan.
    readings
        Of some of its GPUs, one of each, and of one gateway in front of all (`read_metrics`).
    workers
        Threads for the twin, which plays every GPU that was read. The report does not depend on it.
    progress
        Called with progress.

    Raises
    ------
    ScenarioError
        If there is no plan, or readings are of GPUs that it has not, or several of one.
    twin.UnknownProfileError, twin.ProfileError
        If an engine profile is not to be had.
    """
    placement, scenario = placement_of(result), result.scenario
    check_gpus(placement, [one.gpu for one in readings])
    by_gpu = {one.gpu: one for one in readings if one.gpu is not None}
    gateway = next((one for one in readings if one.gpu is None), None)
    seconds = {number: one.seconds for number, one in by_gpu.items()}
    # How bursty the names' requests are at a gateway, the twin's runs of all GPUs show.
    played = {gpu.gpu: gateway.seconds for gpu in placement.gpus} if gateway is not None else {}
    planned = planned_gpus(result, {**played, **seconds}, workers=workers, progress=progress)
    chances = Chances(CHANCE / max(len(by_gpu), 1), tolerated_load(scenario))
    homes = _homes(placement, scenario)
    rows = [row for k in sorted(by_gpu) for row in gpu_rows(planned[k], by_gpu[k], chances, homes)]
    if gateway is not None:
        bursts = max(one.foretold.dispersion for one in planned.values())
        rows += name_rows(gateway, rates_by_name(placement.gpus, placement, scenario), bursts, chances)
    return DriftReport(
        rows=tuple(rows),
        seconds=dict(sorted(seconds.items())),
        unread=tuple(sorted(gpu.gpu for gpu in placement.gpus if gpu.gpu not in by_gpu)),
        notes=tuple(_notes(readings)),
        criterion=_criterion(chances.load),
    )


def check_gpus(placement: Placement, given: Sequence[int | None]) -> None:
    """Check for which GPUs readings are given; None is a gateway.

    Raises
    ------
    ScenarioError
        If the plan has not one of them, one is given twice, or there is none.
    """
    numbers = [gpu.gpu for gpu in placement.gpus]
    remedy = f"give {_numbers(numbers)}"
    problems = [] if given else [Problem("metrics", "are of no GPU", remedy)]
    for one in dict.fromkeys(given):
        if one is not None and one not in numbers:
            problems.append(Problem("metrics", f"are of GPU {one}, which the plan has not", remedy))
        elif given.count(one) > 1:
            whose = "a gateway" if one is None else f"GPU {one}"
            problems.append(Problem("metrics", f"of {whose} are given twice", "give one reading of each"))
    if problems:
        raise ScenarioError(problems, "check")


def _numbers(numbers: Sequence[int]) -> str:
    return choice(numbers) if len(numbers) <= NAMED else f"a number from {min(numbers)} to {max(numbers)}"


def _homes(placement: Placement, scenario: Scenario) -> dict[str, list[int]]:
    """The GPUs on which each served name is planned."""
    homes: dict[str, list[int]] = {}
    for gpu in placement.gpus:
        for name in rates_by_name([gpu], placement, scenario):
            homes.setdefault(name, []).append(gpu.gpu)
    return homes


def gpu_rows(
    plan: PlannedGPU, read: MetricsReading, chances: Chances, homes: Mapping[str, Sequence[int]]
) -> Iterator[DriftRow]:
    """The figures of a GPU.

    Parameters
    ----------
    plan, read
        What is planned, and what was read.
    chances
        What chance explains.
    homes
        The GPUs on which each served name is planned.
    """
    traffic = list(traffic_rows(plan, read, chances))
    yield from traffic
    yield from queue_rows(plan, read, chances.of_gpu, busier=any(row.verdict == "drift" for row in traffic))
    yield from memory_rows(plan, read)
    yield from failure_rows(read)
    yield from adapter_rows(plan, read, homes)
    yield from name_rows(read, plan.by_name, plan.foretold.dispersion, chances)


def _notes(readings: Sequence[MetricsReading]) -> Iterator[str]:
    for one in readings:
        where = "the gateway" if one.gpu is None else f"GPU {one.gpu}"
        if one.restarted:
            yield f"{where} was started again meanwhile; what is told of it is of {one.seconds:,.0f} s"
        if one.gpu is not None and one.arrived is None:
            yield f"{where}: {one.origin} counts no requests, so that its rate is not compared"
        if one.gpu is None and not one.by_name:
            yield f"{where}: {one.origin} counts no requests by name"


def _criterion(load: float) -> str:
    return (
        f"as planned: rates up to {load:.4g} times the plan's, lengths and capacities within "
        f"{TOLERANCE:.0%}, and what chance explains (probability {CHANCE:g} over all GPUs); queues and KV "
        "use as the twin shows them at that load; less than planned is noted, and endangers nothing"
    )
