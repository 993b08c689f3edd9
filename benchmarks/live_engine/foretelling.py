"""Runs of a live server that its profile never saw, beside what the twin says of the very same requests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from live_engine.loads import Case, batch, stream
from live_engine.tiny_engine import TinyEngine
from twin import EngineProfile, RunRecords, metrics
from twin.engine.run import simulate_requests
from twin.live import Drive, Limits, ask_servers, play

PATIENCE_S = 10.0
"""Seconds after which a request is late."""

LATE_SHARE = 0.05
"""Share of late requests up to which an engine keeps up."""


@dataclass(frozen=True)
class Figures:
    """What a run gave: tokens per second, milliseconds, and the share of late requests."""

    throughput: float
    itl_ms: float
    ttft_ms: float
    late_share: float
    completed: int

    @property
    def keeps_up(self) -> bool:
        return self.late_share <= LATE_SHARE


def foretold(case: Case, profile: EngineProfile) -> Figures:
    """What the twin makes of a case."""
    records = simulate_requests(case.requests, case.engine.setup(profile), case.seconds)
    return figures_of(records, profile.frontend.first_token_s)


def figures_of(records: RunRecords, frontend_s: float = 0.0) -> Figures:
    """Figures of a run, measured or foretold alike."""
    view = metrics.window(records)
    found = metrics.latencies_of(view, frontend_s)
    wait = records.first_token_s - records.requests.arrival_s + frontend_s
    age = view.end_s - records.requests.arrival_s
    wait = np.where(np.isnan(wait), age, wait)
    due = (age >= PATIENCE_S) | (wait > PATIENCE_S)
    return Figures(
        throughput=metrics.traffic(view).served_tok_per_s,
        itl_ms=1e3 * found["itl"].mean_s,
        ttft_ms=1e3 * found["ttft"].mean_s,
        late_share=float((wait > PATIENCE_S)[due].mean()) if due.any() else 0.0,
        completed=int(records.finished.sum()),
    )


def run_case(case: Case, urls: Sequence[str], seed: int) -> list[Figures]:
    """Send a case to servers, all of it to each, at once.

    Raises
    ------
    RuntimeError
        If it is broken off, or a request fails.
    """
    names, seconds = case.engine.served_names, case.seconds
    drives = [Drive(url, case.requests, names, seconds, seed + k) for k, url in enumerate(urls)]
    every = play(drives, Limits(error_share=0.01))
    for answers in every:
        if answers.stopped or answers.faults:
            raise RuntimeError(f"{case.name}: {answers.stopped or dict(answers.faults)} {answers.details}")
    return [figures_of(answers.records()) for answers in every]


def warm_up(engine: TinyEngine, urls: Sequence[str]) -> None:
    """Ask every adapter, a few at a time: a server's first requests are slow, and no profile knows of it."""
    n = len(engine.model.ranks)
    requests = replace(batch(engine, 4, n, 4), adapter=(np.arange(4 * n) % n).astype(np.int32))
    run_case(Case("warm-up", engine, requests, math.inf), urls, seed=0)


@dataclass(frozen=True)
class Compared:
    """A case foretold, and measured several times.

    Parameters
    ----------
    case, requests
        What was sent, and how many requests.
    told
        What the twin said.
    seen
        What each repetition gave.
    """

    case: str
    requests: int
    told: Figures
    seen: tuple[Figures, ...]

    def mean(self, name: str) -> float:
        """Mean of a figure over the repetitions."""
        return float(np.mean([getattr(one, name) for one in self.seen]))

    def error(self, name: str) -> float:
        """By what share the foretold figure is off."""
        return float(getattr(self.told, name)) / self.mean(name) - 1

    def spread(self, name: str) -> float:
        """By what share a repetition differs from the mean, at most."""
        return max(abs(getattr(one, name) / self.mean(name) - 1) for one in self.seen)


def compare(
    cases: Sequence[Case], profile: EngineProfile, urls: Sequence[str], rounds: int
) -> Iterator[Compared]:
    """Foretell cases of one engine, and make each several times on every server.

    All are made once before any is made again: repetitions in a row would not show how a machine's speed
    changes with time.
    """
    seen: list[list[Figures]] = [[] for _ in cases]
    for k in range(rounds):
        for case, made in zip(cases, seen, strict=True):
            made += run_case(case, urls, seed=k * len(urls) + 1)
    for case, made in zip(cases, seen, strict=True):
        yield Compared(case.name, len(case.requests), foretold(case, profile), tuple(made))


def kv_tokens(engine: TinyEngine, profile: EngineProfile, url: str) -> tuple[int, int | None]:
    """KV cache in tokens: what the twin computes, and what the server tells."""
    setup = engine.setup(profile)
    (told,) = ask_servers([url])
    return (setup.usable_blocks + 1) * setup.block_size, told.kv_cache_tokens


def boundary(engine: TinyEngine, profile: EngineProfile, seconds: float) -> float:
    """Requests per second at which the twin's late share of a stream passes the limit."""

    def keeps_up(rate: float) -> bool:
        return foretold(Case("", engine, stream(engine, rate, seconds, seed=0), seconds), profile).keeps_up

    low, high = 0.05, 0.1
    while keeps_up(high):
        low, high = high, 2 * high
    while high / low > 1.02:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if keeps_up(middle) else (low, middle)
    return low
