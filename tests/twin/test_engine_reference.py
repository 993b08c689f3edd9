"""The compiled loop agrees with the plain reference on random engines and workloads."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twin import EngineSetup, Requests, SchedulerRules, StepTables
from twin.engine.records import SERIES
from twin.engine.run import simulate_requests
from twin.engine.state import turns

CLOSE = {"rtol": 1e-9, "atol": 1e-9, "equal_nan": True}


def agree(reference: ModuleType, case: Any) -> None:
    expected = reference.Reference(case.requests, case.setup, case.horizon_s).run()
    got = simulate_requests(case.requests, case.setup, case.horizon_s, record_steps=True)
    assert got.steps is not None
    assert [tuple(map(int, row[1:])) for row in got.steps] == [row[1:] for row in expected.rows]
    np.testing.assert_allclose(got.steps[:, 0], [row[0] for row in expected.rows], **CLOSE)
    for name, values in (
        ("sent", got.sent_s),
        ("first_scheduled", got.first_scheduled_s),
        ("first_token", got.first_token_s),
        ("finish", got.finish_s),
    ):
        np.testing.assert_allclose(values, [getattr(r, name) for r in expected.requests], **CLOSE)
    assert got.preemptions.tolist() == [r.preemptions for r in expected.requests]
    assert got.generated_tokens.tolist() == [r.generated for r in expected.requests]
    assert got.gpu_loads.tolist() == expected.gpu_loads
    assert got.disk_loads.tolist() == expected.disk_loads
    if case.setup.prefix_caching:
        assert got.cached_tokens is not None
        assert got.cached_tokens.tolist() == [r.cached for r in expected.requests]
    busy = sum(seconds for _, seconds, _ in expected.steps)
    blocks = sum(seconds * used for _, seconds, used in expected.steps)
    sums = got.series.sum(axis=0)
    np.testing.assert_allclose(sums[[0, 1, 4]], [len(expected.steps), busy, blocks], rtol=1e-9)


@given(seed=st.integers(min_value=0, max_value=2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_random_cases(reference: ModuleType, cases: ModuleType, seed: int) -> None:
    agree(reference, cases.case(seed))


@pytest.mark.parametrize("seed", range(100))
def test_fixed_cases(reference: ModuleType, cases: ModuleType, seed: int) -> None:
    agree(reference, cases.case(seed))


@pytest.mark.parametrize("seed", range(60))
def test_more_adapters_than_slots(reference: ModuleType, cases: ModuleType, seed: int) -> None:
    agree(reference, cases.crowded(seed))


def of_any_version(case: Any, seed: int) -> Any:
    """The same with rules of any version, some base model, and prompts that begin alike, cached or not."""
    rng = np.random.default_rng(seed)
    requests, setup = case.requests, case.setup
    n, adapters = len(requests), requests.n_adapters
    rules = setup.rules.model_copy(
        update={
            "passed_over": str(rng.choice(["kept", "reversed", "queued"])),
            "frees_uncached_first": bool(rng.random() < 0.5),
        }
    )
    continues = np.full(n + adapters, -1, dtype=np.int32)  # after the requests' a text for each adapter
    for i, adapter in enumerate(requests.adapter.tolist()):
        earlier = np.flatnonzero(requests.adapter[:i] == adapter)
        choices = [-1, n + adapter, *rng.choice(earlier, min(len(earlier), 1), replace=False)]
        continues[i] = rng.choice(choices)
    texts = replace(
        requests,
        continues=continues,
        common_tokens=rng.integers(0, 100, len(continues)).astype(np.int32),
        cached_tokens=rng.integers(0, 40, n).astype(np.int32) if rng.random() < 0.2 else None,
    )
    base = rng.random(adapters) < 0.2
    base[0] = False
    caching = bool(rng.random() < 0.7)
    return replace(case, requests=texts, setup=replace(setup, rules=rules, base=base, prefix_caching=caching))


@pytest.mark.parametrize("seed", range(100))
def test_rules_of_any_version_with_texts_and_base_model(
    reference: ModuleType, cases: ModuleType, seed: int
) -> None:
    agree(reference, of_any_version(cases.case(seed) if seed % 2 else cases.crowded(seed), seed))


def overheard(seed: int) -> Any:
    """Little room, and a prompt that begins with an answer which another request is still given."""
    rng = np.random.default_rng(seed)
    others, block = int(rng.integers(0, 3)), int(rng.choice([4, 8]))
    prompt, output = int(rng.integers(1, 30)), int(rng.integers(10, 60))
    common = int(rng.integers(prompt, prompt + output))
    n = others + 2
    requests = Requests(
        arrival_s=np.array([0.0] * (n - 1) + [rng.uniform(0.05, 4)]),
        prompt_tokens=np.array([prompt, *rng.integers(1, 20, others), common + 5], dtype=np.int32),
        output_tokens=np.array([output, *[60] * others, rng.integers(1, 6)], dtype=np.int32),
        adapter=np.zeros(n, dtype=np.int32),
        n_adapters=1,
        continues=np.array([-1] * (n - 1) + [0], dtype=np.int32),
        common_tokens=np.array([0] * (n - 1) + [common], dtype=np.int32),
    )
    longest = int((requests.prompt_tokens + requests.output_tokens - 1).max())
    setup = EngineSetup(
        max_loras=1,
        max_cpu_loras=1,
        max_num_seqs=8,
        max_num_batched_tokens=64,
        long_prefill_token_threshold=0,
        block_size=block,
        usable_blocks=-(-longest // block) + int(rng.integers(0, 8)),
        rules=SchedulerRules(),
        tables=StepTables(np.full(65, 0.1), np.zeros(2), np.zeros(2)),
        gpu_load_s=np.zeros(1),
        disk_load_s=np.zeros(1),
        prefix_caching=True,
    )
    return SimpleNamespace(requests=requests, setup=setup, horizon_s=np.inf)


def test_a_prompt_that_begins_with_an_answer_under_way_is_admitted_in_the_same_step(
    reference: ModuleType,
) -> None:
    """While it waits for blocks, each that the answer fills is one that it needs no more."""
    for seed in range(500):
        agree(reference, overheard(seed))


@pytest.mark.parametrize("seed", range(150))
def test_steps_that_are_scheduled_ahead(reference: ModuleType, cases: ModuleType, seed: int) -> None:
    """Adapters cost nothing to load here: which of them a step needs, the recordings do not tell."""
    rng = np.random.default_rng(seed)
    case = of_any_version(cases.case(seed) if seed % 2 else cases.crowded(seed), seed)
    changes = {
        "schedules_after_last": bool(rng.random() < 0.3),
        "slots_of_all_running": bool(rng.random() < 0.3),
    }
    setup = replace(
        case.setup,
        rules=case.setup.rules.model_copy(update=changes),
        gpu_load_s=np.zeros(case.requests.n_adapters),
        disk_load_s=np.zeros(case.requests.n_adapters),
        max_inflight=0,
        async_scheduling=True,
    )
    expected = reference.Reference(case.requests, setup, case.horizon_s).run()
    got = simulate_requests(case.requests, setup, case.horizon_s, record_steps=True)
    assert got.steps is not None
    began = [row for row in expected.rows if row[0] < case.horizon_s]
    assert [tuple(map(int, row[1:])) for row in got.steps] == [row[1:] for row in began]
    np.testing.assert_allclose(got.steps[:, 0], [row[0] for row in began], **CLOSE)
    for name, values in (("first_token", got.first_token_s), ("finish", got.finish_s)):
        np.testing.assert_allclose(values, [getattr(r, name) for r in expected.requests], **CLOSE)
    if np.isinf(case.horizon_s):
        assert got.preemptions.tolist() == [r.preemptions for r in expected.requests]
        if setup.prefix_caching:
            assert got.cached_tokens is not None
            assert got.cached_tokens.tolist() == [r.cached for r in expected.requests]
        tokens = dict(zip(SERIES, got.series.sum(axis=0), strict=True))["output_tokens"]
        assert tokens == case.requests.output_tokens.sum()


@pytest.mark.parametrize("newcomer_first", [True, False])
def test_a_newcomer_may_drive_out_an_adapter_of_the_batch(newcomer_first: bool) -> None:
    # Two slots: one adapter goes on, one ends, and a third that waited takes its place. If it is touched
    # before the one that goes on, the slot touched longest ago is that of the one that goes on.
    early, middle, late = np.argsort(turns(3)).tolist()
    goes_on = middle
    ends, newcomer = (late, early) if newcomer_first else (early, late)
    requests = Requests(
        arrival_s=np.zeros(3),
        prompt_tokens=np.full(3, 4, dtype=np.int32),
        output_tokens=np.array([10, 2, 3], dtype=np.int32),
        adapter=np.array([goes_on, ends, newcomer], dtype=np.int32),
        n_adapters=3,
    )
    setup = EngineSetup(
        max_loras=2,
        max_cpu_loras=3,
        max_num_seqs=8,
        max_num_batched_tokens=64,
        long_prefill_token_threshold=0,
        block_size=16,
        usable_blocks=100,
        rules=SchedulerRules(),
        tables=StepTables(np.full(65, 0.5), np.zeros(3), np.zeros(3), 0.0, 0.0, 0.0, 0.0),
        gpu_load_s=np.full(3, 0.25),
        disk_load_s=np.zeros(3),
    )
    records = simulate_requests(requests, setup)
    assert records.gpu_loads[[goes_on, ends, newcomer]].tolist() == [1 + newcomer_first, 1, 1]
    # Three steps before the newcomer's first token, and the copies of the first step and of its own.
    copies = 2 + 1 + newcomer_first
    assert records.first_token_s[2] == pytest.approx(3 * 0.5 + 0.25 * copies)
