"""Everything that the compiled loop needs to know of one engine, as plain numbers and arrays."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from scenarios import FrozenModel
from twin.engine.requests import FloatArray


class SchedulerRules(FrozenModel):
    """Scheduling rules that differ between versions of vLLM; part of the engine profile.

    The defaults are the rules of 0.8.5. What changed when, and in which file of vLLM, is listed in
    docs/vllm-versions.md.
    """

    passed_over: Literal["kept", "reversed", "first"] = Field(
        default="kept",
        description="Where requests go that are passed over for want of an adapter slot: to the front of the "
        'queue in their order ("kept") or in reversed order ("reversed"), or to a queue of their own that is '
        'scanned before the other, also before a preempted request ("first").',
    )
    reserve_full_isl: bool = Field(
        default=False,
        description="Admit a waiting request only if the blocks of its whole prompt are free.",
    )
    watermark: float = Field(
        default=0.0, ge=0, lt=1, description="Share of blocks kept free when a request joins others."
    )
    lone_request_ignores_threshold: bool = Field(
        default=False,
        description="Do not apply long_prefill_token_threshold when one request is running or waiting.",
    )
    unnamed_blocks_first: bool = Field(
        default=False,
        description="With prefix caching, freed blocks that no prompt can find again are used before all "
        "others, rather than in the order in which blocks became free.",
    )
    async_scheduling: bool = Field(
        default=False,
        description="Schedule a step while the one before it is computed, without its tokens.",
    )
    async_extra_step: bool = Field(
        default=False,
        description="With asynchronous scheduling, schedule a request once more while its last token is "
        "computed.",
    )
    slots_of_all_running: bool = Field(
        default=False,
        description="Count the adapters of all running requests against max_loras, not only of those that "
        "are scheduled in the step.",
    )


_CHANGES: tuple[tuple[tuple[int, int, int], dict[str, str | bool]], ...] = (
    ((0, 9, 2), {"passed_over": "reversed"}),
    ((0, 10, 0), {"async_extra_step": True}),
    ((0, 11, 1), {"async_extra_step": False}),
    ((0, 14, 0), {"passed_over": "kept", "async_scheduling": True}),
    ((0, 18, 0), {"passed_over": "first"}),
    ((0, 19, 0), {"reserve_full_isl": True}),
    ((0, 24, 0), {"unnamed_blocks_first": True}),
    ((0, 31, 0), {"passed_over": "kept", "lone_request_ignores_threshold": True}),
    ((0, 33, 0), {"slots_of_all_running": True}),
)
"""First version and what it changed, with its default arguments; read from vllm/v1/core/sched/scheduler.py,
request_queue.py, vllm/v1/core/block_pool.py and vllm/config of each release."""


def rules_of(version: str) -> SchedulerRules:
    """Rules of a version of vLLM, with its default arguments.

    Versions before 0.8.5 get the rules of 0.8.5, which they do not quite have (docs/vllm-versions.md).

    Raises
    ------
    ValueError
        If the version does not start with two numbers.
    """
    match = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version.strip())
    if match is None:
        raise ValueError(f'"{version}" is no version of vLLM; write it like 0.8.5')
    release = (int(match[1]), int(match[2]), int(match[3] or 0))
    fields: dict[str, str | bool] = {}
    for since, changed in _CHANGES:
        if since <= release:
            fields |= changed
    return SchedulerRules.model_validate(fields)


@dataclass(frozen=True)
class StepTables:
    """Cost of a step in seconds, tabulated for one configuration of slots and max rank.

    A step with T scheduled tokens (D decodes and P prefill tokens), C tokens of context of the
    scheduled decodes, A distinct adapters and W waiting requests (after scheduling) lasts::

        token_s[T] + adapter_s[A] + adapter_token_s[A]·T
        + decode_s·D + prefill_s·P + context_s·C + waiting_s·W

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
    """

    token_s: FloatArray
    adapter_s: FloatArray
    adapter_token_s: FloatArray
    decode_s: float = 0.0
    prefill_s: float = 0.0
    context_s: float = 0.0
    waiting_s: float = 0.0


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
