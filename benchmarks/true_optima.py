"""How often a plan is as cheap as the twin itself allows, on instances small enough to enumerate.

Every multiset of an instance's adapters is judged on every engine that may serve it; a dynamic programme over
what the twin accepts then gives the fewest GPUs there are, without rows, bounds or cuts; with
``objective=cost`` and several kinds of device the least price, and that of the best single kind. Contents
that ask for more than `BEYOND` times the tokens of the most demanding accepted one are not judged, but taken
as rejected. Rates are such that two to four GPUs are nearly full, where rows and twin may disagree. Run from
the repository's root::

    python -m benchmarks.true_optima
    python -m benchmarks.true_optima --instances 10 --set service_levels.ttft_ms.p99=2000
    python -m benchmarks.true_optima --instances 12 --full-rate 11 --set model=qwen3-8b \\
        --set objective=cost --set 'devices=[{name: H100-80GB, price_per_hour: 2.6},
        {name: A100-80GB, price_per_hour: 1.05}, {name: L40S, price_per_hour: 1}]'

It lists every miss, and fails where the bound is above the optimum, which may never be.

Takes some ten minutes with the defaults.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress, product

import numpy as np

import scenarios
import twin
from learn import Regions
from optimizer.packing.model.problem import Bin
from optimizer.packing.registry import METHODS
from optimizer.search.cut_loop import pattern_of
from optimizer.search.instance import Instance
from optimizer.search.judging import Pattern
from optimizer.search.minimize_gpus import GPUMinimum, Search, minimize_gpus
from optimizer.search.params import DEFAULTS
from optimizer.search.preparation import learned_regions, prepare
from optimizer.search.solve import search_of
from scenarios import Deadline, Scenario
from scenarios.text.tables import render, table
from twin import TwinJudge

TEMPLATE = "paper_high_128"
"""Shipped scenario whose engine, lengths and device are used."""

RANKS = (8, 16, 32)
UNEVEN = 3.0
"""How often the smallest rate the largest one is, before all are scaled."""

FILL = (0.85, 1.05)
"""Sum of the rates over that of the GPUs they are meant for; smallest and largest."""

ADAPTERS = (6, 10)
CLASSES = (2, 4)
GPUS = (2, 4)
"""Fewest and most of each."""

BEYOND = 1.25
"""Demand, as a multiple of the largest accepted one, above which contents are taken as rejected."""

Counts = tuple[int, ...]
Prices = dict[Counts, float]
"""Contents, and the least price of a GPU that serves each."""


@dataclass(frozen=True)
class Row:
    """What came of one instance."""

    seed: int
    adapters: str
    optimum: float
    single: float
    value: float | None
    devices: str
    bound: float | None
    rounds: int
    seconds: float
    reason: str

    @property
    def missed(self) -> bool:
        """Whether the plan is dearer than needed."""
        return self.value is None or self.value > self.optimum + 1e-6

    @property
    def unsound(self) -> bool:
        """Whether the bound is above the optimum."""
        return self.bound is not None and self.bound > self.optimum + 1e-6

    @property
    def tight(self) -> bool:
        """Whether the bound is the optimum."""
        return self.bound is not None and abs(self.bound - self.optimum) <= 1e-6


def instance_scenario(seed: int, full_rate: float, overrides: Sequence[str]) -> Scenario:
    """The scenario of a seed: a few classes of adapters with big rates."""
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(CLASSES[0], CLASSES[1] + 1))
    adapters = int(rng.integers(ADAPTERS[0], ADAPTERS[1] + 1))
    counts = 1 + rng.multinomial(adapters - classes, np.full(classes, 1 / classes))
    total = full_rate * rng.integers(GPUS[0], GPUS[1] + 1) * rng.uniform(*FILL)
    relative = np.exp(rng.uniform(0, np.log(UNEVEN), classes))
    rates = (relative * total / (relative @ counts)).round(2)
    ranks = rng.choice(RANKS, classes)
    template = scenarios.read(TEMPLATE, overrides=[*overrides, f"name=seed_{seed}", f"seed={seed}"])
    entries = [
        {"name": f"class{c}", "count": int(n), "rank": int(r), "rate": float(rate)}
        for c, (n, r, rate) in enumerate(zip(counts, ranks, rates, strict=True))
    ]
    return scenarios.from_mapping(template.model_dump(mode="json") | {"adapters": entries})


def engines(instance: Instance, counts: Counts) -> Iterator[tuple[Pattern, float]]:
    """The distinct engines that may serve a content, and the price of each."""
    ranks = [one.rank for one in instance.classes]
    content = Bin(0, np.array(counts))
    seen = dict[Pattern, float]()
    for k, option in enumerate(instance.inner.options):
        if option.option.max_lora_rank >= max(r for r, n in zip(ranks, counts, strict=True) if n):
            seen[pattern_of(instance.inner, Bin(k, content.counts))] = option.price
    yield from seen.items()


def accepted_contents(search: Search) -> dict[str, Prices]:
    """Contents that the twin accepts on some engine, of each device."""
    instance = search.instance
    demand = [one.tokens_per_s for one in instance.classes]
    every = product(*(range(int(n) + 1) for n in instance.inner.counts))
    ordered = sorted((counts for counts in every if any(counts)), key=lambda c: float(np.dot(c, demand)))
    accepted, largest, rejected = dict[str, Prices](), 0.0, False
    for counts in ordered:
        asked = float(np.dot(counts, demand))
        if rejected and asked > BEYOND * largest:
            break
        patterns, prices = zip(*engines(instance, counts), strict=True)
        held = [v.accepted for v in search.loop.judge(list(patterns))]
        for pattern, price in compress(zip(patterns, prices, strict=True), held):
            accepted.setdefault(pattern.option.device, {})[counts] = price
        rejected |= not any(held)
        largest = max(largest, asked) if any(held) else largest
    return accepted


def cheapest(total: Counts, prices: Prices) -> float:
    """The least price of contents that sum to the total; infinite if none do."""
    least: dict[Counts, float] = {tuple(0 for _ in total): 0.0}
    for counts in product(*(range(n + 1) for n in total)):  # every content after all that are within it
        without = ((tuple(a - b for a, b in zip(counts, held, strict=True)), p) for held, p in prices.items())
        known = [least[rest] + price for rest, price in without if rest in least]
        if known:
            least[counts] = min(known)
    return least.get(total, math.inf)


def either(accepted: Mapping[str, Prices]) -> Prices:
    """The contents of all devices, each at its least price."""
    best: Prices = {}
    for prices in accepted.values():
        for counts, price in prices.items():
            best[counts] = min(price, best.get(counts, math.inf))
    return best


def learned(overrides: Sequence[str], workers: int) -> Mapping[str, Regions]:
    """The regions of the template, and so of all instances, which differ in ranks and rates alone."""
    template = scenarios.read(TEMPLATE, overrides=overrides)
    return learned_regions(TwinJudge(template, twin.profiles_of(template), workers))


def measure(seed: int, regions: Mapping[str, Regions], arguments: argparse.Namespace) -> Row | None:
    """Solve and enumerate one instance; None if an adapter must be split or fits no GPU."""
    scenario = instance_scenario(seed, arguments.full_rate, arguments.set)
    judge = TwinJudge(scenario, twin.profiles_of(scenario), arguments.workers)
    instance = prepare(judge, regions)
    if any(share < 1 for share in instance.shares):
        return None
    search = search_of(instance, METHODS["exact"], judge, 0.0, DEFAULTS)
    cpu = time.process_time()
    found = minimize_gpus(search, Deadline.after(arguments.time_limit))
    cpu, rounds = time.process_time() - cpu, search.loop.rounds
    total, accepted = tuple(int(n) for n in instance.inner.counts), accepted_contents(search)
    optimum = cheapest(total, either(accepted))
    if math.isinf(optimum):
        return None
    return Row(
        seed=seed,
        adapters=" ".join(f"{one.count}x{one.rate:g}/s" for one in instance.classes),
        optimum=optimum,
        single=min(cheapest(total, prices) for prices in accepted.values()),
        value=None if found.best is None else found.best.value,
        devices=devices_of(search, found),
        bound=found.outer_bound,
        rounds=rounds,
        seconds=cpu,
        reason="" if found.gap is None else str(found.gap),
    )


def devices_of(search: Search, found: GPUMinimum) -> str:
    """How many GPUs of each device a plan has."""
    if found.best is None:
        return "no plan"
    options = search.instance.inner.options
    number = Counter(options[b.option].device for b in found.best.packing.bins)
    return " ".join(f"{n}x{device}" for device, n in sorted(number.items()))


def report(rows: Sequence[Row]) -> str:
    """The misses, and how often plan and bound are the twin's optimum."""
    heads = [">seed", "adapters", ">optimum", ">plan", ">bound", ">rounds", "reason"]
    wrong = [row for row in rows if row.missed or row.unsound]
    lines = [[r.seed, r.adapters, r.optimum, r.value, r.bound, r.rounds, r.reason[:60]] for r in wrong]
    hits, tight = sum(not r.missed for r in rows), sum(r.tight for r in rows)
    summary = [
        f"the plan is the twin's optimum on {hits} of {len(rows)} instances ({hits / len(rows):.1%})",
        f"the bound is the optimum on {tight}, below it on {sum(not r.unsound for r in rows) - tight}, above "
        f"it on {sum(r.unsound for r in rows)}",
        f"the optimum is below that of any single kind of device on "
        f"{sum(r.optimum < r.single - 1e-6 for r in rows)}, the plan above it on "
        f"{sum((r.value or math.inf) > r.single + 1e-6 for r in rows)}",
        f"rounds: median {np.median([r.rounds for r in rows]):g}, most {max(r.rounds for r in rows)}; "
        f"seconds of processor time: median {np.median([r.seconds for r in rows]):.1f}, most "
        f"{max(r.seconds for r in rows):.1f}",
    ]
    return render(*([table(heads, lines)] if wrong else []), *summary)


def parse() -> argparse.Namespace:
    """Arguments of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", type=int, default=50, help="(default: %(default)s)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first instance (default: %(default)s)"
    )
    parser.add_argument(
        "--set", action="append", default=[], help="override of the scenarios, KEY=VALUE (default: none)"
    )
    parser.add_argument(
        "--time-limit", type=float, default=60.0, help="seconds per plan (default: %(default)s)"
    )
    parser.add_argument(
        "--full-rate", type=float, default=35.0, help="requests/s of about one GPU (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    return parser.parse_args()


def main() -> int:
    """Measure all instances and print what is wrong with them."""
    arguments, rows, seed = parse(), list[Row](), 0
    regions = learned(arguments.set, arguments.workers)
    while len(rows) < arguments.instances:
        row = measure(arguments.seed + seed, regions, arguments)
        seed += 1
        if row is not None:
            rows.append(row)
            mark = "BOUND" if row.unsound else "MISSED" if row.missed else "optimal"
            print(
                f"seed {row.seed}: {row.adapters}: optimum {row.optimum:g}, one kind {row.single:g}, plan "
                f"{row.value} ({row.devices}), bound {row.bound}, {row.rounds} rounds, {mark}",
                flush=True,
            )
    print(report(rows))
    return 1 if any(row.unsound for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
