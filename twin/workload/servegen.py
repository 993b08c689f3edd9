"""ServeGen's traces: client applications, each with rates by window and mean lengths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from twin.engine.requests import FloatArray, IntArray, Requests
from twin.workload.gaps import ExponentialGaps, GammaGaps, Gaps, WeibullGaps
from twin.workload.trace_rows import TraceError, parsed, rows_with
from twin.workload.traces import child_seed

SERVEGEN_WINDOW_S = 600.0
"""Length of the windows in ServeGen's traces."""

_DAY_COLUMNS = ("client", "window_start_s", "rate_req_s", "cv", "pattern")
_CLIENT_COLUMNS = ("client", "mean_prompt_tokens", "mean_output_tokens")


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
    for line, row in rows_with(clients_path, _CLIENT_COLUMNS):
        client = parsed(clients_path, line, row, "client", int)
        means[client] = (
            parsed(clients_path, line, row, "mean_prompt_tokens", _positive),
            parsed(clients_path, line, row, "mean_output_tokens", _positive),
        )
    windows: dict[int, dict[int, tuple[float, float, bool]]] = {}
    for line, row in rows_with(day_path, _DAY_COLUMNS):
        client = parsed(day_path, line, row, "client", int)
        index = parsed(day_path, line, row, "window_start_s", _window)
        windows.setdefault(client, {})[index] = (
            parsed(day_path, line, row, "rate_req_s", _rate),
            parsed(day_path, line, row, "cv", _positive),
            parsed(day_path, line, row, "pattern", _is_weibull),
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
