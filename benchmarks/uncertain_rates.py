"""What the drawn corners of uncertain rates miss, and whether the adapter said to suffer first does.

    python -m benchmarks.uncertain_rates [corners] [shares] [first] [--gpus N] [--acceptance NAME]

All GPUs are random, of few slots, and at 80 to 100 % of the load that the twin accepts, with all rates high.

- *corners*: six adapters; the verdict at the drawn corners against all 64.
- *shares*: 20 to 80 adapters; how often a random corner is rejected by the share of adapters that are high.
- *first*: 8 to 40 adapters of known rates; whether `first_to_suffer` of verdicts at 90, 97 and 100 % of the
  accepted load is among those that a verdict names at 1 and 3 % more. Where it names all, nothing is learnt.

Takes a minute under *paper* and some ten minutes under *sustained*.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

import scenarios
import twin
from scenarios import AdapterKind, EngineOption, Scenario
from twin import GPUContent, TwinJudge

DEVICE, RANK = "H100-64GB", 32
SHARES = (0.025, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.9, 0.975)
PER_SHARE = 8
"""Corners of each share on each GPU."""

BEFORE, AFTER = (0.9, 0.97, 1.0), (1.0101, 1.03)
"""Of the accepted load, where it is asked who suffers first, and where who does."""


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parts = {"corners": drawn_against_all, "shares": by_share, "first": who_suffers}
    parser.add_argument("part", nargs="*", help=f"{', '.join(parts)} (default: all of them)")
    parser.add_argument("--gpus", type=int, default=40, help="random GPUs (default: %(default)s)")
    parser.add_argument(
        "--acceptance",
        choices=scenarios.ACCEPTANCES,
        default="sustained",
        help="by what GPUs are accepted (default: %(default)s)",
    )
    given = parser.parse_args()
    if unknown := set(given.part) - parts.keys():
        parser.error(f"there is no part {', '.join(sorted(unknown))}; choose from {', '.join(parts)}")
    for name in given.part or parts:
        print(f"{name}, {given.acceptance}:", parts[name](given.acceptance, given.gpus), flush=True)


def scenario_of(adapters: Sequence[dict[str, object]], acceptance: str, seed: int) -> Scenario:
    """A scenario of some adapters, with short runs under *paper*."""
    values: dict[str, Any] = {
        "name": "random", "model": "llama-3.1-8b-instruct", "adapters": adapters,
        "workload": {"prompt": 222, "output": 195, "duration_s": 900}, "devices": DEVICE,
        "acceptance": acceptance, "replications": 1, "seed": seed,
    }  # fmt: skip
    return scenarios.from_mapping(values)


def near_boundary(
    scenario: Scenario, slots: int, shares: Sequence[float], rng: np.random.Generator
) -> tuple[TwinJudge, GPUContent] | None:
    """A GPU with all adapters of a scenario at a share of the load that is accepted at high rates."""
    judge = TwinJudge(scenario, twin.profiles_of(scenario), workers=2)
    kinds = [one.kind for one in scenario.classes for _ in one.names]
    content = GPUContent.of(EngineOption(DEVICE, slots, RANK), kinds)
    (factor,) = judge.growth_factors([content.at_high])
    if factor is None:
        return None
    content = content.scaled(factor * float(rng.choice(shares)))
    return (judge, content) if judge([content.at_high])[0].accepted else None


def corner_of(content: GPUContent, high: Sequence[bool]) -> GPUContent:
    """A content with each of its adapters at its high or its low rate."""
    kinds = [kind.at(high=bool(up)) for kind, up in zip(kinds_of(content), high, strict=True)]
    return GPUContent.of(content.option, kinds).scaled(content.times)


def kinds_of(content: GPUContent) -> list[AdapterKind]:
    """Kinds of the adapters of a content, one by one."""
    return [kind for kind, number in content.held for _ in range(number)]


def asks(content: GPUContent) -> bool:
    """Whether anything is asked of a GPU."""
    return content.demand_tok_per_s > 0


def drawn_against_all(acceptance: str, gpus: int) -> dict[str, int]:
    """The verdict at the drawn corners of six adapters against all 64."""
    rng, said = np.random.default_rng(0), Counter[str]()
    for seed in range(gpus):
        adapters = []
        for k in range(6):
            high = float(rng.choice([0.02, 0.1, 0.5, 2.0, 6.0]))
            rate = {"low": high * float(rng.choice([0.0, 0.1, 0.5])), "high": high}
            adapters.append({"name": f"a{k}", "rank": int(rng.choice([8, 16, 32])), "rate": rate})
        scenario, slots = scenario_of(adapters, acceptance, seed), int(rng.integers(1, 5))
        found = near_boundary(scenario, slots, (0.999, 0.95, 0.8), rng)
        if found is None:
            continue
        judge, content = found
        every = [corner_of(content, high) for high in product((True, False), repeat=6)]
        rejected = sum(not verdict.accepted for verdict in judge([one for one in every if asks(one)]))
        said["accepted at high"] += 1
        said["corners"] += len(every)
        said["rejected corners"] += rejected
        said["rejected at a corner"] += rejected > 0
        said["of these accepted at those drawn"] += rejected > 0 and judge([content])[0].accepted
    return dict(said)


def by_share(acceptance: str, gpus: int) -> dict[float, str]:
    """Share of random corners that are rejected, by the share of adapters that are high."""
    rng = np.random.default_rng(1)
    rejected: dict[float, list[bool]] = {share: [] for share in SHARES}
    for seed in range(gpus):
        count = int(rng.choice([5, 10, 20]))
        adapters = []
        for k in range(4):
            high = float(rng.choice([0.05, 0.2, 0.5, 1.0]))
            rate = {"low": high * float(rng.choice([0.0, 0.05, 0.2])), "high": high}
            adapters.append({"name": f"a{k}", "count": count, "rank": int(rng.choice([8, 16])), "rate": rate})
        scenario, slots = scenario_of(adapters, acceptance, seed), int(rng.choice([2, 4, 8]))
        found = near_boundary(scenario, slots, (0.999, 0.95), rng)
        if found is None:
            continue
        judge, content = found
        for share, verdicts in rejected.items():
            drawn = rng.random((PER_SHARE, 4 * count)) < share
            corners = [corner for high in drawn if asks(corner := corner_of(content, list(high)))]
            verdicts += [not verdict.accepted for verdict in judge(corners)]
    return {share: f"{sum(said)} of {len(said)}" for share, said in rejected.items()}


def who_suffers(acceptance: str, gpus: int) -> dict[str, object]:
    """How often the adapter that is said to suffer first does, and how often a random one would."""
    rng, hits, number, chance = np.random.default_rng(2), Counter[float](), 0, 0.0
    for seed in range(gpus):
        count = int(rng.choice([8, 20, 40]))
        adapters: list[dict[str, object]] = [
            {
                "name": f"a{k}",
                "rank": int(rng.choice([8, 16, 32])),
                "rate": float(rng.choice([0.02, 0.05, 0.2, 0.5, 1.0])),
                "prompt": int(rng.choice([100, 222, 800])),
            }
            for k in range(count)
        ]
        found = near_boundary(
            scenario_of(adapters, acceptance, seed), int(rng.choice([4, 8, 64])), (1.0,), rng
        )
        if found is None:
            continue
        judge, content = found
        named = set(_named(judge, content))
        if not 0 < len(named) < count:
            continue
        number, chance = number + 1, chance + len(named) / count
        for share in BEFORE:
            (verdict,) = judge([content.scaled(share)])
            hits[share] += verdict.first_to_suffer in named
    return {"GPUs": number, "right at": dict(hits), "right by chance": round(chance, 1)}


def _named(judge: TwinJudge, content: GPUContent) -> Iterator[str]:
    for verdict in judge([content.scaled(factor) for factor in AFTER]):
        for violation in verdict.violations:
            yield from (adapter.name for adapter in violation.adapters)


if __name__ == "__main__":
    main()
