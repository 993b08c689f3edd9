"""Measured serving runs: the table, and the requests and engine behind each of its rows."""

from __future__ import annotations

import math
import zlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import ndtr

from scenarios.errors import Problem, ScenarioError
from scenarios.lengths import HistogramLengths
from twin.engine.requests import FloatArray, IntArray, Requests
from twin.engine.setup import EngineSetup
from twin.profile import EngineProfile, ServedLengths

CLIENT_CAP = 25_000
"""Requests that the measuring client could hold open; it ran out of ports at 20 to 28 thousand."""

REQUIRED = ("run_id", "model", "max_loras", "n_adapters", "max_lora_rank", "rates", "sizes")
"""Columns without which a row cannot be simulated."""

OPTIONAL = {"total_time_s": 3600.0, "max_num_seqs": math.nan, "kv_cache_tokens": math.nan} | dict.fromkeys(
    ("pool_mean_input", "pool_mean_output", "arrivals_est"), math.nan
)
"""Columns that have a default: an hour; the profile's configuration; computed capacity; mean lengths; the
expected number of requests."""

PLAUSIBLE = 5.0
"""Standard deviations of a Poisson count within which ``arrivals_est`` is believed: a client that its cap
held back did not count what it never sent."""


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


def read_runs(path: str | Path) -> pd.DataFrame:
    """Read a table of serving runs and check what simulating it needs.

    Raises
    ------
    ScenarioError
        If the file is no such table; names every column that is missing and every bad cell (20 at most).
    """
    try:
        table = pd.read_csv(path, dtype={"run_id": str, "model": str, "rates": str, "sizes": str})
    except (OSError, ValueError) as error:
        problem = Problem("file", f"cannot be read as CSV ({error})", "give a table of serving runs")
        raise ScenarioError([problem], str(path)) from error
    missing = [name for name in REQUIRED if name not in table.columns]
    if missing:
        found = ", ".join(map(str, table.columns[:12]))
        problems = [Problem(f"column {name}", "is missing", f"add it; found: {found}") for name in missing]
        raise ScenarioError(problems, str(path))
    for name, default in OPTIONAL.items():
        if name not in table.columns:
            table[name] = default
    problems = _faults(table)
    if problems:
        raise ScenarioError(problems[:20], str(path))
    return table


def _faults(table: pd.DataFrame) -> list[Problem]:
    problems = []
    for name in ("max_loras", "n_adapters", "max_lora_rank", *OPTIONAL):
        numbers = pd.to_numeric(table[name], errors="coerce")
        given = table[name].notna() if name in OPTIONAL else pd.Series(True, table.index)
        wrong = given & ~(np.isfinite(numbers) & (numbers > 0) & (numbers < 1e9))
        for row in table.index[wrong][:3]:
            problems.append(
                Problem(f"row {row + 2}, {name}", f"is {table.at[row, name]!r}", "give a number above 0")
            )
    for name in ("rates", "sizes"):
        for row, text in table[name].items():
            try:
                good = all(float(v) > 0 and math.isfinite(float(v)) for v in str(text).split(";"))
            except ValueError:
                good = False
            if not good:
                problems.append(
                    Problem(f"row {row!s}, {name}", f"is {text!r}", "give numbers above 0 separated by ;")
                )
    for name in ("run_id", "model"):
        if table[name].isna().any():
            problems.append(Problem(f"column {name}", "has empty cells", "fill them"))
    return problems


def measured_runs(table: pd.DataFrame) -> list[MeasuredRun]:
    """The runs of a table from `read_runs`.

    Rates and ranks are dealt round-robin, the k-th value of a list of m going to ceil((n − k)/m) adapters.
    """
    return [_run(row) for row in table.to_dict(orient="records")]


def _run(row: Mapping[Hashable, object]) -> MeasuredRun:
    n = int(float(str(row["n_adapters"])))
    quality = row.get("quality")
    rate = np.array(_dealt(str(row["rates"]), n), dtype=np.float64)
    seconds = _known(row["total_time_s"]) or OPTIONAL["total_time_s"]
    return MeasuredRun(
        run_id=str(row["run_id"]),
        model=str(row["model"]),
        quality=quality if isinstance(quality, str) else "",
        max_loras=int(float(str(row["max_loras"]))),
        max_lora_rank=int(float(str(row["max_lora_rank"]))),
        rate=rate,
        rank=np.array(_dealt(str(row["sizes"]), n), dtype=np.int32),
        seconds=seconds,
        max_num_seqs=_whole(row["max_num_seqs"]),
        kv_cache_tokens=_whole(row["kv_cache_tokens"]),
        mean_prompt=_known(row["pool_mean_input"]),
        mean_output=_known(row["pool_mean_output"]),
        arrivals=_arrivals(float(rate.sum()) * seconds, _known(row["arrivals_est"])),
    )


def _arrivals(expected: float, counted: float | None) -> int:
    """Requests offered: as counted, where the count can be that of a Poisson process, else as expected."""
    if counted is not None and abs(counted - expected) <= PLAUSIBLE * math.sqrt(expected):
        return max(1, round(counted))
    return max(1, round(expected))


def _dealt(text: str, n: int) -> list[float]:
    values = [float(v) for v in text.split(";")]
    return [values[k % len(values)] for k in range(n)]


def _known(value: object) -> float | None:
    number = float(str(value))
    return number if math.isfinite(number) else None


def _whole(value: object) -> int | None:
    number = _known(value)
    return None if number is None else int(number)


def run_requests(run: MeasuredRun, profile: EngineProfile, seed: int = 0) -> Requests:
    """Requests of a run: as many as were offered, at uniform instants, with the run's mean lengths.

    The number of requests and the mean lengths are fixed, so that a prediction does not carry a sampling
    error of its own. The same run gives the same requests in any table. Of an overloaded run the first
    requests suffice: the client never sends the others.
    """
    rng = np.random.default_rng(np.random.SeedSequence([seed, zlib.crc32(run.run_id.encode())]))
    total = float(run.rate.sum())
    asked = run.arrivals
    n = min(asked, _most_sent(run, profile))
    prompt, output = draw_served_lengths(profile.lengths, n, run.mean_prompt, run.mean_output, rng)
    return Requests(
        arrival_s=np.sort(rng.random(n)) * run.seconds * (n / asked),
        prompt_tokens=prompt,
        output_tokens=output,
        adapter=rng.choice(len(run.rate), size=n, p=run.rate / total).astype(np.int32),
        n_adapters=len(run.rate),
    )


def _most_sent(run: MeasuredRun, profile: EngineProfile) -> int:
    """Requests that a client with a cap can have sent, if every step had the best number of tokens."""
    budget = profile.measured.max_num_batched_tokens
    token_s = profile.step.tables(run.max_loras, run.max_lora_rank, budget, len(run.rate)).token_s
    fastest = float((np.arange(1, budget + 1) / token_s[1:]).max())
    lengths = profile.lengths
    each = (run.mean_prompt or lengths.prompt.mean_tokens) + (run.mean_output or lengths.output.mean_tokens)
    # Answers that end early leave room for more requests than the means say.
    return CLIENT_CAP + math.ceil(1.25 * fastest * run.seconds / each)


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


def run_setup(run: MeasuredRun, profile: EngineProfile, kv_cache_tokens: int) -> EngineSetup:
    """The engine of a run under a profile, fresh from its start, with the client's cap on open requests."""
    n, engine = len(run.rate), profile.measured
    return EngineSetup(
        max_loras=run.max_loras,
        max_cpu_loras=max(n, run.max_loras),
        max_num_seqs=run.max_num_seqs or engine.max_num_seqs,
        max_num_batched_tokens=engine.max_num_batched_tokens,
        long_prefill_token_threshold=engine.long_prefill_token_threshold,
        block_size=engine.block_size,
        usable_blocks=kv_cache_tokens // engine.block_size - 1,
        rules=profile.rules,
        tables=profile.step.tables(run.max_loras, run.max_lora_rank, engine.max_num_batched_tokens, n),
        gpu_load_s=profile.loads.gpu_load_s(run.rank, run.max_lora_rank),
        disk_load_s=np.full(n, profile.first_read_s),
        max_inflight=CLIENT_CAP,
        cold=True,
    )


def selected(table: pd.DataFrame, qualities: Sequence[str]) -> NDArray[np.bool_]:
    """Which rows of a table ran and have one of these qualities."""
    if "status" not in table.columns or "quality" not in table.columns:
        return np.zeros(len(table), dtype=np.bool_)
    chosen: NDArray[np.bool_] = ((table["status"] == "ok") & table["quality"].isin(qualities)).to_numpy()
    return chosen
