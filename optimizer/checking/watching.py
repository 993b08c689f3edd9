"""Metrics of running servers, asked for twice, some time apart; nothing but GET is sent."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from urllib.parse import urlsplit

from optimizer.checking.metric_series import LEAST_S, MetricsText, watched_texts
from optimizer.checking.readings import MetricsReading, reading_of
from scenarios import ImportSourceError, LorapackError, Problem
from scenarios.errors import InputError
from scenarios.stopping.progress import Progress, silent
from twin.live.fetching import FetchError, check_url, fetch_text

LONGEST_S = 86_400.0
"""Longest time between two readings, in seconds."""

WAITING = "waiting for the second reading"
"""What is being done, for progress, in seconds."""


@dataclass(frozen=True)
class WatchedServers:
    """What servers told, and which did not.

    Parameters
    ----------
    readings
        Of those that answered both times.
    failures
        What was wrong with the others, by GPU; None: a gateway.
    """

    readings: tuple[MetricsReading, ...]
    failures: Mapping[int | None, LorapackError]


def watch_metrics(
    urls: Mapping[int | None, str],
    seconds: float = 60.0,
    *,
    timeout_s: float = 30.0,
    progress: Progress = silent,
    sleep: Callable[[float], None] = time.sleep,
) -> WatchedServers:
    """Ask servers for their metrics, and once more after some time.

    Parameters
    ----------
    urls
        Address of the metrics of each GPU, by its number in the plan; of a gateway by None. Without a path it
        is /metrics.
    seconds
        Between the two readings.
    timeout_s
        Seconds in which a server must answer.
    progress
        Called with progress.
    sleep
        Waits some seconds.

    Raises
    ------
    InputError
        If an address is none, or the time is out of its range.
    twin.live.fetching.MissingExtraError
        If aiohttp is not installed.
    """
    if not LEAST_S <= seconds <= LONGEST_S:
        message = f"are {seconds:g}, not between {LEAST_S:g} and {LONGEST_S:,.0f}"
        raise InputError([Problem("seconds", message, "a minute or more tells a rate")])
    addresses = {gpu: metrics_address(url) for gpu, url in urls.items()}
    first = fetched_metrics(addresses, timeout_s)
    left = {gpu: url for gpu, url in addresses.items() if isinstance(first[gpu], MetricsText)}
    if left:
        _wait(seconds, progress, sleep)
    second = fetched_metrics(left, timeout_s)
    readings: list[MetricsReading] = []
    failures: dict[int | None, LorapackError] = {}
    for gpu in addresses:
        one = reading_between(gpu, first[gpu], second.get(gpu))
        if isinstance(one, MetricsReading):
            readings.append(one)
        else:
            failures[gpu] = one
    return WatchedServers(tuple(readings), failures)


def metrics_address(url: str) -> str:
    """The address of a server's metrics: /metrics where it names no path.

    Raises
    ------
    InputError
        If it is no address.
    """
    check_url(url)
    parts = urlsplit(url)
    return parts._replace(path="/metrics").geturl() if parts.path in ("", "/") else url


def _wait(seconds: float, progress: Progress, sleep: Callable[[float], None]) -> None:
    until, done = time.monotonic() + seconds, 0
    progress(WAITING, 0, round(seconds))
    while (rest := until - time.monotonic()) > 0:
        sleep(min(rest, 1.0))
        done = min(done + 1, round(seconds))
        progress(WAITING, done, round(seconds))


def fetched_metrics(
    addresses: Mapping[int | None, str], timeout_s: float = 30.0
) -> dict[int | None, MetricsText | FetchError]:
    """What each server answers now, by GPU; also where an event loop runs already, as in a notebook."""
    with ThreadPoolExecutor(1) as apart:
        return apart.submit(asyncio.run, _ask(addresses, timeout_s)).result()


async def _ask(
    addresses: Mapping[int | None, str], timeout_s: float
) -> dict[int | None, MetricsText | FetchError]:
    """What each server answers, all of them asked at once."""

    async def ask(url: str) -> MetricsText | FetchError:
        try:
            text = await fetch_text(url, timeout_s=timeout_s)
        except FetchError as error:
            return error
        return MetricsText.fetched(url, text, time.time())

    answers = await asyncio.gather(*(ask(url) for url in addresses.values()))
    return dict(zip(addresses, answers, strict=True))


def reading_between(
    gpu: int | None, first: MetricsText | FetchError, second: MetricsText | FetchError | None
) -> MetricsReading | LorapackError:
    """What a server did between two answers, or what is wrong with them."""
    if isinstance(first, FetchError):
        return first
    if isinstance(second, FetchError):
        return second
    assert second is not None  # it is asked for where the first was answered
    try:
        return reading_of(gpu, watched_texts([first, second]))
    except ImportSourceError as error:
        return error
