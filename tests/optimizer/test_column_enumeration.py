"""Annealing and the list of all bins at the bound: what closes the last gap of the pattern model."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.packing import pack
from optimizer.packing.bounds.price_bounds import Proof, proof_of, raise_bounds
from optimizer.packing.branch_and_price.column_enumeration import columns_within_gap, place_by_enumeration
from optimizer.packing.branch_and_price.column_generation import generate_columns
from optimizer.packing.branch_and_price.knapsack import bounded_knapsack
from optimizer.packing.heuristics.annealing import anneal_to_bin_count
from optimizer.packing.heuristics.first_fit import BinFiller, holds, place_best_fit
from optimizer.packing.model.checker import check
from optimizer.packing.model.problem import PackingOption, PackingProblem
from optimizer.packing.model.search_state import SearchState
from scenarios import Deadline

Optimum = Callable[[PackingProblem], float]
Random = Callable[..., PackingProblem]


def run_of(problem: PackingProblem, seed: int = 0) -> SearchState:
    return SearchState(problem, Deadline.after(60), seed=seed)


def triplets(n: int, seed: int) -> PackingProblem:
    """Items that fill n bins of 1,000 exactly, three each, and no other way near it (Falkenauer 1996)."""
    rng = np.random.default_rng(seed)
    sizes = []
    for _ in range(n):
        first = int(rng.integers(380, 491))
        second = int(rng.integers(250, (1_000 - first) // 2 + 1))
        sizes += [first, second, 1_000 - first - second]
    return PackingProblem.bin_packing(sizes, 1_000)


def test_annealing_finds_what_best_fit_misses() -> None:
    """Five items of about a fifth each: any bin with a large one more is a bin with one item fewer."""
    rng = np.random.default_rng(7)
    problem = PackingProblem.bin_packing(rng.integers(160, 239, 100), 1_000)
    run = run_of(problem)
    place_best_fit(run)
    continuous = raise_bounds(run)
    before = run.value
    anneal_to_bin_count(run, BinFiller(problem), continuous, 30)
    assert run.value == run.bound < before
    assert run.packing is not None
    assert check(problem, run.packing) == []
    assert pack(problem, "local", time_limit_s=30).objective == run.value


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 100_000), cuts=st.booleans())
def test_annealing_keeps_every_limit(seed: int, cuts: bool, random_problem: Random, optimum: Optimum) -> None:
    problem = random_problem(seed, cuts=cuts)
    run = run_of(problem)
    place_best_fit(run)
    continuous = raise_bounds(run)
    before = run.value
    anneal_to_bin_count(run, BinFiller(problem), continuous, 5)
    assert run.value <= before
    if run.packing is not None:
        assert check(problem, run.packing) == []
        assert run.value >= optimum(problem) - 1e-9


def test_pricing_stops_in_the_middle_of_a_round(random_problem: Random) -> None:
    """One round over many options of many classes can take longer than the whole limit."""
    problem = random_problem(11)
    assert len(problem.options) > 1
    run = run_of(problem)
    place_best_fit(run)
    relaxation, solved = generate_columns(run, BinFiller(problem), raise_bounds(run), seconds=0)
    assert solved is not None
    asked = 0

    def until() -> bool:
        nonlocal asked
        asked += 1
        return asked > 1

    stopped = replace(relaxation, until=until, bound=0.0, centre=None, proof=None)
    stopped._price(solved.duals, solved.duals, 300)
    assert asked == 2
    assert (stopped.bound, stopped.proof) == (0.0, None)
    assert not replace(relaxation, until=lambda: True)._prove(solved)


def test_annealing_gives_the_same_plan_again() -> None:
    problem = PackingProblem.bin_packing(np.random.default_rng(3).integers(20, 101, 200), 150)
    plans = []
    for _ in range(2):
        run = run_of(problem, seed=5)
        place_best_fit(run)
        continuous = raise_bounds(run)
        anneal_to_bin_count(run, BinFiller(problem), continuous, 60)
        assert run.packing is not None
        plans.append([b.counts.tolist() for b in run.packing.bins])
    assert plans[0] == plans[1]


def test_perfect_triplets_are_found_among_all_bins() -> None:
    problem = triplets(40, seed=1)
    run = run_of(problem)
    continuous = raise_bounds(run)
    assert run.bound == 40
    place_by_enumeration(run, BinFiller(problem), proof_of(continuous, problem))
    assert run.value == 40
    assert run.packing is not None
    assert check(problem, run.packing) == []
    assert run.statistics["listed_bins"] > 0


def test_a_bound_that_no_packing_reaches_is_raised() -> None:
    """Sizes that sum to less than two bins but need three (Marcotte 1986)."""
    problem = PackingProblem.bin_packing([44] * 2 + [33] * 3 + [12] * 6, 132)
    run = run_of(problem)
    proof = proof_of(raise_bounds(run), problem)
    assert run.bound == 2
    place_by_enumeration(run, BinFiller(problem), proof)
    assert run.packing is None
    assert run.bound == 3
    assert pack(problem, "exact").objective == 3


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 100_000), cuts=st.booleans())
def test_the_list_never_excludes_an_optimum(
    seed: int, cuts: bool, random_problem: Random, optimum: Optimum
) -> None:
    problem = random_problem(seed, cuts=cuts)
    run = run_of(problem)
    filler = BinFiller(problem)
    continuous = raise_bounds(run)
    if run.infeasible:
        assert np.isinf(optimum(problem))
        return
    relaxation, _ = generate_columns(run, filler, continuous, 10)
    place_by_enumeration(run, filler, relaxation.proof)
    assert run.bound <= optimum(problem) + 1e-9
    if run.packing is not None:
        assert check(problem, run.packing) == []


@pytest.mark.parametrize("seed", [1, 2, 3, 4])
def test_the_list_by_the_continuous_proof_excludes_no_optimum(
    seed: int, random_problem: Random, optimum: Optimum
) -> None:
    problem = random_problem(seed)
    run = run_of(problem)
    place_by_enumeration(run, BinFiller(problem), proof_of(raise_bounds(run), problem))
    assert run.bound <= optimum(problem) + 1e-9


def test_duals_without_those_of_binding_limits_prove_nothing() -> None:
    item = np.array([[6.0, 6.0]])
    options = (
        PackingOption("small", item, np.array([6.0]), price=1.0),
        PackingOption("large", item, np.array([12.0]), price=1.5, limit=1),
    )
    problem = PackingProblem([2, 2], options)
    run = run_of(problem)
    assert proof_of(raise_bounds(run), problem) is None


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 100_000), cuts=st.booleans(), least=st.floats(0.5, 3.0))
def test_every_full_bin_worth_enough_is_listed(
    seed: int, cuts: bool, least: float, random_problem: Random
) -> None:
    problem = random_problem(seed, cuts=cuts)
    filler = BinFiller(problem)
    profit = np.random.default_rng(seed).random(problem.n_classes) + 0.05
    for o, rows in enumerate(problem.rows):
        most = np.minimum(rows.most, problem.counts)
        items = bounded_knapsack(
            profit, most, rows, filler.tables[o], filler.swap_measures, multiplier_rounds=1, rivals=0
        )
        listed, complete = columns_within_gap(*items[1:], least, 1_000, 100_000)
        assert complete
        full = [np.array(counts) for counts in itertools.product(*(range(n + 1) for n in most))]
        full = [
            counts for counts in full if holds(filler, o, counts) and not _takes_more(filler, o, counts, most)
        ]
        wanted = {tuple(c.tolist()) for c in full if profit @ c >= least and c.any()}
        contents = np.zeros((len(listed), problem.n_classes), dtype=np.int64)
        contents[:, items.order] = listed
        assert {tuple(c.tolist()) for c in contents if c.any()} == wanted


def _takes_more(filler: BinFiller, option: int, counts: np.ndarray, most: np.ndarray) -> bool:
    one_more = (counts + one for one in np.eye(len(counts), dtype=np.int64))
    return any((more <= most).all() and holds(filler, option, more) for more in one_more)


def test_too_many_bins_are_not_listed() -> None:
    problem = PackingProblem.bin_packing(np.random.default_rng(0).integers(20, 60, 300), 1_000)
    run = run_of(problem)
    run.raise_bound(9.0)
    loose = Proof(8.0, np.full(problem.n_classes, 1e-3), np.zeros(1))
    place_by_enumeration(run, BinFiller(problem), loose)
    assert run.packing is None
    assert run.bound == 9
    assert "listed_bins" not in run.statistics


def test_a_missing_proof_for_a_class_is_no_proof() -> None:
    problem = PackingProblem.bin_packing([5, 4, 3], 9)
    run = run_of(problem)
    place_by_enumeration(run, BinFiller(problem), Proof(0.0, np.array([1.0, 0.0, 0.0]), np.zeros(1)))
    assert run.bound == 0


@pytest.mark.parametrize("seed", range(3))
def test_triplets_are_closed_by_the_exact_method(seed: int) -> None:
    result = pack(triplets(60, seed), "exact", time_limit_s=30)
    assert result.objective == result.bound == 60
