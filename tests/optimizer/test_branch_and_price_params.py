"""What the parameters of bounds, column generation and branch and price change, and what they refuse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from optimizer.packing import pack
from optimizer.packing.branch_and_price import branch_and_price
from optimizer.packing.branch_and_price.column_generation import ColumnGeneration
from optimizer.packing.branch_and_price.dual_inequalities import dual_optimal_inequalities
from optimizer.packing.branch_and_price.restricted_master import Master
from optimizer.packing.heuristics import first_fit
from optimizer.packing.heuristics.first_fit import BinFiller
from optimizer.packing.model.params import (
    BoundParams,
    BranchAndPriceParams,
    ColumnGenerationParams,
    PackingParams,
)
from optimizer.packing.model.problem import PackingOption, PackingProblem
from optimizer.packing.model.search_state import PackingResult
from scenarios import ScenarioError, params_from

Random = Callable[..., PackingProblem]


@pytest.fixture
def relaxed(monkeypatch: pytest.MonkeyPatch) -> Callable[..., PackingResult]:
    """Packs by columns alone: what comes before them finds nothing."""
    for step in ("anneal_to_bin_count", "place_by_enumeration"):
        monkeypatch.setattr(branch_and_price, step, lambda *_: None)

    def solved(problem: PackingProblem, **groups: object) -> PackingResult:
        return pack(problem, "patterns", time_limit_s=60, params=PackingParams(**groups))  # type: ignore[arg-type]

    return solved


def bin_packing(n: int = 24) -> PackingProblem:
    """Sizes at random for which best fit needs a bin too many."""
    return PackingProblem.bin_packing(np.random.default_rng(8).integers(26, 52, n), 150)


def two_rows(n: int = 30) -> PackingProblem:
    usage = np.random.default_rng(3).uniform(0.12, 0.34, (2, n)).round(3)
    return PackingProblem(np.full(n, 2), (PackingOption("x", usage, np.ones(2)),))


def test_beyond_a_number_of_classes_there_is_no_relaxation(relaxed: Callable[..., PackingResult]) -> None:
    problem = two_rows()
    none = relaxed(problem, column_generation=ColumnGenerationParams(most_classes=problem.n_classes - 1))
    assert "relaxation_seconds" not in none.statistics
    assert (none.status, none.stop_reason) == ("feasible", "time_limit")
    assert none.bound > 0
    assert "relaxation_seconds" in relaxed(problem).statistics


def test_best_fit_leaves_the_others_their_time(monkeypatch: pytest.MonkeyPatch) -> None:
    orders: list[int] = []
    monkeypatch.setattr(first_fit, "best_fit_decreasing", lambda *_: orders.append(1))
    problem, bounds = two_rows(), BranchAndPriceParams(first_plans_share=0.0)
    result = pack(problem, "patterns", time_limit_s=60, params=PackingParams(branch_and_price=bounds))
    assert not orders  # the first plan is finished, and no other is begun
    assert result.bound > 0
    assert result.status in ("optimal", "feasible")


def test_no_dives_are_none(relaxed: Callable[..., PackingResult]) -> None:
    none = relaxed(two_rows(), branch_and_price=BranchAndPriceParams(dives=0))
    assert none.statistics["dives"] == 0
    assert relaxed(two_rows()).statistics["dives"] > 0


def test_bins_are_listed_only_up_to_the_number_given() -> None:
    first = np.random.default_rng(5).integers(380, 491, 20)
    second = np.random.default_rng(6).integers(250, 255, 20)
    problem = PackingProblem.bin_packing([*first, *second, *(1_000 - first - second)], 1_000)
    assert pack(problem, "patterns").statistics["listed_bins"] > 1
    for few in (BranchAndPriceParams(listed_bins=1), BranchAndPriceParams(listing_nodes=1)):
        assert (
            "listed_bins"
            not in pack(problem, "patterns", params=PackingParams(branch_and_price=few)).statistics
        )


@pytest.mark.parametrize(
    "change",
    [
        {"smoothing": 0.0},
        {"rivals": 0},
        {"exchanges": 0},
        {"table_cells": 0},
        {"multiplier_rounds": 1},
        {"tree_nodes": (1, 1, 100_000)},
        {"greedy_gain": 0.5},
        {"interruptible_classes": 0},
        {"artificial_price": 10.0},
    ],
)
def test_the_relaxation_has_one_optimum_however_it_is_solved(change: dict[str, object]) -> None:
    for problem in (two_rows(), bin_packing()):
        assert optimum(problem, ColumnGenerationParams(**change)) == pytest.approx(
            optimum(problem, ColumnGenerationParams())
        )


def optimum(problem: PackingProblem, params: ColumnGenerationParams) -> float:
    """The relaxation solved to its end."""
    filler = BinFiller(problem)
    master = Master(problem, params, dual_optimal_inequalities(filler, params.exchanges))
    relaxation = ColumnGeneration(
        filler, master, master.root, lambda: False, filler.options, params, rounding=False
    )
    solution = relaxation.solve()
    assert solution is not None
    assert relaxation.bound == pytest.approx(solution.value)
    return solution.value


def test_without_dual_inequalities_and_smoothing_there_are_more_rounds(
    relaxed: Callable[..., PackingResult],
) -> None:
    plain = ColumnGenerationParams(exchanges=0, smoothing=0.0)
    rounds = relaxed(two_rows(52), column_generation=plain).statistics["pricing_rounds"]
    assert rounds > relaxed(two_rows(52)).statistics["pricing_rounds"]


def test_few_exact_classes_leave_the_relaxation_early(relaxed: Callable[..., PackingResult]) -> None:
    early = ColumnGenerationParams(exact_classes=5, early_gap=0.1)
    result = relaxed(two_rows(), column_generation=early)
    assert result.statistics["pricing_rounds"] < relaxed(two_rows()).statistics["pricing_rounds"]
    assert "branches" not in result.statistics


def test_an_assignment_model_that_is_built_too_slowly_is_not_built(
    relaxed: Callable[..., PackingResult],
) -> None:
    slow = BranchAndPriceParams(assignment_built_per_s=0.0, dives=0, restricted_masters=())
    result = relaxed(two_rows(), branch_and_price=slow)
    assert "cpsat_branches" not in result.statistics


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"branch_and_price": {"dives": -1}}, "branch_and_price.dives is -1; give at least 0"),
        ({"branch_and_price": {"branching_share": 1.5}}, "branching_share is 1.5; give at most 1"),
        ({"column_generation": {"smoothing": 1.0}}, "column_generation.smoothing is 1"),
        ({"column_generation": {"tree_nodes": [0, 1, 1]}}, r"column_generation.tree_nodes\[0\] is 0"),
        ({"bounds": {"whole_bins_s": 0.0}}, "bounds.whole_bins_s is 0"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, object], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        params_from(values, PackingParams)


def test_a_file_may_change_tuples() -> None:
    values: dict[str, object] = {
        "branch_and_price": {"restricted_masters": [[0, 2.0]], "dive_shares": [0.1, 0.2]}
    }
    params = params_from(values, PackingParams)
    assert params.branch_and_price.restricted_masters == ((0, 2.0),)
    assert params.changed() == {
        "branch_and_price": {"restricted_masters": ((0, 2.0),), "dive_shares": (0.1, 0.2)}
    }


def test_the_bound_with_whole_bins_takes_the_time_that_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    from optimizer.packing.bounds.aggregate_relaxation import AggregateModel

    given = []
    monkeypatch.setattr(AggregateModel, "whole_bins", lambda _, end: given.append(end.left_s) or 0.0)
    usage = np.array([[6.0, 4.0]])
    options = tuple(
        PackingOption(f"of {c}", usage, np.array([float(c)]), price=c / 6, allowed=np.array([c > 6, True]))
        for c in (6, 10)
    )
    short = PackingParams(bounds=BoundParams(whole_bins_s=1.25))
    pack(PackingProblem([3, 4], options), "patterns", time_limit_s=60, params=short)
    assert given == [pytest.approx(1.25)]
