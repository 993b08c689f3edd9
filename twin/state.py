"""The compiled loop's view of one engine: its constants, and the arrays that hold its state."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from twin.records import GAP_BINS, SERIES
from twin.requests import FloatArray, IntArray, Requests
from twin.setup import EngineSetup


class Engine(NamedTuple):
    """Constants of a run."""

    max_loras: int
    max_cpu_loras: int
    max_num_seqs: int
    budget: int
    threshold: int
    block_size: int
    usable_blocks: int
    watermark_blocks: int
    reserve_full_isl: bool
    lone_ignores_threshold: bool
    max_inflight: int
    horizon_s: float
    warmup_s: float
    series_width_s: float
    token_s: FloatArray
    adapter_s: FloatArray
    adapter_token_s: FloatArray
    decode_s: float
    prefill_s: float
    context_s: float
    waiting_s: float
    gpu_load_s: FloatArray
    disk_load_s: FloatArray
    arrival: FloatArray
    prompt: IntArray
    output: IntArray
    adapter: IntArray


def engine(
    requests: Requests, setup: EngineSetup, horizon_s: float, warmup_s: float, width_s: float
) -> Engine:
    """Constants of a run of ``requests`` on ``setup``."""
    tables, rules = setup.tables, setup.rules
    return Engine(
        max_loras=setup.max_loras,
        max_cpu_loras=max(setup.max_cpu_loras, setup.max_loras),
        max_num_seqs=setup.max_num_seqs,
        budget=setup.max_num_batched_tokens,
        threshold=setup.long_prefill_token_threshold,
        block_size=setup.block_size,
        usable_blocks=setup.usable_blocks,
        # vLLM takes the share of all blocks, the reserved one included.
        watermark_blocks=int(rules.watermark * (setup.usable_blocks + 1)),
        reserve_full_isl=rules.reserve_full_isl,
        lone_ignores_threshold=rules.lone_request_ignores_threshold,
        max_inflight=setup.max_inflight,
        horizon_s=float(horizon_s),
        warmup_s=float(warmup_s),
        series_width_s=float(width_s),
        token_s=_floats(tables.token_s),
        adapter_s=_floats(tables.adapter_s),
        adapter_token_s=_floats(tables.adapter_token_s),
        decode_s=float(tables.decode_s),
        prefill_s=float(tables.prefill_s),
        context_s=float(tables.context_s),
        waiting_s=float(tables.waiting_s),
        gpu_load_s=_floats(setup.gpu_load_s),
        disk_load_s=_floats(setup.disk_load_s),
        arrival=_floats(requests.arrival_s),
        prompt=np.ascontiguousarray(requests.prompt_tokens, dtype=np.int32),
        output=np.ascontiguousarray(requests.output_tokens, dtype=np.int32),
        adapter=np.ascontiguousarray(requests.adapter, dtype=np.int32),
    )


def _floats(values: FloatArray) -> FloatArray:
    return np.ascontiguousarray(values, dtype=np.float64)


CLOCK = 0
"""Index in ``State.real``."""

NEXT, RUNNING, WAITING, FREE, HEAD, TAIL, DISTINCT, ROWS = range(8)
"""Indices in ``State.count``: next request to arrive, running and waiting requests, free blocks, the ends
of the waiting queue, distinct adapters of the running requests, rows written."""


class State(NamedTuple):
    """Arrays that the loop changes in place."""

    real: FloatArray
    count: NDArray[np.int64]
    batch: IntArray
    follower: IntArray
    computed: IntArray
    blocks: IntArray
    chunk: IntArray
    active: IntArray
    sent: FloatArray
    first_scheduled: FloatArray
    first_token: FloatArray
    finish: FloatArray
    generated: IntArray
    preemptions: IntArray
    gpu_loads: NDArray[np.int64]
    disk_loads: NDArray[np.int64]
    slot_stamp: NDArray[np.int64]
    cpu_stamp: NDArray[np.int64]
    gaps: NDArray[np.int64]
    series: FloatArray


def state(requests: Requests, setup: EngineSetup, bins: int) -> State:
    """State of an idle engine: no request, no adapter in a slot, the first adapters in CPU memory."""
    n, m = len(requests), requests.n_adapters
    cpu = max(setup.max_cpu_loras, setup.max_loras)
    count = np.zeros(8, dtype=np.int64)
    count[FREE] = setup.usable_blocks
    count[HEAD] = count[TAIL] = -1
    return State(
        real=np.zeros(1),
        count=count,
        batch=np.zeros(min(setup.max_num_seqs, n) + 1, dtype=np.int32),
        follower=np.full(n, -1, dtype=np.int32),
        computed=np.zeros(n, dtype=np.int32),
        blocks=np.zeros(n, dtype=np.int32),
        chunk=np.zeros(n, dtype=np.int32),
        active=np.zeros(m, dtype=np.int32),
        sent=np.full(n, np.nan),
        first_scheduled=np.full(n, np.nan),
        first_token=np.full(n, np.nan),
        finish=np.full(n, np.nan),
        generated=np.zeros(n, dtype=np.int32),
        preemptions=np.zeros(n, dtype=np.int32),
        gpu_loads=np.zeros(m, dtype=np.int64),
        disk_loads=np.zeros(m, dtype=np.int64),
        slot_stamp=np.full(m, -1, dtype=np.int64),
        cpu_stamp=np.where(np.arange(m) < cpu, np.arange(m), -1).astype(np.int64),
        gaps=np.zeros(GAP_BINS, dtype=np.int64),
        series=np.zeros((bins, len(SERIES))),
    )
