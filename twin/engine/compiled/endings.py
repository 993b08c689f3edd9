"""How requests leave the batch: preempted, or with their last token.

Where steps are scheduled ahead, a request whose last token is under way stays among the running ones until
the next step is scheduled: it keeps its blocks and its seat, and may still be preempted.
"""

from __future__ import annotations

from twin.engine.compilation import apart, compiled
from twin.engine.compiled.batch import (
    blocks_for,
    quit_batch,
    quit_sums,
    stop_decoding,
    tokens_of,
)
from twin.engine.compiled.blocks import close_table, grow_table
from twin.engine.compiled.queues import look_ahead, push_follower, push_front
from twin.engine.compiled.slots import keep_slot, leave
from twin.engine.compiled.special import is_ahead, is_caching, is_over, is_special, lingers
from twin.engine.state import Engine, State


@compiled
def preempt_last(engine: Engine, state: State) -> None:
    """Preempt the request admitted last: its blocks are freed, its tokens are to be computed again."""
    now = state.now
    r = now.last
    request = state.request[r]
    if is_over(engine, state, r):
        give_up_ended(engine, state, r)
        return
    if request.decoding:
        # The token generated last is computed in the step to come, and has no place in a block yet.
        held = blocks_for(engine, tokens_of(state, r) - 1)
        stop_decoding(engine, state, r)
        request.paused = now.clock
    else:
        held = blocks_for(engine, request.computed)
        now.partials -= 1
    if is_caching(engine, state):
        close_table(engine, state, r)
    else:
        now.free += held
    quit_batch(state, r)
    request.preemptions += 1
    leave(state, request.adapter, 0)
    push_front(engine, state, r)


@compiled
def finish(engine: Engine, state: State, r: int) -> None:
    """End a request that has all its tokens."""
    now, request = state.now, state.request[r]
    request.finish = now.clock
    request.generated = request.output
    if is_ahead(engine, state):
        # The step to come is scheduled already, and knew nothing of it.
        state.extra[r].over = True
        set_aside(state, r)
        if not engine.after_last:
            leave(state, request.adapter, 1)
        if engine.slots_of_all_running:
            keep_slot(state, request.adapter, 1)
    else:
        quit_batch(state, r)
        leave(state, request.adapter, 1)
        if is_caching(engine, state):
            set_aside(state, r)
        else:
            now.free += blocks_at_end(engine, state, r)
    if is_special(state) and engine.followed and state.extra[r].successor >= 0:
        push_follower(engine, state, state.extra[r].successor)
    # A client below its cap sends at arrivals; one that was at its cap sends when this request ends.
    if engine.max_inflight > 0 and now.running + now.waiting + 1 == engine.max_inflight:
        now.open_again = now.clock
        look_ahead(engine, state)


@compiled
def finish_due(engine: Engine, state: State) -> None:
    """End the decoding requests whose last token came with the decode step just done."""
    now = state.now
    slot = now.decode_steps & (len(state.due) - 1)
    r = state.due[slot]
    state.due[slot] = -1  # all of them end, so that none needs to be taken out by itself
    while r >= 0:
        request = state.request[r]
        if not lingers(engine, state):
            quit_sums(engine, state, r, request.prompt + request.output)
        finish(engine, state, r)
        r = request.due_next


@compiled
def blocks_at_end(engine: Engine, state: State, r: int) -> int:
    """Blocks of a request that has all its tokens, the last of which was never computed."""
    request = state.request[r]
    return blocks_for(engine, request.prompt + request.output - 1)


@compiled
def set_aside(state: State, r: int) -> None:
    """Note that a request has ended, and holds its blocks still."""
    state.plan[state.now.ended].ended = r
    state.now.ended += 1


@apart
def give_up_ended(engine: Engine, state: State, r: int) -> None:
    """Preempt a running request whose last token is under way; it ends with it, in the queue."""
    now = state.now
    let_go(engine, state, r)
    state.request[r].preemptions += 1
    state.extra[r].over = False
    now.ghosts += 1


@compiled
def let_go(engine: Engine, state: State, r: int) -> None:
    """Take a request that has ended out of the batch, and free its blocks."""
    now, request = state.now, state.request[r]
    if engine.after_last:
        quit_sums(engine, state, r, request.prompt + request.output)
    if is_caching(engine, state):
        close_table(engine, state, r)
    else:
        now.free += blocks_at_end(engine, state, r)
    quit_batch(state, r)
    if engine.after_last:
        leave(state, request.adapter, 0)
    if engine.slots_of_all_running:
        keep_slot(state, request.adapter, -1)


@compiled
def forget_decode(engine: Engine, state: State, r: int) -> None:
    """Let the token that a request was scheduled for after its last one be of no use to anyone."""
    now, request = state.now, state.request[r]
    if now.rest >= 0 and request.order >= state.request[now.rest].order:  # it got no token in the step
        now.rest = request.follower if now.rest == r else now.rest
        return
    now.gone += 1
    if not is_caching(engine, state):
        now.free += blocks_for(engine, request.prompt + request.output) - blocks_at_end(engine, state, r)


@apart
def retire_ended(engine: Engine, state: State) -> None:
    """Let go of the requests whose last tokens are known now, where steps are scheduled ahead."""
    now = state.now
    sort_ended(state)
    for k in range(now.ended):
        r = state.plan[k].ended
        if not state.extra[r].over:
            continue  # it was preempted meanwhile
        state.extra[r].over = False
        if is_caching(engine, state):
            tokens = state.request[r].prompt + state.request[r].output - 1
            grow_table(engine, state, r, tokens, tokens)
        if engine.after_last:
            forget_decode(engine, state, r)
        let_go(engine, state, r)
    now.ended = now.ghosts = 0


@compiled
def sort_ended(state: State) -> None:
    """Put the requests that have ended in the order of the batch."""
    now, plan = state.now, state.plan
    for k in range(1, now.ended):
        r, j = plan[k].ended, k - 1
        while j >= 0 and state.request[plan[j].ended].order > state.request[r].order:
            plan[j + 1].ended = plan[j].ended
            j -= 1
        plan[j + 1].ended = r


@apart
def free_ended(engine: Engine, state: State) -> None:
    """Free the blocks of the requests that ended with a step, in the order of the batch."""
    now = state.now
    sort_ended(state)
    for k in range(now.ended):
        close_table(engine, state, state.plan[k].ended)
    now.ended = 0
