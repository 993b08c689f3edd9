"""The packing problem, its checks, `pack`'s limits, and the independent checker."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from optimizer.packing import methods, pack
from optimizer.packing.branch_and_price import branch_and_price as patterns
from optimizer.packing.model.checker import ViolationKind, check
from optimizer.packing.model.params import AssignmentParams, BranchAndPriceParams, PackingParams
from optimizer.packing.model.problem import (
    Bin,
    NoGoodCut,
    Packing,
    PackingError,
    PackingOption,
    PackingProblem,
)
from optimizer.packing.model.scaling import RESOLUTION
from optimizer.packing.model.search_state import SearchState, Status, StopReason
from scenarios import Deadline, EngineOption
from scenarios.stopping import deadline


def two_sizes() -> PackingProblem:
    """Five items of 6 and five of 4 in bins of 10: five bins."""
    return PackingProblem.bin_packing([6] * 5 + [4] * 5, 10)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"usage": [[1.0, -1.0]]}, "below 0; replace it by 0"),
        ({"usage": [[1.0, np.nan]]}, "must be finite"),
        ({"capacity": [-1.0]}, "capacity -1 is below 0; drop the option"),
        ({"capacity": [1.0, 2.0]}, "usage has 1 rows, capacity 2"),
        ({"usage": np.ones((1, 1, 2))}, "usage has 3 dimensions, must have 2"),
        ({"usage": "many"}, "usage is 'many', must hold numbers"),
        ({"usage": np.zeros((0, 2)), "capacity": []}, "usage has no rows"),
        ({"price": 0.0}, "price is 0, must be above 0"),
        ({"price": "low"}, "price is 'low', must be a finite number"),
        ({"limit": -1}, "limit is -1"),
        ({"limit": 2.5}, "limit is 2.5, must be a whole number"),
        ({"latency_usage": [[1.0, -1.0]], "latency_offset": [0.0]}, "latency_usage -1 is below 0"),
        ({"latency_usage": [[1.0, 1.0]], "latency_offset": [-5.0]}, "the largest latency_offset is -5"),
        ({"allowed": [True]}, r"allowed has shape \(1,\)"),
        ({"latency_usage": [[1.0, 1.0]]}, "latency_usage and latency_offset, or neither"),
    ],
)
def test_a_wrong_option_says_what_is_wrong(change: dict[str, object], message: str) -> None:
    good: dict[str, object] = {"usage": [[1.0, 2.0]], "capacity": [3.0]}
    with pytest.raises(PackingError, match=message):
        PackingOption("x", **{**good, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"counts": [0, 0]}, "at least one item"),
        ({"counts": [1, 2, 3]}, "usage has 2 classes, counts has 3"),
        ({"options": ()}, "there is no option"),
        ({"counts": [1.7, 2]}, r"counts\[0\] is 1.7, must be a whole number"),
        ({"counts": [1, np.nan]}, r"counts\[1\] is nan"),
        ({"counts": [1, np.inf]}, r"counts\[1\] is inf"),
        ({"counts": "ab"}, "counts is 'ab', must hold numbers"),
        ({"options": ({"name": "x"},)}, r"options\[0\] is of type dict, must be a tuple or list of"),
        ({"options": "x"}, "options is of type str"),
        ({"cuts": ((0,),)}, r"cuts\[0\] is of type tuple, must be a tuple or list of NoGoodCut"),
        ({"device_limits": {"b": 1}}, "names 'b', which no option has; drop it, or name one of bin"),
        ({"device_limits": {"bin": 1.5}}, r"device_limits\['bin'\] is 1.5, must be a whole number"),
        ({"device_limits": {"bin": None}}, r"device_limits\['bin'\] is None"),
        ({"device_limits": 3}, "device_limits is 3, must be a mapping"),
        ({"max_bins": 0}, "max_bins is 0"),
        ({"max_bins": "3"}, "max_bins is '3'"),
        ({"max_bins": 3.5}, "max_bins is 3.5, must be a whole number"),
        ({"budget": np.nan}, "budget is nan"),
        ({"budget": np.inf}, "budget is inf, must be a finite number"),
        ({"objective": "worst"}, "needs max_bins"),
        ({"objective": "fastest"}, "must be price, worst or mean"),
        ({"objective": "worst", "max_bins": 2}, "has no latency rows"),
        ({"class_names": ("a",)}, "1 names for 2 classes"),
        ({"dominance": [1.0, 2.0]}, r"dominance has shape \(2,\), must be \(2, measures\)"),
        ({"dominance": [[1.0, 2.0]]}, r"dominance has shape \(1, 2\), must be \(2, measures\)"),
        ({"dominance": [[1.0], [np.nan]]}, r"dominance\[1, 0\] is nan"),
        ({"cuts": (NoGoodCut((4,), np.array([1, 0])),)}, "option that does not exist"),
    ],
)
def test_a_wrong_problem_says_what_is_wrong(change: dict[str, object], message: str) -> None:
    good: dict[str, object] = {
        "counts": [1, 2],
        "options": (PackingOption("x", np.array([[1.0, 2.0]]), np.array([3.0])),),
    }
    with pytest.raises(PackingError, match=message):
        PackingProblem(**{**good, **change})  # type: ignore[arg-type]


def test_an_unknown_method_lists_the_known_ones() -> None:
    with pytest.raises(PackingError, match=r'"magic" does not exist; choose from .*cpsat'):
        pack(two_sizes(), "magic")
    with pytest.raises(PackingError, match="does not do objective worst"):
        pack(two_sizes().balanced(5), "ffd")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time_limit_s": -1}, "time_limit_s is -1, must be at least 0"),
        ({"time_limit_s": np.nan}, "time_limit_s is nan"),
        ({"gap_limit": 1.0}, "gap_limit is 1, must be below 1"),
        ({"gap_limit": -0.1}, "gap_limit is -0.1"),
        ({"workers": 0}, "workers is 0, must be at least 1"),
        ({"seed": 1.5}, "seed is 1.5, must be a whole number"),
        ({"seed": "a"}, "seed is 'a'"),
        ({"known_bound": np.nan}, "known_bound is nan"),
        ({"hint": 5}, "hint is of type int, must be a Packing"),
        ({"problem": [1, 2]}, "problem is of type list, must be a PackingProblem"),
    ],
)
def test_a_wrong_argument_says_what_is_wrong(change: dict[str, object], message: str) -> None:
    with pytest.raises(PackingError, match=message):
        pack(**{"problem": two_sizes(), **change})  # type: ignore[arg-type]


def test_a_cut_of_wrong_options_says_so() -> None:
    with pytest.raises(PackingError, match="options of a cut is 0, must be a tuple"):
        NoGoodCut(0, np.array([1, 0]))  # type: ignore[arg-type]


@pytest.mark.parametrize("method", ["exact", "cpsat"])
def test_a_time_without_end_is_allowed(method: str) -> None:
    assert pack(two_sizes(), method, time_limit_s=np.inf).objective == 5


@pytest.mark.parametrize("method", ["exact", "ffd"])
def test_a_known_bound_that_a_packing_disproves_is_ignored(method: str) -> None:
    result = pack(two_sizes(), method, known_bound=100)
    assert "known_bound 100 is above a packing of value 5" in result.message
    assert (result.objective, result.bound <= 5) == (5, True)


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_bins": 4}, "at least 5 bins are needed, above max_bins 4"),
        ({"budget": 4.0}, "the bins cost at least 5, above the budget 4"),
        ({"device_limits": {"bin": 4}}, "no packing keeps the limit 4 of device bin"),
    ],
)
def test_an_infeasible_problem_says_why(limits: dict[str, object], message: str) -> None:
    result = pack(replace(two_sizes(), **limits))  # type: ignore[arg-type]
    assert (result.status, result.message) == (Status.INFEASIBLE, message)


def test_bin_packing_groups_equal_sizes() -> None:
    problem = two_sizes()
    assert problem.counts.tolist() == [5, 5]
    assert problem.class_names == ("6", "4")
    for method in ("exact", "patterns", "cpsat", "milp", "cbc", "ffd", "bfd", "local"):
        result = pack(problem, method)
        assert result.objective == 5
        assert (result.status is Status.OPTIMAL) == methods()[method].exact


def test_exact_figures_are_scaled_exactly() -> None:
    problem = PackingProblem.bin_packing([0.1] * 6, 0.3)
    assert problem.rows[0].exact
    assert pack(problem, "cpsat").objective == 2


@pytest.mark.parametrize(
    ("sizes", "capacity", "bins"),
    [
        ([1 / 3] * 3, 1.0, 1),
        ([1 / 7] * 7, 1.0, 1),
        ([1 / 3] * 2 + [1 / 6] * 2, 1.0, 1),
        ([0.7 / 3] * 3, 0.7, 1),
        ([3_333_333_333] * 3, 9_999_999_999, 1),
        ([6e9, 4e9, 6e9, 4e9], 1e10, 2),
        ([6e-13] * 4, 1e-12, 4),
        ([1e-12 / 3] * 4, 1e-12, 2),
    ],
)
def test_fractions_and_whole_numbers_of_any_size_are_exact(
    sizes: list[float], capacity: float, bins: int
) -> None:
    problem = PackingProblem.bin_packing(sizes, capacity)
    assert problem.rows[0].exact
    assert pack(problem).objective == bins


def test_the_checker_sees_tiny_rows() -> None:
    problem = PackingProblem.bin_packing([6e-13] * 2, 1e-12)
    assert "above 1e-12" in str(check(problem, Packing((Bin(0, np.array([2])),)))[0])


def test_a_rounding_error_of_zero_is_zero() -> None:
    option = PackingOption("x", np.array([[0.1 + 0.2 - 0.3, 0.5]]), np.array([1.0]))
    assert PackingProblem([1, 1], (option,)).rows[0].usage.tolist() == [[0, 1]]


def test_other_figures_are_rounded_towards_safety() -> None:
    rng = np.random.default_rng(1)
    usage, capacity = rng.random((2, 6)), np.array([1.7, np.pi])
    rows = PackingProblem(np.full(6, 9), (PackingOption("x", usage, capacity),)).rows[0]
    assert not rows.exact
    given = usage / capacity[:, None]
    scaled = rows.usage / rows.capacity[:, None]
    assert (scaled >= given * (1 - 1e-12)).all()
    assert (scaled <= given + 1 / RESOLUTION).all()


def test_the_checker_catches_every_kind_of_damage() -> None:
    option = PackingOption("small", np.array([[6.0, 4.0]]), np.array([10.0]), limit=5)
    no_large = replace(
        option, name="narrow", allowed=np.array([False, True]), limit=None, option=EngineOption("other", 1, 0)
    )
    problem = PackingProblem(
        np.array([5, 5]), (option, no_large), device_limits={"other": 1}, max_bins=6, budget=6.0,
        cuts=(NoGoodCut((1,), np.array([0, 2])),),
    )  # fmt: skip
    good = [Bin(0, np.array([1, 1]))] * 5
    assert check(problem, Packing(tuple(good))) == []

    def damage(bins: list[Bin]) -> str:
        violations = check(problem, Packing(tuple(bins)))
        return "; ".join(f"{violation.kind}: {violation}" for violation in violations)

    assert "counts: class 0: 4 items packed, there are 5" in damage(good[1:])
    assert "is 12, above 10" in damage([Bin(0, np.array([2, 0])), *good[2:], Bin(0, np.array([0, 2]))])
    assert 'may not enter option "narrow"' in damage([*good[1:], Bin(1, np.array([1, 1]))])
    assert "cut: bin 5: dominates cut 0" in damage([*good, Bin(1, np.array([0, 2]))])
    assert "counts: bin 5: negative counts" in damage([*good, Bin(0, np.array([-1, 0]))])
    assert "malformed: bin 5: option 7 does not exist" in damage([*good, Bin(7, np.array([1, 0]))])
    assert "has shape" in damage([*good, Bin(0, np.array([1]))])
    assert 'limit: option "small": 6 bins, above its limit 5' in damage([*good, Bin(0, np.array([1, 0]))])
    assert 'limit: device "other": 2 bins' in damage([*good, *[Bin(1, np.array([0, 1]))] * 2])
    assert "7 bins, above the limit 6" in damage([*good, *[Bin(1, np.array([0, 1]))] * 2])
    assert "price 7 is above the budget 6" in damage([*good, *[Bin(1, np.array([0, 1]))] * 2])


@pytest.mark.parametrize(("excess", "kinds"), [(1e-11, []), (1e-7, [ViolationKind.ROW, ViolationKind.LIMIT])])
def test_the_checker_forgives_rounding_and_no_more(excess: float, kinds: list[ViolationKind]) -> None:
    """Ten items fill a bin but for a share of it, which its price is above the budget too."""
    option = PackingOption("x", np.array([[1 + excess]]), np.array([10.0]), price=1 + excess)
    problem = PackingProblem([10], (option,), budget=1.0)
    assert [v.kind for v in check(problem, Packing((Bin(0, np.array([10])),)))] == kinds


def test_what_is_packed_twice_and_bins_of_what_there_is_none_are_seen() -> None:
    option = PackingOption("x", np.array([[6.0, 4.0]]), np.array([10.0]), limit=0)
    packing = Packing((Bin(0, np.array([1, 1])), Bin(0, np.array([0, 1]))))
    assert list(map(str, check(PackingProblem([1, 1], (option,)), packing))) == [
        "class 1: 2 items packed, there are 1",
        'option "x": 2 bins, above its limit 0',
    ]


def test_whether_the_check_goes_on_does_not_depend_on_words() -> None:
    """An option whose name reads like a malformed bin hides nothing."""
    option = PackingOption("has shape, does not exist", np.array([[6.0]]), np.array([10.0]))
    kinds = [v.kind for v in check(PackingProblem([3], (option,)), Packing((Bin(0, np.array([2])),)))]
    assert kinds == [ViolationKind.ROW, ViolationKind.COUNTS]


def test_an_item_that_fits_nowhere_is_named() -> None:
    option = PackingOption("x", np.array([[3.0, 30.0]]), np.array([10.0]))
    problem = PackingProblem(np.array([1, 1]), (option,), class_names=("cool", "hot"))
    result = pack(problem, "exact")
    assert result.status is Status.INFEASIBLE
    assert "class hot" in result.message
    by_heuristic = pack(problem, "ffd")
    assert by_heuristic.status is Status.INFEASIBLE
    assert by_heuristic.message == result.message


@pytest.mark.parametrize("method", ["exact", "patterns", "cpsat", "milp", "cbc"])
def test_too_few_bins_are_proven_infeasible(method: str) -> None:
    result = pack(replace(two_sizes(), max_bins=4), method, time_limit_s=20)
    assert result.status is Status.INFEASIBLE
    assert result.stop_reason is StopReason.PROVEN
    assert result.packing is None


def test_too_few_bins_are_proven_where_the_relaxation_does_not_see_it() -> None:
    problem = replace(PackingProblem.bin_packing([6] * 4, 10), max_bins=3)
    for method in ("exact", "patterns", "cpsat", "milp", "cbc"):
        assert pack(problem, method).status is Status.INFEASIBLE


def hard(n: int = 400) -> PackingProblem:
    """Vector packing that nothing closes in a second."""
    rng = np.random.default_rng(0)
    return PackingProblem(
        np.ones(n, dtype=int), (PackingOption("x", rng.uniform(0.1, 0.5, (4, n)), np.ones(4)),)
    )


@pytest.mark.parametrize("method", ["exact", "cpsat", "milp"])
def test_a_time_limit_returns_the_best_plan_and_a_bound(method: str) -> None:
    problem = hard(60 if method == "milp" else 200)
    result = pack(problem, method, time_limit_s=1.5)
    assert result.status is Status.FEASIBLE
    assert result.stop_reason is StopReason.TIME_LIMIT
    assert result.packing is not None
    assert result.objective is not None
    assert 0 <= result.bound < result.objective


@pytest.mark.slow
@pytest.mark.parametrize(
    ("method", "items", "seconds"), [("exact", 120, 0.7), ("cpsat", 40, 1.2), ("milp", 40, 0.5)]
)
def test_what_counted_work_cuts_short_is_the_same_whatever_the_clock_and_the_workers(
    method: str, items: int, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for speed, workers in ((0.1, 1), (3.0, 3)):
        start = time.monotonic()
        now = SimpleNamespace(monotonic=lambda s=speed, t=start: t + s * (time.monotonic() - t))
        monkeypatch.setattr(deadline, "time", now)
        end = Deadline.after(600).part(seconds)
        result = pack(hard(items), method, time_limit_s=math.inf, deadline=end, workers=workers)
        assert result.stop_reason is StopReason.TIME_LIMIT
        assert result.packing is not None
        found.append((result.packing.counts().tolist(), result.bound, end.work.seconds))
    assert found[0] == found[1]


def test_a_model_that_would_be_built_too_late_is_a_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    for step in (
        "anneal_to_bin_count",
        "place_by_enumeration",
        "place_by_branching",
        "restricted_master",
        "_dive",
    ):
        monkeypatch.setattr(patterns, step, lambda *_: None)
    params = PackingParams(branch_and_price=BranchAndPriceParams(assignment_built_per_s=0.0))
    result = pack(hard(60), "patterns", time_limit_s=60, params=params)
    assert result.status is Status.FEASIBLE
    assert result.stop_reason is StopReason.TIME_LIMIT
    assert result.statistics["seconds"] < 60


@pytest.mark.parametrize("method", ["cpsat", "milp", "cbc"])
def test_a_model_that_is_too_large_is_said(method: str) -> None:
    result = pack(hard(20), method, params=PackingParams(assignment=AssignmentParams(most_variables=50)))
    assert result.status is Status.FEASIBLE
    assert result.message.endswith("bins and 20 classes is too large; it was not solved")


def test_a_plan_is_proven_only_where_the_bound_meets_it() -> None:
    run = SearchState(two_sizes(), Deadline.after(60), packing=Packing((Bin(0, np.array([1, 1])),) * 5))
    run.value, run.bound = 1_000.0, 999.5
    assert not run.proven
    run.bound = 1_000.0 * (1 - 1e-12)
    assert run.proven


def test_a_gap_limit_stops_early() -> None:
    result = pack(hard(), "exact", gap_limit=0.5, time_limit_s=30)
    assert result.status is Status.FEASIBLE
    assert result.stop_reason is StopReason.GAP_LIMIT
    assert result.gap <= 0.5


def test_an_interruption_returns_the_best_plan_so_far() -> None:
    def stop(_packing: Packing, _value: float) -> None:
        raise KeyboardInterrupt

    result = pack(hard(), "exact", on_incumbent=stop)
    assert result.stop_reason is StopReason.INTERRUPTED
    assert result.status is Status.FEASIBLE
    assert result.packing is not None


def test_incumbents_come_with_falling_values_and_a_log() -> None:
    values: list[float] = []
    lines: list[str] = []
    pack(hard(100), "local", time_limit_s=0.3, on_incumbent=lambda _, v: values.append(v), log=lines.append)
    assert values == sorted(values, reverse=True)
    assert any(line.startswith("plan ") for line in lines)


def test_a_hint_is_kept_if_it_is_valid() -> None:
    problem = two_sizes()
    good = Packing((Bin(0, np.array([1, 1])),) * 5)
    seen: list[float] = []
    pack(problem, "ffd", hint=good, on_incumbent=lambda _, v: seen.append(v))
    assert seen[0] == 5
    bad = Packing((Bin(0, np.array([5, 5])),))
    lines: list[str] = []
    assert pack(problem, "ffd", hint=bad, log=lines.append).objective == 5
    assert any(line.startswith("the hint is not used: bin 0: row 0") for line in lines)


def test_several_kinds_of_bins_and_prices() -> None:
    small = PackingOption(
        "small", np.array([[3.0, 5.0]]), np.array([6.0]), price=1.0, option=EngineOption("s", 1, 0)
    )
    large = PackingOption(
        "large", np.array([[3.0, 5.0]]), np.array([15.0]), price=2.2, option=EngineOption("l", 1, 0)
    )
    problem = PackingProblem(np.array([4, 3]), (small, large))
    for method in ("exact", "patterns", "cpsat", "milp", "cbc"):
        assert pack(problem, method).objective == pytest.approx(4.2)
    limited = replace(problem, device_limits={"l": 0})
    for method in ("exact", "patterns", "cpsat", "milp", "cbc"):
        assert pack(limited, method).objective == pytest.approx(5.0)


def test_balance_spreads_evenly() -> None:
    problem = PackingProblem.bin_packing([5, 4, 3, 3, 3], 18).balanced(2)
    for method in ("exact", "cpsat", "milp", "cbc", "spread"):
        assert pack(problem, method).objective == pytest.approx(0.5)
