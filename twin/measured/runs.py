"""Measured serving runs: the table, and the requests and engine behind each of its rows."""

from __future__ import annotations

import math
import zlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import AfterValidator
from scipy.special import ndtr

from scenarios.base import Finding
from scenarios.lengths import HistogramLengths
from scenarios.words import shown
from twin.engine.requests import FloatArray, IntArray, Requests
from twin.engine.setup import EngineSetup
from twin.measured.params import FidelityParams
from twin.measured.tables import Number, Positive, PositiveCount, TableRow, Text, read_table
from twin.profile import EngineProfile, ServedLengths

SATURATED = "client_cap_saturated"
"""Quality of runs whose client held as many requests open as it could."""


def _numbers(text: str) -> list[float]:
    return [float(value) for value in text.split(";")]


def _checked_numbers(text: str) -> str:
    try:
        if all(0 < value < math.inf for value in _numbers(text)):
            return text
    except ValueError:
        pass
    raise Finding((), f"is {shown(text)}", "give numbers above 0 separated by ;").error()


Numbers = Annotated[str, AfterValidator(_checked_numbers)]


class ServingRun(TableRow):
    """One run of an engine under a stream of requests; the table ``serving_runs.csv``."""

    run_id: Text
    """Name of the run."""
    model: Text
    """Base model."""
    max_loras: PositiveCount
    """Adapter slots."""
    n_adapters: PositiveCount
    """Adapters served, all of them in CPU memory."""
    max_lora_rank: PositiveCount
    """Rank of every slot."""
    rates: Numbers
    """Requests/s of the adapters, separated by ;, dealt to them in turn."""
    sizes: Numbers
    """LoRA ranks of the adapters, separated by ;, dealt to them in turn."""
    total_time_s: Positive = 3600.0
    """Seconds that the run lasted; an hour if not given."""
    max_num_seqs: Positive = math.nan
    """Most requests in a batch; if not given, the profile's."""
    kv_cache_tokens: Positive = math.nan
    """KV capacity in tokens that the engine reported; if not given, computed (a calibration needs it)."""
    pool_mean_input: Positive = math.nan
    """Mean prompt tokens of the requests offered; if not given, the profile's."""
    pool_mean_output: Positive = math.nan
    """Mean tokens asked of the answers; if not given, the profile's."""
    arrivals_est: Positive = math.nan
    """Requests offered; if not given, or if no Poisson process gives as many, the expected number."""
    max_open_requests: Positive = math.nan
    """Most requests that the client held open; if not given, as many as one machine can."""
    group: str = ""
    """Runs of one kind, left out of the fit together to measure its errors."""
    status: str = ""
    """``ok``, or why there are no results; engines that did not start: ``kv_below_max_model_len``,
    ``no_kv_memory``, ``oom_cuda``, ``oom_sampler_warmup``."""
    quality: str = ""
    """``clean``; ``client_cap_saturated`` where the client held as many requests open as it could, so that
    only throughput and the time between tokens are the engine's; others are not used."""
    total_throughput: Number = math.nan
    """Prompt and answer tokens of completed requests per second."""
    itl_mean_ms: Number = math.nan
    """Mean time between the chunks that the client received."""
    tpot_mean_ms: Number = math.nan
    """Mean over completed requests of the time per output token after the first."""
    ttft_mean_ms: Number = math.nan
    """Mean time to first token of completed requests."""
    running_mean: Number = math.nan
    """Requests in the batch, mean over time."""
    waiting_mean: Number = math.nan
    """Requests in the engine's queue, mean over time."""
    kv_usage_mean: Number = math.nan
    """Share of the KV cache in use, mean over time."""
    starved: bool | None = None
    """Whether throughput fell 10 % or more short of what was offered."""
    ideal_tok_s: Number = math.nan
    """Tokens per second offered."""
    peer_twin_total_throughput: Number = math.nan
    """What another simulator says of ``total_throughput``."""
    peer_twin_itl_ms: Number = math.nan
    """What another simulator says of ``itl_mean_ms``."""
    peer_twin_ttft_ms: Number = math.nan
    """What another simulator says of ``ttft_mean_ms``."""


@dataclass(frozen=True)
class MeasuredRun:
    """What was asked of one measured engine.

    Parameters
    ----------
    run_id, model, quality
        Name of the run, its base model, and how far its results can be used ("" if not said).
    max_loras, max_lora_rank
        Slots, and the rank of every slot.
    rate, rank
        Requests/s and LoRA rank of each adapter, shape (n_adapters,).
    seconds
        Length of the run.
    max_num_seqs, kv_cache_tokens
        Of the engine; None where the table does not say.
    mean_prompt, mean_output
        Mean tokens of the requests offered; None where the table does not say.
    arrivals
        Requests offered.
    max_open_requests
        Most requests that the client held open.
    """

    run_id: str
    model: str
    quality: str
    max_loras: int
    max_lora_rank: int
    rate: FloatArray
    rank: IntArray
    seconds: float
    max_num_seqs: int | None
    kv_cache_tokens: int | None
    mean_prompt: float | None
    mean_output: float | None
    arrivals: int
    max_open_requests: int


def read_runs(path: str | Path) -> pd.DataFrame:
    """Read a table of serving runs; columns that are not those of `ServingRun` are kept as they are.

    Raises
    ------
    ScenarioError
        If the file is no such table; names every column that is missing and every bad cell.
    """
    return read_table(Path(path), ServingRun, strict=False)


def measured_runs(table: pd.DataFrame, params: FidelityParams | None = None) -> list[MeasuredRun]:
    """The runs of a table from `read_runs`.

    Rates and ranks are dealt round-robin, the k-th value of a list of m going to ceil((n − k)/m) adapters.
    """
    params = params or FidelityParams()
    return [_run(row, params) for row in with_defaults(table).to_dict(orient="records")]


def with_defaults(table: pd.DataFrame) -> pd.DataFrame:
    """A table from `read_runs` with the columns that it lacks, at their defaults."""
    absent = {name: f for name, f in ServingRun.model_fields.items() if name not in table.columns}
    return table.assign(**{name: f.default for name, f in absent.items() if not f.is_required()})


def _run(row: Mapping[Hashable, Any], params: FidelityParams) -> MeasuredRun:
    rate = np.resize(_numbers(row["rates"]), row["n_adapters"])
    seconds = row["total_time_s"]
    return MeasuredRun(
        run_id=row["run_id"],
        model=row["model"],
        quality=row["quality"],
        max_loras=row["max_loras"],
        max_lora_rank=row["max_lora_rank"],
        rate=rate,
        rank=np.resize(_numbers(row["sizes"]), row["n_adapters"]).astype(np.int32),
        seconds=seconds,
        max_num_seqs=_whole(row["max_num_seqs"]),
        kv_cache_tokens=_whole(row["kv_cache_tokens"]),
        mean_prompt=_known(row["pool_mean_input"]),
        mean_output=_known(row["pool_mean_output"]),
        arrivals=_arrivals(float(rate.sum()) * seconds, row["arrivals_est"], params),
        max_open_requests=_whole(row["max_open_requests"]) or params.max_open_requests,
    )


def _arrivals(expected: float, counted: float, params: FidelityParams) -> int:
    """Requests offered: as counted, where the count can be that of a Poisson process, else as expected."""
    believed = abs(counted - expected) <= params.plausible_deviations * math.sqrt(expected)
    return max(1, round(counted if believed else expected))


def _known(number: float) -> float | None:
    return None if math.isnan(number) else number


def _whole(number: float) -> int | None:
    return None if math.isnan(number) else int(number)


def run_requests(run: MeasuredRun, profile: EngineProfile, seed: int = 0) -> Requests:
    """Requests of a run: as many as were offered, at uniform instants, with the run's mean lengths.

    The number of requests and the mean lengths are fixed, so that a prediction does not carry a sampling
    error of its own. The same run gives the same requests in any table. Of an overloaded run the first
    requests suffice: the client never sends the others.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(run.run_id.encode())]))
    total = float(run.rate.sum())
    asked = run.arrivals
    n = min(asked, _max_sent(run, profile))
    prompt, output = draw_served_lengths(profile.lengths, n, run.mean_prompt, run.mean_output, rng)
    return Requests(
        arrival_s=np.sort(rng.random(n)) * run.seconds * (n / asked),
        prompt_tokens=prompt,
        output_tokens=output,
        adapter=rng.choice(len(run.rate), size=n, p=run.rate / total).astype(np.int32),
        n_adapters=len(run.rate),
    )


def _max_sent(run: MeasuredRun, profile: EngineProfile) -> int:
    """Requests that a client with a cap can have sent, if every step had the best number of tokens."""
    budget = profile.measured.max_num_batched_tokens
    token_s = profile.step.tables(run.max_loras, run.max_lora_rank, budget, len(run.rate)).token_s
    fastest = float((np.arange(1, budget + 1) / token_s[1:]).max())
    lengths = profile.lengths
    each = (run.mean_prompt or lengths.prompt.mean_tokens) + (run.mean_output or lengths.output.mean_tokens)
    # Answers that end early leave room for more requests than the means say.
    return run.max_open_requests + math.ceil(1.25 * fastest * run.seconds / each)


def draw_served_lengths(
    lengths: ServedLengths,
    n: int,
    mean_prompt: float | None,
    mean_output: float | None,
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
        prompt *= (mean_prompt or lengths.prompt.mean_tokens) / prompt.mean()
        output *= (mean_output or lengths.output.mean_tokens) / output.mean()
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


def run_setup(run: MeasuredRun, profile: EngineProfile) -> EngineSetup:
    """The engine of a run under a profile, fresh from its start, with the client's cap on open requests.

    Raises
    ------
    ValueError
        If the run's KV capacity is not known.
    """
    if run.kv_cache_tokens is None:
        raise ValueError(f"run {run.run_id} has no kv_cache_tokens")
    n, engine = len(run.rate), profile.measured
    return EngineSetup(
        max_loras=run.max_loras,
        max_cpu_loras=max(n, run.max_loras),
        max_num_seqs=run.max_num_seqs or engine.max_num_seqs,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        long_prefill_token_threshold=engine.long_prefill_token_threshold,
        block_size=engine.block_size,
        usable_blocks=run.kv_cache_tokens // engine.block_size - 1,
        rules=profile.rules,
        tables=profile.step.tables(run.max_loras, run.max_lora_rank, engine.max_num_batched_tokens, n),
        gpu_load_s=profile.loads.gpu_load_s(run.rank, run.max_lora_rank),
        disk_load_s=np.full(n, profile.first_read_s),
        max_inflight=run.max_open_requests,
        cold=True,
    )


def selected(table: pd.DataFrame, qualities: Sequence[str]) -> NDArray[np.bool_]:
    """Which rows of a table ran and have one of these qualities."""
    table = with_defaults(table)
    chosen: NDArray[np.bool_] = ((table["status"] == "ok") & table["quality"].isin(qualities)).to_numpy()
    return chosen
