"""What if the load were another, or the patience: the linear model's answers, exact and greedy.

The twin is asked nothing here but, where step costs are derived, how far the rows of the expected costs are
to be scaled. So an answer may differ from that of `solve`, whose plans the twin accepts; the report holds the
command that asks it.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

from optimizer.explanation.sensitivity import without_limits
from optimizer.packing.model.problem import PackingProblem
from optimizer.packing.registry import METHODS
from optimizer.reporting.answer import OF_PAPER
from optimizer.reporting.contents import HOURS_PER_MONTH, WhatIfCell, WhatIfGrid
from optimizer.reporting.grid import EXACT, Cell, Grid, Place
from optimizer.reporting.model import KnownRows, known_rows, model_instance
from optimizer.reporting.origin import SCENARIO_FILE
from optimizer.reporting.params import ReportParams
from optimizer.search.compilation import compile_loops, twin_loops
from optimizer.search.params import SolveParams
from optimizer.search.preparation import may_group
from optimizer.search.splitting import InfeasibleError
from scenarios import Deadline, Scenario, ScenarioError, Stopped, at_load
from scenarios.stopping.progress import Progress
from scenarios.text.formatting import choice
from twin import profiles_of

LABEL = "what if"
"""What is being done, for progress."""

NO_ROWS = (
    "the regions of the scenario are not known on this machine, so that the model cannot be asked; "
    "they are kept where it is solved, unless the cache is off"
)

NO_TIME = "the time was over before a cell of it was computed"


@dataclass(frozen=True)
class Line:
    """One line of the grid: a patience, and the rows that were learned for it."""

    patience_s: float | None
    rows: KnownRows


def what_if_grid(
    scenario: Scenario,
    tuned: SolveParams,
    params: ReportParams,
    workers: int,
    progress: Progress,
    deadline: Deadline,
    greedy_method: str = OF_PAPER,
) -> WhatIfGrid | str:
    """GPUs by load and patience on the linear rows, or why there are none.

    Parameters
    ----------
    scenario
        The scenario.
    tuned, params
        Parameters of the search, and of the report.
    workers
        Threads of the placers.
    progress
        Called with how many of the cells are done.
    deadline
        When to stop; cells that are not computed by then say so.
    greedy_method
        The greedy that is told beside the exact answers.
    """
    started = time.monotonic()
    try:
        _compile(scenario, greedy_method, tuned, workers, progress, deadline)
        within = deadline.within(params.grid_seconds)
        lines, missing = _lines(scenario, tuned, params, workers, within)
    except Stopped as stopped:
        return str(stopped)
    if not lines:
        return NO_ROWS
    loads = load_factors(params)
    total = 2 * len(lines) * len(loads)
    progress(LABEL, 0, total)
    grid = Grid(
        _cells(lines, loads, scenario.service_levels.patience_s, tuned, within),
        within,
        params.cell_seconds,
        scenario.seed,
        workers,
        tuned.packing,
        greedy_method,
    )
    if not grid.cells:
        return NO_TIME
    greedy = _solved(grid, total, progress)
    exact = {place: cell.answer() for place, cell in grid.cells.items()}
    shape = len(lines), len(loads)
    answers = [*exact.values(), *greedy.values()]
    most = max((one.gpus for one in answers if one.gpus is not None), default=0)
    patience = tuple(line.patience_s for line in lines if line.patience_s is not None)
    return WhatIfGrid(
        load_factors=loads,
        patience_s=patience,
        planned_patience_s=scenario.service_levels.patience_s if patience else None,
        gpus_available=sum(device.count for device in scenario.devices),
        exact=_table(exact, shape),
        greedy=_table(greedy, shape),
        greedy_method=greedy_method,
        cost_of_gpu_per_month=_cost_of_gpu(scenario),
        command=_command(scenario, most, patience=bool(patience)),
        missing=_missing_in_words(missing),
        seconds=round(time.monotonic() - started, 2),
        complete=all(one.state in ("solved", "no_plan") for one in answers)
        and len(answers) == 2 * shape[0] * shape[1],
    )


def load_factors(params: ReportParams) -> tuple[float, ...]:
    """The loads of a grid, in multiples of the scenario's."""
    steps = round((params.most_load - params.least_load) / params.load_step)
    loads = (params.least_load + params.load_step * k for k in range(max(steps, 0) + 1))
    return tuple(round(load, 6) for load in loads)


def _compile(
    scenario: Scenario, greedy: str, tuned: SolveParams, workers: int, progress: Progress, deadline: Deadline
) -> None:
    """Compile what the placers call, so that it takes none of the grid's time."""
    profiles = profiles_of(scenario)
    kernels = (*METHODS[greedy].kernels, *METHODS[EXACT].kernels, *twin_loops(scenario, profiles))
    kernels += ("items",) if may_group(scenario, tuned) else ()
    compile_loops(profiles[scenario.devices[0].name], kernels, workers, deadline, progress)


# --- lines -------------------------------------------------------------------------------------------


def _lines(
    scenario: Scenario, tuned: SolveParams, params: ReportParams, workers: int, deadline: Deadline
) -> tuple[list[Line], list[float]]:
    """A line for each patience whose rows are known, ascending, and the patiences without.

    The criterion *paper* knows no patience: one line.
    """
    if scenario.acceptance == "paper":
        rows = known_rows(scenario, tuned, deadline, workers)
        return ([] if rows is None else [Line(None, rows)]), []
    own = scenario.service_levels.patience_s
    lines, missing = [], []
    for patience in sorted({*params.patience_s, own}):
        rows = known_rows(at_patience(scenario, patience), tuned, deadline, workers)
        if rows is None:
            missing.append(patience)
        else:
            lines.append(Line(patience, rows))
    return lines, missing


def at_patience(scenario: Scenario, seconds: float) -> Scenario:
    """The scenario with another patience; adapters with one of their own keep it."""
    if seconds == scenario.service_levels.patience_s:
        return scenario
    levels = scenario.service_levels.model_copy(update={"patience_s": seconds})
    return scenario.model_copy(update={"service_levels": levels})


def _missing_in_words(missing: Sequence[float]) -> str:
    if not missing:
        return ""
    seconds = choice([f"{one:g}" for one in missing], "and")
    return (
        f"no regions are known for a patience of {seconds} s, which would take about a minute each to learn; "
        f"lorapack solve {SCENARIO_FILE} --set service_levels.patience_s={missing[0]:g} learns them"
    )


# --- cells -------------------------------------------------------------------------------------------


def _cells(
    lines: Sequence[Line], loads: Sequence[float], own: float, tuned: SolveParams, deadline: Deadline
) -> dict[Place, Cell]:
    """The problem of every cell, first at the scenario's own patience; those without time are left out."""
    cells: dict[Place, Cell] = {}
    own_first = sorted(range(len(lines)), key=lambda p: lines[p].patience_s != own)
    for p in own_first:
        line = lines[p]
        for k, load in enumerate(loads):
            if not deadline.reached:
                cells[p, k] = Cell(_problem(line, load, tuned))
    return cells


def _problem(line: Line, load: float, tuned: SolveParams) -> PackingProblem | None:
    """The problem of the fewest GPUs at a load, with as many as are wanted; None: there is no plan."""
    if not line.rows.starts:
        return None
    try:
        instance = model_instance(line.rows, at_load(line.rows.scenario, load), tuned)
    except (InfeasibleError, ScenarioError):  # an adapter fits no GPU, or its rate is above all limits
        return None
    return without_limits(instance.priced("gpus", instance.inner.n_items).inner)


def _solved(grid: Grid, total: int, progress: Progress) -> dict[Place, WhatIfCell]:
    """Solve all cells; the greedy's answers are returned, the exact ones are in the grid."""
    greedy: dict[Place, WhatIfCell] = {}
    for known in grid.start():
        progress(LABEL, known, total)
    for place, answer in grid.greedy():
        greedy[place] = answer
        progress(LABEL, grid.known + len(greedy), total)
    for known in grid.settle():
        progress(LABEL, len(greedy) + known, total)
    progress(LABEL, total, total)
    return greedy


def _table(answers: dict[Place, WhatIfCell], shape: tuple[int, int]) -> tuple[tuple[WhatIfCell, ...], ...]:
    nothing = WhatIfCell(state="not_computed")
    return tuple(tuple(answers.get((p, k), nothing) for k in range(shape[1])) for p in range(shape[0]))


def _cost_of_gpu(scenario: Scenario) -> float | None:
    """What one GPU costs in a month, where all kinds have one stated price."""
    prices = {device.price_per_hour for device in scenario.devices}
    price = prices.pop() if len(prices) == 1 else None
    return None if price is None else HOURS_PER_MONTH * price


def _command(scenario: Scenario, most: int, *, patience: bool) -> str:
    """The command that asks the twin, with more GPUs where the scenario has not enough for all cells."""
    words = [f"lorapack solve {SCENARIO_FILE} --load-factor {{load}}"]
    words += ["--set service_levels.patience_s={patience}"] if patience else []
    if most > sum(device.count for device in scenario.devices):
        words += [f"--set 'devices[{k}].count={most}'" for k in range(len(scenario.devices))]
    return " ".join(words)
