"""What a live server is sent, stage after stage: each is designed by what the ones before have shown.

1. *warm*: every adapter once, so that kernels are compiled and adapters read. Not used.
2. *alone*: requests one at a time, of the base model and of one adapter: the constant of a step.
3. *prefill*: prompts of several lengths, one token each.
4. *batch*: so many requests at a time and no more, of one adapter and of as many as there are slots; one
   with long contexts.
5. *cold*: adapters in turn, more than there are slots: what a copy to a slot costs, and a read from disk.
6. *run*: Poisson streams of all adapters, from ease to overload, the load told by the batches.

A stage is a `Requests` object, so that the twin can replay just what was sent. What runs one after another
are requests that follow others.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from twin.engine.requests import FloatArray, IntArray, Requests
from twin.measuring.outcome import Outcome
from twin.measuring.params import MeasureParams
from twin.measuring.stage import Stage
from twin.measuring.subject import Subject

TINY = 1
"""Tokens of the shortest prompt, whose prefill takes as long as a step of one token."""

PREFILL_TOKENS = (TINY, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""Lengths of prompts that are sent alone: where the cost of a token may change (`FitParams.token_knots`)."""

PROMPT, OUTPUT = 32, 32
"""Tokens of requests one at a time; answers of batches are twice as long."""

ALONE = 8
"""Requests one at a time."""

SHORT_STAGES = 24
"""Stages as long as a batch among which the time beside the runs is divided."""

PREFILLS = 6
"""Prompts of each length."""

SHORT_PROMPT = 64
"""Tokens from which on a prompt's time is that of its tokens, rather than of a step."""

ATTENTION = 1.25
"""How many times the cost of a token of shorter prompts says that attention is counted in it."""

SPREAD = 0.6
"""Coefficient of variation of the lengths of runs (log-normal)."""

SHORTEST = 8
"""Least mean tokens of the prompts and of the answers of runs."""


def stages(
    subject: Subject, seen: Mapping[str, Outcome], params: MeasureParams, total_s: float, seed: int
) -> Iterator[Stage]:
    """The stages in their order; each is designed when it is asked for, by what was seen until then.

    Parameters
    ----------
    subject
        What is measured.
    seen
        Outcomes of stages by name; the caller adds that of each stage before it asks for the next.
    params
        How much is sent.
    total_s
        Seconds of the whole, of which the runs get their share.
    seed
        Seed of lengths, instants and adapters.
    """
    batch_s = min(params.batch_s, (1 - params.runs_share) * total_s / SHORT_STAGES)
    design = _Design(subject, params, batch_s, seed)
    yield design.warm()
    yield design.alone("alone_base", design.base)
    yield design.alone("alone", 0)
    yield from design.prefills(seen)
    for size in design.batch_sizes():
        for distinct in design.distinct_adapters(size):
            yield design.batch(size, distinct, seen)
    for size in design.batch_sizes()[1::2]:
        yield design.long_batch(size, seen)
    yield from design.cold()
    run_s = params.runs_share * total_s / len(params.load_factors)
    for k, load in enumerate(params.load_factors):
        yield design.run(k, load, run_s, seen)


@dataclass(frozen=True)
class _Design:
    subject: Subject
    params: MeasureParams
    batch_s: float
    seed: int

    @property
    def base(self) -> int:
        """Index of the base model, after the adapters."""
        return len(self.subject.adapters)

    @property
    def prompt(self) -> int:
        """Prompt tokens of requests one at a time and in batches."""
        return min(PROMPT, max(self.subject.engine.max_model_len // 4, 1))

    @property
    def output(self) -> int:
        """Answer tokens of requests one at a time."""
        return min(OUTPUT, max(self.subject.engine.max_model_len // 4, 1))

    def warm(self) -> Stage:
        n = len(self.subject.adapters)
        return Stage(
            "warm", "warm", self._lanes(1, n + 1, self.prompt, min(4, self.output), np.arange(n + 1)), batch=1
        )

    def alone(self, name: str, adapter: int) -> Stage:
        requests = self._lanes(1, ALONE, self.prompt, self.output, np.array([adapter]))
        return Stage(name, "alone", requests, batch=1, distinct=int(adapter != self.base))

    def prefills(self, seen: Mapping[str, Outcome]) -> Iterator[Stage]:
        """Prompts of the lengths at which a token's cost may change, until attention costs more than tokens.

        Attention to one prompt grows with its square, and batches of usual prompts do not have that.
        """
        engine = self.subject.engine
        most = min(engine.max_num_batched_tokens, engine.max_model_len - 2)
        for tokens in [n for n in PREFILL_TOKENS if n <= most]:
            if any(is_attention(one, seen.values()) for one in seen.values()):
                return
            requests = self._lanes(1, PREFILLS, tokens, 1, np.array([0]))
            yield Stage(f"prefill_{tokens}", "prefill", requests, self._longest_s, batch=1, distinct=1)

    def batch_sizes(self) -> list[int]:
        """Sizes from 2 to what fits: requests in a batch, and their KV cache."""
        fits = self.subject.kv_cache_tokens // (2 * (self.prompt + 2 * self.output))
        most = max(min(self.subject.engine.max_num_seqs, fits), 2)
        sizes = np.geomspace(2, most, max(self.params.batch_sizes - 1, 1)).round().astype(int)
        return sorted({*sizes.tolist(), most})

    def distinct_adapters(self, size: int) -> list[int]:
        """Adapters in a batch: one, as many as can be, and for the largest batches powers of two between."""
        most = min(size, self.subject.max_loras, len(self.subject.adapters))
        between = [2**k for k in range(1, 8) if 2**k < most] if size == self.batch_sizes()[-1] else []
        return sorted({1, *between, most})

    def batch(self, size: int, distinct: int, seen: Mapping[str, Outcome]) -> Stage:
        name, output = f"batch_{size}_{distinct}", 2 * self.output
        rounds = self._rounds(size, output, seen)
        requests = self._lanes(size, rounds, self.prompt, output, np.arange(distinct))
        return Stage(name, "batch", requests, self._longest_s, batch=size, distinct=distinct)

    def long_batch(self, size: int, seen: Mapping[str, Outcome]) -> Stage:
        """A batch of sequences as long as there is time for, which tells what context costs."""
        subject, output = self.subject, self.output
        prompt_s, _ = token_costs(seen)
        timely = self.batch_s / (2 * size * prompt_s)
        fits = subject.kv_cache_tokens / (2 * size) - output
        longest = subject.engine.max_model_len * 3 / 4 - output
        prompt = max(int(min(timely, fits, longest)), 1)
        requests = self._lanes(size, self._rounds(size, output, seen), prompt, output, np.array([0]))
        return Stage(f"context_{size}", "batch", requests, self._longest_s, batch=size, distinct=1)

    def cold(self) -> Iterator[Stage]:
        """Adapters in turn; where all have slots, none is ever copied anew, and nothing is sent."""
        subject = self.subject
        n = len(subject.adapters)
        in_cpu = min(n, subject.max_cpu_loras)
        if in_cpu > subject.max_loras:
            yield self._in_turn("cold_slot", min(in_cpu, subject.max_loras + 4))
        if n > subject.max_cpu_loras:
            yield self._in_turn("cold_disk", n)

    def run(self, number: int, load: float, seconds: float, seen: Mapping[str, Outcome]) -> Stage:
        """A Poisson stream of all adapters, alike in every other run and by Zipf's law in the others."""
        rng = np.random.default_rng([self.seed, zlib.crc32(b"run"), number])
        prompt, output, capacity = self._lengths(seconds, seen)
        n = len(self.subject.adapters)
        count = max(round(load * capacity * seconds), 2)
        weights = np.arange(1, n + 1) ** -(self.params.skew * (number % 2))
        chosen = rng.choice(rng.permutation(n), size=count, p=weights / weights.sum())
        top = self.subject.engine.max_model_len
        requests = Requests(
            arrival_s=np.sort(rng.random(count)) * seconds,
            prompt_tokens=_lognormal(prompt, count, top - SHORTEST, rng),
            output_tokens=np.ones(count, dtype=np.int32),
            adapter=chosen.astype(np.int32),
            n_adapters=n + 1,
        )
        longest = np.maximum(top - requests.prompt_tokens, 1)
        answers = np.minimum(_lognormal(output, count, top, rng), longest).astype(np.int32)
        requests.output_tokens[:] = answers
        return Stage(f"run_{number}", "run", requests, horizon_s=seconds, load=load)

    # --- parts ------------------------------------------------------------------------------------------

    def _lanes(
        self, lanes: int, rounds: int, prompt: int, output: int, adapters: NDArray[np.integer[Any]]
    ) -> Requests:
        """So many requests at a time, each followed by the next of its lane; lanes take adapters in turn.

        A single lane takes them one after another.
        """
        n = lanes * rounds
        which = np.arange(n) // lanes if lanes == 1 else np.arange(n) % lanes
        follows = np.arange(n, dtype=np.int32) - lanes
        follows[:lanes] = -1
        return Requests(
            arrival_s=np.zeros(n),
            prompt_tokens=np.full(n, prompt, dtype=np.int32),
            output_tokens=np.full(n, output, dtype=np.int32),
            adapter=adapters[which % len(adapters)].astype(np.int32),
            n_adapters=self.base + 1,
            follows=follows,
        )

    @property
    def _longest_s(self) -> float:
        """When a batch is cut that takes far longer than it should."""
        return max(4 * self.batch_s, 5.0)

    def _in_turn(self, name: str, adapters: int) -> Stage:
        turns = max(math.ceil(24 / adapters), 2)
        requests = self._lanes(1, turns * adapters, self.prompt, 2, np.arange(adapters))
        return Stage(name, "cold", requests, batch=1, distinct=1)

    def _rounds(self, size: int, output: int, seen: Mapping[str, Outcome]) -> int:
        """Answers of each lane for the seconds of a batch, by the slowest step seen so far."""
        known = [one.step_ms for one in seen.values() if one.step_ms is not None and one.batch <= size]
        step_s = max(known, default=20.0) / 1e3
        return max(2, min(math.ceil(self.batch_s / (output * step_s)), 200))

    def _lengths(self, seconds: float, seen: Mapping[str, Outcome]) -> tuple[float, float, float]:
        """Mean prompt and answer tokens of runs, and how many such requests the server can do a second."""
        prompt_s, output_s = token_costs(seen)
        prompt, output = float(self.params.prompt_tokens), float(self.params.output_tokens)
        longest = self.subject.engine.max_model_len / 4
        enough_s = seconds / self.params.run_requests
        share = min(1.0, longest / max(prompt, output), enough_s / (prompt * prompt_s + output * output_s))
        prompt, output = max(share * prompt, SHORTEST), max(share * output, SHORTEST)
        return prompt, output, 1.0 / (prompt * prompt_s + output * output_s)


def is_attention(one: Outcome, seen: Iterable[Outcome]) -> bool:
    """Whether a prompt sent alone cost more by token than shorter ones, as its length counts by itself."""
    if one.kind != "prefill" or one.prompt_tokens < 2 * SHORT_PROMPT or not one.ttft_ms:
        return False
    shorter = [
        other.ttft_ms / other.prompt_tokens
        for other in seen
        if other.kind == "prefill"
        and other.ttft_ms
        and SHORT_PROMPT <= other.prompt_tokens < one.prompt_tokens
    ]
    return bool(shorter) and one.ttft_ms / one.prompt_tokens > ATTENTION * min(shorter)


def token_costs(seen: Mapping[str, Outcome]) -> tuple[float, float]:
    """Seconds of the server for a prompt token and for an answer token at its best, by what was seen."""
    full = [one.step_ms / one.batch / 1e3 for one in seen.values() if one.step_ms and one.kind == "batch"]
    prompts = [
        (one.prompt_tokens, one.ttft_ms / 1e3)
        for one in seen.values()
        if one.kind == "prefill" and one.ttft_ms is not None
    ]
    output_s = min(full, default=0.02)
    if len(prompts) < 2:
        return output_s, output_s
    (least, beside), (tokens, seconds) = min(prompts), sorted(prompts)[len(prompts) // 2]
    return max((seconds - beside) / max(tokens - least, 1), 1e-7), output_s


def _lognormal(mean: float, n: int, most: float, rng: np.random.Generator) -> IntArray:
    """Whole numbers from 1 to ``most`` whose mean is about that asked for."""
    sigma2 = math.log(1 + SPREAD**2)
    drawn: FloatArray = rng.lognormal(math.log(mean) - sigma2 / 2, math.sqrt(sigma2), n)
    return np.clip(drawn.round(), 1, max(most, 1)).astype(np.int32)
