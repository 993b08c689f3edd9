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
from twin.engine.compiled.queues import change_sides
from twin.engine.compiled.special import is_base
from twin.engine.requests import IntArray
from twin.engine.state import Engine, Record, State


@compiled
def enter(state: State, adapter: int) -> None:
    """Count one more running request of an adapter."""
    now, record = state.now, state.adapter[adapter]
    record.active += 1
    if record.active > 1 or is_base(state, record):
        return
    record.entered = now.steps
    now.distinct += 1
    change_sides(state, adapter)
    # Adapters of the batch are in no list of idle ones: nothing may drop them from CPU memory.
    if record.in_cpu:
        unlink(state.cpu_links, adapter)
    if not record.in_slot:
        insert_by_turn(state, state.pending, now.pending, adapter)
        now.pending += 1
        return
    unlink(state.slot_links, adapter)
    # It has not been touched for a step or more, and until its turn it is older than the rest of the batch.
    if record.touched < now.steps - 1:
        now.returned += 1


@compiled
def leave(state: State, adapter: int, finished: int) -> None:
    """Count one running request of an adapter less; it finished in this step or was preempted before it."""
    now, record = state.now, state.adapter[adapter]
    record.active -= 1
    if record.active > 0 or is_base(state, record):
        return
    # Last touched in the step that finished its request, or in the one before that which preempted it.
    record.touched = now.steps - 1 + finished
    now.distinct -= 1
    change_sides(state, adapter)
    link_by_use(state, state.slot_links, adapter)
    link_by_use(state, state.cpu_links, adapter)


@compiled
def load_pending(engine: Engine, state: State, part: Record) -> float:
    """Bring this step's new adapters into slots, one after the other; return the seconds it takes."""
    now = state.now
    if now.pending == 0:
        now.returned = 0
        return 0.0
    seconds = 0.0
    if idle_suffice(engine, state):
        # Those that go have idled for longer than any of the batch, so the order of the walk does not matter.
        for k in range(now.pending):
            adapter = state.pending[k]
            seconds += read_from_disk(engine, state, adapter, part)
            if now.slots_used >= engine.max_loras:
                drop_from_slot(state, state.slot_links[0, engine.adapters])
            seconds += copy_to_slot(state, adapter, part)
    else:
        seconds = load_in_turn(engine, state, part)
    note_residents(state)
    now.pending = now.returned = 0
    return seconds


@compiled
def idle_suffice(engine: Engine, state: State) -> bool:
    """Whether only adapters that idled through the last step have to go."""
    now = state.now
    wanted = now.slots_used + now.pending - engine.max_loras
    if wanted <= 0:
        return True
    if now.returned > 0:
        return False
    node = state.slot_links[0, engine.adapters]
    # One touched in the last step itself would compete with the adapters of the batch by its turn.
    for _ in range(wanted):
        if node == engine.adapters or state.adapter[node].touched >= now.steps - 1:
            return False
        node = state.slot_links[0, node]
    return True


@compiled
def load_in_turn(engine: Engine, state: State, part: Record) -> float:
    """Walk the adapters of the batch as vLLM does; return the seconds of all copies."""
    now = state.now
    # Two lists sorted by turn are merged, residents and newcomers; ``oldest`` only ever moves on, as what was
    # walked past was touched in this step.
    seconds, count, i, k, oldest = 0.0, now.residents, 0, 0, 0
    while i < count or k < now.pending:
        new = k < now.pending
        if new and i < count:
            new = state.adapter[state.pending[k]].turn < state.adapter[state.residents[i]].turn
        if new:
            adapter = state.pending[k]
            k += 1
            seconds += read_from_disk(engine, state, adapter, part)
        else:
            adapter = state.residents[i]
            i += 1
            record = state.adapter[adapter]
            if record.in_slot:
                record.touched = now.steps if record.active > 0 else record.touched
            if record.in_slot or record.active == 0:
                continue
            # A resident of the batch without slot was driven out earlier in this walk: it is copied again.
        if now.slots_used >= engine.max_loras:
            oldest = next_untouched(state, oldest)
            drop_from_slot(state, longest_untouched(engine, state, oldest))
        seconds += copy_to_slot(state, adapter, part)
    return seconds


@compiled
def next_untouched(state: State, k: int) -> int:
    """From the k-th adapter in slots on, the first of the last step's batch that was not yet walked past."""
    now = state.now
    while k < now.residents:
        record = state.adapter[state.residents[k]]
        untouched = record.in_slot and record.active > 0 and record.touched != now.steps
        if untouched and not returned(state, state.residents[k]):
            break
        k += 1
    return k


@compiled
def returned(state: State, adapter: int) -> bool:
    """Whether an adapter in a slot has just come back after idling there through a step or more."""
    record = state.adapter[adapter]
    recent = record.entered == state.now.steps and record.touched < state.now.steps - 1
    return bool(recent and record.in_slot and record.active > 0)


@compiled
def longest_untouched(engine: Engine, state: State, k: int) -> int:
    """The adapter in a slot that was touched longest ago; the k-th is the first of the last step's batch."""
    now = state.now
    # Three candidates, each the first of its kind: of the batch, of the idle ones, and of those that have
    # just come back, which are few and looked at one by one.
    best, step, turn = -1, now.steps, 0
    if k < now.residents:
        best, step, turn = state.residents[k], now.steps - 1, state.adapter[state.residents[k]].turn
    idle = state.slot_links[0, engine.adapters]
    if idle != engine.adapters and is_before(state, idle, step, turn):
        best, step, turn = idle, state.adapter[idle].touched, state.adapter[idle].turn
    if now.returned > 0:
        for j in range(now.residents):
            other = state.residents[j]
            if returned(state, other) and is_before(state, other, step, turn):
                best, step, turn = other, state.adapter[other].touched, state.adapter[other].turn
    return best


@compiled
def is_before(state: State, adapter: int, step: int, turn: int) -> bool:
    """Whether an adapter's last touch was before a turn of a step."""
    record = state.adapter[adapter]
    return bool(record.touched < step or (record.touched == step and record.turn < turn))


@compiled
def copy_to_slot(state: State, adapter: int, part: Record) -> float:
    """Put an adapter into a free slot; return the seconds it takes."""
    record = state.adapter[adapter]
    record.in_slot = True
    record.touched = state.now.steps
    state.now.slots_used += 1
    record.gpu_loads += 1
    part.gpu_loads += 1
    return float(record.gpu_load_s)


@compiled
def read_from_disk(engine: Engine, state: State, adapter: int, part: Record) -> float:
    """Make sure that an adapter is in CPU memory; return the seconds it takes."""
    now, record = state.now, state.adapter[adapter]
    if record.in_cpu:
        return 0.0
    if now.cpu_used >= engine.max_cpu_loras:
        drop_from_cpu(state, state.cpu_links[0, engine.adapters])
    record.in_cpu = True
    now.cpu_used += 1
    record.disk_loads += 1
    part.disk_loads += 1
    return float(record.disk_load_s)


@compiled
def drop_from_cpu(state: State, adapter: int) -> None:
    """Forget an idle adapter, also in its slot: a slot's adapter stays in CPU memory too."""
    unlink(state.cpu_links, adapter)
    state.adapter[adapter].in_cpu = False
    state.now.cpu_used -= 1
    if state.adapter[adapter].in_slot:
        drop_from_slot(state, adapter)


@compiled
def drop_from_slot(state: State, adapter: int) -> None:
    """Free the slot of an adapter."""
    record = state.adapter[adapter]
    if record.active == 0:
        unlink(state.slot_links, adapter)
    record.in_slot = False
    state.now.slots_used -= 1


@compiled
def note_residents(state: State) -> None:
    """Bring the adapters in slots up to date, by turn: without those that left, with those of this step."""
    now, kept = state.now, 0
    for k in range(now.residents):
        if state.adapter[state.residents[k]].in_slot:
            state.residents[kept] = state.residents[k]
            kept += 1
    for k in range(now.pending):
        insert_by_turn(state, state.residents, kept + k, state.pending[k])
    now.residents = kept + now.pending


@compiled
def insert_by_turn(state: State, adapters: IntArray, count: int, adapter: int) -> None:
    """Put an adapter among the first ``count`` of an array that is sorted by turn."""
    k = count  # insertion, as few adapters are new in one step
    while k > 0 and state.adapter[adapters[k - 1]].turn > state.adapter[adapter].turn:
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
def link_by_use(state: State, links: IntArray, adapter: int) -> None:
    """Put an adapter that was just touched into a circular list sorted by last touch."""
    record, end = state.adapter[adapter], links.shape[1] - 1
    # From the end: what was touched last belongs there, but for others of the same step with a later turn.
    before = links[1, end]
    while before != end and not is_before(state, before, record.touched, record.turn):
        before = links[1, before]
    after = links[0, before]
    links[0, adapter], links[1, adapter] = after, before
    links[0, before] = adapter
    links[1, after] = adapter
