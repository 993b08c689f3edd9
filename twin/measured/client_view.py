"""What a client sees of a run: tokens that the HTTP server holds back while its metrics are read.

The server in front of vLLM's engine is one event loop. While it renders /metrics, requests wait to be
handed to the engine and tokens wait to be sent. With adapters, vLLM 0.8.5 keeps one labelled gauge for
every pair (running adapters, waiting adapters) that ever occurred, so rendering takes longer and longer
(measured: up to more than a second after an hour of mixed traffic). Tokens of a request that wait
together are sent as one chunk when a step has few outputs, so the client counts fewer, longer gaps.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twin.engine.compilation import SOURCES_DIGEST, kept
from twin.engine.records import RunRecords
from twin.engine.requests import FloatArray, IntArray, Requests
from twin.profile import Frontend, MetricsScrape


@dataclass(frozen=True)
class Stalls:
    """Spans in which the server is busy rendering its metrics, in seconds, ascending, shape (n,)."""

    start_s: FloatArray
    end_s: FloatArray

    def released(self, instant_s: FloatArray) -> FloatArray:
        """When what happens at an instant gets through: then, or at the end of the stall around it."""
        if not len(self.start_s):
            return instant_s
        at = np.searchsorted(self.start_s, instant_s, side="right") - 1
        inside = (at >= 0) & (instant_s < self.end_s[at])
        return np.where(inside, self.end_s[at], instant_s)


@dataclass(frozen=True)
class ClientView:
    """Latencies of the completed requests as the client measures them, in seconds; nan if there are none."""

    itl_s: float
    tpot_s: float
    ttft_s: float


def decodes(records: RunRecords, ahead: bool = False) -> tuple[FloatArray, FloatArray]:
    """End of each recorded step but the last, and how many requests decoded in it.

    A request decodes in every step that runs it but those of its prefill; of those, the one that admits
    it is known exactly, and a second one (a prompt cut by the token budget) is rare enough to ignore.

    Parameters
    ----------
    records
        A run with its step rows.
    ahead
        Whether steps were scheduled while the ones before them ran. Then requests are admitted before their
        first step begins, and the known one is that which makes their first token.
    """
    if records.steps is None:
        raise ValueError("the run was made without record_steps=True")
    start, tokens, running = records.steps[:, 0], records.steps[:, 1], records.steps[:, 3]
    decoding = np.clip(np.minimum(running - admissions(records, ahead), tokens), 0, None)
    return start[1:], decoding[:-1]


def admissions(records: RunRecords, ahead: bool) -> IntArray:
    """Requests that each recorded step admits; of one that was scheduled ahead, those it gives a first token.

    Shape (n_steps,).
    """
    assert records.steps is not None
    start = records.steps[:, 0]
    if not ahead:
        known = np.searchsorted(np.sort(records.first_scheduled_s), start, side="right")
        return np.diff(known, prepend=0).astype(np.int32)
    began = records.first_token_s[~np.isnan(records.first_token_s)]
    steps = np.searchsorted(start, began, side="left") - 1
    return np.bincount(steps, minlength=len(start)).astype(np.int32)


def label_sets(records: RunRecords) -> tuple[FloatArray, IntArray]:
    """When each distinct pair (running adapters, waiting adapters) first occurred, and its adapters.

    Pairs are looked at where the engine reports them: at the end of each step.
    """
    end, _ = decodes(records)
    requests = records.requests
    scheduled = np.argsort(records.first_scheduled_s, kind="stable")
    finished = np.argsort(records.finish_s, kind="stable")
    codes = np.random.default_rng(0).integers(1, 2**63 - 1, size=(2, requests.n_adapters), dtype=np.int64)
    keys, names = _pairs(
        end,
        np.where(np.isnan(records.sent_s), np.inf, records.sent_s),
        records.first_scheduled_s,
        records.finish_s,
        scheduled,
        finished,
        requests.adapter,
        codes,
    )
    _, first = np.unique(keys, return_index=True)
    first.sort()
    return end[first], names[first]


@kept(SOURCES_DIGEST)
def _pairs(
    end: FloatArray,
    sent: FloatArray,
    scheduled: FloatArray,
    finish: FloatArray,
    by_scheduled: NDArray[np.int64],
    by_finish: NDArray[np.int64],
    adapter: IntArray,
    codes: NDArray[np.int64],
) -> tuple[NDArray[np.int64], IntArray]:
    n, m = len(sent), codes.shape[1]
    running, waiting = np.zeros(m, np.int64), np.zeros(m, np.int64)
    keys, names = np.empty(len(end), np.int64), np.empty(len(end), np.int32)
    key, count, i, j, k = 0, 0, 0, 0, 0
    for step in range(len(end)):
        now = end[step]
        while i < n and sent[i] <= now:
            a = adapter[i]
            waiting[a] += 1
            if waiting[a] == 1:
                key ^= codes[1, a]
                count += 1
            i += 1
        while j < n and scheduled[by_scheduled[j]] < now:
            a = adapter[by_scheduled[j]]
            waiting[a] -= 1
            if waiting[a] == 0:
                key ^= codes[1, a]
                count -= 1
            running[a] += 1
            if running[a] == 1:
                key ^= codes[0, a]
                count += 1
            j += 1
        while k < n and finish[by_finish[k]] <= now:
            a = adapter[by_finish[k]]
            running[a] -= 1
            if running[a] == 0:
                key ^= codes[0, a]
                count -= 1
            k += 1
        keys[step], names[step] = key, count
    return keys, names


def stalls(records: RunRecords, scrape: MetricsScrape) -> Stalls:
    """Stalls of a run whose metrics are read every so often."""
    seen_s, names = label_sets(records)
    cost = np.concatenate([[0.0], np.cumsum(scrape.label_set_s + scrape.label_name_s * names)])
    tokens = float(records.requests.output_tokens[records.finished].sum(dtype=np.int64))
    slower = 1.0 / max(1.0 - scrape.busy_s_per_token * tokens / max(records.end_s, 1e-9), 0.2)
    start, end = [], []
    now = scrape.pause_s
    while now < records.horizon_s:
        known = int(np.searchsorted(seen_s, now, side="right"))
        length = (scrape.least_s + float(cost[known])) * slower
        start.append(now)
        end.append(now + length)
        now += length + scrape.pause_s
    return Stalls(np.array(start), np.array(end))


def held_back(requests: Requests, spans: Stalls) -> Requests:
    """The requests as they reach the engine; their order does not change."""
    return replace(requests, arrival_s=spans.released(requests.arrival_s))


def client_view(
    records: RunRecords, frontend: Frontend, spans: Stalls | None = None, sent_s: FloatArray | None = None
) -> ClientView:
    """Latencies as the client measures them.

    Parameters
    ----------
    records
        A run, with its step rows where ``spans`` are given.
    frontend
        The server in front of the engine.
    spans
        Stalls of the server.
    sent_s
        When the client sent each request, where the stalls kept it from the engine for a while.
    """
    done = records.finished
    if not done.any():
        return ClientView(np.nan, np.nan, np.nan)
    spans = spans or Stalls(np.empty(0), np.empty(0))
    first, last = spans.released(records.first_token_s[done]), spans.released(records.finish_s[done])
    gaps = records.requests.output_tokens[done].astype(np.int64) - 1
    span = last - first
    merged = _merged_share(records, spans, frontend.merge_outputs) if len(spans.start_s) else 0.0
    sent = records.sent_s
    if sent_s is not None:
        # A request that the client's cap held back is sent when it reaches the engine.
        sent = np.where(records.sent_s > records.requests.arrival_s, records.sent_s, sent_s)
    long = gaps > 0
    total = float(gaps.sum()) * (1 - merged)
    return ClientView(
        itl_s=float(span.sum()) / total if total > 0 else np.nan,
        tpot_s=float((span[long] / gaps[long]).mean()) if long.any() else np.nan,
        ttft_s=float((first - sent[done]).mean()) + frontend.first_token_s,
    )


def _merged_share(records: RunRecords, spans: Stalls, merge_outputs: int) -> float:
    """Share of the tokens that reach the client in one chunk with the token before."""
    end, decoding = decodes(records)
    total = float(decoding.sum())
    if total == 0:
        return 0.0
    few = np.concatenate([[0.0], np.cumsum(np.where(decoding <= merge_outputs, decoding, 0.0))])
    begin = np.searchsorted(end, spans.start_s, side="left")
    stop = np.searchsorted(end, spans.end_s, side="left")
    # Of the steps that end inside a stall, the first one's tokens open the chunk and the others join it.
    joined = few[np.maximum(stop, begin + 1).clip(max=len(end))] - few[(begin + 1).clip(max=len(end))]
    return float(joined.sum()) / total
