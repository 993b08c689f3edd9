"""The search for a better latency: its moves, estimates and budget, and its plans against enumeration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import optimizer
import scenarios
import twin
from optimizer.packing import methods
from optimizer.packing.model.problem import Bin, Packing, PackingOption, PackingProblem
from optimizer.search.cut_loop import CutLoop
from optimizer.search.instance import Instance
from optimizer.search.judging import Pattern
from optimizer.search.latency.changes import within_limits
from optimizer.search.latency.estimates import LatencyCurve, Measures
from optimizer.search.latency.first_plan import MODEL_METHODS, plan_on_given
from optimizer.search.latency.minimize_latency import minimize_latency
from optimizer.search.latency.moves import exchanges
from optimizer.search.latency.polish import Polisher
from optimizer.search.latency.screening import REJECTED, Rating, Screening, value_of
from optimizer.search.minimize_gpus import Search, minimize_gpus
from optimizer.search.objective_order import Choice
from optimizer.search.objectives import LATENCY_OBJECTIVES
from optimizer.search.params import LatencyParams, PolishParams, SolveParams
from scenarios import Deadline, EngineOption
from twin import GPUVerdict

SIZES = np.array([5.0, 4.0, 3.0, 2.0])
COUNTS = (2, 2, 3, 3)
ROOM = 14.0
"""What a GPU takes before the judge rejects it."""


class SizeJudge:
    """Latency 1 / (1 - load), a tenth faster on the small engine, which two classes may not enter."""

    def __init__(self, quick_room: float = ROOM) -> None:
        self.room, self.asked = ROOM, 0
        self.quick_room = quick_room

    def screening(self) -> SizeJudge:
        quick = SizeJudge()
        quick.room = self.quick_room
        return quick

    def requests(self, _pattern: Pattern) -> float:
        return 1.0

    def __call__(self, patterns: Sequence[Pattern], _deadline: object = None) -> list[GPUVerdict]:
        return [self.verdict(pattern) for pattern in patterns]

    def verdict(self, pattern: Pattern) -> GPUVerdict:
        self.asked += 1
        load = float(SIZES @ pattern.counts)
        latency = 10.0 / max(1.0 - load / 20.0, 0.01) * (0.9 if pattern.option.max_lora_rank == 8 else 1.0)
        return GPUVerdict(
            accepted=load <= self.room, offered_tok_per_s=load, served_tok_per_s=load, served_share=1.0,
            worst_adapter=None, worst_served_share=1.0, itl_ms=latency, ttft_ms=latency, itl_p99_ms=latency,
            ttft_p99_ms=latency, kv_cache_tokens=1, margin=float(np.log(self.room / load)),
        )  # fmt: skip


def problem(max_bins: int = 3) -> PackingProblem:
    """Four classes of items; the last two alone may enter the small engine."""
    options = tuple(
        PackingOption(
            f"rank {rank}", SIZES[None, :], np.array([ROOM]), allowed=np.array(allowed),
            option=EngineOption("gpu", 20, rank), latency_usage=SIZES[None, :], latency_offset=np.zeros(1),
        )
        for rank, allowed in ((8, [False, False, True, True]), (32, [True] * 4))
    )  # fmt: skip
    return PackingProblem(np.array(COUNTS), options, device_limits={"gpu": max_bins}, max_bins=max_bins)


def search_of(objective: str, judge: SizeJudge, params: SolveParams | None = None, gpus: int = 3) -> Search:
    device = SimpleNamespace(name="gpu", count=gpus, price_per_hour=1.0)
    scenario: Any = SimpleNamespace(seed=0, objective=(objective,), devices=(device,))
    weighed: Any = tuple(SimpleNamespace(tokens_per_s=size) for size in SIZES)
    instance = Instance(scenario, {}, {}, weighed, (), problem(gpus), problem(gpus))
    search = Search(instance, methods()["exact"], CutLoop(judge))  # type: ignore[arg-type]
    return search if params is None else replace(search, params=params)


def best_by_enumeration(objective: str, judge: SizeJudge, gpus: int) -> float:
    """The least value over all ways to put the items on the GPUs, each run as is best for it."""
    contents = list(product(*(range(n + 1) for n in COUNTS)))

    def rating(counts: tuple[int, ...]) -> Rating:
        if not any(counts):
            return Rating(0.0, 0.0)
        ranks = (8, 32) if not any(counts[:2]) else (32,)
        verdicts = [judge.verdict(Pattern(EngineOption("gpu", 1, rank), counts)) for rank in ranks]
        latency = min(v.itl_ms if v.accepted else np.inf for v in verdicts)  # type: ignore[type-var]
        return Rating(float(latency or 0.0), verdicts[0].offered_tok_per_s)

    rated = {counts: rating(counts) for counts in contents}
    assert gpus == 3
    best = np.inf
    for first in contents:
        for second in contents:
            third = tuple(n - a - b for n, a, b in zip(COUNTS, first, second, strict=True))
            if min(third) >= 0:
                chosen = [rated[first], rated[second], rated[third]]
                best = min(best, value_of(chosen, worst=LATENCY_OBJECTIVES[objective].worst))
    return float(best)


@pytest.mark.parametrize("begin", ["given", "fewest"])
@pytest.mark.parametrize("objective", ["latency", "worst_latency", "worst_ttft_p99"])
def test_the_search_finds_the_best_plan_by_enumeration(objective: str, begin: str) -> None:
    judge = SizeJudge()
    search = search_of(objective, judge)
    first = plan_on_given(search, 3, Deadline.after(20))[1]
    if begin == "fewest":
        first = Choice(minimize_gpus(search, Deadline.after(20)).best)
    found = minimize_latency(search, first, 3, Deadline.after(60)).plan
    assert found is not None
    value = LATENCY_OBJECTIVES[objective].measure(search.instance.inner, found.packing, found.verdicts)
    assert value <= best_by_enumeration(objective, judge, 3) * 1.002
    assert all(verdict.accepted for verdict in found.verdicts)
    assert (found.packing.counts().sum(axis=0) == COUNTS).all()


def test_a_plan_that_only_the_short_runs_accept_is_none() -> None:
    """The short runs accept half as much again; what is returned the whole rule accepts."""
    judge = SizeJudge(quick_room=1.5 * ROOM)
    search = search_of("latency", judge)
    found = minimize_latency(search, Choice(None), 3, Deadline.after(60)).plan
    assert found is not None
    assert all(verdict.accepted for verdict in found.verdicts)


def test_on_given_gpus_a_spread_plan_comes_first_and_nothing_is_asked_of_the_fewest() -> None:
    search = search_of("latency", SizeJudge())
    minimum, first = plan_on_given(search, 3, Deadline.after(60))
    assert first.plan is not None
    assert (len(first.plan.packing), search.loop.rounds) == (3, 1)
    assert first.origin == f"the linear model ({MODEL_METHODS[0]})"
    assert minimum.finished
    assert (minimum.best, minimum.outer_bound) == (None, None)
    fewest, _ = plan_on_given(replace(search, placer=methods()["bfd"]), 3, Deadline.after(60))
    assert fewest.best is not None  # a heuristic's own plan, which is spread after that


def test_where_the_twin_rejects_the_spread_plans_fuller_ones_are_looked_for() -> None:
    class Picky(SizeJudge):
        """Rejects a GPU of each of the model's two plans."""

        def verdict(self, pattern: Pattern) -> GPUVerdict:
            refused = pattern.counts in {(1, 0, 1, 2), (2, 1, 0, 0)}
            return super().verdict(pattern).model_copy(update={"accepted": not refused})

    search = search_of("latency", Picky(), SolveParams(latency=LatencyParams(max_first_rounds=1)))
    minimum, first = plan_on_given(search, 3, Deadline.after(60))
    assert (first.origin, first.plan) == ("", minimum.best)
    assert first.plan is not None
    assert all(verdict.accepted for verdict in first.plan.verdicts)


def test_where_the_whole_rule_rejects_all_that_short_runs_accept_there_is_no_plan() -> None:
    judge = SizeJudge(quick_room=1.5 * ROOM)
    judge.room = 1.0
    assert minimize_latency(search_of("latency", judge), Choice(None), 3, Deadline.after(60)).plan is None


def test_the_search_ends_with_its_budget_and_keeps_the_plan_held() -> None:
    judge = SizeJudge()
    few = SolveParams(polishing=PolishParams(requests=1.0))
    search = search_of("worst_latency", judge, few)
    held = minimize_gpus(search, Deadline.after(20))
    found = minimize_latency(search, Choice(held.best), 3, Deadline.after(60)).plan
    assert held.best is not None
    assert found is not None
    before, after = (
        LATENCY_OBJECTIVES["worst_latency"].measure(search.instance.inner, plan.packing, plan.verdicts)
        for plan in (held.best, found)
    )
    assert after <= before


def test_a_search_that_is_over_keeps_the_plan_held() -> None:
    search = search_of("worst_latency", SizeJudge())
    held = minimize_gpus(search, Deadline.after(20))
    assert minimize_latency(search, Choice(held.best), 3, Deadline.after(0)).plan is not None


def test_exchanges_move_what_there_is_and_leave_no_bin_empty() -> None:
    first, second = np.array([5, 1, 0]), np.array([0, 1, 2])
    found = exchanges(first, second, 10_000, np.random.default_rng(0))
    moved = np.array([found.moved(k, 3) for k in range(len(found))])
    assert ((first - moved) >= 0).all()
    assert ((second + moved) >= 0).all()
    assert (first - moved).any(axis=1).all()
    assert (second + moved).any(axis=1).all()
    assert [5, 0, 0] in moved.tolist()  # all of a class
    assert [1, 0, -1] in moved.tolist()  # one for one
    assert [5, 0, -2] in moved.tolist()  # all for all
    sizes = np.array([3.0, 7.0, 11.0])
    assert found.change(sizes) == pytest.approx(moved @ sizes)
    assert len(exchanges(first, second, 4, np.random.default_rng(0))) == 4


def test_the_curve_learns_how_latency_follows_from_fill() -> None:
    judge, posed = SizeJudge(), problem()
    curve, draw = LatencyCurve(Measures.of(posed)), np.random.default_rng(0)
    errors = []
    for k in range(80):
        counts = draw.integers(0, np.array(COUNTS) + 1)
        if not counts.any() or SIZES @ counts > ROOM:
            continue
        verdict = judge.verdict(Pattern(posed.options[1].option, tuple(counts.tolist())))
        estimate = curve(curve.measures(counts)[None, :])[0]
        if k >= 40:
            errors.append(abs(estimate[1] - np.log(verdict.itl_ms or 0.0)))
            assert np.isinf(estimate[0]) == counts[:2].any()  # may not enter the small engine
        curve.hear(1, counts, Rating(verdict.itl_ms or 0.0, 1.0))
    assert np.median(errors) < 0.02


def test_nothing_is_learned_of_latencies_from_what_is_rejected() -> None:
    curve = LatencyCurve(Measures.of(problem()))
    contents = [np.array(counts) for counts in product(range(2), repeat=4) if any(counts)]
    for counts in contents:
        curve.hear(1, counts, Rating(10.0 + float(SIZES @ counts), 1.0))
    sums = np.array([curve.measures(counts) for counts in contents])
    before = curve(sums)
    curve.hear(1, contents[-1], Rating(2 * REJECTED, 1.0))
    assert (curve(sums) == before).all()
    curve.hear(1, contents[-1], Rating(99.0, 1.0))
    assert (curve(sums) != before).any()


def test_a_rejected_gpu_is_worse_the_more_it_misses() -> None:
    screening = Screening(SizeJudge(), LATENCY_OBJECTIVES["latency"], problem())  # type: ignore[arg-type]
    bins = [Bin(1, [n, 0, 0, 0]) for n in (2, 3, 4)]
    within, over, far = screening.rate(bins, Deadline.after(60))
    assert within.accepted
    assert REJECTED < over.latency < far.latency
    screening.refuse([bins[0]], [GPUVerdict.model_validate(_refused())])
    assert not screening.rate(bins[:1], Deadline.after(60))[0].accepted


def _refused() -> dict[str, object]:
    return {
        "accepted": False, "offered_tok_per_s": 1.0, "served_tok_per_s": 1.0, "served_share": 0.5,
        "worst_adapter": None, "worst_served_share": 0.5, "itl_ms": 1.0, "ttft_ms": 1.0, "itl_p99_ms": 1.0,
        "ttft_p99_ms": 1.0, "kv_cache_tokens": 1, "margin": -0.1,
    }  # fmt: skip


def test_limits_on_gpus_admission_and_price_are_kept() -> None:
    posed = replace(problem(2), budget=2.0)
    fine = [Bin(0, [0, 0, 3, 0]), Bin(1, [2, 2, 0, 3])]
    assert within_limits(posed, fine)
    assert not within_limits(posed, [*fine, Bin(1, [0, 0, 0, 1])])
    assert not within_limits(posed, [Bin(0, [1, 0, 0, 0])])
    assert not within_limits(replace(posed, budget=1.5), fine)


def test_a_polisher_stops_at_its_deadline() -> None:
    screening = Screening(SizeJudge(), LATENCY_OBJECTIVES["latency"], problem())  # type: ignore[arg-type]
    polisher = Polisher(screening, problem(), PolishParams(), SIZES, 0, Deadline.after(60))
    start = polisher.rated([Bin(1, COUNTS)])
    polisher.deadline = Deadline.after(0)
    assert polisher.spent
    assert polisher.polished(start) == start


def test_short_runs_rank_gpus_as_the_whole_rule_does() -> None:
    """And say how much they cost."""
    scenario = scenarios.read("paper_mixed_32")
    judge = twin.TwinJudge(scenario, twin.profiles_of(scenario))
    quick, kinds = judge.screening(), [one.kind for one in scenario.classes]
    contents = [
        twin.GPUContent(EngineOption("H100-64GB", 16 * n, 32), ((kinds[0], 8 * n), (kinds[-1], 4 * n)))
        for n in (1, 2, 4)
    ]
    assert quick.scenario.replications == 1
    for content in contents:
        assert judge.requests(content) > 5 * quick.requests(content) > 0
    full, short = ([verdict.ttft_p99_ms for verdict in ask(contents)] for ask in (judge, quick))
    assert short == sorted(short, key=lambda value: value or 0.0)
    assert short == pytest.approx(full, rel=0.05)


def test_a_heuristic_is_spread_and_a_published_rule_is_left_as_it_is() -> None:
    small = scenarios.read("paper_mixed_32", overrides=["replications=1"])
    spread = optimizer.solve(small, "bfd", objective="latency", gpus=2)
    published = optimizer.solve(small, "greedy", objective="latency", gpus=2)
    assert (spread.gpus, published.gpus) == (2, 1)
    assert spread.accepted
    assert published.objective == pytest.approx(published.validation.itl_ms)  # type: ignore[union-attr]


def test_a_latency_comes_second_where_nothing_is_said() -> None:
    result = optimizer.solve(scenarios.read("paper_mixed_32", overrides=["replications=1"]))
    assert result.objectives == ("gpus", "worst_ttft_p99")
    assert result.validation is not None
    worst = max(gpu.ttft_p99_ms or 0.0 for gpu in result.validation.gpus)
    assert result.objective_values == (1, pytest.approx(worst))


def test_packings_of_a_polish_hold_every_item() -> None:
    posed = problem()
    screening = Screening(SizeJudge(), LATENCY_OBJECTIVES["worst_latency"], posed)  # type: ignore[arg-type]
    polisher = Polisher(screening, posed, PolishParams(), SIZES, 0, Deadline.after(60))
    start = polisher.rated([Bin(1, [2, 0, 0, 1]), Bin(1, [0, 2, 1, 0]), Bin(1, [0, 0, 2, 2])])
    found = polisher.polished(start)
    assert found.value < start.value
    assert (Packing(found.bins).counts().sum(axis=0) == COUNTS).all()
