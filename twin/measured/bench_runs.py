"""Runs of ``vllm bench serve`` for the twin: what its file says, and what only whoever ran it knows."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from scenarios import MAX_ADAPTERS, MAX_LORA_RANKS, MAX_SLOTS, FrozenModel, Problem, ScenarioError
from scenarios.engine import MaxLoraRank, padded_rank
from scenarios.text.formatting import choice
from twin.engine.requests import FloatArray, IntArray, Requests
from twin.measured.bench_serve import BenchResult, read_bench_results
from twin.measured.replayed import run_requests
from twin.measured.runs import Budget, Longest, MaxSeqs, MeasuredRun
from twin.measured.tables import Count, Positive, PositiveCount
from twin.profile import EngineProfile, Frontend

NEEDED = {
    "max_loras": "adapter slots of the engine; 0 is one without LoRA",
    "adapters": "adapters that were asked for, as in --lora-modules of the benchmark",
    "ranks": "LoRA ranks of the adapters, as 8,16, dealt to them in turn",
}
"""What no result says and nothing stands for."""


class BenchEngine(FrozenModel):
    """What a result of ``vllm bench serve`` does not say, in vLLM's words."""

    model: str | None = None
    """Base model, where the server's name for it is another; absent: the result's ``model_id``."""
    max_loras: Annotated[int, Field(ge=0, le=MAX_SLOTS)] | None = None
    """Adapter slots; 0 without LoRA."""
    max_lora_rank: MaxLoraRank | None = None
    """Rank of every slot; absent: the least of vLLM's that holds all ranks."""
    adapters: Annotated[int, Field(ge=0, le=MAX_ADAPTERS)] | None = None
    """Adapters that were asked for."""
    ranks: Annotated[tuple[PositiveCount, ...], Field(min_length=1)] | None = None
    """LoRA ranks, dealt to the adapters in turn."""
    rates: Annotated[tuple[Positive, ...], Field(min_length=1)] | None = None
    """Requests/s, dealt to the adapters in turn; absent: equal, as the benchmark chooses adapters."""
    max_cpu_loras: PositiveCount | None = None
    """Adapters kept in CPU memory; absent: vLLM's default, ``max_loras``."""
    max_num_seqs: MaxSeqs | None = None
    """Most requests in a batch; absent: the profile's."""
    max_num_batched_tokens: Budget | None = None
    """Token budget of a step; absent: the profile's."""
    max_model_len: Longest | None = None
    """Longest sequence in tokens; absent: the profile's."""
    gpu_memory_utilization: Annotated[float, Field(gt=0, le=1)] | None = None
    """Share of GPU memory used; absent: the profile's."""
    kv_cache_tokens: PositiveCount | None = None
    """KV cache in tokens, as the server's log says; absent: computed."""

    def problems(self) -> Iterator[Problem]:
        """Yield all that is missing, or cannot be together."""
        for name, meaning in NEEDED.items():
            if getattr(self, name) is None and (name == "max_loras" or self.max_loras != 0):
                flag = f"--{name.replace('_', '-')}"
                yield Problem(flag, "is missing", f"no result of `vllm bench serve` says it: {meaning}")
        if self.max_loras and self.adapters == 0:
            yield Problem("--adapters", "is 0 with slots for adapters", "give --max-loras 0, or adapters")
        largest = max(self.ranks or (1,))
        if self.max_lora_rank is not None and largest > self.max_lora_rank:
            yield Problem(
                "--ranks", f"has {largest}, above --max-lora-rank {self.max_lora_rank}", "raise that"
            )
        elif largest > MAX_LORA_RANKS[-1]:
            yield Problem("--ranks", f"has {largest}", f"vLLM's slots have {choice(MAX_LORA_RANKS)}")
        cpu = self.max_cpu_loras
        if cpu is not None and self.max_loras and cpu < self.max_loras:
            what = f"is {cpu}, below --max-loras {self.max_loras}"
            yield Problem("--max-cpu-loras", what, "raise it, or vLLM will not start")


class BenchRun(MeasuredRun):
    """A run of ``vllm bench serve``: so many requests, played until the last is answered."""

    max_loras: Count
    """Adapter slots; 0 without LoRA."""
    n_adapters: Count
    """Adapters served; 0 without LoRA."""
    max_lora_rank: Count
    """Rank of every slot; 0 without LoRA."""
    drained: bool = True
    """The benchmark waits for the last answer."""
    warm: bool = True
    """vLLM loads the adapters of ``--lora-modules`` at its start."""
    completed: PositiveCount
    """Requests that were answered."""
    request_rate: Positive | None = None
    """Requests/s offered; absent: all at once."""
    burstiness: Positive = 1.0
    """Shape of the gamma distribution of the gaps between requests."""
    prompt_lens: tuple[PositiveCount, ...] = ()
    """Prompt tokens of each request; empty: all have the mean."""
    output_lens: tuple[PositiveCount, ...] = ()
    """Tokens of each answer; empty: all have the mean."""
    sent_s: tuple[float, ...] = ()
    """When each request came, in seconds; empty: drawn."""
    output_throughput: Positive
    """Tokens of the answers per second."""
    assumed: tuple[str, ...] = ()
    """What the result does not say and is taken for granted, in words."""

    def frontend(self, profile: EngineProfile) -> Frontend:
        """The profile's, but nobody reads the server's metrics."""
        return profile.frontend.unread()

    def _expected(self) -> float:
        return float(self.completed)

    @property
    def arrivals(self) -> int:
        """Requests that were answered; what the server did with others is not known."""
        return self.completed

    @property
    def plain_engine(self) -> bool:
        """Whether the engine has no LoRA."""
        return self.max_loras == 0


@run_requests.register
def _bench_requests(run: BenchRun, profile: EngineProfile, seed: int = 0) -> Requests:  # noqa: ARG001
    """Requests of a benchmark: at the instants and of the lengths that its file tells, or drawn as it does.

    The benchmark draws an adapter for each request (``random.choice``); which one, no file tells.
    """
    n, totals = run.completed, (run.pool_mean_input or 1.0, run.pool_mean_output or 1.0)
    key = [seed, n, round(n * totals[0]), round(n * totals[1])]
    rng = np.random.default_rng(np.random.SeedSequence(key))
    prompt, output = (
        np.array(known, dtype=np.int32) if known else _near(mean, n, rng)
        for known, mean in zip((run.prompt_lens, run.output_lens), totals, strict=True)
    )
    came = np.array(run.sent_s) if run.sent_s else _drawn_arrivals(run, rng)
    order = np.argsort(came, kind="stable")
    adapters = len(run.rate)
    adapter = rng.choice(adapters, size=n, p=run.rate / run.rate.sum()) if adapters else np.zeros(n)
    return Requests(came[order], prompt[order], output[order], adapter.astype(np.int32), max(adapters, 1))


def _near(mean: float, n: int, rng: np.random.Generator) -> IntArray:
    """Whole numbers next to a mean, whose sum is n times the mean."""
    low = math.floor(mean)
    lengths = np.full(n, low, dtype=np.int32)
    lengths[: round(n * (mean - low))] += 1
    shuffled: IntArray = np.maximum(rng.permutation(lengths), 1).astype(np.int32)
    return shuffled


def _drawn_arrivals(run: BenchRun, rng: np.random.Generator) -> FloatArray:
    """Instants as the benchmark draws them: gamma gaps, rescaled so that they have the rate asked for.

    The source is ``get_request`` of ``vllm/benchmarks/serve.py``, 0.10.2 to 0.32.0.
    """
    n = run.completed
    if run.request_rate is None:
        return np.zeros(n)
    came: FloatArray = np.cumsum(rng.gamma(run.burstiness, 1 / (run.request_rate * run.burstiness), n))
    scaled: FloatArray = came * (n / run.request_rate / came[-1])
    return scaled


def bench_runs(files: Sequence[str | Path], engine: BenchEngine) -> list[BenchRun]:
    """Runs from results of ``vllm bench serve``, of one engine.

    Parameters
    ----------
    files
        JSON files.
    engine
        What they do not say.

    Raises
    ------
    ScenarioError
        If something that they do not say is missing, all of it at once; or if a file is no such result.
    """
    problems = list(engine.problems())
    results = [(str(file), read_bench_results(file)) for file in files]
    for source, found in results:
        if engine.model is None and any(not result.model_id for result in found):
            problems.append(Problem("--model", "is missing", f"{source} has no model_id"))
    if problems:
        raise ScenarioError(problems, ", ".join(map(str, files)))
    return [
        _named_run(result, engine, source if len(found) == 1 else f"{source}#{k + 1}")
        for source, found in results
        for k, result in enumerate(found)
    ]


def _named_run(result: BenchResult, engine: BenchEngine, name: str) -> BenchRun:
    """The run of a result, whose file is named where its figures cannot be."""
    try:
        return _run(result, engine, name)
    except ScenarioError as error:
        raise ScenarioError(error.problems, name) from error


def _run(result: BenchResult, engine: BenchEngine, name: str) -> BenchRun:
    adapters = (engine.adapters or 0) if engine.max_loras else 0
    ranks = engine.ranks or (1,)
    rank = (engine.max_lora_rank or padded_rank(max(ranks))) if adapters else 0
    total = result.request_rate or result.completed / result.duration
    shares = np.resize(np.array(engine.rates or (1.0,)), max(adapters, 1))
    rates = total * shares / shares.sum()
    known = result.answered()
    own = ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "gpu_memory_utilization")
    return BenchRun(
        run_id=name,
        model=engine.model or result.model_id,
        max_loras=engine.max_loras or 0,
        n_adapters=adapters,
        max_lora_rank=rank,
        rates=";".join(f"{rate:.17g}" for rate in rates),
        sizes=";".join(map(str, ranks)),
        total_time_s=result.duration,
        kv_cache_tokens=engine.kv_cache_tokens,
        pool_mean_input=result.total_input_tokens / result.completed,
        pool_mean_output=result.total_output_tokens / result.completed,
        max_open_requests=result.max_concurrency or result.completed,
        max_cpu_loras=engine.max_cpu_loras or engine.max_loras or None,
        completed=result.completed,
        request_rate=result.request_rate,
        burstiness=result.burstiness,
        prompt_lens=tuple(max(result.input_lens[k], 1) for k in known) if result.detailed else (),
        output_lens=tuple(result.output_lens[k] for k in known) if result.detailed else (),
        sent_s=result.sent_s() if result.detailed else (),
        total_throughput=(result.total_input_tokens + result.total_output_tokens) / result.duration,
        output_throughput=result.total_output_tokens / result.duration,
        itl_mean_ms=result.itl_ms,
        tpot_mean_ms=result.tpot_ms,
        ttft_mean_ms=result.ttft_ms,
        assumed=tuple(_assumed(result, engine, rank)),
        **{field: getattr(engine, field) for field in own},
    )


def _assumed(result: BenchResult, engine: BenchEngine, rank: int) -> Iterator[str]:
    """What is taken for granted, in words."""
    if not result.detailed:
        yield "every request has the mean lengths (--save-detailed would tell them)"
    if engine.max_loras and engine.max_lora_rank is None:
        yield f"max_lora_rank {rank}, the least that holds the ranks"
    if engine.max_loras and engine.rates is not None and result.request_rate is not None:
        asked = float(np.resize(np.array(engine.rates), engine.adapters or 1).sum())
        if abs(asked / result.request_rate - 1) > 0.01:
            yield (
                f"--rates give {asked:g} requests/s together, the file {result.request_rate:g}: "
                "they are taken as shares of the file's"
            )
