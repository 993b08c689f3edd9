"""The latency variant: the least mean time between tokens on so many GPUs, by each rule."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

import optimizer
import twin
from benchmarks.paper.part import DEVICE, MODELS, Part, Settings
from benchmarks.paper.pictures import Lines, panels
from benchmarks.paper.rows import Cell, Row, grouped, profile_digest
from benchmarks.paper_sets import paper_scenario
from scenarios import ACCEPTANCES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS = {
    "exact": "exact",
    "greedy-lat": "ProposedLat",
    "least-rate": "least rate, unchecked",
    "dlora": "dLoRA",
    "loraserve": "LoRAServe",
}
"""Methods by the paper's names; the third is ProposedLat's rule with a slot for every adapter, whatever a
model of the GPU says of it."""

WORKLOADS = (("mixed", 128, (2, 3, 4)), ("high", 128, (5, 6, 8)), ("mixed", 512, (6, 8, 10)))
"""Rates, adapters, and numbers of GPUs that are given: the fewest, and more."""


def cells(settings: Settings) -> Iterator[Cell]:
    """Workload by workload; of each the numbers of GPUs, then the methods."""
    for rates, count, numbers in WORKLOADS[:1] if settings.quick else WORKLOADS:
        for criterion in ACCEPTANCES:
            for model, name in MODELS.items():
                for gpus in numbers[:1] if settings.quick else numbers:
                    for method in METHODS:
                        key = {
                            "acceptance": criterion, "model": model, "set": rates, "adapters": count,
                            "given": gpus, "method": method,
                        }  # fmt: skip
                        inputs = {
                            "profile": profile_digest(twin.find_profile(name, DEVICE)),
                            "replications": settings.replications,
                        }
                        yield Cell(key, inputs, settings.time_limit_s)


def measure(cell: Cell, settings: Settings) -> list[Row]:
    """The plan of one method on so many GPUs."""
    key = cell.key
    scenario = paper_scenario(
        key["acceptance"], key["model"], key["set"], key["adapters"], settings.replications
    )
    result = optimizer.solve(
        scenario,
        key["method"],
        objective="latency",
        gpus=key["given"],
        time_limit_s=settings.clock_limit_s(),
        workers=settings.workers,
    )
    if result.stop_reason == "interrupted":
        raise KeyboardInterrupt
    plan = optimizer.Comparison((result,)).to_frame().iloc[0]
    names = ("gpus", "bound", "accepted", "itl_ms", "ttft_ms", "ttft_p99_ms")
    told = {"status": result.status, "message": result.message}
    return [{name: plan[name] for name in names} | told | settings.searched(result.stop_reason)]


# --- what is shown ----------------------------------------------------------------------------------


def tables(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Mean time between tokens of every method, with the time to first token of exact and of ProposedLat."""
    rows = []
    workloads = grouped(frame, "acceptance", "model", "set", "adapters", "given")
    for (criterion, model, rates, count, gpus), found in workloads.items():
        by_method = {row["method"]: row for row in found}
        row: Row = {
            "criterion": criterion, "model": model, "rates": rates, "adapters": count, "GPUs": gpus
        }  # fmt: skip
        for method, title in METHODS.items():
            row[f"{title}, ITL ms"] = _itl(by_method.get(method))
        exact = by_method.get("exact", {})
        row["bound, ITL ms"] = "" if pd.isna(exact.get("bound")) else f"{exact['bound']:.1f}"
        for method in ("exact", "greedy-lat"):
            late = by_method.get(method, {}).get("ttft_ms")
            row[f"{METHODS[method]}, TTFT ms"] = "" if late is None or pd.isna(late) else f"{late:,.0f}"
        rows.append(row)
    return {"latency": pd.DataFrame(rows)}


def _itl(row: Row | None) -> str:
    """Milliseconds with ! where the twin rejects the plan; a dash where there is none."""
    if row is None:
        return ""
    if row["itl_ms"] is None or pd.isna(row["itl_ms"]):
        return "–"
    return f"{row['itl_ms']:.1f}{'' if row['accepted'] else ' !'}"


def draw(frame: pd.DataFrame) -> dict[str, Figure]:
    """Mean time between tokens over GPUs, under the criterion sustained; rejected plans are left out."""
    part = frame[(frame["acceptance"] == "sustained") & frame["accepted"].eq(True) & frame["itl_ms"].notna()]
    shown: dict[str, Lines] = {}
    for (model, rates, count), found in part.groupby(["model", "set", "adapters"], sort=False):
        shown[f"{model}, {rates} rates, {count} adapters"] = {
            title: list(zip(own["given"], own["itl_ms"], strict=True))
            for method, title in METHODS.items()
            if len(own := found[found["method"] == method])
        }
    return {"latency": panels(shown, "GPUs given", "mean ITL, ms")} if shown else {}


PART = Part("latency", cells, measure, tables, draw)
