"""Metrics of running servers, asked for twice, some time apart; nothing but GET is sent."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from optimizer.checking.readings import MetricsReading, reading_of
from scenarios import ImportSourceError, LorapackError, Problem
from scenarios.errors import InputError
from scenarios.stopping.progress import Progress, silent
from twin.live import checked_url
from twin.live.fetching import FetchedText, FetchError, fetch_texts
from twin.server_metrics.series import LEAST_S, MetricsText, watched_texts

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
        If an address is none or given twice, or the time is out of its range.
    """
    if not LEAST_S <= seconds <= LONGEST_S:
        message = f"are {seconds:g}, not between {LEAST_S:g} and {LONGEST_S:,.0f}"
        raise InputError([Problem("seconds", message, "a minute or more tells a rate")])
    addresses = {gpu: metrics_address(url) for gpu, url in urls.items()}
    if len(set(addresses.values())) < len(addresses):
        message = "name one server for two GPUs"
        raise InputError([Problem("URLs", message, "give each GPU the address of its own server")])
    first = fetch_texts(addresses.values(), timeout_s=timeout_s)
    left = [url for url, answer in first.items() if isinstance(answer, FetchedText)]
    if left:
        _wait(seconds, progress, sleep)
    second = fetch_texts(left, timeout_s=timeout_s)
    readings: list[MetricsReading] = []
    failures: dict[int | None, LorapackError] = {}
    for gpu, url in addresses.items():
        one = reading_between(gpu, url, first[url], second.get(url))
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
    address = checked_url(url)
    return address if urlsplit(address).path else f"{address}/metrics"


def _wait(seconds: float, progress: Progress, sleep: Callable[[float], None]) -> None:
    until, done = time.monotonic() + seconds, 0
    progress(WAITING, 0, round(seconds))
    while (rest := until - time.monotonic()) > 0:
        sleep(min(rest, 1.0))
        done = min(done + 1, round(seconds))
        progress(WAITING, done, round(seconds))


def reading_between(
    gpu: int | None, url: str, *answers: FetchedText | FetchError | None
) -> MetricsReading | LorapackError:
    """What answers of a server say, or what is wrong; the second is none where the first was a failure."""
    texts = []
    for answer in answers:
        if isinstance(answer, FetchError):
            return answer
        if answer is not None:
            texts.append(MetricsText.fetched(url, answer.text, answer.taken_s))
    try:
        return reading_of(gpu, watched_texts(texts))
    except ImportSourceError as error:
        return error
