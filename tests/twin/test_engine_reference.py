"""The compiled loop agrees with the plain reference on random engines and workloads."""

from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.slow import slow
from twin import EngineSetup, Requests, SchedulerRules, StepTables
from twin.engine.records import SERIES
from twin.engine.run import simulate_requests
from twin.engine.state import turns

AHEAD = (*range(50), 69)
"""Workloads that are always scheduled ahead; in the last a request arrives at the very start of a step."""

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


def agree_ahead(reference: ModuleType, case: Any) -> None:
    """The same where steps are scheduled ahead, but for the instants at which requests are scheduled."""
    expected = reference.Reference(case.requests, case.setup, case.horizon_s).run()
    got = simulate_requests(case.requests, case.setup, case.horizon_s, record_steps=True)
    assert got.steps is not None
    began = [row for row in expected.rows if row[0] < case.horizon_s]
    assert [tuple(map(int, row[1:])) for row in got.steps] == [row[1:] for row in began]
    np.testing.assert_allclose(got.steps[:, 0], [row[0] for row in began], **CLOSE)
    for name, values in (("first_token", got.first_token_s), ("finish", got.finish_s)):
        np.testing.assert_allclose(values, [getattr(r, name) for r in expected.requests], **CLOSE)
    if np.isinf(case.horizon_s):
        assert got.preemptions.tolist() == [r.preemptions for r in expected.requests]
        if case.setup.prefix_caching:
            assert got.cached_tokens is not None
            assert got.cached_tokens.tolist() == [r.cached for r in expected.requests]
        tokens = dict(zip(SERIES, got.series.sum(axis=0), strict=True))["output_tokens"]
        assert tokens == case.requests.output_tokens.sum()


@given(seed=st.integers(min_value=0, max_value=2**32 - 1))
@settings(max_examples=50, deadline=None)
def test_random_cases(reference: ModuleType, cases: ModuleType, seed: int) -> None:
    agree(reference, cases.case(seed))


@pytest.mark.slow
@given(seed=st.integers(min_value=0, max_value=2**32 - 1))
@settings(max_examples=300, deadline=None)
def test_many_random_cases(reference: ModuleType, cases: ModuleType, seed: int) -> None:
    agree(reference, cases.case(seed))


@pytest.mark.parametrize("seed", [*range(40), *slow(range(40, 100))])
def test_fixed_cases(reference: ModuleType, cases: ModuleType, seed: int) -> None:
    agree(reference, cases.case(seed))


@pytest.mark.parametrize("seed", [*range(25), *slow(range(25, 60))])
def test_more_adapters_than_slots(reference: ModuleType, cases: ModuleType, seed: int) -> None:
    agree(reference, cases.crowded(seed))


@pytest.mark.parametrize("seed", range(4))
def test_the_cpu_keeps_as_many_adapters_as_there_are_slots_whatever_is_said(
    reference: ModuleType, cases: ModuleType, seed: int
) -> None:
    case = cases.crowded(seed)
    said, kept = (
        replace(case, setup=replace(case.setup, max_cpu_loras=n)) for n in (1, case.setup.max_loras)
    )
    agree(reference, said)
    runs = [simulate_requests(one.requests, one.setup) for one in (said, kept)]
    assert runs[0].disk_loads.tolist() == runs[1].disk_loads.tolist()


@pytest.mark.parametrize("seed", [*range(40), *slow(range(40, 100))])
def test_rules_of_any_version_with_texts_and_base_model(
    reference: ModuleType, cases: ModuleType, seed: int
) -> None:
    agree(reference, cases.of_any_version(cases.case(seed) if seed % 2 else cases.crowded(seed), seed))


@pytest.mark.parametrize("ahead", [False, True])
@pytest.mark.parametrize("seeds", [range(100), *slow([range(100, 500)])])
def test_a_prompt_that_begins_with_an_answer_under_way_is_admitted_in_the_same_step(
    reference: ModuleType, cases: ModuleType, seeds: range, ahead: bool
) -> None:
    """While it waits for blocks, each that the answer fills is one that it needs no more."""
    for seed in seeds:
        case = cases.overheard(seed)
        compare = agree_ahead if ahead else agree
        compare(reference, replace(case, setup=replace(case.setup, async_scheduling=ahead)))


@pytest.mark.parametrize("seed", [*AHEAD, *slow(sorted({*range(150)} - {*AHEAD}))])
def test_steps_that_are_scheduled_ahead(reference: ModuleType, cases: ModuleType, seed: int) -> None:
    """Adapters cost nothing to load here: which of them a step needs, the recordings do not tell."""
    rng = np.random.default_rng(seed)
    case = cases.of_any_version(cases.case(seed) if seed % 2 else cases.crowded(seed), seed)
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
    agree_ahead(reference, replace(case, setup=setup))


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
