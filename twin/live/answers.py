"""What became of the requests that were sent to a live server, as the client saw it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from twin.engine.records import SERIES, RunRecords, gap_edges_s
from twin.engine.requests import FloatArray, IntArray, Requests
from twin.live.failures import CENSORED, Failure


@dataclass(frozen=True)
class Answers:
    """What the client saw of a run against one server; arrays have shape (n,), in the order of requests.

    Parameters
    ----------
    requests
        What was to be sent.
    horizon_s
        When the run was cut; infinite: after the last answer.
    end_s
        When it ended.
    started_unix_s
        When it began, in seconds since 1970.
    due_s, sent_s
        When each request was to be sent, and was; nan if it was not.
    first_token_s, finish_s
        When its first token and its last one came; nan if they did not.
    prompt_tokens, generated_tokens
        By the server's own count where it gives one.
    gaps_s
        Gaps between the pieces of all answers, one after another, shape (m,); a piece holds one token as a
        rule, and several where the server or the network held some back.
    failures
        Why a request was not answered whole, or None.
    details
        The first server's or system's own words for each kind of failure.
    stopped
        Why the run ended before its time; empty: it did not.
    """

    requests: Requests
    horizon_s: float
    end_s: float
    started_unix_s: float
    due_s: FloatArray
    sent_s: FloatArray
    first_token_s: FloatArray
    finish_s: FloatArray
    prompt_tokens: IntArray
    generated_tokens: IntArray
    gaps_s: FloatArray
    failures: tuple[Failure | None, ...]
    details: dict[Failure, str]
    stopped: str = ""

    def __repr__(self) -> str:
        return f"<Answers: {self.completed:,} of {len(self.requests):,} requests>"

    @property
    def completed(self) -> int:
        """Requests that were answered whole."""
        return int(np.count_nonzero(~np.isnan(self.finish_s)))

    @property
    def faults(self) -> Counter[Failure]:
        """Requests that failed, by kind; without those that the end of the run cut off."""
        return Counter(one for one in self.failures if one is not None and one not in CENSORED)

    @property
    def lag_s(self) -> float:
        """By how much the client was late in sending, 99th percentile; nan where nothing was sent."""
        sent = ~np.isnan(self.sent_s)
        return float(np.percentile((self.sent_s - self.due_s)[sent], 99)) if sent.any() else np.nan

    def records(self) -> RunRecords:
        """The run as the twin's own are recorded, so that every metric is computed in one way.

        Requests stand in the order in which they were due, with the tokens that the server counted; those
        that never came due are left out. What only an engine knows is 0, and a request counts as scheduled
        when its first token came.
        """
        came = np.flatnonzero(~np.isnan(self.due_s) & (self.due_s < self.horizon_s))
        order = came[np.argsort(self.due_s[came], kind="stable")]
        requests, zeros = self.requests, np.zeros(self.requests.n_adapters, dtype=np.int64)
        ended = ~np.isnan(self.finish_s)
        played = Requests(
            arrival_s=self.due_s[order],
            prompt_tokens=np.where(ended, self.prompt_tokens, requests.prompt_tokens)[order],
            output_tokens=np.where(ended, self.generated_tokens, requests.output_tokens)[order],
            adapter=requests.adapter[order],
            n_adapters=requests.n_adapters,
        )
        return RunRecords(
            requests=played,
            horizon_s=self.horizon_s,
            end_s=self.end_s,
            sent_s=self.sent_s[order],
            first_scheduled_s=self.first_token_s[order],
            first_token_s=self.first_token_s[order],
            finish_s=self.finish_s[order],
            generated_tokens=self.generated_tokens[order],
            preemptions=np.zeros(len(order), dtype=np.int32),
            gpu_loads=zeros,
            disk_loads=zeros,
            gaps=np.histogram(self.gaps_s, gap_edges_s())[0].astype(np.int64),
            series=np.zeros((1, len(SERIES))),
            series_width_s=np.inf,
        )
