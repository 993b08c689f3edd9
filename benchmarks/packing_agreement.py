"""The optimum of random small problems by every exact placer and by brute force.

    python benchmarks/packing_agreement.py [--instances 500] [--first-seed 0]

Problems have one to three options with one to three rows, different prices, devices and limits, classes
that some options forbid, budgets, limits on bins, and cuts under random orders; a quarter each minimises
the price, the price with cuts, the worst and the mean latency (both with cuts half of the time). The
generator and the brute force are those of the tests, `tests/optimizer/conftest.py`.

Takes a minute or two of processor time; with --instances 40 some seconds.
"""

from __future__ import annotations

import argparse
import runpy
import time
from collections import Counter
from pathlib import Path

import numpy as np

from optimizer.packing import methods, pack
from optimizer.packing.model.problem import PackingProblem
from optimizer.packing.model.search_state import Status

CONFTEST = Path(__file__).parents[1] / "tests" / "optimizer" / "conftest.py"


def problem_of(tools: dict[str, object], seed: int) -> PackingProblem:
    """The seed's problem."""
    make = tools["_random_problem"]
    assert callable(make)
    objective = ("price", "price", "worst", "mean")[seed % 4]
    problem = make(seed, cuts=seed % 4 == 1 or seed % 8 >= 6, objective=objective)
    assert isinstance(problem, PackingProblem)
    return problem


def verdict(problem: PackingProblem, method: str, best: float) -> str:
    """What a method said, beside the optimum by brute force."""
    result = pack(problem, method, time_limit_s=60)
    if np.isinf(best):
        return "agrees" if result.status is Status.INFEASIBLE else f"says {result.status}, infeasible"
    if result.status is not Status.OPTIMAL or result.objective is None:
        return "open" if result.status is Status.FEASIBLE else f"says {result.status}, optimum {best:g}"
    agrees = abs(result.objective - best) <= 1e-6 * max(1.0, best)
    return "agrees" if agrees else f"{result.objective:g}, optimum {best:g}"


def main() -> None:
    """Print a table of verdicts, and every disagreement."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--instances", type=int, default=500, help="how many problems (default: %(default)s)")
    parser.add_argument(
        "--first-seed",
        type=int,
        default=0,
        help="seed of the first one; the others follow (default: %(default)s)",
    )
    given = parser.parse_args()
    tools = runpy.run_path(str(CONFTEST))
    exact = [m for m in methods().values() if m.exact]
    verdicts: dict[tuple[str, str], Counter[str]] = {}
    seconds: Counter[str] = Counter()
    for seed in range(given.first_seed, given.first_seed + given.instances):
        problem = problem_of(tools, seed)
        best = tools["_optimum"](problem)  # type: ignore[operator]
        for method in exact:
            if problem.objective not in method.objectives:
                continue
            started = time.process_time()
            said = verdict(problem, method.name, best)
            seconds[method.name] += time.process_time() - started
            if said not in ("agrees", "open"):
                print(f"seed {seed}, {problem.objective}, {method.name}: {said}", flush=True)
            short = said if said in ("agrees", "open") else "disagrees"
            verdicts.setdefault((method.name, problem.objective), Counter())[short] += 1
    print(f"{'method':10}{'objective':>10}{'agrees':>8}{'open':>6}{'disagrees':>11}")
    for (name, objective), said in sorted(verdicts.items()):
        print(f"{name:10}{objective:>10}{said['agrees']:>8}{said['open']:>6}{said['disagrees']:>11}")
    print("CPU seconds:", ", ".join(f"{name} {s:.0f}" for name, s in seconds.items()))


if __name__ == "__main__":
    main()
