"""The invariants of twin/engine/INVARIANTS.md, by number."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from math import inf
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from twin import RunRecords, SchedulerRules, StepTables
from twin.engine import run as loop
from twin.engine.compiled.loop import advance
from twin.engine.records import SERIES
from twin.engine.run import loop_for, simulate_requests
from twin.engine.state import State, engine_constants, initial_state

SEEDS = range(150)
Cases = list[tuple[Any, RunRecords]]


@pytest.fixture(scope="module")
def played(cases: ModuleType) -> Cases:
    """Random cases with their records."""
    return [(c, play(c)) for c in map(cases.case, SEEDS)]


def play(case: Any) -> RunRecords:
    return simulate_requests(case.requests, case.setup, case.horizon_s, record_steps=True)


def series(records: RunRecords, name: str) -> float:
    return float(records.series[:, SERIES.index(name)].sum())


def rows(records: RunRecords) -> np.ndarray[Any, Any]:
    assert records.steps is not None
    return records.steps


def test_the_list_and_the_tests_agree() -> None:
    text = Path(loop.__file__).with_name("INVARIANTS.md").read_text(encoding="utf-8")
    numbers = [line.split(".")[0] for line in text.splitlines() if line[:1].isdigit()]
    tests = [name for name in globals() if name.startswith("test_invariant_")]
    assert sorted(int(n) for n in numbers) == sorted(int(name.split("_")[2]) for name in tests)


def test_the_cases_reach_every_rule(played: Cases) -> None:
    def reached(what: Callable[[Any, RunRecords], bool]) -> int:
        return sum(what(case, records) for case, records in played)

    assert reached(lambda _, r: bool(r.preemptions.any())) > 20
    assert reached(lambda _, r: bool(r.disk_loads.any())) > 20
    assert reached(lambda _, r: bool((r.sent_s > r.requests.arrival_s).any())) > 20
    assert reached(lambda c, r: bool(rows(r)[:, 2].max(initial=0) == c.setup.max_loras)) > 20
    assert reached(lambda c, r: bool(rows(r)[:, 3].max(initial=0) == c.setup.max_num_seqs)) > 20
    assert reached(lambda c, _: c.setup.long_prefill_token_threshold > 0) > 20
    assert reached(lambda _, r: not r.finished.all()) > 10


def test_invariant_1_requests(played: Cases) -> None:
    for case, records in played:
        assert len(records.finish_s) == len(case.requests)
        if case.horizon_s == inf:
            assert records.finished.all()
        cut = records.requests.arrival_s >= case.horizon_s
        assert np.isnan(records.sent_s[cut]).all()


def test_invariant_2_tokens(played: Cases) -> None:
    for case, records in played:
        done, output = records.finished, case.requests.output_tokens
        assert (records.generated_tokens[done] == output[done]).all()
        assert (records.generated_tokens[~done] < output[~done]).all()
        assert series(records, "output_tokens") == records.generated_tokens.sum()
        if done.all() and not records.preemptions.any():
            assert series(records, "prompt_tokens") == case.requests.prompt_tokens.sum()


def test_invariant_3_blocks(cases: ModuleType) -> None:
    for case in map(cases.case, SEEDS):
        s = initial_state(case.requests, case.setup, 1)
        advance(engine_constants(case.requests, case.setup, inf, 0.0, inf), s, np.empty((0, 6)))
        assert s.now["free"] == case.setup.usable_blocks
        for name in ("running", "waiting", "distinct", "decoding", "context", "partials"):
            assert s.now[name] == 0
        assert (s.due == -1).all()
        assert (s.classes["count"] == 0).all()
        assert not s.request["decoding"].any()
        assert (s.adapter["active"] == 0).all()
        assert s.now["slots_used"] == s.adapter["in_slot"].sum() <= case.setup.max_loras
        assert s.now["cpu_used"] == s.adapter["in_cpu"].sum()
        used = s.series["blocks_s"].sum()
        assert 0 <= used <= case.setup.usable_blocks * s.series["busy_s"].sum() * (1 + 1e-12)


def test_invariant_4_clock(played: Cases) -> None:
    for case, records in played:
        start = rows(records)[:, 0]
        assert (np.diff(start) >= 0).all()
        assert records.end_s <= case.horizon_s
        busy = series(records, "busy_s")
        arrivals = set(case.requests.arrival_s.tolist())
        jumps = [later for later in start.tolist() if later in arrivals]
        assert busy <= records.end_s - min(jumps, default=0.0) + 1e-9


def test_invariant_5_causality(played: Cases) -> None:
    for _, r in played:
        ended = r.finished
        moments = (r.requests.arrival_s, r.sent_s, r.first_scheduled_s, r.first_token_s, r.finish_s)
        for before, after in pairwise(moments):
            assert (before[ended] <= after[ended]).all()
        assert (r.first_scheduled_s[ended] < r.first_token_s[ended]).all()
        assert (r.finish_s[ended] <= r.end_s).all()


def test_invariant_6_limits(played: Cases) -> None:
    for case, records in played:
        setup, step = case.setup, rows(records)
        assert (step[:, 3] <= setup.max_num_seqs).all()
        assert (step[:, 1] <= setup.max_num_batched_tokens).all()
        assert (step[:, 1] >= 1).all()
        assert (step[:, 2] <= setup.max_loras).all()
        if setup.max_inflight:
            assert (step[:, 3] + step[:, 4] <= setup.max_inflight).all()


def test_invariant_7_no_idle_step(played: Cases) -> None:
    for case, records in played:
        start = rows(records)[:, 0]
        if case.horizon_s != inf or len(start) < 2:
            continue
        idle = records.end_s - start[0] - series(records, "busy_s")
        arrival, finish = case.requests.arrival_s, np.sort(records.finish_s)
        gaps = 0.0
        for k in range(1, len(arrival)):
            gaps += max(0.0, arrival[k] - finish[k - 1]) if (finish[:k] <= arrival[k]).all() else 0.0
        assert idle == pytest.approx(gaps, abs=1e-6)


def test_invariant_8_determinism(
    cases: ModuleType, cached: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for case in [cases.case(seed) for seed in range(40)] + cached[:40]:
        whole = play(case)
        again = play(case)
        monkeypatch.setattr(loop, "ROWS_PER_CALL", 7)
        in_parts = play(case)
        monkeypatch.undo()
        without_rows = simulate_requests(case.requests, case.setup, case.horizon_s)
        for other in (again, in_parts, without_rows):
            for name in ("finish_s", "first_token_s", "generated_tokens", "preemptions", "gpu_loads"):
                assert np.array_equal(getattr(whole, name), getattr(other, name), equal_nan=True)
        assert np.array_equal(rows(whole), rows(in_parts))


def test_invariant_9_past(cases: ModuleType) -> None:
    for case in map(cases.case, SEEDS):
        whole = simulate_requests(case.requests, case.setup)
        horizon = float(np.median(whole.finish_s))
        if horizon == 0:
            continue
        part = simulate_requests(case.requests, case.setup, horizon)
        early = whole.finish_s <= horizon
        assert np.array_equal(part.finished, early)
        assert np.array_equal(part.finish_s[early], whole.finish_s[early])


def test_invariant_10_loads(played: Cases) -> None:
    for case, records in played:
        started = ~np.isnan(records.first_scheduled_s)
        adapter, n = case.requests.adapter[started], case.requests.n_adapters
        admissions = np.bincount(adapter, 1 + records.preemptions[started], n)
        used = np.bincount(adapter, minlength=n) > 0
        assert ((records.gpu_loads > 0) == used).all()
        # One newcomer at most copies every slot anew.
        assert records.gpu_loads.sum() <= admissions.sum() * case.setup.max_loras
        if case.setup.max_loras >= n and case.setup.max_cpu_loras >= n:
            assert (records.gpu_loads <= 1).all()
        assert (records.disk_loads <= records.gpu_loads).all()
        if case.setup.max_cpu_loras >= n:
            assert not records.disk_loads.any()


def test_invariant_11_first_come(played: Cases) -> None:
    for case, records in played:
        for adapter in range(case.requests.n_adapters):
            mine = case.requests.adapter == adapter
            first = records.first_scheduled_s[mine]
            known = first[~np.isnan(first)]
            assert (np.diff(known) >= 0).all() or records.preemptions.any()
            assert not np.isnan(first[: len(known)]).any()


def test_invariant_12_preemption(cases: ModuleType) -> None:
    for case in map(cases.case, SEEDS):
        tight = simulate_requests(case.requests, case.setup)
        roomy = simulate_requests(case.requests, replace(case.setup, usable_blocks=100_000))
        assert not roomy.preemptions.any()
        assert np.array_equal(tight.generated_tokens, roomy.generated_tokens)
        assert series(tight, "prompt_tokens") >= series(roomy, "prompt_tokens")


@pytest.fixture(scope="module")
def cached(cases: ModuleType) -> list[Any]:
    """Engines of any version with a prefix cache, half of them ahead, and prompts that begin alike."""
    found = []
    for seed in SEEDS:
        case = cases.of_any_version(cases.case(seed) if seed % 2 else cases.crowded(seed), seed)
        ahead = seed % 4 > 1
        found.append(replace(case, setup=replace(case.setup, prefix_caching=True, async_scheduling=ahead)))
    return found


def free_queue(state: State) -> list[int]:
    """Free blocks in the order in which they are used again."""
    after, found = state.block["after"].tolist(), list[int]()
    end = len(after) - 1
    b = after[end]
    while b != end:
        found.append(b)
        b = after[b]
    return found


def findable(state: State) -> list[int]:
    """Blocks that are found by a text, each text's from the oldest on."""
    texts, younger, found = state.block["text"].tolist(), state.block["younger"].tolist(), list[int]()
    for b in state.holder[state.holder >= 0].tolist():
        text = texts[b]
        while b >= 0:
            assert texts[b] == text
            found.append(b)
            b = younger[b]
    return found


def held(state: State) -> list[int]:
    """Blocks in the tables of the running requests, as often as they stand there."""
    table, blocks, follower = (
        of[name].tolist()
        for of, name in ((state.extra, "table"), (state.extra, "blocks"), (state.request, "follower"))
    )
    found, r = list[int](), int(state.now["first"])
    while r >= 0:
        found += state.tables[table[r], : blocks[r]].tolist()
        r = follower[r]
    return found


def test_invariant_13_cached_blocks(cached: list[Any]) -> None:
    for case in cached:
        state = initial_state(case.requests, case.setup, 1)
        constants = engine_constants(case.requests, case.setup, inf, 0.0, inf)
        more = True
        while more:
            more = loop_for(case.setup, state)(constants, state, np.empty((7, 6)))
            state.now["rows"] = 0
            users = state.block["users"][:-1]
            assert np.array_equal(np.bincount(held(state), minlength=len(users)), users)
            free = free_queue(state)
            assert sorted(free) == np.flatnonzero(users == 0).tolist()
            assert state.now["free"] == len(free)
            assert sorted(findable(state)) == np.flatnonzero(state.block["text"][:-1] >= 0).tolist()
        assert state.now["free"] == case.setup.usable_blocks
        assert sorted(state.plan["free_table"][: len(state.tables)]) == list(range(len(state.tables)))


def test_invariant_14_found_tokens(cached: list[Any]) -> None:
    found = 0
    for case in cached:
        records = play(case)
        assert records.cached_tokens is not None
        assert (records.cached_tokens < case.requests.prompt_tokens).all()
        assert (records.cached_tokens % case.setup.block_size == 0).all()
        found += int(records.cached_tokens.sum())
    assert found > 10_000


def roomy(case: Any, **changes: Any) -> Any:
    """The same with tokens, requests and blocks for everything at once, and rules of 0.8.5."""
    tokens = int(case.requests.prompt_tokens.sum(dtype=np.int64)) + len(case.requests)
    adapters = np.zeros(case.requests.n_adapters + 1)
    setup = replace(
        case.setup,
        max_num_seqs=len(case.requests),
        max_num_batched_tokens=tokens,
        long_prefill_token_threshold=0,
        usable_blocks=100_000,
        rules=SchedulerRules(),
        tables=StepTables(0.01 + 1e-4 * np.arange(tokens + 1.0), adapters, adapters),
        max_inflight=0,
        **changes,
    )
    return replace(case, setup=setup, horizon_s=inf)


def test_invariant_15_base_model(cases: ModuleType) -> None:
    waited = 0
    for seed in SEEDS:
        case = cases.case(seed)
        base = np.arange(case.requests.n_adapters) % 2 == 0
        case = roomy(case, base=base, max_loras=1)
        records = play(case)
        assert not records.gpu_loads[base].any()
        assert not records.disk_loads[base].any()
        of_base, start = base[case.requests.adapter], rows(records)[:, 0]
        next_step = start[np.searchsorted(start, records.sent_s)]
        assert np.array_equal(records.first_scheduled_s[of_base], next_step[of_base])
        waited += int((records.first_scheduled_s > next_step)[~of_base].sum())
    assert waited > 100


def test_invariant_16_followers(cases: ModuleType) -> None:
    for seed in SEEDS:
        case = cases.case(seed)
        n = len(case.requests)
        first = n - n // 2
        follows = np.append(np.full(first, -1), np.random.default_rng(seed).permutation(first)[: n - first])
        requests = replace(
            case.requests,
            arrival_s=np.where(follows < 0, case.requests.arrival_s, 0.25),
            prompt_tokens=np.arange(1, n + 1, dtype=np.int32),  # by which each is known in the records
            follows=follows.astype(np.int32),
        )
        records = simulate_requests(requests, replace(case.setup, usable_blocks=100_000), case.horizon_s)
        number = records.requests.prompt_tokens - 1
        finish, sent = np.full((2, n), np.nan)
        finish[number], sent[number] = records.finish_s, records.sent_s
        later = np.flatnonzero((follows >= 0) & ~np.isnan(sent))
        assert (sent[later] >= finish[follows[later]] + 0.25).all()
        if case.horizon_s == inf:
            assert len(number) == n


def test_invariant_17_steps_under_way(cases: ModuleType) -> None:
    ahead = 0
    for case in map(cases.case, SEEDS):
        for async_scheduling in (False, True):
            records = play(roomy(case, async_scheduling=async_scheduling, max_loras=10))
            start = rows(records)[:, 0]
            assert np.isin(records.first_scheduled_s, start).all()
            # Whole prompts are computed in one step, which gives the first token.
            begun = np.searchsorted(start, (records.first_scheduled_s, records.first_token_s))
            steps = begun[1] - begun[0]
            assert ((steps >= 1) & (steps <= 1 + async_scheduling)).all()
            ahead += int((steps == 2).sum())
    assert ahead > 100
