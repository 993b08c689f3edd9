"""Adapters in memory: which are running, which sit idle in a slot or in CPU memory, and who must go.

An adapter with running requests stays where it is. The others leave in the order in which their last
request left the batch (least recently used first). Two circular lists hold that order, one of adapters
idle in a slot and one of adapters idle in CPU memory; the node after the last adapter is their start.
"""

from __future__ import annotations

from twin.compiled import compiled
from twin.queues import change_sides
from twin.requests import IntArray
from twin.state import Engine, Record, State


@compiled
def enter(s: State, adapter: int) -> None:
    """Count one more running request of an adapter."""
    n, a = s.now, s.adapter[adapter]
    a.active += 1
    if a.active > 1:
        return
    n.distinct += 1
    change_sides(s, adapter)
    if a.in_cpu:
        unlink(s.cpu_links, adapter)
    if a.in_slot:
        unlink(s.slot_links, adapter)
    else:
        s.pending[n.pending] = adapter
        n.pending += 1


@compiled
def leave(s: State, adapter: int, finished: int, order: int) -> None:
    """Count one running request of an adapter less.

    Adapters whose last requests end in the same step count as used in the order of admission of those
    requests, after adapters whose requests were preempted in it.
    """
    n, a = s.now, s.adapter[adapter]
    moment = 2 * n.steps + finished
    a.left_order = max(a.left_order, order) if a.left_at == moment else order
    a.left_at = moment
    a.active -= 1
    if a.active > 0:
        return
    n.distinct -= 1
    change_sides(s, adapter)
    link_by_use(s, s.slot_links, adapter)
    link_by_use(s, s.cpu_links, adapter)


@compiled
def load_pending(e: Engine, s: State, part: Record) -> float:
    """Bring this step's new adapters into slots, one after the other; return the seconds it takes."""
    n = s.now
    seconds = 0.0
    for k in range(n.pending):
        a = s.adapter[s.pending[k]]
        if not a.in_cpu:
            if n.cpu_used >= e.max_cpu_loras:
                drop_from_cpu(s, s.cpu_links[0, e.adapters])
            a.in_cpu = True
            n.cpu_used += 1
            a.disk_loads += 1
            part.disk_loads += 1
            seconds += a.disk_load_s
        if n.slots_used >= e.max_loras:
            drop_from_slot(s, s.slot_links[0, e.adapters])
        a.in_slot = True
        n.slots_used += 1
        a.gpu_loads += 1
        part.gpu_loads += 1
        seconds += a.gpu_load_s
    n.pending = 0
    return seconds


@compiled
def drop_from_cpu(s: State, adapter: int) -> None:
    """Forget an idle adapter, also in its slot: a slot's adapter stays in CPU memory too."""
    unlink(s.cpu_links, adapter)
    s.adapter[adapter].in_cpu = False
    s.now.cpu_used -= 1
    if s.adapter[adapter].in_slot:
        drop_from_slot(s, adapter)


@compiled
def drop_from_slot(s: State, adapter: int) -> None:
    """Free the slot of an idle adapter."""
    unlink(s.slot_links, adapter)
    s.adapter[adapter].in_slot = False
    s.now.slots_used -= 1


@compiled
def unlink(links: IntArray, node: int) -> None:
    """Take a node out of a circular list."""
    after, before = links[0, node], links[1, node]
    links[0, before] = after
    links[1, after] = before


@compiled
def link_by_use(s: State, links: IntArray, adapter: int) -> None:
    """Put an adapter at the end of a circular list, but before those that left in the same step after it."""
    a, end = s.adapter[adapter], links.shape[1] - 1
    before = links[1, end]
    while before != end and s.adapter[before].left_at == a.left_at:
        if s.adapter[before].left_order <= a.left_order:
            break
        before = links[1, before]
    after = links[0, before]
    links[0, adapter], links[1, adapter] = after, before
    links[0, before] = adapter
    links[1, after] = adapter
