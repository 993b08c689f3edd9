"""ServeGen's recordings: client applications, each with rates by window and lengths."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from scenarios import ServegenArrivals
from scenarios.errors import cause_of
from scenarios.reading.row_cells import MOST_TOKENS, numbers, parsed, refuse
from scenarios.reading.row_files import RowFile, TraceError, open_rows
from twin.engine.requests import FloatArray
from twin.workload.servegen.lengths import WindowLengths, mean_of, read_lengths

SERVEGEN_WINDOW_S = 600.0
"""Length of the windows of a table of all clients."""

MOST_S = 1e11
"""Latest second at which a window begins, counted from 1970 or from the recording's start."""

MOST_RATE = 1e6
"""Most requests per second of a client."""

MOST_WINDOWS = 100_000
"""Most windows of a recording: nearly two years of 600 s."""

_CHUNK = re.compile(r"chunk-(\d{1,9})-trace\.csv")
_TABLE = ("client", "window_start_s", "rate_req_s", "cv", "pattern")
_CHUNK_COLUMNS = ("window_start_s", "rate_req_s", "cv", "pattern", "param1", "param2")
_MEANS = ("client", "mean_prompt_tokens", "mean_output_tokens")


@dataclass(frozen=True)
class ClientTrace:
    """One client application of a ServeGen recording.

    Parameters
    ----------
    client
        The recording's number of the client.
    rate
        Requests per second in each window, 0 where the recording has none, shape (n_windows,).
    cv
        Coefficient of variation of the gaps in each window, shape (n_windows,).
    weibull
        Whether the gaps of each window are Weibull; else Gamma, shape (n_windows,).
    mean_prompt_tokens, mean_output_tokens
        Mean lengths over the recording.
    window_s
        Seconds of a window.
    lengths
        Distributions of its lengths, each from a window on; empty: only their means are known.
    """

    client: int
    rate: FloatArray
    cv: FloatArray
    weibull: NDArray[np.bool_]
    mean_prompt_tokens: float
    mean_output_tokens: float
    window_s: float = SERVEGEN_WINDOW_S
    lengths: tuple[WindowLengths, ...] = ()

    @property
    def name(self) -> str:
        """Name of the adapter that is this client."""
        return f"client-{self.client}"

    @property
    def mean_rate(self) -> float:
        """Requests per second over the recording."""
        return float(self.rate.mean())

    def rate_between(self, start_s: float, end_s: float) -> float:
        """Requests per second in the windows that begin from one second on and before another; else 0."""
        begun = np.arange(len(self.rate)) * self.window_s
        within = self.rate[(begun >= start_s) & (begun < end_s)]
        return float(within.mean()) if len(within) else 0.0

    @property
    def period_s(self) -> float:
        """Seconds of the recording, after which it repeats."""
        return len(self.rate) * self.window_s


@dataclass(frozen=True)
class _Windows:
    """What a file says of windows: of which client, from which second on, and how busy."""

    client: NDArray[np.int64]
    start_s: FloatArray
    rate: FloatArray
    cv: FloatArray
    weibull: NDArray[np.bool_]


def clients_of(arrivals: ServegenArrivals) -> tuple[ClientTrace, ...]:
    """The clients of the recording that a scenario names, those with the highest mean rate first.

    Raises
    ------
    TraceError
        If a file is missing, damaged or empty.
    """
    stamps = tuple(_stamp(Path(path)) for _, path in arrivals.paths())
    return _read(arrivals.folder, arrivals.file, arrivals.clients, stamps)


def _stamp(path: Path) -> tuple[tuple[str, int, int], ...]:
    """By what it is seen that a file, or one of a folder's, has changed."""
    try:
        files = sorted(path.glob("chunk-*")) if path.is_dir() else [path]
        stats = [(file.name, file.stat()) for file in files]
    except OSError as error:
        raise TraceError(f"{path}: cannot be read ({cause_of(error)}); correct the path") from error
    return tuple((name, stat.st_mtime_ns, stat.st_size) for name, stat in stats)


@lru_cache(maxsize=8)
def _read(
    folder: str | None, file: str | None, clients: str | None, _stamps: tuple[object, ...]
) -> tuple[ClientTrace, ...]:
    if folder is not None:
        return read_servegen_folder(folder)
    assert file is not None
    return read_servegen(file, clients)


def read_servegen(day_path: Path | str, clients_path: Path | str | None) -> tuple[ClientTrace, ...]:
    """Read a table of ServeGen's clients, those with the highest mean rate first.

    Parameters
    ----------
    day_path
        ``client, window_start_s, rate_req_s, cv, pattern, ...`` per client and 600 s window.
    clients_path
        ``client, mean_prompt_tokens, mean_output_tokens`` per client. A client that it leaves out, as the
        public files do with some, gets the median of the others. None: lengths are not known.

    Raises
    ------
    TraceError
        If a file is missing, damaged or empty.
    """
    file, frame = _whole(Path(day_path), _TABLE)
    parsed(file, frame["window_start_s"], _multiples)
    held = _windows(file, frame, parsed(file, frame["client"], _counts))
    means = {} if clients_path is None else _means(Path(clients_path))
    of_client = {int(client): means[int(client)] for client in np.unique(held.client) if int(client) in means}
    return _clients(file.path, held, SERVEGEN_WINDOW_S, of_client, list(means.values()), {})


def read_servegen_folder(folder: Path | str) -> tuple[ClientTrace, ...]:
    """Read the files that ServeGen publishes of a model, clients with the highest mean rate first.

    ``chunk-N-trace.csv`` of client N has, without a header, the second at which each window begins, requests
    per second, coefficient of variation of the gaps, their pattern (Gamma, Weibull, or empty: no request)
    and its two parameters; ``chunk-N-dataset.json`` the distributions of lengths (alibaba/ServeGen,
    servegen/clientpool.py). The recording begins with the first window of any client.

    Raises
    ------
    TraceError
        If a file is missing or damaged, or there is none.
    """
    folder = Path(folder)
    numbers = sorted(int(m[1]) for file in folder.glob("chunk-*") if (m := _CHUNK.fullmatch(file.name)))
    if not numbers:
        raise TraceError(f"{folder}: has no chunk-N-trace.csv; give a folder such as ServeGen's m-small")
    parts, lengths = [], {}
    for number in numbers:
        file, frame = _whole(folder / f"chunk-{number}-trace.csv", _CHUNK_COLUMNS, headed=False)
        parts.append(_windows(file, frame, np.full(len(frame), number, dtype=np.int64)))
        if windows := read_lengths(folder / f"chunk-{number}-dataset.json"):
            lengths[number] = windows
    starts = np.unique(np.concatenate([part.start_s for part in parts]))
    window_s = float(np.diff(starts).min()) if len(starts) > 1 else SERVEGEN_WINDOW_S
    held = _Windows(*(np.concatenate([getattr(p, name) for p in parts]) for name in _Windows.__annotations__))
    if np.any((held.start_s - starts[0]) % window_s):
        raise TraceError(f"{folder}: has windows of different lengths; leave out what has others")
    first = _Windows(held.client, held.start_s - starts[0], held.rate, held.cv, held.weibull)
    moved = {
        number: tuple(window._replace(start_s=window.start_s - starts[0]) for window in windows)
        for number, windows in lengths.items()
    }
    means = {number: mean_of(windows) for number, windows in moved.items()}
    return _clients(folder, first, window_s, means, list(means.values()), moved)


def _whole(path: Path, columns: Sequence[str], *, headed: bool = True) -> tuple[RowFile, pd.DataFrame]:
    file = open_rows(path, () if headed else columns)
    if missing := [name for name in columns if name not in file.columns]:
        raise TraceError(f"{path}, line 1: has no column {', '.join(missing)}; add it to the header")
    chunks = [pd.DataFrame(chunk) for chunk in file.chunks(columns, ("pattern",))]
    return file, pd.concat(chunks) if chunks else pd.DataFrame(columns=list(columns))


def _windows(file: RowFile, frame: pd.DataFrame, client: NDArray[np.int64]) -> _Windows:
    """Windows of some rows; those without a pattern have no request."""
    start = parsed(file, frame["window_start_s"], _seconds)
    weibull = parsed(file, frame["pattern"], _are_weibull)
    busy = (frame["pattern"] != "").to_numpy()
    rate, cv = np.zeros(len(frame)), np.ones(len(frame))
    rate[busy] = parsed(file, frame["rate_req_s"][busy], _rates)
    cv[busy] = parsed(file, frame["cv"][busy], _positives)
    return _Windows(client, start, rate, cv, weibull)


def _clients(
    path: Path,
    held: _Windows,
    window_s: float,
    means: dict[int, tuple[float, float]],
    known: Sequence[tuple[float, float]],
    lengths: dict[int, tuple[WindowLengths, ...]],
) -> tuple[ClientTrace, ...]:
    if not len(held.client):
        raise TraceError(f"{path}: holds no window; give a ServeGen day")
    index = (held.start_s // window_s).astype(np.int64)
    n_windows = int(index.max()) + 1
    if n_windows > MOST_WINDOWS:
        raise TraceError(f"{path}: has {n_windows:,} windows, above {MOST_WINDOWS:,}; cut it in parts")
    median = np.median(np.array(known), axis=0) if known else (1.0, 1.0)
    clients = []
    for number in np.unique(held.client):
        rows = np.flatnonzero(held.client == number)
        rate, cv, weibull = np.zeros(n_windows), np.ones(n_windows), np.zeros(n_windows, dtype=np.bool_)
        rate[index[rows]], cv[index[rows]], weibull[index[rows]] = (
            held.rate[rows],
            held.cv[rows],
            held.weibull[rows],
        )
        prompt, output = means.get(int(number), (float(median[0]), float(median[1])))
        of = lengths.get(int(number), ())
        clients.append(ClientTrace(int(number), rate, cv, weibull, prompt, output, window_s, of))
    return tuple(sorted(clients, key=lambda client: -client.mean_rate))


def _means(path: Path) -> dict[int, tuple[float, float]]:
    file, frame = _whole(path, _MEANS)
    client = parsed(file, frame["client"], _counts)
    prompt, output = (parsed(file, frame[name], _positives) for name in _MEANS[1:])
    if not len(client):
        raise TraceError(f"{path}: holds no client; give the lengths of one at least")
    return {int(c): (float(p), float(o)) for c, p, o in zip(client, prompt, output, strict=True)}


def _counts(cells: pd.Series[Any]) -> NDArray[np.int64]:
    values = numbers(cells)
    wrong = (values != np.floor(values)) | (values < 0) | (values >= 2**31)
    refuse(cells, wrong, "must be a number of a client")
    return values.astype(np.int64)


def _seconds(cells: pd.Series[Any]) -> FloatArray:
    return _bounded(cells, MOST_S)


def _rates(cells: pd.Series[Any]) -> FloatArray:
    return _bounded(cells, MOST_RATE)


def _bounded(cells: pd.Series[Any], most: float) -> FloatArray:
    values = numbers(cells).astype(np.float64)
    refuse(cells, (values < 0) | (values > most), f"must be a number from 0 to {most:,.0f}")
    return values


def _positives(cells: pd.Series[Any]) -> FloatArray:
    values = numbers(cells).astype(np.float64)
    refuse(
        cells, (values <= 0) | (values > MOST_TOKENS), f"must be a number above 0, at most {MOST_TOKENS:,}"
    )
    return values


def _multiples(cells: pd.Series[Any]) -> FloatArray:
    values = _seconds(cells)
    refuse(cells, values % SERVEGEN_WINDOW_S != 0, f"must be a multiple of {SERVEGEN_WINDOW_S:g}")
    return values


def _are_weibull(cells: pd.Series[Any]) -> NDArray[np.bool_]:
    refuse(cells, ~cells.isin(["Gamma", "Weibull", ""]), "must be Gamma or Weibull")
    return (cells == "Weibull").to_numpy()
