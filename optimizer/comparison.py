"""Several placers on several scenarios, side by side."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pandas as pd
from rich.text import Text

import twin
from optimizer.arguments import check_arguments, compared, unsuited
from optimizer.result import Result
from optimizer.result_text import (
    gpu_parts,
    gpu_ranges,
    objective_heading,
    outcome_lines,
    preparation_note,
    queue_note,
    rejections,
    step_costs_note,
)
from optimizer.search.compilation import compile_loops, twin_loops
from optimizer.search.params import DEFAULTS, SolveParams
from optimizer.search.solve import find_method, kernels_of, solve
from scenarios import (
    UNLIMITED,
    Deadline,
    Problem,
    Scenario,
    ScenarioError,
    Stopped,
    criterion_in_words,
    noticed,
    spreadsheet_cell,
)
from scenarios.arguments import several
from scenarios.result_view import ResultView
from scenarios.stopping.progress import Progress, interruptible, silent
from scenarios.text.formatting import counted
from scenarios.text.tables import Column, Part, Table, render, table
from twin import Criterion
from twin.gpu_table import entry_latencies, headroom, headroom_cell, limited_latencies, verdict_word

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

FEW_PLANS = 2
"""Most plans that are shown GPU by GPU unless all are asked for."""

CUT_SHORT = ("time_limit", "interrupted")
"""Why a search may have ended before its best plan."""

PLANS_NOTE = "GPU by GPU: --plans, or in Python summary(plans=True)"
"""Where the plans are that a comparison does not show."""

MOST_SHOWN = 16
"""Most GPUs of a plan that a summary lists one by one."""

WORST_TTFT = "TTFT p50 and p99: of the plan's worst GPU, in ms"
"""What stands under a table with them."""

STRONGEST = "exact"
"""The method that says how few GPUs suffice."""

OVER_S = 1e-3
"""Seconds that a method gets when the total is over: enough to say so."""


@dataclass(frozen=True, repr=False)
class Comparison(ResultView):
    """Results of several placers, scenario by scenario.

    ``plot`` draws GPUs, bound and mean TTFT per scenario and method, in one panel, and so in axes of its own,
    for each scenario.

    Parameters
    ----------
    results
        One result per scenario and method, in the order asked for.
    """

    results: tuple[Result, ...]

    def by_scenario(self) -> list[list[Result]]:
        """The results of each scenario, in their order."""
        return [list(group) for _, group in groupby(self.results, key=lambda result: result.scenario)]

    def to_frame(self) -> pd.DataFrame:
        """One row per scenario and method."""
        return pd.DataFrame([_row(result) for result in self.results])

    def to_csv(self) -> str:
        """One row per scenario and method as CSV, in which a spreadsheet finds no formula."""
        return self.to_frame().map(spreadsheet_cell).to_csv(index=False)

    def to_json(self) -> str:
        """JSON list of the results, each as `Result.to_json` writes it."""
        return json.dumps([result.model_dump(mode="json") for result in self.results], indent=2)

    def parts(self, plans: bool | None = None) -> list[Part]:
        """What `summary` says, in parts that `scenarios.text.tables.render` renders, in colour too."""
        parts: list[Part] = []
        for results in self.by_scenario():
            criterion = criterion_in_words(results[0].scenario)
            parts += [
                _overview(results),
                WORST_TTFT,
                criterion,
                *queue_note(results),
                *step_costs_note(results),
                "",
            ]
        parts += preparation_note(self.results)
        if len(self.results) <= FEW_PLANS if plans is None else plans:
            for result in self.results:
                parts += ["", *outcome_lines(result), *_gpus(result)]
            return parts
        return [*parts, "", *(line for result in self.results for line in _in_short(result)), "", PLANS_NOTE]

    def summary(self, plans: bool | None = None) -> str:
        """A table per scenario, and under them the plans GPU by GPU, or what keeps a method from its best.

        *starved* counts adapters below their served share, *memory* GPUs that do not start; both are there
        where some plan has one.

        Parameters
        ----------
        plans
            Whether to show every plan; None: where there are no more than two. Of a plan with many GPUs
            their figures are shown in one sentence.
        """
        return render(*self.parts(plans))

    def __repr__(self) -> str:
        scenarios, methods = (
            len(set(names))
            for names in zip(*((r.scenario.name, r.method) for r in self.results), strict=True)
        )
        results = counted(len(self.results), "result")
        return f"<Comparison: {results} of {counted(methods, 'method')} on {counted(scenarios, 'scenario')}>"

    def __str__(self) -> str:
        return self.summary()

    def _draw(self, ax: Axes | Sequence[Axes] | None) -> Figure:
        from optimizer.plots import draw_comparison

        return draw_comparison(self.results, ax)

    def _shown(self) -> Iterable[Part]:
        return [repr(self).strip("<>"), *self.parts()]


def compare(
    scenario: Scenario | Sequence[Scenario],
    methods: str | Iterable[str] | None = None,
    *,
    objective: str | Sequence[str] | None = None,
    gpus: int | None = None,
    time_limit_s: float = 60.0,
    total_limit_s: float | None = None,
    gap_limit: float = 0.0,
    acceptance: str | None = None,
    seed: int | None = None,
    workers: int = 1,
    progress: Progress = silent,
    params: SolveParams = DEFAULTS,
) -> Comparison:
    """Solve every scenario with every method; parameters as in `optimizer.solve`.

    ``total_limit_s`` is for all of them together. After Ctrl-C the results are of what was found by then.

    Parameters
    ----------
    methods
        None: greedy, greedy-fill, bfd and exact; where a latency or balance comes first greedy-lat, spread,
        bfd and exact, on ``gpus`` GPUs, or as many as exact finds to be the fewest.

    Raises
    ------
    ScenarioError
        If there is no scenario or no method, one is unknown, or a method does not do an objective. This is
        found before anything is solved, and so is the next.
    twin.UnknownProfileError
        If no engine profile is known for a scenario's model and device.
    """
    scenarios = [scenario] if isinstance(scenario, Scenario) else several(scenario)
    named = None if methods is None else several(methods)
    _check(scenarios, compared(("gpus",)) if named is None else named)
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
            acceptance,
            source="compare",
        )
        twin.profiles_of(one)
    cells = _cells(scenarios, named, objective)
    if named is not None:
        _check_suited(cells, objective, gpus)
    end = UNLIMITED if total_limit_s is None else Deadline.after(total_limit_s)
    with noticed():
        compiling_s = _compile(cells, workers, end, progress)
        found: dict[tuple[int, str], Result] = {}
        # What only spreads adapters needs to know over how many GPUs, which the strongest method finds.
        for one, method in sorted(cells, key=lambda cell: find_method(cell[1]).spreads):
            found[id(one), method] = solve(
                one,
                method=method,
                objective=objective,
                gpus=_gpus_for(method, gpus, found.get((id(one), STRONGEST))),
                time_limit_s=time_limit_s,
                total_limit_s=None if total_limit_s is None else max(end.clock_s, OVER_S),
                gap_limit=gap_limit,
                acceptance=acceptance,
                seed=seed,
                workers=workers,
                progress=progress,
                params=params,
            )
    results = [found[id(one), method] for one, method in cells]
    return Comparison((_prepared(results[0], compiling_s), *results[1:]))


def _cells(
    scenarios: Sequence[Scenario], named: Sequence[str] | None, objective: str | Sequence[str] | None
) -> list[tuple[Scenario, str]]:
    """Each scenario with each method, or where none is named with those compared by its objectives."""

    def of(one: Scenario) -> Sequence[str]:
        return compared(several(objective) if objective else one.objective) if named is None else named

    return [(one, name) for one in scenarios for name in of(one)]


def _gpus_for(method: str, gpus: int | None, strongest: Result | None) -> int | None:
    """GPUs for a method: those given, or as many as the strongest needs where it only spreads adapters."""
    if gpus is None and strongest is not None and find_method(method).spreads:
        return strongest.gpus or 1
    return gpus


def _compile(cells: Sequence[tuple[Scenario, str]], workers: int, end: Deadline, progress: Progress) -> float:
    """Compile what all methods need at once, which several processes do best; the seconds that it took."""
    started = time.monotonic()
    profiles = {id(scenario): twin.profiles_of(scenario) for scenario, _ in cells}
    profile = profiles[id(cells[0][0])][cells[0][0].devices[0].name]
    kernels = {group for _, name in cells for group in kernels_of(find_method(name))}
    kernels |= {group for scenario, _ in cells for group in twin_loops(scenario, profiles[id(scenario)])}
    with suppress(Stopped):  # every method says so itself
        compile_loops(profile, kernels, workers, end, interruptible(progress))
    return time.monotonic() - started


def _prepared(result: Result, seconds: float) -> Result:
    """The result with more preparation: what all methods share is told once, with the first of them."""
    more = {"seconds": result.seconds, "preparation_seconds": result.preparation_seconds}
    return result.model_copy(update={name: before + seconds for name, before in more.items()})


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
    cells: Sequence[tuple[Scenario, str]], objective: str | Sequence[str] | None, gpus: int | None
) -> None:
    """Refuse methods that do not do a scenario's objective, or the one asked for; each problem once."""
    asked = [objective] if isinstance(objective, str) else objective
    problems = [
        problem
        for one, method in cells
        for problem in unsuited(find_method(method), asked or one.objective, gpus)
    ]
    if problems:
        raise ScenarioError(list(dict.fromkeys(problems)), "compare")


def _gpus(result: Result) -> list[Part]:
    """The plan GPU by GPU, unless it has too many."""
    if result.gpus is None or result.gpus <= MOST_SHOWN:
        return [*gpu_parts(result), *rejections(result)]
    return [gpu_ranges(result), "each of them: `lorapack solve`, or --json"]


def _in_short(result: Result) -> list[Text]:
    """What is to be known of a result that is not shown; nothing where all is well."""
    first, *further = outcome_lines(result)
    notes = [line for line in further if line.plain.startswith("note: ")]
    well = result.accepted and result.stop_reason not in CUT_SHORT and not notes
    return [] if well else [first, *notes]


def _row(result: Result) -> dict[str, Any]:
    """What a data frame has of a result, what matters first."""
    report = result.validation
    gpus = report.gpus if report else ()
    values = zip(result.objectives, result.objective_values, strict=False)
    return {
        "scenario": result.scenario.name,
        "acceptance": result.acceptance,
        "method": result.method,
        "status": result.status,
        "gpus": result.gpus,
        "bound": result.bound,
        "gap": result.gap,
        "accepted": report.accepted if report else None,
        "itl_ms": report.itl_ms if report else None,
        "ttft_ms": report.ttft_ms if report else None,
        "ttft_p50_ms": _largest([gpu.ttft_p50_ms for gpu in gpus]),
        "ttft_p99_ms": _largest([gpu.ttft_p99_ms for gpu in gpus]),
        "search_seconds": round(result.search_seconds, 3),
        "objective": result.objective,
        **{f"objective_{name}": value for name, value in values},
        "outer_bound": result.outer_bound,
        "stop_reason": result.stop_reason,
        "no_plan": None if result.no_plan is None else result.no_plan.reason.value,
        "rejected_gpus": sum(not gpu.accepted for gpu in gpus) if report else None,
        "starved_adapters": sum(len(gpu.starved) for gpu in gpus) if report else None,
        "memory_errors": sum(gpu.memory_failure is not None for gpu in gpus) if report else None,
        "iterations": result.iterations,
        "cuts": result.cuts,
        "preparation_seconds": round(result.preparation_seconds, 3),
        "seconds": round(result.seconds, 3),
    }


def _overview(results: Sequence[Result]) -> Table:
    """The plans of one scenario, one per row."""
    rows = [_row(result) for result in results]
    limits = limited_latencies(results[0].scenario.service_levels)
    limited = limits or any(entry_latencies(r.validation.gpus) for r in results if r.validation)
    first = results[0].objectives[0]
    extra = [name for name in ("starved_adapters", "memory_errors") if any(row[name] for row in rows)]
    columns = [
        Column("method"), Column("status", 8), Column(">GPUs"),
        *([] if first == "gpus" else [Column(f">{objective_heading(first)}", 1)]),
        Column(">bound", 3), Column(">gap", 6),
        Column("twin"),
        *([Column(">headroom", 1)] if limited else []),
        Column(">ITL ms", 5), Column(">TTFT ms", 2), Column(">p50", 4), Column(">p99", 1),
        Column(">s", 7),
        *(Column(f">{name.split('_')[0]}", 4) for name in extra),
    ]  # fmt: skip
    return table(
        columns,
        [
            [
                row["method"], row["status"].replace("_", " "), row["gpus"],
                *([] if first == "gpus" else [row["objective"]]),
                row["bound"], None if row["gap"] is None else f"{row['gap']:.1%}",
                verdict_word(row["accepted"]),
                *([headroom_cell(_least_headroom(result, limits))] if limited else []),
                row["itl_ms"], row["ttft_ms"], row["ttft_p50_ms"], row["ttft_p99_ms"],
                f"{result.search_seconds:.1f}",
                *(row[name] for name in extra),
            ]
            for result, row in zip(results, rows, strict=True)
        ],
        title=results[0].scenario.name,
    )  # fmt: skip


def _largest(values: Sequence[float | None]) -> float | None:
    """The largest of some figures; None where none was measured."""
    return max((value for value in values if value is not None), default=None)


def _least_headroom(result: Result, limits: Mapping[Criterion, float]) -> float | None:
    """The smallest headroom of a plan's GPUs; None where one was not measured."""
    shares = [headroom(gpu, limits) for gpu in result.validation.gpus] if result.validation else []
    return None if None in shares else min((share for share in shares if share is not None), default=None)
