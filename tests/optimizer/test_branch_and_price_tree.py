"""Branching on numbers of bins finds what dives at the root miss, and excludes nothing that exists."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

import scenarios
from optimizer.packing import pack
from optimizer.packing.bounds.price_bounds import raise_bounds
from optimizer.packing.branch_and_price.column_generation import ColumnGeneration, generate_columns
from optimizer.packing.branch_and_price.primal_heuristics import dive
from optimizer.packing.branch_and_price.restricted_master import Master
from optimizer.packing.branch_and_price.tree import place_by_branching
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


@settings(max_examples=80, deadline=None, derandomize=True)
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


def test_the_one_set_of_options_that_holds_all_is_found() -> None:
    """1,024 adapters in the outer region, which fill 11 GPUs: dives and annealing at the root miss it."""
    problem = instance_of(scenarios.read("paper_mixed_1024")).outer
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
