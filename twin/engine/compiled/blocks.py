"""Blocks of an engine with prefix caching: which are free, and which hold a text that may be found again.

A full block is known by its text, that is by all tokens from the start of the prompt to its end. Free blocks
stand in a queue and keep their text until they are used again, so that the queue is the order of eviction. A
request finds the longest run of blocks from its start that hold its text, free or in use by others. Blocks of
one text that were computed side by side stay apart; the oldest is found (``vllm/v1/core/block_pool.py``).

Texts are numbers. What a text has in common with another one are the blocks of that one
(`Requests.continues`); the rest are its own. Which block a request is given does not matter, only whose text
is evicted for it, so that the blocks of a step may be taken in any order.

Without caching, blocks are counted and nothing else.
"""

from __future__ import annotations

from twin.engine.compilation import apart, compiled
from twin.engine.compiled.special import is_caching
from twin.engine.state import NOBODY, Engine, State


@compiled
def owner_of(state: State, r: int, block: int) -> int:
    """The text whose own is a block of a request."""
    node = r
    while block < state.text[node].shared:
        node = state.text[node].continues
    return int(node)


@compiled
def text_of(state: State, r: int, block: int) -> int:
    """Number of the text that a block of a request ends with."""
    return int(state.text[owner_of(state, r, block)].start + block)


@apart
def awaits_text(engine: Engine, state: State) -> bool:
    """Whether more may soon be found of the request that waits for blocks: a running one writes its text."""
    r = state.now.short
    if r < 0:
        return False
    tokens = state.request[r].prompt + state.request[r].generated  # it waits, so that this is all of them
    owner = owner_of(state, r, find_blocks(engine, state, r, tokens))
    return bool(owner < len(state.request) and state.request[owner].decoding)


@apart
def find_blocks(engine: Engine, state: State, r: int, tokens: int) -> int:
    """How many blocks of a request's text are there; one token at least is left to compute."""
    found = 0
    while found < (tokens - 1) // engine.block_size and state.holder[text_of(state, r, found)] >= 0:
        found += 1
    return found


@apart
def count_idle(state: State, r: int, found: int) -> int:
    """How many of the blocks that were found are free."""
    idle = 0
    for j in range(found):
        idle += state.block[state.holder[text_of(state, r, j)]].users == 0
    return idle


@apart
def open_table(engine: Engine, state: State, r: int, found: int) -> None:
    """Give an admitted request a table of blocks, with those that were found."""
    now, extra = state.now, state.extra[r]
    now.tables -= 1
    extra.table = state.plan[now.tables].free_table
    for j in range(found):
        b = state.holder[text_of(state, r, j)]
        if state.block[b].users == 0:
            unlink_block(state, b)
        state.block[b].users += 1
        state.tables[extra.table, j] = b
    extra.blocks = extra.known = found
    if extra.cached < 0:
        extra.cached = found * engine.block_size


@apart
def grow_table(engine: Engine, state: State, r: int, tokens: int, known: int) -> None:
    """Take the blocks that hold so many tokens, and let those of known tokens that are full be found."""
    extra = state.extra[r]
    while extra.blocks * engine.block_size < tokens:
        state.tables[extra.table, extra.blocks] = take_block(state)
        extra.blocks += 1
    while (extra.known + 1) * engine.block_size <= known:
        publish(state, state.tables[extra.table, extra.known], text_of(state, r, extra.known))
        extra.known += 1


@apart
def close_table(engine: Engine, state: State, r: int) -> None:
    """Free the blocks of a request, the last one first."""
    now, extra = state.now, state.extra[r]
    for k in range(extra.blocks):
        b = state.tables[extra.table, extra.blocks - 1 - k]
        block = state.block[b]
        block.users -= 1
        if block.users == 0:
            now.free += 1
            # What cannot be found again is of no use to anyone, so that some engines use it first.
            first = engine.frees_uncached_first and block.text < 0
            link_block(state, b, len(state.block) - 1 if first else state.block[len(state.block) - 1].before)
    state.plan[now.tables].free_table = extra.table
    now.tables += 1


@compiled
def take_block(state: State) -> int:
    """Take the first free block, which forgets its text."""
    b = state.block[len(state.block) - 1].after
    unlink_block(state, b)
    block = state.block[b]
    block.users = 1
    if block.text >= 0:
        forget(state, b)
    return int(b)


@compiled
def publish(state: State, b: int, text: int) -> None:
    """Let a block be found by its text, if no older one of the same is there."""
    block = state.block[b]
    block.text, block.younger = text, NOBODY
    older = state.holder[text]
    if older < 0:
        state.holder[text] = b
        return
    while state.block[older].younger >= 0:
        older = state.block[older].younger
    state.block[older].younger = b


@compiled
def forget(state: State, b: int) -> None:
    """Let a block be found no more."""
    block = state.block[b]
    older = state.holder[block.text]
    if older == b:
        state.holder[block.text] = block.younger
    else:
        while state.block[older].younger != b:
            older = state.block[older].younger
        state.block[older].younger = block.younger
    block.text = NOBODY


@compiled
def unlink_block(state: State, b: int) -> None:
    """Take a block off the queue of free ones."""
    block = state.block[b]
    state.block[block.before].after = block.after
    state.block[block.after].before = block.before


@compiled
def link_block(state: State, b: int, before: int) -> None:
    """Put a block into the queue of free ones, behind another, or first."""
    block = state.block[b]
    block.before, block.after = before, state.block[before].after
    state.block[block.after].before = b
    state.block[before].after = b


@compiled
def enter_class(engine: Engine, state: State, r: int, place: int) -> None:
    """Count a decoding request among those that need their blocks in the same step."""
    state.classes[place].count += 1
    if is_caching(engine, state):
        extra, first = state.extra[r], state.classes[place].first
        extra.class_before, extra.class_after = NOBODY, first
        if first >= 0:
            state.extra[first].class_before = r
        state.classes[place].first = r


@compiled
def quit_class(engine: Engine, state: State, r: int, place: int) -> None:
    """Count a decoding request among them no more."""
    state.classes[place].count -= 1
    if is_caching(engine, state):
        extra = state.extra[r]
        if extra.class_after >= 0:
            state.extra[extra.class_after].class_before = extra.class_before
        if extra.class_before >= 0:
            state.extra[extra.class_before].class_after = extra.class_after
        else:
            state.classes[place].first = extra.class_after
