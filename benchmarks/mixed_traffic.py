"""Interactive, bursty and replayed customers beside the base model: GPUs, bound and seconds.

python -m benchmarks.mixed_traffic [--methods greedy greedy-fill exact] [--limit 60] [--base 4]

The trace is made here: half an hour of requests whose rate swings every ten minutes.

Takes one or two minutes on two free cores, most of it learning the first time.
"""

from __future__ import annotations

import argparse
import math
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

import optimizer
from scenarios import Scenario, from_mapping

LENGTHS = {
    "prompt": {"distribution": "lognormal", "mean": 250, "std": 200, "min": 4, "max": 2048},
    "output": {"distribution": "lognormal", "mean": 180, "std": 150, "min": 2, "max": 1024},
}


def swinging_trace(path: Path) -> Path:
    """Write half an hour of requests, one a second on average, in waves of ten minutes."""
    rng, at, lines = np.random.default_rng(0), 0.0, ["Timestamp,Request tokens,Response tokens"]
    while at < 1800:
        at += rng.exponential(1.0 / (1.0 + 0.8 * math.sin(2 * math.pi * at / 600)))
        lines.append(f"{at:.3f},{rng.integers(100, 400)},{rng.integers(50, 200)}")
    path.write_text("\n".join(lines) + "\n")
    return path


def scenario_of(trace: Path, base: float) -> Scenario:
    """60 interactive, 30 bursty and 10 replayed adapters, each kind with its patience, and the base model."""
    bursts = {
        "prompt": {"distribution": "fixed", "tokens": 600},
        "output": {"distribution": "fixed", "tokens": 100},
    }
    replay = {"process": "trace", "file": str(trace)}
    entries = (
        {"name": "chat", "count": 60, "rank": [8, 16, 32], "rate": [0.8, 0.4, 0.2], "arrivals": "poisson"},
        {
            "name": "batch",
            "count": 30,
            "rank": 16,
            "rate": [0.4, 0.1],
            "arrivals": {"process": "gamma", "cv": 4},
        }
        | bursts,
        {"name": "replay", "count": 10, "rank": 8, "rate": 0.3, "arrivals": replay},
    )
    patience = (5, 60, 20)
    adapters = [e | {"service_levels": {"patience_s": p}} for e, p in zip(entries, patience, strict=True)]
    return from_mapping(
        {
            "name": "mixed traffic",
            "model": "llama-3.1-8b-instruct",
            "adapters": [*adapters, {"name": "base", "rate": base}],
            "workload": LENGTHS,
            "devices": [{"name": "H100-64GB", "count": 16}],
        }
    )


def processor_s() -> float:
    """Seconds of the processor that this process and those that it started have used."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--methods",
        nargs="+",
        default=["greedy", "greedy-fill", "exact"],
        help="placers (default: greedy greedy-fill exact)",
    )
    parser.add_argument("--limit", type=float, default=60.0, help="seconds of search (default: %(default)s)")
    parser.add_argument(
        "--base",
        type=float,
        default=4.0,
        help="requests per second of the base model (default: %(default)s)",
    )
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scenario = scenario_of(swinging_trace(Path(folder) / "swings.csv"), given.base)
        print("method, GPUs, bound, accepted, learning s, search s, wall s, processor s")
        for method in given.methods:
            wall, used = time.monotonic(), processor_s()
            found = optimizer.solve(scenario, method, workers=2, time_limit_s=given.limit)
            print(
                f"{method}, {found.gpus}, {found.bound}, {found.accepted}, {found.preparation_seconds:.0f}, "
                f"{found.search_seconds:.0f}, {time.monotonic() - wall:.0f}, {processor_s() - used:.0f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
