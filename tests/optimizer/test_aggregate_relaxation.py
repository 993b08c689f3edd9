"""The aggregate model bounds from below and divides items over whole bins; annealing makes a plan of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from optimizer.packing import pack
from optimizer.packing.bounds.aggregate_relaxation import AggregateModel, AggregateSolution
from optimizer.packing.bounds.price_bounds import raise_bounds
from optimizer.packing.heuristics import annealing
from optimizer.packing.heuristics.annealing import anneal, anneal_to_bin_count, dealt
from optimizer.packing.heuristics.first_fit import BinFiller, place_best_fit
from optimizer.packing.highs_model import HighsModel, HighsSolution
from optimizer.packing.model.checker import check
from optimizer.packing.model.problem import PackingOption, PackingProblem
from optimizer.packing.model.search_state import SearchState
from scenarios import Deadline

Optimum = Callable[[PackingProblem], float]
Random = Callable[..., PackingProblem]


def apart() -> PackingProblem:
    """Two classes that share no option, half a bin each."""
    usage = np.array([[1.0, 1.0]])
    left = PackingOption("left", usage, np.array([10.0]), allowed=np.array([True, False]))
    right = PackingOption("right", usage, np.array([10.0]), allowed=np.array([False, True]))
    return PackingProblem([5, 5], (left, right))


def many(adapters: int = 20) -> PackingProblem:
    """Small items in two kinds of bins: few heavy items with many slots to spare, or many light ones."""
    rng = np.random.default_rng(4)
    rate = np.exp(rng.uniform(-3, 0, 120))
    ones = np.ones(120)
    few = PackingOption("few", np.vstack([rate, ones]), np.array([10.0, 20.0]))
    many = PackingOption("many", np.vstack([1.3 * rate, ones]), np.array([10.0, 200.0]))
    return PackingProblem(np.full(120, adapters), (few, many))


@settings(max_examples=80, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), cuts=st.booleans())
def test_whole_bins_bound_from_below_and_no_worse_than_fractions(
    seed: int, cuts: bool, optimum: Optimum, random_problem: Random
) -> None:
    problem = random_problem(seed, cuts=cuts)
    model, best = AggregateModel(problem), optimum(problem)
    continuous, whole = model.continuous(), model.whole_bins(Deadline.after(10))
    assert whole <= best + 1e-6
    assert whole >= continuous.bound * (1 - 1e-6)
    if np.isfinite(continuous.bound):
        assert continuous.bins @ problem.prices == pytest.approx(continuous.bound, rel=1e-6)


def test_whole_bins_see_that_options_do_not_share() -> None:
    model = AggregateModel(apart())
    assert model.continuous().bound == pytest.approx(1.0)
    assert model.whole_bins(Deadline.after(10)) == pytest.approx(2.0)
    run = SearchState(apart(), Deadline.after(10))
    raise_bounds(run)
    assert run.bound == 2


def test_too_few_bins_are_infeasible_though_fractions_would_do() -> None:
    problem = replace(apart(), max_bins=1)
    assert AggregateModel(problem).continuous().bound == pytest.approx(1.0)
    assert AggregateModel(problem).whole_bins(Deadline.after(10)) == np.inf
    assert pack(problem, "exact").status == "infeasible"


def test_a_programme_that_was_cut_short_proves_no_more_than_its_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    nothing = np.array([])

    def cut_short(_self: HighsModel, _seconds: float = 0.0) -> HighsSolution:
        return HighsSolution(False, False, value=5.0, bound=2.0, columns=nothing, duals=nothing)

    monkeypatch.setattr(HighsModel, "solve", cut_short)
    model = AggregateModel(apart())
    assert model.continuous().bound == 0
    assert model.whole_bins(10.0) == pytest.approx(2.0)
    assert model.row_prices(10.0) is None


def test_a_division_holds_every_item_and_keeps_the_price() -> None:
    problem = many()
    model = AggregateModel(problem)
    relaxed = model.continuous()
    price = float(np.ceil(relaxed.bound))
    found = model.divide(price, relaxed.bins, Deadline.after(10))
    assert found is not None
    assert found.bins @ problem.prices <= price
    assert (found.items.sum(axis=0) == problem.counts).all()
    for o, rows in enumerate(problem.rows):
        load = rows.usage @ found.items[o]
        assert (load <= rows.capacity * found.bins[o] + rows.usage.max(axis=1)).all()
    assert model.divide(price - 1, relaxed.bins, Deadline.after(10)) is None


def test_items_of_no_size_go_to_options_that_have_bins() -> None:
    light = PackingOption("light", np.array([[0.0, 1.0]]), np.array([2.0]), price=3.0)
    heavy = PackingOption("heavy", np.array([[0.0, 1.0]]), np.array([9.0]))
    problem = PackingProblem([3, 9], (light, heavy))
    found = AggregateModel(problem).divide(1.0, np.array([0.0, 1.0]), Deadline.after(10))
    assert found is not None
    assert found.bins.tolist() == [0, 1]
    assert found.items.tolist() == [[0, 0], [3, 9]]


def test_many_small_items_fill_the_fewest_bins() -> None:
    problem = many()
    run = SearchState(problem, Deadline.after(60))
    place_best_fit(run)
    continuous = raise_bounds(run)
    before = run.value
    anneal_to_bin_count(run, BinFiller(problem), continuous, 60)
    assert run.value == run.bound < before
    assert run.packing is not None
    assert check(problem, run.packing) == []


def test_a_plan_between_bound_and_best_fit_is_kept_where_the_bound_is_out_of_reach() -> None:
    """Three items of 0.4 never share a bin: the bound of sizes is beyond any plan, half the way is not."""
    problem = PackingProblem.bin_packing([4] * 12, 10)
    run = SearchState(problem, Deadline.after(30))
    run.bound = 5
    place_best_fit(run)
    assert run.value == 6
    anneal_to_bin_count(run, BinFiller(problem), AggregateModel(problem).continuous(), 5)
    assert run.value == 6


def test_dealing_is_even_and_annealing_counts_its_overflow() -> None:
    size = np.array([[[0.5], [0.3]], [[0.2], [0.4]], [[0.0], [0.0]]])
    item, place = dealt(np.array([[2, 2], [0, 1]]), np.array([2, 1]), size)
    assert sorted(zip(item.tolist(), place.tolist(), strict=True)) == [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)]
    option = np.array([0, 0, 1])
    assert anneal(item, place.copy(), option, size, 1, 1_000, 0.01, 0.001, 0.01) == 0.0
    stuffed = np.zeros(5, dtype=np.int64)
    left = anneal(np.zeros(5, dtype=np.int64), stuffed, option[:1], size, 1, 1_000, 0.01, 0.001, 0.01)
    assert left == pytest.approx(1.5)


def test_bins_that_failed_are_not_tried_at_the_next_price(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prices a millionth apart: half the way to the plan is taken again and again."""
    sizes = np.array([[6.0, 5.0]])
    options = [PackingOption(f"at {p}", sizes, np.array([10.0]), price=p) for p in (1.0, 1.000001)]
    options[0] = replace(options[0], limit=3)
    run = SearchState(PackingProblem([4, 2], tuple(options)), Deadline.after(60))
    place_best_fit(run)
    continuous = raise_bounds(run)
    assert run.bound < run.value
    tried = []

    def packed(_: object, division: AggregateSolution, *__: object) -> None:
        tried.append(division.bins.tolist())

    monkeypatch.setattr(annealing, "_packed", packed)
    anneal_to_bin_count(run, BinFiller(run.problem), continuous, 60)
    assert len(tried) == len(run.params.annealing.schedules) * len({tuple(bins) for bins in tried}) > 0


def test_items_of_no_size_leave_nothing_to_squeeze() -> None:
    option = PackingOption("x", np.zeros((1, 2)), np.array([1.0]))
    run = SearchState(PackingProblem([3, 4], (option,)), Deadline.after(10), bound=0.5)
    place_best_fit(run)
    continuous = raise_bounds(run)
    assert continuous.bound == 0
    anneal_to_bin_count(run, BinFiller(run.problem), continuous, 5)
    assert run.value == 1
