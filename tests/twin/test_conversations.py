"""Requests that are sent after an answer: conversations, and users in a closed loop."""

from __future__ import annotations

import heapq

import numpy as np
import pytest
from scipy import stats

from scenarios import (
    Adapter,
    Arrivals,
    ClosedLoopArrivals,
    FixedLengths,
    HyperexponentialArrivals,
    LognormalLengths,
    PromptReuse,
    Sessions,
    Workload,
)
from twin import GPULoad, Requests, WorkloadError, draw_requests
from twin.engine.requests import FloatArray
from twin.simulate import fit_lengths
from twin.workload.lengths import draw_lengths

PROMPT, OUTPUT = LognormalLengths(mean=80, std=60, max=400), LognormalLengths(mean=50, std=40, max=300)
CALM = Workload(prompt=PROMPT, output=OUTPUT, duration_s=2000.0)


def _load(rates: list[float], arrivals: Arrivals | None = None, reuse: PromptReuse | None = None) -> GPULoad:
    n = len(rates)
    return GPULoad(
        names=tuple(f"a{k}" for k in range(n)),
        rank=np.full(n, 8, dtype=np.int32),
        rate=np.array(rates, dtype=np.float64),
        prompt=(PROMPT,) * n,
        output=(OUTPUT,) * n,
        arrivals=(arrivals,) * n,
        reuse=(reuse,) * n,
    )


def _follows(requests: Requests) -> list[int]:
    assert requests.follows is not None
    return [int(k) for k in requests.follows]


def _sent(requests: Requests, seconds: FloatArray, servers: int | None = None) -> FloatArray:
    """When each request is sent if it is answered in so many seconds, by one of so many servers in turn."""
    follows = _follows(requests)
    after = {before: k for k, before in enumerate(follows) if before >= 0}
    assert len(after) == sum(before >= 0 for before in follows)  # no request has two followers
    sent = np.full(len(requests), np.nan)
    waiting = [(float(at), k) for k, at in enumerate(requests.arrival_s) if follows[k] < 0]
    heapq.heapify(waiting)
    free = [0.0] * (servers or 0)
    while waiting:
        at, k = heapq.heappop(waiting)
        sent[k] = at
        begins = max(at, heapq.heappop(free)) if servers else at
        if servers:
            heapq.heappush(free, begins + seconds[k])
        if k in after:
            later = after[k]
            heapq.heappush(waiting, (begins + seconds[k] + float(requests.arrival_s[later]), later))
    return sent


def _check_form(requests: Requests) -> None:
    """Those that follow none come first, by arrival; whatever is continued is the request before."""
    alone = np.array(_follows(requests)) < 0
    n = int(alone.sum())
    assert alone[:n].all()
    assert np.all(np.diff(requests.arrival_s[:n]) >= 0)
    assert np.all(requests.arrival_s >= 0)


# --- users -----------------------------------------------------------------------------------------------


def test_users_send_what_they_can_where_answers_take_no_time() -> None:
    """A Poisson process, whose chains of requests do not end before the time does."""
    drawn = draw_requests(_load([1.5, 0.5], ClosedLoopArrivals(users=30, think_s=20)), CALM, 0)
    _check_form(drawn)
    sent = np.sort(_sent(drawn, np.zeros(len(drawn))))
    assert sent[-1] < 2000
    for adapter, rate in enumerate((1.5, 0.5)):
        users = int(np.sum((np.array(_follows(drawn)) < 0) & (drawn.adapter == adapter)))
        assert users == rate * 20
    assert stats.kstest(np.diff(sent) * 2.0, "expon").pvalue > 0.001
    last = np.sum(sent > 1500) / 500
    assert last == pytest.approx(2.0, abs=4 * np.sqrt(2.0 / 500))


def test_users_wait_for_their_answers() -> None:
    """Each sends one request in a time to think and one to be answered."""
    drawn = draw_requests(_load([1.5], ClosedLoopArrivals(users=30, think_s=20)), CALM, 1)
    sent = _sent(drawn, np.full(len(drawn), 10.0))
    rate = np.sum((sent > 200) & (sent < 2000)) / 1800
    assert rate == pytest.approx(30 / (20 + 10), rel=0.05)


@pytest.mark.parametrize("users", [3, 12])
def test_users_of_one_server_get_the_throughput_of_the_machine_repair_model(users: int) -> None:
    """The M/M/1 queue of N sources (Gross et al., Fundamentals of Queueing Theory, section 2.8)."""
    think, service = 10.0, 1.0
    load = _load([users / think], ClosedLoopArrivals(users=users, think_s=think))
    drawn = draw_requests(load, CALM, 2, 2e4)
    seconds = np.random.default_rng(9).exponential(service, len(drawn))
    sent = _sent(drawn, seconds, servers=1)
    weights = [1.0]
    for busy in range(users):
        weights.append(weights[-1] * (users - busy) * service / think)
    throughput = (1 - weights[0] / sum(weights)) / service
    assert np.sum(sent < 2e4) / 2e4 == pytest.approx(throughput, rel=0.03)


def test_more_load_is_more_users_and_a_split_adapter_keeps_its_thinking() -> None:
    process = ClosedLoopArrivals(users=40, think_s=30)
    for factor, users in ((1.0, 40), (1.05, 42), (0.5, 20), (0.01, 1)):
        drawn = draw_requests(_load([40 / 30 * factor], process), CALM, 3)
        alone = np.array(_follows(drawn)) < 0
        assert int(alone.sum()) <= users
        assert len(drawn) == pytest.approx(40 / 30 * factor * 2000, abs=5 * np.sqrt(40 / 30 * 2000 * factor))


def test_an_entry_of_users_has_the_rate_of_its_users() -> None:
    entry = Adapter(name="a", count=2, rank=8, rate=None, arrivals=ClosedLoopArrivals(users=6, think_s=12))
    assert entry.rates() == (0.5, 0.5)


# --- conversations ------------------------------------------------------------------------------------------

CHAT = Sessions(turns=5, think_s=60.0)


def _slow_conversations(rate: float, seed: int) -> tuple[list[float], list[int]]:
    """Instants and prompts of conversations that began long before, one by one."""
    rng = np.random.default_rng(seed)
    at, prompts, start = [], [], -3000.0
    while start < 2000:
        start += rng.exponential(CHAT.turns / rate)
        clock, said = start, 0
        for _ in range(CHAT.turns):
            said += int(draw_lengths(PROMPT, 1, rng)[0])
            if 0 <= clock < 2000:
                at.append(clock)
                prompts.append(said)
            said += int(draw_lengths(OUTPUT, 1, rng)[0])
            clock += rng.exponential(CHAT.think_s)
    return at, prompts


@pytest.mark.slow
def test_conversations_are_as_if_they_had_always_been_going_on() -> None:
    """Rates by part of the time, and prompts, agree with those of an independent simulation."""
    fast, slow, prompts, slow_prompts = [], [], [], []
    for seed in range(30):
        drawn = draw_requests(_load([2.0], reuse=PromptReuse(sessions=CHAT)), CALM, seed)
        _check_form(drawn)
        fast.append(np.histogram(_sent(drawn, np.zeros(len(drawn))), 8, (0, 2000))[0])
        prompts.append(drawn.prompt_tokens.mean())
        at, tokens = _slow_conversations(2.0, 100 + seed)
        slow.append(np.histogram(at, 8, (0, 2000))[0])
        slow_prompts.append(np.mean(tokens))
    noise = np.std(fast, axis=0, ddof=1) / np.sqrt(30)
    assert np.all(np.abs(np.mean(fast, axis=0) - 500) < 4 * noise)
    assert np.all(np.abs(np.mean(fast, axis=0) - np.mean(slow, axis=0)) < 5.5 * noise)
    assert stats.ttest_ind(prompts, slow_prompts).pvalue > 0.001
    mean = PromptReuse(sessions=CHAT).mean_prompt_tokens(PROMPT.mean_tokens, OUTPUT.mean_tokens)
    assert abs(np.mean(prompts) - mean) < 4 * np.std(prompts, ddof=1) / np.sqrt(30)


def test_each_turn_begins_with_all_that_was_said() -> None:
    drawn = draw_requests(_load([2.0, 1.0], reuse=PromptReuse(100, CHAT)), CALM, 0)
    assert drawn.continues is not None
    assert drawn.common_tokens is not None
    n, later = len(drawn), np.flatnonzero(np.array(_follows(drawn)) >= 0)
    before = drawn.continues[later]
    assert np.array_equal(before, np.array(_follows(drawn))[later])
    assert np.array_equal(drawn.adapter[before], drawn.adapter[later])
    assert np.array_equal(
        drawn.common_tokens[later], drawn.prompt_tokens[before] + drawn.output_tokens[before]
    )
    assert np.all(drawn.prompt_tokens[later] > drawn.common_tokens[later])
    alone = np.setdiff1d(np.arange(n), later)
    assert np.array_equal(drawn.continues[alone], n + drawn.adapter[alone])
    assert set(drawn.common_tokens[alone]) == {100}


def test_think_times_are_exponential_and_a_slow_answer_delays_what_follows() -> None:
    drawn = draw_requests(_load([20.0], reuse=PromptReuse(sessions=CHAT)), CALM, 5)
    follows = np.array(_follows(drawn))
    sent, slow = (_sent(drawn, np.full(len(drawn), seconds)) for seconds in (0.0, 7.0))
    later = np.flatnonzero(follows >= 0)
    assert np.all(sent < 2000)
    assert np.all(slow[later] >= sent[later] + 7.0 - 1e-9)
    early = later[sent[follows[later]] < 1000]  # which the end of the time has not chosen
    assert stats.kstest(drawn.arrival_s[early] / 60, "expon").pvalue > 0.001


def test_conversations_that_last_for_years_are_refused() -> None:
    endless = PromptReuse(sessions=Sessions(turns=1000, think_s=86_400))
    with pytest.raises(WorkloadError, match=r"1,726,312,000 requests .* are above the limit"):
        draw_requests(_load([20.0], reuse=endless), CALM, 0)


def test_more_users_than_fit_in_memory_are_refused() -> None:
    crowd = ClosedLoopArrivals(users=1_000_000, think_s=86_400)
    with pytest.raises(WorkloadError, match=r"requests .* are above the limit"):
        draw_requests(_load([crowd.rate] * 100, crowd), CALM, 0)


def test_conversations_without_thought_follow_each_other_at_once() -> None:
    drawn = draw_requests(_load([2.0], reuse=PromptReuse(sessions=Sessions(turns=3, think_s=0))), CALM, 0)
    follows = np.array(_follows(drawn))
    assert len(drawn) == 3 * np.sum(follows < 0)
    assert set(drawn.arrival_s[follows >= 0]) == {0.0}


def test_conversations_beyond_what_the_engine_takes_are_cut_consistently() -> None:
    cut = fit_lengths(draw_requests(_load([2.0], reuse=PromptReuse(200, CHAT)), CALM, 0), 600)
    assert cut.common_tokens is not None
    assert cut.continues is not None
    assert int((cut.prompt_tokens + cut.output_tokens).max()) == 600
    assert np.all(cut.common_tokens[: len(cut)] <= cut.prompt_tokens)
    later = np.flatnonzero(np.array(_follows(cut)) >= 0)
    before = cut.continues[later]
    assert np.all(cut.common_tokens[later] <= cut.prompt_tokens[before] + cut.output_tokens[before])


# --- together --------------------------------------------------------------------------------------


def test_users_conversations_and_others_share_a_gpu() -> None:
    """What each is sent is what it is sent alone; numbers of requests are those among all."""
    users, bursts = ClosedLoopArrivals(users=20, think_s=10), HyperexponentialArrivals(cv=3)
    parts = [_load([2.0], users), _load([1.0], None, PromptReuse(50, CHAT)), _load([3.0], bursts)]
    whole = GPULoad(
        names=("users", "chats", "bursts"),
        rank=np.array([8, 0, 8], dtype=np.int32),
        rate=np.array([2.0, 1.0, 3.0]),
        prompt=(PROMPT,) * 3,
        output=(OUTPUT,) * 3,
        arrivals=(users, None, bursts),
        reuse=(None, PromptReuse(50, CHAT), None),
    )
    drawn = draw_requests(whole, CALM, 11)
    _check_form(drawn)
    sent = _sent(drawn, drawn.output_tokens * 0.01)
    for k, part in enumerate(parts):
        alone = draw_requests(part, CALM, 11)
        own = drawn.adapter == k
        expected = alone.arrival_s if alone.follows is None else _sent(alone, alone.output_tokens * 0.01)
        assert np.array_equal(np.sort(sent[own]), np.sort(expected))
    assert drawn.continues is not None
    assert len(drawn.continues) == len(drawn) + 3
    continues = drawn.continues[: len(drawn)]
    assert np.array_equal(continues >= 0, drawn.adapter == 1)
    assert set(continues[continues >= len(drawn)]) == {len(drawn) + 1}


def test_fixed_lengths_of_a_conversation_add_up() -> None:
    load = GPULoad(
        names=("a",),
        rank=np.array([8], dtype=np.int32),
        rate=np.array([3.0]),
        prompt=(FixedLengths(tokens=10),),
        output=(FixedLengths(tokens=5),),
        reuse=(PromptReuse(sessions=CHAT),),
    )
    assert set(draw_requests(load, CALM, 0).prompt_tokens) == {10, 25, 40, 55, 70}
