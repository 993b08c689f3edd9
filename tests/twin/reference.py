"""The scheduler's rules once more, slow and plain: what the compiled loop must agree with.

Written from the description of the engine, not from the compiled loop: lists, one object per request and
per block, every quantity computed anew from them in every step. Plays the rules of every version of vLLM
(`SchedulerRules`), requests of the base model, prefix caching and asynchronous scheduling.
"""

from __future__ import annotations

from math import inf

import numpy as np

from tests.twin.reference_blocks import Pool, block_names
from tests.twin.reference_requests import BASE_MODEL, Request, Step, adapters_of
from twin import EngineSetup, Requests
from twin.engine.state import turns


class Reference:
    """One engine; ``run`` plays the requests until the horizon."""

    def __init__(self, requests: Requests, setup: EngineSetup, horizon: float = inf) -> None:
        self.setup, self.rules, self.horizon = setup, setup.rules, horizon
        columns = (requests.arrival_s, requests.prompt_tokens, requests.output_tokens, requests.adapter)
        rows = enumerate(zip(*columns, strict=True))
        base = set() if setup.base is None else set(np.flatnonzero(setup.base).tolist())
        self.requests = [
            Request(i, float(t), int(p), int(o), BASE_MODEL if a in base else int(a))
            for i, (t, p, o, a) in rows
        ]
        if requests.cached_tokens is not None:
            for request, stated in zip(self.requests, requests.cached_tokens.tolist(), strict=True):
                request.stated = stated
        self.names: list[list[int]] = [[] for _ in self.requests]
        if setup.prefix_caching:
            self.names = block_names(requests, setup.block_size)
        self.outside = list(self.requests)
        self.passed_over: list[Request] = []  # only where they have a queue of their own
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        self.under_way: list[Step] = []
        self.pool = Pool(setup.usable_blocks, self.rules.frees_uncached_first)
        self.clock = 0.0
        self.gpu_free = 0.0
        self.open_again = -inf
        self.cpu_capacity = max(setup.max_cpu_loras, setup.max_loras)
        self.slots: list[int] = []  # least recently used first
        loadable = [a for a in range(requests.n_adapters) if a not in base]
        self.cpu = [] if setup.cold else loadable[: self.cpu_capacity]
        self.order = np.argsort(turns(requests.n_adapters)).tolist()
        self.gpu_loads = [0] * requests.n_adapters
        self.disk_loads = [0] * requests.n_adapters
        self.rows: list[tuple[float, int, int, int, int, int]] = []
        self.scheduled_at: list[float] = []  # of each row
        self.steps: list[tuple[float, float, int]] = []  # start, seconds, blocks in use; steps that ended

    def run(self) -> Reference:
        """Schedule, and wait for the oldest step under way if no more may be, or nothing was scheduled."""
        depth = 2 if self.setup.async_scheduling else 1
        while True:
            if not self.inside and not self.under_way:
                if not self.outside:
                    return self
                self.clock = max(self.clock, self.outside[0].arrival)
            if self.clock >= self.horizon:
                return self
            self.receive()
            if self.inside:
                step = self.schedule()
                self.under_way.append(step)
                if step.scheduled and len(self.under_way) < depth:
                    continue
            step = self.under_way.pop(0)
            if step.end > self.horizon:
                return self
            self.clock = max(self.clock, step.end)
            self.produce(step)

    @property
    def inside(self) -> int:
        return len(self.running) + len(self.waiting) + len(self.passed_over)

    @property
    def free(self) -> int:
        return len(self.pool.free)

    @property
    def full(self) -> bool:
        return 0 < self.setup.max_inflight <= self.inside

    def receive(self) -> None:
        while self.outside and self.outside[0].arrival <= self.clock and not self.full:
            request = self.outside.pop(0)
            request.sent = max(request.arrival, self.open_again)
            self.waiting.append(request)

    def schedule(self) -> Step:
        step = Step()
        budget = self.schedule_running(step)
        if not step.preempted:
            self.schedule_waiting(step, budget)
        step.decodes = [r for r in step.scheduled if r.caught_up]
        if step.scheduled:
            self.begin(step)
        else:
            assert self.setup.async_scheduling, "an engine with requests must do something"
        for request, tokens in step.scheduled.items():
            request.computed += tokens
            request.caught_up = request.computed == request.tokens + request.under_way
            if request.caught_up:
                request.under_way += 1
                step.generating.append(request)
        return step

    def begin(self, step: Step) -> None:
        """The GPU does one step after the other."""
        start = max(self.clock, self.gpu_free)
        queued = len(self.waiting) + len(self.passed_over)
        counts = (len(step.adapters), len(self.running), queued, step.preempted)
        self.rows.append((start, step.tokens, *counts))
        self.scheduled_at.append(self.clock)
        seconds = self.loads(step) + self.duration(step)
        step.end = self.gpu_free = start + seconds
        if step.end <= self.horizon:
            self.steps.append((start, seconds, self.setup.usable_blocks - self.free))

    def chunk(self, tokens: int, budget: int) -> int:
        threshold = self.setup.long_prefill_token_threshold
        if threshold and not (self.inside <= 1 and self.rules.lone_request_ignores_threshold):
            budget = min(budget, threshold)
        return min(tokens, budget)

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.setup.block_size)

    def schedule_running(self, step: Step) -> int:
        budget = self.setup.max_num_batched_tokens
        for request in list(self.running):
            if budget == 0 or request not in self.running:
                break
            if request.last_is_under_way and not self.rules.schedules_after_last:
                continue
            tokens = self.chunk(request.tokens + request.under_way - request.computed, budget)
            need = self.blocks_for(request.computed + tokens) - len(request.blocks)
            while need > self.free and request in self.running:
                self.preempt(self.running[-1])
                step.preempted += 1
            if request not in self.running:
                break
            request.blocks += self.pool.take([], need)
            self.name_blocks(request, min(request.computed + tokens, request.tokens))
            step.scheduled[request] = tokens
            budget -= tokens
        return budget

    def preempt(self, victim: Request) -> None:
        self.running.remove(victim)
        self.release(victim)
        victim.computed = victim.under_way = 0
        victim.caught_up = False
        victim.preemptions += 1
        self.waiting.insert(0, victim)

    def release(self, request: Request) -> None:
        self.pool.give_back(request.blocks)
        request.blocks, request.named = [], 0

    def schedule_waiting(self, step: Step, budget: int) -> None:
        """Scan the queues until one is not admitted for another reason than its adapter."""
        taken = adapters_of(self.running) if self.rules.slots_of_all_running else step.adapters
        passed_over = []
        for request in self.passed_over + self.waiting:
            if budget == 0 or len(self.running) == self.setup.max_num_seqs:
                break
            has_slot = request.adapter in taken | {BASE_MODEL} or len(taken) < self.setup.max_loras
            if not has_slot:
                passed_over.append(request)
                continue
            tokens = self.admit(request, budget)
            if not tokens:
                break
            step.scheduled[request] = tokens
            budget -= tokens
            taken |= {request.adapter} - {BASE_MODEL}
        self.put_back(passed_over)

    def put_back(self, passed_over: list[Request]) -> None:
        self.passed_over = [r for r in self.passed_over if r not in passed_over]
        self.waiting = [r for r in self.waiting if r not in passed_over]
        if self.rules.passed_over == "queued":
            self.passed_over = passed_over + self.passed_over
        elif self.rules.passed_over == "reversed":
            self.waiting = passed_over[::-1] + self.waiting
        else:
            self.waiting = passed_over + self.waiting

    def admit(self, request: Request, budget: int) -> int:
        """Tokens that a waiting request computes in its first step; 0 if its blocks do not fit."""
        findable = (request.tokens - 1) // self.setup.block_size  # one token is always computed
        found = self.pool.find(self.names[request.number][:findable])
        known = len(found) * self.setup.block_size
        computed = max(known, min(request.stated, request.tokens - 1))
        tokens = self.chunk(request.tokens - computed, budget)
        more = self.blocks_for(computed + tokens) - len(found)
        wanted = self.blocks_for(request.tokens) - len(found) if self.rules.reserve_full_isl else more
        idle = sum(block.users == 0 for block in found)
        kept = int(self.rules.watermark * (self.setup.usable_blocks + 1)) if self.running else 0
        if wanted + idle + kept > self.free:
            return 0
        (self.passed_over if request in self.passed_over else self.waiting).remove(request)
        self.running.append(request)
        request.blocks, request.named = self.pool.take(found, more), len(found)
        request.computed = computed
        self.name_blocks(request, computed + tokens)
        if request.first_scheduled != request.first_scheduled:
            request.first_scheduled, request.cached = self.clock, known
        return tokens

    def name_blocks(self, request: Request, tokens: int) -> None:
        """Let prompts find the blocks of the first tokens, even those that are still to be computed."""
        names = self.names[request.number]
        full = min(tokens // self.setup.block_size, len(names))
        for k in range(request.named, full):
            self.pool.name(request.blocks[k], names[k])
        request.named = max(request.named, full)

    def loads(self, step: Step) -> float:
        """Touch the adapters of the batch in turn; serial copies of those that are in no slot then."""
        setup, seconds = self.setup, 0.0
        batch = adapters_of(r for r in self.running if r in step.scheduled or not r.last_is_under_way)
        for adapter in (a for a in self.order if a in batch):
            if adapter not in self.cpu:
                if len(self.cpu) == self.cpu_capacity:
                    gone = next(a for a in self.cpu if a not in batch)
                    self.cpu.remove(gone)
                    if gone in self.slots:
                        self.slots.remove(gone)
                self.disk_loads[adapter] += 1
                seconds += float(setup.disk_load_s[adapter])
            else:
                self.cpu.remove(adapter)
            self.cpu.append(adapter)
            if adapter in self.slots:
                self.slots.remove(adapter)
            else:
                if len(self.slots) == setup.max_loras:
                    self.slots.pop(0)
                self.gpu_loads[adapter] += 1
                seconds += float(setup.gpu_load_s[adapter])
            self.slots.append(adapter)
        return seconds

    def duration(self, step: Step) -> float:
        tables, decodes, adapters = self.setup.tables, len(step.decodes), len(step.adapters)
        batch = (
            tables.token_s[step.tokens]
            + tables.adapter_s[adapters]
            + tables.adapter_token_s[adapters] * step.tokens
            + tables.decode_s * decodes
            + tables.prefill_s * (step.tokens - decodes)
            + (tables.prompts_s if step.tokens > decodes else 0.0)
        )
        context = sum(r.tokens + r.under_way for r in step.decodes)
        queued = len(self.waiting) + len(self.passed_over)
        return float(batch + (tables.context_s * context + tables.waiting_s * queued))

    def produce(self, step: Step) -> None:
        """A step has ended; what it generated for requests that ended meanwhile is dropped."""
        for request in step.generating:
            if request.finish == request.finish:
                continue
            request.generated += 1
            if request.generated == 1:
                request.first_token = self.clock
            if request in self.running:  # else it was preempted while the step was computed
                request.under_way -= 1
                self.name_blocks(request, request.computed - request.under_way)
            if request.generated == request.output:
                if self.full:
                    self.open_again = self.clock
                request.finish = self.clock
                (self.running if request in self.running else self.waiting).remove(request)
                self.release(request)
