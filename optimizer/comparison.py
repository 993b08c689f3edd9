"""Several placers on several scenarios, side by side."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

import twin
from optimizer.arguments import check_arguments, unsuited
from optimizer.result import Result
from optimizer.search.params import DEFAULTS, SolveParams
from optimizer.search.solve import find_method, solve
from scenarios import Problem, Scenario, ScenarioError
from scenarios.arguments import several
from scenarios.stopping.deadline import UNLIMITED, Deadline
from scenarios.stopping.interrupts import noticed
from scenarios.stopping.progress import Progress, silent
from scenarios.text.display import spreadsheet_cell
from scenarios.text.tables import render, table

MOST_SHOWN = 16
"""Most GPUs of a plan that a summary lists one by one."""

OVER_S = 1e-3
"""Seconds that a method gets when the total is over: enough to say so."""


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

    def to_csv(self) -> str:
        """One row per scenario and method as CSV, in which a spreadsheet finds no formula."""
        return self.to_frame().map(spreadsheet_cell).to_csv(index=False)

    def to_json(self) -> str:
        """JSON list of the results, each as `Result.to_json` writes it."""
        return json.dumps([result.model_dump(mode="json") for result in self.results], indent=2)

    def summary(self) -> str:
        """A table per scenario, and under them the twin's verdict on every GPU of the smaller plans.

        *starved* counts adapters below their served share, *memory* GPUs that do not start.
        """
        rows = [_row(result) for result in self.results]
        names = list(dict.fromkeys(row["scenario"] for row in rows))
        overview = [
            table(_COLUMNS, [_cells(row) for row in rows if row["scenario"] == name], title=name)
            for name in names
        ]
        parts = [render(one) for one in overview]
        return "\n\n".join([*parts, *(_verdicts(result) for result in self.results)])

    def plot(self, path: str | Path) -> None:
        """Draw GPUs and bound per scenario and method; the file's ending, .png, .svg or .pdf, is the format.

        Raises
        ------
        optimizer.plots.PlotError
            If the ending is another one.
        OutputFileError
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
    methods: str | Iterable[str] = ("greedy", "exact"),
    *,
    objective: str | Sequence[str] | None = None,
    gpus: int | None = None,
    time_limit_s: float = 60.0,
    total_limit_s: float | None = None,
    gap_limit: float = 0.0,
    seed: int | None = None,
    workers: int = 1,
    progress: Progress = silent,
    params: SolveParams = DEFAULTS,
) -> Comparison:
    """Solve every scenario with every method; parameters as in `optimizer.solve`.

    ``total_limit_s`` is for all of them together. After Ctrl-C the results are of what was found by then.

    Raises
    ------
    ScenarioError
        If there is no scenario or no method, one is unknown, or a method does not do an objective. This is
        found before anything is solved, and so is the next.
    twin.UnknownProfileError
        If no engine profile is known for a scenario's model and device.
    """
    scenarios = [scenario] if isinstance(scenario, Scenario) else several(scenario)
    names = several(methods)
    _check(scenarios, names)
    for one in scenarios:
        check_arguments(
            one,
            objective,
            gpus,
            time_limit_s,
            gap_limit,
            workers,
            total_limit_s,
            seed,
            params,
            source="compare",
        )
        twin.profiles_of(one)
    _check_suited(scenarios, names, objective, gpus)
    end = UNLIMITED if total_limit_s is None else Deadline.after(total_limit_s)
    with noticed():
        results = [
            solve(
                one,
                method=method,
                objective=objective,
                gpus=gpus,
                time_limit_s=time_limit_s,
                total_limit_s=None if total_limit_s is None else max(end.left_s, OVER_S),
                gap_limit=gap_limit,
                seed=seed,
                workers=workers,
                progress=progress,
                params=params,
            )
            for one in scenarios
            for method in names
        ]
    return Comparison(tuple(results))


def _check(scenarios: Sequence[Scenario], methods: Sequence[str]) -> None:
    """Refuse an empty table, what is no scenario, and what is no method."""
    problems = [
        Problem(path, "is empty", f"give at least one {path[:-1]}")
        for path, given in (("scenarios", scenarios), ("methods", methods))
        if not given
    ]
    problems += [
        Problem(f"scenarios[{k}]", f"is {one!r:.60}, no scenario", "read one with scenarios.read")
        for k, one in enumerate(scenarios)
        if not isinstance(one, Scenario)
    ]
    for name in methods:
        try:
            find_method(name)
        except ScenarioError as error:
            problems += error.problems
    if problems:
        raise ScenarioError(problems, "compare")


def _check_suited(
    scenarios: Sequence[Scenario],
    methods: Sequence[str],
    objective: str | Sequence[str] | None,
    gpus: int | None,
) -> None:
    """Refuse methods that do not do a scenario's objective, or the one asked for; each problem once."""
    asked = [objective] if isinstance(objective, str) else objective
    problems = [
        problem
        for one in scenarios
        for method in methods
        for problem in unsuited(find_method(method), asked or one.objective, gpus)
    ]
    if problems:
        raise ScenarioError(list(dict.fromkeys(problems)), "compare")


def _verdicts(result: Result) -> str:
    """The plan GPU by GPU, unless it has too many."""
    if result.gpus is None or result.gpus <= MOST_SHOWN:
        return result.summary()
    return render(result.headline(), f"{result.gpus} GPUs; --json, or `lorapack solve`, has each of them")


def _row(result: Result) -> dict[str, Any]:
    said = result.validation
    gpus = said.gpus if said else ()
    return {
        "scenario": result.scenario.name,
        "method": result.method,
        "status": result.status,
        "stop_reason": result.stop_reason,
        "gpus": result.gpus,
        "objective": result.objective,
        "bound": result.bound,
        "gap": result.gap,
        "outer_bound": result.outer_bound,
        "accepted": said.accepted if said else None,
        "rejected_gpus": sum(not gpu.accepted for gpu in gpus) if said else None,
        "starved_adapters": sum(len(gpu.starved) for gpu in gpus) if said else None,
        "memory_errors": sum(gpu.memory_failure is not None for gpu in gpus) if said else None,
        "itl_ms": said.itl_ms if said else None,
        "ttft_ms": said.ttft_ms if said else None,
        "iterations": result.iterations,
        "cuts": result.cuts,
        "seconds": round(result.seconds, 3),
    }


_COLUMNS = (
    "method", ">GPUs", ">bound", ">gap", "twin", ">starved", ">memory", ">ITL ms", ">TTFT ms", ">s",
)  # fmt: skip


def _cells(row: dict[str, Any]) -> list[object]:
    accepted, gap = row["accepted"], row["gap"]
    twin = row["status"].replace("_", " ") if accepted is None else "accepted" if accepted else "REJECTED"
    return [
        row["method"], row["gpus"], row["bound"], None if gap is None else f"{gap:.1%}", twin,
        row["starved_adapters"], row["memory_errors"], row["itl_ms"], row["ttft_ms"], f"{row['seconds']:.1f}",
    ]  # fmt: skip
