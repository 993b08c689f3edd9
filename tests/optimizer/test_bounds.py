"""Bounds are never above the optimum, dual feasible functions reach what the continuous one misses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.packing import pack
from optimizer.packing.bounds.price_bounds import (
    _threshold_bound,
    bound_by_row_prices,
    continuous_bound,
    continuous_relaxation,
    dual_feasible_bound,
)
from optimizer.packing.branch_and_price.column_generation import generate_columns
from optimizer.packing.branch_and_price.dual_inequalities import dual_optimal_inequalities
from optimizer.packing.heuristics.first_fit import BinFiller
from optimizer.packing.model.problem import PackingOption, PackingProblem
from optimizer.packing.model.search_state import SearchState, round_up
from scenarios import UNLIMITED, Deadline, EngineOption

Optimum = Callable[[PackingProblem], float]
Random = Callable[..., PackingProblem]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), cuts=st.booleans())
def test_no_bound_is_above_the_optimum(
    seed: int, cuts: bool, optimum: Optimum, random_problem: Random
) -> None:
    problem = random_problem(seed, cuts=cuts)
    best = optimum(problem)
    assert continuous_bound(problem) <= best + 1e-6
    if np.isfinite(best) and not len(problem.unpackable()):
        assert dual_feasible_bound(problem) <= best + 1e-6


@settings(max_examples=25, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), seconds=st.sampled_from([0.0, 0.02, 20.0]))
def test_the_relaxation_bounds_from_below_wherever_it_is_cut_off(
    seed: int, seconds: float, optimum: Optimum, random_problem: Random
) -> None:
    problem = random_problem(seed, cuts=seed % 2 == 0)
    best, continuous = optimum(problem), continuous_relaxation(problem)
    if not np.isfinite(best):
        return
    run = SearchState(problem, Deadline.after(60))
    relaxation, solved = generate_columns(run, BinFiller(problem), continuous, seconds)
    assert relaxation.bound <= best + 1e-6
    assert run.bound <= best + 1e-6
    if seconds >= 20 and solved is not None:
        assert round_up(relaxation.bound, problem) <= round_up(solved.value, problem) + 1e-6


def test_a_bound_that_is_above_a_price_by_rounding_alone_is_that_price() -> None:
    problem = PackingProblem.bin_packing([3], 10)
    assert round_up(3 + 1e-7, problem) == 3
    assert round_up(3 + 1e-5, problem) == 4


def test_prices_of_rows_prove_no_more_than_there_is_where_a_limit_binds() -> None:
    """Of the cheap bins there is one: with it two pairs cost 4, not what all would cost at the dear price."""
    cheap, dear = (
        PackingOption(name, np.array([[1.0]]), np.array([2.0]), price=price, option=EngineOption(name, 1, 0))
        for name, price in (("cheap", 1.0), ("dear", 3.0))
    )
    problem = PackingProblem([4], (cheap, dear), device_limits={"cheap": 1})
    assert pack(problem).objective == 4
    assert bound_by_row_prices(problem, problem.options, problem.counts, UNLIMITED, 10.0) == 4


def test_dual_feasible_functions_see_that_halves_do_not_share() -> None:
    problem = PackingProblem.bin_packing([6] * 4 + [7] * 3, 10)
    assert round_up(continuous_bound(problem), problem) == 5
    assert round_up(dual_feasible_bound(problem), problem) == 7


def test_dual_feasible_functions_know_the_cheapest_bin_and_the_least_share() -> None:
    """Large items go to the cheap bins, though one dear bin is needed for what those do not take."""
    usage = np.array([[6.0, 1.0]])
    cheap = PackingOption("cheap", usage, np.array([10.0]), allowed=np.array([True, False]))
    dear = PackingOption("dear", usage, np.array([10.0]), price=10.0)
    problem = PackingProblem([4, 1], (cheap, dear))
    assert pack(problem).objective == 13
    assert dual_feasible_bound(problem) == pytest.approx(4.0)
    roomy = replace(problem, options=(cheap, replace(dear, capacity=np.array([30.0]))))
    assert pack(roomy).objective == 10
    assert dual_feasible_bound(roomy) <= 1


def test_the_relaxation_of_large_problems_is_a_bound_when_time_is_short() -> None:
    rng = np.random.default_rng(1)
    usage = rng.uniform(0.02, 0.3, (2, 260))
    problem = PackingProblem(np.full(260, 4), (PackingOption("x", usage, np.ones(2)),))
    result = pack(problem, "exact", time_limit_s=1)
    longer = pack(problem, "bfd")
    assert result.objective is not None
    assert longer.objective is not None
    assert usage.sum(axis=1).max() * 4 - 1e-6 <= result.bound <= result.objective <= longer.objective


def test_exchanges_go_from_larger_to_smaller_classes_only() -> None:
    usage = np.array([[3.0, 2.0, 2.0, 1.0], [1.0, 2.0, 1.0, 1.0]])
    option = PackingOption("x", usage, np.array([9.0, 9.0]))
    problem = PackingProblem(np.array([2, 2, 2, 2]), (option,))
    assert set(dual_optimal_inequalities(BinFiller(problem), 3)) == {(0, 2), (1, 2), (2, 3)}
    narrow = replace(option, name="y", price=0.5, allowed=np.array([True, True, False, True]))
    both = replace(problem, options=(option, narrow))
    assert set(dual_optimal_inequalities(BinFiller(both), 3)) == {(0, 3), (1, 3), (2, 3)}


@pytest.mark.parametrize("family", ["U", "T"])
def test_classic_instances_are_closed(family: str) -> None:
    rng = np.random.default_rng(5)
    if family == "U":
        problem = PackingProblem.bin_packing(rng.integers(20, 101, 120), 150)
    else:
        first = rng.integers(380, 491, 20)
        second = np.array([int(rng.integers(250, (1_000 - a) // 2 + 1)) for a in first])
        problem = PackingProblem.bin_packing(np.concatenate([first, second, 1_000 - first - second]), 1_000)
    result = pack(problem, "exact", time_limit_s=60)
    assert result.status == "optimal"
    assert family == "U" or result.objective == 20


def test_many_classes_without_slack_are_closed() -> None:
    """More classes than a dive prices in full, and a relaxation that is solved before its end."""
    rng = np.random.default_rng([501, 1])
    first = rng.integers(380, 491, 167)
    second = np.array([int(rng.integers(250, (1_000 - a) // 2 + 1)) for a in first])
    sizes = np.concatenate([first, second, 1_000 - first - second])
    result = pack(PackingProblem.bin_packing(sizes, 1_000), "exact", gap_limit=0.02, time_limit_s=60)
    assert result.packing is not None
    assert result.bound == 167


@pytest.mark.parametrize("seed", range(20))
def test_the_threshold_bound_is_that_of_its_best_edge(seed: int) -> None:
    """Over all edges at once it is what the function says of one edge after the other."""
    rng = np.random.default_rng(seed)
    sizes = rng.choice([rng.uniform(0, 1, 30), rng.integers(0, 20, 30) / 20])
    counts = rng.integers(1, 5, len(sizes))
    best = 0.0
    for edge in sizes[sizes <= 0.5]:
        weights = np.where(sizes > 1 - edge + 1e-12, 1.0, np.where(sizes < edge - 1e-12, 0.0, sizes))
        best = max(best, float(weights @ counts))
    assert _threshold_bound(sizes, counts) == pytest.approx(best, rel=1e-12)
