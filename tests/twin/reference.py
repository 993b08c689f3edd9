"""The scheduler's rules once more, slow and plain: what the compiled loop must agree with.

Written from the description of the engine, not from the compiled loop: lists, one object per request,
every quantity computed anew from them in every step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, nan

import numpy as np

from twin import EngineSetup, Requests
from twin.engine.state import turns


@dataclass(eq=False)
class Request:
    """One request and what became of it."""

    number: int
    arrival: float
    prompt: int
    output: int
    adapter: int
    computed: int = 0
    generated: int = 0
    blocks: int = 0
    preemptions: int = 0
    caught_up: bool = False
    sent: float = nan
    first_scheduled: float = nan
    first_token: float = nan
    finish: float = nan

    @property
    def tokens(self) -> int:
        return self.prompt + self.generated


@dataclass
class Step:
    """What one step computes."""

    start: float
    scheduled: dict[Request, int] = field(default_factory=dict)
    admitted: list[Request] = field(default_factory=list)
    preempted: int = 0

    @property
    def tokens(self) -> int:
        return sum(self.scheduled.values())

    @property
    def decodes(self) -> list[Request]:
        return [r for r in self.scheduled if r.caught_up]

    @property
    def adapters(self) -> set[int]:
        return {r.adapter for r in self.scheduled}


class Reference:
    """One engine; ``run`` plays the requests until the horizon."""

    def __init__(self, requests: Requests, setup: EngineSetup, horizon: float = inf) -> None:
        self.setup, self.horizon = setup, horizon
        columns = (requests.arrival_s, requests.prompt_tokens, requests.output_tokens, requests.adapter)
        rows = enumerate(zip(*columns, strict=True))
        self.requests = [Request(i, float(t), int(p), int(o), int(a)) for i, (t, p, o, a) in rows]
        self.outside = list(self.requests)
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        self.clock = 0.0
        self.open_again = -inf
        self.cpu_capacity = max(setup.max_cpu_loras, setup.max_loras)
        self.slots: list[int] = []  # least recently used first
        self.cpu = [] if setup.cold else list(range(min(requests.n_adapters, self.cpu_capacity)))
        self.order = np.argsort(turns(requests.n_adapters)).tolist()
        self.gpu_loads = [0] * requests.n_adapters
        self.disk_loads = [0] * requests.n_adapters
        self.rows: list[tuple[float, int, int, int, int, int]] = []
        self.steps: list[tuple[float, float, int]] = []  # start, seconds, blocks in use; steps that ended

    def run(self) -> Reference:
        while True:
            if not self.running and not self.waiting:
                if not self.outside:
                    return self
                self.clock = max(self.clock, self.outside[0].arrival)
            if self.clock >= self.horizon:
                return self
            self.receive()
            step = self.schedule()
            seconds = self.loads() + self.duration(step)
            if self.clock + seconds > self.horizon:
                return self
            self.steps.append((self.clock, seconds, self.setup.usable_blocks - self.free))
            self.clock += seconds
            self.produce(step)

    @property
    def free(self) -> int:
        return self.setup.usable_blocks - sum(r.blocks for r in self.running)

    @property
    def full(self) -> bool:
        return 0 < self.setup.max_inflight <= len(self.running) + len(self.waiting)

    def receive(self) -> None:
        while self.outside and self.outside[0].arrival <= self.clock and not self.full:
            request = self.outside.pop(0)
            request.sent = max(request.arrival, self.open_again)
            self.waiting.append(request)

    def schedule(self) -> Step:
        step = Step(self.clock)
        budget = self.schedule_running(step)
        if not step.preempted:
            self.schedule_waiting(step, budget)
        counts = (len(step.adapters), len(self.running), len(self.waiting), step.preempted)
        self.rows.append((self.clock, step.tokens, *counts))
        assert step.scheduled, "an engine with requests must do something"
        return step

    def chunk(self, request: Request, budget: int) -> int:
        threshold = self.setup.long_prefill_token_threshold
        alone = len(self.running) + len(self.waiting) <= 1
        if threshold and not (alone and self.setup.rules.lone_request_ignores_threshold):
            budget = min(budget, threshold)
        return min(request.tokens - request.computed, budget)

    def blocks_for(self, tokens: int) -> int:
        return -(-tokens // self.setup.block_size)

    def schedule_running(self, step: Step) -> int:
        budget = self.setup.max_num_batched_tokens
        for request in list(self.running):
            if budget == 0 or request not in self.running:
                break
            tokens = self.chunk(request, budget)
            need = self.blocks_for(request.computed + tokens) - request.blocks
            while need > self.free and request in self.running:
                self.preempt(self.running[-1])
                step.preempted += 1
            if request not in self.running:
                break
            request.blocks += need
            step.scheduled[request] = tokens
            budget -= tokens
        return budget

    def preempt(self, victim: Request) -> None:
        self.leave(victim)
        victim.blocks = victim.computed = 0
        victim.caught_up = False
        victim.preemptions += 1
        self.waiting.insert(0, victim)

    def leave(self, request: Request) -> None:
        self.running.remove(request)

    def schedule_waiting(self, step: Step, budget: int) -> None:
        setup = self.setup
        for request in list(self.waiting):
            if budget == 0 or len(self.running) == setup.max_num_seqs:
                return
            adapters = step.adapters
            if len(adapters) == setup.max_loras and request.adapter not in adapters:
                continue
            tokens = self.chunk(request, budget)
            need = self.blocks_for(tokens)
            wanted = self.blocks_for(request.tokens) if setup.rules.reserve_full_isl else need
            kept = int(setup.rules.watermark * (setup.usable_blocks + 1)) if self.running else 0
            if wanted + kept > self.free:
                return
            self.waiting.remove(request)
            self.running.append(request)
            step.admitted.append(request)
            request.blocks = need
            step.scheduled[request] = tokens
            budget -= tokens
            if request.first_scheduled != request.first_scheduled:
                request.first_scheduled = self.clock

    def loads(self) -> float:
        """Touch the adapters of the batch in turn; serial copies of those that are in no slot then."""
        setup, seconds = self.setup, 0.0
        batch = {r.adapter for r in self.running}
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
        )
        context = sum(r.tokens for r in step.decodes)
        return float(batch + (tables.context_s * context + tables.waiting_s * len(self.waiting)))

    def produce(self, step: Step) -> None:
        for request, tokens in step.scheduled.items():
            request.computed += tokens
            request.caught_up = request.computed == request.tokens
            if not request.caught_up:
                continue
            request.generated += 1
            if request.generated == 1:
                request.first_token = self.clock
            if request.generated == request.output:
                if self.full:
                    self.open_again = self.clock
                request.finish = self.clock
                self.leave(request)
                request.blocks = 0
