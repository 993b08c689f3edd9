"""The engine's life, compiled: arrivals, steps and the clock."""

from __future__ import annotations

from numpy import inf

from twin.engine.compilation import apart, cached, compiled
from twin.engine.compiled.batch import count_gap, enter_sums, grow_decoding, next_decode_step, start_decoding
from twin.engine.compiled.blocks import awaits_text
from twin.engine.compiled.endings import finish, finish_due, free_ended, retire_ended
from twin.engine.compiled.queues import receive
from twin.engine.compiled.scheduler import postpone_rest, schedule
from twin.engine.compiled.slots import load_pending
from twin.engine.compiled.special import is_ahead, is_caching, is_special, lingers
from twin.engine.requests import FloatArray
from twin.engine.state import Engine, Record, State


@cached
def advance(engine: Engine, state: State, rows: FloatArray) -> bool:
    """Play until the end, or until ``rows`` is full (then True, and it may be called again)."""
    return play(engine, state, rows)


@cached
def advance_special(engine: Engine, state: State, rows: FloatArray) -> bool:
    """The same for a run that has what few have: apart, so that one can tell whether it is compiled."""
    return play(engine, state, rows)


@compiled
def play(engine: Engine, state: State, rows: FloatArray) -> bool:
    """Play in turn: a step is scheduled when the one before it has ended."""
    now = state.now
    while True:
        if rows_full(state, rows):
            return True
        if has_ended(engine, state):
            break
        receive(engine, state)
        schedule(engine, state)
        if is_alike(engine, state):
            fast_forward(engine, state, rows)
        else:
            step(engine, state, rows)
    now.clock = min(now.clock, engine.horizon_s)
    close(state)
    return False


@compiled
def has_ended(engine: Engine, state: State) -> bool:
    """Whether nothing more comes before the horizon; without requests the engine sleeps until one arrives."""
    now = state.now
    if now.running + now.waiting == 0:
        if now.arrival == inf:
            return True
        now.clock = max(now.clock, now.arrival)  # it takes no steps meanwhile
    return bool(now.clock >= engine.horizon_s)


@apart
def waiting_may_change(engine: Engine, state: State) -> bool:
    """Whether what waits may fare otherwise in the next step, though nobody comes or goes."""
    # Where they are reversed in every step, no two steps are alike while some wait.
    if engine.reverses_passed and state.now.waiting > 0:
        return True
    return bool(is_caching(engine, state) and awaits_text(engine, state))


@cached
def advance_ahead(engine: Engine, state: State, rows: FloatArray) -> bool:
    """The same for an engine that schedules every step while the one before it runs."""
    now = state.now
    while True:
        if rows_full(state, rows):
            return True
        if now.ahead == 0:
            if has_ended(engine, state):
                break
            schedule_noted(engine, state)
        elif is_alike(engine, state) and now.running == now.seen_running:
            # Nobody has left since it was scheduled, for whom another could come.
            run_ahead(engine, state, rows)
            if rows_full(state, rows):
                return True
        start = now.clock
        step(engine, state, rows)
        end = now.clock
        if end > engine.horizon_s:
            break
        # Ahead of the step's end: of its tokens it is known how many, and nothing is free yet.
        now.clock, now.ahead = start, 1
        schedule_noted(engine, state)
        now.clock = end
        retire_ended(engine, state)
        if now.step_decodes + now.step_prefill == 0:
            now.ahead = 0
    now.clock = min(now.clock, engine.horizon_s)
    close(state)
    return False


@compiled
def is_alike(engine: Engine, state: State) -> bool:
    """Whether the next step can only differ by its context: no prefill, nobody preempted, all scheduled."""
    now = state.now
    alike = now.planned == 0 and now.step_preempted == 0 and now.step_decodes == now.running
    return bool(alike and not (is_special(state) and waiting_may_change(engine, state)))


@compiled
def run_ahead(engine: Engine, state: State, rows: FloatArray) -> None:
    """Do the step that was scheduled ahead, and equal ones after it, as long as one like them comes after.

    The last of them is left to be done. Each is scheduled when the one before it begins, so that what arrives
    later is for the one after it.
    """
    now, part = state.now, series_part(engine, state)
    fixed, queue = fixed_cost(engine, state), engine.waiting_s * now.seen_waiting
    first, start, until = now.decode_steps, now.clock, series_end(engine, state)
    while now.clock < until and is_next_alike(engine, state) and not rows_full(state, rows):
        seconds = fixed + (engine.context_s * now.context + queue)
        if now.clock + seconds > engine.horizon_s:
            break
        write_row(engine, state, rows)
        now.clock += seconds
        now.steps += 1
        part.blocks_s += (engine.usable_blocks - now.free) * seconds
        count_gap(engine, state, seconds, now.step_decodes)
        next_decode_step(engine, state)
        now.free -= state.classes[now.phase].count
        if is_caching(engine, state):
            grow_decoding(engine, state)
    now.step_context = now.context
    count_time(state, part, now.decode_steps - first, now.clock - start)
    part.output_tokens += (now.decode_steps - first) * now.step_decodes


@compiled
def is_next_alike(engine: Engine, state: State) -> bool:
    """Whether nobody ends with the step that comes, or has arrived before it, and one more has its blocks."""
    now = state.now
    phase = now.phase - 1 if now.phase > 0 else engine.block_size - 1
    ends = state.due[(now.decode_steps + 1) & (len(state.due) - 1)] >= 0
    return bool(not ends and now.arrival > now.clock and state.classes[phase].count <= now.free)


@compiled
def schedule_noted(engine: Engine, state: State) -> None:
    """Take in what has arrived and schedule a step; note how many run and wait then."""
    now = state.now
    receive(engine, state)
    schedule(engine, state)
    now.seen_running, now.seen_waiting = now.running, now.waiting + now.ghosts


@compiled
def step(engine: Engine, state: State, rows: FloatArray) -> None:
    """Do the step that was scheduled."""
    now, part = state.now, series_part(engine, state)
    write_row(engine, state, rows)
    loading = load_pending(engine, state, part)
    queue = engine.context_s * now.step_context + engine.waiting_s * seen_waiting(engine, state)
    # Added up in the order of `fast_forward`, so that both ways give the same float.
    seconds = loading + (fixed_cost(engine, state) + queue)
    now.clock += seconds
    if now.clock > engine.horizon_s:
        return  # what the step would have made comes after the end, and is censored
    part.load_s += loading
    part.blocks_s += (engine.usable_blocks - now.free) * seconds
    part.prompt_tokens += now.step_prefill
    part.preemptions += now.step_preempted
    count_time(state, part, 1, seconds)
    decodes = now.step_decodes - (now.gone if lingers(engine, state) else 0)
    count_gap(engine, state, seconds, decodes)
    postpone_rest(engine, state)
    next_decode_step(engine, state)
    now.gone = 0
    finish_due(engine, state)
    part.output_tokens += decodes + settle_plan(engine, state)
    if is_caching(engine, state) and not engine.ahead:
        free_ended(engine, state)


@compiled
def seen_waiting(engine: Engine, state: State) -> int:
    """Requests that waited when the step was scheduled."""
    return int(state.now.seen_waiting if is_ahead(engine, state) else state.now.waiting)


@compiled
def settle_plan(engine: Engine, state: State) -> int:
    """Credit the prefill tokens of the step; return how many requests caught up and got a token."""
    now = state.now
    # Those still in prefill move up in the same array, which so stays in the order of the batch.
    kept = 0
    for k in range(now.planned):
        r = state.plan[k].request
        request = state.request[r]
        request.computed += state.plan[k].chunk
        if request.computed < request.prompt + request.generated:
            state.plan[kept].request = r
            kept += 1
            continue
        request.generated += 1
        if request.generated == 1:
            request.first_token = now.clock
        else:  # it was preempted: its client has waited since the token before that
            count_gap(engine, state, now.clock - request.paused, 1)
        if request.generated == request.output:
            finish(engine, state, r)
            if lingers(engine, state):
                enter_sums(engine, state, r)
        else:
            start_decoding(engine, state, r)
    now.partials = kept
    return int(now.planned - kept)


@compiled
def fast_forward(engine: Engine, state: State, rows: FloatArray) -> None:
    """Do the step that was scheduled, and equal ones after it while nothing but time passes.

    All running requests decode and no waiting one can be admitted: that stays so until a request ends
    or arrives, or blocks run out. The blocks of the first step are taken already.
    """
    now, part = state.now, series_part(engine, state)
    fixed, queue = fixed_cost(engine, state), engine.waiting_s * now.waiting
    first, start, cut = now.decode_steps, now.clock, False
    # A step belongs to the part of the time series in which it begins, and none begins beyond that part.
    until = min(now.arrival, series_end(engine, state))
    while True:
        write_row(engine, state, rows)
        seconds = fixed + (engine.context_s * now.context + queue)
        cut = now.clock + seconds > engine.horizon_s
        if cut:
            break
        now.clock += seconds
        now.steps += 1
        part.blocks_s += (engine.usable_blocks - now.free) * seconds
        count_gap(engine, state, seconds, now.step_decodes)
        next_decode_step(engine, state)
        if state.due[now.decode_steps & (len(state.due) - 1)] >= 0 or now.clock >= until:
            break
        if state.classes[now.phase].count > now.free or rows_full(state, rows):
            break
        # The blocks of one more step, for which nobody need be preempted; the scheduler takes them otherwise.
        now.free -= state.classes[now.phase].count
        if is_caching(engine, state):
            grow_decoding(engine, state)
    count_time(state, part, now.decode_steps - first, now.clock - start)
    part.output_tokens += (now.decode_steps - first) * now.step_decodes
    finish_due(engine, state)
    if is_caching(engine, state):
        free_ended(engine, state)
    if cut:
        now.clock = engine.horizon_s  # the step that is cut is not counted, but its time is over


@compiled
def fixed_cost(engine: Engine, state: State) -> float:
    """Seconds of the step without what its context, the queue and loads cost."""
    now = state.now
    tokens = now.step_decodes + now.step_prefill
    return float(
        state.token_s[tokens]
        + state.adapter_s[now.step_adapters]
        + state.adapter_token_s[now.step_adapters] * tokens
        + engine.decode_s * now.step_decodes
        + engine.prefill_s * now.step_prefill
        + engine.prompts_s * (now.step_prefill > 0)
    )


@compiled
def series_part(engine: Engine, state: State) -> Record:
    """Part of the time series that a step starting now belongs to."""
    return state.series[min(int(state.now.clock / engine.series_width_s), len(state.series) - 1)]


@compiled
def series_end(engine: Engine, state: State) -> float:
    """End of that part."""
    return float((int(state.now.clock / engine.series_width_s) + 1) * engine.series_width_s)


@compiled
def count_time(state: State, part: Record, steps: int, seconds: float) -> None:
    """Add the time of steps to the time series."""
    now = state.now
    part.steps += steps
    part.busy_s += seconds
    part.running_s += now.running * seconds
    part.waiting_s += now.waiting * seconds
    part.adapters_s += now.step_adapters * seconds


@compiled
def rows_full(state: State, rows: FloatArray) -> bool:
    """Whether step rows are wanted and there is no space for one more."""
    return len(rows) > 0 and state.now.rows == len(rows)


@compiled
def write_row(engine: Engine, state: State, rows: FloatArray) -> None:
    """Record the step, if records are wanted."""
    now = state.now
    if len(rows) == 0:
        return
    rows[now.rows, 0] = now.clock
    rows[now.rows, 1] = now.step_decodes + now.step_prefill
    rows[now.rows, 2] = now.step_adapters
    rows[now.rows, 3] = now.seen_running if is_ahead(engine, state) else now.running
    rows[now.rows, 4] = seen_waiting(engine, state)
    rows[now.rows, 5] = now.step_preempted
    now.rows += 1


@compiled
def close(state: State) -> None:
    """Note what the requests still decoding have generated."""
    r = state.now.first
    while r >= 0:
        request = state.request[r]
        if request.decoding:
            request.generated = request.shift + state.now.decode_steps
        r = request.follower
