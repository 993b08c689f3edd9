"""Reading a server's metrics now and then, while it is sent requests."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from scenarios import ImportSourceError
from twin.live.client import Client, Timeouts, connected
from twin.live.failures import AnswerError
from twin.measuring.outcome import Gauges
from twin.server_metrics.figures import gauge
from twin.server_metrics.series import KV_USE, RUNNING, WAITING, MetricsText, single_reading

TIMEOUTS = Timeouts(connect_s=5.0, stall_s=10.0)


@contextmanager
def watched(url: str, pause_s: float) -> Iterator[list[Gauges]]:
    """Read metrics while the block lasts; at its end the list holds their means, if any were read.

    What cannot be read is left out: a reading is not worth a run.
    """
    rows: list[list[float]] = []
    found: list[Gauges] = []
    stop = threading.Event()
    thread = threading.Thread(target=lambda: asyncio.run(_read(url, pause_s, stop, rows)), daemon=True)
    thread.start()
    try:
        yield found
    finally:
        stop.set()
        thread.join(TIMEOUTS.connect_s + TIMEOUTS.stall_s)
        if rows:
            running, waiting, usage = np.mean(rows, axis=0).tolist()
            usage = min(max(usage, 0.0), 1.0)
            found.append(Gauges(running=running, waiting=waiting, kv_usage=usage, readings=len(rows)))


async def _read(url: str, pause_s: float, stop: threading.Event, rows: list[list[float]]) -> None:
    async with connected(TIMEOUTS) as client:
        while not await asyncio.to_thread(stop.wait, pause_s):
            row = await _row(client, url)
            if row is not None:
                rows.append(row)


async def _row(client: Client, url: str) -> list[float] | None:
    """Requests that run and wait, and the share of the KV cache in use; None where that is not all told."""
    try:
        text = await client.fetch(f"{url}/metrics")
        told = single_reading(MetricsText.fetched(url, text, time.time()))
    except (AnswerError, ImportSourceError):
        return None
    found = (gauge(told, RUNNING), gauge(told, WAITING), gauge(told, KV_USE, mean=True))
    known = [one.last for one in found if one is not None]
    return known if len(known) == len(found) else None
