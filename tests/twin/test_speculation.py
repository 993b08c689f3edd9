"""Speculative decoding as a measured factor, against an engine that speculates token by token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import scenarios
import twin
from scenarios import EngineConfig, Speculation
from twin import EngineSetup, Requests, SchedulerRules, StepTables, UnservableRequestError
from twin.engine.records import SERIES
from twin.engine.run import simulate_requests
from twin.load import GPULoad

ENGINE: dict[str, Any] = {
    "drafts": 3,
    "acceptance": 0.7,
    "factor": 1.25,
    "base_s": 0.012,
    "token_s": 2e-5,
    "context_s": 1e-7,
    "blocks": 20_000,
    "max_num_seqs": 256,
}


def drawn(rate: float, n: int, prompt: float = 220, output: float = 200, seed: int = 1) -> Requests:
    rng = np.random.default_rng(seed)
    return Requests(
        arrival_s=np.cumsum(rng.exponential(1 / rate, n)),
        prompt_tokens=np.clip(rng.gamma(2, prompt / 2, n), 4, 4096).astype(np.int32),
        output_tokens=np.clip(rng.gamma(2, output / 2, n), 1, 4096).astype(np.int32),
        adapter=np.zeros(n, dtype=np.int32),
        n_adapters=1,
    )


def setup_of(engine: Any, speculation: Speculation | None) -> EngineSetup:
    return EngineSetup(
        max_loras=1,
        max_cpu_loras=1,
        max_num_seqs=engine.max_num_seqs,
        max_num_batched_tokens=engine.budget,
        long_prefill_token_threshold=0,
        block_size=engine.block_size,
        usable_blocks=engine.blocks,
        rules=SchedulerRules(),
        tables=StepTables(
            token_s=engine.base_s + engine.token_s * np.arange(engine.budget + 1.0),
            adapter_s=np.zeros(2),
            adapter_token_s=np.zeros(2),
            context_s=engine.context_s,
        ),
        gpu_load_s=np.zeros(1),
        disk_load_s=np.zeros(1),
        speculation=speculation,
    )


def figure_of(engine: Any) -> Speculation:
    return Speculation(engine.drafts, engine.tokens_per_step, engine.factor)


CASES: dict[str, tuple[dict[str, Any], Requests, float]] = {
    "idle": ({}, drawn(4, 300), 0.03),
    "busy": ({}, drawn(30, 800), 0.03),
    "overloaded": ({"max_num_seqs": 64}, drawn(200, 600), 0.03),
    "five proposed": ({"drafts": 5, "acceptance": 0.85, "factor": 1.5}, drawn(30, 600), 0.03),
    "few accepted": ({"drafts": 1, "acceptance": 0.3, "factor": 1.1}, drawn(15, 600), 0.03),
    "short of budget": ({"max_num_seqs": 512, "budget": 512}, drawn(200, 800), 0.05),
    "context costs": ({"context_s": 1e-6}, drawn(10, 600, 800, 400), 0.05),
}


def latencies(requests: Requests, first: np.ndarray, last: np.ndarray) -> dict[str, float]:
    several = requests.output_tokens > 1
    per_token = (last - first)[several] / (requests.output_tokens[several] - 1)
    return {
        "ttft": float((first - requests.arrival_s).mean()),
        "tpot": float(per_token.mean()),
        "e2e": float((last - requests.arrival_s).mean()),
        "span": float(last.max()),
    }


def engine_of(speculating: ModuleType, name: str) -> Any:
    """The engine of a case."""
    return speculating.SpeculatingEngine(**ENGINE | CASES[name][0])


@pytest.fixture(scope="module")
def speculated(speculating: ModuleType) -> Callable[[str], dict[str, float]]:
    """What the engine of a case does, which takes seconds to play."""

    @cache
    def played(name: str) -> dict[str, float]:
        requests = CASES[name][1]
        return latencies(requests, *speculating.speculate(requests, engine_of(speculating, name)))

    return played


@pytest.mark.parametrize("name", CASES)
def test_a_measured_factor_gives_the_latencies_of_an_engine_that_speculates(
    speculating: ModuleType, speculated: Callable[[str], dict[str, float]], name: str
) -> None:
    _, requests, off = CASES[name]
    engine = engine_of(speculating, name)
    records = simulate_requests(requests, setup_of(engine, figure_of(engine)))
    found = latencies(requests, records.first_token_s, records.finish_s)
    assert found == pytest.approx(speculated(name), rel=off)


def test_without_its_factor_the_same_engine_would_be_far_off(
    speculating: ModuleType, speculated: Callable[[str], dict[str, float]]
) -> None:
    _, requests, off = CASES["busy"]
    records = simulate_requests(requests, setup_of(engine_of(speculating, "busy"), None))
    found = latencies(requests, records.first_token_s, records.finish_s)
    assert found["tpot"] > (1 + 10 * off) * speculated("busy")["tpot"]


def test_where_the_kv_cache_is_the_limit_an_engine_serves_a_little_less_than_the_factor_says(
    speculating: ModuleType,
) -> None:
    engine = speculating.SpeculatingEngine(**ENGINE | {"blocks": 1500})
    requests = drawn(200, 800)
    records = simulate_requests(requests, setup_of(engine, figure_of(engine)))
    served = latencies(requests, *speculating.speculate(requests, engine))["span"]
    assert 0.93 * served < records.finish_s.max() < served


def test_tokens_and_blocks_are_those_of_the_requests_and_gaps_those_of_the_steps(
    speculating: ModuleType,
) -> None:
    engine, requests = speculating.SpeculatingEngine(**ENGINE), drawn(30, 400)
    setup = setup_of(engine, figure_of(engine))
    records = simulate_requests(requests, setup, 1e4)
    assert records.requests is requests
    assert (records.generated_tokens == requests.output_tokens).all()
    counted = dict(zip(SERIES, records.series.sum(axis=0), strict=True))
    assert counted["output_tokens"] == pytest.approx(requests.output_tokens.sum())
    steps = np.ceil((requests.output_tokens - 1) / engine.tokens_per_step).sum()
    assert records.gaps.sum() == steps
    held = (requests.prompt_tokens + requests.output_tokens / 2) / engine.block_size
    stay = records.finish_s - records.first_scheduled_s
    assert counted["blocks_s"] == pytest.approx(float(held @ stay), rel=0.05)


def test_what_is_unfinished_at_the_horizon_has_some_of_its_tokens(speculating: ModuleType) -> None:
    requests = drawn(200, 400)
    engine = speculating.SpeculatingEngine(**ENGINE | {"max_num_seqs": 8})
    records = simulate_requests(requests, setup_of(engine, figure_of(engine)), 5.0)
    open_ = ~records.finished & (records.generated_tokens > 0)
    assert open_.any()
    assert (records.generated_tokens[open_] <= requests.output_tokens[open_]).all()
    assert (records.generated_tokens[records.finished] == requests.output_tokens[records.finished]).all()


def test_answers_of_one_token_speculate_on_nothing(speculating: ModuleType) -> None:
    engine = speculating.SpeculatingEngine(**ENGINE)
    requests = replace(drawn(20, 100), output_tokens=np.ones(100, dtype=np.int32))
    setup = setup_of(engine, figure_of(engine))
    with_it, without = (simulate_requests(requests, s) for s in (setup, replace(setup, speculation=None)))
    np.testing.assert_array_equal(with_it.finish_s, without.finish_s)


def test_a_request_that_the_engine_cannot_hold_is_refused_by_its_own_length(speculating: ModuleType) -> None:
    few, enough = (speculating.SpeculatingEngine(**ENGINE | {"blocks": k}) for k in (31, 32))
    requests = Requests(
        arrival_s=np.zeros(1),
        prompt_tokens=np.array([100], dtype=np.int32),
        output_tokens=np.array([400], dtype=np.int32),
        adapter=np.zeros(1, dtype=np.int32),
        n_adapters=1,
    )
    with pytest.raises(UnservableRequestError, match="400 output tokens and needs 32 KV blocks"):
        simulate_requests(requests, setup_of(few, figure_of(few)))
    records = simulate_requests(requests, setup_of(enough, figure_of(enough)))
    assert records.finished.all()


def test_a_scenario_that_states_what_was_measured_is_judged_by_it() -> None:
    scenario = scenarios.read("mixed_ranks")
    profile = twin.find_profile("llama-3.1-8b-instruct", "H100-64GB")
    load = GPULoad.from_classes(scenario.classes).scaled(0.1)
    stated = {"method": "ngram", "num_speculative_tokens": 3}
    measured = {**stated, "mean_acceptance_length": 2.5, "step_factor": 1.2}
    plain, unmeasured, faster = (
        twin.simulate(
            load,
            scenario.workload,
            EngineConfig(speculative_config=config),  # type: ignore[arg-type]
            profile,
            duration_s=600.0,
        )
        for config in (None, stated, measured)
    )
    assert plain.to_dict() == unmeasured.to_dict()
    assert faster.gpu.offered_tok_per_s == plain.gpu.offered_tok_per_s
    assert faster.kv_cache_tokens == plain.kv_cache_tokens
    assert faster.gpu.tpot.mean_s < 0.7 * plain.gpu.tpot.mean_s
    assert faster.gpu.itl.p50_s > 2.0 * faster.gpu.itl.mean_s
