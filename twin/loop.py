"""The scheduler of vLLM's V1 engine, step by step, compiled."""

from __future__ import annotations

from math import inf, log2

import numpy as np
from numba import njit

from scenarios.errors import LorapackError
from twin.records import GAP_BINS, GAP_BINS_PER_OCTAVE, GAP_FIRST_S, STEP_COLUMNS, RunRecords
from twin.requests import FloatArray, IntArray, Requests
from twin.setup import EngineSetup
from twin.state import (
    CLOCK,
    DISTINCT,
    FREE,
    HEAD,
    NEXT,
    ROWS,
    RUNNING,
    TAIL,
    WAITING,
    Engine,
    State,
    engine,
    state,
)

ROWS_PER_CALL = 65_536


class UnservableRequestError(LorapackError, ValueError):
    """A request needs more KV blocks than the engine has."""


def run(
    requests: Requests,
    setup: EngineSetup,
    horizon_s: float = inf,
    *,
    warmup_s: float = 0.0,
    series_bins: int = 120,
    record_steps: bool = False,
) -> RunRecords:
    """Play requests on one engine.

    Parameters
    ----------
    requests
        In arrival order.
    setup
        The engine.
    horizon_s
        Seconds after which the run is cut; what is unfinished then is censored.
    warmup_s
        The histogram of gaps leaves out what happened before.
    series_bins
        Parts into which the time series cuts the time to the horizon.
    record_steps
        Whether to keep one row per step.

    Raises
    ------
    UnservableRequestError
        If a request would need more KV blocks than there are, so that the engine could never serve it.
    """
    _check(requests, setup)
    width = horizon_s / series_bins
    constants = engine(requests, setup, horizon_s, warmup_s, width)
    s = state(requests, setup, series_bins)
    rows = np.empty((ROWS_PER_CALL if record_steps else 0, len(STEP_COLUMNS)))
    parts = []
    while play(constants, s, rows):
        parts.append(rows[: s.count[ROWS]].copy())
        s.count[ROWS] = 0
    parts.append(rows[: s.count[ROWS]].copy())
    return RunRecords(
        requests=requests,
        horizon_s=horizon_s,
        end_s=float(s.real[CLOCK]),
        sent_s=s.sent,
        first_scheduled_s=s.first_scheduled,
        first_token_s=s.first_token,
        finish_s=s.finish,
        generated_tokens=s.generated,
        preemptions=s.preemptions,
        gpu_loads=s.gpu_loads,
        disk_loads=s.disk_loads,
        gaps=s.gaps,
        series=s.series,
        series_width_s=width,
        steps=np.concatenate(parts) if record_steps else None,
    )


def _check(requests: Requests, setup: EngineSetup) -> None:
    if not len(requests):
        return
    longest = requests.prompt_tokens.astype(np.int64) + requests.output_tokens - 1
    worst = int(np.argmax(longest))
    need = -(-int(longest[worst]) // setup.block_size)
    if need > setup.usable_blocks:
        raise UnservableRequestError(
            f"request {worst} has {requests.prompt_tokens[worst]} prompt and "
            f"{requests.output_tokens[worst]} output tokens and needs {need} KV blocks, but the engine has "
            f"{setup.usable_blocks}; shorten it or leave more memory for the KV cache"
        )


@njit(cache=True)
def play(e: Engine, s: State, rows: FloatArray) -> bool:
    """Run until the end, or until ``rows`` is full (then True, and it may be called again)."""
    n, clock = s.count, s.real
    while True:
        if len(rows) and n[ROWS] == len(rows):
            return True
        if n[RUNNING] + n[WAITING] == 0:
            if n[NEXT] == len(e.arrival):
                return False
            clock[CLOCK] = max(clock[CLOCK], e.arrival[n[NEXT]])
        if clock[CLOCK] >= e.horizon_s:
            clock[CLOCK] = e.horizon_s
            return False
        receive(e, s)
        seconds = step(e, s, rows)
        if clock[CLOCK] + seconds > e.horizon_s:
            clock[CLOCK] = e.horizon_s
            return False
        clock[CLOCK] += seconds
        advance(e, s, seconds)


@njit(cache=True)
def receive(e: Engine, s: State) -> None:
    """Queue what has arrived, up to the client's cap."""
    n, clock = s.count, s.real[CLOCK]
    while n[NEXT] < len(e.arrival) and e.arrival[n[NEXT]] <= clock:
        if e.max_inflight > 0 and n[RUNNING] + n[WAITING] >= e.max_inflight:
            return
        r = n[NEXT]
        s.sent[r] = e.arrival[r]
        if n[TAIL] < 0:
            n[HEAD] = r
        else:
            s.follower[n[TAIL]] = r
        n[TAIL] = r
        n[NEXT] += 1
        n[WAITING] += 1


@njit(cache=True)
def step(e: Engine, s: State, rows: FloatArray) -> float:
    """Schedule one step and return how long it takes."""
    n = s.count
    threshold = e.threshold
    if threshold == 0 or (e.lone_ignores_threshold and n[RUNNING] + n[WAITING] <= 1):
        threshold = e.budget
    before = n[RUNNING]
    for k in range(before):
        s.chunk[s.batch[k]] = 0
    budget = schedule_running(e, s, threshold)
    preempted = before - n[RUNNING]
    loads = 0.0
    if preempted == 0:
        budget, loads = schedule_waiting(e, s, budget, threshold)
    total = e.budget - budget
    adapters = 0
    decodes = 0
    context = 0
    for k in range(n[RUNNING]):
        r = s.batch[k]
        if s.chunk[r] == 0:
            continue
        if s.generated[r] > 0 and s.computed[r] + 1 == e.prompt[r] + s.generated[r]:
            decodes += 1
            context += s.computed[r] + 1
        seen = False
        for j in range(k):
            if s.chunk[s.batch[j]] > 0 and e.adapter[s.batch[j]] == e.adapter[r]:
                seen = True
                break
        if not seen:
            adapters += 1
    if len(rows):
        row = rows[n[ROWS]]
        row[0], row[1], row[2] = s.real[CLOCK], total, adapters
        row[3], row[4], row[5] = n[RUNNING], n[WAITING], preempted
        n[ROWS] += 1
    return loads + (
        e.token_s[total]
        + e.adapter_s[adapters]
        + e.adapter_token_s[adapters] * total
        + e.decode_s * decodes
        + e.prefill_s * (total - decodes)
        + e.context_s * context
        + e.waiting_s * n[WAITING]
    )


@njit(cache=True)
def blocks_for(e: Engine, tokens: int) -> int:
    return (tokens + e.block_size - 1) // e.block_size


@njit(cache=True)
def schedule_running(e: Engine, s: State, threshold: int) -> int:
    n = s.count
    budget = e.budget
    k = 0
    while k < n[RUNNING] and budget > 0:
        r = s.batch[k]
        tokens = min(e.prompt[r] + s.generated[r] - s.computed[r], threshold, budget)
        need = blocks_for(e, s.computed[r] + tokens) - s.blocks[r]
        while need > n[FREE]:
            victim = s.batch[n[RUNNING] - 1]
            preempt(e, s, victim)
            if victim == r:
                return budget
        n[FREE] -= need
        s.blocks[r] += need
        s.chunk[r] = tokens
        budget -= tokens
        k += 1
    return budget


@njit(cache=True)
def preempt(e: Engine, s: State, r: int) -> None:
    n = s.count
    n[RUNNING] -= 1
    n[WAITING] += 1
    n[FREE] += s.blocks[r]
    s.blocks[r] = 0
    s.computed[r] = 0
    s.preemptions[r] += 1
    leave(e, s, r)
    s.follower[r] = n[HEAD]
    n[HEAD] = r
    if n[TAIL] < 0:
        n[TAIL] = r


@njit(cache=True)
def leave(e: Engine, s: State, r: int) -> None:
    a = e.adapter[r]
    s.active[a] -= 1
    if s.active[a] == 0:
        s.count[DISTINCT] -= 1
        stamp = max(s.slot_stamp.max(), s.cpu_stamp.max()) + 1
        s.slot_stamp[a] = stamp
        s.cpu_stamp[a] = stamp


@njit(cache=True)
def schedule_waiting(e: Engine, s: State, budget: int, threshold: int) -> tuple[int, float]:
    n = s.count
    before = -1
    r = n[HEAD]
    first = n[RUNNING]
    while r >= 0 and budget > 0 and n[RUNNING] < e.max_num_seqs:
        after = s.follower[r]
        a = e.adapter[r]
        if n[DISTINCT] == e.max_loras and s.active[a] == 0:
            before = r
            r = after
            continue
        tokens = min(e.prompt[r] + s.generated[r], threshold, budget)
        need = blocks_for(e, tokens)
        whole = blocks_for(e, e.prompt[r] + s.generated[r]) if e.reserve_full_isl else need
        kept = e.watermark_blocks if n[RUNNING] > 0 else 0
        if whole + kept > n[FREE]:
            break
        if before < 0:
            n[HEAD] = after
        else:
            s.follower[before] = after
        if n[TAIL] == r:
            n[TAIL] = before
        s.follower[r] = -1
        n[WAITING] -= 1
        s.batch[n[RUNNING]] = r
        n[RUNNING] += 1
        if s.active[a] == 0:
            n[DISTINCT] += 1
        s.active[a] += 1
        n[FREE] -= need
        s.blocks[r] = need
        s.chunk[r] = tokens
        budget -= tokens
        if np.isnan(s.first_scheduled[r]):
            s.first_scheduled[r] = s.real[CLOCK]
        r = after
    loads = 0.0
    for k in range(first, n[RUNNING]):
        loads += load(e, s, e.adapter[s.batch[k]])
    return budget, loads


@njit(cache=True)
def load(e: Engine, s: State, a: int) -> float:
    """Bring an adapter into a slot; seconds."""
    seconds = 0.0
    if s.cpu_stamp[a] < 0:
        evict(s.cpu_stamp, s.slot_stamp, s.active, e.max_cpu_loras)
        s.cpu_stamp[a] = s.cpu_stamp.max() + 1
        s.disk_loads[a] += 1
        seconds += e.disk_load_s[a]
    if s.slot_stamp[a] < 0:
        evict(s.slot_stamp, s.slot_stamp, s.active, e.max_loras)
        s.slot_stamp[a] = s.slot_stamp.max() + 1
        s.gpu_loads[a] += 1
        seconds += e.gpu_load_s[a]
    return seconds


@njit(cache=True)
def evict(stamps: IntArray, slots: IntArray, active: IntArray, capacity: int) -> None:
    held = 0
    oldest = -1
    for a in range(len(stamps)):
        if stamps[a] >= 0:
            held += 1
            if active[a] == 0 and (oldest < 0 or stamps[a] < stamps[oldest]):
                oldest = a
    if held >= capacity:
        stamps[oldest] = -1
        slots[oldest] = -1


@njit(cache=True)
def advance(e: Engine, s: State, seconds: float) -> None:
    n, clock = s.count, s.real[CLOCK]
    kept = 0
    for k in range(n[RUNNING]):
        r = s.batch[k]
        s.computed[r] += s.chunk[r]
        s.batch[kept] = r
        kept += 1
        if s.chunk[r] == 0 or s.computed[r] < e.prompt[r] + s.generated[r]:
            continue
        s.generated[r] += 1
        if s.generated[r] == 1:
            s.first_token[r] = clock
        elif clock >= e.warmup_s:
            s.gaps[gap_bin(seconds)] += 1
        if s.generated[r] == e.output[r]:
            s.finish[r] = clock
            n[FREE] += s.blocks[r]
            s.blocks[r] = 0
            leave(e, s, r)
            kept -= 1
    n[RUNNING] = kept


@njit(cache=True)
def gap_bin(seconds: float) -> int:
    if seconds <= GAP_FIRST_S:
        return 0
    return min(int(log2(seconds / GAP_FIRST_S) * GAP_BINS_PER_OCTAVE), GAP_BINS - 1)
