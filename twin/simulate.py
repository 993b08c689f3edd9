"""Simulation of one GPU: memory, step costs and scheduler put together."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from scenarios import (
    AdapterClass,
    Arrivals,
    EngineConfig,
    LorapackError,
    RecordedArrivals,
    Scenario,
    ServegenArrivals,
    TraceArrivals,
    Workload,
    padded_rank,
)
from scenarios.reading.row_files import TraceError
from twin.engine.requests import IntArray, Requests
from twin.engine.run import SERIES_BINS, EngineInputError, simulate_requests
from twin.engine.setup import EngineSetup
from twin.load import GPULoad, played
from twin.memory import MemoryPlan, plan_memory
from twin.result import SimulationResult
from twin.violations import Criterion, Violation
from twin.workload.arrivals import draw_requests
from twin.workload.processes.instants import WorkloadError
from twin.workload.recording_checks import recording_remarks, recordings_of, requests_recorded
from twin.workload.recordings import recorded_names

if TYPE_CHECKING:
    from twin.profile import EngineProfile

_log = logging.getLogger(__name__)


class MemoryFailure(LorapackError, MemoryError):  # noqa: N818 - vLLM's and the paper's word for it
    """The engine does not start: its memory does not hold what is asked of it."""

    def __init__(self, plan: MemoryPlan) -> None:
        self.plan = plan
        self.violation = Violation(code=Criterion(str(plan.failure)), remedy=plan.remedy)
        super().__init__(self.violation.sentence)

    def __reduce__(self) -> tuple[type[MemoryFailure], tuple[MemoryPlan]]:
        return MemoryFailure, (self.plan,)


def build_setup(
    profile: EngineProfile,
    engine: EngineConfig,
    load: GPULoad,
    *,
    max_loras: int,
    max_lora_rank: int,
    max_cpu_loras: int | None = None,
    gpu_memory_gib: float | None = None,
    kv_cache_tokens: int | None = None,
    max_inflight: int = 0,
) -> EngineSetup:
    """One engine as the compiled loop needs it.

    Parameters
    ----------
    profile
        Rules, memory and costs of the model on the GPU.
    engine
        Arguments of the engine.
    load
        The GPU's adapters.
    max_loras, max_lora_rank
        Adapter slots, and the rank of every slot.
    max_cpu_loras
        Adapters kept in CPU memory; absent: the engine's, or all of them.
    gpu_memory_gib
        Memory of the GPU; absent: the profile's.
    kv_cache_tokens
        Capacity of the KV cache; absent: computed from the memory.
    max_inflight
        Most requests that the client has open at once; 0 is no limit.

    Raises
    ------
    MemoryFailure
        If the engine does not start.
    EngineInputError
        If an adapter's rank is above ``max_lora_rank``: vLLM does not load it.
    """
    if too_large := load.above_rank(max_lora_rank):
        raise EngineInputError(
            f"{too_large.sentence}; raise it to {too_large.value:g} or more, or leave these adapters out"
        )
    n, budget = len(load.names), engine.max_num_batched_tokens
    if kv_cache_tokens is None:
        memory = profile.gpu_memory_gib if gpu_memory_gib is None else gpu_memory_gib
        plan = plan_memory(profile.memory, engine, memory, max_loras, max_lora_rank)
        if plan.failure is not None:
            raise MemoryFailure(plan)
        blocks = plan.num_blocks
    else:
        blocks = kv_cache_tokens // engine.block_size
    if max_cpu_loras is None:
        max_cpu_loras = engine.cpu_loras(load.n_adapters, max_loras)
    return EngineSetup(
        max_loras=max_loras,
        max_cpu_loras=max_cpu_loras,
        max_num_seqs=min(engine.max_num_seqs, engine.max_num_active_seqs or engine.max_num_seqs),
        max_num_batched_tokens=min(budget, engine.max_num_scheduled_tokens or budget),
        long_prefill_token_threshold=engine.long_prefill_token_threshold,
        block_size=engine.block_size,
        usable_blocks=blocks - 1,
        rules=profile.rules.changed(engine.scheduler_reserve_full_isl, engine.watermark),
        tables=profile.step.tables(max_loras, max_lora_rank, budget, n),
        gpu_load_s=profile.loads.gpu_load_s(load.rank, max_lora_rank),
        disk_load_s=profile.loads.disk_load_s(load.rank),
        max_inflight=max_inflight,
        base=load.rank == 0,
        prefix_caching=bool(engine.enable_prefix_caching),
        async_scheduling=profile.rules.is_async(engine.async_scheduling),
        speculation=engine.speculation,
    )


def engine_as_started(engine: EngineConfig, adapters: int, max_loras: int | None = None) -> EngineConfig:
    """The engine as vLLM starts it with stated slots (`EngineConfig.as_started`), for so many adapters.

    Where it thus keeps fewer of them in CPU memory than there are, and nobody said so, one line is logged.
    """
    started = engine.as_started(max_loras)
    if started is not engine and started.max_cpu_loras is not None and started.max_cpu_loras < adapters:
        _log.warning(
            "engine.max_cpu_loras is not stated, so that the CPU keeps %d of %d adapters, max_loras of them, "
            "as vLLM does, and the others are read from disk; state engine.max_cpu_loras: %d",
            started.max_cpu_loras,
            adapters,
            adapters,
        )
    return started


def fit_lengths(requests: Requests, max_model_len: int) -> Requests:
    """Requests cut to what the engine takes: it ends an answer at ``max_model_len`` tokens in all.

    Longer prompts, which the engine would refuse, are cut so that one token can follow, and so is what is
    common to them and others, or cached.
    """
    prompt = np.minimum(requests.prompt_tokens, max(max_model_len - 1, 1)).astype(np.int32)
    output = np.minimum(requests.output_tokens, np.maximum(max_model_len - prompt, 1)).astype(np.int32)
    common, cached = requests.common_tokens, requests.cached_tokens
    if common is not None:
        common = np.concatenate([np.minimum(common[: len(prompt)], prompt), common[len(prompt) :]])
    if cached is not None:
        cached = (cached.astype(np.int64) * prompt // requests.prompt_tokens).astype(np.int32)
    return replace(
        requests, prompt_tokens=prompt, output_tokens=output, common_tokens=common, cached_tokens=cached
    )


def simulate(
    load: GPULoad,
    workload: Workload,
    engine: EngineConfig,
    profile: EngineProfile,
    *,
    max_loras: int | None = None,
    max_lora_rank: int | None = None,
    max_cpu_loras: int | None = None,
    seed: int | np.random.SeedSequence = 0,
    gpu_memory_gib: float | None = None,
    kv_cache_tokens: int | None = None,
    duration_s: float | None = None,
    max_inflight: int = 0,
    sustained: bool = False,
    series_bins: int = SERIES_BINS,
) -> SimulationResult:
    """Simulate one GPU under a workload.

    Parameters
    ----------
    load
        The GPU's adapters.
    workload
        Arrival process and duration.
    engine, profile
        Arguments of the engine; rules, memory and costs of the model on the GPU.
    max_loras, max_lora_rank
        Adapter slots, and the rank of every slot; absent: the engine's, or as many as there are adapters, and
        the smallest rank that vLLM knows and that suffices.
    max_cpu_loras
        Adapters kept in CPU memory; absent: the engine's, or where that states none, as many as vLLM keeps
        by default (`engine_as_started`).
    seed
        Seed of the requests drawn.
    gpu_memory_gib, kv_cache_tokens, max_inflight
        As in ``build_setup``.
    duration_s
        Seconds to simulate; absent: the workload's.
    sustained
        How arrivals are drawn, as in ``draw_requests``.
    series_bins
        Parts into which the time series cuts the run.

    Raises
    ------
    MemoryFailure
        If the engine does not start.
    EngineInputError
        If an adapter's rank is above ``max_lora_rank``.
    WorkloadError
        If the workload has too many requests, or a trace's prompts are too long for the engine.
    scenarios.reading.row_files.TraceError
        If the trace's file is missing or damaged.
    """
    duration = workload.duration_s if duration_s is None else duration_s
    if max_cpu_loras is None:
        engine = engine_as_started(engine, load.n_adapters, max_loras)
    if max_loras is None:
        max_loras = engine.max_loras or max(load.n_adapters, 1)
    if max_lora_rank is None:
        max_lora_rank = engine.max_lora_rank or padded_rank(int(load.rank.max()))
    setup = build_setup(
        profile,
        engine,
        load,
        max_loras=max_loras,
        max_lora_rank=max_lora_rank,
        max_cpu_loras=max_cpu_loras,
        gpu_memory_gib=gpu_memory_gib,
        kv_cache_tokens=kv_cache_tokens,
        max_inflight=max_inflight,
    )
    drawn = draw_requests(load, workload, seed, duration, sustained=sustained)
    refuse_long_prompts(load, workload.arrivals, drawn, engine.max_model_len)
    requests = fit_lengths(drawn, engine.max_model_len)
    if engine.enable_prefix_caching is None and requests.continues is not None:
        setup = replace(setup, prefix_caching=True)
    return SimulationResult(
        records=simulate_requests(
            requests, setup, duration, warmup_s=workload.warmup_s, series_bins=series_bins
        ),
        names=load.names,
        max_loras=max_loras,
        max_lora_rank=max_lora_rank,
        kv_cache_tokens=(setup.usable_blocks + 1) * engine.block_size,
        usable_blocks=setup.usable_blocks,
        warmup_s=workload.warmup_s,
        frontend_s=profile.frontend.first_token_s,
        seed=seed if isinstance(seed, int) else None,
        cut_requests=int(np.count_nonzero(_total(requests) < _total(drawn))),
        base=len(load.names) - load.n_adapters,
    )


def _total(requests: Requests) -> IntArray:
    return requests.prompt_tokens + requests.output_tokens


def check_trace(scenario: Scenario) -> tuple[str, ...]:
    """Check a scenario's traces and other recordings, if it has any, as a run of all adapters does.

    Returns
    -------
    tuple of str
        What they hold, which columns were taken, and what is left out, one line each.

    Raises
    ------
    WorkloadError
        If the workload has too many requests, or a recording's prompts are too long for the engine.
    scenarios.reading.row_files.TraceError
        If a file is missing or damaged, or lacks an adapter.
    """
    remarks: list[str] = []
    for where, arrivals, classes in recordings_of(scenario):
        try:
            remarks += [f"{where}: {remark}" for remark in _check_recording(scenario, arrivals, classes)]
        except TraceError as error:
            raise TraceError(f"{where}: {error}") from None
    return tuple(remarks)


def _check_recording(
    scenario: Scenario, arrivals: TraceArrivals | ServegenArrivals, classes: list[AdapterClass]
) -> list[str]:
    """Play one recording for its adapters, and say what it holds."""
    load = GPULoad.from_classes(classes)
    names = recorded_names(arrivals, load.arrivals, load.names)
    remarks = list(recording_remarks(arrivals, names))
    if scenario.acceptance == "sustained" and isinstance(arrivals, TraceArrivals):
        requests = requests_recorded(arrivals, names)  # whole periods are played
    else:
        workload = scenario.workload.model_copy(update={"arrivals": arrivals})
        requests = draw_requests(load, workload, scenario.seed)
    refuse_long_prompts(load, scenario.workload.arrivals, requests, scenario.engine.max_model_len)
    return remarks


def refuse_long_prompts(load: GPULoad, arrivals: Arrivals, drawn: Requests, max_model_len: int) -> None:
    """Refuse traces' own prompts that the engine refuses; a scenario's check knows of all others.

    Parameters
    ----------
    load
        The adapters.
    arrivals
        Process of those with none of their own.

    Raises
    ------
    WorkloadError
        If one is as long as ``max_model_len``, which leaves no room for an answer.
    """
    if not np.any(drawn.prompt_tokens >= max_model_len):
        return
    own = [played(one or arrivals) for one in load.arrivals or (None,) * len(load.names)]
    for process in load.processes(arrivals):
        if not isinstance(process, RecordedArrivals) or not process.lengths:
            continue
        replayed = np.array([one == process for one in own])
        prompts = drawn.prompt_tokens[replayed[drawn.adapter]]
        refused = int(np.count_nonzero(prompts >= max_model_len))
        if refused:
            longest, first = int(prompts.max()), load.names[int(np.argmax(replayed))]
            where = "workload." if process == played(arrivals) else f'adapter "{first}": '
            key, path = next(process.paths())
            raise WorkloadError(
                f"{where}arrivals.{key}: an engine of max_model_len {max_model_len:,} refuses {refused:,} of "
                f"{len(prompts):,} prompts of {path}, which have up to {longest:,} tokens; raise "
                f"engine.max_model_len to {longest + 1:,} or more, or set lengths: false there"
            )
