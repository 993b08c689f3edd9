"""Adapters in memory: which are running, which sit idle in a slot or in CPU memory, and who must go.

Before every step vLLM walks the adapters of the batch in an order of its own, that of a hash set, and
touches each: one that is in no slot is copied into a free one or into that of the adapter touched longest
ago, be it idle or of this very batch and still to be walked past. In the latter case that one is copied
again at its turn, which drives out the next one, and so on until an idle one is met. With all slots busy a
newcomer so costs about a sixth of the slots in copies (`worker_manager.py`, `LRUCacheWorkerLoRAManager`).

Here nothing is touched in a step without newcomers. The adapters of the batch count as touched in the last
step, in their order (``turn``); idle ones keep the step of their last touch, in two circular lists sorted
by step and turn, one of adapters idle in a slot and one of those idle in CPU memory; the node after the last
adapter is their start. An adapter drops out of CPU memory only while it is idle.
"""

from __future__ import annotations

from twin.engine.compilation import compiled
from twin.engine.queues import change_sides
from twin.engine.requests import IntArray
from twin.engine.state import Engine, Record, State


@compiled
def enter(s: State, adapter: int) -> None:
    """Count one more running request of an adapter."""
    n, a = s.now, s.adapter[adapter]
    a.active += 1
    if a.active > 1:
        return
    a.entered = n.steps
    n.distinct += 1
    change_sides(s, adapter)
    if a.in_cpu:
        unlink(s.cpu_links, adapter)
    if not a.in_slot:
        insert_by_turn(s, s.pending, n.pending, adapter)
        n.pending += 1
        return
    unlink(s.slot_links, adapter)
    if a.touched < n.steps - 1:
        n.returned += 1


@compiled
def leave(s: State, adapter: int, finished: int) -> None:
    """Count one running request of an adapter less; it finished in this step or was preempted before it."""
    n, a = s.now, s.adapter[adapter]
    a.active -= 1
    if a.active > 0:
        return
    a.touched = n.steps - 1 + finished
    n.distinct -= 1
    change_sides(s, adapter)
    link_by_use(s, s.slot_links, adapter)
    link_by_use(s, s.cpu_links, adapter)


@compiled
def load_pending(e: Engine, s: State, part: Record) -> float:
    """Bring this step's new adapters into slots, one after the other; return the seconds it takes."""
    n = s.now
    if n.pending == 0:
        n.returned = 0
        return 0.0
    seconds = 0.0
    if idle_suffice(e, s):
        for k in range(n.pending):
            adapter = s.pending[k]
            seconds += read_from_disk(e, s, adapter, part)
            if n.slots_used >= e.max_loras:
                drop_from_slot(s, s.slot_links[0, e.adapters])
            seconds += copy_to_slot(s, adapter, part)
    else:
        seconds = load_in_turn(e, s, part)
    note_residents(s)
    n.pending = n.returned = 0
    return seconds


@compiled
def idle_suffice(e: Engine, s: State) -> bool:
    """Whether only adapters that idled through the last step have to go."""
    n = s.now
    wanted = n.slots_used + n.pending - e.max_loras
    if wanted <= 0:
        return True
    if n.returned > 0:
        return False
    node = s.slot_links[0, e.adapters]
    for _ in range(wanted):
        if node == e.adapters or s.adapter[node].touched >= n.steps - 1:
            return False
        node = s.slot_links[0, node]
    return True


@compiled
def load_in_turn(e: Engine, s: State, part: Record) -> float:
    """Walk the adapters of the batch as vLLM does; return the seconds of all copies."""
    n = s.now
    seconds, count, i, k, oldest = 0.0, n.residents, 0, 0, 0
    while i < count or k < n.pending:
        new = k < n.pending
        if new and i < count:
            new = s.adapter[s.pending[k]].turn < s.adapter[s.residents[i]].turn
        if new:
            adapter = s.pending[k]
            k += 1
            seconds += read_from_disk(e, s, adapter, part)
        else:
            adapter = s.residents[i]
            i += 1
            a = s.adapter[adapter]
            if a.in_slot:
                a.touched = n.steps if a.active > 0 else a.touched
            if a.in_slot or a.active == 0:
                continue
        if n.slots_used >= e.max_loras:
            oldest = next_untouched(s, oldest)
            drop_from_slot(s, longest_untouched(e, s, oldest))
        seconds += copy_to_slot(s, adapter, part)
    return seconds


@compiled
def next_untouched(s: State, k: int) -> int:
    """From the k-th adapter in slots on, the first of the last step's batch that was not yet walked past."""
    n = s.now
    while k < n.residents:
        a = s.adapter[s.residents[k]]
        if a.in_slot and a.active > 0 and a.touched != n.steps and not returned(s, s.residents[k]):
            break
        k += 1
    return k


@compiled
def returned(s: State, adapter: int) -> bool:
    """Whether an adapter in a slot has just come back after idling there through a step or more."""
    a = s.adapter[adapter]
    recent = a.entered == s.now.steps and a.touched < s.now.steps - 1
    return bool(recent and a.in_slot and a.active > 0)


@compiled
def longest_untouched(e: Engine, s: State, k: int) -> int:
    """The adapter in a slot that was touched longest ago; the k-th is the first of the last step's batch."""
    n = s.now
    best, step, turn = -1, n.steps, 0
    if k < n.residents:
        best, step, turn = s.residents[k], n.steps - 1, s.adapter[s.residents[k]].turn
    idle = s.slot_links[0, e.adapters]
    if idle != e.adapters and is_before(s, idle, step, turn):
        best, step, turn = idle, s.adapter[idle].touched, s.adapter[idle].turn
    if n.returned > 0:
        for j in range(n.residents):
            other = s.residents[j]
            if returned(s, other) and is_before(s, other, step, turn):
                best, step, turn = other, s.adapter[other].touched, s.adapter[other].turn
    return best


@compiled
def is_before(s: State, adapter: int, step: int, turn: int) -> bool:
    """Whether an adapter's last touch was before a turn of a step."""
    a = s.adapter[adapter]
    return bool(a.touched < step or (a.touched == step and a.turn < turn))


@compiled
def copy_to_slot(s: State, adapter: int, part: Record) -> float:
    """Put an adapter into a free slot; return the seconds it takes."""
    a = s.adapter[adapter]
    a.in_slot = True
    a.touched = s.now.steps
    s.now.slots_used += 1
    a.gpu_loads += 1
    part.gpu_loads += 1
    return float(a.gpu_load_s)


@compiled
def read_from_disk(e: Engine, s: State, adapter: int, part: Record) -> float:
    """Make sure that an adapter is in CPU memory; return the seconds it takes."""
    n, a = s.now, s.adapter[adapter]
    if a.in_cpu:
        return 0.0
    if n.cpu_used >= e.max_cpu_loras:
        drop_from_cpu(s, s.cpu_links[0, e.adapters])
    a.in_cpu = True
    n.cpu_used += 1
    a.disk_loads += 1
    part.disk_loads += 1
    return float(a.disk_load_s)


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
    """Free the slot of an adapter."""
    a = s.adapter[adapter]
    if a.active == 0:
        unlink(s.slot_links, adapter)
    a.in_slot = False
    s.now.slots_used -= 1


@compiled
def note_residents(s: State) -> None:
    """Bring the adapters in slots up to date, by turn: without those that left, with those of this step."""
    n, kept = s.now, 0
    for k in range(n.residents):
        if s.adapter[s.residents[k]].in_slot:
            s.residents[kept] = s.residents[k]
            kept += 1
    for k in range(n.pending):
        insert_by_turn(s, s.residents, kept + k, s.pending[k])
    n.residents = kept + n.pending


@compiled
def insert_by_turn(s: State, adapters: IntArray, count: int, adapter: int) -> None:
    """Put an adapter among the first ``count`` of an array that is sorted by turn."""
    k = count
    while k > 0 and s.adapter[adapters[k - 1]].turn > s.adapter[adapter].turn:
        adapters[k] = adapters[k - 1]
        k -= 1
    adapters[k] = adapter


@compiled
def unlink(links: IntArray, node: int) -> None:
    """Take a node out of a circular list."""
    after, before = links[0, node], links[1, node]
    links[0, before] = after
    links[1, after] = before


@compiled
def link_by_use(s: State, links: IntArray, adapter: int) -> None:
    """Put an adapter that was just touched into a circular list sorted by last touch."""
    a, end = s.adapter[adapter], links.shape[1] - 1
    before = links[1, end]
    while before != end and not is_before(s, before, a.touched, a.turn):
        before = links[1, before]
    after = links[0, before]
    links[0, adapter], links[1, adapter] = after, before
    links[0, before] = adapter
    links[1, after] = adapter
