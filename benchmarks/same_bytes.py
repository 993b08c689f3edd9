"""Whether an answer depends on the clock, on the number of workers, or on what is cached.

    python benchmarks/same_bytes.py [--scenarios ...] [--methods ...] [--commands ...] [--time-limit S]

Each command is run with two workers, then with one and with three, with a clock that goes four times as fast
as the machine's and with one that hardly goes, and with caches of regions that are empty and filled. The
answers, as `--json` writes them, must have the same bytes, times apart; what ends with `time_limit` is told
and exempt. Prints a line for each command: status, GPUs, bound, seconds of processor time, and which
answers differ.

Takes about half a minute of a core for each method of a small scenario, as `paper_high_32`; minutes for
regions and for larger ones.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import learn
import optimizer
import scenarios
import twin
from scenarios.stopping import deadline

SCENARIOS = (
    "paper_mixed_32", "paper_high_32", "paper_high_128", "paper_high_384", "mixed_ranks", "hot_adapter",
    "base_model_traffic", "odd_ranks", "zipf_popularity",
)  # fmt: skip
METHODS = ("exact", "greedy", "bfd", "local", "patterns", "cpsat", "milp")
TIMES = frozenset({"seconds", "preparation_seconds", "relaxation_seconds"})
"""Keys whose values are times of this run."""


@dataclass(frozen=True)
class Machine:
    """How a run differs from the others."""

    name: str
    workers: int = 2
    clock: float = 1.0


MACHINES = (
    Machine("two workers"),
    Machine("one worker", 1),
    Machine("three workers", 3),
    Machine("fast clock", clock=4.0),
    Machine("slow clock", clock=0.05),
)


@contextmanager
def clock(speed: float) -> Iterator[None]:
    """Let the clock of all deadlines go faster or slower than the machine's."""
    start, before = time.monotonic(), deadline.time
    deadline.time = SimpleNamespace(monotonic=lambda: start + speed * (time.monotonic() - start))
    try:
        yield
    finally:
        deadline.time = before


def timeless(value: Any) -> Any:
    """A JSON value without the times that it tells."""
    if isinstance(value, dict):
        return {key: timeless(inner) for key, inner in value.items() if key not in TIMES}
    return [timeless(inner) for inner in value] if isinstance(value, list) else value


def digest(text: str) -> str:
    """Of a JSON text, times apart."""
    return hashlib.blake2b(json.dumps(timeless(json.loads(text))).encode(), digest_size=6).hexdigest()


def solved(scenario: scenarios.Scenario, method: str, limit: float, workers: int) -> optimizer.Result:
    """`solve`."""
    return optimizer.solve(scenario, method, time_limit_s=limit, workers=workers)


def replanned(scenario: scenarios.Scenario, _method: str, limit: float, workers: int) -> Any:
    """`replan` at a fifth more load, from the plan that is there; where there is none, `solve`."""
    found = optimizer.solve(scenario, time_limit_s=limit, workers=workers)
    if found.placement is None:
        return found
    grown = scenarios.at_load(scenario, 1.2)
    return optimizer.replan(grown, found.placement, time_limit_s=limit, workers=workers)


COMMANDS: dict[str, Callable[..., Any]] = {"solve": solved, "replan": replanned}


def told(run: Callable[[int], Any]) -> bool:
    """Run on every kind of machine and print what came of it; whether the answers are the same."""
    seen: dict[str, list[str]] = {}
    said, seconds, limited = "", [], 0
    for machine in MACHINES:
        start = time.process_time()
        with clock(machine.clock):
            answer = run(machine.workers)
        seconds.append(time.process_time() - start)
        result = getattr(answer, "result", answer)
        said = said or f"{result.status} {result.gpus} >= {result.bound}"
        if result.stop_reason == "time_limit":
            limited += 1
        seen.setdefault(digest(answer.to_json()), []).append(machine.name)
    times = " ".join(f"{one:.1f}" for one in seconds)
    apart = "; ".join(", ".join(names) for names in list(seen.values())[1:])
    print(f"{said:24} {times:28} {limited} limited; {f'apart: {apart}' if apart else 'same'}", flush=True)
    return len(seen) == 1


def cold_and_warm() -> bool:
    """Regions of a device that none are shipped for, learned by one and by two workers, then read again."""
    scenario = scenarios.read("paper_mixed_32", ["devices[0].memory_gib=50"])
    device = scenario.devices[0]
    profile = twin.find_profile(scenario.model, device.name)
    plan = learn.SamplingPlan(compositions=24, round_size=24, max_runs=5, width=1.15, spread=1, seed=1)
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        regions = [
            learn.regions_for(scenario, device, profile, workers=workers, cache_dir=folder, plan=plan)
            for workers, folder in ((1, first), (2, second), (2, first))
        ]
    texts = {one.to_json() for one in regions}
    print(f"regions, cold by one and by two workers, and warm: {'same' if len(texts) == 1 else 'apart'}")
    return len(texts) == 1


def main() -> int:
    """Run all and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    names = f"(default: {' '.join(SCENARIOS)})"
    parser.add_argument(
        "--scenarios", nargs="*", default=SCENARIOS, metavar="NAME", help=f"scenarios {names}"
    )
    names = f"(default: {' '.join(METHODS)})"
    parser.add_argument("--methods", nargs="*", default=METHODS, metavar="METHOD", help=f"placers {names}")
    commands = tuple(COMMANDS)
    parser.add_argument("--commands", nargs="*", default=commands, choices=commands, help="(default: all)")
    limit = "seconds of the whole search of each (default: 60)"
    parser.add_argument("--time-limit", type=float, default=60.0, metavar="SECONDS", help=limit)
    parser.add_argument(
        "--no-regions", action="store_true", help="learn no regions (default: they are learned)"
    )
    given = parser.parse_args()
    same = True
    for name in given.scenarios:
        scenario = scenarios.read(name)
        for command in given.commands:
            for method in given.methods if command == "solve" else ("exact",):
                print(f"{name:20} {command:7} {method:9}", end=" ", flush=True)
                same &= told(partial(COMMANDS[command], scenario, method, given.time_limit))
    if not given.no_regions:
        same &= cold_and_warm()
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
