"""The contents of a report, from results: everything that is computed for it, once for equal scenarios."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import twin
from optimizer.reporting.answer import FILLING, OF_PAPER, answer_of, greedy_of
from optimizer.reporting.contents import AdapterTable, PlanReport, ReportContents, Saving, WhatIfGrid
from optimizer.reporting.origin import on_given_gpus, origin_of
from optimizer.reporting.params import ReportParams
from optimizer.reporting.reasons import explained, other_gpus
from optimizer.reporting.runs import Runs, simulate_again
from optimizer.reporting.tiles import adapters_of, fills_of, tiles_of, verdicts_of
from optimizer.reporting.what_if import what_if_grid
from optimizer.result import Result
from optimizer.search.instance import Instance
from optimizer.search.level_rows import known_regions_of
from optimizer.search.params import SolveParams
from optimizer.search.preparation import learned_regions, prepare
from optimizer.search.splitting import InfeasibleError
from scenarios import UNLIMITED, Deadline, Stopped, params_from
from scenarios.stopping.progress import Progress, silent
from twin import EngineProfile, TwinJudge

NOT_ASKED = "not asked for"
"""Why there is no what-if grid."""


@dataclass(frozen=True)
class Prepared:
    """A scenario made ready once for all of its results.

    Parameters
    ----------
    judge
        The twin, with its profiles.
    instance
        The scenario as the placers see it; None where there is no such thing.
    why_none
        Why, then.
    """

    judge: TwinJudge
    instance: Instance | None
    why_none: str = ""


@dataclass
class Collector:
    """Makes the report of each result; what belongs to a scenario is made once.

    Parameters
    ----------
    results
        All results of the report.
    params
        How much is shown.
    what_if
        Whether other loads and patiences are computed.
    workers
        Processes and threads; the contents do not depend on it, unless a limit strikes.
    progress
        Called with progress.
    deadline
        When to stop; what is there by then is shown.
    """

    results: Sequence[Result]
    params: ReportParams
    what_if: bool = True
    workers: int = 1
    progress: Progress = silent
    deadline: Deadline = UNLIMITED
    _prepared: dict[str, Prepared] = field(default_factory=dict)
    _grids: dict[str, WhatIfGrid | str] = field(default_factory=dict)
    _savings: dict[str, tuple[Saving, ...]] = field(default_factory=dict)
    _greedies: dict[str, Result] = field(default_factory=dict)

    def report_of(self, result: Result, file: Path | None) -> PlanReport:
        """All about one result."""
        ready, tuned = self._ready(result), params_from(result.params, SolveParams)
        told = explained(
            result, ready.instance, ready.why_none, self._others(result, ready, tuned), self.params
        )
        greedy = self._greedy(result, ready)
        is_own = greedy is not None and greedy.method == result.method
        rows = {row.gpu: row for row in told.rows}
        runs = self._runs(result, ready.judge, fills_of(told.rows))
        grid = self._grid(result, tuned, greedy)
        profiles: Mapping[str, EngineProfile] = ready.judge.profiles
        regions = {} if ready.instance is None else ready.instance.regions
        return PlanReport(
            name=result.scenario.name,
            description=result.scenario.description,
            answer=answer_of(result, None if is_own else greedy, profiles),
            tiles=() if runs is None else tiles_of(result, runs, rows),
            adapters=AdapterTable.empty()
            if runs is None
            else adapters_of(result, runs, self.params.adapters),
            runs=() if runs is None else tuple(runs.figures[gpu].run for gpu in runs.shown),
            left_out="" if runs is None else runs.left_out,
            reasons=told.reasons,
            what_if=None if isinstance(grid, str) else grid,
            no_what_if=grid if isinstance(grid, str) else "",
            origin=origin_of(result, file, profiles, regions),
        )

    def _others(self, result: Result, ready: Prepared, tuned: SolveParams) -> tuple[Saving, ...]:
        """What other kinds of GPU would save."""
        key, instance = _key(result), ready.instance
        if instance is None:
            return ()
        if key not in self._savings:
            found = other_gpus(
                result.scenario, instance, self.params.other_gpus, tuned, self.progress, self.deadline
            )
            self._savings[key] = tuple(found)
        return self._savings[key]

    def _greedy(self, result: Result, ready: Prepared) -> Result | None:
        """The greedy's result for the scenario, which may be this one; None where there can be none."""
        key = f"{_key(result)} {result.gpus if on_given_gpus(result) else None}"
        if ready.instance is None:
            return None
        if key not in self._greedies:
            self._greedies[key] = greedy_of(
                result, self.results, self.params, self.workers, self.progress, self.deadline
            )
        return self._greedies[key]

    def _ready(self, result: Result) -> Prepared:
        """The scenario made ready, with the regions that its search used.

        They are learned if need be, but for results without a plan, of whose GPUs there is nothing to tell.
        """
        key = _key(result)
        if key not in self._prepared:
            scenario, tuned = result.scenario, params_from(result.params, SolveParams)
            judge = TwinJudge(scenario, twin.profiles_of(scenario), self.workers, self.progress)
            planned = any(one.placement is not None for one in self.results if _key(one) == key)
            if planned or known_regions_of(judge, self.deadline, tuned) is not None:
                self._prepared[key] = _prepared(judge, tuned, self.deadline)
            else:
                self._prepared[key] = Prepared(judge, None, result.message)
        return self._prepared[key]

    def _runs(self, result: Result, judge: TwinJudge, fills: Mapping[int, float]) -> Runs | None:
        if result.placement is None:
            return None
        gpus, verdicts = result.placement.gpus, verdicts_of(result)
        return simulate_again(judge, gpus, verdicts, fills, self.params, self.deadline)

    def _grid(self, result: Result, tuned: SolveParams, greedy: Result | None) -> WhatIfGrid | str:
        """The what-if grid of the scenario, with the greedy that finds plans for it; or why there is none."""
        if not self.what_if:
            return NOT_ASKED
        key = _key(result)
        method = FILLING if greedy is not None and greedy.method == FILLING else OF_PAPER
        if key not in self._grids:
            self._grids[key] = what_if_grid(
                result.scenario, tuned, self.params, self.workers, self.progress, self.deadline, method
            )
        return self._grids[key]


def _key(result: Result) -> str:
    """What results must have in common to share what is made of their scenario."""
    return f"{result.scenario.model_dump_json()} {result.params}"


def _prepared(judge: TwinJudge, tuned: SolveParams, deadline: Deadline) -> Prepared:
    try:
        regions = learned_regions(judge, deadline=deadline, params=tuned)
        return Prepared(judge, prepare(judge, regions, deadline=deadline, params=tuned, grouping=True))
    except (InfeasibleError, Stopped) as error:
        return Prepared(judge, None, str(error))


def collect(
    results: Sequence[tuple[Result, Path | None]],
    *,
    params: ReportParams,
    what_if: bool,
    workers: int,
    progress: Progress,
    deadline: Deadline = UNLIMITED,
) -> ReportContents:
    """The contents of a report on results, in their order, each with the file that it was read from."""
    collector = Collector([one for one, _ in results], params, what_if, workers, progress, deadline)
    plans = tuple(collector.report_of(result, file) for result, file in results)
    names = dict.fromkeys(plan.name for plan in plans)
    made_at = datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC")
    return ReportContents(title=", ".join(names), made_at=made_at, plans=plans)
