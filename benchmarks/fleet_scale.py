"""Fleets of up to 1,000,000 adapters in 5,000 classes: plan, bound, seconds and memory, stage by stage.

    python -m benchmarks.fleet_scale [--adapters N ...] [--classes N] [--rates mixed|high ...]
                                     [--limit SECONDS] [--solve] [--acceptance NAME]

The fleets are those of `packing_scale`: ranks 8, 16 and 32, rates log-uniform over the paper's mixed or high
range, as many adapters of each class. Each is worked on in a process of its own, so that "GiB" is the most
memory it had up to there. "wall" and "cpu" are seconds of the stage alone, on two workers:

- read: the scenario from values, all checks; classes: who is alike, with all names;
- prepared: the packing problem, on the inner rows; packed: `exact` on it within the limit, the model's plan;
- judged: some of its GPUs, how many differ, and what judging all of these would take of a processor;
- with --solve, in place of these three, the whole search: classes beyond 400 go in groups, and the twin
  judges every GPU; "written" is its result, as JSON.

Takes a quarter of an hour for each fleet of a million (the limit, and some minutes), 10 GiB of memory at
high rates; --adapters 10000 --classes 500 --limit 20 takes a minute.
"""

from __future__ import annotations

import argparse
import resource
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import get_args

import optimizer
import scenarios
import twin
from benchmarks.packing_scale import scaled
from optimizer.packing import pack
from optimizer.packing.model.problem import PackingProblem
from optimizer.packing.model.search_state import PackingResult
from optimizer.search.preparation import instance_of
from scenarios import Scenario
from twin import GPUContent, TwinJudge

WORKERS = 2

JUDGED = 8
"""GPUs that are judged, spread over the plan."""


@dataclass
class Stages:
    """Says what each stage of a fleet took."""

    fleet: str
    told: dict[str, str] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time what is within, and print it with what was noted of it."""
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(
            f"{self.fleet:28} {name:9} {wall:8.1f} {cpu:8.1f} {gib:6.2f}  {self.told.pop(name, '')}",
            flush=True,
        )


def study(adapters: int, classes: int, rates: str, limit_s: float, acceptance: str, solve: bool) -> None:
    """One fleet, all stages."""
    stages = Stages(f"{adapters:,} in {classes:,}, {rates}")
    values = scaled(adapters, classes, rates).model_dump(mode="json") | {"acceptance": acceptance}
    for key in ("headroom", "service_levels") if acceptance == "paper" else ():
        values.pop(key, None)
    with stages.stage("read"):
        scenario = scenarios.from_mapping(values)
    with stages.stage("classes"):
        stages.told["classes"] = f"{len(scenario.classes):,} classes"
    solve_whole(stages, scenario, limit_s) if solve else pack_whole(stages, scenario, limit_s)


def pack_whole(stages: Stages, scenario: Scenario, limit_s: float) -> None:
    """The model's plan, and what the twin would have to say of it."""
    with stages.stage("prepared"):
        problem = instance_of(scenario).inner
    pack(PackingProblem.bin_packing([6, 5, 4, 4, 3, 3.5], 10), "exact")  # compiles
    with stages.stage("packed"):
        result = pack(problem, "exact", time_limit_s=limit_s, workers=WORKERS)
        found = f"{result.objective or 0:,.0f} GPUs, bound {result.bound:,.0f}, gap {result.gap:.2%}"
        stages.told["packed"] = f"{found}, {result.status}"
    with stages.stage("judged"):
        stages.told["judged"] = judged(scenario, problem, result)


def judged(scenario: Scenario, problem: PackingProblem, result: PackingResult) -> str:
    """What the twin says of some GPUs of a plan, and how long it would take for all that differ."""
    if result.packing is None:
        return "there is no plan"
    bins = [b for b, _ in result.packing.patterns()]
    some = bins[:: max(1, len(bins) // JUDGED)][:JUDGED]
    kinds = [one.kind for one in scenario.classes]
    contents = [
        GPUContent(
            problem.options[b.option].option,
            tuple((kinds[c], int(b.counts[c])) for c in b.counts.nonzero()[0]),
        )
        for b in some
    ]
    judge = TwinJudge(scenario, twin.profiles_of(scenario), WORKERS)
    judge(contents[:1])  # loads the loops
    started = time.process_time()
    accepted = sum(verdict.accepted for verdict in judge(contents))
    each = (time.process_time() - started) / max(1, len(contents) - 1)
    hours = f"{each:.2f} s of a processor each, {each * len(bins) / 3600:.1f} h for all"
    return f"{accepted} of {len(contents)} accepted; {len(bins):,} GPUs differ, {hours}"


def solve_whole(stages: Stages, scenario: Scenario, limit_s: float) -> None:
    """The plan of the whole search, accepted by the twin, and the file of its result."""
    with stages.stage("solved"):
        result = optimizer.solve(scenario, "exact", objective="gpus", time_limit_s=limit_s, workers=WORKERS)
        gap = "none" if result.gap is None else f"{result.gap:.2%}"
        stages.told["solved"] = (
            f"{result.gpus} GPUs, bound {result.bound}, gap {gap}, {result.status}: {result.message}"
        )
    with stages.stage("written"):
        stages.told["written"] = f"{len(result.to_json().encode()) / 2**20:,.0f} MiB of JSON"


def main() -> None:
    """Print the stages of every fleet."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--adapters", nargs="+", type=int, default=[100_000, 1_000_000], help="(default: %(default)s)"
    )
    parser.add_argument("--classes", type=int, default=5_000, help="(default: %(default)s)")
    parser.add_argument(
        "--rates", nargs="+", default=["mixed", "high"], choices=["mixed", "high"], help="(default: both)"
    )
    parser.add_argument(
        "--limit", type=float, default=600.0, help="seconds of the search (default: %(default)s)"
    )
    parser.add_argument(
        "--solve", action="store_true", help="the whole search, with the twin (default: the model alone)"
    )
    parser.add_argument(
        "--acceptance",
        choices=get_args(scenarios.Acceptance),
        default="sustained",
        help="(default: %(default)s)",
    )
    given = parser.parse_args()
    print(f"{'fleet':28} {'stage':9} {'wall':>8} {'cpu':>8} {'GiB':>6}")
    for adapters in given.adapters:
        for rates in given.rates:
            with ProcessPoolExecutor(1, get_context("spawn")) as apart:
                apart.submit(
                    study, adapters, given.classes, rates, given.limit, given.acceptance, given.solve
                ).result()


if __name__ == "__main__":
    main()
