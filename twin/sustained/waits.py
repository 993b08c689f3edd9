"""What one run tells about waits: of every request that counts, how long it waited for its first token."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from twin import metrics
from twin.engine.records import RunRecords
from twin.engine.requests import FloatArray, IntArray
from twin.metrics import Window
from twin.sustained.observation import Observation


@dataclass(frozen=True)
class Waits:
    """The requests of one run that count; arrays have one entry for each.

    Parameters
    ----------
    adapter
        Its adapter.
    arrival_s
        When it arrived, since the measurement began.
    wait_s
        How long it waited for its first token; one without first token as long as it was there.
    e2e_s
        From when it was sent to its last token; of one that did not complete as long as it was there.
    tpot_s
        Mean gap between its tokens; nan where it did not complete or had one token.
    gap_counts
        Histogram of the gaps between tokens, as `RunRecords.gaps`.
    gap_seconds, n_gaps
        Sum and number of the gaps of those that completed, by adapter, shape (n_adapters,).
    growth_per_s
        By how many requests per second those that are in the engine or wait for it become more.
    offered_tokens, served_tokens
        Tokens of those that count, and of those that completed while it was measured.
    due_shares
        Share of its due tokens that each adapter was served, shape (n_adapters,).
    seconds
        Length of the measurement.
    """

    adapter: IntArray
    arrival_s: FloatArray
    wait_s: FloatArray
    e2e_s: FloatArray
    tpot_s: FloatArray
    gap_counts: NDArray[np.int64]
    gap_seconds: FloatArray
    n_gaps: FloatArray
    growth_per_s: float
    offered_tokens: float
    served_tokens: float
    due_shares: FloatArray
    seconds: float

    def __len__(self) -> int:
        return len(self.adapter)


def waits_of(records: RunRecords, frontend_s: float, observation: Observation) -> Waits:
    """The waits of a run.

    Parameters
    ----------
    records
        The run, simulated or measured.
    frontend_s
        Seconds that the server in front of the engine adds to the time to first token, and that the records
        do not have.
    observation
        What of the run counts.
    """
    requests = records.requests
    first, end = np.searchsorted(requests.arrival_s, (observation.settle_s, observation.end_s))
    due = slice(int(first), int(end))
    wait, e2e = (
        _or_age(at[due], due, records, frontend_s, observation)
        for at in (records.first_token_s, records.finish_s)
    )
    tpot = metrics.tpot_s(records)[due]
    gaps = np.where(np.isnan(tpot), 0.0, requests.output_tokens[due] - 1.0)
    window = _window(records, observation)
    adapter = requests.adapter[due]
    n = requests.n_adapters
    traffic = metrics.traffic(window)
    return Waits(
        adapter=adapter,
        arrival_s=requests.arrival_s[due] - observation.settle_s,
        wait_s=wait,
        e2e_s=e2e,
        tpot_s=tpot,
        gap_counts=records.gaps,
        gap_seconds=_sums(adapter, np.nan_to_num(tpot) * gaps, n),
        n_gaps=_sums(adapter, gaps, n),
        growth_per_s=_growth_per_s(records, observation),
        offered_tokens=traffic.offered_tok_per_s * window.seconds,
        served_tokens=traffic.served_tok_per_s * window.seconds,
        due_shares=metrics.due_shares(window),
        seconds=observation.measure_s,
    )


def _or_age(
    at_s: FloatArray, due: slice, records: RunRecords, frontend_s: float, observation: Observation
) -> FloatArray:
    """From when each request that counts was sent until something; until the end where that did not come."""
    seconds: FloatArray = at_s - records.sent_s[due]
    seconds += frontend_s
    never = np.flatnonzero(np.isnan(seconds))
    seconds[never] = observation.horizon_s - records.requests.arrival_s[due][never]
    return seconds


def _sums(adapter: IntArray, values: FloatArray, n: int) -> FloatArray:
    """Sum of the values of each adapter, shape (n,)."""
    return np.bincount(adapter, values, n).astype(np.float64)


def _window(records: RunRecords, observation: Observation) -> Window:
    """The measurement as the metrics of tokens look at it."""
    arrival, finish = records.requests.arrival_s, records.finish_s
    start, end = observation.settle_s, observation.end_s
    tokens = records.requests.prompt_tokens.astype(np.int64) + records.requests.output_tokens
    arrived, completed = (arrival >= start) & (arrival < end), (finish >= start) & (finish < end)
    return Window(records, start, end, arrived, completed, tokens)


def _growth_per_s(records: RunRecords, observation: Observation) -> float:
    """Mean of arrived and unfinished requests at the end of the measurement less at its start, by time."""
    first, last = observation.compared
    more = _mean_unfinished(records, *last) - _mean_unfinished(records, *first)
    return more / (last[0] - first[0])


def _mean_unfinished(records: RunRecords, start: float, end: float) -> float:
    """Time average of the arrived and unfinished requests."""
    arrival = records.requests.arrival_s[: int(np.searchsorted(records.requests.arrival_s, end))]
    finish = records.finish_s[: len(arrival)]
    stay = np.fmin(finish, end) - np.maximum(arrival, start)  # fmin: what never finishes stays
    return float(np.maximum(stay, 0.0).sum()) / (end - start)
