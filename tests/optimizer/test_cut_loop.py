"""The loop with the twin, against judges whose rule the test knows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from optimizer.packing import methods, pack
from optimizer.packing.model.problem import Bin, Packing, PackingOption, PackingProblem
from optimizer.packing.model.search_state import PackingResult, Status, StopReason
from optimizer.search.corrections import Corrections
from optimizer.search.cut_loop import AcceptedPlan, CutLoop, fixed_method, pattern_of, split_in_half
from optimizer.search.instance import Instance
from optimizer.search.judging import Pattern
from optimizer.search.minimize_gpus import (
    GPUMinimum,
    Minimizer,
    Search,
    cheaper_than,
    minimize_gpus,
    relaxed,
)
from optimizer.search.objective_order import minimize_second_price
from optimizer.search.params import GPUMinimizationParams, SolveParams
from scenarios import Deadline, EngineOption, Stopped
from twin import GPUVerdict

Rule = Callable[[Pattern], bool]


def verdict(accepted: bool) -> GPUVerdict:
    return GPUVerdict(
        gpu=0,
        accepted=accepted,
        offered_tok_per_s=100.0,
        served_tok_per_s=100.0,
        served_share=1.0,
        worst_adapter=None,
        worst_served_share=1.0,
        itl_ms=10.0,
        ttft_ms=20.0,
        itl_p99_ms=10.0,
        ttft_p99_ms=20.0,
        kv_cache_tokens=1000,
    )


class FakeJudge:
    """Accepts what a rule accepts; counts what it was asked."""

    def __init__(self, rule: Rule) -> None:
        self.rule = rule
        self.asked: list[Pattern] = []

    def __call__(self, patterns: Sequence[Pattern], _deadline: object = None) -> list[GPUVerdict]:
        self.asked += patterns
        return [verdict(self.rule(p)) for p in patterns]


def problem(capacity: float, counts: Sequence[int] = (6, 6), sizes: Sequence[float] = (3, 2)) -> Any:
    option = PackingOption(
        "gpu with 8 slots of rank 8, resident",
        usage=np.array([sizes, [1.0] * len(sizes)]),
        capacity=np.array([capacity, 8.0]),
        option=EngineOption("gpu", 8, 8),
    )
    return PackingProblem(np.array(counts), (option,), dominance=np.array(sizes)[:, None], max_bins=20)


def load(pattern: Pattern, sizes: Sequence[float] = (3, 2)) -> float:
    return pattern.load * float(np.dot(pattern.counts, sizes))


def search_of(inner: float, outer: float, judge: FakeJudge, method: str = "exact") -> Search:
    instance: Any = SimpleNamespace(
        inner=problem(inner), outer=problem(outer), divisible=None, scenario=SimpleNamespace(seed=0)
    )
    return Search(instance, methods()[method], CutLoop(judge))  # type: ignore[arg-type]


def search(inner: float, outer: float, rule: Rule, method: str = "exact") -> tuple[GPUMinimum, FakeJudge]:
    judge = FakeJudge(rule)
    return minimize_gpus(search_of(inner, outer, judge, method), Deadline.after(60)), judge


def test_a_rejected_plan_is_cut_off_until_the_twin_accepts() -> None:
    loop = CutLoop(FakeJudge(lambda p: load(p) <= 8))  # type: ignore[arg-type]
    solver = fixed_method("exact", seed=0, workers=1)
    plan = loop.run(problem(10.0), solver, Deadline.after(60), max_rounds=50).plan
    assert plan is not None
    assert all(load(pattern_of(plan.problem, b)) <= 8 for b in plan.packing.bins)
    assert len(plan.packing) == 4  # 30 of load in bins of 8: no three of size 3 fit, so 4 bins
    assert loop.rejected
    assert 1 < loop.rounds <= len(loop.rejected) + 1


@pytest.mark.parametrize(("big_price", "gpus"), [(2.0, 1), (2.5, 2)])
def test_of_plans_as_cheap_the_one_of_fewest_gpus_is_taken(big_price: float, gpus: int) -> None:
    def option(device: str, capacity: float, price: float) -> PackingOption:
        engine = EngineOption(device, 1, 0)
        return PackingOption(device, np.array([[5.0]]), np.array([capacity]), price=price, option=engine)

    small, big = option("small", 10.0, 1.0), option("big", 20.0, big_price)
    both = PackingProblem(np.array([4]), (small, big), max_bins=8)
    devices = (
        SimpleNamespace(name="small", price_per_hour=1.0),
        SimpleNamespace(name="big", price_per_hour=big_price),
    )
    scenario: Any = SimpleNamespace(seed=0, objective=("cost", "gpus"), devices=devices)
    instance = Instance(scenario, {}, {}, (), (), both, both)
    loop = CutLoop(FakeJudge(lambda _: True))  # type: ignore[arg-type]
    solver, deadline = fixed_method("bfd", seed=0, workers=1), Deadline.after(60)
    first = loop.run(replace(both, options=(small,)), solver, deadline, max_rounds=1).plan
    assert first is not None
    assert len(first.packing) == 2
    search = Search(instance, methods()["exact"], loop)
    plan = minimize_second_price(search, GPUMinimum(first), deadline).plan
    assert plan is not None
    assert len(plan.packing) == gpus
    assert plan.value == 2.0


def test_no_plan_is_returned_when_the_twin_accepts_nothing() -> None:
    found, _ = search(10.0, 12.0, lambda _: False)
    assert found.best is None
    assert found.infeasible


def test_an_accepted_plan_meets_the_rule_for_every_method() -> None:
    for method in ("bfd", "ffd", "exact", "cpsat", "milp", "patterns"):
        found, _ = search(12.0, 14.0, lambda p: load(p) <= 9, method)
        assert found.best is not None, method
        assert all(load(pattern_of(found.best.problem, b)) <= 9 for b in found.best.packing.bins), method


def test_the_twins_slack_saves_a_gpu() -> None:
    """The inner region holds 6 per GPU, the twin accepts 10, the outer region 12."""
    found, _ = search(6.0, 12.0, lambda p: load(p) <= 10)
    assert found.best is not None
    assert len(found.best.packing) == 3
    assert found.outer_bound == 3
    assert found.proven


def test_the_outer_bound_proves_a_plan_without_the_inner_regions_proof() -> None:
    found, _ = search(10.0, 10.0, lambda _: True)
    assert found.best is not None
    assert len(found.best.packing) == found.outer_bound == 3


def test_rejections_on_the_outer_region_raise_its_bound() -> None:
    """The outer region would hold all on 2 GPUs of 17; the twin refuses every GPU above 14."""
    found, judge = search(10.0, 17.0, lambda p: load(p) <= 14)
    assert found.best is not None
    assert len(found.best.packing) == 3
    assert found.outer_bound == 3
    assert len(judge.asked) < 60


def test_plans_with_unequal_parts_are_not_excluded_by_those_with_equal_ones() -> None:
    """Where an adapter is split, its equal parts are not all the ways to split it."""
    whole = search_of(10.0, 17.0, FakeJudge(lambda p: load(p) <= 14))
    parted = replace(whole, instance=SimpleNamespace(**vars(whole.instance) | {"divisible": problem(17.0)}))  # type: ignore[arg-type]
    found = minimize_gpus(parted, Deadline.after(60))
    assert found.best is not None
    assert (len(found.best.packing), found.outer_bound, found.proven) == (3, 2, False)
    assert found.gap is not None
    assert found.gap.cause == "unequal_parts"


def test_only_a_proof_excludes_cheaper_plans() -> None:
    minimizer = Minimizer(search_of(10.0, 17.0, FakeJudge(lambda _: True)), Deadline.after(60))
    plan = AcceptedPlan(Packing((Bin(0, np.array([2, 2])),) * 3), (verdict(True),) * 3, problem(10.0))
    held = GPUMinimum(plan, outer_bound=2.0)
    for status, stop, bound, cause in (
        (Status.LIMIT, StopReason.TIME_LIMIT, 2, "undecided"),
        (Status.INFEASIBLE, StopReason.PROVEN, 3, None),
    ):
        after = minimizer._without_cheaper(held, PackingResult(None, status, stop, None, 0.0, "exact"))
        assert (after.outer_bound, after.infeasible) == (bound, False)
        assert (after.gap and after.gap.cause) == cause


def test_a_plan_that_the_twin_accepts_is_not_infeasible_by_a_region_that_is_too_narrow() -> None:
    narrow = search_of(10.0, 10.0, FakeJudge(lambda _: True))
    narrow.instance.outer = replace(problem(10.0), max_bins=2)  # type: ignore[misc]
    found = minimize_gpus(narrow, Deadline.after(60))
    assert found.best is not None
    assert not found.infeasible


def test_a_search_that_the_time_limit_ends_has_not_finished() -> None:
    found = minimize_gpus(search_of(6.0, 12.0, FakeJudge(lambda _: True)), Deadline.after(0.0))
    assert not found.finished
    assert found.gap is not None
    assert found.gap.cause == "cut_short"


def test_an_interrupted_search_looks_for_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("optimizer.search.minimize_gpus.interrupted", lambda: True)
    monkeypatch.setattr(Minimizer, "bound_outer", None)
    found = minimize_gpus(search_of(10.0, 10.0, FakeJudge(lambda _: True)), Deadline.after(0.0))
    assert found.outer_bound is None


def test_a_heuristic_claims_no_bound() -> None:
    found, _ = search(10.0, 12.0, lambda _: True, "bfd")
    assert found.outer_bound is None
    assert not found.proven


def test_what_cannot_be_cut_right_is_halved() -> None:
    loop = CutLoop(FakeJudge(lambda p: sum(p.counts) <= 3))  # type: ignore[arg-type]
    packing = Packing((Bin(0, np.array([6, 6])),))
    plan = loop.repair(problem(100.0), packing, Deadline.after(60))
    assert plan is not None
    assert all(b.counts.sum() <= 3 for b in plan.packing.bins)
    assert (plan.packing.counts().sum(axis=0) == [6, 6]).all()
    few = replace(problem(100.0), max_bins=3)
    assert loop.repair(few, packing, Deadline.after(60)) is None  # four would do, and there are three


def test_halves_share_every_class() -> None:
    for counts in ([5, 3, 1], [1, 0, 0], [2, 2, 2]):
        parts = split_in_half(Bin(0, np.array(counts)))
        assert (sum(p.counts for p in parts) == counts).all()
        assert all(abs(p.counts - np.array(counts) / 2).max() <= 0.5 for p in parts if len(parts) == 2)


def test_bounds_carry_over_between_rounds_but_not_to_rows_that_are_corrected() -> None:
    """Cuts only take packings away; what the twin teaches may give some back."""

    def known(corrections: Corrections | None) -> list[float]:
        bounds = []

        def solver(asked: PackingProblem, _seconds: float, bound: float) -> PackingResult:
            bounds.append(bound)
            return pack(asked, "exact")

        loop = CutLoop(FakeJudge(lambda p: load(p) <= 7))  # type: ignore[arg-type]
        loop.run(problem(10.0), solver, Deadline.after(60), max_rounds=3, corrections=corrections)
        return bounds

    first, second, *_ = known(None)
    assert (first, second) == (0, 3)
    assert set(known(Corrections(problem(10.0), problem(12.0), SolveParams().teaching))) == {0}


def test_the_time_limit_ends_the_loop() -> None:
    loop = CutLoop(FakeJudge(lambda _: False))  # type: ignore[arg-type]
    solver = fixed_method("bfd", seed=0, workers=1)
    assert loop.run(problem(10.0), solver, Deadline.after(-1), max_rounds=50).plan is None
    assert loop.rounds == 1


def test_the_end_while_the_twin_judges_keeps_what_was_accepted() -> None:
    asked = 0

    def rule(_: Pattern) -> bool:
        nonlocal asked
        asked += 1
        if asked > 6:
            raise Stopped("the time limit was reached while the twin judged")
        return True

    found = minimize_gpus(search_of(6.0, 12.0, FakeJudge(rule)), Deadline.after(60))
    assert found.best is not None
    assert asked > 6


def test_cuts_reach_options_that_are_no_better() -> None:
    base = problem(10.0)
    option = base.options[0]
    more = replace(option, name="more slots", option=EngineOption("gpu", 16, 8))
    higher = replace(option, name="higher rank", option=EngineOption("gpu", 8, 16))
    fewer = replace(option, name="fewer slots", option=EngineOption("gpu", 2, 8))
    other = replace(option, name="elsewhere", option=EngineOption("other", 8, 8))
    lower = replace(option, name="lower rank", option=EngineOption("gpu", 8, 4))
    wide = replace(base, options=(option, more, higher, fewer, other, lower))
    loop = CutLoop(FakeJudge(lambda _: False))  # type: ignore[arg-type]
    loop.verdicts(wide, Packing((Bin(0, np.array([2, 1])),)), Deadline.after(60))
    (cut,) = loop.cuts(wide)
    # 3 adapters used 3 slots: options with more slots, or more rank, leave less memory; fewer slots, or less
    # rank, may help.
    assert cut.options == (0, 1, 2)


def test_a_cheaper_plan_has_one_gpu_less_or_a_lower_budget() -> None:
    base = problem(10.0)
    assert cheaper_than(base, 4.0).max_bins == 3
    dear = replace(base, options=(base.options[0], replace(base.options[0], name="dear", price=2.5)))
    budget = cheaper_than(dear, 4.0).budget
    assert budget == pytest.approx(4.0, rel=1e-5)
    assert budget is not None
    assert budget * (1 + 1e-9) < 4.0  # as budgets are kept to rounding
    # One GPU of the lowest price cannot be undercut: nothing may fit.
    assert cheaper_than(base, 1.0).budget == pytest.approx(1.0, rel=1e-5)


def test_relaxed_regions_lie_between_the_two() -> None:
    instance: Any = SimpleNamespace(inner=problem(10.0), outer=problem(20.0), divisible=None)
    for share, most in ((0.0, 10.0), (1.0, 20.0)):
        option = relaxed(instance, share).options[0]
        assert option.capacity[0] / option.usage[0, 0] == pytest.approx(most / 3)
    half = relaxed(instance, 0.5).options[0]
    assert 10 / 3 < half.capacity[0] / half.usage[0, 0] < 20 / 3


def test_regions_are_joined_by_option_and_regime_not_by_name() -> None:
    resident = replace(problem(10.0).options[0], name="a gpu")
    shared = replace(problem(30.0).options[0], name="a gpu", regime="shared")
    inner = replace(problem(10.0), options=(resident, shared))
    outer = replace(inner, options=(replace(shared, name="b"), replace(resident, name="c")))
    instance: Any = SimpleNamespace(inner=inner, outer=outer, divisible=None)
    rooms = [o.capacity[0] / o.usage[0, 0] for o in relaxed(instance, 1.0).options]
    assert rooms == pytest.approx([10 / 3, 30 / 3])


# --- what the twin teaches -----------------------------------------------------------------------------


def many(capacity: float) -> Any:
    """Sixty items of five sizes, about twelve to a bin: no list of rejected contents says much."""
    return problem(capacity, counts=(12,) * 5, sizes=(1.4, 1.2, 1.0, 0.8, 0.6))


def taught(inner: float, outer: float, truly: float, **changes: Any) -> tuple[GPUMinimum, CutLoop, FakeJudge]:
    sizes = (1.4, 1.2, 1.0, 0.8, 0.6)
    judge = FakeJudge(lambda p: load(p, sizes) <= truly)
    instance: Any = SimpleNamespace(
        inner=replace(many(inner), options=(slots_for_all(many(inner)),)),
        outer=replace(many(outer), options=(slots_for_all(many(outer)),)),
        divisible=None,
        scenario=SimpleNamespace(seed=0),
    )
    params = SolveParams(gpus=GPUMinimizationParams(**changes))
    search = Search(instance, methods()["exact"], CutLoop(judge), params=params)  # type: ignore[arg-type]
    return minimize_gpus(search, Deadline.after(60)), search.loop, judge


def slots_for_all(wide: Any) -> PackingOption:
    one = wide.options[0]
    engine = EngineOption("gpu", 64, 8)
    return replace(one, capacity=np.array([one.capacity[0], 64.0]), option=engine)


def test_rows_that_are_too_wide_are_corrected_within_few_rounds() -> None:
    """The rows hold 10.5 of load per GPU, the twin 10: six GPUs by the rows, and never fewer than seven."""
    found, loop, judge = taught(10.5, 11.0, 9.9)
    assert found.best is not None
    assert len(found.best.packing) == 7
    assert loop.rounds <= 12
    assert len(loop.rejected) < 40
    assert any(loop.lessons.values())
    assert len(judge.asked) < 150


def test_rows_that_are_too_narrow_are_widened() -> None:
    """The rows hold 7 of load, the twin 10.2, and six GPUs of 10 do."""
    found, loop, _ = taught(7.0, 10.5, 10.2)
    assert found.best is not None
    assert len(found.best.packing) == found.outer_bound == 6
    assert found.proven
    assert loop.rounds <= 8


def test_an_open_gap_names_the_gpus_and_what_the_twin_says_of_them() -> None:
    found, _, _ = taught(9.0, 11.0, 9.9)
    assert found.best is not None
    assert found.outer_bound == 6 < len(found.best.packing) == 7
    assert found.gap is not None
    assert found.gap.cause == "rejected"
    assert found.gap.value == 6
    assert sum(gpu.number for gpu in found.gap.gpus) == 6
    assert found.gap.rejected
    assert all(load(g.pattern, (1.4, 1.2, 1.0, 0.8, 0.6)) > 9.9 for g in found.gap.rejected)
    assert "it holds a plan of 6 GPUs, " in str(found.gap)


def test_a_plan_that_meets_the_bound_leaves_no_gap() -> None:
    found, _ = search(10.0, 10.0, lambda _: True)
    assert found.gap is None


def test_a_row_of_the_inner_region_alone_proves_nothing() -> None:
    """What only the inner region limits, as the number of adapters that were sampled, is no proof."""
    inner, outer = problem(12.0), problem(12.0)
    capped = replace(
        inner.options[0],
        usage=np.vstack([inner.options[0].usage, np.ones(2)]),
        capacity=np.append(inner.options[0].capacity, 3.0),
    )
    instance: Any = SimpleNamespace(
        inner=replace(inner, options=(capped,)), outer=outer, divisible=None, scenario=SimpleNamespace(seed=0)
    )
    judge = FakeJudge(lambda p: load(p) <= 12)
    found = minimize_gpus(
        Search(instance, methods()["exact"], CutLoop(judge)),  # type: ignore[arg-type]
        Deadline.after(60),
    )
    assert found.best is not None
    assert len(found.best.packing) == found.outer_bound == 3  # 30 of load; of three items each it would be 4
