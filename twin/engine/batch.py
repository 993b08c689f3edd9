"""Running requests: the batch in order of admission, and decoding requests as sums and a calendar.

A decoding request gets one token per decode step, so what it has generated is the number of decode
steps plus a constant, and the step in which it ends is known when it starts to decode. It needs a block
when (context - 1) is a multiple of the block size, so requests with equal (context - decode steps)
modulo block size need theirs in the same step: counting these classes tells what a step needs.
"""

from __future__ import annotations

from math import log2

from numpy import isnan

from twin.engine.compilation import compiled
from twin.engine.queues import look_ahead, push_front
from twin.engine.records import GAP_BINS, GAP_BINS_PER_OCTAVE, GAP_FIRST_S
from twin.engine.slots import enter, leave
from twin.engine.state import Engine, State


@compiled
def blocks_for(e: Engine, tokens: int) -> int:
    """Blocks that hold so many tokens."""
    return int((tokens + e.block_size - 1) // e.block_size)


@compiled
def tokens_of(s: State, r: int) -> int:
    """Prompt and generated tokens of a request."""
    q = s.request[r]
    generated = q.shift + s.now.decode_steps if q.decoding else q.generated
    return int(q.prompt + generated)


@compiled
def join_batch(s: State, r: int) -> None:
    """Append an admitted request to the batch."""
    n, q = s.now, s.request[r]
    q.order = n.admitted
    n.admitted += 1
    q.earlier, q.follower = n.last, -1
    if n.last >= 0:
        s.request[n.last].follower = r
    else:
        n.first = r
    n.last = r
    n.running += 1
    q.computed = 0
    if isnan(q.first_scheduled):
        q.first_scheduled = n.clock
    enter(s, q.adapter)


@compiled
def quit_batch(s: State, r: int) -> None:
    """Unlink a request from the batch."""
    n, q = s.now, s.request[r]
    if q.earlier >= 0:
        s.request[q.earlier].follower = q.follower
    else:
        n.first = q.follower
    if q.follower >= 0:
        s.request[q.follower].earlier = q.earlier
    else:
        n.last = q.earlier
    n.running -= 1


@compiled
def preempt_last(e: Engine, s: State) -> None:
    """Preempt the request admitted last: its blocks are freed, its tokens are to be computed again."""
    n = s.now
    r = n.last
    q = s.request[r]
    if q.decoding:
        n.free += blocks_for(e, tokens_of(s, r) - 1)
        stop_decoding(e, s, r)
        q.paused = n.clock
    else:
        n.free += blocks_for(e, q.computed)
        n.partials -= 1
    quit_batch(s, r)
    q.preemptions += 1
    leave(s, q.adapter, 0)
    push_front(s, r)


@compiled
def finish(e: Engine, s: State, r: int, blocks: int) -> None:
    """End a request that has all its tokens."""
    n, q = s.now, s.request[r]
    n.free += blocks
    q.finish = n.clock
    q.generated = q.output
    quit_batch(s, r)
    leave(s, q.adapter, 1)
    if e.max_inflight > 0 and n.running + n.waiting + 1 == e.max_inflight:
        n.open_again = n.clock
        look_ahead(e, s)


@compiled
def start_decoding(e: Engine, s: State, r: int) -> None:
    """Enter a request that has caught up in the calendar and the sums."""
    n, q = s.now, s.request[r]
    q.shift = q.generated - n.decode_steps
    q.decoding = True
    context = q.prompt + q.generated
    n.decoding += 1
    n.context += context
    s.classes[(context - n.decode_steps) % e.block_size] += 1
    schedule_finish(s, r)


@compiled
def stop_decoding(e: Engine, s: State, r: int) -> None:
    """Take a request out of the calendar and the sums."""
    n, q = s.now, s.request[r]
    context = tokens_of(s, r)
    q.decoding = False
    q.generated = context - q.prompt
    n.decoding -= 1
    n.context -= context
    s.classes[(context - n.decode_steps) % e.block_size] -= 1
    cancel_finish(s, r)


@compiled
def needs_block(e: Engine, s: State, r: int) -> int:
    """Blocks that a decoding request needs in the next step: 0 or 1."""
    return 1 if (tokens_of(s, r) - 1) % e.block_size == 0 else 0


@compiled
def postpone(e: Engine, s: State, r: int) -> None:
    """Leave a decoding request out of the coming decode step."""
    place = (tokens_of(s, r) - s.now.decode_steps) % e.block_size
    s.classes[place] -= 1
    s.classes[(place + e.block_size - 1) % e.block_size] += 1
    cancel_finish(s, r)
    s.request[r].shift -= 1
    schedule_finish(s, r)


@compiled
def finish_slot(s: State, r: int) -> int:
    """Day of the circular calendar with the decode step after which a request ends."""
    q = s.request[r]
    return int((q.output - q.shift) & (len(s.due) - 1))


@compiled
def schedule_finish(s: State, r: int) -> None:
    """Enter a request in the calendar."""
    q, day = s.request[r], finish_slot(s, r)
    q.due_prev, q.due_next = -1, s.due[day]
    if s.due[day] >= 0:
        s.request[s.due[day]].due_prev = r
    s.due[day] = r


@compiled
def cancel_finish(s: State, r: int) -> None:
    """Strike a request from the calendar."""
    q = s.request[r]
    if q.due_next >= 0:
        s.request[q.due_next].due_prev = q.due_prev
    if q.due_prev >= 0:
        s.request[q.due_prev].due_next = q.due_next
    else:
        s.due[finish_slot(s, r)] = q.due_next


@compiled
def finish_due(e: Engine, s: State) -> None:
    """End the decoding requests whose last token came with the decode step just done."""
    n = s.now
    day = n.decode_steps & (len(s.due) - 1)
    r = s.due[day]
    s.due[day] = -1
    while r >= 0:
        q = s.request[r]
        context = q.prompt + q.output
        q.decoding = False
        n.decoding -= 1
        n.context -= context
        s.classes[(context - n.decode_steps) % e.block_size] -= 1
        finish(e, s, r, blocks_for(e, context - 1))
        r = q.due_next


@compiled
def next_decode_step(e: Engine, s: State) -> None:
    """Count a decode step; the class that needs blocks next is one lower."""
    n = s.now
    n.context += n.step_decodes
    n.decode_steps += 1
    n.phase = n.phase - 1 if n.phase > 0 else e.block_size - 1


@compiled
def count_gap(e: Engine, s: State, seconds: float, tokens: int) -> None:
    """Count tokens that came ``seconds`` after the ones before them."""
    if s.now.clock < e.warmup_s:
        return
    place = 0 if seconds <= GAP_FIRST_S else int(log2(seconds / GAP_FIRST_S) * GAP_BINS_PER_OCTAVE)
    s.gaps[min(place, GAP_BINS - 1)] += tokens
