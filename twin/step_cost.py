"""Cost of a step and of moving adapters: calibrated numbers, tabulated for the compiled loop."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from pydantic import Field

from scenarios import FrozenModel
from scenarios.reading.findings import Finding
from twin.engine.requests import FloatArray
from twin.engine.setup import StepTables

MOST_COUNTED = 10_000_000
"""Most tokens or adapters of a step that a term may name."""

Per = Literal["step", "decode", "prefill", "context", "waiting", "prompts"]


class Batch(NamedTuple):
    """A step without prompts, of an engine with so many slots.

    Parameters
    ----------
    decodes, context
        Requests, and the tokens of all of their sequences.
    adapters
        Distinct adapters among them.
    max_loras, max_lora_rank, served
        Slots, their rank, and the adapters that the engine serves.
    """

    decodes: int
    context: int
    adapters: int
    max_loras: int
    max_lora_rank: int
    served: int


class CostTerm(FrozenModel):
    """One term of the step cost: ``seconds`` times a product of what it names.

    A term charged ``per="step"`` may grow with the scheduled tokens T, in excess of a knot and up to
    a cap, ``clip(T − above, 0, cap)``; with the distinct adapters A, ``min(A, cap)**power``; and with the
    configured slots, max rank and adapters served. Terms charged per decode, prefill token, context token
    or waiting request may grow with slots, max rank and adapters served only, and so may those charged
    ``per="prompts"``: once for a step that holds prefill tokens, however many.
    """

    name: str = Field(min_length=1, description="Name, as in the calibration's report.")
    seconds: float = Field(description="Coefficient.")
    per: Per = Field(default="step", description="What the term is charged for.")
    tokens_above: int | None = Field(
        default=None,
        ge=0,
        le=MOST_COUNTED,
        description="Grows with the tokens of the step above this; absent: not at all.",
    )
    tokens_cap: int | None = Field(
        default=None,
        ge=1,
        le=MOST_COUNTED,
        description="Most tokens above the knot that count; absent: no limit.",
    )
    adapters_power: float | None = Field(
        default=None, gt=0, le=2, description="Grows with distinct adapters to this power; absent: no."
    )
    adapters_cap: int | None = Field(
        default=None,
        ge=1,
        le=MOST_COUNTED,
        description="Most distinct adapters that count; absent: no limit.",
    )
    lora: bool = Field(default=False, description="Charged only by an engine with LoRA on.")
    slots_power: float = Field(default=0.0, ge=0, le=2, description="Power of the configured slots.")
    rank_power: float = Field(default=0.0, ge=0, le=2, description="Power of the configured max rank.")
    served_power: float = Field(
        default=0.0, ge=0, le=2, description="Power of the number of adapters that the engine serves."
    )

    def findings(self) -> Iterator[Finding]:
        """Yield what no table of costs can hold."""
        grows = self.tokens_above is not None or self.adapters_power is not None
        if self.per != "step" and grows:
            message = f'is "{self.per}" of term "{self.name}", which grows with tokens or adapters'
            yield Finding(("per",), message, "let it grow with slots, rank and served only")
        bilinear = self.tokens_above is not None and self.adapters_power is not None
        if bilinear and (self.tokens_above != 0 or self.tokens_cap is not None):
            message = f'is {self.tokens_above} of term "{self.name}", which grows with adapters'
            yield Finding(("tokens_above",), message, "count its tokens from 0, without tokens_cap")

    def scale(self, max_loras: int, max_lora_rank: int, served: int) -> float:
        """Coefficient in seconds for one configuration of slots, max rank and adapters served."""
        return self.times(self.seconds, max_loras, max_lora_rank, served)

    def times(self, seconds: float, max_loras: int, max_lora_rank: int, served: int) -> float:
        """The same if the term's ``seconds`` were others."""
        if self.lora and max_loras == 0:
            return 0.0
        slots = math.pow(max_loras, self.slots_power)
        return (
            seconds * slots * math.pow(max_lora_rank, self.rank_power) * math.pow(served, self.served_power)
        )

    def of_batch(self, batch: Batch) -> float:
        """Seconds of a step."""
        scale = self.scale(batch.max_loras, batch.max_lora_rank, batch.served)
        times = {"decode": batch.decodes, "context": batch.context}
        if self.per != "step":
            return scale * times.get(self.per, 0)
        return scale * float(self.of_tokens(batch.decodes)) * float(self.of_adapters(batch.adapters))

    def of_tokens(self, tokens: ArrayLike) -> FloatArray:
        """Factor of the scheduled tokens."""
        t = np.asarray(tokens, dtype=np.float64)
        if self.tokens_above is None:
            return np.ones_like(t)
        top = np.inf if self.tokens_cap is None else float(self.tokens_cap)
        clipped: FloatArray = np.clip(t - self.tokens_above, 0.0, top)
        return clipped

    def of_adapters(self, adapters: ArrayLike) -> FloatArray:
        """Factor of the distinct adapters."""
        a = np.asarray(adapters, dtype=np.float64)
        if self.adapters_power is None:
            return np.ones_like(a)
        top = np.inf if self.adapters_cap is None else float(self.adapters_cap)
        powered: FloatArray = np.minimum(a, top) ** self.adapters_power
        return powered


class StepCost(FrozenModel):
    """Cost of an engine step as a sum of terms; which terms there are is data, chosen by calibration."""

    terms: tuple[CostTerm, ...] = Field(min_length=1)

    def findings(self) -> Iterator[Finding]:
        """Yield each term whose name another one has."""
        names = [term.name for term in self.terms]
        for k, name in enumerate(names):
            if name in names[:k]:
                yield Finding(("terms", k, "name"), f'is "{name}", as of another term', "name each once")

    def tables(
        self, max_loras: int, max_lora_rank: int, max_num_batched_tokens: int, n_adapters: int
    ) -> StepTables:
        """Tables for one configuration of an engine.

        Parameters
        ----------
        max_loras, max_lora_rank
            Configured slots and rank of every slot; slots of 0 is an engine without LoRA.
        max_num_batched_tokens
            Largest number of tokens of a step.
        n_adapters
            Adapters served; no step has more distinct ones than this or ``max_loras``.

        Raises
        ------
        ValueError
            If an argument is out of range.
        """
        if max_loras < 0 or max_lora_rank < 0 or max_num_batched_tokens < 1 or n_adapters < 0:
            raise ValueError(
                f"max_loras {max_loras}, max_lora_rank {max_lora_rank} and n_adapters {n_adapters} must be "
                f"at least 0 and max_num_batched_tokens {max_num_batched_tokens} at least 1"
            )
        tokens = np.arange(max_num_batched_tokens + 1, dtype=np.float64)
        adapters = np.arange(max(min(n_adapters, max_loras), 1) + 1, dtype=np.float64)
        token_s, adapter_s = np.zeros_like(tokens), np.zeros_like(adapters)
        adapter_token_s = np.zeros_like(adapters)
        each = {"decode": 0.0, "prefill": 0.0, "context": 0.0, "waiting": 0.0, "prompts": 0.0}
        for term in self.terms:
            scale = term.scale(max_loras, max_lora_rank, n_adapters)
            if term.per != "step":
                each[term.per] += scale
            elif term.adapters_power is None:
                token_s += scale * term.of_tokens(tokens)
            elif term.tokens_above is None:
                adapter_s += scale * term.of_adapters(adapters)
            else:
                adapter_token_s += scale * term.of_adapters(adapters)
        return StepTables(
            token_s=token_s,
            adapter_s=adapter_s,
            adapter_token_s=adapter_token_s,
            decode_s=each["decode"],
            prefill_s=each["prefill"],
            context_s=each["context"],
            waiting_s=each["waiting"],
            prompts_s=each["prompts"],
        )


class LoadCost(FrozenModel):
    """Time to bring an adapter from CPU memory into a slot, and from disk into CPU memory."""

    gpu_s: float = Field(ge=0, description="CPU to GPU, adapter of the slots' own rank, in seconds.")
    gpu_padding_s: float = Field(ge=0, description="On top, where the adapter's rank is below the slots'.")
    disk_s: float = Field(ge=0, description="Disk to CPU, part that does not depend on rank, in seconds.")
    disk_rank_s: float = Field(ge=0, description="Disk to CPU, per unit of the adapter's rank, in seconds.")

    def gpu_load_s(self, rank: ArrayLike, max_lora_rank: int) -> FloatArray:
        """Seconds to copy each adapter from CPU memory to a slot, shape of ``rank``.

        Parameters
        ----------
        rank
            Ranks of all adapters that the engine serves.
        max_lora_rank
            Rank of every slot.
        """
        padded = (np.asarray(rank, dtype=np.float64) < max_lora_rank).astype(np.float64)
        seconds: FloatArray = self.gpu_s + self.gpu_padding_s * padded
        return seconds

    def disk_load_s(self, rank: ArrayLike) -> FloatArray:
        """Seconds to read adapters of these ranks from disk into CPU memory, shape of ``rank``."""
        seconds: FloatArray = self.disk_s + self.disk_rank_s * np.asarray(rank, dtype=np.float64)
        return seconds
