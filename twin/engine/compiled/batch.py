"""Running requests: the batch in order of admission, and decoding requests as sums and a timing wheel.

A decoding request gets one token per decode step, so what it has generated is the number of decode
steps plus a constant, and the step in which it ends is known when it starts to decode. It needs a block
when (context - 1) is a multiple of the block size, so requests with equal (context - decode steps)
modulo block size need theirs in the same step: counting these classes tells what a step needs.

The wheel (Varghese and Lauck 1987) has a list of requests for every decode step to come, in the slot with
that step's number modulo its size: entering, leaving and finding what is due are quick however many decode.
"""

from __future__ import annotations

from math import log2

from numpy import isnan

from twin.engine.compilation import apart, compiled
from twin.engine.compiled.blocks import enter_class, grow_table, quit_class
from twin.engine.compiled.slots import enter
from twin.engine.compiled.special import is_ahead, lingers
from twin.engine.records import GAP_BINS, GAP_BINS_PER_OCTAVE, GAP_FIRST_S
from twin.engine.state import Engine, State


@compiled
def blocks_for(engine: Engine, tokens: int) -> int:
    """Blocks that hold so many tokens."""
    return int((tokens + engine.block_size - 1) // engine.block_size)


@compiled
def tokens_of(state: State, r: int) -> int:
    """Prompt and generated tokens of a request."""
    request = state.request[r]
    # ``generated`` is not written while the request decodes: its shift and the count of steps tell it.
    generated = request.shift + state.now.decode_steps if request.decoding else request.generated
    return int(request.prompt + generated)


@compiled
def join_batch(state: State, r: int, computed: int) -> None:
    """Append an admitted request to the batch, of which some tokens need not be computed."""
    now, request = state.now, state.request[r]
    request.order = now.admitted
    now.admitted += 1
    # A list that is linked both ways: vLLM preempts at its end, and requests end anywhere in it.
    request.earlier, request.follower = now.last, -1
    if now.last >= 0:
        state.request[now.last].follower = r
    else:
        now.first = r
    now.last = r
    now.running += 1
    # One that comes back after a preemption has lost its blocks, and computes all of its tokens again.
    request.computed = computed
    if isnan(request.first_scheduled):
        request.first_scheduled = now.clock
    enter(state, request.adapter)


@compiled
def quit_batch(state: State, r: int) -> None:
    """Unlink a request from the batch."""
    now, request = state.now, state.request[r]
    if request.earlier >= 0:
        state.request[request.earlier].follower = request.follower
    else:
        now.first = request.follower
    if request.follower >= 0:
        state.request[request.follower].earlier = request.earlier
    else:
        now.last = request.earlier
    now.running -= 1


@compiled
def start_decoding(engine: Engine, state: State, r: int) -> None:
    """Enter a request that has caught up in the timing wheel and the sums."""
    enter_sums(engine, state, r)
    schedule_finish(state, r)


@compiled
def enter_sums(engine: Engine, state: State, r: int) -> None:
    """Enter a decoding request in the sums over the batch."""
    now, request = state.now, state.request[r]
    request.shift = request.generated - now.decode_steps
    request.decoding = True
    context = request.prompt + request.generated
    now.decoding += 1
    now.context += context
    enter_class(engine, state, r, (context - now.decode_steps) % engine.block_size)


@compiled
def quit_sums(engine: Engine, state: State, r: int, context: int) -> None:
    """Take a decoding request of so many tokens out of the sums."""
    now = state.now
    state.request[r].decoding = False
    now.decoding -= 1
    now.context -= context
    quit_class(engine, state, r, (context - now.decode_steps) % engine.block_size)


@compiled
def stop_decoding(engine: Engine, state: State, r: int) -> None:
    """Take a request out of the timing wheel and the sums."""
    request, context = state.request[r], tokens_of(state, r)
    request.generated = context - request.prompt
    quit_sums(engine, state, r, context)
    cancel_finish(state, r)


@compiled
def needs_block(engine: Engine, state: State, r: int) -> int:
    """Blocks that a decoding request needs in the next step: 0 or 1."""
    return 1 if (tokens_of(state, r) - 1) % engine.block_size == 0 else 0


@compiled
def postpone(engine: Engine, state: State, r: int) -> None:
    """Leave a decoding request out of the coming decode step."""
    # The steps go on without it, so all that is relative to their count moves back by one: its class, its
    # shift, and the step after which it ends.
    place = (tokens_of(state, r) - state.now.decode_steps) % engine.block_size
    quit_class(engine, state, r, place)
    enter_class(engine, state, r, (place + engine.block_size - 1) % engine.block_size)
    cancel_finish(state, r)
    state.request[r].shift -= 1
    schedule_finish(state, r)


@compiled
def finish_slot(state: State, r: int) -> int:
    """Slot of the timing wheel with the decode step after which a request ends."""
    # The wheel has more slots than the longest answer has tokens (`initial_state`), so that all requests of
    # a slot end in the same step, the next in which the hand is there. The mask wants a power of two.
    request = state.request[r]
    return int((request.output - request.shift) & (len(state.due) - 1))


@compiled
def schedule_finish(state: State, r: int) -> None:
    """Enter a request in the timing wheel."""
    # Linked both ways, so that a request that is preempted or postponed is taken out without a search.
    request, slot = state.request[r], finish_slot(state, r)
    request.due_prev, request.due_next = -1, state.due[slot]
    if state.due[slot] >= 0:
        state.request[state.due[slot]].due_prev = r
    state.due[slot] = r


@compiled
def cancel_finish(state: State, r: int) -> None:
    """Take a request out of the timing wheel."""
    request = state.request[r]
    if request.due_next >= 0:
        state.request[request.due_next].due_prev = request.due_prev
    if request.due_prev >= 0:
        state.request[request.due_prev].due_next = request.due_next
    else:
        state.due[finish_slot(state, r)] = request.due_next


@compiled
def under_way(engine: Engine, state: State, r: int) -> int:
    """Tokens of a decoding request that the step under way is to generate, and nobody knows yet: 0 or 1."""
    now = state.now
    return 1 if is_ahead(engine, state) and now.ahead > 0 and state.extra[r].left_at != now.steps - 1 else 0


@apart
def grow_decoding(engine: Engine, state: State) -> None:
    """Let the decoding requests take the blocks of the coming decode step, and fill those that it fills."""
    # One that needs a block has filled the one before in the step before.
    now, filling = state.now, state.now.phase - 1 if state.now.phase > 0 else engine.block_size - 1
    for place in (now.phase, filling):
        r = state.classes[place].first
        while r >= 0:
            tokens = tokens_of(state, r)
            grow_table(engine, state, r, tokens, tokens - under_way(engine, state, r))
            r = state.extra[r].class_after


@compiled
def next_decode_step(engine: Engine, state: State) -> None:
    """Count a decode step; the class that needs blocks next is one lower."""
    now = state.now
    now.context += now.step_decodes - (now.gone if lingers(engine, state) else 0)
    now.decode_steps += 1
    # A block is needed where context is 1 modulo the block size; less the steps, that is 1 - decode_steps.
    now.phase = now.phase - 1 if now.phase > 0 else engine.block_size - 1


@compiled
def count_gap(engine: Engine, state: State, seconds: float, tokens: int) -> None:
    """Count tokens that came ``seconds`` after the ones before them."""
    if state.now.clock < engine.warmup_s:
        return
    place = 0 if seconds <= GAP_FIRST_S else int(log2(seconds / GAP_FIRST_S) * GAP_BINS_PER_OCTAVE)
    state.gaps[min(place, GAP_BINS - 1)] += tokens
