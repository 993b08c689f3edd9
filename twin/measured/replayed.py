"""The requests and the engine behind a measured run, for the twin to replay it."""

from __future__ import annotations

import math
import zlib
from functools import singledispatch

import numpy as np
from scipy.special import ndtr

from scenarios import EngineConfig, HistogramLengths
from twin.engine.requests import FloatArray, IntArray, Requests
from twin.engine.setup import EngineSetup
from twin.measured.runs import MeasuredRun, RecordedRun
from twin.profile import EngineProfile, ServedLengths


@singledispatch
def run_requests(run: MeasuredRun, profile: EngineProfile, seed: int = 0) -> Requests:
    """Requests of a run; of a row of a table: as many as were offered, at uniform instants.

    The number of requests and the mean lengths are fixed, so that a prediction does not carry a sampling
    error of its own. The same run gives the same requests in any table. Of an overloaded run the first
    requests suffice: the client never sends the others.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(run.run_id.encode())]))
    total = float(run.rate.sum())
    asked = run.arrivals
    n = min(asked, _max_sent(run, profile))
    prompt, output = draw_served_lengths(profile.lengths, n, *run.asked_tokens(profile.lengths), rng)
    return Requests(
        arrival_s=np.sort(rng.random(n)) * run.total_time_s * (n / asked),
        prompt_tokens=prompt,
        output_tokens=output,
        adapter=rng.choice(len(run.rate), size=n, p=run.rate / total).astype(np.int32),
        n_adapters=len(run.rate),
    )


@run_requests.register
def _recorded_requests(run: RecordedRun, profile: EngineProfile, seed: int = 0) -> Requests:  # noqa: ARG001
    """The very requests."""
    return run.recorded


def _max_sent(run: MeasuredRun, profile: EngineProfile) -> int:
    """Requests that a client with a cap can have sent, if every step had the best number of tokens."""
    budget = run_engine(run, profile).max_num_batched_tokens
    token_s = profile.step.tables(run.max_loras, run.max_lora_rank, budget, len(run.rate)).token_s
    with np.errstate(divide="ignore"):  # damaged measurements may be fitted by steps that take no time
        fastest = float((np.arange(1, budget + 1) / token_s[1:]).max())
    # Answers that end early leave room for more requests than the means say.
    each = sum(run.asked_tokens(profile.lengths))
    sent = 1.25 * fastest * run.total_time_s / each
    return run.max_open_requests + math.ceil(min(sent, run.arrivals))


def draw_served_lengths(
    lengths: ServedLengths,
    n: int,
    mean_prompt: float,
    mean_output: float,
    rng: np.random.Generator,
) -> tuple[IntArray, IntArray]:
    """Prompt and output tokens of ``n`` requests, stratified, correlated and rescaled to the means.

    Answers that end early (end-of-sequence) are cut after the rescaling: the means are those asked for.
    """
    first = rng.standard_normal(n)
    rho = lengths.rank_correlation
    second = rho * first + math.sqrt(1 - rho * rho) * rng.standard_normal(n)
    prompt = _stratified(lengths.prompt, first, rng)
    output = _stratified(lengths.output, second, rng)
    top = float(lengths.max_total_tokens)
    for _ in range(4):
        prompt *= mean_prompt / prompt.mean()
        output *= mean_output / output.mean()
        prompt = np.clip(prompt, 1.0, top - 1.0)
        output = np.clip(output, 1.0, top - prompt)
    whole_prompt = np.maximum(1, np.floor(prompt + rng.random(n))).astype(np.int32)
    whole_output = np.maximum(1, np.floor(output + rng.random(n))).astype(np.int32)
    if lengths.stop_per_token > 0:
        stop = np.minimum(np.ceil(rng.exponential(1 / lengths.stop_per_token, n)), np.iinfo(np.int32).max)
        whole_output = np.minimum(whole_output, stop.astype(np.int32))
    return whole_prompt, whole_output


def _stratified(shape: HistogramLengths, normal: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Quantiles of a histogram at equal strata, in the order of the given normal deviates."""
    n = len(normal)
    levels = np.empty(n)
    # Few requests: strata would fix what chance decides in a real run, but its mean is fixed anyway.
    levels[np.argsort(ndtr(normal), kind="stable")] = (np.arange(n) + rng.random(n)) / n
    weights = np.asarray(shape.weights, dtype=np.float64)
    cumulative = np.concatenate([[0.0], np.cumsum(weights / weights.sum())])
    drawn: FloatArray = np.interp(levels, cumulative, np.asarray(shape.edges, dtype=np.float64))
    return drawn


def run_engine(run: MeasuredRun, profile: EngineProfile) -> EngineConfig:
    """The engine's arguments: a profile's, but for those that the run has of its own."""
    names = ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "gpu_memory_utilization")
    own = {name: getattr(run, name) for name in names if getattr(run, name) is not None}
    engine = profile.measured.model_copy(update=own)
    if "max_num_batched_tokens" not in own:
        budget = max(engine.max_num_batched_tokens, engine.max_num_seqs)
        engine = engine.model_copy(update={"max_num_batched_tokens": budget})
    return engine


def run_setup(run: MeasuredRun, profile: EngineProfile) -> EngineSetup:
    """The engine of a run under a profile, with the client's cap.

    Raises
    ------
    ValueError
        If the run's KV capacity is not known.
    """
    if run.kv_cache_tokens is None:
        raise ValueError(f"run {run.run_id} has no kv_cache_tokens")
    n, engine = max(len(run.rate), 1), run_engine(run, profile)
    slots = n if run.plain_engine else run.max_loras
    copies = np.zeros(n) if run.plain_engine else profile.loads.gpu_load_s(run.rank, run.max_lora_rank)
    return EngineSetup(
        max_loras=slots,
        max_cpu_loras=max(run.max_cpu_loras or n, slots),
        max_num_seqs=engine.max_num_seqs,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        long_prefill_token_threshold=engine.long_prefill_token_threshold,
        block_size=engine.block_size,
        usable_blocks=run.kv_cache_tokens // engine.block_size - 1,
        rules=profile.rules.changed(engine.scheduler_reserve_full_isl, engine.watermark),
        tables=profile.step.tables(
            run.max_loras, run.max_lora_rank, engine.max_num_batched_tokens, len(run.rate)
        ),
        gpu_load_s=copies,
        disk_load_s=np.zeros(n) if run.plain_engine else read_seconds(run, profile),
        max_inflight=run.max_open_requests,
        async_scheduling=profile.rules.is_async(engine.async_scheduling),
        cold=not run.warm,
    )


def reads_again(run: MeasuredRun) -> bool:
    """Whether adapters are read from disk in the course of a run, for want of room in CPU memory."""
    return run.max_cpu_loras is not None and run.max_cpu_loras < len(run.rate)


def read_seconds(run: MeasuredRun, profile: EngineProfile) -> FloatArray:
    """Seconds to read each adapter of a run from disk, shape (n_adapters,).

    Where all fit into CPU memory there are first reads alone, which cost more than single reads say
    (`twin.calibration.replays.fit_first_read`).
    """
    if reads_again(run):
        return profile.loads.disk_load_s(run.rank)
    return np.full(len(run.rate), profile.first_read_s)
