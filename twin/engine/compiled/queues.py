"""Waiting requests: one queue per adapter, and a tournament over the queues.

vLLM scans one waiting list and skips requests whose adapter has no slot. Which request that scan would
find next follows from the heads of the adapters' queues: the earliest of all while a slot is free, else
the earliest of the adapters that are running. So nothing is ever scanned; a change costs the logarithm
of the number of adapters.
"""

from __future__ import annotations

from numpy import inf

from twin.engine.compilation import apart, compiled
from twin.engine.compiled.line import (
    append_to_line,
    first_in_line,
    pass_over,
    prepend_to_line,
    take_off_line,
)
from twin.engine.compiled.special import is_base, is_kept, is_special, keeps_line
from twin.engine.state import EMPTY, NOBODY, Counts, Engine, State


@compiled
def receive(engine: Engine, state: State) -> None:
    """Queue what has arrived by now, as far as the client's cap allows, and note the next arrival."""
    now = state.now
    while now.arrival <= now.clock:
        r = now.next
        if is_special(state) and now.followers > 0 and is_follower_next(engine, state):
            r = pop_follower(state)
        else:
            now.next += 1
        request = state.request[r]
        request.sent = max(request.arrival, now.open_again)
        push_back(engine, state, r)
        look_ahead(engine, state)


@compiled
def look_ahead(engine: Engine, state: State) -> None:
    """Set when the client sends its next request: never, while its cap is reached."""
    now = state.now
    capped = engine.max_inflight > 0 and now.running + now.waiting >= engine.max_inflight
    now.arrival = inf if capped or now.next == engine.requests else state.request[now.next].arrival
    if is_special(state) and now.followers > 0 and not capped:
        now.arrival = min(now.arrival, state.request[state.extra[0].heap].arrival)


@compiled
def is_follower_next(engine: Engine, state: State) -> bool:
    """Whether the next arrival is that of a request that follows another; of equal ones it is the last."""
    now = state.now
    first = state.request[state.extra[0].heap].arrival
    return bool(now.next == engine.requests or first < state.request[now.next].arrival)


@compiled
def is_sent_before(state: State, r: int, other: int) -> bool:
    """Whether one follower is sent before another; of equal instants the first by number."""
    first, second = state.request[r].arrival, state.request[other].arrival
    return bool(first < second or (first == second and r < other))


@apart
def push_follower(engine: Engine, state: State, r: int) -> None:
    """Let a request be sent some time after the one before it, which has ended now."""
    now, extra = state.now, state.extra
    state.request[r].arrival += now.clock
    k = now.followers
    now.followers += 1
    while k > 0 and is_sent_before(state, r, extra[(k - 1) // 2].heap):
        extra[k].heap = extra[(k - 1) // 2].heap
        k = (k - 1) // 2
    extra[k].heap = r
    look_ahead(engine, state)


@apart
def pop_follower(state: State) -> int:
    """Take the first request off the heap of those that follow others."""
    now, extra = state.now, state.extra
    first = extra[0].heap
    now.followers -= 1
    r, k = extra[now.followers].heap, 0
    while 2 * k + 1 < now.followers:
        child = 2 * k + 1
        if child + 1 < now.followers and is_sent_before(state, extra[child + 1].heap, extra[child].heap):
            child += 1
        if is_sent_before(state, r, extra[child].heap):
            break
        extra[k].heap = extra[child].heap
        k = child
    extra[k].heap = r
    return int(first)


@compiled
def push_back(engine: Engine, state: State, r: int) -> None:
    """Add a new request to the end of the line."""
    now, request = state.now, state.request[r]
    now.waiting += 1
    request.place = now.arrived
    now.arrived += 1
    if keeps_line(engine, state):
        append_to_line(state, r)
        return
    record = state.adapter[request.adapter]
    request.follower = NOBODY
    if record.tail >= 0:
        state.request[record.tail].follower = r
    else:
        record.head = r
        rank_queue(state, request.adapter)
    record.tail = r


@compiled
def push_front(engine: Engine, state: State, r: int) -> None:
    """Put a preempted request before all that wait."""
    now, request = state.now, state.request[r]
    now.waiting += 1
    if keeps_line(engine, state):
        prepend_to_line(state, r)
        return
    record = state.adapter[request.adapter]
    # Waiting requests are ordered by place. New ones have their number in order of arrival, preempted ones
    # count down from -1, so that the one preempted last comes first.
    request.place = now.front
    now.front -= 1
    request.follower = record.head
    if record.head < 0:
        record.tail = r
    record.head = r
    rank_queue(state, request.adapter)


@compiled
def pop(engine: Engine, state: State, adapter: int) -> None:
    """Take the request that was found off its queue, the first of an adapter's."""
    state.now.waiting -= 1
    if keeps_line(engine, state):
        take_off_line(state)
        return
    record = state.adapter[adapter]
    record.head = state.request[record.head].follower
    if record.head < 0:
        record.tail = -1
    rank_queue(state, adapter)


@compiled
def first_admissible(engine: Engine, state: State) -> int:
    """First waiting request that the adapter slots allow, or -1; those before it are passed over."""
    if keeps_line(engine, state):
        r = first_in_line(state)
        while r >= 0 and lacks_slot(engine, state, r):
            pass_over(engine, state)
            r = first_in_line(state)
        return r
    # vLLM admits a request of an adapter of the batch always, of another only while the batch has fewer
    # adapters than there are slots.
    key = state.tree[1, 1]
    if taken_slots(state) < engine.max_loras:
        key = min(key, state.tree[0, 1])
    return -1 if key == EMPTY else int(state.adapter[key & (state.tree.shape[1] // 2 - 1)].head)


@compiled
def rank_queue(state: State, adapter: int) -> None:
    """Enter the head of an adapter's queue in the tournament; the base model is never short of a slot."""
    # The place decides and the adapter is the remainder, also of a negative key, as size is a power of two.
    record, size = state.adapter[adapter], state.tree.shape[1] // 2
    key = EMPTY if record.head < 0 else state.request[record.head].place * size + adapter
    set_key(state.tree[1 if has_slot(state, adapter) else 0], size + adapter, key)


@compiled
def has_slot(state: State, adapter: int) -> bool:
    """Whether a request of an adapter needs no slot that others have not."""
    record = state.adapter[adapter]
    return bool(record.active > 0 or is_base(state, record) or is_kept(state, record))


@compiled
def taken_slots(state: State) -> int:
    """Slots that the running requests take."""
    return int(state.now.distinct + (state.now.kept if is_special(state) else 0))


@compiled
def lacks_slot(engine: Engine, state: State, r: int) -> bool:
    """Whether the adapter slots do not allow a request in this step."""
    wants = not has_slot(state, state.request[r].adapter)
    return bool(wants and taken_slots(state) >= engine.max_loras)


@compiled
def change_sides(state: State, adapter: int) -> None:
    """Move an adapter's queue between the tournaments of idle and of running adapters."""
    if state.adapter[adapter].head >= 0:
        set_key(state.tree[0 if has_slot(state, adapter) else 1], state.tree.shape[1] // 2 + adapter, EMPTY)
        rank_queue(state, adapter)


@apart
def move_queue(state: State, adapter: int) -> None:
    """Enter an adapter's queue in the tournament where it belongs, whichever it was in."""
    for side in range(2):
        set_key(state.tree[side], state.tree.shape[1] // 2 + adapter, EMPTY)
    rank_queue(state, adapter)


@compiled
def set_key(tree: Counts, node: int, key: int) -> None:
    """Change a leaf of a tree of minima, upwards as far as it matters."""
    tree[node] = key
    node >>= 1
    while node >= 1:
        smallest = min(tree[2 * node], tree[2 * node + 1])
        if tree[node] == smallest:
            return  # nothing above can change either
        tree[node] = smallest
        node >>= 1
