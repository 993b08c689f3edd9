"""An engine serves what entries send of their own: who waits for answers sends less where they are slow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import scenarios
import twin
from scenarios import (
    AdapterClass,
    ClosedLoopArrivals,
    EngineConfig,
    EngineOption,
    FixedLengths,
    PromptReuse,
    ServiceLevelObjectives,
    Sessions,
    Workload,
)
from twin import Effort, GPUContent, TwinJudge
from twin.engine.run import simulate_requests

PROMPT, OUTPUT = FixedLengths(tokens=222), FixedLengths(tokens=195)
WORKLOAD = Workload(prompt=PROMPT, output=OUTPUT, duration_s=3600.0)
ENGINE = EngineConfig(max_model_len=4096)
SHORT = Effort(settle_s=600.0, measure_s=2400.0, requests=10, longest_s=2400.0, wander_s=2400.0)


@pytest.fixture(scope="module")
def profile() -> twin.EngineProfile:
    return twin.find_profile("llama-3.1-8b-instruct", "H100-64GB")


def users(count: int, think_s: float = 30.0) -> twin.GPULoad:
    loop = ClosedLoopArrivals(users=count, think_s=think_s)
    return twin.GPULoad.from_classes([AdapterClass(8, loop.rate, PROMPT, OUTPUT, ("a",), arrivals=loop)])


@pytest.mark.parametrize("count", [30, 400])
def test_users_send_one_request_in_a_time_to_think_and_one_to_be_answered(
    profile: twin.EngineProfile, count: int
) -> None:
    """By Little's law; and none has two requests open."""
    records = twin.simulate(users(count), WORKLOAD, ENGINE, profile).records
    arrival, finish = records.requests.arrival_s, records.finish_s
    late = (arrival > 600) & records.finished
    answered = float(np.mean(finish[late] - arrival[late]))
    sent = np.sum(arrival > 600) / 3000
    assert sent == pytest.approx(count / (30 + answered), rel=0.03)
    edges = np.concatenate([arrival, np.nan_to_num(finish, nan=3600.0)])
    change = np.concatenate([np.ones(len(arrival)), -np.ones(len(arrival))])
    assert np.cumsum(change[np.lexsort((change, edges))]).max() <= count


def test_too_many_users_wait_but_their_queue_does_not_grow(profile: twin.EngineProfile) -> None:
    """Of a thousand who hardly think, an engine of few sequences answers as many as it can."""

    def verdict(count: int) -> twin.GPUVerdict:
        return twin.judge(
            users(count, think_s=5.0),
            WORKLOAD,
            ENGINE.model_copy(update={"max_num_seqs": 16}),
            profile,
            max_loras=1,
            max_lora_rank=8,
            service_levels=ServiceLevelObjectives(),
            replications=2,
            effort=SHORT,
        )

    few, many = verdict(10), verdict(300)
    assert few.accepted
    assert {one.code for one in many.violations} >= {twin.Criterion.LATE_SHARE}
    assert twin.Criterion.GROWTH not in {one.code for one in many.violations}


def test_conversations_have_their_rate_on_an_engine(profile: twin.EngineProfile) -> None:
    reuse = PromptReuse(system_prompt=100, sessions=Sessions(turns=4, think_s=20.0))
    load = twin.GPULoad.from_classes([AdapterClass(8, 2.0, PROMPT, OUTPUT, ("a",), reuse=reuse)])
    records = twin.simulate(load, WORKLOAD, ENGINE, profile).records
    sent = np.sum(records.requests.arrival_s > 600) / 3000
    assert sent == pytest.approx(2.0, rel=0.06)
    mean = reuse.mean_prompt_tokens(222, 195)
    assert records.requests.prompt_tokens.mean() == pytest.approx(mean, rel=0.03)


def test_a_prefix_cache_finds_what_prompts_have_in_common(profile: twin.EngineProfile) -> None:
    """In an engine of room enough: whole blocks of what was said before, but of what came before the run."""
    reuse = PromptReuse(system_prompt=100, sessions=Sessions(turns=4, think_s=20.0))
    load = twin.GPULoad.from_classes([AdapterClass(8, 1.0, PROMPT, OUTPUT, ("a",), reuse=reuse)])
    setup = twin.build_setup(profile, ENGINE, load, max_loras=1, max_lora_rank=8)
    drawn = twin.draw_requests(load, WORKLOAD, 0)
    assert drawn.common_tokens is not None
    records = simulate_requests(drawn, replace(setup, prefix_caching=True))
    assert records.cached_tokens is not None
    assert len(records.requests) == len(drawn)
    common = drawn.common_tokens[: len(drawn)] // 16 * 16
    # The first prompt finds no system prompt; an answer's last token is not computed.
    assert records.cached_tokens.sum() == pytest.approx(common.sum(), rel=0.01)
    assert records.cached_tokens.sum() <= common.sum()
    without = simulate_requests(drawn, setup)
    assert np.nanmean(records.first_token_s - records.requests.arrival_s) < np.nanmean(
        without.first_token_s - without.requests.arrival_s
    )


def test_a_gpu_with_base_traffic_alone_has_the_least_of_slots(profile: twin.EngineProfile) -> None:
    base = AdapterClass(0, 2.0, PROMPT, OUTPUT, ("base",))
    adapters = AdapterClass(16, 1.0, PROMPT, OUTPUT, ("a", "b"))
    alone = twin.simulate(twin.GPULoad.from_classes([base]), WORKLOAD, ENGINE, profile)
    assert (alone.max_loras, alone.max_lora_rank) == (1, 8)
    assert alone.records.gpu_loads.sum() == 0
    beside = twin.simulate(twin.GPULoad.from_classes([base, adapters]), WORKLOAD, ENGINE, profile)
    assert (beside.max_loras, beside.max_lora_rank) == (2, 16)
    assert beside.records.gpu_loads[0] == 0
    assert (beside.records.gpu_loads[1:] > 0).all()


@pytest.mark.parametrize(
    "name", ["base_model_traffic", "mixed_traffic", "chat_sessions", "closed_loop_users"]
)
def test_a_shipped_scenario_is_judged_for_any_number_of_workers(
    name: str, profile: twin.EngineProfile
) -> None:
    scenario = scenarios.read(name, "replications=1")
    kinds = tuple((one.kind, 2) for one in scenario.classes)
    contents = [GPUContent(EngineOption("H100-64GB", 8, 32), kinds).scaled(f) for f in (0.2, 0.3)]
    profiles = {"H100-64GB": profile}
    one, two = (TwinJudge(scenario, profiles, workers, effort=SHORT)(contents) for workers in (1, 2))
    assert one == two
    assert all(verdict.accepted and verdict.sustained.due > 0 for verdict in one if verdict.sustained)
