"""Annealing towards bins without overflow: the kernels on small cases, and the search around them."""

from __future__ import annotations

import numpy as np
import pytest

from optimizer.packing.bounds.aggregate_relaxation import AggregateModel
from optimizer.packing.heuristics.annealing import anneal, anneal_to_bin_count, dealt
from optimizer.packing.heuristics.first_fit import BinFiller, place_best_fit
from optimizer.packing.model.checker import check
from optimizer.packing.model.params import AnnealingParams, CoolingSchedule, PackingParams
from optimizer.packing.model.problem import PackingProblem
from optimizer.packing.model.search_state import SearchState
from scenarios import Deadline

SIZES = np.array([0.6, 0.4, 0.0])[:, None, None]  # classes, one option, one row; the last is nothing


def overflow(item: np.ndarray, place: np.ndarray, bins: int) -> float:
    load = np.bincount(place, SIZES[item, 0, 0], minlength=bins)
    return float(np.maximum(load - 1, 0).sum())


def test_items_are_dealt_to_the_emptiest_bin_largest_first() -> None:
    item, place = dealt(np.array([[2, 3]]), np.array([2]), SIZES)
    assert item.tolist() == [0, 0, 1, 1, 1]
    assert place.tolist() == [0, 1, 0, 1, 0]


def test_what_is_left_is_the_overflow_and_no_item_is_lost() -> None:
    """Three bins hold three pairs of 0.6 and 0.4 and no more: a fourth large item overflows somewhere."""
    option = np.zeros(3, dtype=np.int64)
    item = np.array([0, 0, 0, 1, 1, 1])
    place = np.zeros(6, dtype=np.int64)
    assert anneal(item, place, option, SIZES, 3, 20_000, 0.1, 0.001, 0.01) == 0.0
    assert overflow(item, place, 3) == pytest.approx(0.0, abs=1e-9)
    crowded = np.append(item, 0)
    place = np.zeros(7, dtype=np.int64)
    left = anneal(crowded, place, option, SIZES, 3, 20_000, 0.1, 0.001, 0.01)
    assert left == pytest.approx(overflow(crowded, place, 3))
    assert left == pytest.approx(0.6)  # 3.6 in three bins


def test_the_same_seed_makes_the_same_moves() -> None:
    option, item = np.zeros(4, dtype=np.int64), np.array([0, 0, 0, 0, 1, 1, 1, 1, 0])
    places = []
    for seed in (1, 1, 2):
        place = np.zeros(9, dtype=np.int64)
        anneal(item, place, option, SIZES, seed, 500, 0.5, 0.1, 0.01)
        places.append(place.tolist())
    assert places[0] == places[1] != places[2]


@pytest.mark.parametrize(("share", "some"), [(0.0, False), (1.0, True)])
def test_bins_that_do_not_overflow_exchange_items_only_by_the_share_given(share: float, some: bool) -> None:
    """One hot move at a time: bins 0 and 1 do not overflow, bin 2 does."""
    item, exchanged = np.array([0, 1, 0, 0]), False
    for seed in range(60):
        place = np.array([0, 1, 2, 2])
        anneal(item, place, np.zeros(3, dtype=np.int64), SIZES, seed, 1, 1e3, 1e3, share)
        exchanged |= bool(place[0] == 1 or place[1] == 0)
    assert exchanged == some


def searched(**changes: object) -> SearchState:
    """Triplets that fill five bins exactly, which best fit spreads over more."""
    rng = np.random.default_rng(5)
    sizes: list[int] = []
    for _ in range(8):
        a, b = (int(v) for v in rng.integers(260, 380, 2))
        sizes += [a, b, 1000 - a - b]
    problem = PackingProblem.bin_packing(sizes, 1000)
    params = PackingParams(annealing=AnnealingParams().model_copy(update=changes))
    run = SearchState(problem, Deadline.after(60), params=params)
    place_best_fit(run)
    continuous = AggregateModel(problem).continuous()
    run.raise_bound(continuous.bound)
    assert (run.value, run.bound) == (9, 8)
    anneal_to_bin_count(run, BinFiller(problem), continuous, 60)
    return run


def test_a_packing_at_the_bound_is_found_and_right() -> None:
    run = searched()
    assert run.value == 8
    assert run.packing is not None
    assert check(run.problem, run.packing) == []


def test_the_parameters_decide() -> None:
    assert searched(schedules=()).value == 9
    few = searched(
        schedules=(CoolingSchedule(hot=0.1, cold=0.001),), moves_per_item=1, least_moves=1, retries=0
    )
    assert few.value == 9
