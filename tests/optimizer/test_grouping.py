"""Adapters that all differ: groups, their bounds, dealing of their members, plans of their own content."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import optimizer
import scenarios
import twin
from optimizer.packing import pack
from optimizer.packing.bounds.price_bounds import bound_by_row_prices, continuous_bound
from optimizer.packing.heuristics.item_kernels import FULL, deal, place_items
from optimizer.packing.model.problem import Packing
from optimizer.search.cut_loop import AcceptedPlan, pattern_of
from optimizer.search.grouping.dealing import Dealer, OpenItems
from optimizer.search.grouping.groups import Groups, grouped
from optimizer.search.grouping.minimize_gpus import GroupedMinimizer, cheapest_plan
from optimizer.search.instance import Instance
from optimizer.search.minimize_gpus import GPUMinimum
from optimizer.search.params import GroupingParams, SolveParams
from optimizer.search.preparation import learned_regions, prepare
from optimizer.search.solve import find_method, search_of
from scenarios import UNLIMITED, Deadline, Scenario, override
from twin import TwinJudge

PARAMS = SolveParams(grouping=GroupingParams(ungrouped_classes=20, groups=9))


def differing(number: int, **changes: object) -> Scenario:
    """Adapters of three ranks, each with a rate of its own, at the lengths of the shipped regions."""
    rates = np.exp(np.random.default_rng(1).uniform(np.log(0.3), np.log(2.4), number)).round(6)
    values = scenarios.read("paper_high_128").model_dump(mode="json")
    values["adapters"] = [
        {"name": f"a{k}", "rank": (8, 16, 32)[k % 3], "rate": float(rate)} for k, rate in enumerate(rates)
    ]
    return scenarios.from_mapping(values | {"replications": 1} | changes)


def prepared(scenario: Scenario, *, grouping: bool = True) -> tuple[TwinJudge, Instance]:
    judge = TwinJudge(scenario, twin.profiles_of(scenario))
    return judge, prepare(judge, learned_regions(judge), params=PARAMS, grouping=grouping)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return override(differing(90), "acceptance=paper")


@pytest.fixture(scope="module")
def instance(scenario: Scenario) -> Instance:
    return prepared(scenario)[1]


@pytest.fixture(scope="module")
def whole(scenario: Scenario) -> Instance:
    """The same, with a class for every adapter."""
    return prepared(scenario, grouping=False)[1]


@pytest.fixture
def dealer(instance: Instance) -> Dealer:
    return Dealer(instance)


def packed(instance: Instance) -> Packing:
    packing = pack(instance.inner, "bfd").packing
    assert packing is not None
    return packing


def items_of(packing: Packing) -> list[int]:
    return sorted(item for b in packing.bins for item in b.items)


def test_groups_are_of_one_rank_and_split_where_members_differ_most() -> None:
    ranks, figures = np.array([8, 8, 8, 8, 16]), np.array([[1.0], [1.1], [5.0], [5.2], [1.0]])
    groups = grouped(ranks, np.ones(5, dtype=np.int64), figures, 3)
    assert groups.of_class.tolist() == [0, 0, 1, 1, 2]
    assert grouped(ranks, np.ones(5, dtype=np.int64), figures, 1).number == 2, "ranks stay apart"
    alike = grouped(ranks[:4], np.ones(4, dtype=np.int64), np.ones((4, 1)), 3)
    assert alike.number == 1, "what does not differ is not split"


def test_neighbouring_floats_are_split_all_the_same() -> None:
    figures = np.array([[1.0], [np.nextafter(1.0, 2.0)]])
    assert grouped(np.array([8, 8]), np.ones(2, dtype=np.int64), figures, 2).number == 2


def test_a_mean_counts_items_and_the_least_is_below_each(instance: Instance, whole: Instance) -> None:
    groups = Groups(np.array([0, 0, 1]), np.array([3, 1, 2]))
    assert groups.mean(np.array([[1.0, 5.0, 7.0]])).tolist() == [[2.0, 7.0]]
    assert groups.class_of.tolist() == [0, 0, 0, 1, 2, 2]
    assert instance.groups is not None
    for option, single in zip(instance.outer.options, whole.outer.options, strict=True):
        assert (option.usage[:, instance.groups.of_class] <= single.usage + 1e-15).all()
    assert sorted(name for one in instance.classes for name in one.names) == sorted(
        name for one in whole.classes for name in one.names
    )


def test_few_classes_are_never_grouped(scenario: Scenario, whole: Instance) -> None:
    judge = TwinJudge(scenario, twin.profiles_of(scenario))
    instance = prepare(judge, learned_regions(judge), grouping=True)
    assert instance.groups is None
    assert instance.classes == whole.classes


def test_prices_of_rows_prove_what_the_whole_programme_proves(instance: Instance, whole: Instance) -> None:
    assert instance.groups is not None
    exact = continuous_bound(whole.inner)
    counts = instance.groups.counts
    bound = bound_by_row_prices(instance.inner, whole.inner.options, counts, Deadline.after(10), 10.0)
    assert np.ceil(exact - 0.02) <= bound <= np.ceil(exact - 1e-6)
    draw = np.random.default_rng(2)
    options = [
        replace(o, usage=o.usage * draw.uniform(0.3, 3.0, o.usage.shape)) for o in instance.inner.options
    ]
    near = replace(instance.inner, options=tuple(options))
    rough = bound_by_row_prices(near, whole.inner.options, counts, Deadline.after(10), 10.0)
    assert 0 < rough <= np.ceil(exact - 1e-6), "any prices prove a bound"


def test_a_deal_keeps_the_packing_and_gives_every_item_one_place(instance: Instance, dealer: Dealer) -> None:
    packing = packed(instance)
    dealt = dealer.deal(instance.inner, packing)
    assert items_of(dealt) == list(range(90))
    assert instance.groups is not None
    for before, after in zip(packing.bins, dealt.bins, strict=True):
        assert before.option == after.option
        assert (before.counts == after.counts).all()
        held = np.bincount(instance.groups.of_item[list(after.items)], minlength=len(before.counts))
        assert (held == before.counts).all()
    assert dealer.deal(instance.inner, dealt) is dealt


def test_heavy_and_light_members_even_out() -> None:
    """Two bins that want four each of items of 1 to 8: any order of names would give one of them 26 of 36."""
    usage = np.arange(1.0, 9.0)[None, :, None]
    order, group = np.arange(8)[::-1].copy(), np.zeros(8, dtype=np.int64)
    slots, option = np.array([[4], [4]]), np.zeros(2, dtype=np.int64)
    place = deal(order, group, slots, usage, np.full((1, 1, 1), 4.5), option)
    assert np.bincount(place).tolist() == [4, 4]
    assert abs(np.bincount(place, usage[0, :, 0]) - 18.0).max() <= 1.0


@pytest.mark.parametrize(("even", "first"), [(False, 1), (True, 0)])
def test_an_item_goes_to_the_fullest_bin_or_to_the_one_with_most_room(even: bool, first: int) -> None:
    usage, option = np.full((1, 1, 2), 0.1), np.zeros(3, dtype=np.int64)
    load, ceiling = np.array([[0.4, 0.1], [0.7, 0.1], [0.1, 0.1]]), np.full((3, 2), 0.85)
    ceiling[2] = -1.0
    assert place_items(np.array([0]), usage, option, load, ceiling, even).tolist() == [first]
    assert load[first, 0] == pytest.approx((0.5, 0.8)[first])
    assert place_items(np.array([0]), usage, option, load, np.full((3, 2), 0.15), even).tolist() == [-1]


def test_packed_items_keep_their_own_rows(instance: Instance, whole: Instance, dealer: Dealer) -> None:
    found = dealer.pack(instance.inner, packed(instance), UNLIMITED, 8)
    assert found is not None
    assert items_of(found) == list(range(90))
    assert len(found) <= len(packed(instance)) + 1
    for b in found.bins:
        option = whole.inner.options[b.option]
        held = np.bincount(list(b.items), minlength=90)
        assert not held[~option.fits_class].any()
        assert (option.usage @ held <= option.capacity * (1 + 1e-6)).all()


def test_what_is_too_much_for_a_gpu_goes_to_others(instance: Instance, dealer: Dealer) -> None:
    """By rows of which everything takes a third more than those that it was packed by."""
    options = tuple(replace(option, usage=1.3 * option.usage) for option in instance.inner.options)
    tight = replace(instance.inner, options=options)
    before = packed(instance)
    assert (dealer.opened(tight, dealer.deal(tight, before)).load > FULL).any()
    found = dealer.pack(tight, before, UNLIMITED, 8)
    assert found is not None
    assert items_of(found) == list(range(90))
    assert (dealer.opened(tight, found).load <= FULL).all()


def test_limits_on_gpus_are_kept(instance: Instance, dealer: Dealer) -> None:
    packing = packed(instance)
    tight = replace(instance.inner, max_bins=len(packing))
    shed, room = np.full(len(packing), 0.3), np.zeros(len(packing))
    assert dealer.relieve(tight, dealer.deal(tight, packing), shed, room, 0.7) is None


def test_relief_takes_a_share_and_leaves_full_gpus_alone(instance: Instance, dealer: Dealer) -> None:
    before = dealer.deal(instance.inner, packed(instance))
    shed = np.where(np.arange(len(before)) == 0, 0.2, 0.0)
    after = dealer.relieve(instance.inner, before, shed, np.zeros(len(before)), 0.8)
    assert after is not None
    assert items_of(after) == list(range(90))
    first = set(before.bins[0].items)
    assert set(after.bins[0].items) < first
    assert len(first) - len(after.bins[0].items) == round(0.2 * len(first))
    kept = [b.items for b in after.bins]
    full = dealer.opened(instance.inner, before).load.max(axis=1) > 0.8
    assert full.any()
    assert all(b.items in kept for b, held in list(zip(before.bins, full, strict=True))[1:] if held)


def test_learned_rows_grow_by_the_room_and_rules_do_not(instance: Instance, dealer: Dealer) -> None:
    opened = dealer.opened(instance.inner, dealer.deal(instance.inner, packed(instance)))
    room = np.full(len(opened.option), 0.25)
    ceiling, learned = opened.ceiling(room, 0.0), opened.rows.learned[opened.option]
    fullest = np.where(learned, opened.load, 0.0).max(axis=1)
    assert learned.any()
    assert not learned.all()
    assert np.allclose(ceiling[learned], (1.25 * fullest[:, None] + 0.0 * ceiling)[learned])
    assert np.allclose(ceiling[~learned], 1.0)
    assert (opened.ceiling(room, 9.0)[learned] == 9.0).all()


def test_a_gpu_with_a_slot_for_each_adapter_may_get_more(instance: Instance, dealer: Dealer) -> None:
    """Its engine is the same by the next larger option, as it has as many slots as adapters."""
    dealt = dealer.deal(instance.inner, packed(instance))
    before, wider = (dealer.opened(instance.inner, dealt, wider=w) for w in (False, True))
    assert (before.where == wider.where).all()
    widened = 0
    for b, g in zip(dealt.bins, wider.option, strict=True):
        mine, other = b.option, wider.rows.options[g]
        first, second = (instance.inner.options[o] for o in (mine, other))
        if mine == other:
            continue
        widened += 1
        assert first.regime == second.regime == "resident"
        assert first.option.max_lora_rank == second.option.max_lora_rank
        assert first.option.max_loras < second.option.max_loras
        assert pattern_of(instance.inner, replace(b, option=other)) == pattern_of(instance.inner, b)
    residents = [b for b in dealt.bins if instance.inner.options[b.option].regime == "resident"]
    assert (widened > 0) == bool(residents)


class Verdicts:
    """Stands in for the twin: rejects GPUs of more load than that, and counts what it is asked."""

    def __init__(self, rates: dict[int, float], most: float) -> None:
        self.rates, self.most, self.asked = rates, most, Counter[tuple[int, ...]]()

    def __call__(self, patterns: Any, _deadline: Deadline = UNLIMITED) -> list[Any]:
        self.asked.update(pattern.items for pattern in patterns)
        return [
            Verdict(self.most / (pattern.load * sum(self.rates[i] for i in pattern.items)))
            for pattern in patterns
        ]


class Verdict:
    """Its margin is ten times the logarithm of the growth."""

    def __init__(self, growth: float) -> None:
        self.accepted, self.memory_failure, self.violations = growth >= 1.0, None, ()
        self.signed_margin = 10 * np.log(growth) if growth > 0 else -np.inf


def stubbed(scenario: Scenario, most: float) -> tuple[Any, Verdicts]:
    judge, instance = prepared(scenario)
    search = search_of(instance, find_method("exact"), judge, 0.0, PARAMS)
    dealer = Dealer(search.instance)
    verdicts = Verdicts({i: dealer.kind(i).rate for i in range(scenario.n_adapters)}, most)
    search.loop.judge = verdicts  # type: ignore[assignment]
    return search, verdicts


def test_what_the_twin_rejects_is_repaired_until_it_accepts_all(scenario: Scenario) -> None:
    most = 0.85 * max(
        sum(Dealer(inst).kind(i).rate for i in b.items)
        for inst in [prepared(scenario)[1]]
        for b in Dealer(inst).deal(inst.inner, packed(inst)).bins
    )
    search, verdicts = stubbed(scenario, most)
    held = cheapest_plan(search, Deadline.after(20))
    assert held.best is not None
    assert items_of(held.best.packing) == list(range(90))
    assert all(sum(verdicts.rates[i] for i in b.items) <= most for b in held.best.packing.bins)
    assert held.best.value >= sum(verdicts.rates.values()) / most


def test_gpus_are_filled_up_where_the_twin_accepts_more_than_the_rows(scenario: Scenario) -> None:
    search, verdicts = stubbed(scenario, 1e9)
    minimizer = GroupedMinimizer(search, Dealer(search.instance), Deadline.after(40))
    held = minimizer.proposed(GPUMinimum(), "bfd")
    assert held.best is not None
    verdicts.most = 1.3 * max(sum(verdicts.rates[i] for i in b.items) for b in held.best.packing.bins)
    minimizer.probed(held)
    again = search.loop.judged(search.instance.inner, held.best.packing, None, UNLIMITED)
    assert isinstance(again, AcceptedPlan)
    after = minimizer.filled_up(replace(held, best=again), again)
    assert after.best is not None
    assert after.best.value < held.best.value
    assert items_of(after.best.packing) == list(range(90))
    assert all(b.items in verdicts.asked for b in after.best.packing.bins)


def test_the_gpus_that_are_asked_about_are_a_plan_only_if_they_are_all(scenario: Scenario) -> None:
    for asked, whole in ((1, False), (99, True)):
        search, _ = stubbed(scenario, 1e9)
        params = SolveParams(grouping=PARAMS.grouping.model_copy(update={"asked": asked}))
        minimizer = GroupedMinimizer(
            replace(search, params=params), Dealer(search.instance), Deadline.after(30)
        )
        minimizer.teacher.ask = lambda *_: True  # type: ignore[method-assign]  # which takes long
        found = minimizer.probed(GPUMinimum()).best
        assert (found is not None) == whole
        assert found is None or items_of(found.packing) == list(range(90))


def test_gpus_that_cannot_be_emptied_are_as_they_were(instance: Instance, dealer: Dealer) -> None:
    opened = dealer.opened(instance.inner, dealer.deal(instance.inner, packed(instance)))
    before = opened.where.copy()
    opened.close(UNLIMITED, 3)
    again = OpenItems(instance.inner, opened.rows, opened.group, opened.option, opened.where)
    used = np.unique(opened.where)
    assert opened.load[used] == pytest.approx(again.load[used])
    assert (before == opened.where).all() == (len(used) == len(opened.option))


def test_a_gap_that_stays_open_has_a_reason(scenario: Scenario) -> None:
    """The twin takes no more than the conservative region, so that the optimistic one promises too much."""
    search, verdicts = stubbed(scenario, 1e9)
    dealt = search.loop.dealt(search.instance.inner, packed(search.instance))
    verdicts.most = 0.85 * max(sum(verdicts.rates[i] for i in b.items) for b in dealt.bins)
    held = cheapest_plan(search, Deadline.after(40))
    assert held.best is not None
    assert held.finished
    assert held.gap is not None
    assert held.gap.cause == "rejected"
    assert held.gap.rejected
    assert held.gap.value is not None
    assert held.gap.value < held.best.value


def test_no_time_is_no_error(scenario: Scenario) -> None:
    search, _ = stubbed(scenario, 0.0)
    held = cheapest_plan(search, Deadline.after(0.0))
    assert held.best is None
    assert not held.finished


@pytest.mark.parametrize("method", ["exact", "bfd", "greedy-fill"])
def test_a_plan_of_groups_is_of_the_adapters_themselves(scenario: Scenario, method: str) -> None:
    result = optimizer.solve(scenario, method, objective="gpus", params=PARAMS, time_limit_s=30.0)
    assert result.accepted
    assert result.placement is not None
    assert result.validation is not None
    placed = Counter(name for gpu in result.placement.gpus for name in gpu.adapters)
    assert placed == Counter({f"a{k}": 1 for k in range(90)})
    again = twin.validate(scenario, result.placement)
    assert again.model_dump() == result.validation.model_dump()
    if method == "exact":
        assert result.bound is not None
        assert result.outer_bound is not None
        assert result.outer_bound <= result.bound <= len(result.placement.gpus)


def test_equal_runs_give_equal_plans_with_any_number_of_workers(scenario: Scenario) -> None:
    first, second = (
        optimizer.solve(scenario, "bfd", params=PARAMS, time_limit_s=60.0, workers=n) for n in (1, 2)
    )
    assert first.placement == second.placement


def test_parts_of_hot_adapters_keep_their_shares() -> None:
    values = differing(24).model_dump(mode="json")
    values["adapters"][3]["rate"] = 60.0
    scenario = scenarios.from_mapping(values | {"allow_replicas": True})
    result = optimizer.solve(scenario, objective="gpus", params=PARAMS, time_limit_s=30.0)
    assert result.accepted
    assert result.placement is not None
    shares = [gpu.share("a3") for gpu in result.placement.gpus if "a3" in gpu.adapters]
    assert len(shares) > 1
    assert sum(shares) == pytest.approx(1.0)


@pytest.mark.slow
@pytest.mark.parametrize("objective", [("gpus", "latency"), ("gpus", "balance")])
def test_latencies_are_minimised_on_the_adapters_themselves(
    scenario: Scenario, objective: tuple[str, ...]
) -> None:
    result = optimizer.solve(scenario, objective=objective, params=PARAMS, time_limit_s=20.0)
    assert result.accepted
    assert result.placement is not None
    assert Counter(n for gpu in result.placement.gpus for n in gpu.adapters) == Counter(
        {f"a{k}": 1 for k in range(90)}
    )
