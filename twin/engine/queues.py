"""Waiting requests: one queue per adapter, and a tournament over the queues.

vLLM scans one waiting list and skips requests whose adapter has no slot. Which request that scan would
find next follows from the heads of the adapters' queues: the earliest of all while a slot is free, else
the earliest of the adapters that are running. So nothing is ever scanned; a change costs the logarithm
of the number of adapters.
"""

from __future__ import annotations

from numpy import inf

from twin.engine.compilation import compiled
from twin.engine.state import EMPTY, Counts, Engine, State


@compiled
def receive(e: Engine, s: State) -> None:
    """Queue what has arrived by now, as far as the client's cap allows, and note the next arrival."""
    n = s.now
    while n.arrival <= n.clock:
        q = s.request[n.next]
        q.sent = max(q.arrival, n.open_again)
        push_back(s, n.next)
        n.next += 1
        look_ahead(e, s)


@compiled
def look_ahead(e: Engine, s: State) -> None:
    """Set when the client sends its next request: never, while its cap is reached."""
    n = s.now
    capped = e.max_inflight > 0 and n.running + n.waiting >= e.max_inflight
    n.arrival = inf if capped or n.next == e.requests else s.request[n.next].arrival


@compiled
def push_back(s: State, r: int) -> None:
    """Add a new request to the end of the line."""
    q = s.request[r]
    a = s.adapter[q.adapter]
    q.follower = -1
    if a.tail >= 0:
        s.request[a.tail].follower = r
    else:
        a.head = r
        rank_queue(s, q.adapter)
    a.tail = r
    s.now.waiting += 1


@compiled
def push_front(s: State, r: int) -> None:
    """Put a preempted request before all that wait."""
    n, q = s.now, s.request[r]
    a = s.adapter[q.adapter]
    q.place = n.front
    n.front -= 1
    q.follower = a.head
    if a.head < 0:
        a.tail = r
    a.head = r
    rank_queue(s, q.adapter)
    n.waiting += 1


@compiled
def pop(s: State, adapter: int) -> None:
    """Take the first request off an adapter's queue."""
    a = s.adapter[adapter]
    a.head = s.request[a.head].follower
    if a.head < 0:
        a.tail = -1
    rank_queue(s, adapter)
    s.now.waiting -= 1


@compiled
def first_admissible(e: Engine, s: State) -> int:
    """First waiting request that the adapter slots allow, or -1."""
    key = s.tree[1, 1]
    if s.now.distinct < e.max_loras:
        key = min(key, s.tree[0, 1])
    return -1 if key == EMPTY else int(s.adapter[key & (s.tree.shape[1] // 2 - 1)].head)


@compiled
def rank_queue(s: State, adapter: int) -> None:
    """Enter the head of an adapter's queue in the tournament."""
    a, size = s.adapter[adapter], s.tree.shape[1] // 2
    key = EMPTY if a.head < 0 else s.request[a.head].place * size + adapter
    set_key(s.tree[1 if a.active > 0 else 0], size + adapter, key)


@compiled
def change_sides(s: State, adapter: int) -> None:
    """Move an adapter's queue between the tournaments of idle and of running adapters."""
    a = s.adapter[adapter]
    if a.head >= 0:
        set_key(s.tree[0 if a.active > 0 else 1], s.tree.shape[1] // 2 + adapter, EMPTY)
        rank_queue(s, adapter)


@compiled
def set_key(tree: Counts, node: int, key: int) -> None:
    """Change a leaf of a tree of minima, upwards as far as it matters."""
    tree[node] = key
    node >>= 1
    while node >= 1:
        smallest = min(tree[2 * node], tree[2 * node + 1])
        if tree[node] == smallest:
            return
        tree[node] = smallest
        node >>= 1
