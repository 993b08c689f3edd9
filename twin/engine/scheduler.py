"""vLLM's scheduling of one step: running requests first, then waiting ones.

Two paths. While the token budget covers what the running requests ask for, or cuts only the prefill of
the one admitted last, nobody needs to be visited but requests in prefill: the blocks that decoding
requests need are counted, and preempting from the end of the batch until the sum fits gives the same
result as vLLM's pass from its start. Otherwise (several prefills under ``long_prefill_token_threshold``)
the batch is walked request by request.
"""

from __future__ import annotations

from twin.engine.batch import blocks_for, join_batch, needs_block, postpone, preempt_last, tokens_of
from twin.engine.compilation import compiled
from twin.engine.queues import first_admissible, pop
from twin.engine.state import Engine, State


@compiled
def schedule(e: Engine, s: State) -> None:
    """Decide what the next step computes; afterwards the plan and the counts of the step say it."""
    n = s.now
    n.steps += 1
    n.rest = -1
    before, limit = n.running, prefill_limit(e, s)
    excess = plan_partials(s, limit) - e.budget
    if excess > 0 and not cuts_only_last(s, excess):
        walk(e, s)
        n.step_preempted = before - n.running
    else:
        if excess > 0:
            s.plan[0].chunk -= excess
        make_room(e, s)
        n.step_preempted = before - n.running
        take_all(s)
        if n.step_preempted == 0:
            admit(e, s, -excess, limit)
    n.step_prefill = 0
    for k in range(n.planned):
        n.step_prefill += s.plan[k].chunk


@compiled
def prefill_limit(e: Engine, s: State) -> int:
    """Most prefill tokens of one request in this step."""
    alone = s.now.running + s.now.waiting <= 1
    whole = e.threshold == 0 or (alone and e.lone_ignores_threshold)
    return int(e.budget if whole else e.threshold)


@compiled
def plan_partials(s: State, limit: int) -> int:
    """Give requests in prefill what they ask for; return the tokens that all running requests ask for."""
    n = s.now
    demand = n.decoding
    for k in range(n.partials):
        p = s.plan[k]
        p.chunk = min(tokens_of(s, p.request) - s.request[p.request].computed, limit)
        demand += p.chunk
    return int(demand)


@compiled
def cuts_only_last(s: State, excess: int) -> bool:
    """Whether a short budget is felt by nobody but one prefill at the end of the batch."""
    n, p = s.now, s.plan[0]
    return bool(n.partials == 1 and p.request == n.last and p.chunk >= excess)


@compiled
def extra_blocks(e: Engine, s: State, k: int) -> int:
    """Blocks that the k-th request of the plan needs for its chunk."""
    computed = s.request[s.plan[k].request].computed
    return blocks_for(e, computed + s.plan[k].chunk) - blocks_for(e, computed)


@compiled
def make_room(e: Engine, s: State) -> None:
    """Take the blocks that the running requests need, preempting from the end until they suffice."""
    n = s.now
    need = s.classes[n.phase]
    for k in range(n.partials):
        need += extra_blocks(e, s, k)
    while need > n.free:
        last = n.last
        need -= needs_block(e, s, last) if s.request[last].decoding else extra_blocks(e, s, n.partials - 1)
        preempt_last(e, s)
    n.free -= need


@compiled
def take_all(s: State) -> None:
    """Count all running requests as scheduled, but for a last one that got no token."""
    n, p = s.now, s.plan[0]
    n.step_decodes = n.decoding
    n.step_context = n.context
    n.step_adapters = n.distinct
    n.planned = n.partials
    if n.partials == 1 and p.chunk == 0 and s.adapter[s.request[p.request].adapter].active == 1:
        n.step_adapters -= 1


@compiled
def admit(e: Engine, s: State, budget: int, limit: int) -> None:
    """Admit waiting requests in order until tokens, requests or blocks run out."""
    n = s.now
    while budget > 0 and n.running < e.max_num_seqs:
        r = first_admissible(e, s)
        if r < 0:
            return
        tokens = tokens_of(s, r)
        chunk = min(tokens, limit, budget)
        blocks = blocks_for(e, chunk)
        wanted = blocks_for(e, tokens) if e.reserve_full_isl else blocks
        if wanted + (e.watermark_blocks if n.running > 0 else 0) > n.free:
            return
        pop(s, s.request[r].adapter)
        join_batch(s, r)
        n.step_adapters = n.distinct
        n.free -= blocks
        p = s.plan[n.planned]
        p.request, p.chunk = r, chunk
        n.planned += 1
        budget -= chunk


@compiled
def walk(e: Engine, s: State) -> None:
    """Schedule the running requests one by one, in order, until the budget is spent."""
    n = s.now
    n.step_decodes = n.step_context = n.step_adapters = 0
    budget, k, r = e.budget, 0, n.first
    while r >= 0 and budget > 0:
        tokens, need = 1, 0
        if s.request[r].decoding:
            need = needs_block(e, s, r)
        else:
            tokens = min(s.plan[k].chunk, budget)
            s.plan[k].chunk = tokens
            need = extra_blocks(e, s, k)
            k += 1
        if not make_room_for(e, s, r, need):
            break
        take(s, r)
        budget -= tokens
        r = s.request[r].follower
    if budget == 0:
        n.rest = r
    n.planned = n.partials
    while k < n.partials:
        s.plan[k].chunk = 0
        k += 1


@compiled
def make_room_for(e: Engine, s: State, r: int, need: int) -> bool:
    """Take one request's blocks, preempting from the end; False if that hit the request itself."""
    n = s.now
    while need > n.free:
        last = n.last
        preempt_last(e, s)
        if last == r:
            return False
    n.free -= need
    return True


@compiled
def take(s: State, r: int) -> None:
    """Count one running request as scheduled."""
    n, q = s.now, s.request[r]
    a = s.adapter[q.adapter]
    if q.decoding:
        n.step_decodes += 1
        n.step_context += tokens_of(s, r)
    if a.seen != n.steps:
        a.seen = n.steps
        n.step_adapters += 1


@compiled
def postpone_rest(e: Engine, s: State) -> None:
    """Hold back the decoding requests that the walk left out."""
    r = s.now.rest
    while r >= 0:
        if s.request[r].decoding:
            postpone(e, s, r)
        r = s.request[r].follower
