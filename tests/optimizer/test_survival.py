"""Plans and the loss of GPUs: losses, deals, nodes, replicas, the fewest GPUs with spare, the commands."""

from __future__ import annotations

import itertools
import json
import runpy
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

import optimizer
import scenarios
import twin
from optimizer import SolveParams, methods
from optimizer.cli.commands import app
from optimizer.packing.model.problem import Bin, Packing, PackingOption, PackingProblem
from optimizer.search.cut_loop import AcceptedPlan
from optimizer.search.minimize_gpus import minimize_gpus
from optimizer.search.objective_order import Choice
from optimizer.search.preparation import instance_of, learned_regions, prepare
from optimizer.search.result_builder import placement_of
from optimizer.search.solve import search_of
from optimizer.survival.dealing import Experience, LostPieces
from optimizer.survival.engine_rows import EngineRows
from optimizer.survival.live import LiveRecovery
from optimizer.survival.losses import distinct_losses
from optimizer.survival.minimize import SpareSearch
from optimizer.survival.nodes import numbers_apart, on_nodes, together
from optimizer.survival.params import SurvivalParams
from optimizer.survival.pieces import LoadedGPU, Piece
from optimizer.survival.report import Survival
from optimizer.survival.restart import RestartRecovery
from optimizer.survival.spare import Spare
from optimizer.survival.text import answer
from scenarios import (
    AdapterKind,
    Deadline,
    EngineOption,
    FixedLengths,
    PlacedGPU,
    Placement,
    Scenario,
    ScenarioError,
    nodes_of,
    with_nodes,
)
from tests.slow import slow

ROOT = Path(__file__).parents[2]
FAST = ("acceptance=paper", "replications=1", "objective=gpus")
"""Verdicts of one run of an hour, whose regions are shipped."""


def scenario_of(*entries: dict[str, Any], changes: Sequence[str] = ()) -> Scenario:
    template = scenarios.read("paper_high_128", overrides=[*FAST, *changes])
    return scenarios.from_mapping(template.model_dump(mode="json") | {"adapters": list(entries)})


@cache
def mixed() -> Scenario:
    return scenario_of(
        {"name": "big", "count": 3, "rank": 32, "rate": 8.0},
        {"name": "small", "count": 6, "rank": 8, "rate": 5.0},
    )


def gpu(number: int, *names: str, slots: int = 8, rank: int = 32, **more: Any) -> PlacedGPU:
    return PlacedGPU(
        gpu=number, device="H100-64GB", max_loras=slots, max_lora_rank=rank, adapters=names, **more
    )


# --- what is lost ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "words"),
    [(1, "one GPU"), ("1", "one GPU"), (2, "2 GPUs"), (" 2 ", "2 GPUs"), ("1node", "one node")],
)
def test_what_may_be_lost(given: int | str, words: str) -> None:
    assert Spare.of(given).in_words == words


@pytest.mark.parametrize("given", [0, 3, -1, True, 1.5, "2node", "node", "", None, "1nodes"])
def test_other_spares_are_refused(given: object) -> None:
    with pytest.raises(ScenarioError, match="give 1 to 2 GPUs, or 1node for all GPUs of a node"):
        Spare.of(given)


def test_losses_are_combinations_or_nodes() -> None:
    placement = Placement(gpus=tuple(gpu(k, f"a{k}") for k in range(5)))
    scenario = scenario_of(
        {"name": "a", "count": 5, "rank": 8, "rate": 1}, changes=["devices[0].gpus_per_node=2"]
    )
    assert list(Spare.of(1).losses(placement, scenario)) == [(0,), (1,), (2,), (3,), (4,)]
    assert len(list(Spare.of(2).losses(placement, scenario))) == 10
    assert list(Spare.of("1node").losses(placement, scenario)) == [(0, 1), (2, 3), (4,)]


def kind(rank: int, rate: float) -> AdapterKind:
    return AdapterKind(rank, rate, FixedLengths(tokens=10), FixedLengths(tokens=10))


def loaded(number: int, rank: int, *kinds: AdapterKind, slots: int = 8) -> LoadedGPU:
    pieces = tuple(Piece(f"{number}-{k}", 1.0, one) for k, one in enumerate(kinds))
    return LoadedGPU(number, EngineOption("H100-64GB", slots, rank), pieces)


def test_gpus_of_equal_content_and_engine_are_one_case() -> None:
    one, other = kind(8, 1.0), kind(8, 2.0)
    gpus = [loaded(0, 8, one, other), loaded(1, 8, other, one), loaded(2, 8, one), loaded(3, 16, one)]
    placement = Placement(gpus=tuple(g.placed() for g in gpus))
    assert distinct_losses(gpus, placement, Spare.of(1), mixed()) == {(0,): [(1,)], (2,): [], (3,): []}
    pairs = distinct_losses(gpus, placement, Spare.of(2), mixed())
    assert pairs == {(0, 1): [], (0, 2): [(1, 2)], (0, 3): [(1, 3)], (2, 3): []}
    of_nodes = scenarios.override(mixed(), "devices[0].gpus_per_node=2")
    alike = [gpus[0], gpus[1], loaded(2, 8, one, other)]
    nodes = Placement(gpus=tuple(g.placed() for g in alike))
    # The last node has one GPU only: to lose two that are like it is another case.
    assert distinct_losses(alike, nodes, Spare.of("1node"), of_nodes) == {(0, 1): [], (2,): []}


# --- deals -------------------------------------------------------------------------------------------


class Sizes:
    """Rows by which an engine holds rates of 10 in all."""

    def features(self, one: AdapterKind) -> np.ndarray:
        return np.array([one.rate, 1.0])

    def fill(self, engine: EngineOption, adapters: int, sums: np.ndarray) -> float:
        return float(max(sums[0] / 10, adapters / engine.max_loras))


def lost(
    pieces: Sequence[AdapterKind], *left: LoadedGPU, experience: Experience | None = None, **params: Any
) -> LostPieces:
    gone = tuple(Piece(f"lost-{k}", 1.0, one) for k, one in enumerate(pieces))
    rows: Any = Sizes()
    return LostPieces(rows, gone, left, experience or Experience(), SurvivalParams(**params))


def test_deals_are_even_and_ranks_are_kept() -> None:
    deal = lost([kind(32, 4.0), kind(8, 4.0)], loaded(0, 8, kind(8, 1.0)), loaded(1, 32, kind(8, 2.0))).best()
    assert deal is not None
    assert [[p.kind.rank for p in given] for given in deal.given] == [[8], [32]]
    assert deal.fills == (0.5, 0.6)
    assert deal.strain == 0.6


def test_a_rank_that_no_engine_has_is_told() -> None:
    pieces = lost([kind(32, 1.0)], loaded(0, 8, kind(8, 1.0)), loaded(1, 16, kind(8, 2.0)))
    assert pieces.best() is None
    assert pieces.homeless is not None
    assert pieces.homeless.kind.rank == 32


@pytest.mark.parametrize("seed", range(20))
def test_few_deals_are_all_looked_at_and_many_are_dealt_nearly_as_well(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kinds = [kind(int(rng.choice([8, 32])), float(rng.integers(1, 5))) for _ in range(6)]
    left = [loaded(0, 32, kind(8, 2.0)), loaded(1, 8, kind(8, 1.0)), loaded(2, 32, kind(8, 3.0))]
    best, quick = lost(kinds, *left).best(), lost(kinds, *left, most_deals=1).best()
    assert best is not None
    assert quick is not None
    assert best.strain <= quick.strain <= best.strain * 1.35
    assert sorted(p.name for given in best.given for p in given) == [f"lost-{k}" for k in range(6)]


def test_what_the_twin_rejects_is_not_dealt_again() -> None:
    experience, one = Experience(), kind(8, 4.0)
    pieces = lost([one, one], loaded(0, 8, kind(8, 1.0)), loaded(1, 8, kind(8, 3.0)), experience=experience)
    first = pieces.best()
    assert first is not None
    assert [len(given) for given in first.given] == [1, 1]
    experience.learn(1, first.given[1], first.fills[1], False, 0.03)
    second = pieces.best()
    assert second is not None
    assert [len(given) for given in second.given] == [2, 0]
    experience.learn(0, second.given[0], second.fills[0], False, 0.03)
    assert pieces.best() is None


def test_a_gpu_is_given_nothing_that_holds_what_it_was_rejected_with() -> None:
    experience, light, heavy = Experience(), kind(8, 1.0), kind(8, 4.0)
    given = [Piece("a", 1.0, light), Piece("b", 1.0, heavy)]
    experience.learn(0, given, 1.2, False, 0.03)
    assert experience.excludes(0, [*given, Piece("c", 1.0, light)])
    assert experience.excludes(0, given)
    for less in (given[:1], given[1:], []):
        assert not experience.excludes(0, less)
    assert not experience.excludes(1, given)


def test_how_full_a_gpu_may_be_is_what_was_accepted_and_less_than_what_was_rejected() -> None:
    experience = Experience()
    assert experience.limit(0) == 1.0
    experience.learn(0, [], 1.2, True, 0.1)
    assert experience.limit(0) == 1.2
    experience.learn(0, [], 1.1, False, 0.1)
    assert experience.limit(0) == pytest.approx(0.99)
    experience.learn(0, [], 0.8, True, 0.1)
    assert experience.limit(0) == pytest.approx(0.99)


# --- nodes and replicas ------------------------------------------------------------------------------


def test_gpus_are_dealt_to_nodes_in_order_or_as_the_plan_says() -> None:
    scenario = scenario_of(
        {"name": "a", "count": 5, "rank": 8, "rate": 1}, changes=["devices[0].gpus_per_node=2"]
    )
    plain = Placement(gpus=tuple(gpu(k, f"a-{k + 1}") for k in (3, 0, 1, 2, 4)))
    assert nodes_of(plain, scenario) == {0: 0, 1: 0, 2: 1, 3: 1, 4: 2}
    named = with_nodes(plain, scenario)
    assert {one.gpu: one.node for one in named.gpus} == nodes_of(plain, scenario)
    assert nodes_of(named, scenario) == nodes_of(plain, scenario)
    own = Placement(gpus=(gpu(0, "a-1", node=7), gpu(1, "a-2"), gpu(2, "a-3")))
    assert nodes_of(own, scenario) == {0: 7, 1: 8, 2: 8}
    single = scenario_of({"name": "a", "count": 5, "rank": 8, "rate": 1})
    assert with_nodes(plain, single) is plain


def test_nodes_hold_no_more_than_they_do() -> None:
    scenario = scenario_of(
        {"name": "a", "count": 3, "rank": 8, "rate": 1}, changes=["devices[0].gpus_per_node=2"]
    )
    full = Placement(gpus=tuple(gpu(k, f"a-{k + 1}", node=0) for k in range(3)))
    with pytest.raises(ScenarioError, match=r"gpus\[2\].node is 0, a node of more than 2 GPUs"):
        scenarios.check_placement(full, scenario)


@pytest.mark.parametrize(
    ("entry", "changes", "message"),
    [
        ({"min_replicas": 2}, ["allow_replicas=false"], "min_replicas is 2, and allow_replicas is off"),
        ({"min_replicas": 5}, ["devices[0].count=4"], "min_replicas is 5, above the 4 GPUs"),
        ({"min_replicas": 0}, [], "min_replicas"),
    ],
)
def test_replicas_that_cannot_be_are_refused(entry: dict[str, Any], changes: list[str], message: str) -> None:
    with pytest.raises(ScenarioError, match=message):
        scenario_of({"name": "a", "rank": 8, "rate": 1} | entry, changes=changes)


def replicated(*changes: str) -> Scenario:
    return scenario_of(
        {"name": "vital", "count": 2, "rank": 8, "rate": 2.0, "min_replicas": 3},
        {"name": "other", "count": 4, "rank": 8, "rate": 2.0},
        changes=changes,
    )


def test_replicas_are_served_on_gpus_of_their_own() -> None:
    scenario = replicated("objective=[gpus, latency]")
    result = optimizer.solve(scenario, time_limit_s=20)
    assert result.placement is not None
    assert result.gpus == 3  # one would do for the load
    assert result.status == "optimal"
    for name in ("vital-1", "vital-2"):
        shares = [one.share(name) for one in result.placement.gpus if name in one.adapters]
        assert shares == pytest.approx([1 / 3] * 3)
    assert twin.validate(scenario, result.placement).accepted
    scenarios.check_placement(result.placement, scenario)
    whole = Placement(gpus=(gpu(0, "vital-1", "vital-2", *(f"other-{k}" for k in range(1, 5))),))
    with pytest.raises(ScenarioError, match=r"fewer GPUs than their min_replicas: vital-1 \(1 of 3\)"):
        scenarios.check_placement(whole, scenario)


def test_parts_of_a_lost_gpu_may_join_others_of_their_adapter() -> None:
    scenario = replicated()
    result = optimizer.solve(scenario, spare=1, time_limit_s=20)
    assert result.gpus == result.bound == 3  # two of them hold everything, with fewer replicas
    assert result.survival is not None
    assert result.survival.live
    again = optimizer.solve(scenario, spare=1, recovery="restart", time_limit_s=20)
    assert again.gpus == 4  # replicas are as many again


def test_baselines_make_no_replicas_and_say_so() -> None:
    result = optimizer.solve(replicated(), method="maxbackbone", time_limit_s=20)
    assert result.no_plan is not None
    assert result.no_plan.reason is optimizer.NoPlanReason.FEW_REPLICAS
    assert "vital-1" in result.no_plan.adapters


def test_replicas_are_in_nodes_of_their_own_where_there_are_enough() -> None:
    scenario = scenario_of(
        {"name": "a", "count": 2, "rank": 8, "rate": 1, "min_replicas": 2},
        changes=["devices[0].gpus_per_node=2"],
    )
    half = {"a-1": 0.5}, {"a-2": 0.5}
    near = Placement(
        gpus=tuple(gpu(k, *half[k // 2], shares=half[k // 2]) for k in range(4))  # each in one node
    )
    assert together(near, scenario) == ("a-1", "a-2")
    assert sorted(numbers_apart(near, scenario)) == [0, 1, 2, 3]
    apart = on_nodes(near, scenario)
    assert together(apart, scenario) == ()
    assert [one.node for one in apart.gpus] == [0, 0, 1, 1]
    single = scenario_of({"name": "a", "count": 2, "rank": 8, "rate": 1, "min_replicas": 2})
    assert on_nodes(near, single) is near


# --- plans with spare --------------------------------------------------------------------------------


@cache
def spared(recovery: str, workers: int = 1) -> optimizer.Result:
    return optimizer.solve(mixed(), spare=1, recovery=recovery, time_limit_s=30, workers=workers)


@pytest.mark.parametrize("recovery", ["live", "restart"])
def test_the_plan_holds_after_every_loss(recovery: str) -> None:
    scenario, result = mixed(), spared(recovery)
    survival, before = result.survival, result.placement
    assert survival is not None
    assert before is not None
    assert survival.holds
    assert result.as_asked
    numbers = {one.gpu for one in before.gpus}
    known = {one.gpu: one for one in before.gpus}
    lost = [number for case in survival.losses for (number,) in (case.lost, *case.alike)]
    assert sorted(lost) == sorted(numbers)
    for case in survival.losses:
        assert case.placement is not None
        assert {one.gpu for one in case.placement.gpus} <= numbers - set(case.lost)
        scenarios.check_placement(case.placement, scenario)
        report = twin.validate(scenario, case.placement)
        assert report.accepted
        assert [v.margin for v in report.gpus] == [v.margin for v in case.validation.gpus]  # type: ignore[union-attr]
        if recovery == "live":
            for one in case.placement.gpus:
                assert one.option == known[one.gpu].option
                assert set(known[one.gpu].adapters) <= set(one.adapters)
            assert case.restarted == ()


def test_spare_costs_as_many_gpus_as_may_be_lost_where_the_bound_says_so() -> None:
    without = optimizer.solve(mixed(), time_limit_s=20)
    result = spared("live")
    assert result.gpus == (without.gpus or 0) + 1
    assert result.bound == result.gpus
    assert result.status == "optimal"
    assert result.survival is not None
    assert result.survival.bound == result.gpus


def test_the_plan_does_not_depend_on_the_workers() -> None:
    one, two = spared("live"), spared("live", 2)
    assert one.placement == two.placement
    assert one.survival == two.survival


def test_a_search_that_improves_a_plan_may_ask_whether_a_candidate_holds() -> None:
    judge = twin.TwinJudge(mixed(), twin.profiles_of(mixed()))
    search = search_of(prepare(judge, learned_regions(judge)), methods()["exact"], judge, 0.0, SolveParams())
    choice = Choice(minimize_gpus(search, Deadline.after(20)).best)
    assert choice.plan is not None
    base = placement_of(search.instance, choice.plan.problem, choice.plan.packing)
    looked = SpareSearch(search, base, choice, Spare.of(1), "live", Deadline.after(30))
    found = looked.fewest()
    assert found is not None
    assert looked.surviving(base) is None
    again = looked.surviving(found.placement)
    assert again is not None
    assert all(case.accepted for case in again.losses)
    assert [set(one.adapters) for one in again.placement.gpus] == [
        set(one.adapters) for one in found.placement.gpus
    ]


def test_spare_is_looked_for_on_all_the_gpus_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    tried = []

    def none(_self: SpareSearch, devices: tuple[str, ...]) -> None:
        tried.append(len(devices))

    monkeypatch.setattr(SpareSearch, "_on", none)
    scenario = scenarios.override(mixed(), "devices[0].count=5")
    search: Any = SimpleNamespace(
        instance=SimpleNamespace(scenario=scenario, inner=SimpleNamespace(max_bins=5, n_items=9))
    )
    base = Placement(gpus=(gpu(0, "big-1"), gpu(1, "big-2")))
    looked = SpareSearch(search, base, Choice(None), Spare.of(1), "live", Deadline.after(60))
    assert looked.fewest() is None
    assert tried == [3, 4, 5]


def test_a_plan_that_is_rejected_as_it_is_holds_after_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    rejected = SimpleNamespace(accepted=False, gpus=(1, 2))
    monkeypatch.setattr(
        "optimizer.survival.minimize.PlacementJudge",
        lambda *_: SimpleNamespace(report=lambda _gpus: rejected),
    )
    monkeypatch.setattr(LiveRecovery, "strain", lambda *_: 0.0)
    monkeypatch.setattr(LiveRecovery, "recover", lambda *_: SimpleNamespace(accepted=True))
    search: Any = SimpleNamespace(
        instance=instance_of(mixed()),
        loop=SimpleNamespace(judge=SimpleNamespace(judge=None)),
        params=SolveParams(),
    )
    base = Placement(gpus=(gpu(0, "big-1"), gpu(1, "big-2")))
    looked = SpareSearch(search, base, Choice(None), Spare.of(1), "live", Deadline.after(60))
    plan: Any = SimpleNamespace(placement=base)
    assert looked.held(plan) is None


def test_a_plan_needs_no_gpus_of_a_kind_that_is_gone() -> None:
    options = tuple(
        PackingOption(name, np.array([[1.0]]), np.array([9.0]), option=EngineOption(name, 8, 8))
        for name in "ab"
    )
    packing = Packing((Bin(0, np.array([1])), Bin(0, np.array([1])), Bin(1, np.array([1]))))
    plan = AcceptedPlan(packing, (), PackingProblem([3], options))
    recovery = RestartRecovery(None, SurvivalParams())  # type: ignore[arg-type]
    for left, fits in (
        ((("a", 2), ("b", 1)), True),
        ((("a", 1), ("b", 1)), False),
        ((("a", 9),), False),
    ):
        assert recovery._fits(plan, left) == fits


def test_an_engine_counts_as_the_nearest_one_that_is_worse_off() -> None:
    """With more slots, which leave less memory, where each has one; with fewer where they share them."""
    instance = instance_of(mixed())
    rows, inner = EngineRows(instance.scenario, instance.regions), instance.regions["H100-64GB"].inner
    sums = rows.features(mixed().classes[0].kind) * 20
    of = {(one.max_loras, one.regime): one for one in inner.options if one.max_lora_rank == 32}
    slots = sorted({number for number, _ in of})
    assert len(slots) > 2

    def fill(number: int, adapters: int) -> float:
        return rows.fill(EngineOption("H100-64GB", number, 32), adapters, sums)

    for fewer, more in itertools.pairwise(slots):
        assert fill(fewer, 2) == pytest.approx(float(of[fewer, "resident"].fill(sums)))
        assert fill(fewer + 1, 2) == pytest.approx(float(of[more, "resident"].fill(sums)))
        assert fill(more - 1, more + 9) == pytest.approx(float(of[fewer, "shared"].fill(sums)))


def test_a_node_may_be_lost() -> None:
    scenario = scenarios.override(mixed(), "devices[0].gpus_per_node=2")
    result = optimizer.solve(scenario, spare="1node", time_limit_s=30)
    assert result.survival is not None
    assert result.survival.holds
    assert result.placement is not None
    assert all(one.node is not None for one in result.placement.gpus)
    lost = [numbers for case in result.survival.losses for numbers in (case.lost, *case.alike)]
    assert max(map(len, lost)) == 2
    assert "in node 0" in result.summary()


def test_too_few_gpus_for_spare_are_told_and_the_plan_without_it_is_kept() -> None:
    result = optimizer.solve(mixed(), spare=1, gpus=2, time_limit_s=20)
    assert result.accepted
    assert not result.as_asked
    assert "it needs 3 GPUs, and there are 2" in result.message
    assert result.survival is not None
    assert not result.survival.holds


def test_a_short_time_ends_in_the_plan_without_spare() -> None:
    result = optimizer.solve(
        scenarios.read("paper_high_384", overrides=FAST), spare=2, time_limit_s=0.2, total_limit_s=60
    )
    assert not result.as_asked
    assert result.seconds < 30
    assert "time" in result.message


@pytest.mark.parametrize("method", ["maxbackbone", "spread"])
def test_spare_is_for_placers_that_look_for_the_fewest_gpus(method: str) -> None:
    with pytest.raises(ScenarioError, match="makes no plan with spare"):
        optimizer.solve(mixed(), method=method, spare=1, objective="latency", gpus=2)


def test_other_recoveries_are_refused() -> None:
    with pytest.raises(ScenarioError, match="give live or restart"):
        optimizer.solve(mixed(), spare=1, recovery="hot")


@pytest.mark.parametrize("seed", [2, *slow([4, 62])])
def test_the_fewest_gpus_with_spare_are_those_of_all_plans(seed: int) -> None:
    """By enumeration against the twin, live and after a restart."""
    benchmark = runpy.run_path(str(ROOT / "benchmarks" / "true_spare.py"))
    arguments = SimpleNamespace(set=list(FAST[:2]), workers=1, time_limit=60.0)
    measure: Callable[..., tuple[str, int]] = benchmark["measure"]
    said, missed = measure(seed, arguments)
    assert missed == 0, said


# --- given plans -------------------------------------------------------------------------------------


@cache
def survived(*rows: tuple[int, tuple[str, ...]]) -> optimizer.Survival:
    placement = Placement(gpus=tuple(gpu(k, *names, rank=rank) for k, (rank, names) in enumerate(rows)))
    return optimizer.survives(light(), placement, 1, time_limit_s=30)


@cache
def light() -> Scenario:
    return scenario_of(
        {"name": "big", "count": 2, "rank": 32, "rate": 1.0},
        {"name": "small", "count": 4, "rank": 8, "rate": 1.0},
    )


def test_engines_with_room_take_what_is_lost() -> None:
    survival = survived((32, ("big-1", "small-1", "small-2")), (32, ("big-2", "small-3", "small-4")))
    assert survival.live
    assert survival.holds
    assert [case.lost for case in survival.losses] == [(0,)]
    assert survival.losses[0].alike == ((1,),)
    assert survival.losses[0].loaded == 3


def test_ranks_that_no_running_engine_has_come_back_after_a_restart() -> None:
    survival = survived((32, ("big-1", "big-2")), (8, ("small-1", "small-2", "small-3", "small-4")))
    assert not survival.live
    assert not survival.holds
    assert survival.after_restart
    case = next(case for case in survival.losses if case.lost == (0,))
    assert case.recovery == "restart"
    assert case.restarted == (1,)
    assert 'no running engine has slots for adapter "big-1" of rank 32' in case.why_not_live
    text = survival.summary()
    assert "DOES NOT HOLD live; it holds once engines are started again" in text
    assert "how long a restart takes is not known" in text


def test_one_gpu_alone_is_lost_with_all_it_serves() -> None:
    survival = survived((32, ("big-1", "big-2", "small-1", "small-2", "small-3", "small-4")))
    assert not survival.after_restart
    assert survival.losses[0].why_not_live == "no GPU is left"
    assert survival.losses[0].why_not == "no GPU is left"
    assert survival.losses[0].placement is None


def test_no_time_leaves_cases_out() -> None:
    rows = tuple(gpu(k, f"small-{k + 1}") for k in range(4))
    placement = Placement(gpus=(*rows, gpu(4, "big-1", "big-2")))
    survival = optimizer.survives(light(), placement, 1, time_limit_s=1e-6)
    assert not survival.complete
    assert not survival.holds


def test_a_result_says_whether_it_survives() -> None:
    result = optimizer.solve(light(), time_limit_s=10)
    survival = result.survives(1, time_limit_s=10)
    assert not survival.holds  # one GPU serves all
    planless = result.model_copy(update={"placement": None})
    with pytest.raises(ScenarioError, match="there is no plan"):
        planless.survives()


def test_results_with_losses_are_read_back() -> None:
    result = spared("live")
    assert optimizer.Result.model_validate_json(result.to_json()).survival == result.survival
    assert result.survival is not None
    frame = result.survival.to_frame()
    assert list(frame["recovery"]) == ["live"] * len(frame)
    assert all(len(line) <= 80 for line in result.survival.summary().splitlines())


@pytest.mark.parametrize(("bound", "said"), [(None, "NOT KNOWN TO HOLD"), (5, "NO PLAN THAT HOLDS")])
def test_only_what_is_proven_is_told_of_a_plan_whose_losses_were_not_looked_at(
    bound: int | None, said: str
) -> None:
    asked = Survival(spare="1", recovery="live", acceptance="sustained", complete=False, message="why")
    told = answer(asked.model_copy(update={"bound": bound})).plain
    assert told == f"loss of one GPU (sustained): {said}; why"


# --- the commands ------------------------------------------------------------------------------------


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, list(arguments))
    return done.exit_code, done.output


def test_the_commands_tell_of_losses(tmp_path: Path) -> None:
    file, plan, answer = tmp_path / "s.yaml", tmp_path / "plan.yaml", tmp_path / "answer.json"
    scenarios.write(mixed(), file)
    code, text = run("solve", str(file), "--spare", "1", "--placement", str(plan), "-q")
    assert code == 0, text
    assert f"loss of any one GPU ({mixed().acceptance}): holds with the engines that run" in text
    code, text = run("validate", str(file), str(plan), "--spare", "1", "--json", str(answer), "-q")
    assert code == 0, text
    assert f"loss of any one GPU ({mixed().acceptance}): holds" in text
    assert json.loads(answer.read_text())["survival"]["holds"] is True
    code, text = run("validate", str(file), str(plan), "--spare", "2", "-q")
    assert code == 1, text
    code, text = run("solve", str(file), "--spare", "1", "--gpus", "2", "-q")
    assert code == 4, text
