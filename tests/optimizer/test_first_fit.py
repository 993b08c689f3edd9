"""First fit and best fit against plain Python, item by item."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from optimizer.packing import pack
from optimizer.packing.heuristics.first_fit import (
    BinFiller,
    best_fit_decreasing,
    cheapest_options,
    first_fit,
    holds,
    item_weights,
)
from optimizer.packing.heuristics.open_bins import OpenBins
from optimizer.packing.model.options import BinLimits
from optimizer.packing.model.problem import Bin, NoGoodCut, PackingOption, PackingProblem
from scenarios import EngineOption


def sizes_of(seed: int) -> list[int]:
    rng = np.random.default_rng(seed)
    return sorted((int(v) for v in rng.integers(5, 60, int(rng.integers(5, 40)))), reverse=True)


def loads(bins: list[Bin] | None, problem: PackingProblem) -> list[list[int]]:
    assert bins is not None
    sizes = problem.options[0].usage[0]
    return [[int(sizes[c]) for c, n in enumerate(b.counts) for _ in range(n)] for b in bins]


@pytest.mark.parametrize("seed", range(20))
def test_first_fit_decreasing_is_that_of_the_textbook(seed: int) -> None:
    sizes, capacity = sizes_of(seed), 100
    expected: list[list[int]] = []
    for size in sizes:
        fits = next((b for b in expected if sum(b) + size <= capacity), None)
        expected.append([size]) if fits is None else fits.append(size)
    problem = PackingProblem.bin_packing(sizes, capacity)
    order = np.arange(problem.n_classes)
    assert (
        loads(first_fit(BinFiller(problem), order, problem.counts, BinLimits(problem)), problem) == expected
    )


@pytest.mark.parametrize("seed", range(20))
def test_best_fit_puts_each_class_into_the_fullest_bins_first(seed: int) -> None:
    sizes, capacity = sizes_of(seed), 100
    expected: list[list[int]] = []
    for size in dict.fromkeys(sizes):
        left = sizes.count(size)
        for b in sorted(expected, key=lambda b: -sum(b)):
            while left and sum(b) + size <= capacity:
                b.append(size)
                left -= 1
        while left:
            take = min(left, capacity // size)
            expected.append([size] * take)
            left -= take
    problem = PackingProblem.bin_packing(sizes, capacity)
    bins = best_fit_decreasing(BinFiller(problem), np.arange(problem.n_classes), problem.counts, 0)
    assert sorted(map(sorted, loads(bins, problem))) == sorted(map(sorted, expected))


def test_best_fit_gives_up_beyond_the_bins_that_are_wanted() -> None:
    problem = PackingProblem.bin_packing([60] * 4, 100)
    filler, order = BinFiller(problem), np.arange(problem.n_classes)
    assert best_fit_decreasing(filler, order, problem.counts, 0, most=3) is None
    assert len(best_fit_decreasing(filler, order, problem.counts, 0, most=4) or ()) == 4


def two_options(**changes: object) -> PackingProblem:
    small = PackingOption("small", np.array([[3.0, 5.0]]), np.array([6.0]), option=EngineOption("s", 1, 0))
    large = replace(small, name="large", capacity=np.array([15.0]), price=2.2, option=EngineOption("l", 1, 0))
    return PackingProblem([4, 3], (small, large), **changes)  # type: ignore[arg-type]


def test_the_weight_of_an_item_is_its_least_share_of_a_price() -> None:
    assert item_weights(two_options()) == pytest.approx([2.2 * 3 / 15, 2.2 * 5 / 15])
    numbered = PackingOption("n", np.zeros((1, 1)), np.array([1.0]))
    assert item_weights(PackingProblem([4], (numbered,))) == pytest.approx([0.0])


def test_limits_on_bins_and_devices_are_kept_and_what_is_left_has_no_bins() -> None:
    def packed(**changes: object) -> list[int] | None:
        problem = two_options(**changes)
        bins = first_fit(BinFiller(problem), np.array([1, 0]), problem.counts, BinLimits(problem))
        return None if bins is None else [b.option for b in bins]

    assert packed() == [1, 0, 0]
    assert packed(device_limits={"l": 0}) == [0, 0, 0, 0, 0]
    assert packed(device_limits={"s": 1}) == [1, 0, 1]
    assert packed(max_bins=2) is None


def test_a_bin_gets_the_cheapest_option_that_holds_it() -> None:
    problem = two_options(device_limits={"s": 1})
    filler, stock = BinFiller(problem), BinLimits(problem)
    stock.take(1, 2)
    bins = cheapest_options(filler, [Bin(1, np.array([2, 0])), Bin(1, np.array([0, 1]))], stock)
    assert [b.option for b in bins] == [0, 1]  # one small bin is all there is


def test_a_bin_holds_what_rows_and_cuts_allow() -> None:
    problem = two_options(cuts=(NoGoodCut((1,), np.array([2, 1])),))
    filler = BinFiller(problem)
    assert holds(filler, 0, np.array([2, 0]))
    assert not holds(filler, 0, np.array([1, 1]))
    assert holds(filler, 1, np.array([1, 2]))
    assert not holds(filler, 1, np.array([2, 1]))


def test_bins_are_opened_within_the_budget_under_the_option_that_suits() -> None:
    problem = two_options()
    slow, fast = ({"latency_usage": np.full((1, 2), s), "latency_offset": np.zeros(1)} for s in (2.0, 1.0))
    options = replace(problem.options[0], **slow), replace(problem.options[1], **fast)  # type: ignore[arg-type]
    problem = replace(problem, options=options, objective="mean", max_bins=3, budget=4.3)
    opened, held = OpenBins(BinFiller(problem)), np.array([1, 0])
    assert (opened.fastest(held), opened.cheapest(held, 2.0), opened.cheapest(held, 1.5)) == (1, 0, 1)
    assert opened.fastest(held, reserve=2.2) == 0
    opened.take(1)
    assert opened.fastest(held) == 0  # 2.1 are left
    opened.give(1)
    assert opened.fastest(held) == 1
    assert opened.holding(np.array([3, 0])) == [1]
    assert opened.fastest(np.array([4, 3])) is None


def test_the_first_plan_is_finished_after_the_deadline() -> None:
    result = pack(PackingProblem.bin_packing(sizes_of(3), 100), "ffd", time_limit_s=0)
    assert result.packing is not None
