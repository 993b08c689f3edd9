"""Several placers on several scenarios, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from optimizer.progress import Report, silent
from optimizer.result import Result, Validation
from optimizer.solve import find_method, solve
from optimizer.tables import render, table
from scenarios import Scenario


@dataclass(frozen=True)
class Comparison:
    """Results of several placers, scenario by scenario.

    Parameters
    ----------
    results
        One result per scenario and method, in the order asked for.
    """

    results: tuple[Result, ...]

    def to_frame(self) -> pd.DataFrame:
        """One row per scenario and method."""
        return pd.DataFrame([_row(result) for result in self.results])

    def to_json(self) -> str:
        """JSON list of the results, each as `Result.to_json` writes it."""
        return json.dumps([result.model_dump(mode="json") for result in self.results], indent=2)

    def summary(self) -> str:
        """A table of all results, and under it the twin's verdict on every GPU of every plan."""
        overview = table(_COLUMNS, [_cells(_row(result)) for result in self.results])
        return render(overview) + "\n\n" + "\n\n".join(result.summary() for result in self.results)

    def plot(self, path: str | Path) -> None:
        """Draw GPUs and bound per scenario and method; the file's ending names the format.

        Raises
        ------
        optimizer.plots.PlotError
            If the file cannot be written.
        """
        from optimizer.plots import draw_comparison

        draw_comparison(self.to_frame(), Path(path))

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return self.to_frame().to_html(index=False)


def compare(
    scenario: Scenario | Sequence[Scenario],
    methods: Iterable[str] = ("greedy", "exact"),
    *,
    objective: str | Sequence[str] | None = None,
    gpus: int | None = None,
    time_limit_s: float = 60.0,
    seed: int | None = None,
    workers: int = 1,
    report: Report = silent,
) -> Comparison:
    """Solve every scenario with every method; parameters as in `optimizer.solve`.

    Raises
    ------
    ScenarioError
        If a method or an objective is unknown, before anything is solved.
    """
    scenarios = [scenario] if isinstance(scenario, Scenario) else list(scenario)
    results = [
        solve(
            one,
            method=method,
            objective=objective,
            gpus=gpus,
            time_limit_s=time_limit_s,
            seed=seed,
            workers=workers,
            report=report,
        )
        for one in scenarios
        for method in _known(methods)
    ]
    return Comparison(tuple(results))


def _known(methods: Iterable[str]) -> list[str]:
    return [find_method(name).name for name in methods]


def _row(result: Result) -> dict[str, Any]:
    said = result.validation
    return {
        "scenario": result.scenario.name,
        "method": result.method,
        "status": result.status,
        "gpus": result.gpus,
        "objective": result.objective,
        "bound": result.bound,
        "gap": result.gap,
        "outer_bound": result.outer_bound,
        "accepted": None if said is None else said.accepted,
        "starved_gpus": _count(said, "serve"),
        "memory_errors": _count(said, "memory"),
        "itl_ms": said.itl_ms if said else None,
        "ttft_ms": said.ttft_ms if said else None,
        "iterations": result.iterations,
        "cuts": result.cuts,
        "seconds": round(result.seconds, 3),
    }


def _count(validation: Validation | None, kind: str) -> int | None:
    """GPUs that were rejected for memory, or for anything else."""
    if validation is None:
        return None
    rejected = [gpu for gpu in validation.gpus if not gpu.accepted]
    memory = sum(gpu.offered_tok_per_s is None for gpu in rejected)
    return memory if kind == "memory" else len(rejected) - memory


_COLUMNS = (
    "scenario", "method", "status", ">GPUs", ">bound", ">gap", "twin", ">ITL ms", ">TTFT ms", ">seconds",
)  # fmt: skip


def _cells(row: dict[str, Any]) -> list[object]:
    accepted, gap = row["accepted"], row["gap"]
    twin = None if accepted is None else "accepted" if accepted else "REJECTED"
    return [
        row["scenario"], row["method"], row["status"], row["gpus"], row["bound"],
        None if gap is None else f"{gap:.1%}", twin, row["itl_ms"], row["ttft_ms"], f"{row['seconds']:.1f}",
    ]  # fmt: skip
