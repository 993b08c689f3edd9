"""How many GPUs each placer needs, over adapters and rates, for both models, by both criteria."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pandas as pd

import twin
from benchmarks import paper_sets
from benchmarks.paper.part import DEVICE, MODELS, Part, Settings
from benchmarks.paper.pictures import Lines, panels
from benchmarks.paper.published import published_gpus
from benchmarks.paper.rows import Cell, Row, grouped, profile_digest
from scenarios import ACCEPTANCES

if TYPE_CHECKING:
    from matplotlib.figure import Figure

METHODS = {
    "exact": "exact",
    "proposed": "Proposed",
    "proposed-fast": "ProposedFast",
    "maxbackbone": "MaxBackbone",
    "maxbackbone-less-parallel": "MaxBackboneLessParallel",
    "random-min": "Random",
    "dlora-min": "dLoRA",
    "loraserve-min": "LoRAServe",
}
"""Methods by the paper's names. Those that spread over all GPUs they are given are run on the fewest at which
the twin accepts them."""

SETS = ("high", "mixed", "low")
PUBLISHED = {
    "greedy GPUs": "published greedy",
    "greedy GPUs every 4": "published greedy, a test every 4 adapters",
}


def cells(settings: Settings) -> Iterator[Cell]:
    """Small workloads first, and of equal ones the paper's criterion."""
    for count in paper_sets.COUNTS[:1] if settings.quick else paper_sets.COUNTS:
        for rates in SETS[1:2] if settings.quick else SETS:
            for criterion in reversed(ACCEPTANCES):
                for model, name in MODELS.items():
                    for method in METHODS:
                        key = {
                            "acceptance": criterion, "model": model, "set": rates, "adapters": count,
                            "method": method,
                        }  # fmt: skip
                        inputs = {
                            "profile": profile_digest(twin.find_profile(name, DEVICE)),
                            "replications": settings.replications,
                        }
                        yield Cell(key, inputs, settings.time_limit_s)


def measure(cell: Cell, settings: Settings) -> list[Row]:
    """The plan of one method on one workload."""
    asked = {"time_limit": settings.clock_limit_s(), "replications": settings.replications}
    row = paper_sets.measure({**cell.key, **asked}, settings.workers)
    if row is None:
        raise KeyboardInterrupt
    names = ("gpus", "bound", "accepted", "ttft_p99_ms", "status", "message")
    return [{name: row[name] for name in names} | settings.searched(row["stop_reason"])]


# --- what is shown ----------------------------------------------------------------------------------


def tables(frame: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """GPUs by workload for each criterion, and the sums over the workloads that all methods have."""
    shown = {}
    for criterion in ACCEPTANCES:
        part = frame[frame["acceptance"] == criterion]
        if len(part):
            shown[f"gpus_{criterion}"] = _counts(part, by_theirs=criterion == "paper")
    shown["gpus_sums"] = pd.DataFrame([row for c in ACCEPTANCES for row in _sums(frame, c)])
    return shown


def _counts(part: pd.DataFrame, *, by_theirs: bool) -> pd.DataFrame:
    """GPUs of every method by workload, and those published where the criterion is the publication's."""
    rows = []
    for (model, rates, count), found in grouped(part, "model", "set", "adapters").items():
        by_method = {row["method"]: row for row in found}
        exact = by_method.get("exact", {})
        row: Row = {"model": model, "rates": rates, "adapters": count}
        row |= {title: _gpus(by_method.get(method)) for method, title in METHODS.items()}
        row["bound"] = "" if pd.isna(exact.get("bound")) else f"{exact['bound']:.0f}"
        for quantity, title in PUBLISHED.items() if by_theirs else ():
            gpus = published_gpus(quantity, model, rates, count)
            row[title] = "" if gpus is None else gpus
        rows.append(row)
    order = pd.DataFrame(rows).sort_values(["model", "rates", "adapters"], kind="stable")
    return order.reset_index(drop=True)


def _gpus(row: Row | None) -> str:
    """GPUs, with ! where the twin rejects the plan; a dash where there is none, nothing if none was asked."""
    if row is None:
        return ""
    if row["gpus"] is None or pd.isna(row["gpus"]):
        return "–"
    return f"{row['gpus']:.0f}{'' if row['accepted'] else ' !'}"


def _sums(frame: pd.DataFrame, criterion: str) -> Iterator[Row]:
    """For each method its GPUs and those of exact on the workloads of which both have a plan."""
    part = frame[(frame["acceptance"] == criterion) & frame["gpus"].notna()]
    workload = ["model", "set", "adapters"]
    exact = part[part["method"] == "exact"].set_index(workload)["gpus"]
    for method, title in METHODS.items():
        own = part[part["method"] == method].set_index(workload)
        shared = own.index.intersection(exact.index)
        if method == "exact" or not len(shared):
            continue
        good = own.loc[shared, "accepted"].astype(bool)
        mine, ours = own.loc[shared, "gpus"], exact.loc[shared]
        yield {
            "criterion": criterion,
            "method": title,
            "workloads": len(shared),
            "accepted by the twin": int(good.sum()),
            "its GPUs": f"{mine.sum():.0f}",
            "exact's": f"{ours.sum():.0f}",
            "fewer by exact": f"{1 - ours.sum() / mine.sum():.0%}",
            "fewer where its plan is accepted": (
                f"{1 - ours[good].sum() / mine[good].sum():.0%}" if good.any() else ""
            ),
        }


def draw(frame: pd.DataFrame) -> dict[str, Figure]:
    """GPUs over adapters, by model and rates; plans that the twin rejects are left out."""
    pictures = {}
    for criterion in ACCEPTANCES:
        part = frame[(frame["acceptance"] == criterion) & frame["accepted"].eq(True)]
        shown: dict[str, Lines] = {}
        for (model, rates), found in part.groupby(["model", "set"], sort=False):
            lines = {
                title: list(zip(own["adapters"], own["gpus"], strict=True))
                for method, title in METHODS.items()
                if len(own := found[found["method"] == method])
            }
            known = [
                (count, gpus)
                for count in sorted(set(found["adapters"]))
                if criterion == "paper"
                and (gpus := published_gpus("greedy GPUs", str(model), str(rates), int(count))) is not None
            ]
            shown[f"{model}, {rates} rates"] = {**lines, **({"published greedy": known} if known else {})}
        if shown:
            pictures[f"gpus_{criterion}"] = panels(
                dict(sorted(shown.items())), "adapters", f"GPUs ({criterion})", columns=3, log=True
            )
    return pictures


PART = Part("gpus", cells, measure, tables, draw)
