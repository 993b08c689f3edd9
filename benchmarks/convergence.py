"""How soon the search for the fewest GPUs ends: rounds, seconds, GPUs, bound, and why gaps stay open.

The shipped scenarios, and 1,000 adapters that all differ. Rounds are the plans that the twin was shown.
Regions that are not known are learned first, which is not counted. Run from the repository's root::

    python -m benchmarks.convergence
    python -m benchmarks.convergence paper_high_128 distinct_1000 --set acceptance=paper

Takes a quarter of an hour with the defaults, and minutes of learning the first time.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

import scenarios
import twin
from optimizer.packing.registry import METHODS
from optimizer.search.compilation import compile_loops
from optimizer.search.minimize_gpus import minimize_gpus
from optimizer.search.params import DEFAULTS
from optimizer.search.preparation import learned_regions, prepare
from optimizer.search.solve import search_of
from optimizer.search.splitting import InfeasibleError
from scenarios import UNLIMITED, Deadline, Scenario
from scenarios.stopping.progress import silent
from scenarios.text.tables import render, table
from twin import TwinJudge

DISTINCT = "distinct_1000"
"""Name of the adapters that all differ."""

DISTINCT_ADAPTERS = 1_000
DISTINCT_RATES = (0.05, 2.0)
"""Rates in requests/s between which theirs are drawn, evenly in the logarithm."""

TEMPLATE = "paper_high_128"
"""Shipped scenario whose engine, lengths and device they have."""

INFEASIBLE = ("hot_adapter", "slots_exhaust_memory")
"""Shipped scenarios that have no plan on purpose."""


@dataclass(frozen=True)
class Row:
    """How the search of one scenario ended."""

    name: str
    gpus: int | None
    bound: float | None
    proven: bool
    rounds: int
    cuts: int
    lessons: int
    seconds: float
    cpu: float
    reason: str


def scenario_of(name: str, overrides: Sequence[str]) -> Scenario:
    """A shipped scenario, or the adapters that all differ."""
    if name != DISTINCT:
        return scenarios.read(name, overrides=overrides)
    rng = np.random.default_rng(0)
    rates = np.exp(rng.uniform(*np.log(DISTINCT_RATES), DISTINCT_ADAPTERS))
    listed = ", ".join(f"{rate:.6f}" for rate in rates)
    changes = [
        f"name={name}",
        f"adapters[0].count={DISTINCT_ADAPTERS}",
        f"adapters[0].rate=[{listed}]",
        f"devices[0].count={DISTINCT_ADAPTERS}",
    ]
    return scenarios.read(TEMPLATE, overrides=[*changes, *overrides])


def measure(name: str, arguments: argparse.Namespace) -> Row:
    """Search for the fewest GPUs of one scenario."""
    scenario = scenario_of(name, arguments.set)
    judge = TwinJudge(scenario, twin.profiles_of(scenario), arguments.workers)
    instance = prepare(judge, learned_regions(judge))
    search = search_of(instance, METHODS["exact"], judge, 0.0, DEFAULTS)
    started, cpu = time.monotonic(), time.process_time()
    found = minimize_gpus(search, Deadline.after(arguments.time_limit))
    return Row(
        name,
        None if found.best is None else len(found.best.packing),
        found.outer_bound,
        found.proven,
        search.loop.rounds,
        len(search.loop.rejected),
        len(search.loop.lessons),
        time.monotonic() - started,
        time.process_time() - cpu,
        "" if found.gap is None else str(found.gap),
    )


def report(rows: Sequence[Row]) -> str:
    """The table, and its median and worst."""
    heads = [
        "scenario",
        *(f">{name}" for name in ("GPUs", "bound", "rounds", "cuts", "lessons", "seconds", "CPU s")),
        "reason",
    ]
    lines = [
        [
            row.name,
            row.gpus,
            row.bound,
            row.rounds,
            row.cuts,
            row.lessons,
            f"{row.seconds:.1f}",
            f"{row.cpu:.1f}",
            "proven" if row.proven else row.reason,
        ]
        for row in rows
    ]
    rounds, seconds = [row.rounds for row in rows], [row.seconds for row in rows]
    summary = (
        f"rounds: median {np.median(rounds):g}, most {max(rounds)}; "
        f"seconds: median {np.median(seconds):.1f}, most {max(seconds):.1f}"
    )
    return render(table(heads, lines), summary)


def parse() -> argparse.Namespace:
    """Arguments of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", help=f"scenarios; absent: all shipped ones and {DISTINCT}")
    parser.add_argument(
        "--set", action="append", default=[], help="override of the scenarios, KEY=VALUE (default: none)"
    )
    parser.add_argument(
        "--time-limit", type=float, default=120.0, help="seconds per plan (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    return parser.parse_args()


def main() -> None:
    """Measure the scenarios and print the table."""
    arguments, rows = parse(), list[Row]()
    shipped = [one.name for one in scenarios.shipped() if one.name not in INFEASIBLE]
    profile = twin.find_profile("llama-3.1-8b-instruct", "H100-64GB")
    compile_loops(profile, METHODS["exact"].kernels, arguments.workers, UNLIMITED, silent)
    for name in arguments.names or [*shipped, DISTINCT]:
        try:
            rows.append(measure(name, arguments))
        except InfeasibleError as error:
            print(f"{name}: infeasible: {error}", flush=True)
            continue
        print(" ".join(f"{key}={value}" for key, value in vars(rows[-1]).items()), flush=True)
    if rows:
        print(report(rows))


if __name__ == "__main__":
    main()
