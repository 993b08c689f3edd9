"""Golden LP texts of the assignment model, one problem per family of rows, beside what each must mean.

After a change that is meant, ``python tests/optimizer/test_packing_models.py`` writes them anew.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pulp
import pytest
from ortools.sat.python import cp_model

from optimizer.packing import pack
from optimizer.packing.assignment import cpsat, milp
from optimizer.packing.assignment.formulation import AssignmentModel, assignment_model
from optimizer.packing.assignment.milp import lp_text
from optimizer.packing.assignment.run_model import lower_bound
from optimizer.packing.model.problem import Bin, NoGoodCut, Packing, PackingOption, PackingProblem
from optimizer.packing.model.search_state import SearchState
from scenarios import Deadline, EngineOption

GOLDEN = Path(__file__).parents[1] / "golden"


def base() -> PackingProblem:
    """Three classes, two kinds of bins; class 2 enters the large one only."""
    small = PackingOption(
        "small", np.array([[3.0, 2.0, 5.0]]), np.array([6.0]), allowed=np.array([True, True, False]),
        option=EngineOption("s", 1, 0),
        latency_usage=np.array([[2.0, 1.0, 4.0]]), latency_offset=np.array([1.0]),
    )  # fmt: skip
    large = PackingOption(
        "large", np.array([[3.0, 2.0, 5.0], [1.0, 1.0, 1.0]]), np.array([11.0, 4.0]), price=1.5,
        option=EngineOption("l", 1, 0),
        latency_usage=np.array([[1.0, 1.0, 2.0]]), latency_offset=np.array([2.0]),
    )  # fmt: skip
    return PackingProblem(np.array([3, 2, 1]), (small, large))


def golden_problems() -> dict[str, tuple[PackingProblem, int]]:
    """Problems by the name of their file, with the number of bins."""
    plain = base()
    limited = (replace(plain.options[0], limit=1), plain.options[1])
    dominance = np.array([[1, 0], [0, 0], [-1, 1]])  # class 0 is heavier than 1, 2 is like none
    return {
        "packing_rows": (plain, 2),
        "packing_limits": (replace(plain, options=limited, device_limits={"l": 2}, budget=4.0), 3),
        "packing_cut": (replace(plain, cuts=(NoGoodCut((1,), np.array([1, 1, 1])),), dominance=dominance), 1),
        "packing_worst": (replace(plain, objective="worst", max_bins=2), 2),
        "packing_mean": (replace(plain, objective="mean", max_bins=2), 2),
    }


@pytest.mark.parametrize("name", sorted(golden_problems()))
def test_the_model_is_the_golden_one(name: str) -> None:
    problem, bins = golden_problems()[name]
    assert lp_text(problem, bins) == (GOLDEN / f"{name}.lp").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(golden_problems()))
def test_a_packing_satisfies_every_row_of_its_model(name: str) -> None:
    problem, _ = golden_problems()[name]
    packing = pack(problem, "cpsat").packing
    assert packing is not None
    built = assignment_model(problem, problem.max_bins or len(packing))
    values = built.values(packing)
    assert values is not None
    free = {v for v in range(len(built.formulation.variables)) if v not in values}
    for row in built.formulation.rows:
        if not any(v in free for v, _ in row.terms):
            total = sum(a * values[v] for v, a in row.terms)
            assert row.lower is None or total >= row.lower, row.name
            assert row.upper is None or total <= row.upper, row.name


# --- what a solver's end proves ------------------------------------------------------------------------


def test_the_bound_on_a_latency_is_below_what_rounding_up_adds() -> None:
    """Three items of a third in one bin: the integer model counts each a little larger."""
    problem = PackingProblem.bin_packing([np.pi] * 3, 3 * np.pi).balanced(1)
    built = assignment_model(problem, 1)
    integer = 3 * np.ceil(built.formulation.scale / 3)
    assert integer / built.formulation.scale > 1
    assert 1 - 1e-6 < lower_bound(built, integer) <= 1
    assert lower_bound(built, float("inf")) == 0


def searched(**changes: Any) -> tuple[SearchState, AssignmentModel]:
    """A search that holds three bins where one proven bound says two, and its model."""
    problem = PackingProblem.bin_packing([6, 5, 4], 10)
    run = SearchState(problem, Deadline.after(60), bound=2.0, **changes)
    return run, assignment_model(problem, 3)


THREE_BINS = Packing(tuple(Bin(0, row) for row in np.eye(3, dtype=np.int64)))


def test_what_cpsat_calls_optimal_within_a_gap_limit_is_not_proven() -> None:
    for bound, proven in ((2.0, False), (3.0, True)):
        run, built = searched(gap_limit=0.5)
        values = built.values(THREE_BINS)
        assert values is not None
        solution = [values[v] for v in range(len(built.formulation.variables))]
        solver = SimpleNamespace(
            num_branches=0, num_conflicts=0, best_objective_bound=bound, objective_value=3.0,
            response_proto=SimpleNamespace(solution=solution),
        )  # fmt: skip
        cpsat._record(run, built, solver, cp_model.OPTIMAL, cp_model)
        assert (run.value, run.bound, run.proven) == (3, bound, proven)


@pytest.mark.parametrize(
    ("gap_limit", "cut_short", "bound"), [(0.0, False, 3), (0.5, False, 2), (0.0, True, 2)]
)
def test_what_highs_calls_optimal_is_proven_only_where_it_came_to_its_own_end(
    gap_limit: float, cut_short: bool, bound: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milp, "interrupted", lambda: cut_short)
    run, built = searched(gap_limit=gap_limit)
    values = built.values(THREE_BINS)
    assert values is not None
    variables = [SimpleNamespace(varValue=values[v]) for v in range(len(built.formulation.variables))]
    model = SimpleNamespace(status=pulp.LpStatusOptimal, sol_status=pulp.LpSolutionOptimal)
    milp._record(run, built, model, variables, 2.0)
    assert (run.value, run.bound) == (3, bound)


@pytest.mark.parametrize("cut_short", [False, True])
def test_what_a_solver_says_of_an_interrupted_search_is_no_proof(
    cut_short: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(milp, "interrupted", lambda: cut_short)
    run, built = searched()
    model = SimpleNamespace(status=pulp.LpStatusInfeasible, sol_status=pulp.LpSolutionInfeasible)
    variables = [SimpleNamespace(varValue=None)] * len(built.formulation.variables)
    milp._record(run, built, model, variables, 0.0)
    assert run.infeasible == (not cut_short)


if __name__ == "__main__":
    for file, (shown, count) in golden_problems().items():
        (GOLDEN / f"{file}.lp").write_text(lp_text(shown, count), encoding="utf-8")
