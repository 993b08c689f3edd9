"""Measured serving runs: the table, and the requests and engine behind each of its rows."""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Sequence
from functools import cached_property, singledispatch
from pathlib import Path
from typing import Annotated

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pydantic import AfterValidator, Field
from scipy.special import ndtr

from scenarios import EngineConfig, HistogramLengths
from scenarios.reading.findings import Finding
from scenarios.text.formatting import shown
from twin.engine.records import RunRecords
from twin.engine.requests import FloatArray, IntArray, Requests
from twin.engine.setup import EngineSetup
from twin.measured.tables import Number, Positive, PositiveCount, TableRow, Text, read_table, rows_of
from twin.profile import EngineProfile, Frontend, ServedLengths

PLAUSIBLE = 5.0
"""Standard deviations of a Poisson count within which ``arrivals_est`` is believed: a client at its limit of
open requests did not count what it never sent."""

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


class MeasuredRun(TableRow):
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
    max_num_seqs: PositiveCount | None = None
    """Most requests in a batch; if not given, the profile's."""
    max_num_batched_tokens: PositiveCount | None = None
    """Token budget of a step; if not given, the profile's, or ``max_num_seqs`` if that is more."""
    max_model_len: PositiveCount | None = None
    """Longest sequence in tokens; if not given, the profile's."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of GPU memory used; if not given, the profile's."""
    kv_cache_tokens: PositiveCount | None = None
    """KV capacity in tokens that the engine reported; if not given, computed (a calibration needs it)."""
    pool_mean_input: Positive | None = None
    """Mean prompt tokens of the requests offered; if not given, the profile's."""
    pool_mean_output: Positive | None = None
    """Mean tokens asked of the answers; if not given, the profile's."""
    arrivals_est: Positive | None = None
    """Requests offered; if not given, or if no Poisson process gives as many, the expected number."""
    max_open_requests: PositiveCount = 25_000
    """Most requests that the client held open; if not given, 25,000: Linux gives a client 28,232 ports to a
    server, and it begins to fail somewhat below."""
    group: str = ""
    """Runs of one kind, left out of the fit together to measure its errors."""
    status: str = ""
    """``ok``, or why there are no results; engines that did not start: ``kv_below_max_model_len``,
    ``no_kv_memory``, ``oom_cuda``, ``oom_sampler_warmup``."""
    quality: str = ""
    """``clean``; ``client_cap_saturated`` where the client held as many requests open as it could, so that
    only throughput and the time between tokens are the engine's; others are not used."""
    total_throughput: Number | None = None
    """Prompt and answer tokens of completed requests per second."""
    itl_mean_ms: Number | None = None
    """Mean time between the chunks that the client received."""
    tpot_mean_ms: Number | None = None
    """Mean over completed requests of the time per output token after the first."""
    ttft_mean_ms: Number | None = None
    """Mean time to first token of completed requests."""
    running_mean: Number | None = None
    """Requests in the batch, mean over time."""
    waiting_mean: Number | None = None
    """Requests in the engine's queue, mean over time."""
    kv_usage_mean: Number | None = None
    """Share of the KV cache in use, mean over time."""
    starved: bool | None = None
    """Whether throughput fell 10 % or more short of what was offered."""
    ideal_tok_s: Number | None = None
    """Tokens per second offered."""
    peer_twin_total_throughput: Number | None = None
    """What another simulator says of ``total_throughput``."""
    peer_twin_itl_ms: Number | None = None
    """What another simulator says of ``itl_mean_ms``."""
    peer_twin_tpot_ms: Number | None = None
    """What another simulator says of ``tpot_mean_ms``."""
    peer_twin_ttft_ms: Number | None = None
    """What another simulator says of ``ttft_mean_ms``."""

    def findings(self) -> Iterator[Finding]:
        """Yield a token budget that vLLM's own argument check would refuse."""
        budget, seqs = self.max_num_batched_tokens, self.max_num_seqs
        if budget is not None and seqs is not None and budget < seqs:
            message = f"is {budget}, below max_num_seqs {seqs}"
            yield Finding(("max_num_batched_tokens",), message, "give what the engine was started with")

    @property
    def horizon_s(self) -> float:
        """Seconds after which a replay of the run is cut, as the run was."""
        return self.total_time_s

    def seconds(self, records: RunRecords) -> float:
        """Seconds over which the tokens of a replay count for its throughput."""
        return min(records.horizon_s, self.total_time_s)

    def frontend(self, profile: EngineProfile) -> Frontend:
        """The server in front of the run's engine."""
        return profile.frontend

    @cached_property
    def rate(self) -> FloatArray:
        """Requests/s of each adapter, shape (n_adapters,): of m values, the k-th goes to every m-th one."""
        return np.resize(_numbers(self.rates), self.n_adapters)

    @cached_property
    def rank(self) -> IntArray:
        """LoRA rank of each adapter, dealt as the rates, shape (n_adapters,)."""
        return np.resize(_numbers(self.sizes), self.n_adapters).astype(np.int32)

    @property
    def arrivals(self) -> int:
        """Requests offered: as counted if a Poisson process may have given as many, else as expected."""
        expected = float(self.rate.sum()) * self.total_time_s
        counted = expected if self.arrivals_est is None else self.arrivals_est
        believed = abs(counted - expected) <= PLAUSIBLE * math.sqrt(expected)
        return max(1, round(counted if believed else expected))

    def asked_tokens(self, lengths: ServedLengths) -> tuple[float, float]:
        """Mean tokens of the prompts and asked of the answers; those of a profile if the table has none."""
        return (
            self.pool_mean_input or lengths.prompt.mean_tokens,
            self.pool_mean_output or lengths.output.mean_tokens,
        )


def read_runs(path: str | Path) -> pd.DataFrame:
    """Read a table of serving runs; columns that are not those of `MeasuredRun` are kept as they are.

    Raises
    ------
    ScenarioError
        If the file is no such table; names every column that is missing and every bad cell.
    """
    return read_table(Path(path), MeasuredRun, strict=False)


def measured_runs(table: pd.DataFrame) -> list[MeasuredRun]:
    """The runs of a table from `read_runs`."""
    return rows_of(table, MeasuredRun)


def with_defaults(table: pd.DataFrame) -> pd.DataFrame:
    """A table from `read_runs` with the columns that it lacks, at their defaults."""
    absent = {name: f for name, f in MeasuredRun.model_fields.items() if name not in table.columns}
    return table.assign(**{name: f.default for name, f in absent.items() if not f.is_required()})


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


def _max_sent(run: MeasuredRun, profile: EngineProfile) -> int:
    """Requests that a client with a cap can have sent, if every step had the best number of tokens."""
    budget = run_engine(run, profile).max_num_batched_tokens
    token_s = profile.step.tables(run.max_loras, run.max_lora_rank, budget, len(run.rate)).token_s
    fastest = float((np.arange(1, budget + 1) / token_s[1:]).max())
    # Answers that end early leave room for more requests than the means say.
    each = sum(run.asked_tokens(profile.lengths))
    return run.max_open_requests + math.ceil(1.25 * fastest * run.total_time_s / each)


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


@singledispatch
def run_setup(run: MeasuredRun, profile: EngineProfile) -> EngineSetup:
    """The engine of a run under a profile; of a row of a table fresh from its start, with the client's cap.

    Raises
    ------
    ValueError
        If the run's KV capacity is not known.
    """
    if run.kv_cache_tokens is None:
        raise ValueError(f"run {run.run_id} has no kv_cache_tokens")
    n, engine = len(run.rate), run_engine(run, profile)
    return EngineSetup(
        max_loras=run.max_loras,
        max_cpu_loras=max(n, run.max_loras),
        max_num_seqs=engine.max_num_seqs,
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
