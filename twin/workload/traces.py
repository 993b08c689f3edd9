"""Public arrival traces: Azure's LLM traces and ServeGen's client applications."""

from __future__ import annotations

import csv
import gzip
import hashlib
import math
import re
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from scenarios import LorapackError
from scenarios.errors import cause_of
from twin.engine.requests import FloatArray, IntArray, Requests
from twin.workload.gaps import ExponentialGaps, GammaGaps, Gaps, WeibullGaps

T = TypeVar("T")

SERVEGEN_WINDOW_S = 600.0
"""Length of the windows in ServeGen's traces."""

COPY_SHIFT_S = 600.0
"""Most seconds by which copies of a trace that are laid over each other lie apart: far less than a peak."""

_INSTANT = re.compile(r"(.*?)(\.\d+)?(Z|[+-]\d\d:?\d\d)?", re.DOTALL)
"""Date and time, fraction of a second, offset from UTC: Azure's files of 2024 have the last."""

_ORIGIN = datetime(2000, 1, 1, tzinfo=UTC)
_AZURE_COLUMNS = ("TIMESTAMP", "ContextTokens", "GeneratedTokens")
_DAY_COLUMNS = ("client", "window_start_s", "rate_req_s", "cv", "pattern")
_CLIENT_COLUMNS = ("client", "mean_prompt_tokens", "mean_output_tokens")


class TraceError(LorapackError, ValueError):
    """A trace file is missing or damaged; the message names file, line, value and remedy."""


@dataclass(frozen=True)
class Trace:
    """Arrivals of one service, without adapters.

    Parameters
    ----------
    arrival_s
        Seconds from the start, ascending from 0, shape (n,).
    prompt_tokens, output_tokens
        Tokens of prompt and answer, at least 1, shape (n,).
    period_s
        After how many seconds the trace may be repeated: n mean gaps.
    """

    arrival_s: FloatArray
    prompt_tokens: IntArray
    output_tokens: IntArray
    period_s: float

    def __len__(self) -> int:
        return len(self.arrival_s)

    @property
    def mean_rate(self) -> float:
        """Requests per second."""
        return len(self) / self.period_s

    def stretched(self, speed: float) -> Trace:
        """The same trace, ``speed`` times as fast."""
        return Trace(self.arrival_s / speed, self.prompt_tokens, self.output_tokens, self.period_s / speed)


@dataclass(frozen=True)
class ClientTrace:
    """One client application of a ServeGen trace.

    Parameters
    ----------
    client
        The trace's number of the client.
    rate
        Requests per second in each window, 0 where the trace has none, shape (n_windows,).
    cv
        Coefficient of variation of the gaps in each window, shape (n_windows,).
    weibull
        Whether the gaps of each window are Weibull; else Gamma, shape (n_windows,).
    mean_prompt_tokens, mean_output_tokens
        Mean lengths over the day.
    """

    client: int
    rate: FloatArray
    cv: FloatArray
    weibull: NDArray[np.bool_]
    mean_prompt_tokens: float
    mean_output_tokens: float

    @property
    def mean_rate(self) -> float:
        """Requests per second over the day."""
        return float(self.rate.mean())


def read_azure_trace(path: Path | str) -> Trace:
    """Read a trace with ``TIMESTAMP,ContextTokens,GeneratedTokens`` (CSV, or CSV.gz).

    Raises
    ------
    TraceError
        If the file is missing or damaged.
    """
    path = Path(path)
    try:
        stamp = path.stat()
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({cause_of(error)}); give the path of a trace") from error
    return _read_azure_trace(path, stamp.st_mtime_ns, stamp.st_size)


@lru_cache(maxsize=8)
def _read_azure_trace(path: Path, _modified_ns: int, _size: int) -> Trace:
    instants: list[float] = []
    prompts: list[int] = []
    outputs: list[int] = []
    for line, row in _rows(path, _AZURE_COLUMNS):
        instants.append(_parsed(path, line, row, "TIMESTAMP", _seconds))
        prompts.append(_parsed(path, line, row, "ContextTokens", _tokens))
        outputs.append(_parsed(path, line, row, "GeneratedTokens", _tokens))
    if len(instants) < 2 or max(instants) <= min(instants):
        raise TraceError(f"{path}: holds {len(instants)} requests; a trace needs two at different instants")
    order = np.argsort(instants, kind="stable")
    arrival = np.asarray(instants)[order]
    arrival = arrival - arrival[0]
    period = float(arrival[-1]) * len(arrival) / (len(arrival) - 1)
    trace = Trace(arrival, np.asarray(prompts, np.int32)[order], np.asarray(outputs, np.int32)[order], period)
    for array in (trace.arrival_s, trace.prompt_tokens, trace.output_tokens):
        array.setflags(write=False)
    return trace


def trace_digest(path: Path | str) -> str:
    """Digest of the content of a trace, by which its requests are known whatever its name.

    Raises
    ------
    TraceError
        If the file is missing or damaged.
    """
    trace = read_azure_trace(path)
    digest = hashlib.sha256()
    for array in (trace.arrival_s, trace.prompt_tokens, trace.output_tokens):
        digest.update(array.tobytes())
    return digest.hexdigest()[:16]


def read_servegen(day_path: Path | str, clients_path: Path | str) -> tuple[ClientTrace, ...]:
    """Read a day of ServeGen's clients, those with the highest mean rate first.

    Parameters
    ----------
    day_path
        ``client, window_start_s, rate_req_s, cv, pattern, ...`` per client and 600 s window.
    clients_path
        ``client, mean_prompt_tokens, mean_output_tokens`` per client. A client that it leaves out, as the
        public files do with some, gets the median of the others.

    Raises
    ------
    TraceError
        If a file is missing, damaged or empty.
    """
    day_path, clients_path = Path(day_path), Path(clients_path)
    means: dict[int, tuple[float, float]] = {}
    for line, row in _rows(clients_path, _CLIENT_COLUMNS):
        client = _parsed(clients_path, line, row, "client", int)
        means[client] = (
            _parsed(clients_path, line, row, "mean_prompt_tokens", _positive),
            _parsed(clients_path, line, row, "mean_output_tokens", _positive),
        )
    windows: dict[int, dict[int, tuple[float, float, bool]]] = {}
    for line, row in _rows(day_path, _DAY_COLUMNS):
        client = _parsed(day_path, line, row, "client", int)
        index = _parsed(day_path, line, row, "window_start_s", _window)
        windows.setdefault(client, {})[index] = (
            _parsed(day_path, line, row, "rate_req_s", _rate),
            _parsed(day_path, line, row, "cv", _positive),
            _parsed(day_path, line, row, "pattern", _is_weibull),
        )
    if not windows:
        raise TraceError(f"{day_path}: holds no window; give a ServeGen day")
    if not means:
        raise TraceError(f"{clients_path}: holds no client; give the lengths of one at least")
    n_windows = 1 + max(max(of_client) for of_client in windows.values())
    prompt, output = np.median(np.array(list(means.values())), axis=0)
    clients = [
        _client(number, windows[number], n_windows, means.get(number, (float(prompt), float(output))))
        for number in sorted(windows)
    ]
    return tuple(sorted(clients, key=lambda client: -client.mean_rate))


def _client(
    number: int,
    windows: dict[int, tuple[float, float, bool]],
    n_windows: int,
    means: tuple[float, float],
) -> ClientTrace:
    rate, cv, weibull = np.zeros(n_windows), np.ones(n_windows), np.zeros(n_windows, dtype=np.bool_)
    for index, (window_rate, window_cv, is_weibull) in windows.items():
        rate[index], cv[index], weibull[index] = window_rate, window_cv, is_weibull
    return ClientTrace(number, rate, cv, weibull, *means)


def repeat_trace(trace: Trace, duration_s: float) -> Trace:
    """The first ``duration_s`` seconds of the trace repeated without end."""
    copies = max(1, math.ceil(duration_s / trace.period_s))
    arrival = (np.arange(copies)[:, None] * trace.period_s + trace.arrival_s).ravel()
    n = int(np.searchsorted(arrival, duration_s, side="left"))
    return Trace(
        arrival[:n],
        np.tile(trace.prompt_tokens, copies)[:n],
        np.tile(trace.output_tokens, copies)[:n],
        duration_s,
    )


def clocked_trace(trace: Trace, rate: float, duration_s: float, rng: np.random.Generator) -> Trace:
    """The first ``duration_s`` seconds of a trace of another rate at the same clock, repeated without end.

    It is thinned at random; for more requests than it has, copies of it, each a few minutes later, are laid
    over it first. Unlike stretching, that leaves a peak as long as it was.
    """
    share = rate / trace.mean_rate
    copies = max(1, math.ceil(share))
    once, period = repeat_trace(trace, duration_s), trace.period_s
    arrivals, places = [], []
    for copy in range(copies):
        shift = 0.0 if copy == 0 else rng.uniform(0.0, min(COPY_SHIFT_S, period))
        kept = np.flatnonzero(rng.random(len(once)) * copies < share)
        arrivals.append((once.arrival_s[kept] + shift) % duration_s)
        places.append(kept)
    arrival, place = np.concatenate(arrivals), np.concatenate(places)
    order = np.argsort(arrival, kind="stable")
    place = place[order]
    return Trace(arrival[order], once.prompt_tokens[place], once.output_tokens[place], duration_s)


def draw_client_requests(
    clients: Sequence[ClientTrace],
    seed: np.random.SeedSequence | int,
    duration_s: float,
    *,
    total_rate: float | None = None,
    start_s: float = 0.0,
) -> Requests:
    """Requests of ServeGen clients, each an adapter of its own.

    Within a window a client's gaps follow its pattern with the window's rate and coefficient of
    variation; windows are drawn independently. Lengths are geometric around the client's means, of
    which the trace tells no more. The day repeats.

    Parameters
    ----------
    clients
        The clients; the k-th is adapter k.
    seed
        Source of all randomness.
    duration_s
        Seconds to draw.
    total_rate
        Requests per second of all clients over the day, to which their rates are scaled; absent: as traced.
    start_s
        Second of the day at which the requests begin.
    """
    gap_rng, length_rng = (
        np.random.default_rng(child_seed(seed, 0)),
        np.random.default_rng(child_seed(seed, 1)),
    )
    scale = 1.0 if total_rate is None else total_rate / sum(client.mean_rate for client in clients)
    arrivals: list[FloatArray] = []
    adapters: list[IntArray] = []
    for index, client in enumerate(clients):
        arrival = _client_arrivals(client, scale, gap_rng, start_s, duration_s)
        arrivals.append(arrival)
        adapters.append(np.full(len(arrival), index, dtype=np.int32))
    arrival, adapter = np.concatenate(arrivals), np.concatenate(adapters)
    order = np.argsort(arrival, kind="stable")
    adapter = adapter[order]
    prompt_p = np.array([1 / max(client.mean_prompt_tokens, 1.0) for client in clients])
    output_p = np.array([1 / max(client.mean_output_tokens, 1.0) for client in clients])
    return Requests(
        arrival_s=arrival[order],
        prompt_tokens=length_rng.geometric(prompt_p[adapter]).astype(np.int32),
        output_tokens=length_rng.geometric(output_p[adapter]).astype(np.int32),
        adapter=adapter,
        n_adapters=len(clients),
    )


def _client_arrivals(
    client: ClientTrace, scale: float, rng: np.random.Generator, start_s: float, duration_s: float
) -> FloatArray:
    first, last = int(start_s // SERVEGEN_WINDOW_S), math.ceil((start_s + duration_s) / SERVEGEN_WINDOW_S)
    parts = [np.zeros(0)]
    for window in range(first, last):
        index = window % len(client.rate)
        rate = client.rate[index] * scale
        if rate > 0:
            gaps = _window_gaps(float(client.cv[index]), bool(client.weibull[index]))
            _, events = gaps.draw(np.array([rate * SERVEGEN_WINDOW_S]), rng)
            parts.append(window * SERVEGEN_WINDOW_S + np.sort(events) / rate - start_s)
    arrival = np.concatenate(parts)
    return arrival[(arrival >= 0) & (arrival < duration_s)]


def _window_gaps(cv: float, weibull: bool) -> Gaps:
    if cv == 1:
        return ExponentialGaps()
    return WeibullGaps(cv) if weibull else GammaGaps(cv)


def deal_by_weight(n: int, weight: FloatArray, rng: np.random.Generator) -> IntArray:
    """Deal n requests to adapters, independently in proportion to their weights; shape (n,)."""
    cumulative = np.cumsum(weight / weight.sum())
    return np.minimum(np.searchsorted(cumulative, rng.random(n), side="right"), len(weight) - 1).astype(
        np.int32
    )


def deal_zipf(n: int, n_adapters: int, exponent: float, rng: np.random.Generator) -> IntArray:
    """Deal n requests to adapters whose popularity follows Zipf's law; adapter 0 is the most popular."""
    return deal_by_weight(n, np.arange(1, n_adapters + 1, dtype=np.float64) ** -exponent, rng)


def deal_dirichlet(n: int, n_adapters: int, alpha: float, rng: np.random.Generator) -> IntArray:
    """Deal n requests to adapters with Dirichlet(alpha) popularity and at least one request each.

    The protocol of the published real-trace experiments (arXiv 2602.24044), with alpha 0.5 there.

    Raises
    ------
    TraceError
        If there are fewer requests than adapters.
    """
    if n < n_adapters:
        raise TraceError(
            f"{n:,} requests cannot give each of {n_adapters:,} adapters one; use fewer adapters or a "
            "longer trace"
        )
    adapter = deal_by_weight(n, rng.dirichlet(np.full(n_adapters, alpha)), rng)
    # One request of each adapter is set at a place chosen at random, the rest keep what they drew.
    adapter[rng.permutation(n)[:n_adapters]] = np.arange(n_adapters, dtype=np.int32)
    return adapter


def with_adapters(trace: Trace, adapter: IntArray, n_adapters: int) -> Requests:
    """The trace's requests, each with the adapter that it was dealt to."""
    return Requests(trace.arrival_s, trace.prompt_tokens, trace.output_tokens, adapter, n_adapters)


def child_seed(seed: np.random.SeedSequence | int, child: int) -> np.random.SeedSequence:
    """A seed of its own for a child, without counting up the caller's sequence."""
    parent = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    return np.random.SeedSequence(parent.entropy, spawn_key=(*parent.spawn_key, child))


def _rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Rows of a CSV file that has at least these columns, with their line numbers."""
    opener: Callable[..., object] = gzip.open if path.suffix == ".gz" else open
    try:
        with opener(path, "rt", encoding="utf-8", newline="") as file:  # type: ignore[attr-defined]
            reader = csv.DictReader(file)
            missing = [name for name in columns if name not in (reader.fieldnames or ())]
            if missing:
                raise TraceError(f"{path}, line 1: has no column {', '.join(missing)}; add it to the header")
            for row in reader:
                if any(row[name] is None for name in columns):
                    raise TraceError(f"{path}, line {reader.line_num}: has too few fields; complete the row")
                yield reader.line_num, row
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({cause_of(error)}); give the path of a trace") from error
    except (EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise TraceError(f"{path}: is damaged ({error}); fetch it again") from error


def _parsed(path: Path, line: int, row: dict[str, str], column: str, parse: Callable[[str], T]) -> T:
    try:
        return parse(row[column])
    except ValueError as error:
        raise TraceError(
            f'{path}, line {line}: {column} is "{row[column][:60]}" ({error}); correct or remove the row'
        ) from error


def _seconds(text: str) -> float:
    # The fraction apart: datetime reads six decimals, and Azure wrote seven in 2023. No offset is UTC.
    whole, fraction, offset = _INSTANT.fullmatch(text.strip()).groups(default="")  # type: ignore[union-attr]
    instant = datetime.fromisoformat(whole + offset)
    if not offset:
        instant = instant.replace(tzinfo=UTC)
    return (instant - _ORIGIN).total_seconds() + float("0" + fraction)


def _tokens(text: str) -> int:
    tokens = int(text)
    if not 0 <= tokens <= 10_000_000:
        raise ValueError("must be from 0 to 10,000,000")
    return max(tokens, 1)


def _rate(text: str) -> float:
    rate = float(text)
    if not 0 <= rate < math.inf:
        raise ValueError("must be a number of at least 0")
    return rate


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise ValueError("must be a number above 0")
    return value


def _window(text: str) -> int:
    start = float(text)
    if not 0 <= start < 1e9 or start % SERVEGEN_WINDOW_S:
        raise ValueError(f"must be a multiple of {SERVEGEN_WINDOW_S:g}")
    return int(start // SERVEGEN_WINDOW_S)


def _is_weibull(text: str) -> bool:
    if text not in ("Gamma", "Weibull"):
        raise ValueError("must be Gamma or Weibull")
    return text == "Weibull"
