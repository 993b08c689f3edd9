"""The engine's life, compiled: arrivals, steps and the clock."""

from __future__ import annotations

from twin.engine.batch import blocks_for, count_gap, finish, finish_due, next_decode_step, start_decoding
from twin.engine.compilation import cached, compiled
from twin.engine.queues import receive
from twin.engine.requests import FloatArray
from twin.engine.scheduler import postpone_rest, schedule
from twin.engine.slots import load_pending
from twin.engine.state import Engine, Record, State


@compiled
def play(e: Engine, s: State, rows: FloatArray) -> bool:
    """Run until the end, or until ``rows`` is full (then True, and it may be called again)."""
    n = s.now
    while True:
        if rows_full(s, rows):
            return True
        if n.running + n.waiting == 0:
            if n.next == e.requests:
                break
            n.clock = max(n.clock, n.arrival)
        if n.clock >= e.horizon_s:
            break
        receive(e, s)
        schedule(e, s)
        if n.planned == 0 and n.step_preempted == 0 and n.step_decodes == n.running:
            fast_forward(e, s, rows)
        else:
            step(e, s, rows)
    n.clock = min(n.clock, e.horizon_s)
    close(s)
    return False


@compiled
def step(e: Engine, s: State, rows: FloatArray) -> None:
    """Do the step that was scheduled."""
    n, part = s.now, series_part(e, s)
    write_row(s, rows)
    loading = load_pending(e, s, part)
    queue = e.context_s * n.step_context + e.waiting_s * n.waiting
    seconds = loading + (fixed_cost(e, s) + queue)
    n.clock += seconds
    if n.clock > e.horizon_s:
        return
    part.load_s += loading
    part.blocks_s += (e.usable_blocks - n.free) * seconds
    part.prompt_tokens += n.step_prefill
    part.preemptions += n.step_preempted
    count_time(s, part, 1, seconds)
    count_gap(e, s, seconds, n.step_decodes)
    postpone_rest(e, s)
    next_decode_step(e, s)
    finish_due(e, s)
    part.output_tokens += n.step_decodes + settle_plan(e, s)


@compiled
def settle_plan(e: Engine, s: State) -> int:
    """Credit the prefill tokens of the step; return how many requests caught up and got a token."""
    n = s.now
    kept = 0
    for k in range(n.planned):
        r = s.plan[k].request
        q = s.request[r]
        q.computed += s.plan[k].chunk
        if q.computed < q.prompt + q.generated:
            s.plan[kept].request = r
            kept += 1
            continue
        q.generated += 1
        if q.generated == 1:
            q.first_token = n.clock
        else:
            count_gap(e, s, n.clock - q.paused, 1)
        if q.generated == q.output:
            finish(e, s, r, blocks_for(e, q.computed))
        else:
            start_decoding(e, s, r)
    n.partials = kept
    return int(n.planned - kept)


@compiled
def fast_forward(e: Engine, s: State, rows: FloatArray) -> None:
    """Do the step that was scheduled, and equal ones after it while nothing but time passes.

    All running requests decode and no waiting one can be admitted: that stays so until a request ends
    or arrives, or blocks run out. The blocks of the first step are taken already.
    """
    n, part = s.now, series_part(e, s)
    fixed, queue = fixed_cost(e, s), e.waiting_s * n.waiting
    first, start, cut = n.decode_steps, n.clock, False
    until = min(n.arrival, series_end(e, s))
    while True:
        write_row(s, rows)
        seconds = fixed + (e.context_s * n.context + queue)
        cut = n.clock + seconds > e.horizon_s
        if cut:
            break
        n.clock += seconds
        n.steps += 1
        part.blocks_s += (e.usable_blocks - n.free) * seconds
        count_gap(e, s, seconds, n.step_decodes)
        next_decode_step(e, s)
        if s.due[n.decode_steps & (len(s.due) - 1)] >= 0 or n.clock >= until:
            break
        if s.classes[n.phase] > n.free or rows_full(s, rows):
            break
        n.free -= s.classes[n.phase]
    count_time(s, part, n.decode_steps - first, n.clock - start)
    part.output_tokens += (n.decode_steps - first) * n.step_decodes
    finish_due(e, s)
    if cut:
        n.clock = e.horizon_s


@compiled
def fixed_cost(e: Engine, s: State) -> float:
    """Seconds of the step without what its context, the queue and loads cost."""
    n = s.now
    tokens = n.step_decodes + n.step_prefill
    return float(
        s.token_s[tokens]
        + s.adapter_s[n.step_adapters]
        + s.adapter_token_s[n.step_adapters] * tokens
        + e.decode_s * n.step_decodes
        + e.prefill_s * n.step_prefill
    )


@compiled
def series_part(e: Engine, s: State) -> Record:
    """Part of the time series that a step starting now belongs to."""
    return s.series[min(int(s.now.clock / e.series_width_s), len(s.series) - 1)]


@compiled
def series_end(e: Engine, s: State) -> float:
    """End of that part."""
    return float((int(s.now.clock / e.series_width_s) + 1) * e.series_width_s)


@compiled
def count_time(s: State, part: Record, steps: int, seconds: float) -> None:
    """Add the time of steps to the time series."""
    n = s.now
    part.steps += steps
    part.busy_s += seconds
    part.running_s += n.running * seconds
    part.waiting_s += n.waiting * seconds
    part.adapters_s += n.step_adapters * seconds


@compiled
def rows_full(s: State, rows: FloatArray) -> bool:
    """Whether step rows are wanted and there is no space for one more."""
    return len(rows) > 0 and s.now.rows == len(rows)


@compiled
def write_row(s: State, rows: FloatArray) -> None:
    """Record the step, if records are wanted."""
    n = s.now
    if len(rows) == 0:
        return
    rows[n.rows, 0] = n.clock
    rows[n.rows, 1] = n.step_decodes + n.step_prefill
    rows[n.rows, 2] = n.step_adapters
    rows[n.rows, 3] = n.running
    rows[n.rows, 4] = n.waiting
    rows[n.rows, 5] = n.step_preempted
    n.rows += 1


@compiled
def close(s: State) -> None:
    """Note what the requests still decoding have generated."""
    r = s.now.first
    while r >= 0:
        q = s.request[r]
        if q.decoding:
            q.generated = q.shift + s.now.decode_steps
        r = q.follower


@cached
def advance(e: Engine, s: State, rows: FloatArray) -> bool:
    """Play until the end, or until the rows are full (then True, and it may be called again)."""
    return play(e, s, rows)
