"""Several objectives in order, and limits on GPUs, against a judge whose latencies the test knows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import optimizer
import scenarios
from optimizer.packing import methods
from optimizer.packing.model.checker import check
from optimizer.packing.model.problem import Bin, Packing, PackingOption, PackingProblem
from optimizer.search.cut_loop import AcceptedPlan, CutLoop
from optimizer.search.instance import Instance
from optimizer.search.judging import Pattern
from optimizer.search.latency.minimize_latency import minimize_latency
from optimizer.search.latency.starts import on_cheaper, spread, with_best_options
from optimizer.search.minimize_gpus import GPUMinimum, Search, minimize_gpus
from optimizer.search.objective_order import as_good, first_in_order, minimize_second_price, plan_value
from optimizer.search.objectives import LATENCY_OBJECTIVES, leading_prices, price, prices_of
from optimizer.search.params import LatencyParams
from scenarios import Deadline, EngineOption
from twin import GPUVerdict

SAME = LatencyParams().indifference
PRICES = {"dear": 3.0, "cheap": 1.1}


class LatencyJudge:
    """Accepts what a GPU holds; its latency is its number of adapters, times a factor of its device."""

    def __init__(self, slower: float = 1.0, cheap_holds: float = 10.0) -> None:
        self.slower, self.holds = slower, {"dear": 10.0, "cheap": cheap_holds}

    def __call__(self, patterns: Sequence[Pattern], _deadline: object = None) -> list[GPUVerdict]:
        return [self.verdict(pattern) for pattern in patterns]

    def screening(self) -> LatencyJudge:
        return self

    def requests(self, _pattern: Pattern) -> float:
        return 1.0

    def verdict(self, pattern: Pattern) -> GPUVerdict:
        itl = sum(pattern.counts) * (self.slower if pattern.option.device == "cheap" else 1.0)
        return GPUVerdict(
            gpu=0, accepted=sum(pattern.counts) <= self.holds[pattern.option.device],
            offered_tok_per_s=100.0, served_tok_per_s=100.0, served_share=1.0,
            worst_adapter=None, worst_served_share=1.0, itl_ms=itl, ttft_ms=1000.0 / itl, itl_p99_ms=itl,
            ttft_p99_ms=itl, kv_cache_tokens=1000,
        )  # fmt: skip


def option(device: str, capacity: float = 10.0, slower: float = 1.0) -> PackingOption:
    return PackingOption(
        device,
        np.array([[1.0, 1.0]]),
        np.array([capacity]),
        option=EngineOption(device, 20, 8),
        latency_usage=np.full((1, 2), slower if device == "cheap" else 1.0),
        latency_offset=np.zeros(1),
    )


def search_of(
    *objectives: str,
    gpus: int | None = None,
    counts: tuple[int, int] = (4, 4),
    cheap_holds: float = 10.0,
    slower: float = 1.0,
) -> Search:
    """Sixteen adapters in two classes; a GPU holds ten."""
    devices = tuple(
        SimpleNamespace(name=name, count=count, price_per_hour=PRICES[name])
        for name, count in zip(PRICES, counts, strict=True)
    )
    scenario: Any = SimpleNamespace(seed=0, objective=objectives, devices=devices)
    options = tuple(
        replace(o, price=price(device, prices_of(objectives)[0]))  # type: ignore[arg-type]
        for o, device in zip((option("dear"), option("cheap", cheap_holds, slower)), devices, strict=True)
    )
    problem = PackingProblem(
        np.array([8, 8]),
        options,
        device_limits=dict(zip(PRICES, counts, strict=True)),
        max_bins=min(sum(counts), gpus or sum(counts)),
    )
    instance = Instance(scenario, {}, {}, (), (), problem, problem)
    if not leading_prices(objectives):
        instance = instance.priced("gpus", problem.max_bins or 0)
    return Search(instance, methods()["exact"], CutLoop(LatencyJudge(slower, cheap_holds)))  # type: ignore[arg-type]


def solved(gpus: int | None, *objectives: str, **given: Any) -> tuple[dict[str, int], tuple[float, ...]]:
    """GPUs of each device, and the values of the objectives."""
    search, deadline = search_of(*objectives, gpus=gpus, **given), Deadline.after(20)
    choice = minimize_second_price(search, minimize_gpus(search, deadline), deadline)
    found, inner = minimize_latency(search, choice, gpus, deadline).plan, search.instance.inner
    assert found is not None
    assert not check(replace(inner, budget=None), found.packing)
    devices = Counter(inner.options[b.option].device for b in found.packing.bins)
    return dict(devices), tuple(plan_value(search.instance, name, found) for name in objectives)


@pytest.mark.parametrize("gpus", [3, 8, 1000])
def test_a_quality_uses_no_more_gpus_of_a_device_than_exist(gpus: int) -> None:
    devices, values = solved(gpus, "latency", counts=(2, 1))
    assert devices == {"dear": 2, "cheap": 1}
    assert values[0] == pytest.approx(16 / 3, abs=0.01)


def test_cost_then_latency_keeps_the_cost() -> None:
    devices, values = solved(None, "cost", "latency")
    assert devices == {"cheap": 2}
    assert values == pytest.approx((2.2, 8.0))


def test_cost_then_latency_where_the_cheap_gpus_are_slow() -> None:
    assert solved(None, "cost", "latency", slower=3.0)[0] == {"cheap": 2}


def test_fewest_then_cost_then_balance_keeps_both() -> None:
    devices, values = solved(None, "gpus", "cost", "balance")
    assert devices == {"cheap": 2}
    assert values == pytest.approx((2.0, 2.2, 0.8))


def test_fewest_then_latency_then_cost_decides_the_cost_last() -> None:
    assert solved(None, "gpus", "latency", "cost", slower=2.0)[0] == {"dear": 2}
    assert solved(None, "gpus", "latency", "cost")[0] == {"cheap": 2}


def test_latency_then_cost_takes_the_cheaper_of_equals() -> None:
    devices, values = solved(3, "latency", "cost")
    assert devices == {"cheap": 3}
    assert values[1] == pytest.approx(3.3)
    assert solved(3, "latency", "cost", slower=2.0)[0] == {"dear": 3}


def test_without_a_number_a_quality_works_on_the_fewest_gpus_whatever_is_second() -> None:
    """Four cheap GPUs cost less than two dear ones, but are not the fewest."""
    devices, values = solved(None, "latency", "cost", cheap_holds=4.0)
    assert devices == {"dear": 2}
    assert values == pytest.approx((8.0, 6.0))


@pytest.mark.parametrize("objectives", [("gpus", "latency", "worst_ttft"), ("latency", "ttft")])
def test_a_second_quality_is_measured_and_leaves_the_first(objectives: tuple[str, ...]) -> None:
    _, values = solved(None, *objectives)
    best = 8.0
    assert values[objectives.index("latency")] <= best * (1 + SAME)
    assert values[-1] == pytest.approx(1000 / 8)


def test_each_objective_decides_among_the_best_in_those_before() -> None:
    objectives = ("gpus", "latency", "ttft")
    same, slower = 10.0 * (1 + SAME / 2), 10.0 * (1 + 2 * SAME)
    values = [(2, 10.0, 9.0), (2, same, 5.0), (2, slower, 1.0), (3, 1.0, 1.0)]
    assert first_in_order(objectives, values, SAME) == 1
    assert first_in_order(("latency",), [(same,), (10.0,)], SAME) == 1  # the last decides
    assert first_in_order(("cost", "latency"), [(2.2, 9.0), (2.2 + 1e-12, 8.0), (2.3, 1.0)], SAME) == 1
    # A price is never given up for a latency, however near it is.
    assert first_in_order(("cost", "latency"), [(2.2, 9.0), (2.2 * (1 + SAME / 2), 1.0)], SAME) == 0


@pytest.mark.parametrize("found", [0, 1, None])
def test_the_search_by_the_second_price_makes_no_plan_dearer(
    found: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two GPUs on dear (0) or cheap ones (1) the cheap ones are kept, whatever a short search finds."""
    search, deadline = search_of("gpus", "cost"), Deadline.after(20)
    inner, verdicts = (
        search.instance.inner,
        tuple(LatencyJudge()([Pattern(EngineOption("dear", 8, 8), (4, 4))])),
    )

    def plan_on(option: int) -> AcceptedPlan:
        return AcceptedPlan(Packing((Bin(option, np.array([4, 4])),) * 2), verdicts * 2, inner)

    minimum = GPUMinimum(None if found is None else plan_on(found))
    monkeypatch.setattr("optimizer.search.objective_order.cheapest_plan", lambda *_: minimum)
    for held in (0, 1):
        choice = minimize_second_price(search, GPUMinimum(plan_on(held)), deadline)
        assert choice.plan is not None
        assert {b.option for b in choice.plan.packing.bins} == {max(held, found or 0)}


def test_a_mean_latency_weighs_gpus_by_what_they_serve() -> None:
    judge = LatencyJudge()
    busy, idle = (judge.verdict(Pattern(EngineOption("dear", 8, 8), counts)) for counts in ((8, 0), (2, 0)))
    idle = idle.model_copy(update={"served_tok_per_s": 25.0})
    inner = search_of("latency").instance.inner
    packing = Packing((Bin(0, np.array([8, 0])), Bin(0, np.array([2, 0]))))

    def measured(name: str, *verdicts: GPUVerdict) -> float:
        return LATENCY_OBJECTIVES[name].measure(inner, packing, verdicts)

    assert measured("latency", busy, idle) == pytest.approx((100 * 8 + 25 * 2) / 125)
    assert measured("worst_latency", busy, idle) == 8
    nothing = idle.model_copy(update={"itl_ms": None})
    assert measured("latency", busy, nothing) == 8
    assert measured("latency", nothing, nothing) == np.inf


@pytest.mark.parametrize(
    ("objectives", "gpus", "most", "budget"),
    [
        (("gpus", "latency"), None, 2, None),
        (("gpus", "cost", "latency"), None, 2, 6.0),
        (("cost", "gpus", "latency"), None, 2, 6.0),
        (("cost", "latency"), None, 5, 6.0),  # so many cheap ones cost no more
        (("latency", "gpus"), 3, 3, None),
        (("latency", "gpus"), None, 2, None),
    ],
)
def test_plans_that_are_as_good_have_no_more_gpus_and_no_higher_price(
    objectives: tuple[str, ...], gpus: int | None, most: int, budget: float | None
) -> None:
    search = search_of(*objectives, gpus=gpus)
    inner = search.instance.inner
    packing = Packing((Bin(0, np.array([4, 4])), Bin(0, np.array([4, 4]))))
    verdicts = tuple(LatencyJudge()([Pattern(EngineOption("dear", 8, 8), (4, 4))] * 2))
    allowed = as_good(search.instance, AcceptedPlan(packing, verdicts, inner), gpus)
    assert allowed is not None
    assert allowed.max_bins == most
    assert allowed.budget == (None if budget is None else pytest.approx(budget))


def test_spreading_keeps_the_limits_on_devices() -> None:
    problem = PackingProblem(
        np.array([8, 8]), (option("dear"), option("cheap")), device_limits={"dear": 1, "cheap": 2}, max_bins=8
    )
    whole = Packing((Bin(0, np.array([8, 8])),))
    packing = spread(problem, whole, 8)
    assert Counter(b.option for b in packing.bins) == {0: 1, 1: 2}
    assert (packing.counts().sum(axis=0) == 8).all()


def test_options_are_chosen_within_the_budget() -> None:
    options = tuple(replace(option(name, slower=2.0), price=PRICES[name]) for name in PRICES)
    problem = PackingProblem(np.array([8, 8]), options, max_bins=2, objective="mean")
    rows = [np.array([4, 4])] * 2
    for budget, chosen in ((6.0, [0, 0]), (4.1, [0, 1]), (2.2, [1, 1])):
        packing = with_best_options(replace(problem, budget=budget), rows)
        assert packing is not None
        assert [b.option for b in packing.bins] == chosen
    assert with_best_options(replace(problem, budget=2.0), rows) is None
    uneven = Packing((Bin(0, np.array([4, 4])), Bin(0, np.array([2, 1]))))
    assert [b.option for b in on_cheaper(replace(problem, objective="worst"), uneven).bins] == [0, 1]
    assert [b.option for b in on_cheaper(problem, uneven).bins] == [0, 0]


def test_no_plan_beyond_a_limit_is_judged_or_returned() -> None:
    problem = PackingProblem(np.array([4, 4]), (option("dear"),), device_limits={"dear": 1}, max_bins=8)
    loop, deadline = CutLoop(LatencyJudge()), Deadline.after(20)  # type: ignore[arg-type]
    two = Packing((Bin(0, np.array([2, 2])), Bin(0, np.array([2, 2]))))
    assert loop.accept(problem, two, deadline) is None
    assert loop.rounds == 0
    assert loop.accept(replace(problem, device_limits={}), two, deadline) is not None
    loop.judge = lambda patterns, _deadline=None: [  # type: ignore[assignment]
        LatencyJudge().verdict(p).model_copy(update={"accepted": sum(p.counts) < 8}) for p in patterns
    ]
    whole = Packing((Bin(0, np.array([4, 4])),))
    assert loop.repair(problem, whole, deadline) is None
    assert loop.repair(replace(problem, device_limits={}), whole, deadline) is not None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("gpus", 1.5),
        ("gpus", 0),
        ("gpus", "3"),
        ("time_limit_s", -1),
        ("time_limit_s", float("nan")),
        ("workers", 0),
        ("workers", "2"),
        ("objective", 5),
        ("objective", []),
        ("gap_limit", 1.5),
        ("gap_limit", -0.1),
    ],
)
def test_arguments_out_of_range_are_refused(name: str, value: Any) -> None:
    with pytest.raises(scenarios.ScenarioError, match=name) as error:
        optimizer.solve(scenarios.read("paper_mixed_32"), **{name: value})
    assert value == [] or repr(value) in str(error.value)


def test_a_path_is_no_scenario() -> None:
    with pytest.raises(scenarios.ScenarioError, match=r"scenario is 'paper_mixed_32'.*scenarios\.read"):
        optimizer.solve("paper_mixed_32")  # type: ignore[arg-type]
