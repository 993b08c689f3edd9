"""How often a plan with spare has as few GPUs as the twin itself allows, on instances that can be enumerated.

Every way to deal an instance's adapters to GPUs, with every rank of their slots, is looked at: whether the
twin accepts each GPU, and, after the loss of any one, some way to deal what it served to those that run.
Engines have a slot for every adapter of the instance. Run from the repository's root::

    python -m benchmarks.true_spare
    python -m benchmarks.true_spare --instances 10 --set acceptance=sustained

It lists every instance, and says where an answer is not the twin's optimum.

Takes a few minutes with the defaults.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

import optimizer
import scenarios
import twin
from learn import Regions
from optimizer.search.preparation import learned_regions
from scenarios import EngineOption, Scenario
from twin import GPUContent, TwinJudge

TEMPLATE = "paper_high_128"
"""Shipped scenario whose engine, lengths and device are used."""

RANKS = (8, 16, 32)
FULL_RATE = 35.0
"""Requests/s of about one GPU."""

FILL = (0.85, 1.1)
"""Sum of the rates over that of the GPUs they are meant for; smallest and largest."""

UNEVEN = 3.0
"""How often the smallest rate the largest one is, before all are scaled."""

ADAPTERS, CLASSES, GPUS = (6, 8), (2, 3), (1, 3)
"""Fewest and most of each; GPUs without spare."""

MOST_GPUS = 4
"""Most GPUs with spare that are enumerated."""

Counts = tuple[int, ...]
Engines = tuple[int, ...]


def instance_scenario(seed: int, overrides: Sequence[str]) -> Scenario:
    """The scenario of a seed: a few classes of adapters with big rates."""
    rng = np.random.default_rng(seed)
    classes = int(rng.integers(CLASSES[0], CLASSES[1] + 1))
    adapters = int(rng.integers(ADAPTERS[0], ADAPTERS[1] + 1))
    counts = 1 + rng.multinomial(adapters - classes, np.full(classes, 1 / classes))
    total = FULL_RATE * rng.integers(GPUS[0], GPUS[1] + 1) * rng.uniform(*FILL)
    relative = np.exp(rng.uniform(0, np.log(UNEVEN), classes))
    rates = (relative * total / (relative @ counts)).round(2)
    ranks = rng.choice(RANKS, classes)
    fixed = [f"name=seed_{seed}", f"seed={seed}", "objective=gpus"]
    template = scenarios.read(TEMPLATE, overrides=[*overrides, *fixed])
    entries = [
        {"name": f"class{c}", "count": int(n), "rank": int(r), "rate": float(rate)}
        for c, (n, r, rate) in enumerate(zip(counts, ranks, rates, strict=True))
    ]
    return scenarios.from_mapping(template.model_dump(mode="json") | {"adapters": entries})


def splits(total: Counts, parts: int, most: Counts | None = None) -> Iterator[tuple[Counts, ...]]:
    """Yield every way to deal items to so many alike parts, none of them empty, the largest first."""
    if parts == 1:
        if any(total) and (most is None or total <= most):
            yield (total,)
        return
    for first in product(*(range(n + 1) for n in total)):
        if any(first) and (most is None or first <= most):
            rest = tuple(a - b for a, b in zip(total, first, strict=True))
            for others in splits(rest, parts - 1, first):
                yield first, *others


@dataclass(eq=False)
class Enumeration:
    """What the twin allows of an instance."""

    scenario: Scenario
    judge: TwinJudge

    def __post_init__(self) -> None:
        self.classes = self.scenario.classes
        self.total: Counts = tuple(one.count for one in self.classes)
        self.ranks = sorted({scenarios.padded_rank(one.rank) for one in self.classes})
        self.accepts = cache(self._accepts)
        self.dealt = cache(self._dealt)
        self.largest = dict.fromkeys(self.ranks, 0.0)

    def fits(self, rank: int, counts: Counts) -> bool:
        """Whether slots of a rank hold all adapters."""
        return all(one.rank <= rank for one, n in zip(self.classes, counts, strict=True) if n)

    def _accepts(self, rank: int, counts: Counts) -> bool:
        """The twin's word on a content with slots of a rank."""
        if not any(counts):
            return True
        if not self.fits(rank, counts):
            return False
        held = tuple((one.kind, n) for one, n in zip(self.classes, counts, strict=True) if n)
        option = EngineOption(self.scenario.devices[0].name, sum(self.total), rank)
        return self.judge([GPUContent(option, held)])[0].accepted

    def _dealt(self, given: Counts, gpus: tuple[tuple[int, Counts], ...]) -> bool:
        """Whether items can be dealt to GPUs so that the twin accepts all."""
        if not gpus:
            return not any(given)
        (rank, own), rest = gpus[0], gpus[1:]
        for more in product(*(range(n + 1) for n in given)):
            left = tuple(a - b for a, b in zip(given, more, strict=True))
            if (
                self.fits(rank, more)
                and self.accepts(rank, tuple(a + b for a, b in zip(own, more, strict=True)))
                and self.dealt(left, rest)
            ):
                return True
        return False

    def fewest(self) -> int | None:
        """Fewest GPUs without spare."""
        return self._first(lambda plan: all(self.accepts(rank, own) for rank, own in plan), 1)

    def fewest_live(self, first: int) -> int | None:
        """Fewest GPUs with which the loss of any one is taken by the engines that run."""
        return self._first(self._holds, first)

    def _holds(self, plan: tuple[tuple[int, Counts], ...]) -> bool:
        losses = ((plan[k][1], plan[:k] + plan[k + 1 :]) for k in range(len(plan)))
        return all(self.accepts(rank, own) for rank, own in plan) and all(
            self.dealt(lost, tuple(sorted(left))) for lost, left in losses
        )

    def _first(self, holds: object, first: int) -> int | None:
        """Fewest GPUs, from a number on, of a plan for which something holds."""
        for parts in range(first, MOST_GPUS + 1):
            for contents in splits(self.total, parts):
                ranks = [[r for r in self.ranks if self.fits(r, own)] for own in contents]
                for chosen in product(*ranks):
                    if holds(tuple(zip(chosen, contents, strict=True))):  # type: ignore[operator]
                        return parts
        return None


def learned(overrides: Sequence[str], workers: int) -> Mapping[str, Regions]:
    """The regions of the template, and so of all instances, which differ in ranks and rates alone."""
    template = scenarios.read(TEMPLATE, overrides=overrides)
    return learned_regions(TwinJudge(template, twin.profiles_of(template), workers))


def measure(seed: int, arguments: argparse.Namespace) -> tuple[str, int] | None:
    """Solve and enumerate one instance: what is said of it, and how many answers are not the twin's."""
    scenario = instance_scenario(seed, arguments.set)
    truth = Enumeration(scenario, TwinJudge(scenario, twin.profiles_of(scenario), arguments.workers))
    plain = truth.fewest()
    if plain is None or plain >= MOST_GPUS:
        return None
    live = truth.fewest_live(plain + 1)
    said, missed = [], 0
    for recovery, optimum in (("live", live), ("restart", plain + 1)):
        began = time.process_time()
        result = optimizer.solve(
            scenario,
            objective="gpus",
            spare=1,
            recovery=recovery,
            gpus=MOST_GPUS + 1,
            time_limit_s=arguments.time_limit,
            workers=arguments.workers,
        )
        gpus = result.gpus if result.survival is not None and result.survival.holds else None
        # Engines with fewer slots, which are not enumerated, have more memory: a plan may be on fewer GPUs.
        missed += (gpus or MOST_GPUS + 2) > (optimum or MOST_GPUS + 1)
        said.append(
            f"{recovery} {gpus} of {optimum} (bound {result.survival and result.survival.bound}, "
            f"{time.process_time() - began:.1f} s)"
        )
    adapters = " ".join(f"{one.count}x{one.rate:g}/s r{one.rank}" for one in scenario.classes)
    return f"seed {seed}: {adapters}: without {plain}; {'; '.join(said)}", missed


def parse() -> argparse.Namespace:
    """Arguments of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", type=int, default=30, help="(default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="of the first instance (default: %(default)s)")
    parser.add_argument(
        "--set",
        action="append",
        default=None,
        help="override of the scenarios, KEY=VALUE (default: acceptance=paper, replications=1)",
    )
    parser.add_argument(
        "--time-limit", type=float, default=60.0, help="seconds per plan (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=2, help="threads (default: %(default)s)")
    arguments = parser.parse_args()
    arguments.set = arguments.set or ["acceptance=paper", "replications=1"]
    return arguments


def main() -> int:
    """Measure all instances and print how many answers are the twin's."""
    arguments, seed, done, missed = parse(), 0, 0, 0
    learned(arguments.set, arguments.workers)
    while done < arguments.instances:
        found = measure(arguments.seed + seed, arguments)
        seed += 1
        if found is not None:
            done, missed = done + 1, missed + found[1]
            print(f"{found[0]}{'  MISSED' if found[1] else ''}", flush=True)
    print(f"{2 * done - missed} of {2 * done} answers are the twin's optimum")
    return 0


if __name__ == "__main__":
    sys.exit(main())
