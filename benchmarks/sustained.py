"""Shows that the criterion *sustained* tells who keeps up: against runs of days that no verdict saw.

Four demonstrations, one after the other unless named:

duration    the verdicts on GPUs do not depend on the workload's duration_s: the same bytes
boundary    GPUs of five kinds, loaded up to 10 % below and above their own boundary, against 8 runs of 24
            hours on fresh seeds: how often the verdict is the same, and whether any GPU that is accepted with
            the default headroom has too many late requests there
plans       every GPU of accepted plans against the same reference, at its real load
hours       what plans of the fewest GPUs by each criterion serve within 1, 2, 4 and 8 hours

Takes about half an hour on two cores for the second, a few minutes for the others.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from joblib import Parallel, delayed

import optimizer
import scenarios
import twin
from scenarios import (
    EngineConfig,
    LognormalLengths,
    PoissonArrivals,
    ServiceLevelObjectives,
    UnpredictableArrivals,
    Workload,
)
from twin import FULL, Effort, GPULoad, GPUVerdict

DAY_S = 86_400.0
REFERENCE = Effort(settle_s=1800.0, measure_s=DAY_S, requests=1, longest_s=DAY_S, wander_s=DAY_S)
REFERENCE_RUNS = 8
FRESH = 1_000_003
"""Seeds of the reference begin here; no verdict of a plan has them."""

NEAR = 0.1
"""Largest logarithm of a load over its boundary."""

CLEAR = 0.03
"""Distance from the boundary from which on chance should not matter."""

HEADROOM = 0.05
LEVELS = ServiceLevelObjectives()
HELD = ("mixed_ranks", "paper_high_32", "paper_high_128", "paper_mixed_384", "paper_high_384")
PLANS = ("mixed_ranks", "paper_high_128", "paper_mixed_384")
# Means and standard deviations of the ShareGPT requests of the public measurements (arXiv 2508.08343).
PROMPT = LognormalLengths(mean=223, std=243, min=4, max=1024)
OUTPUT = LognormalLengths(mean=195, std=210, min=1, max=1024)


@dataclass(frozen=True)
class Case:
    """A GPU: its adapters at a total of one request per second, its slots and its arrivals."""

    kind: str
    number: int
    load: GPULoad
    max_loras: int
    workload: Workload

    def judged(
        self, rate: float, *, effort: Effort = FULL, runs: int = 3, seed: int = 0, headroom: float = 0.0
    ) -> GPUVerdict:
        """The verdict at a total rate in requests/s."""
        return twin.judge(
            self.load.scaled(rate),
            self.workload,
            ENGINE,
            PROFILE,
            max_loras=self.max_loras,
            max_lora_rank=int(self.load.rank.max()),
            service_levels=LEVELS,
            headroom=headroom,
            seed=seed,
            replications=runs,
            effort=effort,
        )


ENGINE = EngineConfig(max_num_seqs=2048, max_num_batched_tokens=2048, max_model_len=16_384)
PROFILE = twin.find_profile("llama-3.1-8b-instruct", "H100-64GB")


def cases(each: int) -> Iterator[Case]:
    """So many GPUs of each kind, always the same."""
    for k, kind in enumerate(KINDS):
        for number in range(each):
            yield KINDS[kind](kind, number, np.random.default_rng((7, k, number)))


def _case(
    kind: str,
    number: int,
    rng: np.random.Generator,
    n: int,
    slots: int,
    skew: float,
    *,
    unpredictable: bool = False,
) -> Case:
    weight = np.exp(skew * rng.standard_normal(n))
    arrivals = UnpredictableArrivals() if unpredictable else PoissonArrivals()
    load = GPULoad(
        names=tuple(f"a{i}" for i in range(n)),
        rank=np.full(n, rng.choice([8, 16]), dtype=np.int32),
        rate=weight / weight.sum(),
        prompt=(PROMPT,) * n,
        output=(OUTPUT,) * n,
    )
    return Case(kind, number, load, slots, Workload(arrivals=arrivals, prompt=PROMPT, output=OUTPUT))


def _resident_hot(kind: str, number: int, rng: np.random.Generator) -> Case:
    n = int(rng.integers(4, 25))
    return _case(kind, number, rng, n, n, 0.5)


def _resident_many(kind: str, number: int, rng: np.random.Generator) -> Case:
    n = int(rng.integers(96, 193))
    return _case(kind, number, rng, n, n, 1.0)


def _six_a_slot(kind: str, number: int, rng: np.random.Generator) -> Case:
    slots = int(rng.choice([16, 32, 64]))
    return _case(kind, number, rng, 6 * slots, slots, 0.0)


def _three_a_slot(kind: str, number: int, rng: np.random.Generator) -> Case:
    slots = int(rng.choice([16, 32, 64, 96]))
    return _case(kind, number, rng, 3 * slots, slots, 1.0)


def _unpredictable(kind: str, number: int, rng: np.random.Generator) -> Case:
    slots = int(rng.choice([32, 64]))
    return _case(kind, number, rng, int(slots * rng.choice([1, 2])), slots, 0.5, unpredictable=True)


KINDS: dict[str, Callable[[str, int, np.random.Generator], Case]] = {
    "resident, hot": _resident_hot,
    "resident, many": _resident_many,
    "six cold a slot": _six_a_slot,
    "three a slot, mixed": _three_a_slot,
    "unpredictable": _unpredictable,
}


def boundary_of(case: Case) -> float:
    """Total rate in requests/s up to which the full rule accepts a GPU, to 1 %."""
    low, high, rate = 0.0, math.inf, 4.0
    while math.isinf(high) or low == 0.0 or high > 1.01 * low:
        if case.judged(rate).accepted:
            low = rate
        else:
            high = rate
        rate = 2 * low if math.isinf(high) else high / 2 if low == 0.0 else math.sqrt(low * high)
    return math.sqrt(low * high)


@dataclass(frozen=True)
class Outcome:
    """What was said of a GPU at a load, and what the reference says."""

    kind: str
    distance: float
    plain: GPUVerdict
    careful: GPUVerdict
    reference: GPUVerdict


def tried(case: Case) -> Outcome:
    """A GPU at a load near its boundary, by the rule without and with headroom, and by the reference."""
    distance = float(np.random.default_rng((8, case.number, len(case.load.names))).uniform(-NEAR, NEAR))
    rate = boundary_of(case) * math.exp(distance)
    return Outcome(
        case.kind,
        distance,
        case.judged(rate),
        case.judged(rate, headroom=HEADROOM),
        case.judged(rate, effort=REFERENCE, runs=REFERENCE_RUNS, seed=FRESH + case.number),
    )


def show_boundary(each: int, workers: int) -> None:
    """Verdicts near the boundary against the reference."""
    started = time.monotonic()
    outcomes = Parallel(n_jobs=workers, return_as="list")(delayed(tried)(case) for case in cases(each))
    print(
        "kind                  GPUs  same verdict  of those 3 % away  accepted with headroom  of these late"
    )
    for kind in (*KINDS, "all"):
        of = [o for o in outcomes if kind in (o.kind, "all")]
        clear = [o for o in of if abs(o.distance) > CLEAR]
        same, clearly = (sum(o.plain.accepted == o.reference.accepted for o in part) for part in (of, clear))
        careful = [o for o in of if o.careful.accepted]
        late = sum(late_share(o.reference) > LEVELS.late_share for o in careful)
        print(
            f"{kind:20}  {len(of):4}  {same:5} {same / len(of):6.1%}  {clearly:6} of {len(clear):4} "
            f"{clearly / max(len(clear), 1):6.1%}  {len(careful):22}  {late:13}"
        )
    print(f"{len(outcomes)} GPUs in {time.monotonic() - started:,.0f} s")


def late_share(verdict: GPUVerdict) -> float:
    """Share of late requests; 1 where nothing ran."""
    share = None if verdict.sustained is None else verdict.sustained.late_share
    return 1.0 if share is None else share


def show_duration(workers: int) -> None:
    """The same verdicts whatever duration_s says."""
    said = set()
    for duration in (900, 3600, 7200, 28_800):
        scenario = scenarios.read("mixed_ranks", f"workload.duration_s={duration}")
        placement = optimizer.solve(scenario, "bfd", objective="gpus", workers=workers).placement
        assert placement is not None
        report = twin.validate(scenario, placement, workers=workers)
        said.add(report.to_json())
        print(f"duration_s {duration:6,}: {report.headline}, {len(report.to_json()):,} bytes")
    print("the same bytes" if len(said) == 1 else "THE BYTES DIFFER")


def show_plans(workers: int) -> None:
    """Every GPU of accepted plans, at its real load, against the reference."""
    print("scenario            GPUs  accepted  largest late share  largest p99 TTFT s  of the reference")
    for name in PLANS:
        scenario = scenarios.read(name)
        result = optimizer.solve(scenario, objective="gpus", workers=workers)
        assert result.placement is not None
        judge = twin.PlacementJudge(twin.TwinJudge(scenario, twin.profiles_of(scenario)))
        contents = {judge.content(gpu)[0] for gpu in result.placement.gpus}
        jobs = (delayed(reference_of)(scenario, content) for content in sorted(contents, key=repr))
        verdicts = Parallel(n_jobs=workers, return_as="list")(jobs)
        print(
            f"{name:18}  {len(result.placement.gpus):4}  {result.accepted!s:8}  "
            f"{max(map(late_share, verdicts)):18.3%}  "
            f"{max(v.ttft_p99_ms or math.inf for v in verdicts) / 1e3:18.2f}"
        )


def show_hours(workers: int) -> None:
    """Plans by both criteria, each judged by longer and longer runs from an empty engine."""
    print("scenario            criterion  GPUs  hours: 1, 2, 4, 8: least served share  largest mean TTFT s")
    for name in HELD:
        for acceptance in scenarios.ACCEPTANCES:
            scenario = scenarios.read(name, f"acceptance={acceptance}")
            placement = optimizer.solve(scenario, objective="gpus", workers=workers).placement
            assert placement is not None
            shares, waits = [], []
            for hours in (1, 2, 4, 8):
                longer = scenarios.read(name, ["acceptance=paper", f"workload.duration_s={3600 * hours}"])
                verdicts = twin.validate(longer, placement, workers=workers).gpus
                shares.append(f"{min(v.served_share for v in verdicts):6.3f}")
                waits.append(f"{max(v.ttft_ms or 0.0 for v in verdicts) / 1e3:8.2f}")
            print(
                f"{name:18}  {acceptance:9}  {len(placement.gpus):4}  {' '.join(shares)}  {' '.join(waits)}"
            )


def reference_of(scenario: scenarios.Scenario, content: twin.GPUContent) -> GPUVerdict:
    """What the reference says of a GPU at its real load."""
    device = next(d for d in scenario.devices if d.name == content.option.device)
    return twin.judge(
        content.load,
        scenario.workload,
        scenario.engine,
        twin.profiles_of(scenario)[device.name],
        max_loras=content.option.max_loras,
        max_lora_rank=content.option.max_lora_rank,
        service_levels=scenario.service_levels,
        gpu_memory_gib=device.memory_gib,
        seed=FRESH,
        replications=REFERENCE_RUNS,
        effort=REFERENCE,
    )


def main() -> None:
    """Show what was asked for."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    shows = ("duration", "boundary", "plans", "hours")
    parser.add_argument(
        "show", nargs="*", choices=(*shows, []), help=f"{', '.join(shows)}; default: all three"
    )
    parser.add_argument("--each", type=int, default=40, help="GPUs of each of the five kinds (default: 40)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: 2)")
    given = parser.parse_args()
    if unknown := set(given.show) - set(shows):
        parser.error(f"{', '.join(sorted(unknown))} is not to be shown; choose from {', '.join(shows)}")
    for show in given.show or shows:
        print(f"== {show}")
        if show == "duration":
            show_duration(given.workers)
        elif show == "boundary":
            show_boundary(given.each, given.workers)
        elif show == "plans":
            show_plans(given.workers)
        else:
            show_hours(given.workers)


if __name__ == "__main__":
    main()
