"""Classic bin packing: the share of instances closed to the optimum within 30 seconds each.

    python benchmarks/bin_packing.py [--only NAME] [--per-group N] [--limit SECONDS]

Instances of the families known from the literature, drawn anew with their published parameters:
Falkenauer's U (sizes 20-100, capacity 150) and T (triplets that fill bins of 1,000 exactly; optimum n/3;
Falkenauer 1996), and sets 1 to 3 of Scholl, Klein and Jürgens (1997): set 1 with sizes from 1, 20 or 30
to 100 and capacity 100, 120 or 150; set 2 with mean sizes of a third to a ninth of 1,000, varied by 20,
50 or 90 %; set 3 with sizes 20,000-35,000 and capacity 100,000. `optimizer.pack` with the method "exact"
on one worker. "closed" is proven optimal; "wall" is the mean and the largest of seconds.

Takes minutes: at most 30 seconds for each of 340 instances, and for most of them far less; with --per-group 2
some seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from optimizer.packing import pack
from optimizer.packing.model.problem import PackingProblem

Instance = tuple[NDArray[np.int64], int]
"""Sizes and capacity."""


def falkenauer_u(rng: np.random.Generator, n: int) -> Instance:
    """Sizes uniform from 20 to 100, capacity 150."""
    return rng.integers(20, 101, n), 150


def falkenauer_t(rng: np.random.Generator, n: int) -> Instance:
    """Triplets that sum to 1,000: the first from 380 to 490, the second above 250, the rest."""
    sizes = []
    for _ in range(n // 3):
        first = int(rng.integers(380, 491))
        second = int(rng.integers(250, (1_000 - first) // 2 + 1))
        sizes += [first, second, 1_000 - first - second]
    return np.array(sizes), 1_000


def scholl_1(rng: np.random.Generator, n: int) -> Instance:
    """Sizes uniform from 1, 20 or 30 to 100; capacity 100, 120 or 150."""
    return rng.integers(int(rng.choice([1, 20, 30])), 101, n), int(rng.choice([100, 120, 150]))


def scholl_2(rng: np.random.Generator, n: int) -> Instance:
    """Sizes around 1,000/3, /5, /7 or /9, up to 20, 50 or 90 % apart from it; capacity 1,000."""
    mean, apart = 1_000 / rng.choice([3, 5, 7, 9]), rng.choice([0.2, 0.5, 0.9])
    return rng.integers(int(np.ceil(mean * (1 - apart))), int(mean * (1 + apart)) + 1, n), 1_000


def scholl_3(rng: np.random.Generator, n: int) -> Instance:
    """Sizes uniform from 20,000 to 35,000, capacity 100,000."""
    return rng.integers(20_000, 35_001, n), 100_000


FAMILIES = {
    "U": (falkenauer_u, (120, 250, 500, 1_000)),
    "T": (falkenauer_t, (60, 120, 249, 501)),
    "Scholl 1": (scholl_1, (50, 100, 200, 500)),
    "Scholl 2": (scholl_2, (50, 100, 200, 500)),
    "Scholl 3": (scholl_3, (200,)),
}


def groups(only: str, per_group: int) -> Iterator[tuple[str, list[Instance]]]:
    """Names and instances of each family and size."""
    for family, (draw, counts) in FAMILIES.items():
        for n in counts:
            name = f"{family} {n}"
            if only in name:
                yield name, [draw(np.random.default_rng([n, k]), n) for k in range(per_group)]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="", help="groups whose name contains this (default: all)")
    parser.add_argument(
        "--per-group", type=int, default=20, help="instances of each family and size (default: %(default)s)"
    )
    parser.add_argument(
        "--limit", type=float, default=30.0, help="seconds per instance (default: %(default)s)"
    )
    given = parser.parse_args()
    pack(PackingProblem.bin_packing([6, 5, 4, 4, 3, 3.5], 10), "exact")
    print(f"{'group':<15}{'instances':>10}{'closed':>8}{'one off':>8}{'mean s':>8}{'most s':>8}")
    closed_of_all = total = 0
    for name, instances in groups(given.only, given.per_group):
        seconds, closed, near = [], 0, 0
        for sizes, capacity in instances:
            started = time.perf_counter()
            result = pack(PackingProblem.bin_packing(sizes, capacity), "exact", time_limit_s=given.limit)
            seconds.append(time.perf_counter() - started)
            closed += result.status == "optimal"
            near += result.objective is not None and result.objective - result.bound == 1
        closed_of_all, total = closed_of_all + closed, total + len(instances)
        times = f"{np.mean(seconds):>8.2f}{max(seconds):>8.2f}"
        print(f"{name:<15}{len(instances):>10}{closed:>8}{near:>8}{times}", flush=True)
    print(f"closed: {closed_of_all} of {total}, {100 * closed_of_all / max(total, 1):.1f} %")


if __name__ == "__main__":
    main()
