"""A small engine that speculates token by token, written apart from the twin to check its factor.

It draws for every request and step how many proposed tokens are accepted, gives each of them its place in the
KV cache, and takes what is proposed out of the budget of the step.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from twin import Requests


@dataclass(frozen=True)
class SpeculatingEngine:
    """The engine: steps of ``factor · (base_s + token_s · tokens + context_s · context)`` seconds.

    ``tokens`` are a request's last one, or a part of a prompt; tokens that are proposed are in ``factor``.
    """

    drafts: int
    acceptance: float
    factor: float
    base_s: float
    token_s: float
    context_s: float
    blocks: int
    max_num_seqs: int
    budget: int = 2048
    block_size: int = 16

    @property
    def tokens_per_step(self) -> float:
        """Mean of the tokens that a request gets of a step."""
        return sum(self.acceptance**k for k in range(self.drafts + 1))


@dataclass(eq=False)
class _Sequence:
    index: int
    prompt: int
    output: int
    generated: int = 0
    computed: int = 0
    blocks: int = 0

    @property
    def known(self) -> int:
        return self.prompt + self.generated


@dataclass
class _Run:
    engine: SpeculatingEngine
    rng: np.random.Generator
    waiting: list[_Sequence] = field(default_factory=list)
    running: list[_Sequence] = field(default_factory=list)
    used: int = 0  # blocks of all that run

    @property
    def free(self) -> int:
        return self.engine.blocks - self.used

    def take(self, one: _Sequence, blocks: int) -> None:
        """Give a sequence more blocks."""
        one.blocks += blocks
        self.used += blocks

    def leave(self, one: _Sequence) -> None:
        """Take a sequence and its blocks out of the batch."""
        self.running.remove(one)
        self.take(one, -one.blocks)

    def holds(self, one: _Sequence, tokens: int) -> bool:
        """Give a sequence blocks for so many tokens, driving out the youngest of the batch for it."""
        need = -(-tokens // self.engine.block_size) - one.blocks
        while need > self.free:
            victim = self.running[-1]
            self.leave(victim)
            victim.computed = 0
            self.waiting.insert(0, victim)
            if victim is one:
                return False
        self.take(one, max(need, 0))
        return True

    def step(self) -> tuple[float, list[tuple[_Sequence, int]]]:
        """Schedule a step; its seconds, and each sequence with the tokens that it computes."""
        engine, budget = self.engine, self.engine.budget
        tokens, context, scheduled = 0, 0, []
        for one in list(self.running):
            if one not in self.running or budget <= 0:
                continue
            left = one.known - one.computed
            taken = min(left if left > 1 else 1 + engine.drafts, budget)
            if not self.holds(one, one.computed + taken):
                continue
            budget -= taken
            tokens += min(left, taken)
            context += one.known if left == 1 else 0
            scheduled.append((one, min(left, taken)))
        scheduled = [pair for pair in scheduled if pair[0] in self.running]
        while self.waiting and len(self.running) < engine.max_num_seqs and budget > 0:
            one = self.waiting[0]
            taken = min(one.known, budget)
            need = -(-taken // engine.block_size)
            if need > self.free:
                break
            self.waiting.pop(0)
            self.running.append(one)
            self.take(one, need)
            budget, tokens = budget - taken, tokens + taken
            scheduled.append((one, taken))
        seconds = engine.base_s + engine.token_s * tokens + engine.context_s * context
        return engine.factor * seconds, scheduled

    def accepted(self) -> int:
        """How many of the proposed tokens are accepted: those before the first that is not."""
        return min(int(self.rng.geometric(1 - self.engine.acceptance)) - 1, self.engine.drafts)


def speculate(requests: Requests, engine: SpeculatingEngine, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """When each request has its first and its last token."""
    run = _Run(engine, np.random.default_rng(seed))
    n, clock, coming = len(requests), 0.0, 0
    first, last = np.full((2, n), np.nan)
    while np.isnan(last).any():
        while coming < n and requests.arrival_s[coming] <= clock:
            sizes = int(requests.prompt_tokens[coming]), int(requests.output_tokens[coming])
            run.waiting.append(_Sequence(coming, *sizes))
            coming += 1
        if not run.waiting and not run.running:
            clock = float(requests.arrival_s[coming])
            continue
        seconds, scheduled = run.step()
        clock += seconds
        for one, computed in scheduled:
            decodes = one.known - one.computed == 1 and one.generated > 0
            one.computed += computed
            if one.computed < one.known:
                continue
            more = 1 + (run.accepted() if decodes else 0)
            one.computed += more - 1
            one.generated += more
            if np.isnan(first[one.index]):
                first[one.index] = clock
            if one.generated >= one.output:
                last[one.index] = clock
                run.leave(one)
    return first, last
