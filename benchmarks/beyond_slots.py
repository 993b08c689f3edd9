"""How much the twin accepts where adapters are a few more than slots, over what the outer rows let in.

    python benchmarks/beyond_slots.py [--scenario NAME] [--slots N ...] [--rank R]

Of alike adapters, as many as slots, one and two more, and up to a quarter more: the largest load that the
twin accepts, by halvings from below the inner edge to beyond the outer one, and its share of the outer edge
of the option itself. Above 1 the option's own rows let in too little, which bounds allow for
(`learn.FeasibilityRegion.bounding`). By the scenario's criterion, on shipped regions.

Takes about a minute for all slots.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence

import learn
import scenarios
from learn.boundaries.boundary_map import Edge
from scenarios import EngineOption, Scenario
from twin import GPUContent, TwinJudge, profiles_of

SLOTS = (16, 32, 64, 128)
LOWEST, HIGHEST = 0.7, 1.3
"""Loads between which the twin is asked: as shares of the inner and of the outer edge."""

HALVINGS = 6


def counts_of(slots: int) -> Sequence[int]:
    """Numbers of adapters, from the slots to a quarter more."""
    more = (0, 1, 2, math.ceil(slots / 16), math.ceil(slots / 8), math.ceil(slots / 4))
    return sorted({slots + n for n in more})


def accepted_rate(scenario: Scenario, judge: TwinJudge, option: EngineOption, edge: Edge) -> float:
    """The largest total rate in requests/s that the twin accepts of alike adapters; nan if not the lowest."""
    fitting = (one for one in scenario.classes if 0 < one.rank <= option.max_lora_rank)
    kind = max(fitting, key=lambda one: one.count).kind  # as `boundary_map` takes them

    def accepts(rate: float) -> bool:
        held = (kind._replace(rate=rate / edge.adapters), edge.adapters)
        return judge([GPUContent(option, (held,))])[0].accepted

    low, high = LOWEST * edge.inner, HIGHEST * edge.outer
    if not accepts(low):
        return math.nan
    for _ in range(HALVINGS):
        middle = math.sqrt(low * high)
        low, high = (middle, high) if accepts(middle) else (low, middle)
    return low


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--scenario", default="mixed_ranks", metavar="NAME", help="(default: mixed_ranks)")
    numbers = f"numbers of slots (default: {' '.join(map(str, SLOTS))})"
    parser.add_argument("--slots", type=int, nargs="*", default=SLOTS, metavar="N", help=numbers)
    parser.add_argument("--rank", type=int, default=8, metavar="R", help="rank of the slots (default: 8)")
    given = parser.parse_args()
    scenario = scenarios.read(given.scenario)
    judge = TwinJudge(scenario, profiles_of(scenario))
    print(f"{scenario.name}, {scenario.acceptance}, {scenario.devices[0].name}, slots of rank {given.rank}")
    print("slots adapters  inner req/s  outer req/s  twin req/s  twin/outer")
    for slots in given.slots:
        option = EngineOption(scenario.devices[0].name, slots, given.rank)
        for edge in learn.boundary_map(scenario, slots, given.rank, counts_of(slots)).edges:
            rate = accepted_rate(scenario, judge, option, edge)
            row = f"{slots:5} {edge.adapters:8} {edge.inner:12.2f} {edge.outer:12.2f} {rate:11.2f}"
            print(f"{row} {rate / edge.outer:11.2f}", flush=True)


if __name__ == "__main__":
    main()
