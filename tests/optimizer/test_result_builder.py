"""What a result says of a plan's verdicts, and which version it says it is of."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

import optimizer
import scenarios
from optimizer.baselines.run import _faults
from optimizer.no_plan import NoPlanReason
from optimizer.packing.model.no_packing import NoPacking, NoPackingReason
from optimizer.packing.model.problem import Bin, Packing
from optimizer.packing.model.search_state import PackingResult, Status, StopReason
from optimizer.search.cut_loop import AcceptedPlan
from optimizer.search.instance import Instance
from optimizer.search.latency.lower_bound import LatencyBound
from optimizer.search.minimize_gpus import GPUMinimum, OpenGap, Search
from optimizer.search.objective_order import Choice
from optimizer.search.params import SolveParams
from optimizer.search.preparation import instance_of
from optimizer.search.result_builder import Outcome, _cut_short, _validation, build_result, placement_of
from optimizer.search.why_no_plan import why_no_plan
from scenarios import (
    AdapterClass,
    Deadline,
    EngineConfig,
    FixedLengths,
    ServiceLevelObjectives,
    Work,
    Workload,
)
from twin import Criterion, GPULoad, GPUVerdict, Violation, find_profile, judge

ROOT = Path(optimizer.__file__).parent.parent


@cache
def _instance(*overrides: str) -> Instance:
    return instance_of(scenarios.read("paper_mixed_32", overrides=overrides))


def test_a_validation_keeps_all_that_the_verdict_says_under_the_names_of_each_gpu() -> None:
    scenario = scenarios.read("paper_mixed_32")
    instance = instance_of(scenario)
    counts = [1] * len(instance.classes)
    packing = Packing((Bin(0, counts), Bin(0, counts)))
    load = replace(GPULoad.from_classes(instance.classes, counts), names=tuple(map(str, range(len(counts)))))
    profile = instance.profiles["H100-64GB"]
    verdict = judge(
        load,
        scenario.workload.model_copy(update={"duration_s": 60.0}),
        scenario.engine,
        profile,
        max_loras=1,
        max_lora_rank=32,
        service_levels=scenario.service_levels,
        replications=1,
    )
    assert verdict.starved
    failure = Violation(code=Criterion.NO_KV_MEMORY, remedy="no remedy")
    verdict = verdict.model_copy(update={"violations": (*verdict.violations, failure)})
    plan = AcceptedPlan(packing, (verdict, verdict), instance.inner, None)
    report = _validation(instance, plan, placement_of(instance, plan.problem, packing))
    first, second = report.gpus
    assert report.distinct == 1
    assert first.starved == tuple(instance.classes[int(k)].names[0] for k in verdict.starved)
    assert first.memory_failure == second.memory_failure == "no_kv_memory"
    second_names = {c.names[1] for c in instance.classes}
    assert len(second.starved) == len(first.starved)
    assert second_names.issuperset(second.starved)
    assert second.worst_adapter in second_names
    assert f'"{second.starved[0]}"' in " ".join(second.reasons)
    assert f'"{first.starved[0]}"' not in " ".join(second.reasons)


@pytest.fixture(scope="module")
def hot() -> scenarios.Scenario:
    """Adapters so hot that no eight of them fit a GPU, the least number at which the greedy tests one."""
    return scenarios.read("paper_mixed_32", overrides=["replications=1", "adapters[0].rate=6"])


def test_what_no_gpu_and_no_time_helps_is_not_blamed_on_them(hot: scenarios.Scenario) -> None:
    result = optimizer.solve(hot, method="greedy")
    assert (result.status, result.stop_reason) == ("no_plan", "finished")
    assert result.no_plan is not None
    assert result.no_plan.reason is NoPlanReason.FIRST_TEST
    assert result.message == result.no_plan.sentence
    assert "its smallest test point, 8 adapters, already starves an empty GPU" in result.message
    assert result.message.endswith("; greedy-fill or exact tests every number")
    for advice in ("raise", "give more"):
        assert advice not in result.message
    names = {name for entry in hot.adapters for name in entry.names()}
    assert len(result.no_plan.adapters) == 3
    assert names.issuperset(result.no_plan.adapters)
    assert f'"{result.no_plan.adapters[0]}"' in result.message


@pytest.mark.slow
@pytest.mark.parametrize("method", ["greedy-fill", "exact"])
def test_the_methods_that_a_stuck_greedy_names_find_a_plan(hot: scenarios.Scenario, method: str) -> None:
    result = optimizer.solve(hot, method=method, time_limit_s=20)
    assert (result.accepted, result.no_plan) == (True, None)


def test_a_greedy_that_asks_a_forest_is_stuck_for_the_same_reason(
    hot: scenarios.Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    def starving(*_: object, **__: object) -> object:
        return SimpleNamespace(
            starved=lambda *_, **__: [True],
            predict=lambda *_, **__: SimpleNamespace(throughput_tok_per_s=[1.0]),
        )

    monkeypatch.setattr("optimizer.baselines.named.learned_surrogate", starving)
    result = optimizer.solve(hot, method="proposed")
    assert result.no_plan is not None
    assert (result.stop_reason, result.no_plan.reason) == ("finished", NoPlanReason.FIRST_TEST)
    assert result.message.endswith("; greedy-fill or exact tests every number")


def test_the_advice_is_what_helps(hot: scenarios.Scenario) -> None:
    few = optimizer.solve(hot, method="bfd", gpus=2)
    assert few.message == "no plan of bfd fits 2 GPUs; give more GPUs (--gpus), or try exact"
    two = scenarios.override(hot, ["devices[0].count=2"])
    assert "give more GPUs (devices[].count)" in optimizer.solve(two, method="bfd").message
    late = optimizer.solve(hot, method="bfd", time_limit_s=1e-9)
    assert (late.stop_reason, late.message) == (
        "time_limit",
        "stopped by the time limit without a plan that the twin accepts; raise it",
    )


@pytest.mark.parametrize(
    ("method", "asked", "reason", "said"),
    [
        ("bfd", {"gpus": 2}, "too_few_gpus", "no plan of bfd fits 2 GPUs"),
        (
            "greedy-lat",
            {"gpus": 2, "objective": "latency"},
            "gpu_overloaded",
            "one that it deals 16 adapters",
        ),
        ("spread", {"gpus": 2, "objective": "latency"}, "too_few_gpus", "no plan of spread fits 2 GPUs"),
        ("spread", {"gpus": 9, "objective": "latency", "time_limit_s": 1e-9}, "time_limit", "; raise it"),
        ("aibrix-binpack", {"gpus": 3}, "too_few_gpus", "the rule opens 4; give more (--gpus), or try bfd"),
        ("maxbackbone", {"time_limit_s": 1e-9}, "time_limit", "the time was over before the twin had judged"),
        ("bfd", {"total_limit_s": 1e-9}, "time_limit", "; raise "),
    ],
)
def test_every_method_says_why_it_has_no_plan(
    hot: scenarios.Scenario, method: str, asked: dict[str, Any], reason: str, said: str
) -> None:
    result = optimizer.solve(hot, method=method, **asked)
    assert (result.status, result.bound) == ("no_plan", None)
    assert result.no_plan is not None
    assert result.no_plan.reason == reason
    assert result.stop_reason == ("time_limit" if reason == "time_limit" else "finished")
    assert said in result.message
    assert json.loads(result.to_json())["no_plan"]["reason"] == reason


def packed(reason: NoPackingReason | None = None, stop: str = "finished", bins: int = 0) -> PackingResult:
    """What a placer said last: a packing of so many bins, or none and why."""
    packing = Packing((Bin(0, [1]),) * bins) if bins else None
    items = np.zeros(len(_instance().classes), dtype=np.int64)
    items[0] = 1
    why = None if reason is None else NoPacking(reason, items)
    return PackingResult(packing, Status.LIMIT, StopReason(stop), None, 0.0, "", no_packing=why)


@pytest.mark.parametrize(
    ("method", "last", "rejected", "reason", "said"),
    [
        (
            "bfd",
            packed(bins=1),
            3,
            "rejected_by_twin",
            "the twin rejects every plan of bfd on at most 32 GPUs",
        ),
        (
            "ffd",
            packed(),
            3,
            "too_few_gpus",
            "(with 3 GPU contents excluded that the twin rejected); try bfd or",
        ),
        ("greedy", packed(NoPackingReason.FIRST_TEST), 2, "first_test", "(with 2 GPU contents excluded that"),
        (
            "greedy",
            packed(NoPackingReason.NO_ENGINE),
            0,
            "no_engine",
            "no engine with the fewest slots starts",
        ),
        ("greedy", packed(NoPackingReason.ONE_KIND), 0, "too_few_gpus", "uses GPUs of one kind only"),
        (
            "bfd",
            packed(NoPackingReason.FITS_NO_BIN),
            0,
            "outside_inner_region",
            "exact looks beyond that region",
        ),
        ("spread", packed(stop="time_limit"), 0, "time_limit", "; raise it"),
        (
            "bfd",
            packed(stop="time_limit"),
            1,
            "time_limit",
            "rejected 1 GPU content in 4 rounds; raise it, or try ex",
        ),
        (
            "exact",
            packed(),
            5,
            "none_found",
            "no plan on at most 32 GPUs that the twin accepts, and no proof",
        ),
        (
            "exact",
            packed(stop="time_limit"),
            5,
            "time_limit",
            "which rejected 5 GPU contents in 4 rounds; raise it",
        ),
        ("exact", None, 0, "none_found", "and no proof that there is none; loosen service_levels"),
    ],
)
def test_the_reason_is_what_the_placer_and_the_twin_said(
    method: str, last: PackingResult | None, rejected: int, reason: str, said: str
) -> None:
    loop: Any = SimpleNamespace(rounds=4, rejected=dict.fromkeys(range(rejected)))
    search = Search(_instance(), optimizer.methods()[method], loop)
    told = why_no_plan(search, last, Deadline.after(60))
    assert (told.reason, said in told.sentence) == (reason, True), told.sentence
    named = reason in ("first_test", "no_engine", "outside_inner_region")
    assert told.adapters == ((_instance().classes[0].names[0],) if named else ())


def test_too_few_gpus_of_a_kind_are_told_by_kind() -> None:
    """As many GPUs as adapters, so that their number is not what is missing."""
    one = _instance()
    devices = (one.scenario.devices[0], SimpleNamespace(name="L40S", count=2))
    search: Any = SimpleNamespace(
        instance=SimpleNamespace(inner=one.inner, scenario=SimpleNamespace(devices=devices)),
        placer=optimizer.methods()["bfd"],
        loop=SimpleNamespace(rounds=1, rejected={}),
    )
    told = why_no_plan(search, packed(), Deadline.after(60))
    assert told.sentence == (
        "no plan of bfd fits the GPUs there are (128 H100-64GB and 2 L40S); "
        "give more GPUs of a kind (devices[].count), or try exact"
    )


def test_what_the_placer_knows_outweighs_that_the_time_is_over() -> None:
    search = Search(_instance(), optimizer.methods()["greedy"], SimpleNamespace(rounds=1, rejected={}))  # type: ignore[arg-type]
    over = Deadline.after(0)
    assert why_no_plan(search, packed(NoPackingReason.FIRST_TEST), over).stop_reason == "finished"
    assert why_no_plan(search, packed(), over).stop_reason == "time_limit"


def test_a_greedy_that_mixes_no_kinds_says_so() -> None:
    """Two kinds of GPU, one of each: together they suffice, alone neither does."""
    light = scenarios.read("paper_mixed_32", overrides=["replications=1", "adapters[0].rate=0.8"])
    problem = instance_of(light).inner
    kinds = tuple(replace(o, option=replace(o.option, device="other")) for o in problem.options)
    limits = {"H100-64GB": 1, "other": 1}
    both = replace(problem, options=(*problem.options, *kinds), max_bins=2, device_limits=limits)
    result = optimizer.pack(both, "greedy-fill")
    assert result.no_packing is not None
    assert result.no_packing.reason is NoPackingReason.ONE_KIND
    assert optimizer.pack(both, "bfd").no_packing is None


# --- the bound ---------------------------------------------------------------------------------------


def told(
    outer: float | None,
    *overrides: str,
    method: str = "exact",
    unit: float = 1.0,
    gap: OpenGap | None = None,
    bounds: Mapping[str, LatencyBound] = MappingProxyType({}),
    last: PackingResult | None = None,
    by_clock: bool = False,
) -> optimizer.Result:
    """The result of a search that holds two GPUs, and what is known of the price of others."""
    instance = _instance("objective=gpus", *overrides)
    packing = Packing((Bin(0, [1] * len(instance.classes)),) * 2)
    verdict = GPUVerdict(
        accepted=True, offered_tok_per_s=1.0, served_tok_per_s=1.0, served_share=1.0, worst_adapter=None,
        worst_served_share=1.0, itl_ms=20.0, ttft_ms=50.0, itl_p99_ms=None, ttft_p99_ms=None,
        kv_cache_tokens=1,
    )  # fmt: skip
    plan = AcceptedPlan(packing, (verdict, verdict), instance.inner, None)
    outer = None if outer is None else outer * unit
    minimum = GPUMinimum(best=plan, outer_bound=outer, finished=True, gap=gap)
    search = Search(instance, optimizer.methods()[method], SimpleNamespace(rounds=1, rejected={}))  # type: ignore[arg-type]
    choice = Choice(plan, "a rule", last)
    deadline = replace(Deadline.after(60), work=Work(by_clock=by_clock))
    return build_result(Outcome(search, minimum, choice, deadline, latency_bounds=bounds))


OPTIMAL = "optimal: no plan of the optimistic (outer) region needs fewer GPUs, and the twin accepts it"
OPEN = (
    "a plan that the twin accepts; bound 1 by the optimistic (outer) region: no cheaper plan of it was "
    "found, and none is excluded"
)


@pytest.mark.parametrize(
    ("outer", "gap", "status", "bound", "said"),
    [
        (2.0, None, "optimal", 2.0, OPTIMAL),
        (1.0, OpenGap("undecided"), "feasible", 1.0, OPEN),
        (1.0, None, "feasible", 1.0, "a plan that the twin accepts"),
        (None, None, "feasible", None, "a plan that the twin accepts"),
    ],
)
def test_optimal_is_a_plan_that_meets_the_bound_of_the_outer_region(
    outer: float | None, gap: OpenGap | None, status: str, bound: float | None, said: str
) -> None:
    result = told(outer, gap=gap)
    assert (result.status, result.bound, result.outer_bound) == (status, bound, bound)
    assert result.gap == (None if bound is None else (2 - bound) / 2)
    assert result.message.startswith(said)
    assert (result.stop_reason == "proven") == (status == "optimal")
    assert ("optimal" in result.message.replace("optimistic", "")) == (status == "optimal")
    document = json.loads(result.to_json())
    assert (document["bound"], document["outer_bound"]) == (bound, bound)
    assert optimizer.Result.model_validate(document) == result


def test_what_the_clock_decided_is_told() -> None:
    assert told(1.0).stop_reason == "finished"
    assert told(1.0, by_clock=True).stop_reason == "time_limit"


def test_a_bound_above_an_accepted_plan_is_none() -> None:
    """The outer region is fitted to runs, so it may be too narrow; what is refuted is not told."""
    result = told(3.0)
    assert (result.status, result.bound, result.gap) == ("feasible", None, None)
    assert result.stop_reason == "finished"


@pytest.mark.parametrize(
    ("stop", "said"),
    [
        ("time_limit", "time_limit"),
        ("gap_limit", "gap_limit"),
        ("proven", "finished"),
        ("finished", "finished"),
    ],
)
def test_why_the_search_stopped_is_what_its_placer_says_of_itself(stop: str, said: str) -> None:
    """Also where there is time left: a placer has but a share of it."""
    assert told(1.0, last=packed(stop=stop)).stop_reason == said
    assert told(2.0, last=packed(stop=stop)).stop_reason == "proven"


@pytest.mark.parametrize("method", ["greedy", "bfd", "local"])
def test_a_heuristic_claims_no_bound(method: str) -> None:
    result = told(None, method=method)
    assert (result.status, result.bound, result.gap) == ("feasible", None, None)
    assert told(2.0, method=method).status == "feasible"  # whoever proved that, it was not the heuristic


def test_the_bound_of_a_cost_is_a_price() -> None:
    priced = ("devices[0].price_per_hour=2.5", "objective=cost")
    assert told(2.0, *priced, unit=2.5).message.startswith("optimal: no plan of the optimistic (outer) reg")
    within = told(1.0, *priced, unit=2.5, gap=OpenGap("undecided"))
    assert (within.status, within.objective, within.bound, within.gap) == ("feasible", 5.0, 2.5, 0.5)
    assert within.message.startswith("a plan that the twin accepts; bound 2.5 by the optimistic (outer)")


def test_a_latency_has_the_bound_of_the_floors_and_the_number_of_gpus_before_it_its_own() -> None:
    latency = told(2.0, "objective=latency")
    assert (latency.status, latency.bound, latency.stop_reason) == ("feasible", None, "finished")
    assert (latency.no_bound, latency.objective_bounds) == ("", (None,))
    bounds = {"latency": LatencyBound(15.0), "balance": LatencyBound(None, "it is a share")}
    proven = told(2.0, "objective=latency", bounds=bounds, gap=OpenGap("undecided"))
    assert (proven.status, proven.bound, proven.gap) == ("feasible", 15.0, 0.25)
    assert proven.message == "a plan that the twin accepts; found by a rule"
    met = told(2.0, "objective=latency", bounds={"latency": LatencyBound(20.0)})
    assert (met.status, met.gap) == ("optimal", 0.0)
    assert met.message.startswith("optimal: no plan of the optimistic (outer) region is faster")
    balance = told(2.0, "objective=[balance, latency]", bounds=bounds)
    assert (balance.bound, balance.no_bound) == (None, "it is a share")
    assert balance.objective_bounds == (None, 15.0)
    both = told(2.0, "objective=[gpus, latency]", bounds=bounds)
    assert (both.status, both.bound, both.stop_reason) == ("optimal", 2.0, "finished")
    assert (both.objective_bounds, both.no_bound) == ((2.0, 15.0), "")
    assert optimizer.Result.model_validate(json.loads(both.to_json())) == both
    assert both.message.startswith(
        "optimal in gpus: no plan of the optimistic (outer) region needs fewer GPUs"
    )


def test_what_is_not_proven_is_no_zero(hot: scenarios.Scenario) -> None:
    infeasible = optimizer.solve(hot, gpus=2)
    assert infeasible.status == "infeasible"
    assert (infeasible.bound, infeasible.outer_bound) == (None, None)


def test_a_latency_on_the_fewest_gpus_says_how_to_have_more(hot: scenarios.Scenario) -> None:
    light = scenarios.override(hot, ["adapters[0].rate=0.1"])
    result = optimizer.solve(light, method="bfd", objective="latency", time_limit_s=4)
    assert "on the fewest GPUs, 1 of 128; --gpus N (gpus=N in Python) allows more" in result.message
    for given in ({"objective": "latency", "gpus": 2}, {"objective": ("gpus", "latency")}, {}):
        other = optimizer.solve(light, method="bfd", time_limit_s=4, **given)
        assert "on the fewest GPUs" not in other.message


@pytest.mark.parametrize(
    ("objective", "finished", "said"),
    [
        (("gpus",), False, ""),
        (("gpus", "latency"), True, "the search for the best latency used up the time limit"),
        (("gpus", "ttft"), False, "the search for the fewest GPUs used up the time limit"),
    ],
)
def test_which_search_was_cut_short_is_told(objective: tuple[str, ...], finished: bool, said: str) -> None:
    outcome: Any = SimpleNamespace(
        instance=SimpleNamespace(scenario=SimpleNamespace(objective=objective)),
        minimum=GPUMinimum(finished=finished),
        search=SimpleNamespace(params=SolveParams()),
    )
    assert _cut_short(outcome).startswith(said)
    assert bool(_cut_short(outcome)) == bool(said)


def test_the_parts_of_an_adapter_starve_as_one() -> None:
    one = AdapterClass(8, 40.0, FixedLengths(tokens=200), FixedLengths(tokens=200), ("a", "b"))
    verdict = judge(
        GPULoad.from_classes([one]),
        Workload(prompt=one.prompt, output=one.output, duration_s=60.0),
        EngineConfig(),
        find_profile("llama-3.1-8b-instruct", "H100-64GB"),
        max_loras=2,
        max_lora_rank=8,
        service_levels=ServiceLevelObjectives(),
        replications=1,
        acceptance="paper",
    )
    assert set(verdict.starved) == {"a", "b"}
    assert verdict.of(1, {"a": "hot", "b": "hot"}).starved == ("hot",)


@pytest.mark.slow
def test_a_copy_that_is_not_installed_knows_its_version() -> None:
    code = (
        "import importlib.metadata as m\n"
        "def refuse(name): raise m.PackageNotFoundError(name)\n"
        "m.version = m.distribution = m.metadata = refuse\n"
        "import optimizer\n"
        "from optimizer.baselines import run\n"
        "print(optimizer.__version__)"
    )
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=300
    )
    assert said.stdout.strip() == optimizer.__version__


def test_a_baselines_message_says_what_its_gpus_miss() -> None:
    levels = ["service_levels.ttft_ms.p99=1", "replications=1"]
    result = optimizer.solve(scenarios.read("paper_mixed_32", overrides=levels), method="maxbackbone")
    assert result.message == "the twin rejects 1 of 1 GPU: 1 GPU misses a limit on latency"


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (
            [{Criterion.LATE_SHARE, Criterion.GROWTH}, {Criterion.GROWTH}],
            "2 GPUs fall behind, too many requests wait on 1 GPU",
        ),
        ([{Criterion.LATE_SHARE}, {Criterion.HOUR_LATE_SHARE}], "too many requests wait on 2 GPUs"),
        ([{Criterion.SERVED_SHARE}], "they serve too little of what is offered"),
        ([{Criterion.SERVED_SHARE, Criterion.TTFT_P99}], "1 GPU misses a limit on latency"),
        ([{Criterion.OOM_CUDA}], "GPU 0 does not start"),
    ],
)
def test_what_rejected_gpus_miss_is_told_kind_by_kind(codes: list[set[Criterion]], said: str) -> None:
    gpus = [
        GPUVerdict(
            gpu=k, accepted=False, offered_tok_per_s=1.0, served_tok_per_s=0.5, served_share=0.5,
            worst_adapter="a", worst_served_share=0.5, itl_ms=1.0, ttft_ms=1.0, itl_p99_ms=1.0,
            ttft_p99_ms=1.0, kv_cache_tokens=1,
            violations=tuple(Violation(code=code, value=0.5, limit=0.9, patience_s=1.0) for code in missed),
        )
        for k, missed in enumerate(codes)
    ]  # fmt: skip
    assert ", ".join(_faults(gpus)) == said
