"""Dual inequalities: b may take the place of a in every bin, and the relaxation's optimum stays the same."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest

from optimizer.packing.branch_and_price.column_generation import ColumnGeneration
from optimizer.packing.branch_and_price.dual_inequalities import dual_optimal_inequalities
from optimizer.packing.branch_and_price.restricted_master import Master
from optimizer.packing.heuristics.first_fit import BinFiller, holds
from optimizer.packing.model.params import ColumnGenerationParams
from optimizer.packing.model.problem import PackingOption, PackingProblem

Random = Callable[..., PackingProblem]


def sizes(*items: float) -> PackingProblem:
    usage = np.array([items])
    return PackingProblem(np.full(len(items), 2), (PackingOption("bin", usage, np.array([10.0])),))


@pytest.mark.parametrize("seed", range(40))
def test_an_item_may_take_the_place_of_another_in_every_bin(seed: int, random_problem: Random) -> None:
    """By trying every bin; as far as rows and cuts go, not how many items there are."""
    problem = random_problem(seed, cuts=seed % 2 == 0)
    filler, one = BinFiller(problem), np.eye(problem.n_classes, dtype=np.int64)
    for a, b in dual_optimal_inequalities(filler, 3):
        for o, rows in enumerate(problem.rows):
            for given in itertools.product(*(range(int(n) + 1) for n in rows.most)):
                counts = np.array(given)
                swapped = counts - one[a] + one[b]
                if (
                    o in filler.options
                    and counts[a]
                    and swapped[b] <= rows.most[b]
                    and holds(filler, o, counts)
                ):
                    assert holds(filler, o, swapped)


def test_pairs_are_the_largest_below_and_none_follows_from_two_others() -> None:
    assert dual_optimal_inequalities(BinFiller(sizes(5, 4, 3)), 3) == [(0, 1), (1, 2)]
    crossed = np.array([[4.0, 3.0, 2.0, 1.0], [4.0, 1.0, 2.0, 3.0]])
    problem = PackingProblem([1] * 4, (PackingOption("bin", crossed, np.array([9.0, 9.0])),))
    assert set(dual_optimal_inequalities(BinFiller(problem), 3)) == {(0, 1), (0, 2), (0, 3)}
    assert len(dual_optimal_inequalities(BinFiller(problem), 2)) == 2
    assert dual_optimal_inequalities(BinFiller(problem), 0) == []


def test_of_classes_that_are_alike_one_is_the_larger() -> None:
    assert dual_optimal_inequalities(BinFiller(sizes(3, 3, 3)), 3) == [(0, 1), (1, 2)]


def test_classes_without_items_are_in_no_pair() -> None:
    problem = PackingProblem([1, 0, 1], (PackingOption("bin", np.array([[3.0, 2.0, 1.0]]), np.array([9.0])),))
    assert dual_optimal_inequalities(BinFiller(problem), 3) == [(0, 2)]


@pytest.mark.parametrize("seed", range(30))
def test_the_relaxation_has_the_same_optimum_with_and_without_them(seed: int, random_problem: Random) -> None:
    problem = random_problem(seed, cuts=seed % 2 == 0)
    filler, values = BinFiller(problem), []
    for exchanges in (0, 3):
        params = ColumnGenerationParams(exchanges=exchanges)
        master = Master(problem, params, dual_optimal_inequalities(filler, exchanges))
        relaxation = ColumnGeneration(
            filler, master, master.root, lambda: False, filler.options, params, rounding=False
        )
        solution = relaxation.solve()
        assert solution is not None
        values.append(solution.value)
    assert values[0] == pytest.approx(values[1])
