"""Random engines and workloads, small enough for the reference and mean enough to reach every rule."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import inf

import numpy as np
from hypothesis import strategies as st

from twin import EngineSetup, Requests, SchedulerRules, StepTables


@dataclass(frozen=True)
class Case:
    """A workload, an engine and a horizon."""

    requests: Requests
    setup: EngineSetup
    horizon_s: float


def case(seed: int) -> Case:
    """The case of a seed."""
    rng = np.random.default_rng(seed)
    adapters = int(rng.integers(1, 8))
    requests = workload(rng, adapters)
    horizon = inf if rng.random() < 0.7 else float(rng.uniform(0.1, 30))
    return Case(requests, engine(rng, requests), horizon)


def crowded(seed: int) -> Case:
    """More adapters than slots, all busy, so that newcomers drive out adapters of the batch.

    As in `case`, blocks may run out.
    """
    rng = np.random.default_rng(seed)
    n, adapters = int(rng.integers(60, 200)), int(rng.integers(6, 25))
    requests = Requests(
        arrival_s=np.sort(rng.uniform(0, 2, n)),
        prompt_tokens=rng.integers(1, 30, n).astype(np.int32),
        output_tokens=rng.integers(1, int(rng.choice([4, 60])), n).astype(np.int32),
        adapter=rng.integers(0, adapters, n).astype(np.int32),
        n_adapters=adapters,
    )
    slots = int(rng.integers(2, min(adapters, 12)))
    setup = replace(
        engine(rng, requests),
        max_loras=slots,
        max_cpu_loras=int(rng.integers(slots, adapters + 1)),
        max_num_seqs=int(rng.integers(slots, 40)),
        max_num_batched_tokens=int(rng.choice([64, 2048])),
        tables=tables(rng, 2048, slots),
        cold=bool(seed % 2),
    )
    return Case(requests, setup, inf)


def workload(rng: np.random.Generator, adapters: int) -> Requests:
    """Up to 60 requests; arrivals on a coarse grid, so that there are ties."""
    n = int(rng.integers(1, 60))
    grid = float(rng.choice([0.0, 0.25, 1.0]))
    arrival = np.sort(rng.exponential(float(rng.choice([0.02, 0.2, 2.0])), n).cumsum())
    arrival = np.floor(arrival / grid) * grid if grid else arrival
    longest = int(rng.choice([3, 30, 120]))
    return Requests(
        arrival_s=arrival,
        prompt_tokens=rng.integers(1, longest + 1, n).astype(np.int32),
        output_tokens=rng.integers(1, int(rng.choice([2, 40])) + 1, n).astype(np.int32),
        adapter=rng.integers(0, adapters, n).astype(np.int32),
        n_adapters=adapters,
    )


def engine(rng: np.random.Generator, requests: Requests) -> EngineSetup:
    """An engine that can serve each of the requests alone."""
    block = int(rng.choice([1, 3, 4, 16]))
    longest = int((requests.prompt_tokens + requests.output_tokens - 1).max())
    blocks = -(-longest // block) + int(rng.choice([0, 3, 20, 1000]))
    budget = int(rng.choice([1, 5, 16, 64, 2048]))
    slots = int(rng.integers(1, 6))
    adapters = requests.n_adapters
    rules = SchedulerRules(
        reserve_full_isl=bool(rng.random() < 0.5),
        watermark=float(rng.choice([0.0, 0.05, 0.3])),
        lone_request_ignores_threshold=bool(rng.random() < 0.5),
    )
    return EngineSetup(
        max_loras=slots,
        max_cpu_loras=slots + int(rng.integers(0, 4)),
        max_num_seqs=int(rng.choice([1, 3, 8, 64])),
        max_num_batched_tokens=budget,
        long_prefill_token_threshold=int(rng.choice([0, 0, 1, 7, 40])),
        block_size=block,
        usable_blocks=blocks,
        rules=rules,
        tables=tables(rng, budget, slots),
        gpu_load_s=rng.choice([0.0, 0.01], adapters),
        disk_load_s=rng.choice([0.0, 0.1], adapters),
        max_inflight=int(rng.choice([0, 0, 1, 4])),
    )


def tables(rng: np.random.Generator, budget: int, slots: int) -> StepTables:
    """Step costs; a third of them all multiples of 1/64 s, so that steps end when requests arrive."""
    exact = rng.random() < 0.3
    scale = 1 / 64 if exact else float(rng.uniform(0.001, 0.05))
    linear = 0.0 if exact else float(rng.uniform(0, 0.01))
    return StepTables(
        token_s=scale + linear * rng.random() * np.arange(budget + 1.0),
        adapter_s=scale * np.arange(slots + 1.0),
        adapter_token_s=linear * rng.random(slots + 1),
        decode_s=linear * rng.random(),
        prefill_s=linear * rng.random(),
        context_s=linear * 0.01 * rng.random(),
        waiting_s=linear * 0.1 * rng.random(),
    )


seeds = st.integers(min_value=0, max_value=2**32 - 1)
