"""How often `lorapack check --metrics` finds a load that grew, and how often it sees what is not there.

A plan is made, and the twin plays each of its GPUs, on other seeds than the check's own runs, with so many
times the requests. Two readings some minutes apart, at random times, are checked. Printed is the share of the
checks of single GPUs that end not as planned. What a real server would show beside is not in these figures.

Takes about ten minutes on one core, and one more where the regions of the scenario are still to be learned.
"""

from __future__ import annotations

import argparse
from collections import Counter

import numpy as np

import optimizer
import scenarios
from optimizer.checking.drift.check_drift import CHANCE, gpu_rows
from optimizer.checking.drift.planned import placement_of, planned_gpus, tolerated_load
from optimizer.checking.drift.traffic_rows import Chances
from scenarios.text.tables import render, table
from twin import PlacementJudge, SimulationResult, TwinJudge, profiles_of, simulate
from twin.server_metrics.figures import Gauge

MINUTES = (1.0, 10.0)
TIMES = (1.0, 1.05, 1.1, 1.2, 1.3, 1.5)
SETTLED_S = 3600.0
SEED = 1_000_003


def reading_of(gpu: int, run: SimulationResult, at_s: float, seconds: float) -> optimizer.MetricsReading:
    """What the metrics of a server that plays a run would say between two instants."""
    records = run.records
    done = (records.finish_s > at_s) & (records.finish_s <= at_s + seconds)
    came = (records.sent_s > at_s) & (records.sent_s <= at_s + seconds)
    answered = float(done.sum())

    def gauge(start: np.ndarray, end: np.ndarray) -> Gauge:
        first, last = (float((start <= t).sum() - (end <= t).sum()) for t in (at_s, at_s + seconds))
        return Gauge(first, last, (first + last) / 2)

    return optimizer.MetricsReading(
        gpu,
        "the twin",
        seconds,
        2,
        arrived=float(came.sum()),
        answered=answered,
        prompt_tokens=float(records.requests.prompt_tokens[done].mean()) if answered else None,
        output_tokens=float(records.requests.output_tokens[done].mean()) if answered else None,
        running=gauge(records.first_scheduled_s, records.finish_s),
        waiting=gauge(records.sent_s, records.first_scheduled_s),
    )


def main() -> None:
    """Check a plan's GPUs under loads that grew."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", default="mixed_ranks", help="a scenario (default: %(default)s)")
    parser.add_argument("--checks", type=int, default=50, help="of each GPU and load (default: %(default)s)")
    arguments = parser.parse_args()
    scenario = scenarios.read(arguments.scenario)
    result = optimizer.solve(scenario, "bfd", objective="gpus")
    placement, profiles = placement_of(result), profiles_of(scenario)
    judge = PlacementJudge(TwinJudge(scenario, profiles))
    chances = Chances(CHANCE / len(placement.gpus), tolerated_load(scenario))
    draw = np.random.default_rng(SEED)
    rows = []
    for minutes in MINUTES:
        seconds = 60 * minutes
        planned = planned_gpus(result, {gpu.gpu: seconds for gpu in placement.gpus}, workers=2)
        for times in TIMES:
            found, why = 0, Counter[str]()
            for gpu in placement.gpus:
                content, _ = judge.content(gpu)
                for _ in range(arguments.checks):
                    at_s = float(draw.uniform(SETTLED_S, 2 * SETTLED_S))
                    run = simulate(
                        content.load.scaled(times), scenario.workload, scenario.engine, profiles[gpu.device],
                        max_loras=gpu.max_loras, max_lora_rank=gpu.max_lora_rank,
                        max_cpu_loras=gpu.max_cpu_loras, seed=int(draw.integers(2**31)),
                        duration_s=at_s + seconds + 1, sustained=True,
                    )  # fmt: skip
                    read = reading_of(gpu.gpu, run, at_s, seconds)
                    compared = gpu_rows(planned[gpu.gpu], read, chances, {})
                    drifted = [row.figure for row in compared if row.verdict == "drift"]
                    found += bool(drifted)
                    why.update(drifted)
            checks = arguments.checks * len(placement.gpus)
            said = ", ".join(f"{figure} {n}" for figure, n in why.most_common())
            rows.append(
                (f"{minutes:g} min", f"{times:g}", f"{found} of {checks}", f"{found / checks:.1%}", said)
            )
            print(*rows[-1], flush=True)
    print(render(table((">read for", ">times the load", ">not as planned", ">share", "by"), rows)))


if __name__ == "__main__":
    main()
