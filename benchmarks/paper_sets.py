"""The paper's workloads: GPUs of the greedy as published against those of the exact placer.

Sets high, mixed and low of arXiv 2602.24044 on 32 to 1,024 adapters of ranks 8, 16 and 32, for both models.
The greedy is asked twice: with the linear region's rows as its model of the GPU (``greedy``), and, nearer to
the paper, with a forest fitted to twin runs (``proposed``; the runs are sampled once and cached, which takes
minutes). Every plan is judged by the twin. Run from the repository's root::

    python -m benchmarks.paper_sets --csv paper_sets.csv
    python -m benchmarks.paper_sets --sets high --models llama --counts 128,256 --methods proposed,exact

Rows are written as they come; with the same ``--csv`` a run that was stopped goes on where it was.

Takes hours with the defaults: at most two minutes of search for each of 108 plans, after minutes of sampling
for each model and set. Begin with one of each: --sets mixed --models llama --counts 32.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pandas as pd

import optimizer
import scenarios
from scenarios import write_whole
from scenarios.text.tables import render, table

RATES = {
    "high": (2.4, 1.2, 0.6, 0.3, 0.15),
    "mixed": (0.6, 0.3, 0.15, 0.075, 0.0375),
    "low": (0.075, 0.0375, 0.01875, 0.009375, 0.0046875),
}
"""Requests/s, dealt round-robin over the adapters."""

TEMPLATES = {"llama": "paper_high_128", "qwen": "paper_high_128_qwen"}
"""Shipped scenarios whose engine, lengths and device are used."""

COUNTS = (32, 64, 128, 256, 512, 1024)
METHODS = ("greedy", "proposed", "exact")
KEY = ["model", "set", "adapters", "method"]


def paper_scenario(model: str, rates: str, count: int, replications: int) -> scenarios.Scenario:
    """One workload of the paper."""
    changes = [
        f"name=paper_{rates}_{count}_{model}",
        f"adapters[0].count={count}",
        f"adapters[0].rate=[{', '.join(map(str, RATES[rates]))}]",
        f"replications={replications}",
    ]
    return scenarios.read(TEMPLATES[model], overrides=changes)


def cases(arguments: argparse.Namespace) -> Iterator[tuple[str, str, int, str]]:
    """Model, set, adapters and method of every row, small workloads first."""
    for count in arguments.counts:
        for model in arguments.models:
            for rates in arguments.sets:
                for method in arguments.methods:
                    yield model, rates, count, method


def measure(case: tuple[str, str, int, str], arguments: argparse.Namespace) -> dict[str, object]:
    """Solve one case."""
    model, rates, count, method = case
    scenario = paper_scenario(model, rates, count, arguments.replications)
    cpu = time.process_time()
    result = optimizer.solve(scenario, method, time_limit_s=arguments.time_limit, workers=arguments.workers)
    return {
        **dict(zip(KEY, case, strict=True)),
        "gpus": result.gpus,
        "accepted": result.accepted,
        "status": result.status,
        "bound": result.bound,
        "outer_bound": result.outer_bound,
        "seconds": round(result.seconds, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "message": result.message,
    }


def report(rows: pd.DataFrame, methods: list[str]) -> str:
    """GPUs per workload, and what the exact placer saves against each greedy."""
    wide = rows.pivot_table(index=["model", "set", "adapters"], columns="method", values="gpus")
    wide = wide.reindex(columns=list(dict.fromkeys((*methods, *METHODS))))
    accepted = rows.pivot_table(index=["model", "set", "adapters"], columns="method", values="accepted")
    greedy = [m for m in methods if m != "exact" and wide[m].notna().any()]
    lines = []
    for key, row in wide.iterrows():
        cells: list[object] = list(key) if isinstance(key, tuple) else [key]
        for method in [*greedy, "exact"]:
            good = bool(accepted.loc[key].get(method, 0))
            cells.append(
                None if row.get(method) != row.get(method) else f"{row[method]:.0f}{'' if good else ' !'}"
            )
        saved = [1 - row["exact"] / row[m] for m in greedy]
        cells += [None if s != s else f"{s:.0%}" for s in saved]
        lines.append(cells)
    heads = [
        "model",
        "set",
        ">adapters",
        *(f">{m}" for m in [*greedy, "exact"]),
        *(f">saved to {m}" for m in greedy),
    ]
    parts: list[object] = [table(heads, lines)]
    for method in greedy:
        both = wide[[method, "exact"]].dropna().reset_index()
        for name, group in both.groupby("set"):
            mean = float((1 - group["exact"] / group[method]).mean())
            total = 1 - group["exact"].sum() / group[method].sum()
            worse = int((group["exact"] > group[method]).sum())
            parts.append(
                f"{name}, against {method}: {mean:.1%} fewer GPUs on the mean of {len(group)} workloads, "
                f"{total:.1%} in sum; more on {worse}"
            )
    exact = rows[rows["method"] == "exact"]
    parts.append(
        f"exact: {int(exact['accepted'].sum())} of {len(exact)} plans accepted by the twin; ! is not accepted"
    )
    return render(*parts)  # type: ignore[arg-type]  # text and tables


def several(known: Sequence[object]) -> Callable[[str], list[object]]:
    """What reads names that commas separate, each one of those that are known."""
    by_name = {str(one): one for one in known}

    def read(text: str) -> list[object]:
        unknown = [name for name in text.split(",") if name not in by_name]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} unknown; known: {', '.join(by_name)}")
        return [by_name[name] for name in text.split(",")]

    return read


def parse() -> argparse.Namespace:
    """Arguments of the command."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    placers = [method.name for method in optimizer.methods().values() if "price" in method.objectives]
    for option, known, default in (
        ("--sets", tuple(RATES), tuple(RATES)),
        ("--models", tuple(TEMPLATES), tuple(TEMPLATES)),
        ("--counts", COUNTS, COUNTS),
        ("--methods", (*placers, *optimizer.BASELINES), METHODS),
    ):
        names = ",".join(map(str, default))
        text = f"separated by commas, of {', '.join(map(str, known))} (default: {names})"
        parser.add_argument(option, type=several(known), default=list(default), metavar="A,B", help=text)
    parser.add_argument(
        "--time-limit", type=float, default=120.0, help="seconds of search per plan (default: %(default)s)"
    )
    parser.add_argument(
        "--replications", type=int, default=3, help="twin runs per verdict (default: %(default)s)"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes (default: %(default)s)")
    parser.add_argument(
        "--csv", type=Path, help="write rows here as they come, and go on from it (default: none)"
    )
    return parser.parse_args()


def main() -> None:
    """Measure what is missing and print the table."""
    arguments = parse()
    known = arguments.csv is not None and arguments.csv.exists()
    rows = pd.read_csv(arguments.csv).to_dict("records") if known else []
    done = {tuple(row[k] for k in KEY) for row in rows}
    for case in cases(arguments):
        if case in done:
            continue
        rows.append(measure(case, arguments))
        print(" ".join(f"{k}={v}" for k, v in rows[-1].items() if k != "message"), flush=True)
        if arguments.csv is not None:
            write_whole(arguments.csv, pd.DataFrame(rows).to_csv(index=False))
    print(report(pd.DataFrame(rows), arguments.methods))


if __name__ == "__main__":
    main()
