"""Steps from one placement to another: safe at every action, whatever the twin says, and few."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import optimizer
import scenarios
from optimizer.rollouts.check import broken_rules
from optimizer.rollouts.planner import Planner
from optimizer.rollouts.report import Rollout
from optimizer.rollouts.rollout import steps_between
from scenarios import PlacedGPU, Placement, Scenario, ScenarioError
from scenarios.exporters.steps_between.actions import Action, Load, Start, Stop, Switch, Unload, Wave
from twin import GPUVerdict

LENGTHS = {"distribution": "lognormal", "mean": 100, "std": 50, "min": 1, "max": 500}


def scenario_of(
    names: Sequence[str], ranks: Sequence[int] = (), count: int = 8, base: bool = False
) -> Scenario:
    adapters = [
        {"name": name, "rank": rank, "rate": 0.1}
        for name, rank in zip(names, ranks or [8] * len(names), strict=True)
    ]
    if base:
        adapters.append({"name": "chat", "rank": 0, "rate": 0.1})
    root = {
        "name": "few",
        "model": "llama-3.1-8b-instruct",
        "adapters": adapters,
        "workload": {"prompt": LENGTHS, "output": LENGTHS},
        "devices": [{"name": "H100-64GB", "count": count}],
    }
    return scenarios.from_mapping(root)


def gpu(
    number: int, adapters: str | Sequence[str], cpu: int = 8, slots: int = 1, rank: int = 8, **shares: float
) -> PlacedGPU:
    return PlacedGPU(
        gpu=number,
        device="H100-64GB",
        max_loras=slots,
        max_lora_rank=rank,
        max_cpu_loras=cpu,
        adapters=tuple(adapters),
        shares=shares,
    )


def verdict(one: PlacedGPU, accepted: bool) -> GPUVerdict:
    return GPUVerdict(
        gpu=one.gpu,
        accepted=accepted,
        offered_tok_per_s=1.0,
        served_tok_per_s=1.0,
        served_share=1.0,
        worst_adapter=None,
        worst_served_share=1.0,
        itl_ms=None,
        ttft_ms=None,
        itl_p99_ms=None,
        ttft_p99_ms=None,
        kv_cache_tokens=1,
    )


def up_to(load: float) -> Callable[[Sequence[PlacedGPU]], list[GPUVerdict]]:
    """A judge that accepts GPUs with so many adapters' worth of requests."""

    def judge(gpus: Sequence[PlacedGPU]) -> list[GPUVerdict]:
        return [verdict(one, sum(map(one.share, one.adapters)) <= load + 1e-9) for one in gpus]

    return judge


ANYTHING = up_to(float("inf"))


def steps(
    old: Sequence[PlacedGPU],
    new: Sequence[PlacedGPU],
    *,
    load: float = 1e9,
    count: int = 8,
    gpus: int | None = None,
    named_at_start: bool = False,
) -> Rollout:
    names = sorted({name for one in new for name in one.adapters})
    scenario = scenario_of(names, count=count)
    placements = Placement(gpus=tuple(old)), Placement(gpus=tuple(new))
    return steps_between(scenario, *placements, up_to(load), gpus, named_at_start)


def done(rollout: Rollout) -> list[list[str]]:
    """What is done in each wave, in short."""
    return [[short(action) for action in stage.actions] for stage in rollout.stages]


def short(action: Action) -> str:
    where = "" if isinstance(action, Switch) else f" {action.gpu}"
    what = f" {action.adapter}" if isinstance(action, Load | Unload | Switch) else ""
    return f"{action.do}{where}{what}"


def test_a_move_loads_switches_and_unloads_in_one_wave() -> None:
    found = steps([gpu(0, "ab"), gpu(1, "c")], [gpu(0, "a"), gpu(1, "cb")])
    assert done(found) == [["load 1 b", "switch b", "unload 0 b"]]
    assert found.accepted
    assert (found.starts, found.loads, found.peak_gpus, found.extra_gpus) == (0, 1, 2, 0)
    assert "1 wave: 0 engine starts, 1 load" in found.summary()


def test_nothing_is_done_where_nothing_changes() -> None:
    found = steps([gpu(0, "ab")], [gpu(0, "ab")])
    assert found.stages == ()
    assert found.accepted
    assert found.placement == Placement(gpus=(gpu(0, "ab"),))


def test_engines_are_swapped_by_way_of_both_where_there_is_room() -> None:
    found = steps([gpu(0, "a", cpu=2), gpu(1, "b", cpu=2)], [gpu(0, "b", cpu=2), gpu(1, "a", cpu=2)])
    assert len(found.stages) == 1
    assert found.starts == 0


def test_adapters_of_full_engines_are_swapped_by_way_of_one_with_room() -> None:
    old = [gpu(0, "a", cpu=1), gpu(1, "b", cpu=1), gpu(2, "c", cpu=2)]
    new = [gpu(0, "b", cpu=1), gpu(1, "a", cpu=1), gpu(2, "c", cpu=2)]
    found = steps(old, new, count=3)
    assert (found.starts, found.loads, found.peak_gpus) == (0, 3, 3)


def test_adapters_of_full_engines_are_swapped_by_way_of_a_fresh_engine() -> None:
    old, new = [gpu(0, "a", cpu=1), gpu(1, "b", cpu=1)], [gpu(0, "b", cpu=1), gpu(1, "a", cpu=1)]
    found = steps(old, new)
    assert (found.starts, found.peak_gpus, found.extra_gpus) == (1, 3, 1)
    assert found.renumbered == {0: 2} or found.renumbered == {1: 2}


def test_where_no_gpu_is_free_the_message_says_that_one_is_needed() -> None:
    old, new = [gpu(0, "a", cpu=1), gpu(1, "b", cpu=1)], [gpu(0, "b", cpu=1), gpu(1, "a", cpu=1)]
    found = steps(old, new, count=2)
    assert found.stages == ()
    assert found.placement is None
    assert not found.accepted
    assert "one spare GPU is needed, with which it takes" in found.why_not
    assert "NO SAFE STEPS" in found.summary()


def test_an_engine_with_other_slots_starts_on_a_free_gpu_and_the_old_one_stops() -> None:
    found = steps([gpu(0, "ab", slots=1)], [gpu(0, "ab", slots=2)])
    assert done(found) == [["start 1", "load 1 a", "load 1 b", "switch a", "switch b", "stop 0"]]
    assert found.renumbered == {0: 1}
    assert found.placement == Placement(gpus=(gpu(1, "ab", slots=2),))


def test_where_adapters_are_named_at_the_start_a_move_is_a_start_beside_what_serves() -> None:
    found = steps([gpu(0, "ab"), gpu(1, "c")], [gpu(0, "a"), gpu(1, "cb")], named_at_start=True)
    actions = [action for stage in found.stages for action in stage.actions]
    assert not any(isinstance(action, Load | Unload) for action in actions)
    assert (found.starts, found.loads, found.extra_gpus) == (2, 0, 1)
    assert found.accepted
    assert "2 engine starts, no load, for adapters are named when an engine starts" in found.summary()


def test_an_engine_that_keeps_its_adapters_is_not_started_again_where_they_are_named_at_the_start() -> None:
    old, new = [gpu(0, "ab"), gpu(1, "c")], [gpu(0, "ba"), gpu(1, "cd")]
    found = steps(old, new, named_at_start=True)
    assert done(found) == [["start 2", "switch c", "switch d", "stop 1"]]
    assert [one.adapters for one in found.stages[0].engines] == [("a", "b"), ("c",), ("c", "d")]


def test_without_a_spare_gpu_a_restart_of_what_serves_is_refused_with_what_is_needed() -> None:
    found = steps([gpu(0, "a")], [gpu(0, "ab")], count=1, named_at_start=True)
    assert "must be started anew for other adapters" in found.why_not
    assert "one spare GPU is needed" in found.why_not


def test_the_first_adapter_of_an_engine_without_any_is_a_start() -> None:
    scenario = scenario_of("a", base=True)
    old, new = Placement(gpus=(gpu(0, ["chat"]),)), Placement(gpus=(gpu(0, ["a", "chat"]),))
    assert done(steps_between(scenario, old, new, ANYTHING))[0][0] == "start 1"


def test_restarts_follow_each_other_on_one_spare_gpu() -> None:
    old = [gpu(k, name, slots=1) for k, name in enumerate("abcd")]
    new = [gpu(k, name, slots=2) for k, name in enumerate("abcd")]
    found = steps(old, new)
    assert (len(found.stages), found.starts, found.peak_gpus) == (4, 4, 5)
    wide = steps(old, new, gpus=8)
    assert (len(wide.stages), wide.starts, wide.peak_gpus) == (1, 4, 8)


def test_without_a_free_gpu_an_engine_is_drained_as_far_as_the_twin_accepts() -> None:
    old, new = [gpu(0, "ab", slots=1), gpu(1, "c")], [gpu(0, "ab", slots=2), gpu(1, "c")]
    found = steps(old, new, count=2, load=3)
    assert done(found)[0] == ["load 1 a", "load 1 b", "switch a", "switch b", "stop 0"]
    assert done(found)[1][0] == "start 0"
    assert not found.renumbered
    refused = steps(old, new, count=2, load=2)
    assert "one spare GPU is needed" in refused.why_not


def test_a_load_that_the_twin_rejects_on_the_way_is_gone_around() -> None:
    old = [gpu(0, "ab"), gpu(1, "cd", cpu=2), gpu(2, "ef")]
    new = [gpu(0, "cb"), gpu(1, "ae", cpu=2), gpu(2, "df")]
    found = steps(old, new, load=2)
    assert found.accepted
    assert len(found.stages) > 1


def test_fresh_gpus_open_and_others_close() -> None:
    found = steps([gpu(0, "ab"), gpu(1, "cd")], [gpu(0, "ab"), gpu(2, "cd")])
    assert done(found)[0][0] == "start 2"
    assert done(found)[-1][-1] == "stop 1"


def test_retired_adapters_lose_their_routes_before_they_are_unloaded() -> None:
    found = steps([gpu(0, "ab")], [gpu(0, "a")])
    assert done(found) == [["switch b", "unload 0 b"]]
    (stage,) = found.stages
    assert stage.actions[0] == Switch("b", {})


def test_new_adapters_are_routed_once_they_are_loaded() -> None:
    found = steps([gpu(0, "a")], [gpu(0, "ab")])
    assert done(found) == [["load 0 b", "switch b"]]


def test_shares_change_by_switches_alone() -> None:
    old, new = [gpu(0, "ab", a=0.3), gpu(1, "a", a=0.7)], [gpu(0, "ab", a=0.6), gpu(1, "a", a=0.4)]
    found = steps(old, new)
    assert done(found) == [["switch a"]]
    assert found.stages[0].actions == (Switch("a", {0: pytest.approx(0.6), 1: pytest.approx(0.4)}),)


def test_the_base_model_is_never_loaded() -> None:
    scenario = scenario_of("ab", base=True)
    old = Placement(gpus=(gpu(0, ["a", "chat"]), gpu(1, "b")))
    new = Placement(gpus=(gpu(0, "a"), gpu(1, ["b", "chat"])))
    found = steps_between(scenario, old, new, ANYTHING)
    assert done(found) == [["switch chat"]]


def test_a_verdict_of_every_gpu_that_changes_is_kept_and_a_rejection_is_said() -> None:
    found = steps([gpu(0, "abc"), gpu(1, "d")], [gpu(0, "ab"), gpu(1, "dc")], load=1)
    (stage,) = found.stages
    assert {one.gpu for one in stage.verdicts} == {0, 1}
    assert not found.accepted
    assert "REJECTS GPU" in found.summary()


def test_the_json_is_read_back_as_it_was() -> None:
    found = steps([gpu(0, "ab", slots=1)], [gpu(0, "ab", slots=2)])
    root = json.loads(found.to_json())
    assert root["stages"][0]["actions"][0] == {"gpu": 1, "do": "start"}
    assert Rollout.model_validate(root) == found


@st.composite
def placements(draw: st.DrawFn, names: Sequence[str], ranks: dict[str, int]) -> Placement:
    """Placements of some names, a few of them split, on engines of random room."""
    n = draw(st.integers(1, 4))
    shares: list[dict[str, float]] = [{} for _ in range(n)]
    for name in names:
        first, second = draw(st.integers(0, n - 1)), draw(st.integers(0, n - 1))
        part = draw(st.sampled_from([1.0, 1.0, 0.5, 0.3]))
        if first == second or part == 1.0:
            shares[first][name] = 1.0
        else:
            shares[first][name], shares[second][name] = part, 1 - part
    numbers = draw(st.lists(st.integers(0, 5), min_size=n, max_size=n, unique=True))
    gpus = []
    for number, held in zip(numbers, shares, strict=True):
        if not held:
            continue
        least = max(ranks[name] for name in held)
        rank = draw(st.sampled_from([r for r in (8, 16) if r >= least]))
        loaded = sum(ranks[name] > 0 for name in held)
        slots = draw(st.sampled_from([1, 2]))
        cpu = max(slots, loaded + draw(st.sampled_from([-1, 0, 0, 0, 1, 3])))
        parts = {name: share for name, share in held.items() if share < 1}
        gpus.append(gpu(number, list(held), cpu, slots, rank, **parts))
    return Placement(gpus=tuple(gpus))


@st.composite
def pairs(draw: st.DrawFn) -> tuple[Scenario, Placement, Placement]:
    names = [chr(ord("a") + k) for k in range(draw(st.integers(1, 7)))]
    ranks = {name: draw(st.sampled_from([8, 8, 16])) for name in names} | {"chat": 0}
    kept = [name for name in names if draw(st.integers(0, 5))] or names[:1]
    before = [name for name in names if draw(st.integers(0, 5))] or names[:1]
    count = draw(st.integers(4, 6))
    scenario = scenario_of(kept, [ranks[name] for name in kept], count, base=True)
    return scenario, draw(placements([*before, "chat"], ranks)), draw(placements([*kept, "chat"], ranks))


@settings(max_examples=150, deadline=None)
@given(pairs(), st.sampled_from([1.0, 2.0, 3.0, 1e9]), st.booleans())
def test_every_action_of_random_steps_is_safe(
    pair: tuple[Scenario, Placement, Placement], load: float, named_at_start: bool
) -> None:
    scenario, old, new = pair
    found = steps_between(scenario, old, new, up_to(load), named_at_start=named_at_start)
    if found.why_not:
        assert found.stages == ()
        return
    assert found.placement is not None
    ranks = {name: one.rank for one in scenario.classes for name in one.names}
    waves = [stage.wave for stage in found.stages]
    old, final = (scenarios.as_started(one, scenario) for one in (old, found.placement))
    most = {device.name: device.count for device in scenario.devices}
    assert broken_rules(old, waves, final, ranks, most, named_at_start=named_at_start) == []
    assert found.placement.gpus or found.stages == ()
    wanted = [set(one.adapters) for one in new.gpus]
    assert sorted(map(sorted, wanted)) == sorted(sorted(one.adapters) for one in final.gpus)
    was = {one.gpu: one for one in old.gpus}
    for stage in found.stages:
        for one in stage.verdicts:
            here = next(g for g in stage.placement.gpus if g.gpu == one.gpu)
            before = was.get(one.gpu)
            loses = before is not None and all(
                n in before.adapters and here.share(n) <= before.share(n) + 1e-6 for n in here.adapters
            )
            ends = any(
                set(here.adapters) <= set(g.adapters)
                and all(here.share(n) <= g.share(n) + 1e-6 for n in here.adapters)
                and (len(here.adapters) == len(g.adapters) or sum(map(g.share, g.adapters)) > load)
                for g in new.gpus
            )
            assert one.accepted or loses or ends
        was = {g.gpu: g for g in stage.placement.gpus}


@settings(max_examples=100, deadline=None)
@given(pairs())
def test_with_enough_gpus_there_is_always_a_way(pair: tuple[Scenario, Placement, Placement]) -> None:
    scenario, old, new = pair
    device = scenario.devices[0].model_copy(update={"count": 9})
    found = steps_between(scenario.model_copy(update={"devices": (device,)}), old, new, up_to(1.0))
    assert not found.why_not


def safe_wave() -> tuple[Placement, Wave, Placement]:
    old, new = (
        Placement(gpus=(gpu(0, "ab", cpu=2), gpu(1, "c", cpu=2))),
        [gpu(0, "a", cpu=2), gpu(1, "cb", cpu=2)],
    )
    found = steps(old.gpus, new)
    return old, found.stages[0].wave, Placement(gpus=tuple(new))


def broken(change: Callable[[tuple[Action, ...]], Sequence[Action]]) -> list[str]:
    old, wave, new = safe_wave()
    wave = replace(wave, actions=tuple(change(wave.actions)))
    return broken_rules(old, [wave], new, dict.fromkeys("abcd", 8), {"H100-64GB": 2})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (lambda a: a[::-1], "b is routed to GPU 0, which does not hold it"),
        (lambda a: a[1:], "b is routed to GPU 1, which does not hold it"),
        (lambda a: (a[0], a[2], a[1]), "b is routed to GPU 0, which does not hold it"),
        (lambda a: (*a, Unload(0, "z")), "z is unloaded from GPU 0, which does not hold it"),
        (lambda a: (*a, Load(0, "a")), "a is loaded twice into GPU 0"),
        (lambda a: (*a, Stop(0)), "a is routed to GPU 0, where no engine runs"),
        (lambda a: (Start(0), *a), "an engine starts on GPU 0, where one runs"),
        (lambda a: (*a, Switch("a", {0: 0.5})), "the shares of a sum to 0.5"),
        (lambda a: (*a, Switch("a", {})), "a is routed nowhere"),
        (lambda a: (*a, Load(7, "a")), "load on GPU 7, where no engine runs"),
        (lambda a: (*a, Load(1, "d")), "GPU 1 holds 3 adapters, above its max_cpu_loras 2"),
        (lambda a: a[:1], "GPU 0 does not serve what the final placement says"),
    ],
)
def test_the_check_finds_what_is_unsafe(
    change: Callable[[tuple[Action, ...]], Sequence[Action]], text: str
) -> None:
    assert text in broken(change)


def test_the_check_accepts_what_is_safe() -> None:
    assert broken(lambda actions: actions) == []


@pytest.mark.parametrize(
    ("were", "are", "kept"),
    [
        ({0: 0.5, 1: 0.5}, {2: 0.5, 3: 0.5}, True),
        ({0: 0.5, 1: 0.5}, {2: 1.0}, False),
        ({0: 1.0}, {1: 1.0}, True),  # it was on too few before
        ({0: 0.4, 1: 0.3, 2: 0.3}, {1: 0.5, 2: 0.5}, True),
        ({0: 1.0}, {}, False),
    ],
)
def test_replicas_are_as_many_as_they_must_be_or_were(
    were: dict[int, float], are: dict[int, float], kept: bool
) -> None:
    planner: Any = SimpleNamespace(names=SimpleNamespace(replicas={"a": 2, "b": 3}))
    before, after = (
        SimpleNamespace(routes=lambda routes=routes: {"a": routes, "c": {}}) for routes in (were, are)
    )
    assert Planner._replicas_kept(planner, before, after) == kept  # type: ignore[arg-type]


def test_the_check_counts_gpus_and_looks_at_ranks() -> None:
    old, wave, new = safe_wave()
    few = broken_rules(old, [wave], new, dict.fromkeys("abcd", 8), {"H100-64GB": 1})
    assert few == ["more than 1 GPUs of H100-64GB run"]
    high = broken_rules(old, [wave], new, {"a": 8, "b": 16, "c": 8}, {"H100-64GB": 2})
    assert high == ["b is of a rank above max_lora_rank of GPU 1"]


def test_wrong_arguments_are_refused() -> None:
    scenario, placement = scenario_of("ab"), Placement(gpus=(gpu(0, "ab"),))
    with pytest.raises(ScenarioError, match="workers"):
        optimizer.rollout(scenario, placement, placement, workers=0)
    with pytest.raises(ScenarioError, match="gpus"):
        optimizer.rollout(scenario, placement, placement, gpus=0)
    with pytest.raises(ScenarioError, match="running"):
        optimizer.rollout(scenario, "x", placement)  # type: ignore[arg-type]
    with pytest.raises(ScenarioError, match="leave out the adapter b"):
        optimizer.rollout(scenario, placement, Placement(gpus=(gpu(0, "a"),)))
    other = Placement(gpus=(gpu(0, "ab").model_copy(update={"device": "B200"}),))
    with pytest.raises(ScenarioError, match="does not have"):
        optimizer.rollout(scenario, other, placement)


def test_the_twin_judges_the_stages_of_a_shipped_scenario() -> None:
    scenario = scenarios.read("odd_ranks", overrides=["replications=1"])
    names = [name for entry in scenario.adapters for name in entry.names()]

    def engine(number: int, held: Sequence[str]) -> PlacedGPU:
        return gpu(number, held, cpu=6, slots=6, rank=128)

    old = Placement(gpus=(engine(0, names[:6]), engine(1, names[6:])))
    new = Placement(gpus=(engine(0, [*names[:5], names[6]]), engine(1, [names[5], *names[7:]])))
    found = optimizer.rollout(scenario, old, new)
    assert found.accepted
    assert (len(found.stages), found.starts, found.extra_gpus) == (2, 1, 1)
    assert all(verdict.sustained is not None for stage in found.stages for verdict in stage.verdicts)
    busy = scenarios.override(scenario, "adapters[0].rate=[8.0, 8.0, 8.0]")
    assert not optimizer.rollout(busy, old, new).accepted


def test_replan_finds_the_steps_where_it_is_asked_for_them() -> None:
    scenario = scenarios.read("paper_mixed_32", overrides=["replications=1"])
    names = [name for entry in scenario.adapters for name in entry.names()]
    running = Placement(gpus=(gpu(7, names[:30], cpu=32, slots=32, rank=32),))
    change = optimizer.replan(scenario, running, time_limit_s=30, steps=True)
    assert change.rollout is not None
    assert done(change.rollout) == [
        [*(f"load 7 {n}" for n in names[30:]), *(f"switch {n}" for n in names[30:])]
    ]
    assert "1 wave: 0 engine starts, 2 loads" in change.summary()
    assert json.loads(change.to_json())["rollout"]["loads"] == 2
    without = change.model_copy(update={"rollout": None})
    assert "rollout" not in json.loads(without.to_json())
