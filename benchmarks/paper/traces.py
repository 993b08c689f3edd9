"""The paper's protocol for traces: plan by the rates of one window, replay the next, on up to four GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

import pandas as pd

import optimizer
import twin
from benchmarks.paper.part import DEVICE, MODELS, Part, Settings
from benchmarks.paper.pictures import Lines, panels
from benchmarks.paper.replays import MOST_GPUS, Recording
from benchmarks.paper.rows import Cell, Row, file_digest, profile_digest, records
from learn.storage.cache import cache_folder
from twin import ValidationReport

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.figure import Figure

    from optimizer import Result
    from scenarios import Scenario

HALF_HOUR, HOUR = 1800.0, 3600.0

SOURCES: dict[str, tuple[tuple[str, ...], float, float]] = {
    "azure conv": (("azure_llm_2023_conv.csv.gz",), HALF_HOUR, 2 * HALF_HOUR),
    "azure code": (("azure_llm_2023_code.csv.gz",), HALF_HOUR, 2 * HALF_HOUR),
    "servegen m-small": (
        ("servegen_m-small_day.csv.gz", "servegen_m-small_clients.csv"), 15 * HOUR, 16 * HOUR
    ),
    "servegen m-mid": (("servegen_m-mid_day.csv.gz", "servegen_m-mid_clients.csv"), 15 * HOUR, 16 * HOUR),
}  # fmt: skip
"""Files, and from when to when the second window is."""

N_ADAPTERS = 96
RANKS = ((8, 16, 32), (8, 16))
TOTALS = (20.0, 40.0, 80.0)
"""Requests/s of the first window, so that one to four GPUs are needed."""

MODELLED = {"exact": "exact", "proposed": "Proposed", "proposed-fast": "ProposedFast"}
OPENING = {"maxbackbone": "MaxBackbone", "maxbackbone-less-parallel": "MaxBackboneLessParallel"}
SPREADING = {"random": "Random", "dlora": "dLoRA", "loraserve": "LoRAServe"}
TITLES = MODELLED | OPENING | SPREADING


def cells(settings: Settings) -> Iterator[Cell]:
    """Source by source; models of the GPU by both criteria, rules that spread on one to four GPUs."""
    asked = [(method, criterion, MOST_GPUS) for method in MODELLED for criterion in ("sustained", "paper")]
    asked += [(method, "paper", MOST_GPUS) for method in OPENING]
    asked += [(method, "paper", gpus) for method in SPREADING for gpus in range(1, MOST_GPUS + 1)]
    profile = profile_digest(twin.find_profile(MODELS["llama"], DEVICE))
    for ranks in RANKS[:1] if settings.quick else RANKS:
        for total in TOTALS[:1] if settings.quick else TOTALS:
            for source in list(SOURCES)[::2] if settings.quick else SOURCES:
                files = {path.name: file_digest(path) for path in _files(source, settings)}
                for method, criterion, given in asked:
                    key = {
                        "source": source, "total": total, "ranks": " ".join(map(str, ranks)),
                        "method": method, "acceptance": criterion, "given": given,
                    }  # fmt: skip
                    made_of = {"files": files, "profile": profile, "adapters": N_ADAPTERS}
                    made_of |= {"replications": settings.replications}
                    yield Cell(key, made_of, settings.time_limit_s)


def _files(source: str, settings: Settings) -> tuple[Path, ...]:
    return tuple(settings.file(settings.traces, name, "--traces") for name in SOURCES[source][0])


@lru_cache(maxsize=2)
def _recording(source: str, total: float, ranks: str, settings: Settings) -> Recording:
    _, known_s, end_s = SOURCES[source]
    return Recording(
        _files(source, settings), total, tuple(map(int, ranks.split())), known_s, end_s, N_ADAPTERS
    )


def measure(cell: Cell, settings: Settings) -> list[Row]:
    """A plan for the first window, and what becomes of it in the second."""
    key = cell.key
    recording = _recording(key["source"], key["total"], key["ranks"], settings)
    result = optimizer.solve(
        recording.known(key["acceptance"], settings.replications),
        key["method"],
        gpus=key["given"],
        objective="gpus",
        time_limit_s=settings.clock_limit_s(),
        workers=settings.workers,
    )
    if result.stop_reason == "interrupted":
        raise KeyboardInterrupt
    row: Row = {"gpus": result.gpus, "accepted": result.accepted, "status": result.status}
    folder = cache_folder()
    assert folder is not None  # the benchmark asks for a cache before it starts
    if result.placement is not None:
        row |= _replayed(result, recording.to_come(folder / "paper", settings.replications), settings)
    return [row | {"message": result.message} | settings.searched(result.stop_reason)]


def _replayed(result: Result, scenario: Scenario, settings: Settings) -> Row:
    assert result.placement is not None  # the caller has looked
    report = twin.validate(scenario, result.placement, workers=settings.workers)
    return {
        "replay_accepted": report.accepted,
        "served_share": _served(report),
        "starved": sum(len(gpu.starved) for gpu in report.gpus),
        "itl_ms": report.itl_ms,
        "ttft_ms": report.ttft_ms,
        "ttft_p99_ms": max(
            (gpu.ttft_p99_ms for gpu in report.gpus if gpu.ttft_p99_ms is not None), default=None
        ),
    }


def _served(report: ValidationReport) -> float:
    """Tokens served over tokens offered, of all GPUs."""
    return sum(gpu.served_tok_per_s for gpu in report.gpus) / sum(
        gpu.offered_tok_per_s for gpu in report.gpus
    )


# --- what is shown ----------------------------------------------------------------------------------


def tables(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """GPUs by recording, and what became of the plans by method."""
    rows = []
    workload = ["source", "total", "ranks"]
    for (source, total, ranks), found in frame.groupby(workload, sort=False):
        row: Row = {"recording": source, "requests/s": f"{total:g}", "ranks": ranks}
        for method, title in MODELLED.items():
            for criterion in ("sustained", "paper"):
                own = found[(found["method"] == method) & (found["acceptance"] == criterion)]
                row[f"{title}, {criterion}"] = _first(own)
        for method, title in OPENING.items():
            row[title] = _first(found[found["method"] == method])
        for method, title in SPREADING.items():
            own = found[found["method"] == method]
            held = own[own["replay_accepted"].eq(True)].sort_values("given")
            row[f"{title}, fewest"] = "–" if len(own) and held.empty else _first(held)
        rows.append(row)
    return {"traces": pd.DataFrame(rows), "traces_outcome": pd.DataFrame(_outcomes(frame))}


def _first(own: pd.DataFrame) -> str:
    """GPUs of a plan, with ! where it fails in the replay."""
    if own.empty:
        return ""
    row = own.iloc[0]
    if pd.isna(row["gpus"]):
        return "–"
    return f"{row['gpus']:.0f}{'' if row['replay_accepted'] else ' !'}"


def _outcomes(frame: pd.DataFrame) -> Iterator[Row]:
    """For each method and number of GPUs given: plans, how many hold in the replay, and how it serves."""
    order = frame.assign(place=frame["method"].map(list(TITLES).index))
    groups = order.sort_values(["place", "given"], kind="stable")
    for (method, criterion, given), own in groups.groupby(["method", "acceptance", "given"], sort=False):
        plans = own[own["gpus"].notna()]
        yield {
            "method": TITLES[str(method)],
            "planned by": criterion if method in MODELLED else "its rule",
            "GPUs given": given,
            "workloads": len(own),
            "plans": len(plans),
            "GPUs used": f"{plans['gpus'].sum():.0f}",
            "hold in the replay": int(plans["replay_accepted"].eq(True).sum()),
            "tokens served, mean": f"{plans['served_share'].mean():.1%}" if len(plans) else "",
            "TTFT, median of plans, ms": f"{plans['ttft_ms'].median():,.0f}" if len(plans) else "",
        }


def draw(frame: pd.DataFrame) -> dict[str, Figure]:
    """Served tokens over GPUs in use, a panel for each recording, with the largest load and all ranks."""
    ranks, total = frame["ranks"].iloc[0], frame["total"].max()
    shown: dict[str, Lines] = {}
    part = frame[(frame["ranks"] == ranks) & (frame["total"] == total) & frame["served_share"].notna()]
    for source, found in part.groupby("source", sort=False):
        lines: dict[str, list[tuple[float, float]]] = {}
        for row in records(found):
            title = TITLES[row["method"]]
            name = f"{title}, {row['acceptance']}" if row["method"] in MODELLED else title
            lines.setdefault(name, []).append((row["gpus"], 100 * row["served_share"]))
        shown[f"{source}, {total:g} requests/s"] = lines
    return {"traces": panels(shown, "GPUs", "tokens served in the replay, %", share=True)} if shown else {}


PART = Part("traces", cells, measure, tables, draw)
