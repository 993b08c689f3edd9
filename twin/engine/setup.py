"""Everything that the compiled loop needs to know of one engine, as plain numbers and arrays."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scenarios import Speculation
from twin.engine.requests import FloatArray
from twin.engine.rules import SchedulerRules


@dataclass(frozen=True)
class StepTables:
    """Cost of a step in seconds, tabulated for one configuration of slots and max rank.

    A step with T scheduled tokens (D decodes and P prefill tokens), C tokens of context of the
    scheduled decodes, A distinct adapters and W waiting requests (after scheduling) lasts::

        token_s[T] + adapter_s[A] + adapter_token_s[A]·T
        + decode_s·D + prefill_s·P + prompts_s·(P > 0) + context_s·C + waiting_s·W

    plus the adapter loads, which are serial. A decode computes the one token that its request generated
    last; its context is prompt and generated tokens, that one included. Everything else is prefill, also
    what a preempted request computes again. Any shape in T and in A can be tabulated; the rest is
    linear, so that a run of identical decode steps has a closed form.

    Parameters
    ----------
    token_s
        Shape (max_num_batched_tokens + 1,).
    adapter_s, adapter_token_s
        Shape (at least the largest number of distinct adapters in a step + 1,).
    decode_s, prefill_s, context_s, waiting_s
        Seconds per decode, prefill token, context token and waiting request.
    prompts_s
        Seconds that a step with prefill tokens has more than one without.
    """

    token_s: FloatArray
    adapter_s: FloatArray
    adapter_token_s: FloatArray
    decode_s: float = 0.0
    prefill_s: float = 0.0
    context_s: float = 0.0
    waiting_s: float = 0.0
    prompts_s: float = 0.0


@dataclass(frozen=True)
class EngineSetup:
    """One engine, ready to run.

    Parameters
    ----------
    max_loras, max_cpu_loras
        Adapters on the GPU at once, and in CPU memory.
    max_num_seqs, max_num_batched_tokens, long_prefill_token_threshold, block_size
        vLLM's arguments.
    usable_blocks
        KV blocks without the one that the engine reserves.
    rules
        Scheduling rules of the engine's version.
    tables
        Cost of a step.
    gpu_load_s, disk_load_s
        Seconds to copy each adapter from CPU memory to a slot, and from disk to CPU memory,
        shape (n_adapters,).
    max_inflight
        Most requests that the client has open at once; later ones wait outside the engine. 0 is no limit.
    base
        Which adapters are the base model, whose requests take no slot, shape (n_adapters,); absent: none.
    prefix_caching
        Whether blocks whose text was computed before are found again.
    async_scheduling
        Whether a step is scheduled while the one before it runs.
    cold
        Whether the engine starts with no adapter in CPU memory, rather than with as many as fit.
    speculation
        What was measured of speculative decoding; None: a request gets one token of a step.
    """

    max_loras: int
    max_cpu_loras: int
    max_num_seqs: int
    max_num_batched_tokens: int
    long_prefill_token_threshold: int
    block_size: int
    usable_blocks: int
    rules: SchedulerRules
    tables: StepTables
    gpu_load_s: FloatArray
    disk_load_s: FloatArray
    max_inflight: int = 0
    base: NDArray[np.bool_] | None = None
    prefix_caching: bool = False
    async_scheduling: bool = False
    cold: bool = False
    speculation: Speculation | None = None
