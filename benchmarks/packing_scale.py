"""Gap and seconds of the exact placer on the linearised model, from 32 to 100,000 adapters.

    python benchmarks/packing_scale.py [--only NAME] [--methods METHOD ...]

Every shipped scenario is packed under its inner (conservative) and outer (optimistic) region, then the
paper's rates scaled up with distinct rates: so many adapters in so many classes, ranks 8, 16 and 32,
rates log-uniform over the paper's mixed or high range. Two workers. "wall" and "cpu" are the seconds of
`optimizer.pack` alone, after one small call that compiles; "prepared" is the work before it. "greedy-fill"
is the paper's greedy tested at every adapter, "bfd" best-fit decreasing.

Takes up to an hour, as "exact" may use its time limit (ten seconds to ten minutes, by the number of
adapters) for every row; with --only mixed_ranks some seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import optimizer
import scenarios
from optimizer.packing import pack
from optimizer.packing.model.problem import PackingProblem
from optimizer.search.preparation import instance_of
from optimizer.search.splitting import InfeasibleError
from scenarios import Adapter, Scenario

SHIPPED = Path(scenarios.__file__).parent

RATES = {"mixed": (0.0375, 0.6), "high": (0.15, 2.4)}
"""Requests/s of an adapter, least and most, as in the paper's sets."""

SIZES = ((1_000, 500), (10_000, 500), (100_000, 1_000), (20_000, 20_000))
"""Adapters and classes of the scaled problems; in the last one all adapters differ."""

LIMITS_S = {384: 10.0, 1_024: 60.0, 10_000: 120.0, 100_000: 600.0}
"""Time limit for problems of so many adapters and fewer."""


def scaled(adapters: int, classes: int, rates: str) -> Scenario:
    """A shipped scenario with so many adapters in so many classes of distinct rates."""
    base = scenarios.read(SHIPPED / f"paper_{rates}_1024.yaml")
    low, high = RATES[rates]
    per_rank = -(-classes // 3)
    rungs = np.exp(np.linspace(np.log(low), np.log(high), per_rank))
    chosen = [(rank, float(rate)) for rate in rungs for rank in (8, 16, 32)][:classes]
    count = adapters // classes
    adapters_of = tuple(
        Adapter(name=f"class-{k}-of", count=count, rank=(rank,), rate=(round(rate, 6),))
        for k, (rank, rate) in enumerate(chosen)
    )
    devices = tuple(device.model_copy(update={"count": adapters}) for device in base.devices)
    return base.model_copy(update={"adapters": adapters_of, "devices": devices})


def problems(only: str) -> Iterator[tuple[str, PackingProblem]]:
    """Names and problems, smallest first."""
    for path in sorted(SHIPPED.glob("*.yaml")):
        for region in ("inner", "outer"):
            if only in (name := f"{path.stem} {region}"):
                try:
                    yield name, getattr(instance_of(scenarios.read(path)), region)
                except InfeasibleError as error:
                    print(f"{name:45} {error}")
    for adapters, classes in SIZES:
        for rates in RATES:
            if only in (name := f"{adapters:,} adapters in {classes:,} classes, {rates}"):
                started = time.process_time()
                inner = instance_of(scaled(adapters, classes, rates)).inner
                print(f"{name:45} prepared in {time.process_time() - started:.1f} s of processor time")
                yield name, inner


def report(name: str, problem: PackingProblem, method: str, limit_s: float) -> None:
    """Pack and print one row."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = pack(problem, method, time_limit_s=limit_s, workers=2)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    gap = "-" if method != "exact" else f"{100 * result.gap:.2f} %"
    print(
        f"{name:45} {method:11} {problem.n_items:7,} {result.objective or 0:8g} {result.bound:10.2f} "
        f"{gap:>8} {wall:7.1f} {cpu:7.1f}  {result.status}",
        flush=True,
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="rows whose name contains this (default: all)")
    placers = [method.name for method in optimizer.methods().values() if "price" in method.objectives]
    default = ["greedy-fill", "bfd", "exact"]
    text = f"of {', '.join(placers)} (default: {' '.join(default)})"
    parser.add_argument("--methods", nargs="+", default=default, choices=placers, metavar="METHOD", help=text)
    given = parser.parse_args()
    pack(PackingProblem.bin_packing([6, 5, 4, 4, 3, 3.5], 10), "exact")
    print(f"{'problem':45} method        items    price      bound      gap    wall     cpu  status")
    for name, problem in problems(given.only):
        limit = next(s for n, s in LIMITS_S.items() if problem.n_items <= n)
        for method in given.methods:
            report(name, problem, method, limit)


if __name__ == "__main__":
    main()
