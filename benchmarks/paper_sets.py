"""The paper's workloads: GPUs and latency of the greedy as published, two better heuristics, and exact.

Sets high, mixed and low of arXiv 2602.24044 on 32 to 1,024 adapters of ranks 8, 16 and 32, for both models,
by every criterion of acceptance. Every plan is judged by the twin. ``greedy`` asks the rows of the linear
region; nearer to the paper is ``proposed``, which asks a forest fitted to twin runs (sampled once and cached,
which takes minutes). Run from the repository's root::

    python -m benchmarks.paper_sets --out paper_sets.csv
    python -m benchmarks.paper_sets --sets high --models llama --counts 128,256 --methods proposed,exact

With ``--out`` every row is written when it is there, and the same command goes on after the last one.

Takes hours with the defaults: at most two minutes of search for each of 288 plans. Begin with one of each:
--sets mixed --models llama --counts 32 --acceptance sustained.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

import optimizer
import scenarios
from scenarios import ACCEPTANCES, write_whole
from scenarios.text.tables import Column, Part, render, table

RATES = {
    "high": (2.4, 1.2, 0.6, 0.3, 0.15),
    "mixed": (0.6, 0.3, 0.15, 0.075, 0.0375),
    "low": (0.075, 0.0375, 0.01875, 0.009375, 0.0046875),
}
"""Requests/s, dealt round-robin over the adapters."""

TEMPLATES = {"llama": "paper_high_128", "qwen": "paper_high_128_qwen"}
"""Shipped scenarios whose engine, lengths and device are used."""

COUNTS = (32, 64, 128, 256, 512, 1024)
METHODS = ("greedy", "greedy-fill", "bfd", "exact")

WORKLOAD = ["acceptance", "model", "set", "adapters"]
CELL = [*WORKLOAD, "method", "time_limit", "replications"]
"""What makes a row one of its own."""

Row = dict[str, Any]


def paper_scenario(
    criterion: str, model: str, rates: str, count: int, replications: int
) -> scenarios.Scenario:
    """One workload of the paper."""
    changes = [
        f"name=paper_{rates}_{count}_{model}",
        f"adapters[0].count={count}",
        f"adapters[0].rate=[{', '.join(map(str, RATES[rates]))}]",
        f"replications={replications}",
        f"acceptance={criterion}",
    ]
    return scenarios.read(TEMPLATES[model], overrides=changes)


def cells(given: argparse.Namespace) -> Iterator[Row]:
    """What is to be solved, small workloads first."""
    for count in given.counts:
        for criterion in given.acceptance:
            for model in given.models:
                for rates in given.sets:
                    for method in given.methods:
                        yield {
                            "acceptance": criterion, "model": model, "set": rates, "adapters": count,
                            "method": method, "time_limit": given.time_limit,
                            "replications": given.replications,
                        }  # fmt: skip


def measure(cell: Row, workers: int) -> Row | None:
    """Solve one cell; None if that was interrupted."""
    scenario = paper_scenario(*(cell[key] for key in WORKLOAD), cell["replications"])
    cpu = time.process_time()
    result = optimizer.solve(
        scenario, cell["method"], objective="gpus", time_limit_s=cell["time_limit"], workers=workers
    )
    if result.stop_reason == "interrupted":
        return None
    plan = optimizer.Comparison((result,)).to_frame().to_dict("records")[0]
    return {
        **cell,
        **{key: plan[key] for key in ("gpus", "bound", "gap", "accepted", "ttft_p50_ms", "ttft_p99_ms")},
        "seconds": round(result.search_seconds, 1),
        "cpu_seconds": round(time.process_time() - cpu, 1),
        "status": result.status,
        "stop_reason": result.stop_reason,
        "message": result.message,
    }


# --- rows in a file ----------------------------------------------------------------------------------


def known_rows(file: Path | None) -> list[Row]:
    """The rows that are there already."""
    if file is None or not file.exists():
        return []
    frame = pd.read_json(file) if file.suffix == ".json" else pd.read_csv(file)
    rows: list[Row] = frame.astype(object).where(frame.notna(), None).to_dict("records")  # type: ignore[assignment]
    return rows


def keep(rows: Sequence[Row], file: Path | None) -> None:
    """Write all rows, as JSON or CSV by the file's ending."""
    if file is not None:
        frame = pd.DataFrame(rows)
        is_json = file.suffix == ".json"
        write_whole(file, frame.to_json(orient="records", indent=1) if is_json else frame.to_csv(index=False))


def measured(given: argparse.Namespace, measure: Callable[[Row, int], Row | None] = measure) -> list[Row]:
    """The rows of all cells: those that are there, and the others as they come, until one is interrupted."""
    rows, wanted = known_rows(given.out), list(cells(given))
    done = {_key(row) for row in rows}
    for cell in wanted:
        if _key(cell) in done:
            continue
        row = measure(cell, given.workers)
        if row is None:
            print("interrupted; the same command goes on from here")
            break
        rows.append(row)
        keep(rows, given.out)
        print(" ".join(f"{key}={value}" for key, value in row.items() if key != "message"), flush=True)
    keys = {_key(cell) for cell in wanted}
    return [row for row in rows if _key(row) in keys]


def _key(row: Row) -> tuple[object, ...]:
    return tuple(row[key] for key in CELL)


# --- what is said of them ----------------------------------------------------------------------------


Workloads = dict[tuple[str, str, int], dict[str, Row]]
"""Rows by model, set and adapters, and by method."""


def summary(rows: Sequence[Row], methods: Sequence[str]) -> str:
    """GPUs per workload, and by criterion the sums of the high sets and what holds of exact."""
    parts: list[Part] = []
    for criterion in dict.fromkeys(row["acceptance"] for row in rows):
        found: Workloads = {}
        for row in rows:
            if row["acceptance"] == criterion:
                workload = row["model"], row["set"], row["adapters"]
                found.setdefault(workload, {})[row["method"]] = row
        parts += [_table(criterion, found, methods), *_sums(found, methods), *_of_exact(found), ""]
    return render(*parts)


def _table(criterion: str, workloads: Workloads, methods: Sequence[str]) -> Part:
    """GPUs of every method, the bound, and the 99th percentile of the worst GPU's TTFT."""
    late = [Column(f">p99 {method}", 1) for method in methods]
    heads = [Column("model"), Column("set"), Column(">adapters"), *(Column(f">{m}") for m in methods)]
    lines = []
    for workload, rows in sorted(workloads.items()):
        of = [rows.get(method, {}) for method in methods]
        bound = rows.get("exact", {}).get("bound")
        bounds = None if bound is None else f"{bound:g}"
        lines.append([*workload, *map(_gpus, of), bounds, *(_seconds(row.get("ttft_p99_ms")) for row in of)])
    title = f"acceptance: {criterion}; ! is rejected by the twin"
    return table([*heads, Column(">bound"), *late], lines, title=title)


def _gpus(row: Row) -> str | None:
    gpus = row.get("gpus")
    return None if gpus is None else f"{gpus:.0f}{'' if row['accepted'] else ' !'}"


def _seconds(milliseconds: float | None) -> str | None:
    return None if milliseconds is None else f"{milliseconds / 1e3:.2f} s"


def _sums(workloads: Workloads, methods: Sequence[str]) -> Iterator[str]:
    """GPUs of each method over the high sets, beside those of exact on the same workloads."""
    high = [rows for (_, rates, _), rows in workloads.items() if rates == "high"]
    for method in methods:
        both = [
            (rows[method]["gpus"], rows["exact"]["gpus"])
            for rows in high
            if all(rows.get(name, {}).get("gpus") is not None for name in (method, "exact"))
        ]
        if method != "exact" and both:
            theirs, ours = (sum(column) for column in zip(*both, strict=True))
            yield (
                f"{method}: {theirs:.0f} GPUs in sum on {len(both)} of {len(high)} high workloads, exact "
                f"{ours:.0f}: {1 - ours / theirs:.1%} fewer"
            )


def _of_exact(workloads: Workloads) -> Iterator[str]:
    """Whether exact needs more than another method anywhere, and whether its plans are accepted."""
    exact = {workload: rows["exact"] for workload, rows in workloads.items() if "exact" in rows}
    more = [
        f"{' '.join(map(str, workload))}: {_gpus(row) or 'no plan'} against {_gpus(other)} of {method}"
        for workload, row in exact.items()
        for method, other in workloads[workload].items()
        if other["accepted"] and (row["gpus"] is None or row["gpus"] > other["gpus"])
    ]
    yield f"exact needs more than an accepted plan of another method: {'; '.join(more) or 'never'}"
    accepted = sum(bool(row["accepted"]) for row in exact.values())
    met = sum(row["status"] == "optimal" for row in exact.values())
    yield f"exact: {accepted} of {len(exact)} plans accepted by the twin, {met} meet the bound"


# --- the command -------------------------------------------------------------------------------------


def several(known: Sequence[object]) -> Callable[[str], list[object]]:
    """What reads names that commas separate, each one of those that are known."""
    by_name = {str(one): one for one in known}

    def read(text: str) -> list[object]:
        unknown = [name for name in text.split(",") if name not in by_name]
        if unknown:
            raise argparse.ArgumentTypeError(f"{', '.join(unknown)} unknown; known: {', '.join(by_name)}")
        return [by_name[name] for name in text.split(",")]

    return read


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Arguments of the command."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    placers = [method.name for method in optimizer.methods().values() if "price" in method.objectives]
    for option, known, default in (
        ("--acceptance", ACCEPTANCES, ACCEPTANCES),
        ("--sets", tuple(RATES), tuple(RATES)),
        ("--models", tuple(TEMPLATES), tuple(TEMPLATES)),
        ("--counts", COUNTS, COUNTS),
        ("--methods", (*placers, *optimizer.BASELINES), METHODS),
    ):
        names = ",".join(map(str, default))
        text = f"separated by commas, of {', '.join(map(str, known))} (default: {names})"
        parser.add_argument(option, type=several(known), default=list(default), metavar="A,B", help=text)
    for option, kind, value, text in (
        ("--time-limit", float, 120.0, "seconds of search of each method"),
        ("--replications", int, 3, "twin runs per verdict"),
        ("--workers", int, 2, "processes"),
    ):
        parser.add_argument(option, type=kind, default=value, help=f"{text} (default: %(default)s)")
    out = "write rows here as they come, and go on from it: .csv, .json (default: none)"
    parser.add_argument("--out", type=Path, help=out)
    return parser.parse_args(arguments)


def main() -> None:
    """Measure what is missing and print the tables."""
    given = parse()
    print(summary(measured(given), given.methods))


if __name__ == "__main__":
    main()
