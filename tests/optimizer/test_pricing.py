"""Pricing finds the bin of most value under any duals, also those of branching rows; greedy bins cover."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from optimizer.packing.branch_and_price.column_generation import ColumnGeneration
from optimizer.packing.branch_and_price.pricing import cover, price_option
from optimizer.packing.branch_and_price.restricted_master import DualValues, Master, ResidualProblem
from optimizer.packing.heuristics.first_fit import BinFiller, holds
from optimizer.packing.model.params import ColumnGenerationParams
from optimizer.packing.model.problem import PackingOption, PackingProblem

Random = Callable[..., PackingProblem]
PARAMS = ColumnGenerationParams()
BY_TREE = ColumnGenerationParams(table_cells=0)


def best_value(filler: BinFiller, option: int, duals: np.ndarray, limit: np.ndarray) -> float:
    """Value of the best bin of an option, by trying all."""
    bins = (np.array(counts) for counts in itertools.product(*(range(int(n) + 1) for n in limit)))
    return max(float(duals @ counts) for counts in bins if holds(filler, option, counts))


@pytest.mark.parametrize("params", [PARAMS, BY_TREE], ids=["table", "tree"])
@pytest.mark.parametrize("seed", range(40))
def test_the_bin_of_most_value_is_found(
    seed: int, params: ColumnGenerationParams, random_problem: Random
) -> None:
    problem = random_problem(seed, cuts=seed % 3 == 0)
    filler, rng = BinFiller(problem), np.random.default_rng([41, seed])
    duals, limit = rng.choice([0.0, 0.3, 0.5, 1.0], problem.n_classes), rng.integers(0, 1 + problem.counts)
    for o in range(len(problem.options)):
        column = price_option(filler, o, duals, limit, 0.0, 100_000, params)
        assert column.bin.option == o
        assert (column.bin.counts <= limit).all()
        assert holds(filler, o, column.bin.counts)
        assert duals @ column.bin.counts == pytest.approx(best_value(filler, o, duals, limit))
        assert column.bound >= duals @ column.bin.counts - 1e-9


@pytest.mark.parametrize("seed", range(40))
def test_a_bound_holds_wherever_pricing_is_cut_short(seed: int, random_problem: Random) -> None:
    problem = random_problem(seed, cuts=seed % 2 == 0)
    filler, duals = BinFiller(problem), np.random.default_rng([42, seed]).random(problem.n_classes)
    for o in range(len(problem.options)):
        column = price_option(filler, o, duals, problem.counts, 0.0, 1, BY_TREE)
        assert column.bound >= best_value(filler, o, duals, problem.counts) - 1e-9
        assert holds(filler, o, column.bin.counts)


@pytest.mark.parametrize("paid", [-0.6, 0.0, 0.6])
def test_duals_of_branching_rows_shift_what_a_bin_costs(paid: float) -> None:
    """A bin of two items is worth 2, its price is 1.5: whether it enters depends on the limit dual."""
    problem = PackingProblem([4], (PackingOption("x", np.array([[5.0]]), np.array([10.0]), price=1.5),))
    master = Master(problem, PARAMS)
    relaxation = ColumnGeneration(BinFiller(problem), master, master.root, lambda: False, (0,), PARAMS)
    duals = DualValues(np.array([1.0]), np.array([paid]), 4 * paid)
    assert relaxation._price(duals, duals, 300) == (paid < 0.5)
    # Farley's bound: the duals are shrunk by price over worth less limit dual, as far as that is below 1.
    scale = min(1.0, 1.5 / (2 - paid))
    assert relaxation.bound == pytest.approx(max(0.0, scale * (4 - 4 * paid)))
    assert relaxation.proof is not None
    assert relaxation.proof.duals == pytest.approx(scale)
    assert relaxation.proof.limit_dual == pytest.approx(scale * paid)


@pytest.mark.parametrize("seed", range(20))
def test_greedy_bins_share_no_class_and_fit(seed: int, random_problem: Random) -> None:
    problem = random_problem(seed, cuts=seed % 2 == 0)
    filler, duals = BinFiller(problem), np.random.default_rng([43, seed]).random(problem.n_classes) + 0.1
    for o, rows in enumerate(problem.rows):
        bins = cover(filler, o, duals, rows.most, -1.0, lambda: False)
        assert all(holds(filler, o, b.counts) for b in bins)
        contents = np.array([b.counts for b in bins]).reshape(len(bins), -1)
        assert ((contents > 0).sum(axis=0) == (rows.most > 0)).all()
        dear = cover(filler, o, duals, rows.most, 0.9, lambda: False)
        assert all(duals @ b.counts > 0.9 for b in dear)


def test_a_column_of_the_residual_problem_holds_what_is_left() -> None:
    problem = PackingProblem([9, 9], (PackingOption("x", np.array([[1.0, 2.0]]), np.array([10.0])),))
    master = Master(problem, PARAMS)
    left = ResidualProblem(np.array([2, 1]), master.root.lower, master.root.upper)
    relaxation = ColumnGeneration(BinFiller(problem), master, master.root, lambda: False, (0,), PARAMS)
    solution = relaxation.of(left, lambda: False).solve()
    assert solution is not None
    assert solution.value == 1
    assert max(tuple(b.counts) for b in master.columns) == (2, 1)
