"""How long a GPU of switched or bursty arrivals must be watched to find its boundary.

For each process the largest load that is accepted is found by the rule, with sets of seeds and each length of
measurement, and once by 8 runs of 24 hours on other seeds. Printed is the mean and the standard deviation of
the logarithm of the one over the other. All adapters of the GPU have slots; where they are of one group, they
are on and off together.

Takes about twenty minutes on two cores that others use too.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

import twin
from scenarios import (
    AdapterClass,
    Arrivals,
    EngineConfig,
    HyperexponentialArrivals,
    LognormalLengths,
    OnOffArrivals,
    ServiceLevelObjectives,
    UnpredictableArrivals,
    Workload,
)
from twin import Effort, GPULoad

ADAPTERS = 8
DAY_S = 86_400.0
FRESH = 1_000_003
"""Seed of the reference."""

SEEDS = 5
HOURS = (4, 8, 24)
EXACT = 0.005
"""Relative width at which bisection ends."""

STEP = 1.04
"""Factor by which a load is changed until the boundary is passed."""

ON_SHARE = 1 / 3
CYCLES_S = (10.0, 60.0, 120.0, 600.0, 3600.0)
# Means and standard deviations of the ShareGPT requests of the public measurements (arXiv 2508.08343).
PROMPT = LognormalLengths(mean=223, std=243, min=4, max=1024)
OUTPUT = LognormalLengths(mean=195, std=210, min=1, max=1024)
ENGINE = EngineConfig(max_num_seqs=16, max_num_batched_tokens=2048, max_model_len=4096)
PROFILE = twin.find_profile("llama-3.1-8b-instruct", "H100-64GB")


def processes() -> dict[str, Arrivals]:
    """The processes compared, by what they are called."""
    named: dict[str, Arrivals] = {
        f"hyperexponential, cv {cv}": HyperexponentialArrivals(cv=cv) for cv in (4, 8)
    }
    for cycle in CYCLES_S:
        on_s, off_s = ON_SHARE * cycle, (1 - ON_SHARE) * cycle
        named[f"on_off, {cycle:g} s"] = OnOffArrivals(on_s=on_s, off_s=off_s)
        named[f"on_off, {cycle:g} s, one group"] = OnOffArrivals(on_s=on_s, off_s=off_s, group="all")
    named["unpredictable"] = UnpredictableArrivals()
    named["unpredictable, one group"] = UnpredictableArrivals(group="all")
    return named


def boundary(arrivals: Arrivals, measured_s: float, runs: int, seed: int, guess: float) -> float:
    """Largest accepted rate of the GPU in requests/s."""
    names = tuple(f"{k}" for k in range(ADAPTERS))
    load = GPULoad.from_classes([AdapterClass(8, 1 / ADAPTERS, PROMPT, OUTPUT, names)])

    def accepted(rate: float) -> bool:
        return twin.judge(
            load.scaled(rate),
            Workload(arrivals=arrivals),
            ENGINE,
            PROFILE,
            max_loras=ADAPTERS,
            max_lora_rank=8,
            service_levels=ServiceLevelObjectives(),
            seed=seed,
            replications=runs,
            effort=Effort(measure_s=measured_s, wander_s=measured_s, longest_s=measured_s),
        ).accepted

    low = high = guess
    while not accepted(low):
        low, high = low / STEP, low
    while low == high or accepted(high):
        low, high = high, high * STEP
    while high / low > 1 + EXACT:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if accepted(middle) else (low, middle)
    return math.sqrt(low * high)


def main() -> None:
    """Print a row for each process."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.switched_rates",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--only", default="", help="processes whose name contains this text (default: all of them)"
    )
    only = parser.parse_args().only
    print(f"{'process':32} {'req/s':>6}" + "".join(f"{f'{hours} h':>18}" for hours in HOURS))
    for name, arrivals in processes().items():
        if only not in name:
            continue
        near = boundary(arrivals, 3600.0, 1, FRESH, 4.0)
        true = boundary(arrivals, DAY_S, 8, FRESH, near)
        cells = []
        for hours in HOURS:
            found = [boundary(arrivals, 3600.0 * hours, 3, seed, true) for seed in range(SEEDS)]
            errors = np.log(np.array(found) / true)
            cells.append(f"{100 * errors.mean():+.1f} % (sd {100 * errors.std(ddof=1):.1f})")
        print(f"{name:32} {true:6.2f}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


if __name__ == "__main__":
    main()
