"""Measured serving runs: what the table says of each."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Annotated

import numpy as np
from pydantic import AfterValidator, Field, InstanceOf

from scenarios import MAX_ADAPTERS, MAX_SLOTS
from scenarios.reading.findings import Finding
from scenarios.text.formatting import shown
from twin.engine.records import RunRecords
from twin.engine.requests import FloatArray, IntArray, Requests
from twin.measured.tables import LARGEST, Number, Positive, PositiveCount, TableRow, Text
from twin.profile import EngineProfile, Frontend, ServedLengths

PLAUSIBLE = 5.0
"""Standard deviations of a Poisson count within which ``arrivals_est`` is believed: a client at its limit of
open requests did not count what it never sent."""

MOST_DRAWN = 5_000_000
"""Most requests of a run that are drawn: what plays them takes some 200 bytes for each."""

SATURATED = "client_cap_saturated"
"""Quality of runs whose client held as many requests open as it could."""


def _numbers(text: str) -> list[float]:
    return [float(value) for value in text.split(";")]


def _checked_numbers(text: str) -> str:
    try:
        if all(0 < value < LARGEST for value in _numbers(text)):
            return text
    except ValueError:
        pass
    raise Finding((), f"is {shown(text)}", "give numbers above 0 separated by ;").error()


Numbers = Annotated[str, AfterValidator(_checked_numbers)]


MaxSeqs = Annotated[int, Field(gt=0, le=65_536)]
Budget = Annotated[int, Field(gt=0, le=1_048_576)]
Longest = Annotated[int, Field(gt=0, le=10_000_000)]
"""Ranges of an engine's arguments, as scenarios have them."""


class MeasuredRun(TableRow):
    """One run of an engine under a stream of requests; the table ``serving_runs.csv``."""

    run_id: Text
    """Name of the run."""
    model: Text
    """Base model."""
    max_loras: Annotated[int, Field(gt=0, le=MAX_SLOTS)]
    """Adapter slots."""
    n_adapters: Annotated[int, Field(gt=0, le=MAX_ADAPTERS)]
    """Adapters served."""
    max_lora_rank: PositiveCount
    """Rank of every slot."""
    rates: Numbers
    """Requests/s of the adapters, separated by ;, dealt to them in turn."""
    sizes: Numbers
    """LoRA ranks of the adapters, separated by ;, dealt to them in turn."""
    total_time_s: Positive = 3600.0
    """Seconds that the run lasted; an hour if not given."""
    drained: bool = False
    """Whether the client waited for the last answer, so that a replay ends with its own; else it is cut after
    ``total_time_s``, as the run was."""
    max_num_seqs: MaxSeqs | None = None
    """Most requests in a batch; if not given, the profile's."""
    max_num_batched_tokens: Budget | None = None
    """Token budget of a step; if not given, the profile's, or ``max_num_seqs`` if that is more."""
    max_model_len: Longest | None = None
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
    max_cpu_loras: PositiveCount | None = None
    """Adapters that fit into CPU memory, where the others are read from disk again and again; if not given,
    all do."""
    warm: bool = False
    """Whether adapters were in CPU memory when the run began, as many as fit: the engine loaded them at its
    start, or had served them before. Else it read each from disk at its first request."""
    requests_file: str = ""
    """CSV file of the run's very requests, from the table's folder on, as ``requests/NAME.csv``: these are
    replayed, and rates and mean lengths only describe them; if not given, requests are drawn."""
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
        """Yield a token budget, or room for adapters, that vLLM's own argument check would refuse."""
        budget, seqs, kept = self.max_num_batched_tokens, self.max_num_seqs, self.max_cpu_loras
        if kept is not None and kept < self.max_loras:
            message = f"is {kept}, below max_loras {self.max_loras}"
            yield Finding(("max_cpu_loras",), message, "give what the engine was started with")
        if budget is not None and seqs is not None and budget < seqs:
            message = f"is {budget}, below max_num_seqs {seqs}"
            yield Finding(("max_num_batched_tokens",), message, "give what the engine was started with")
        asked = self._expected()
        if asked > MOST_DRAWN:
            message = f"ask for {asked:,.0f} requests in {self.total_time_s:g} s"
            yield Finding(("rates",), message, f"give a part of the run with at most {MOST_DRAWN:,}")

    def _expected(self) -> float:
        """Requests that its rates ask for."""
        return float(np.resize(_numbers(self.rates), self.n_adapters).sum()) * self.total_time_s

    @property
    def horizon_s(self) -> float:
        """Seconds after which a replay of the run is cut, as the run was; of a drained one it never is."""
        return math.inf if self.drained else self.total_time_s

    def seconds(self, records: RunRecords) -> float:
        """Seconds over which the tokens of a replay count for its throughput."""
        return records.end_s if self.drained else min(records.horizon_s, self.total_time_s)

    def frontend(self, profile: EngineProfile) -> Frontend:
        """The server in front of the run's engine."""
        return profile.frontend

    @property
    def plain_engine(self) -> bool:
        """Whether the engine has no LoRA."""
        return False

    @property
    def is_drawn(self) -> bool:
        """Whether the requests of a replay are drawn, so that another seed gives others."""
        return True

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


class RecordedRun(MeasuredRun):
    """A run whose very requests are known, from its ``requests_file``."""

    recorded: InstanceOf[Requests]
    """What was sent."""

    def frontend(self, profile: EngineProfile) -> Frontend:
        """The profile's; how its metrics were read then is no part of these runs."""
        return profile.frontend.unread()

    @property
    def is_drawn(self) -> bool:
        """False."""
        return False

    @property
    def arrivals(self) -> int:
        """Requests that were sent."""
        return len(self.recorded)

    def asked_tokens(self, lengths: ServedLengths) -> tuple[float, float]:  # noqa: ARG002
        """Mean tokens of the prompts and asked of the answers that were sent."""
        return float(self.recorded.prompt_tokens.mean()), float(self.recorded.output_tokens.mean())
