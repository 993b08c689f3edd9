"""Evening out a packing keeps it right and leaves the fullest bins less full."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from optimizer import pack
from optimizer.packing.heuristics.load_balancing import balance_load
from optimizer.packing.model.checker import check
from optimizer.packing.model.problem import Bin, Packing, PackingOption, PackingProblem


def fullest(problem: PackingProblem, packing: Packing) -> float:
    return max(
        float(problem.options[b.option].usage[0] @ b.counts / problem.options[b.option].capacity[0])
        for b in packing.bins
    )


def test_two_full_bins_and_an_empty_one_become_three_equal_ones() -> None:
    problem = PackingProblem.bin_packing([1.0] * 21, 10.0)
    packing = Packing((Bin(0, np.array([10])), Bin(0, np.array([10])), Bin(0, np.array([1]))))
    assert sorted(b.counts[0] for b in balance_load(problem, packing).bins) == [7, 7, 7]


def test_a_limit_on_the_number_of_items_is_kept_but_not_evened() -> None:
    option = PackingOption("o", np.array([[1.0, 5.0], [1.0, 1.0]]), np.array([20.0, 12.0]))
    problem = PackingProblem(np.array([12, 4]), (option,))
    even = balance_load(problem, Packing((Bin(0, np.array([0, 4])), Bin(0, np.array([12, 0])))))
    assert not check(problem, even)
    assert fullest(problem, even) == pytest.approx(0.8)  # 32 of load in two bins of 20


def test_a_bin_takes_the_option_that_it_fills_least() -> None:
    small = PackingOption("small", np.array([[1.0]]), np.array([4.0]))
    large = PackingOption("large", np.array([[1.0]]), np.array([8.0]))
    dear = PackingOption("dear", np.array([[1.0]]), np.array([16.0]), price=2.0)
    problem = PackingProblem(np.array([4]), (small, large, dear))
    assert [b.option for b in balance_load(problem, Packing((Bin(0, np.array([4])),))).bins] == [1]


@pytest.mark.parametrize("seed", range(40))
def test_random_packings_stay_right(seed: int, random_problem: Callable[..., PackingProblem]) -> None:
    problem = random_problem(seed, cuts=seed % 2 == 0)
    packing = pack(problem, "ffd").packing
    if packing is None:
        return
    even = balance_load(problem, packing)
    assert not check(problem, even)
    assert problem.price(even) == pytest.approx(problem.price(packing))
