"""The what-if grid: every cell is what a search of its own finds, and neighbours bound each other soundly."""

from __future__ import annotations

import json
import math
import shlex
from functools import cache
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import learn
import scenarios
from optimizer.cli.commands import app
from optimizer.explanation.sensitivity import without_limits
from optimizer.packing.model.params import PackingParams
from optimizer.packing.model.problem import Packing, PackingOption, PackingProblem
from optimizer.packing.solver import pack
from optimizer.reporting.contents import WhatIfGrid
from optimizer.reporting.grid import Cell, Grid, is_heavier
from optimizer.reporting.params import ReportParams
from optimizer.reporting.what_if import NO_ROWS, at_patience, load_factors, what_if_grid
from optimizer.search.params import SolveParams
from optimizer.search.preparation import instance_of
from scenarios import UNLIMITED, Deadline, EngineOption, Scenario, at_load, noticed
from scenarios.stopping.interrupts import request
from scenarios.stopping.progress import silent

FAST = ("acceptance=paper", "replications=1", "objective=gpus")
TUNED = SolveParams()
FEW = ReportParams(least_load=0.5, most_load=2.0, load_step=0.5, patience_s=(10.0,))


def scenario_of(*entries: dict[str, Any], acceptance: str = "paper") -> Scenario:
    template = scenarios.read("paper_high_128", [f"acceptance={acceptance}", *FAST[1:]])
    return scenarios.from_mapping(template.model_dump(mode="json") | {"adapters": list(entries)})


@cache
def mixed(acceptance: str = "paper") -> Scenario:
    return scenario_of(
        {"name": "big", "count": 5, "rank": 32, "rate": 5.0},
        {"name": "small", "count": 24, "rank": 8, "rate": 2.0},
        acceptance=acceptance,
    )


def grid_of(scenario: Scenario, params: ReportParams = FEW, deadline: Deadline = UNLIMITED) -> WhatIfGrid:
    grid = what_if_grid(scenario, TUNED, params, 1, silent, deadline)
    assert isinstance(grid, WhatIfGrid)
    return grid


def alone(scenario: Scenario, load: float, method: str) -> Packing | None:
    """The plan of one cell by a search that knows no other cell."""
    inner = without_limits(instance_of(at_load(scenario, load)).inner)
    return pack(inner, method, time_limit_s=60.0, seed=scenario.seed).packing


# --- the grid ----------------------------------------------------------------------------------------


def test_every_cell_is_what_a_search_of_its_own_finds() -> None:
    grid = grid_of(mixed())
    assert grid.load_factors == (0.5, 1.0, 1.5, 2.0)
    assert grid.patience_s == ()
    assert grid.complete
    for load, exact, greedy in zip(grid.load_factors, grid.exact[0], grid.greedy[0], strict=True):
        best, quick = alone(mixed(), load, "cpsat"), alone(mixed(), load, "greedy")
        assert best is not None
        assert (exact.state, exact.gpus, exact.bound) == ("solved", len(best), len(best))
        assert greedy.gpus == (None if quick is None else len(quick))
        assert greedy.state == ("no_plan" if quick is None else "solved")
        assert greedy.bound is None
    counts = [cell.gpus or 0 for cell in grid.exact[0]]
    assert counts == sorted(counts)
    assert counts[0] < counts[-1]


def test_hot_adapters_are_split_by_the_rows_alone() -> None:
    scenario = scenario_of({"name": "hot", "rank": 8, "rate": 30.0})
    grid = grid_of(scenario)
    counts = [cell.gpus or 0 for cell in grid.exact[0]]
    assert counts[0] == 1
    assert counts[-1] >= 2
    whole = scenario.model_copy(update={"allow_replicas": False})
    assert [cell.state for cell in grid_of(whole).exact[0]][-1] == "no_plan"


def test_under_sustained_the_scenarios_own_patience_is_there_and_what_is_not_known_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    real = learn.known_regions

    def only_ten(scenario: Scenario, *rest: Any, **more: Any) -> Any:
        known = scenario.service_levels.patience_s == 10.0
        return real(scenario, *rest, **more) if known else None

    monkeypatch.setattr(learn, "known_regions", only_ten)
    grid = grid_of(mixed("sustained"), FEW.model_copy(update={"patience_s": (2.0, 10.0)}))
    assert (grid.patience_s, grid.planned_patience_s) == ((10.0,), 10.0)
    assert "a patience of 2 s" in grid.missing
    assert len(grid.exact) == len(grid.greedy) == 1
    assert grid.command.endswith("--load-factor {load} --set service_levels.patience_s={patience}")


def test_every_patience_with_regions_has_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    real = learn.known_regions

    def as_of_ten(scenario: Scenario, *rest: Any, **more: Any) -> Any:
        return real(at_patience(scenario, 10.0), *rest, **more)

    monkeypatch.setattr(learn, "known_regions", as_of_ten)
    params = FEW.model_copy(update={"patience_s": (2.0, 30.0)})
    grid = grid_of(mixed("sustained"), params)
    assert grid.patience_s == (2.0, 10.0, 30.0)
    assert grid.missing == ""
    assert len({tuple(cell.gpus for cell in line) for line in grid.exact}) == 1  # the same rows


def test_without_regions_there_is_no_grid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learn, "known_regions", lambda *_, **__: None)
    assert what_if_grid(mixed(), TUNED, FEW, 1, silent, UNLIMITED) == NO_ROWS


def test_a_month_costs_what_is_stated_where_all_gpus_cost_the_same() -> None:
    priced = scenarios.override(mixed(), "devices[0].price_per_hour=2")
    assert grid_of(priced, FEW.model_copy(update={"most_load": 0.5})).cost_of_gpu_per_month == 1460.0
    assert grid_of(mixed(), FEW.model_copy(update={"most_load": 0.5})).cost_of_gpu_per_month is None


def test_progress_begins_with_nothing_and_ends_with_all() -> None:
    told: list[tuple[str, int, int]] = []
    what_if_grid(mixed(), TUNED, FEW, 1, lambda *one: told.append(one), UNLIMITED)
    grid = [(done, total) for label, done, total in told if label == "what if"]
    assert grid[0] == (0, 8)
    assert grid[-1] == (8, 8)
    assert [done for done, _ in grid] == sorted(done for done, _ in grid)


def test_what_is_interrupted_tells_what_it_has() -> None:
    def interrupting(label: str, done: int, _: int) -> None:
        if label == "what if" and done == 3:
            request()

    with noticed():
        grid = what_if_grid(mixed(), TUNED, FEW, 1, interrupting, UNLIMITED)
    assert isinstance(grid, WhatIfGrid)
    assert not grid.complete
    assert {cell.state for cell in grid.greedy[0]} == {"not_computed"}
    states = [cell.state for cell in grid.exact[0]]
    assert {"solved", "not_computed"} <= set(states)
    counted = [cell.gpus for cell in grid.exact[0] if cell.state == "solved"]
    assert all(gpus is not None for gpus in counted)


def test_a_cell_that_was_not_finished_is_a_range() -> None:
    problem = PackingProblem.bin_packing([0.6, 0.6, 0.5, 0.4, 0.4, 0.3], 1.0)
    packing = pack(problem, "ffd").packing
    assert packing is not None
    said = Cell(problem, packing, bound=len(packing) - 1).answer()
    assert (said.state, said.gpus, said.bound) == ("open", len(packing), len(packing) - 1)
    assert Cell(problem).answer().state == "not_computed"
    assert Cell(None).answer().state == "no_plan"


def test_the_loads_of_the_grid_have_no_noise() -> None:
    loads = load_factors(ReportParams())
    assert loads == tuple(round(0.5 + 0.05 * k, 2) for k in range(31))


# --- neighbours --------------------------------------------------------------------------------------


def problem(sizes: tuple[float, ...], counts: tuple[int, ...], capacity: float = 1.0) -> PackingProblem:
    option = PackingOption(
        "bin", usage=np.array([sizes]), capacity=np.array([capacity]), option=EngineOption("bin", 1, 8)
    )
    return PackingProblem(np.array(counts), (option,))


def test_what_takes_more_of_every_row_is_heavier() -> None:
    light, heavy = problem((0.3137, 0.2211), (4, 4)), problem((0.3537, 0.2211), (4, 4))
    assert is_heavier(heavy, light)
    assert not is_heavier(light, heavy)
    assert is_heavier(light, light)


@pytest.mark.parametrize(
    "other",
    [
        problem((0.4, 0.2), (4, 4)),  # one is smaller
        problem((0.5, 0.5), (4, 3)),  # not as many
        problem((0.5,), (8,)),  # other classes
        None,
    ],
)
def test_what_does_not_is_not(other: PackingProblem | None) -> None:
    assert not is_heavier(other, problem((0.3137, 0.2211), (4, 4)))


@pytest.mark.parametrize("seed", range(12))
def test_a_grid_agrees_with_single_searches_of_random_problems(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes, counts = rng.uniform(0.05, 0.3, 3), tuple(int(n) for n in rng.integers(1, 5, 3))
    cells = {
        (0, k): Cell(problem(tuple(sizes * load), counts)) for k, load in enumerate(np.linspace(0.5, 3, 8))
    }
    grid = Grid(cells, UNLIMITED, 10.0, 0, 1, PackingParams(), "greedy")
    list(grid.start())
    known = list(grid.settle())
    assert known[-1] == len(cells)
    for cell in cells.values():
        assert cell.problem is not None
        assert cell.packing is not None
        best = pack(cell.problem, "cpsat", time_limit_s=30.0).objective
        assert len(cell.packing) == cell.bound == best


def test_a_plan_of_a_heavier_cell_serves_a_lighter_one() -> None:
    light, heavy = problem((0.3137,), (9,)), problem((0.3337,), (9,))
    plan = pack(heavy, "exact").packing
    assert plan is not None
    cells = {(0, 0): Cell(light, bound=1), (0, 1): Cell(heavy, plan, len(plan))}
    grid = Grid(cells, Deadline.after(0.0), 10.0, 0, 1, PackingParams(), "greedy")
    grid._bounds = {place: tuple(grid._heavier(place)) for place in cells}
    grid._spread()
    assert cells[0, 0].packing is plan
    assert cells[0, 0].bound == 1  # a bound never goes down to lighter ones


# --- the command -------------------------------------------------------------------------------------


def test_the_command_asks_the_twin_for_the_cell(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = grid_of(mixed())
    monkeypatch.chdir(tmp_path)
    scenarios.write(mixed(), tmp_path / "scenario.yaml")
    words = shlex.split(grid.command.format(load=grid.load_factors[-1]))
    assert words[:2] == ["lorapack", "solve"]
    done = CliRunner().invoke(app, [*words[1:], "--method", "bfd", "--quiet", "--json", "out.json"])
    assert done.exit_code == 0, done.output
    result = json.loads((tmp_path / "out.json").read_text())
    assert scenarios.from_mapping(result["scenario"]) == at_load(mixed(), 2.0)
    cell = grid.exact[0][-1].gpus
    assert cell is not None
    assert math.isclose(result["gpus"], cell, abs_tol=2)


def test_the_command_has_gpus_enough_for_every_cell() -> None:
    few = scenarios.override(mixed(), "devices[0].count=2")
    grid = grid_of(few)
    most = max(cell.gpus or 0 for cell in (*grid.exact[0], *grid.greedy[0]))
    assert most > 2
    assert grid.gpus_available == 2
    assert f"--set 'devices[0].count={most}'" in grid.command
