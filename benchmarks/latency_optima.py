"""How near the best latency the plans of `exact` are, on instances small enough to enumerate.

Every multiset of an instance's adapters is judged on every engine that may serve it, by the whole rule; a
dynamic programme over the latencies then gives the best plan there is on the GPUs given. Run from the
repository's root::

    python -m benchmarks.latency_optima
    python -m benchmarks.latency_optima --instances 5 --objectives latency --acceptance paper

It lists every plan that is more than `NEAR` from the best, and fails where the bound is above the best.

Takes some twenty minutes with the defaults.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product

import numpy as np

import optimizer
import scenarios
import twin
from optimizer.packing.model.problem import Bin
from optimizer.packing.registry import METHODS
from optimizer.search.cut_loop import pattern_of
from optimizer.search.objectives import LATENCY_OBJECTIVES, LatencyObjective
from optimizer.search.params import DEFAULTS
from optimizer.search.preparation import learned_regions, prepare
from optimizer.search.solve import search_of
from scenarios import ACCEPTANCES, Scenario
from scenarios.text.tables import render, table
from twin import GPUVerdict, TwinJudge

TEMPLATE = "paper_high_128"
"""Shipped scenario whose engine, lengths and device are used."""

RANKS = (8, 16, 32)
UNEVEN = 3.0
"""How often the smallest rate the largest one is, before all are scaled."""

FULL_RATE = 35.0
"""Requests/s of about one GPU."""

FILL = (0.5, 0.9)
"""Sum of the rates over that of the GPUs; smallest and largest."""

ADAPTERS = (8, 10)
CLASSES = (2, 4)
GPUS = (2, 3)
"""Fewest and most of each."""

NEAR = 0.05
"""Relative distance from the best up to which a plan is near it."""


Counts = tuple[int, ...]


@dataclass(frozen=True)
class Row:
    """What came of one instance by one objective."""

    seed: int
    adapters: str
    gpus: int
    objective: str
    best: float
    found: float | None
    bound: float | None
    seconds: float

    @property
    def off(self) -> float:
        """By how much the plan is worse than the best, as a share of that."""
        return np.inf if self.found is None else self.found / self.best - 1.0

    @property
    def unsound(self) -> bool:
        """Whether the bound is above the best."""
        return self.bound is not None and self.bound > self.best * (1 + 1e-9)


def instance_scenario(seed: int, overrides: Sequence[str]) -> tuple[Scenario, int]:
    """The scenario of a seed, a few classes of adapters with big rates, and its number of GPUs."""
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(CLASSES[0], CLASSES[1] + 1))
    adapters = int(rng.integers(ADAPTERS[0], ADAPTERS[1] + 1))
    gpus = int(rng.integers(GPUS[0], GPUS[1] + 1))
    counts = 1 + rng.multinomial(adapters - classes, np.full(classes, 1 / classes))
    relative = np.exp(rng.uniform(0, np.log(UNEVEN), classes))
    rates = (relative * FULL_RATE * gpus * rng.uniform(*FILL) / (relative @ counts)).round(2)
    ranks = rng.choice(RANKS, classes)
    template = scenarios.read(TEMPLATE, overrides=[*overrides, f"name=seed_{seed}", f"seed={seed}"])
    entries = [
        {"name": f"class{c}", "count": int(n), "rank": int(r), "rate": float(rate)}
        for c, (n, r, rate) in enumerate(zip(counts, ranks, rates, strict=True))
    ]
    return scenarios.from_mapping(template.model_dump(mode="json") | {"adapters": entries}), gpus


def verdicts_on(scenario: Scenario, workers: int) -> dict[Counts, list[GPUVerdict]]:
    """What the twin accepts of every content, on every engine that may serve it."""
    judge = TwinJudge(scenario, twin.profiles_of(scenario), workers)
    instance = prepare(judge, learned_regions(judge))
    search = search_of(instance, METHODS["exact"], judge, 0.0, DEFAULTS)
    found: dict[Counts, list[GPUVerdict]] = {}
    for counts in product(*(range(int(n) + 1) for n in instance.inner.counts)):
        if any(counts):
            content, options = np.array(counts), instance.inner.options
            bins = [Bin(k, content) for k, o in enumerate(options) if o.holds_strictly(content)]
            engines = dict.fromkeys(pattern_of(instance.inner, b) for b in bins)
            verdicts = search.loop.judge(list(engines))
            found[counts] = [verdict for verdict in verdicts if verdict.accepted]
    return found


def best_value(
    objective: LatencyObjective, total: Counts, gpus: int, verdicts: Mapping[Counts, list[GPUVerdict]]
) -> float:
    """The least value of an objective over all plans on at most so many GPUs."""
    cost = {}
    for counts, accepted in verdicts.items():
        values = [_figure(objective, verdict) for verdict in accepted]
        cost[counts] = min(values, default=np.inf)

    @lru_cache(None)
    def best(left: Counts, bins: int) -> float:
        if not any(left):
            return 0.0
        if bins == 0:
            return np.inf
        least = np.inf
        first = next(c for c, n in enumerate(left) if n)  # some GPU holds one of these
        for counts in product(*(range(n + 1) for n in left)):
            if counts[first] and cost[counts] < np.inf:
                rest = best(tuple(n - k for n, k in zip(left, counts, strict=True)), bins - 1)
                value = max(cost[counts], rest) if objective.worst else cost[counts] + rest
                least = min(least, value)
        return least

    return best(total, gpus)


def _figure(objective: LatencyObjective, verdict: GPUVerdict) -> float:
    value = float(getattr(verdict, objective.figure or ""))
    return value if objective.worst else value * verdict.served_tok_per_s


def rows_of(seed: int, objectives: Sequence[str], overrides: Sequence[str], workers: int) -> list[Row]:
    """What comes of one instance."""
    scenario, gpus = instance_scenario(seed, overrides)
    verdicts = verdicts_on(scenario, workers)
    total = tuple(c.count for c in scenario.classes)
    said = " ".join(f"{c.count}x{c.rate:g}/s@{c.rank}" for c in scenario.classes)
    rows = []
    for name in objectives:
        objective = LATENCY_OBJECTIVES[name]
        best = best_value(objective, total, gpus, verdicts)
        if not np.isfinite(best):
            continue
        started = time.perf_counter()
        result = optimizer.solve(scenario, objective=name, gpus=gpus, workers=workers)
        seconds = time.perf_counter() - started
        if not objective.worst and result.validation is not None:
            # The programme adds up over GPUs, the plan's mean divides by what they serve.
            best /= sum(v.served_tok_per_s for v in result.validation.gpus)
        rows.append(Row(seed, said, gpus, name, best, result.objective, result.bound, seconds))
    return rows


def _shares(rows: Sequence[Row]) -> str:
    """How far below the best the bounds of some instances are."""
    shares = [row.bound / row.best for row in rows if row.bound is not None]
    if not shares:
        return "none"
    return f"{np.median(shares):.0%} of the best in the median, {min(shares):.0%} to {max(shares):.0%}"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", type=int, default=20, help="(default: %(default)s)")
    parser.add_argument(
        "--first-seed", type=int, default=0, help="seed of the first instance (default: %(default)s)"
    )
    parser.add_argument(
        "--objectives", default="worst_ttft_p99,latency", help="by commas (default: %(default)s)"
    )
    parser.add_argument(
        "--acceptance", choices=ACCEPTANCES, default="sustained", help="(default: %(default)s)"
    )
    parser.add_argument(
        "--replications", type=int, default=1, help="runs of every verdict (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=2, help="(default: %(default)s)")
    args = parser.parse_args()
    overrides = [f"acceptance={args.acceptance}", f"replications={args.replications}"]
    rows: list[Row] = []
    seed = args.first_seed
    while len({row.seed for row in rows}) < args.instances:
        rows += rows_of(seed, args.objectives.split(","), overrides, args.workers)
        for row in rows:
            if row.seed == seed:
                print(
                    f"{row.seed} {row.objective} best {row.best:.2f} found {row.found} off {row.off:.2%}",
                    flush=True,
                )
        seed += 1
    columns = ["seed", "adapters", "GPUs", "objective", "best", "found", "off", "bound", "seconds"]
    shown = [
        (
            str(r.seed), r.adapters, str(r.gpus), r.objective, f"{r.best:.2f}",
            "-" if r.found is None else f"{r.found:.2f}", f"{r.off:.1%}",
            "-" if r.bound is None else f"{r.bound:.2f}", f"{r.seconds:.1f}",
        )
        for r in rows
    ]  # fmt: skip
    print(render(table(columns, shown)))
    for name in args.objectives.split(","):
        off = np.array([row.off for row in rows if row.objective == name])
        print(
            f"{name}: {(off <= NEAR).sum()} of {len(off)} within {NEAR:.0%}, "
            f"median {np.median(off):.2%}, worst {off.max():.2%}; "
            f"bounds {_shares([row for row in rows if row.objective == name])}"
        )
    sys.exit(any(row.unsound for row in rows))


if __name__ == "__main__":
    main()
