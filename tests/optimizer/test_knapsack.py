"""Knapsacks against all bins tried one by one: rows, cuts, dominance, searches cut short."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from optimizer.packing.branch_and_price.knapsack import (
    Knapsack,
    aggregated,
    bounded_knapsack,
    by_efficiency,
    fractional,
    rivals_of,
    row_multipliers,
    table_knapsack,
)
from optimizer.packing.heuristics.first_fit import BinFiller, holds
from optimizer.packing.model.problem import NoGoodCut, PackingOption, PackingProblem

SEEDS = range(60)


def problem_of(seed: int) -> PackingProblem:
    """Up to six classes of up to three items in bins of one to three rows, with cuts at times."""
    rng = np.random.default_rng([31, seed])
    n, m = int(rng.integers(2, 7)), int(rng.integers(1, 4))
    option = PackingOption("bin", rng.integers(0, 9, (m, n)), rng.integers(8, 20, m))
    counts = rng.integers(1, 4, n)
    if seed % 2:
        return PackingProblem(counts, (option,))
    starved = np.minimum(rng.integers(0, 3, n) + np.eye(n, dtype=int)[0], counts)
    dominance = rng.integers(0, 4, (n, 2)).astype(float)
    return PackingProblem(counts, (option,), cuts=(NoGoodCut((0,), starved),), dominance=dominance)


def profit_of(seed: int, n: int) -> np.ndarray:
    """Worth of items, some of them alike, and some nothing."""
    return np.random.default_rng([32, seed]).choice([0.0, 0.5, 1.0, 1.5, 1.7], n)


def best_value(filler: BinFiller, profit: np.ndarray, upper: np.ndarray) -> float:
    """Value of the best bin, by trying all."""
    bins = (np.array(counts) for counts in itertools.product(*(range(int(u) + 1) for u in upper)))
    return max(float(profit @ counts) for counts in bins if holds(filler, 0, counts))


def ready(filler: BinFiller, profit: np.ndarray, upper: np.ndarray, rivals: int = 4) -> Knapsack:
    problem = filler.problem
    return bounded_knapsack(
        profit, upper, problem.rows[0], filler.tables[0], filler.swap_measures,
        multiplier_rounds=25, rivals=rivals,
    )  # fmt: skip


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("rivals", [0, 1, 4])
def test_the_tree_finds_the_best_bin(seed: int, rivals: int) -> None:
    problem = problem_of(seed)
    filler, profit = BinFiller(problem), profit_of(seed, problem.n_classes)
    upper = np.minimum(problem.rows[0].most, problem.counts)
    counts, value, bound, _ = ready(filler, profit, upper, rivals).search(0.0, 100_000, len(profit))
    assert value == pytest.approx(best_value(filler, profit, upper))
    assert value == pytest.approx(profit @ counts)
    assert value <= bound <= value * (1 + 1e-8) + 1e-9
    assert (counts <= upper).all()
    assert holds(filler, 0, counts)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("nodes", [1, 2, 5])
def test_a_tree_that_is_cut_short_still_bounds(seed: int, nodes: int) -> None:
    problem = problem_of(seed)
    filler, profit = BinFiller(problem), profit_of(seed, problem.n_classes)
    upper = np.minimum(problem.rows[0].most, problem.counts)
    counts, value, bound, visited = ready(filler, profit, upper).search(0.0, nodes, len(profit))
    assert 1 <= visited <= nodes
    assert value <= best_value(filler, profit, upper) + 1e-9
    assert bound >= best_value(filler, profit, upper) - 1e-9
    assert holds(filler, 0, counts)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_bin_is_searched_for_only_if_it_is_worth_enough(seed: int) -> None:
    problem = problem_of(seed)
    filler, profit = BinFiller(problem), profit_of(seed, problem.n_classes)
    upper = np.minimum(problem.rows[0].most, problem.counts)
    best = best_value(filler, profit, upper)
    for enough in (0.5 * best, best - 1e-3, best, best + 1.0):
        _, value, bound, _ = ready(filler, profit, upper).search(enough, 100_000, len(profit))
        assert bound >= best - 1e-9
        assert value == pytest.approx(best) or (enough >= best and bound >= enough)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_table_finds_the_best_bin_of_one_row(seed: int) -> None:
    rng = np.random.default_rng([33, seed])
    n, capacity = int(rng.integers(1, 7)), int(rng.integers(5, 30))
    option = PackingOption("bin", rng.integers(0, 9, (1, n)), np.array([capacity]))
    problem = PackingProblem(rng.integers(1, 8, n), (option,))
    profit, rows = profit_of(seed, n), problem.rows[0]
    upper = np.minimum(rows.most, problem.counts)
    counts, value = table_knapsack(profit, upper, rows.usage[0], int(rows.capacity[0]))
    assert value == pytest.approx(best_value(BinFiller(problem), profit, upper))
    assert value == pytest.approx(profit @ counts)
    assert holds(BinFiller(problem), 0, counts)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_weight_of_the_rows_bounds_and_fitted_ones_no_worse_than_equal_ones(seed: int) -> None:
    problem = problem_of(seed)
    filler, profit, rows = BinFiller(problem), profit_of(seed, problem.n_classes), problem.rows[0]
    upper = np.minimum(rows.most, problem.counts)
    bounds = []
    for rounds in (1, 2, 25):
        weights = row_multipliers(profit, upper, rows.usage, rows.capacity, rounds)
        assert weights.sum() == pytest.approx(1.0)
        load = aggregated(rows.usage, rows.capacity, weights)
        order, none = by_efficiency(profit, upper, load), np.zeros_like(upper)
        rivals = np.full((len(order), 0), -1)
        bounds.append(fractional(0, 1.0, profit[order], load[order], upper[order], rivals, none[order]))
    assert min(bounds) >= best_value(filler, profit, upper) - 1e-9
    assert bounds[0] >= bounds[1] - 1e-9 >= bounds[2] - 2e-9


def test_a_rival_is_worth_as_much_and_takes_no_more() -> None:
    profit, none = np.array([3.0, 2.0, 2.0, 1.0]), np.zeros((4, 0))
    usage = np.array([[1, 1, 2, 2], [1, 2, 1, 2]])
    assert rivals_of(profit, usage, none, 4).tolist() == [
        [-1, -1, -1, -1],
        [0, -1, -1, -1],
        [0, -1, -1, -1],
        [2, 1, 0, -1],
    ]
    assert rivals_of(profit, usage, none, 1).tolist() == [[-1], [0], [0], [2]]
    heavier = np.array([[2.0], [1.0], [1.0], [1.0]])
    assert rivals_of(profit, usage, heavier, 4)[3].tolist() == [2, 1, -1, -1]


def test_classes_that_are_worth_nothing_or_do_not_fit_are_left_out() -> None:
    profit, upper, load = (
        np.array([1.0, 0.0, 2.0, 1.0]),
        np.array([1, 1, 0, 1]),
        np.array([0.5, 0.1, 0.1, 0.0]),
    )
    assert by_efficiency(profit, upper, load).tolist() == [3, 0]
