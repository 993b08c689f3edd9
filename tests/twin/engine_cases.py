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


def of_any_version(case: Case, seed: int) -> Case:
    """The same with rules of any version, some base model, and prompts that begin alike, cached or not."""
    rng = np.random.default_rng(seed)
    requests, setup = case.requests, case.setup
    n, adapters = len(requests), requests.n_adapters
    rules = setup.rules.model_copy(
        update={
            "passed_over": str(rng.choice(["kept", "reversed", "queued"])),
            "frees_uncached_first": bool(rng.random() < 0.5),
        }
    )
    continues = np.full(n + adapters, -1, dtype=np.int32)  # after the requests' a text for each adapter
    for i, adapter in enumerate(requests.adapter.tolist()):
        earlier = np.flatnonzero(requests.adapter[:i] == adapter)
        choices = [-1, n + adapter, *rng.choice(earlier, min(len(earlier), 1), replace=False)]
        continues[i] = rng.choice(choices)
    texts = replace(
        requests,
        continues=continues,
        common_tokens=rng.integers(0, 100, len(continues)).astype(np.int32),
        cached_tokens=rng.integers(0, 40, n).astype(np.int32) if rng.random() < 0.2 else None,
    )
    base = rng.random(adapters) < 0.2
    base[0] = False
    caching = bool(rng.random() < 0.7)
    return replace(case, requests=texts, setup=replace(setup, rules=rules, base=base, prefix_caching=caching))


def overheard(seed: int) -> Case:
    """Little room, and a prompt that begins with an answer which another request is still given."""
    rng = np.random.default_rng(seed)
    others, block = int(rng.integers(0, 3)), int(rng.choice([4, 8]))
    prompt, output = int(rng.integers(1, 30)), int(rng.integers(10, 60))
    common = int(rng.integers(prompt, prompt + output))
    n = others + 2
    requests = Requests(
        arrival_s=np.array([0.0] * (n - 1) + [rng.uniform(0.05, 4)]),
        prompt_tokens=np.array([prompt, *rng.integers(1, 20, others), common + 5], dtype=np.int32),
        output_tokens=np.array([output, *[60] * others, rng.integers(1, 6)], dtype=np.int32),
        adapter=np.zeros(n, dtype=np.int32),
        n_adapters=1,
        continues=np.array([-1] * (n - 1) + [0], dtype=np.int32),
        common_tokens=np.array([0] * (n - 1) + [common], dtype=np.int32),
    )
    longest = int((requests.prompt_tokens + requests.output_tokens - 1).max())
    setup = EngineSetup(
        max_loras=1,
        max_cpu_loras=1,
        max_num_seqs=8,
        max_num_batched_tokens=64,
        long_prefill_token_threshold=0,
        block_size=block,
        usable_blocks=-(-longest // block) + int(rng.integers(0, 8)),
        rules=SchedulerRules(),
        tables=StepTables(np.full(65, 0.1), np.zeros(2), np.zeros(2)),
        gpu_load_s=np.zeros(1),
        disk_load_s=np.zeros(1),
        prefix_caching=True,
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
        prompts_s=scale * int(rng.integers(0, 3)),
    )


seeds = st.integers(min_value=0, max_value=2**32 - 1)
