"""Branching on numbers of bins finds what dives at the root miss, and excludes nothing that exists."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import scenarios
from optimizer.packing import pack
from optimizer.packing.bounds.price_bounds import Proof, raise_bounds
from optimizer.packing.branch_and_price import branch_and_price
from optimizer.packing.branch_and_price.column_generation import ColumnGeneration, generate_columns
from optimizer.packing.branch_and_price.primal_heuristics import dive
from optimizer.packing.branch_and_price.restricted_master import Master, ResidualProblem
from optimizer.packing.branch_and_price.tree import BranchAndBoundTree, place_by_branching
from optimizer.packing.heuristics.first_fit import BinFiller, place_best_fit
from optimizer.packing.model.checker import check
from optimizer.packing.model.params import ColumnGenerationParams
from optimizer.packing.model.problem import Bin, PackingOption, PackingProblem
from optimizer.packing.model.search_state import SearchState
from optimizer.search.preparation import instance_of
from scenarios import Deadline

Optimum = Callable[[PackingProblem], float]
Random = Callable[..., PackingProblem]
PARAMS = ColumnGenerationParams()


@settings(max_examples=50, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), cuts=st.booleans())
def test_branching_never_excludes_an_optimum(
    seed: int, cuts: bool, optimum: Optimum, random_problem: Random
) -> None:
    problem = random_problem(seed, cuts=cuts)
    run = SearchState(problem, Deadline.after(20))
    place_best_fit(run)
    filler, continuous = BinFiller(problem), raise_bounds(run)
    if run.infeasible:
        assert np.isinf(optimum(problem))
        return
    relaxation, _ = generate_columns(run, filler, continuous, 10)
    place_by_branching(run, relaxation, 10)
    assert run.bound <= optimum(problem) + 1e-9
    if run.packing is not None:
        assert check(problem, run.packing) == []


@pytest.mark.parametrize("answers", list(itertools.product([True, False], repeat=2)))
@pytest.mark.parametrize(
    ("bins", "sides"), [((0.5, 1.1), ["2 <= n", "n <= 1"]), ((0.5, 0.8), ["n <= 1", "2 <= n"])]
)
def test_a_branch_is_excluded_only_with_both_of_its_sides(
    answers: tuple[bool, bool], bins: tuple[float, float], sides: list[str]
) -> None:
    seen, told = list[str](), iter(answers)

    def explore(side: ResidualProblem) -> bool:
        lower, upper = float(side.lower[0]), float(side.upper[0])
        seen.append(f"n <= {upper:g}" if np.isinf(lower) else f"{lower:g} <= n")
        return next(told)

    tree: Any = SimpleNamespace(
        root=SimpleNamespace(master=SimpleNamespace(weights=np.ones((1, 2)))),
        run=SimpleNamespace(done=False), until=lambda: False, explore=explore,
    )  # fmt: skip
    free = ResidualProblem(np.ones(2, dtype=np.int64), np.array([-np.inf]), np.array([np.inf]))
    assert BranchAndBoundTree._branch(tree, free, 0, np.array(bins)) == all(answers)
    assert seen == sides


@pytest.mark.parametrize(
    ("target", "paid", "of_use"), [(2.4, 0.0, False), (2.6, 0.0, True), (2.6, 0.2, False)]
)
def test_an_option_is_closed_only_where_its_bins_cost_more_than_the_target_leaves(
    target: float, paid: float, of_use: bool
) -> None:
    """The best bin is worth 1 at a price of 1.5, and what limits cost; all items are worth 2."""
    problem = PackingProblem([4], (PackingOption("x", np.array([[5.0]]), np.array([10.0]), price=1.5),))
    tree: Any = SimpleNamespace(
        run=SimpleNamespace(problem=problem), target=target,
        root=SimpleNamespace(params=PARAMS, filler=BinFiller(problem)),
    )  # fmt: skip
    proof = Proof(2.0, np.array([0.5]), np.array([paid]))
    assert BranchAndBoundTree._is_of_use(tree, 0, proof) == of_use


@pytest.mark.slow
def test_the_one_set_of_options_that_holds_all_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """1,024 adapters in the outer region, which fill 11 GPUs: dives and annealing at the root miss it."""
    problem = instance_of(scenarios.read("paper_mixed_1024")).outer
    monkeypatch.setattr(branch_and_price, "anneal_to_bin_count", lambda *_: None)  # it takes long to miss it
    result = pack(problem, "exact", time_limit_s=60)
    assert (result.status, result.objective) == ("optimal", 11)
    assert result.statistics["branches"] > 1


def test_a_dive_starts_from_a_solution_that_is_older_than_some_columns() -> None:
    """Branching adds columns after the root's relaxation is solved; dives at the root follow it."""
    problem = PackingProblem([1, 1, 1], (PackingOption("x", np.array([[5.0, 4.0, 3.0]]), np.array([9.0])),))
    run, master = SearchState(problem, Deadline.after(20)), Master(problem, PARAMS)
    for counts in ([1, 1, 0], [1, 0, 1], [0, 1, 1]):
        master.add(Bin(0, np.array(counts)))
    solved = master.solve(master.root)
    assert solved is not None
    assert solved.amount.tolist() == [0.5, 0.5, 0.5]
    master.add(Bin(0, np.array([1, 0, 0])))
    relaxation = ColumnGeneration(BinFiller(problem), master, master.root, lambda: False, (0,), PARAMS)
    dive(run, relaxation, solved, np.random.default_rng(0), 1)
    assert run.value == 2
