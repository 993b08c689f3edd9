"""The master against scipy: duals, limits that come and go, residual problems; HiGHS as it is wrapped."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import linprog

from optimizer.packing import highs_model
from optimizer.packing.branch_and_price.pricing import cover
from optimizer.packing.branch_and_price.primal_heuristics import repair_overcover
from optimizer.packing.branch_and_price.restricted_master import PRIMAL, Master, ResidualProblem
from optimizer.packing.heuristics.first_fit import BinFiller
from optimizer.packing.highs_model import HighsModel
from optimizer.packing.model.params import ColumnGenerationParams
from optimizer.packing.model.problem import Bin, PackingOption, PackingProblem
from scenarios import Deadline

Random = Callable[..., PackingProblem]
PARAMS = ColumnGenerationParams()


def by_scipy(master: Master, residual: ResidualProblem) -> float:
    """Optimum of the covering programme with artificial columns, written down once more."""
    problem, n = master.problem, master.problem.n_classes
    contents = np.array([b.counts for b in master.columns]).reshape(-1, n).T
    taken = master.weights[:, [b.option for b in master.columns]]
    cost = np.concatenate(
        [problem.prices[[b.option for b in master.columns]], np.full(n, 1_000 * problem.prices.max())]
    )
    rows = [(-np.hstack([contents, np.eye(n)]), -residual.counts.astype(float))]
    free = np.zeros((len(residual.upper), n))
    for sign, side in ((1.0, residual.upper), (-1.0, residual.lower)):
        some = np.isfinite(side)
        rows.append((sign * np.hstack([taken[: len(side)], free])[some], sign * side[some]))
    solved = linprog(cost, A_ub=np.vstack([a for a, _ in rows]), b_ub=np.concatenate([b for _, b in rows]))
    assert solved.success
    return float(solved.fun)


def filled(problem: PackingProblem) -> Master:
    """A master with some columns of every option."""
    master, filler = Master(problem, PARAMS), BinFiller(problem)
    for o, rows in enumerate(problem.rows):
        for one in np.vstack([np.ones(problem.n_classes), np.eye(problem.n_classes)]):
            for column in cover(filler, o, one, rows.most, 0.0, lambda: False):
                master.add(column)
    return master


@pytest.mark.parametrize("seed", range(40))
def test_the_optimum_and_its_duals_are_those_of_the_programme(seed: int, random_problem: Random) -> None:
    problem = random_problem(seed)
    master = filled(problem)
    solution = master.solve(master.root)
    assert solution is not None
    assert solution.value == pytest.approx(by_scipy(master, master.root))
    assert solution.duals.total(problem.counts) == pytest.approx(solution.value)
    for b, amount in zip(master.columns, solution.amount, strict=True):
        reduced = (
            problem.options[b.option].price + solution.duals.bins[b.option] - solution.duals.items @ b.counts
        )
        assert reduced >= -1e-6
        assert amount * reduced == pytest.approx(0.0, abs=1e-6)


@pytest.mark.parametrize("seed", range(40))
def test_a_residual_problem_has_fewer_items_and_tighter_limits(seed: int, random_problem: Random) -> None:
    problem = random_problem(seed)
    master = filled(problem)
    taken = repair_overcover(master.columns[:1], problem.counts)
    residual = master.less(master.root, taken)
    assert (residual.counts == problem.counts - taken[0].counts).all()
    used = master.weights[:, taken[0].option]
    assert residual.upper == pytest.approx(np.maximum(master.root.upper - used, 0.0))
    solution = master.solve(residual)
    assert solution is not None
    assert solution.value == pytest.approx(by_scipy(master, residual))
    again = master.solve(master.root)
    assert again is not None
    assert again.value == pytest.approx(by_scipy(master, master.root))


def test_limits_hold_for_the_residual_problem_that_names_them_alone() -> None:
    usage = np.array([[6.0, 4.0]])
    options = (
        PackingOption("small", usage, np.array([6.0]), price=1.0),
        PackingOption("large", usage, np.array([10.0]), price=1.5),
    )
    master = Master(PackingProblem([2, 2], options), PARAMS)
    for option, counts in ((0, [1, 0]), (0, [0, 1]), (1, [1, 1])):
        master.add(Bin(option, np.array(counts)))
    before = master.root
    master.add_limits(np.array([[0.0, 1.0]]))
    free = master.with_all_limits(before)
    assert (free.lower.tolist(), free.upper.tolist()) == ([-np.inf], [np.inf])
    expected = [
        (before, 3.0, 0.0),
        (replace(free, upper=np.array([1.0])), 3.5, 0.5),
        (replace(free, lower=np.array([3.0])), 4.5, -1.5),
        (before, 3.0, 0.0),
    ]
    for residual, value, dual in expected:
        solution = master.solve(residual)
        assert solution is not None
        assert solution.value == value
        assert solution.duals.bins.tolist() == [0.0, dual]
        assert solution.duals.total(np.array([2, 2])) == value


def test_a_column_is_added_once_and_an_empty_one_never() -> None:
    problem = PackingProblem.bin_packing([5, 4, 3], 9)
    master = Master(problem, PARAMS)
    assert master.add(Bin(0, np.array([1, 1, 0])))
    assert not master.add(Bin(0, np.array([1, 1, 0])))
    assert not master.add(Bin(0, np.array([0, 0, 0])))
    assert len(master.columns) == 1


@pytest.mark.parametrize("price", [2.0, 1_000.0])
def test_items_that_no_column_covers_cost_the_artificial_price(price: float) -> None:
    problem = PackingProblem.bin_packing([5, 4, 3], 9)
    solution = Master(problem, ColumnGenerationParams(artificial_price=price)).solve(
        Master(problem, PARAMS).root
    )
    assert solution is not None
    assert (solution.uncovered, solution.value) == (3, 3 * price)


def test_overcover_is_repaired_and_gaps_are_filled() -> None:
    problem = PackingProblem.bin_packing([5, 4, 4, 3], 9)
    bins = [Bin(0, np.array([1, 1, 0])), Bin(0, np.array([1, 0, 1]))]
    plain = repair_overcover(bins, problem.counts)
    assert [b.counts.tolist() for b in plain] == [[1, 1, 0], [0, 0, 1]]
    full = repair_overcover(bins, problem.counts, BinFiller(problem))
    assert [b.counts.tolist() for b in full] == [[1, 1, 0], [0, 1, 1]]


def test_a_programme_of_whole_numbers_has_a_value_and_a_bound() -> None:
    model = HighsModel(np.array([5.0]), np.array([np.inf]), interruptible=False)
    model.add_column(3.0, [0], [2.0])
    assert model.solve().value == pytest.approx(7.5)
    assert model.solve().duals == pytest.approx([1.5])
    model.make_integer(np.array([0]))
    whole = model.solve(Deadline.after(10))
    assert (whole.optimal, whole.value, whole.bound, whole.columns.tolist()) == (True, 9.0, 9.0, [3.0])


def test_a_search_that_is_cut_short_ends_at_the_same_step_on_every_run() -> None:
    weight = np.random.default_rng(4).integers(0, 100, (4, 30))
    room, ends = weight.sum(axis=1) // 2, []
    for patience_s in (0.02, 0.02, 0.04):
        ones = np.ones(30)
        model = HighsModel(np.append(room, -np.inf * ones), np.append(room, ones), random_seed=1)
        for k, column in enumerate(weight.T):  # a market split: hardly a solution, and a search without end
            model.add_column(float(column[0]), [0, 1, 2, 3, 4 + k], [*column, 1.0])
        model.make_integer(np.arange(30))
        deadline = Deadline.after(60).part(patience_s)
        solution = model.solve(deadline)
        assert (solution.optimal, solution.infeasible) == (False, False)
        ends.append((solution.bound, deadline.work.seconds))
    assert ends[0] == ends[1]
    assert ends[1][1] < ends[2][1]


def test_a_programme_without_a_solution_says_so() -> None:
    model = HighsModel(np.array([5.0]), np.array([np.inf]))
    model.add_column(1.0, [0], [2.0])
    model.fix_columns(np.array([0]), 1.0)
    solution = model.solve()
    assert (solution.optimal, solution.infeasible) == (False, True)
    model.set_rows(np.array([2.0]), np.array([2.0]))
    assert model.solve().columns.tolist() == [1.0]


def random_programme(seed: int, rows: int = 40) -> HighsModel:
    rng = np.random.default_rng(seed)
    lower, upper = rng.uniform(1.0, 5.0, rows), np.full(rows, np.inf)
    model = HighsModel(lower, upper, interruptible=False, simplex_strategy=PRIMAL)
    for _ in range(2 * rows):
        model.add_column(float(rng.uniform(1.0, 2.0)), np.arange(rows), rng.random(rows))
    return model


def test_a_programme_that_goes_in_circles_is_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """So is one that would only take long."""
    expected = random_programme(1).solve()
    assert expected.optimal
    runs = []
    real = HighsModel._run

    def counted(self: HighsModel, deadline: Deadline) -> object:
        monkeypatch.setattr(highs_model, "MOST_PIVOTS", (1 if not runs else 1000, 0))
        runs.append(self._solver.getOptionValue("simplex_strategy")[1])
        return real(self, deadline)

    monkeypatch.setattr(HighsModel, "_run", counted)
    model = random_programme(1)
    again = model.solve()
    assert runs == [4, 1]
    assert again.optimal
    assert again.value == pytest.approx(expected.value)
    assert model.solve().optimal
    assert runs == [4, 1, 4], "the next begins as usual"


def test_a_limit_ends_a_programme_and_counts_from_its_own_beginning() -> None:
    model = random_programme(2, 200)
    assert not model.solve(Deadline.after(-1.0)).optimal
    while model._solver.getRunTime() < 1.0:
        model._solver.clearSolver()
        assert model.solve().optimal
    model._solver.clearSolver()
    assert model.solve(Deadline(at=time.monotonic() + 0.9)).optimal, "those before it do not count"


def test_a_master_ends_with_the_search() -> None:
    problem, rng = PackingProblem.bin_packing(1 + np.arange(200), 9000), np.random.default_rng(3)
    for left_s, ends in ((60.0, False), (-1.0, True)):
        master = Master(problem, PARAMS, deadline=Deadline.after(left_s))
        for counts in rng.random((400, 200)) < 0.5:
            master.add(Bin(0, counts.astype(np.int64)))
        assert (master.solve(master.root) is None) == ends
