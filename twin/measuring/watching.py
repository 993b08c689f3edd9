"""Reading a server's metrics now and then, while it is sent requests."""

from __future__ import annotations

import asyncio
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from twin.live.client import Client, Timeouts, connected
from twin.live.failures import AnswerError
from twin.measuring.outcome import Gauges

GAUGES = {
    "running": ("vllm:num_requests_running", "sglang:num_running_reqs"),
    "waiting": ("vllm:num_requests_waiting", "sglang:num_queue_reqs"),
    "kv_usage": ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage"),
}
"""Names of the gauges by what they say (vLLM 0.8 to 0.32, ``v1/metrics/loggers.py``; SGLang)."""

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
    try:
        text = await client.fetch(f"{url}/metrics")
    except AnswerError:
        return None
    values = [_value(text, names) for names in GAUGES.values()]
    known = [value for value in values if value is not None]
    return known if len(known) == len(values) else None


def _value(text: str, names: tuple[str, ...]) -> float | None:
    """Sum over the engines of a server, or their mean for a share; None where no name occurs."""
    for name in names:
        found = re.findall(rf"^{re.escape(name)}(?:\{{[^\n]*\}})? (\d[\d.e+-]*)$", text, re.MULTILINE)
        if found:
            values = [float(one) for one in found]
            return float(np.mean(values)) if name.endswith(("perc", "usage")) else sum(values)
    return None
