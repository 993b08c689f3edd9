"""vLLM's scheduling of one step: running requests first, then waiting ones.

Two paths. While the token budget covers what the running requests ask for, or cuts only the prefill of
the one admitted last, nobody needs to be visited but requests in prefill: the blocks that decoding
requests need are counted, and preempting from the end of the batch until the sum fits gives the same
result as vLLM's pass from its start. Otherwise (several prefills under ``long_prefill_token_threshold``)
the batch is walked request by request.
"""

from __future__ import annotations

from twin.engine.compilation import apart, compiled
from twin.engine.compiled.batch import (
    blocks_for,
    grow_decoding,
    join_batch,
    needs_block,
    postpone,
    tokens_of,
    under_way,
)
from twin.engine.compiled.blocks import count_idle, find_blocks, grow_table, open_table
from twin.engine.compiled.endings import preempt_last
from twin.engine.compiled.line import put_back
from twin.engine.compiled.queues import first_admissible, pop
from twin.engine.compiled.special import (
    is_ahead,
    is_base,
    is_caching,
    is_over,
    is_special,
    keeps_line,
    lingers,
)
from twin.engine.state import NOBODY, Engine, State


@compiled
def schedule(engine: Engine, state: State) -> None:
    """Decide what the next step computes; afterwards the plan and the counts of the step say it."""
    now = state.now
    now.steps += 1
    now.rest = now.short = NOBODY
    before, limit = now.running, prefill_limit(engine, state)
    excess = plan_partials(state, limit) - engine.budget
    if (excess > 0 and not cuts_only_last(state, excess)) or preempts_in_turn(engine, state):
        walk(engine, state)
        now.step_preempted = before - now.running
    else:
        if excess > 0:
            state.plan[0].chunk -= excess  # the only one in prefill gets what the others leave
        make_room(engine, state)
        now.step_preempted = before - now.running
        take_all(state)
        if is_caching(engine, state):
            grow_batch(engine, state)
        # vLLM admits nobody in a step that preempted: the victim would come back at once.
        if now.step_preempted == 0:
            admit(engine, state, -excess, limit)
            if keeps_line(engine, state):
                put_back(engine, state)
    now.step_prefill = 0
    for k in range(now.planned):
        now.step_prefill += state.plan[k].chunk


@compiled
def prefill_limit(engine: Engine, state: State) -> int:
    """Most prefill tokens of one request in this step."""
    # Newer engines do not cut the prompt of the only request there is: nobody would gain by it.
    alone = state.now.running + state.now.waiting <= 1
    whole = engine.threshold == 0 or (alone and engine.lone_ignores_threshold)
    return int(engine.budget if whole else engine.threshold)


@compiled
def plan_partials(state: State, limit: int) -> int:
    """Give requests in prefill what they ask for; return the tokens that all running requests ask for."""
    now = state.now
    demand = now.decoding
    for k in range(now.partials):
        entry = state.plan[k]
        entry.chunk = min(tokens_of(state, entry.request) - state.request[entry.request].computed, limit)
        demand += entry.chunk
    return int(demand)


@compiled
def cuts_only_last(state: State, excess: int) -> bool:
    """Whether a short budget is felt by nobody but one prefill at the end of the batch."""
    now, entry = state.now, state.plan[0]
    return bool(now.partials == 1 and entry.request == now.last and entry.chunk >= excess)


@compiled
def extra_blocks(engine: Engine, state: State, k: int) -> int:
    """Blocks that the k-th request of the plan needs for its chunk."""
    computed = state.request[state.plan[k].request].computed
    return blocks_for(engine, computed + state.plan[k].chunk) - blocks_for(engine, computed)


@compiled
def wanted_blocks(engine: Engine, state: State) -> int:
    """Blocks that the running requests need."""
    need = state.classes[state.now.phase].count
    for k in range(state.now.partials):
        need += extra_blocks(engine, state, k)
    return int(need)


@compiled
def preempts_in_turn(engine: Engine, state: State) -> bool:
    """Whether somebody must be preempted and it matters when, as freed blocks may come before all others."""
    first = is_caching(engine, state) and engine.frees_uncached_first
    return bool(first and wanted_blocks(engine, state) > state.now.free)


@compiled
def make_room(engine: Engine, state: State) -> None:
    """Take the blocks that the running requests need, preempting from the end until they suffice."""
    now, need = state.now, wanted_blocks(engine, state)
    # Who is preempted takes along what he needs himself. vLLM, from the start of the batch, preempts the same
    # ones: from the end, until what those that stay need is there. Of requests in prefill the plan's last is
    # the batch's last.
    while need > now.free:
        last = now.last
        if state.request[last].decoding:
            need -= needs_block(engine, state, last)
        elif not is_over(engine, state, last):
            need -= extra_blocks(engine, state, now.partials - 1)
        preempt_last(engine, state)
    now.free -= need


@apart
def grow_batch(engine: Engine, state: State) -> None:
    """Let the running requests take the blocks that were counted for them."""
    grow_decoding(engine, state)
    for k in range(state.now.partials):
        entry = state.plan[k]
        tokens = state.request[entry.request].computed + entry.chunk
        grow_table(engine, state, entry.request, tokens, tokens)


@compiled
def take_all(state: State) -> None:
    """Count all running requests as scheduled."""
    now = state.now
    # Each got a token at least, also a last one that gets what the others leave: a request is admitted only
    # if all that run got what they ask for and a token is left, so that no more run than there are tokens.
    now.step_decodes = now.decoding
    now.step_context = now.context
    now.step_adapters = now.distinct
    now.planned = now.partials


@compiled
def admit(engine: Engine, state: State, budget: int, limit: int) -> None:
    """Admit waiting requests in order until tokens, requests or blocks run out."""
    now = state.now
    while budget > 0 and now.running < engine.max_num_seqs:
        r = first_admissible(engine, state)
        if r < 0:
            return  # all that wait are skipped, for want of a slot
        tokens = tokens_of(state, r)
        found = taken = computed = 0
        if is_caching(engine, state):
            found = find_blocks(engine, state, r, tokens)
            # Blocks that were found are taken from the free ones too, unless others hold them.
            taken = count_idle(state, r, found) - found
            computed = found * engine.block_size
        if is_special(state) and engine.stated:
            computed = max(computed, min(state.extra[r].stated, tokens - 1))
        chunk = min(tokens - computed, limit, budget)
        blocks = taken + blocks_for(engine, computed + chunk)
        # Some engines want room for the whole prompt before they begin with its first chunk.
        wanted = taken + blocks_for(engine, tokens) if engine.reserve_full_isl else blocks
        if wanted + (engine.watermark_blocks if now.running > 0 else 0) > now.free:
            now.short = r
            return  # nobody behind may overtake one that waits for blocks
        pop(engine, state, state.request[r].adapter)
        join_batch(state, r, computed)
        now.step_adapters = now.distinct
        now.free -= blocks
        if is_caching(engine, state):
            open_table(engine, state, r, found)
            grow_table(engine, state, r, computed + chunk, computed + chunk)
        entry = state.plan[now.planned]
        entry.request, entry.chunk = r, chunk
        now.planned += 1
        budget -= chunk


@compiled
def walk(engine: Engine, state: State) -> None:
    """Schedule the running requests one by one, in order, until the budget is spent."""
    now = state.now
    now.step_decodes = now.step_context = now.step_adapters = 0
    budget, k, r = engine.budget, 0, now.first
    while r >= 0 and budget > 0:
        if is_over(engine, state, r) and not lingers(engine, state):
            r = state.request[r].follower
            continue
        tokens, need = 1, 0
        if state.request[r].decoding:
            need = needs_block(engine, state, r)
        else:
            tokens = min(state.plan[k].chunk, budget)
            state.plan[k].chunk = tokens
            need = extra_blocks(engine, state, k)
            k += 1
        if not make_room_for(engine, state, r, need):
            break  # it was preempted itself, and so were all behind it
        if is_caching(engine, state):
            grow_walked(engine, state, r, tokens)
        take(state, r)
        budget -= tokens
        r = state.request[r].follower
    if budget == 0:
        now.rest = r
    now.planned = now.partials
    while k < now.partials:
        state.plan[k].chunk = 0
        k += 1


@apart
def grow_walked(engine: Engine, state: State, r: int, chunk: int) -> None:
    """Let one running request take the blocks that were counted for it."""
    if state.request[r].decoding:
        tokens = tokens_of(state, r)
        grow_table(engine, state, r, tokens, tokens - under_way(engine, state, r))
    else:
        tokens = state.request[r].computed + chunk
        grow_table(engine, state, r, tokens, tokens)


@compiled
def make_room_for(engine: Engine, state: State, r: int, need: int) -> bool:
    """Take one request's blocks, preempting from the end; False if that hit the request itself."""
    now = state.now
    while need > now.free:
        last = now.last
        preempt_last(engine, state)
        if last == r:
            return False
    now.free -= need
    return True


@compiled
def take(state: State, r: int) -> None:
    """Count one running request as scheduled."""
    now, request = state.now, state.request[r]
    record = state.adapter[request.adapter]
    if request.decoding:
        now.step_decodes += 1
        now.step_context += tokens_of(state, r)
    # A stamp in place of a set that would have to be emptied in every step.
    if record.seen != now.steps and not is_base(state, record):
        record.seen = now.steps
        now.step_adapters += 1


@apart
def note_left_out(engine: Engine, state: State, r: int) -> None:
    """Note that a decoding request gets no token in the step, by whose end all of its tokens are known."""
    state.extra[r].left_at = state.now.steps
    if is_caching(engine, state):
        tokens = tokens_of(state, r) - 1
        grow_table(engine, state, r, tokens, tokens)


@compiled
def postpone_rest(engine: Engine, state: State) -> None:
    """Hold back the decoding requests that the walk left out."""
    r = state.now.rest
    while r >= 0:
        if state.request[r].decoding:
            postpone(engine, state, r)
            if is_ahead(engine, state):
                note_left_out(engine, state, r)
        r = state.request[r].follower
