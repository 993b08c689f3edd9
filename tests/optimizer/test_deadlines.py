"""Placers look at their deadline inside their loops; a clock that ticks when it is asked counts how often."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from optimizer.packing.branch_and_price import pricing
from optimizer.packing.heuristics import first_fit as firstfit
from optimizer.packing.heuristics import greedy, local_search
from optimizer.packing.heuristics import load_balancing as spread
from optimizer.packing.heuristics.first_fit import BinFiller
from optimizer.packing.model.checker import check
from optimizer.packing.model.problem import Bin, Packing, PackingOption, PackingProblem
from optimizer.packing.model.search_state import SearchState
from scenarios import Deadline, EngineOption
from scenarios.stopping import deadline

PATIENCE = 6
"""Times that a placer may ask before its deadline has passed."""


def many_bins(options: int = 5, classes: int = 120) -> PackingProblem:
    """Items of many sizes, about three to a bin, and options of which none is superfluous."""
    size = np.linspace(0.2, 0.45, classes)
    tilt = np.linspace(0.0, 0.05, classes)
    return PackingProblem(
        np.ones(classes, dtype=np.int64),
        tuple(
            PackingOption(
                f"o{o}",
                np.vstack([size + o * tilt, size + (options - o) * tilt]),
                np.ones(2),
                option=EngineOption("bin", classes, 0),
                latency_usage=(size + o * tilt)[None, :],
                latency_offset=np.zeros(1),
            )
            for o in range(options)
        ),
    )


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Callable[[PackingProblem], SearchState]:
    """A run whose clock ticks whenever it is asked, with a deadline soon."""
    ticks = iter(range(1_000_000))
    monkeypatch.setattr(deadline, "time", SimpleNamespace(monotonic=lambda: next(ticks)))
    return lambda problem: SearchState(problem, Deadline(PATIENCE))


def counted(monkeypatch: pytest.MonkeyPatch, where: Any, name: str) -> list[Any]:
    """What a function is called with from now on."""
    calls: list[Any] = []
    function = getattr(where, name)

    def spy(*given: Any, **named: Any) -> Any:
        calls.append(given)
        return function(*given, **named)

    monkeypatch.setattr(where, name, spy)
    return calls


@pytest.mark.parametrize("place", [firstfit.place_first_fit, firstfit.place_best_fit])
def test_a_first_plan_is_finished_in_a_hurry(
    place: Callable[[SearchState], None],
    run: Callable[[PackingProblem], SearchState],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = run(many_bins())
    fills, packed = (
        counted(monkeypatch, BinFiller, "fill"),
        counted(monkeypatch, firstfit, "best_fit_decreasing"),
    )
    place(made)
    assert made.packing is not None
    assert check(made.problem, made.packing) == []
    bins = len(made.packing)
    assert bins > 3 * PATIENCE
    # A bin is filled by every option until the time is over, by one option from then on.
    assert bins <= len(fills) <= bins + PATIENCE * len(made.problem.options)
    assert not packed


def test_the_greedy_stops_between_tests(
    run: Callable[[PackingProblem], SearchState], monkeypatch: pytest.MonkeyPatch
) -> None:
    tests = counted(monkeypatch, greedy, "_healthy")
    made = run(many_bins())
    greedy.place_greedy_fill(made)
    assert 0 < len(tests) <= PATIENCE
    assert made.packing is None


def test_a_spread_stops_between_items_and_swaps(
    run: Callable[[PackingProblem], SearchState], monkeypatch: pytest.MonkeyPatch
) -> None:
    places = counted(monkeypatch, spread, "_best_place")
    swaps = counted(monkeypatch, spread.Exchanges, "_exchanged")
    spread.place_spread(run(many_bins().balanced(60)))
    assert 0 < len(places) <= PATIENCE
    assert not swaps


def test_one_relief_of_a_spread_stops_too(
    run: Callable[[PackingProblem], SearchState], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = many_bins().balanced(60)
    made, filler, held = run(problem), BinFiller(problem), np.zeros((2, problem.n_classes), dtype=np.int64)
    held[0, :60], held[1, 60:119] = 1, 1
    bins = [Bin(0, row) for row in held]
    swaps = counted(monkeypatch, spread.Exchanges, "_exchanged")
    shares = problem.options[0].usage / problem.options[0].capacity[:, None]
    planes = [spread.Planes(shares, np.zeros(len(shares)))]
    latency = np.array([problem.options[0].latency(b.counts) for b in bins])
    slow = int(latency.argmax())
    for _ in range(PATIENCE):
        assert made.left_s >= 0  # the time runs out
    exchanges = spread.Exchanges(filler, planes, lambda: made.out_of_time)
    assert exchanges.relieve(bins, latency, slow) is None
    assert not swaps
    asked = iter([False, False, True, True])  # of the other bin, then of each exchange with it
    assert spread.Exchanges(filler, planes, lambda: next(asked)).relieve(bins, latency, slow) is None
    assert len(swaps) == 1


def test_emptying_a_bin_stops_between_tries_and_keeps_all_items(
    run: Callable[[PackingProblem], SearchState], monkeypatch: pytest.MonkeyPatch
) -> None:
    problem = many_bins()
    filler, made = BinFiller(problem), run(problem)
    one = np.eye(problem.n_classes, dtype=np.int64)
    full = [Bin(2, small + large) for small, large in zip(one[:60], one[:59:-1], strict=True)]
    assert check(problem, Packing(tuple(full))) == []
    tries = counted(monkeypatch, local_search, "_take_in")
    emptied = local_search._empty_lightest(made, filler, full)
    assert 0 < len(tries) <= PATIENCE
    assert check(problem, Packing(tuple(b for b in emptied if b.counts.any()))) == []


def test_greedy_columns_stop_between_bins() -> None:
    problem = many_bins()
    asked = iter([False, False, True])
    most = problem.rows[0].most
    found = pricing.cover(
        BinFiller(problem), 0, np.ones(problem.n_classes), most, -1.0, until=lambda: next(asked)
    )
    assert len(found) == 2
