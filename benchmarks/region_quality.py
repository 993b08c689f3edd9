"""Quality of regions and surrogates against twin runs that shaped none of them, and the time they take.

    python -m benchmarks.region_quality [--scenario NAME ...] [--acceptance NAME] [--shipped]
        [--compositions N] [--keep FOLDER] [--measured FILE]

For each scenario: seconds and processor seconds from the profile to regions; errors of regions and
surrogates on a design drawn with another seed, all runs and those at random loads; capacity given away by
slots; how much the boundary of one and the same mix differs between seeds, which no row can know; and the
verdict on GPUs that are filled with the scenario's own adapters until the inner region holds no further one,
as the placers fill them. With a table of measured runs, and where arrivals are Poisson as theirs, surrogates,
twin and regions are held to it as well. With --shipped the regions are those that a plan of the scenario
uses, learned only where none are ready, and there are no surrogates.

Takes several minutes per scenario: the twin is sampled for the regions, and again for the test.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from joblib.externals.loky import get_reusable_executor
from numpy.typing import NDArray

import learn
from learn import PLANS, DesignSpace, OptionRows, Regions, Surrogate
from learn.boundaries.boundary import boundary_points
from learn.boundaries.boundary_search import BoundarySearch
from learn.design import TEST_SEED, assessment_plan, compositions
from learn.features import ADDITIVE
from learn.measured_evaluation import assess_measured, measured_text, read_results
from learn.region_store import space_of_shipped
from scenarios import ACCEPTANCES, Scenario, read
from twin import GPULoad, find_profile, judge

SCENARIOS = ("mixed_ranks", "paper_high_384_qwen", "unpredictable_load")
FULL = 0.97
"""GPUs filled less than this are not near the boundary."""

NOISE_MIXES, NOISE_SEEDS = 3, (1, 11, 12, 13)
"""Mixes per number of slots, and seeds of the twin, for the noise of a boundary."""

REPLICATIONS = 3
WORKERS = 2
FILLS = 80


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--scenario", action="append", help=f"shipped scenario, repeatable (default: {', '.join(SCENARIOS)})"
    )
    parser.add_argument(
        "--compositions", type=int, default=320, help="mixes of the test design (default: %(default)s)"
    )
    parser.add_argument(
        "--keep", type=Path, help="folder that keeps the test's twin runs for another time (default: none)"
    )
    parser.add_argument(
        "--acceptance", choices=ACCEPTANCES, help="when a GPU is accepted (default: the scenario's)"
    )
    parser.add_argument(
        "--shipped", action="store_true", help="the regions as they are shipped, and no surrogates"
    )
    parser.add_argument("--measured", type=Path, help="table of measured serving runs (default: none)")
    given = parser.parse_args()
    if given.measured is not None:
        read_results(given.measured)  # what is wrong with it is said before the work
    overrides = [] if given.acceptance is None else [f"acceptance={given.acceptance}"]
    for name in given.scenario or SCENARIOS:
        keep = None if given.keep is None else given.keep / name
        measure(read(name, overrides), given.compositions, keep, given.measured, shipped=given.shipped)


def measure(
    scenario: Scenario, compositions: int, keep: Path | None, measured: Path | None, *, shipped: bool
) -> None:
    """Print everything about one scenario."""
    device = scenario.devices[0]
    profile = find_profile(scenario.model, device.name)
    space = space_of_shipped(scenario, device, profile)
    print(f"== {scenario.name}, {space.acceptance}: {space.profile.name}, {len(space.options)} options")
    surrogates: list[Surrogate] = []
    if shipped:
        space = learn.space_for(scenario, device, profile)
        regions = learn.regions_for(scenario, device, profile, workers=WORKERS)
    else:
        regions, surrogates = made(space)
    plan = assessment_plan(PLANS[space.acceptance], compositions)
    test = learn.sample(space, plan, workers=WORKERS, directory=keep and keep / "test")
    quality = learn.assess(regions, surrogates, test, space)
    print(quality.text(), "\n")
    by_option = quality.regions[0].by_option
    away = by_option.pivot_table("capacity_given_away", "regime", "max_loras")
    print(f"capacity given away by slots:\n{away.round(3).to_string()}\n")
    print(
        "standard deviation between seeds of one mix's boundary, adapters sharing slots, relative, by slots:"
    )
    print(noise(test, space, plan).round(3).to_string(), "\n")
    if measured is not None and scenario.workload.arrivals.process == "poisson":
        print(measured_text(assess_measured(measured, surrogates, regions, space, workers=WORKERS)), "\n")
    placed = pd.DataFrame(filled(scenario, regions, space))
    print(f"{len(placed)} GPUs filled with {scenario.name}'s adapters; share that the twin rejects:")
    print(placed.groupby("regime")[["fill", "one run", "all of 3 runs"]].mean().round(4).to_string(), "\n")


def made(space: DesignSpace) -> tuple[Regions, list[Surrogate]]:
    """Regions and surrogates, with the time that the regions and the default surrogate take."""
    start, cpu = time.perf_counter(), cpu_s()
    searched, regions = learn.make_regions(space, overloads=False, workers=WORKERS)
    get_reusable_executor().shutdown(wait=True)  # what its processes took is known when they have ended
    print(
        f"{regions.provenance.runs} runs, both regions: {time.perf_counter() - start:.1f} s with {WORKERS} "
        f"processes, {cpu_s() - cpu:.1f} s of processor time"
    )
    train = learn.add_overloads(searched, space, PLANS[space.acceptance], workers=WORKERS)
    return regions, [learn.fit(train, method) for method in learn.METHODS]


def cpu_s() -> float:
    """Seconds of processor time of this process and of those that have ended."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def noise(test: learn.Dataset, space: DesignSpace, plan: learn.SamplingPlan) -> pd.DataFrame:
    """Least, mean and largest deviation over a few mixes, each searched under several seeds, by slots."""
    points = boundary_points(test)
    design = compositions(space, 0, int(points.composition.max()) + 1, plan.seed)
    rate = dict(zip(points.composition.tolist(), points.middle[:, ADDITIVE.index("rate")], strict=True))
    rows = []
    for slots in sorted({one.option.max_loras for one in design}):
        mixes = [one for one in design if one.shared and one.option.max_loras == slots and one.index in rate]
        for one in mixes[:NOISE_MIXES]:
            found = [
                BoundarySearch(space, replace(plan, seed=seed), one).bracket(rate[one.index], 0.1).boundary
                for seed in NOISE_SEEDS
            ]
            rows.append({"slots": slots, "deviation": np.std(np.log(found), ddof=1)})
    return pd.DataFrame(rows).groupby("slots")["deviation"].agg(["min", "mean", "max"]).T


def filled(scenario: Scenario, regions: Regions, space: DesignSpace) -> Iterator[dict[str, object]]:
    """Verdicts on GPUs filled at random until no further adapter of the scenario fits."""
    rng = np.random.default_rng(TEST_SEED)
    ranks = set(learn.needed_ranks(scenario))
    options = [o for o in regions.inner.options if o.max_lora_rank in ranks]
    found = 0
    for _ in range(40 * FILLS):
        option = options[rng.integers(len(options))]
        counts = fill(scenario, option, rng)
        if found >= FILLS or not works(scenario, option, counts):
            continue
        found += 1
        load = GPULoad.from_classes(scenario.classes, counts.tolist())
        seeds = rng.integers(2**31, size=REPLICATIONS)
        starved = [not accepted(space, option, load, int(seed)) for seed in seeds]
        yield {
            "regime": option.regime,
            "slots": option.max_loras,
            "fill": float(option.fill(counts @ learn.scenario_features(scenario, scenario.classes))),
            "one run": float(np.mean(starved)),
            "all of 3 runs": float(any(starved)),
        }


def fill(scenario: Scenario, option: OptionRows, rng: np.random.Generator) -> NDArray[np.int64]:
    """Adapters of each class: in a random order that prefers some classes, each taken if it fits."""
    classes, features = scenario.classes, learn.scenario_features(scenario, scenario.classes)
    number = np.array([c.count if c.rank <= option.max_lora_rank else 0 for c in classes])
    likes = rng.dirichlet(np.full(len(classes), 0.3)) + 1e-9
    pool = np.repeat(np.arange(len(classes)), number)
    order = (
        rng.permuted(pool)
        if not len(pool)
        else rng.choice(pool, len(pool), replace=False, p=likes[pool] / likes[pool].sum())
    )
    counts = np.zeros(len(classes), dtype=np.int64)
    for k in order:
        counts[k] += 1
        if not option.contains(counts @ features):
            counts[k] -= 1
    return counts


def works(scenario: Scenario, option: OptionRows, counts: NDArray[np.int64]) -> bool:
    """Whether the GPU is near its boundary, not just full of adapters, and in the regime of the rows."""
    sums = counts @ learn.scenario_features(scenario, scenario.classes)
    shared = counts.sum() > option.max_loras
    fills = option.fills(sums)  # of the inner region, whose last row is the number of adapters
    tight = fills[:-1].max() == fills.max() >= FULL
    return bool(tight and shared == (option.regime == "shared"))


def accepted(space: DesignSpace, option: OptionRows, load: GPULoad, seed: int) -> bool:
    """Verdict of one run of the twin."""
    return judge(
        load,
        space.workload,
        space.engine,
        space.profile,
        max_loras=option.max_loras,
        max_lora_rank=option.max_lora_rank,
        service_levels=space.service_levels,
        acceptance=space.acceptance,
        gpu_memory_gib=space.memory_gib,
        seed=seed,
        replications=1,
    ).accepted


if __name__ == "__main__":
    main()
