"""Runs of a live server that its profile never saw, beside what the twin says of the very same requests."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np

from live_engine.subjects import MODEL, Subject
from scenarios import FixedLengths
from twin import EngineProfile, GPULoad, Requests, RunRecords, build_setup, metrics
from twin.engine.run import simulate_requests
from twin.live import Drive, Limits, ask_servers, play

PATIENCE_S = 10.0
"""Seconds after which a request is late."""

LATE_SHARE = 0.05
"""Share of late requests up to which an engine keeps up."""

PROMPT, OUTPUT = 48, 24
"""Mean tokens of the streams' prompts and answers."""


@dataclass(frozen=True)
class Case:
    """A run that is foretold and made.

    Parameters
    ----------
    name
        What it is.
    subject
        The engine that it needs.
    requests
        What is sent.
    seconds
        When it is cut; infinite: after the last answer.
    """

    name: str
    subject: Subject
    requests: Requests
    seconds: float


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


def load_of(subject: Subject) -> GPULoad:
    """The adapters of an engine, and after them its base model, as the twin takes them."""
    ranks = [*subject.model.ranks.values(), 0]
    n = len(ranks)
    return GPULoad(
        names=(*subject.model.ranks, MODEL),
        rank=np.array(ranks, dtype=np.int32),
        rate=np.ones(n),
        prompt=(FixedLengths(tokens=PROMPT),) * n,
        output=(FixedLengths(tokens=OUTPUT),) * n,
    )


def foretell_case(case: Case, profile: EngineProfile) -> RunRecords:
    """What the twin makes of a case."""
    engine = case.subject.config
    assert engine.max_loras is not None
    assert engine.max_lora_rank is not None
    setup = build_setup(
        profile,
        engine,
        load_of(case.subject),
        max_loras=engine.max_loras,
        max_lora_rank=engine.max_lora_rank,
        max_cpu_loras=engine.max_cpu_loras,
    )
    return simulate_requests(case.requests, setup, case.seconds)


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


def run_case(case: Case, url: str, seed: int) -> Figures:
    """Send a case to a server.

    Raises
    ------
    RuntimeError
        If it is broken off, or a request fails.
    """
    names = (*case.subject.model.ranks, MODEL)
    (answers,) = play([Drive(url, case.requests, names, case.seconds, seed)], Limits(error_share=0.01))
    if answers.stopped or answers.faults:
        raise RuntimeError(f"{case.name}: {answers.stopped or dict(answers.faults)} {answers.details}")
    return figures_of(answers.records())


def warm_up(subject: Subject, url: str) -> None:
    """Ask every adapter, a few at a time: a server's first requests are slow, and no profile knows of it."""
    n = len(subject.model.ranks)
    requests = replace(batch(subject, 4, n, 4), adapter=(np.arange(4 * n) % n).astype(np.int32))
    run_case(Case("warm-up", subject, requests, math.inf), url, seed=0)


def compare(case: Case, profile: EngineProfile, url: str, repetitions: int) -> dict[str, object]:
    """A case foretold, and measured several times: a row with means and the largest deviation from them."""
    told = figures_of(foretell_case(case, profile), profile.frontend.first_token_s)
    seen = [run_case(case, url, seed=k + 1) for k in range(repetitions)]
    row: dict[str, object] = {"case": case.name, "requests": len(case.requests), "repetitions": repetitions}
    for name in ("throughput", "itl_ms", "ttft_ms", "late_share"):
        values = np.array([getattr(one, name) for one in seen])
        mean = float(values.mean())
        row[f"{name}_foretold"], row[f"{name}_measured"] = getattr(told, name), mean
        if name != "late_share":
            row[f"{name}_error"] = getattr(told, name) / mean - 1
            row[f"{name}_spread"] = float(np.abs(values / mean - 1).max())
    row["keeps_up_foretold"] = told.keeps_up
    row["keeps_up_measured"] = [one.keeps_up for one in seen]
    row["runs"] = [asdict(one) for one in seen]
    return row


def kv_tokens(subject: Subject, profile: EngineProfile, url: str) -> tuple[int, int | None]:
    """KV cache in tokens: what the twin computes, and what the server tells."""
    engine = subject.config
    assert engine.max_loras is not None
    assert engine.max_lora_rank is not None
    setup = build_setup(
        profile,
        engine,
        load_of(subject),
        max_loras=engine.max_loras,
        max_lora_rank=engine.max_lora_rank,
        max_cpu_loras=engine.max_cpu_loras,
    )
    (told,) = ask_servers([url])
    return (setup.usable_blocks + 1) * setup.block_size, told.kv_cache_tokens


# --- what is sent ---------------------------------------------------------------------------------------


def stream(subject: Subject, rate: float, seconds: float, seed: int, skew: float = 0.0) -> Requests:
    """A Poisson stream of all adapters, alike or by Zipf's law, with geometric lengths."""
    rng = np.random.default_rng([seed, round(1000 * rate)])
    n, count = len(subject.model.ranks), max(rng.poisson(rate * seconds), 1)
    weights = np.arange(1, n + 1) ** -skew
    return Requests(
        arrival_s=np.sort(rng.random(count)) * seconds,
        prompt_tokens=np.minimum(rng.geometric(1 / PROMPT, count), 4 * PROMPT).astype(np.int32),
        output_tokens=np.minimum(rng.geometric(1 / OUTPUT, count), 4 * OUTPUT).astype(np.int32),
        adapter=rng.choice(n, size=count, p=weights / weights.sum()).astype(np.int32),
        n_adapters=n + 1,
    )


def batch(subject: Subject, size: int, rounds: int, distinct: int) -> Requests:
    """So many requests at a time and no more, of a few adapters."""
    n = size * rounds
    follows = np.arange(n, dtype=np.int32) - size
    follows[:size] = -1
    return Requests(
        arrival_s=np.zeros(n),
        prompt_tokens=np.full(n, PROMPT, dtype=np.int32),
        output_tokens=np.full(n, 2 * OUTPUT, dtype=np.int32),
        adapter=(np.arange(n) % size % distinct).astype(np.int32),
        n_adapters=len(subject.model.ranks) + 1,
        follows=follows,
    )


def with_common_prefix(requests: Requests, tokens: int) -> Requests:
    """The same requests behind a text that all requests of an adapter begin with."""
    n, m = len(requests), requests.n_adapters
    continues = np.concatenate([n + requests.adapter, np.full(m, -1)]).astype(np.int32)
    common = np.concatenate([np.full(n, tokens), np.zeros(m)]).astype(np.int32)
    prompts = (requests.prompt_tokens + tokens).astype(np.int32)
    return replace(requests, prompt_tokens=prompts, continues=continues, common_tokens=common)


def boundary(subject: Subject, profile: EngineProfile, seconds: float, seed: int) -> float:
    """Requests per second at which the twin's late share of such a stream passes the limit."""

    def keeps_up(rate: float) -> bool:
        requests = stream(subject, rate, seconds, seed)
        return figures_of(foretell_case(Case("", subject, requests, seconds), profile)).keeps_up

    low, high = 0.05, 0.1
    while keeps_up(high):
        low, high = high, 2 * high
    while high / low > 1.02:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if keeps_up(middle) else (low, middle)
    return low


LOADS = (0.5, 0.85, 1.2, 1.4)
"""Two loads below the boundary and two above, as shares of it."""


def cases(subject: Subject, profile: EngineProfile, seconds: float) -> Iterator[Case]:
    """The runs, in an order in which each engine is started once.

    Parameters
    ----------
    subject
        The engine that was measured; others are changed from it.
    profile
        What was fitted.
    seconds
        Length of a run.
    """
    rate = boundary(subject, profile, seconds, seed=0)
    for share in LOADS:
        requests = stream(subject, share * rate, seconds, seed=1)
        yield Case(f"all adapters alike, {share:g} of the boundary", subject, requests, seconds)
    rounds = 4
    yield Case("12 at a time, 3 adapters", subject, batch(subject, 12, rounds, 3), math.inf)
    other = subject.changed(max_loras=4, max_num_seqs=16)
    skewed = boundary(other, profile, seconds, seed=0)
    requests = stream(other, 0.9 * skewed, seconds, seed=2, skew=1.2)
    yield Case("4 slots, batches to 16, skewed, 0.9 of its boundary", other, requests, seconds)
    cached = subject.changed(enable_prefix_caching=True)
    for engine, word in ((cached, "on"), (subject, "off")):
        requests = with_common_prefix(stream(engine, 0.4 * rate, seconds, seed=3), 96)
        yield Case(f"prompts that begin alike, prefix caching {word}", engine, requests, seconds)


def by_engine(every: Sequence[Case]) -> dict[str, list[Case]]:
    """Cases of one engine together, in their order."""
    found: dict[str, list[Case]] = {}
    for case in every:
        found.setdefault(repr(sorted(case.subject.engine.items())), []).append(case)
    return found
