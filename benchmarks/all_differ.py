"""Plans of adapters that all differ: own rate, own lengths, three ranks; seconds, GPUs, bound, gap, memory.

    python -m benchmarks.all_differ [--adapters N ...] [--methods METHOD ...] [--acceptance NAME]
                                    [--limit SECONDS] [--write FILE]

Each scenario is drawn by its seed: ranks 8, 16 and 32, rates log-uniform over the paper's mixed range, mean
prompts log-uniform from 64 to 640 tokens, mean answers from 32 to 320. Eight adapters stand where a design
looks for lengths and have the same in all scenarios, so that one region serves all of a criterion: it is
learned first, which takes minutes once. "prepared" is what comes before the search, the region too where it
is not cached yet; "wall" and "cpu" are all of it. Most of it are verdicts of the twin, by *sustained* half a
second of one core each. After the figures stands why a gap is open. With ``--write`` the first scenario is
written and nothing solved.

Takes some ten minutes with the defaults, and minutes of learning the first time.
"""

from __future__ import annotations

import argparse
import json
import resource
import time
from pathlib import Path
from typing import Any, get_args

import numpy as np

import optimizer
import scenarios
from scenarios import Scenario

SHIPPED = Path(scenarios.__file__).parent

RATES = (0.0375, 0.6)
"""Requests/s of an adapter, least and most, as in the paper's mixed sets."""

PROMPTS = (64.0, 640.0)
ANSWERS = (32.0, 320.0)
"""Mean tokens, least and most; their standard deviation is half of it."""

RUNGS = (0.5, 1.0, 0.0, 0.7, 0.2, 0.9, 0.3, 0.6)
"""Where between the least and the most prompt those eight adapters are, the shortest answer first."""

LIMITS_S = {1_000: 60.0, 10_000: 120.0, 100_000: 600.0, 250_000: 1200.0}
"""Time limit for scenarios of so many adapters and fewer."""


def differing(adapters: int, seed: int) -> Scenario:
    """A scenario of so many adapters that all differ."""
    draw = np.random.default_rng(seed)
    ranks = draw.choice([8, 16, 32], adapters)
    rates, prompts = _spread(draw.uniform(size=adapters), *RATES), draw.uniform(size=adapters)
    answers, rungs = _laddered(draw, adapters)
    prompts[rungs] = RUNGS
    prompts, answers = (_spread(x, *span).round(3) for x, span in ((prompts, PROMPTS), (answers, ANSWERS)))
    prompts[rungs], answers[rungs] = prompts[rungs].round(1), answers[rungs].round(1)
    order = draw.permutation(adapters)
    base = scenarios.read(SHIPPED / "paper_mixed_384.yaml").model_dump(mode="json")
    width = len(str(adapters))
    base["adapters"] = [
        {
            "name": f"adapter-{k:0{width}d}",
            "rank": int(ranks[k]),
            "rate": round(float(rates[k]), 6),
            "prompt": _lengths(float(prompts[order[k]])),
            "output": _lengths(float(answers[order[k]])),
        }
        for k in range(adapters)
    ]
    base["devices"][0]["count"] = adapters
    base["name"] = f"all-differ-{adapters}"
    return scenarios.from_mapping(base)


def _laddered(draw: np.random.Generator, number: int) -> tuple[Any, Any]:
    """Positions between 0 and 1, ascending, and the indices of the eight that are always the same."""
    rungs = np.linspace(0, number - 1, len(RUNGS)).round().astype(int)
    fixed = np.linspace(0.0, 1.0, len(RUNGS))
    positions = np.zeros(number)
    for k in range(len(RUNGS) - 1):
        between = draw.uniform(fixed[k] + 4e-3, fixed[k + 1] - 4e-3, rungs[k + 1] - rungs[k] - 1)
        positions[rungs[k] + 1 : rungs[k + 1]] = np.sort(between)
    positions[rungs] = fixed
    return positions, rungs


def _spread(positions: Any, low: float, high: float) -> Any:
    """Log-uniform values at positions between 0 and 1."""
    return np.exp(np.log(low) + positions * np.log(high / low))


def _lengths(mean: float) -> dict[str, Any]:
    return {"distribution": "lognormal", "mean": mean, "std": round(mean / 2, 2), "max": 2048}


def main() -> None:
    """Print one line per number of adapters and method."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--adapters", nargs="+", type=int, default=[500, 1_000, 2_000, 10_000], help="(default: %(default)s)"
    )
    parser.add_argument("--methods", nargs="+", default=["exact"], help="(default: %(default)s)")
    parser.add_argument(
        "--acceptance", choices=get_args(scenarios.Acceptance), help="(default: the scenarios', sustained)"
    )
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--limit", type=float, help="seconds (default: by the number of adapters)")
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument(
        "--write", type=Path, help="write the first scenario as JSON, and solve nothing (default: none)"
    )
    args = parser.parse_args()
    if args.write is not None:
        text = json.dumps(differing(args.adapters[0], args.seed).model_dump(mode="json"))
        args.write.write_text(text)
        return
    print("adapters method       prepared    wall     cpu  GPUs bound outer    gap  accepted  GiB")
    for adapters in args.adapters:
        for method in args.methods:
            report(differing(adapters, args.seed), method, args.limit, args.workers, args.acceptance)


def report(
    scenario: Scenario, method: str, limit: float | None, workers: int, acceptance: str | None
) -> None:
    """Solve and print."""
    n = scenario.n_adapters
    seconds = limit or next(s for most, s in LIMITS_S.items() if n <= most)
    cpu = time.process_time()
    result = optimizer.solve(
        scenario, method, objective="gpus", time_limit_s=seconds, workers=workers, acceptance=acceptance
    )
    cpu = time.process_time() - cpu
    gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    accepted = "no" if result.validation is None else "yes" if result.validation.accepted else "REJECTED"
    figures = [_figure(value) for value in (result.gpus, result.bound, result.outer_bound)]
    gap = "-" if result.gap is None else f"{result.gap:.2%}"
    print(
        f"{n:8} {method:12} {result.preparation_seconds:8.1f} {result.seconds:7.1f} {cpu:7.1f} "
        f"{' '.join(figures)} {gap:>6}  {accepted:8} {gib:4.2f}  {result.status}: {result.message}",
        flush=True,
    )


def _figure(value: float | None) -> str:
    return f"{'-' if value is None else format(value, '.0f'):>5}"


if __name__ == "__main__":
    main()
