"""What one run of the engine leaves behind: flat arrays, from which every metric is computed."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from twin.engine.requests import FloatArray, IntArray, Requests

GAP_BINS = 1024
"""Bins of the histogram of gaps between tokens."""

GAP_FIRST_S = 1e-6
"""Lower edge of the first bin."""

GAP_BINS_PER_OCTAVE = 32
"""Bins are logarithmic, so a gap is known to about 2 %."""

SERIES = (
    "steps",
    "busy_s",
    "running_s",
    "waiting_s",
    "blocks_s",
    "adapters_s",
    "prompt_tokens",
    "output_tokens",
    "preemptions",
    "gpu_loads",
    "disk_loads",
    "load_s",
)
"""Columns of the time series. Those in _s are integrals over time: running_s / width is a mean batch."""

STEP_COLUMNS = ("start_s", "scheduled_tokens", "distinct_adapters", "running", "waiting", "preempted")
"""Columns of the step rows."""


_PER_REQUEST = (
    "sent_s",
    "first_scheduled_s",
    "first_token_s",
    "finish_s",
    "generated_tokens",
    "preemptions",
)
"""Fields of the records with a value for each request."""


@dataclass(frozen=True)
class RunRecords:
    """Records of one run.

    Parameters
    ----------
    requests
        What the engine got.
    horizon_s
        When the run was cut; requests unfinished then are censored.
    end_s
        When the run ended: the horizon, or the end of the last step if everything was served before.
    sent_s
        When the client sent each request: its arrival, or later under a client cap; nan if not sent.
    first_scheduled_s, first_token_s, finish_s
        Per request; nan where the horizon came first.
    generated_tokens, preemptions
        Per request.
    gpu_loads, disk_loads
        Copies to a slot and from disk, per adapter.
    gaps
        Tokens after a request's first, by the length of the step that made them, shape (GAP_BINS,);
        without those before ``warmup_s``.
    series
        Shape (bins, len(SERIES)): sums over equal parts of the time to the horizon (or to the end).
    series_width_s
        Length of a part.
    cached_tokens
        Tokens of each request that were found in the prefix cache when it was first scheduled; absent: the
        engine has none.
    steps
        One row per step (``STEP_COLUMNS``) when asked for, else None.
    """

    requests: Requests
    horizon_s: float
    end_s: float
    sent_s: FloatArray
    first_scheduled_s: FloatArray
    first_token_s: FloatArray
    finish_s: FloatArray
    generated_tokens: IntArray
    preemptions: IntArray
    gpu_loads: NDArray[np.int64]
    disk_loads: NDArray[np.int64]
    gaps: NDArray[np.int64]
    series: FloatArray
    series_width_s: float
    cached_tokens: IntArray | None = None
    steps: FloatArray | None = None

    @property
    def finished(self) -> NDArray[np.bool_]:
        """Which requests were served whole."""
        return ~np.isnan(self.finish_s)


def gap_edges_s() -> FloatArray:
    """Edges of the histogram's bins in seconds, shape (GAP_BINS + 1,)."""
    edges: FloatArray = GAP_FIRST_S * 2.0 ** (np.arange(GAP_BINS + 1) / GAP_BINS_PER_OCTAVE)
    return edges


def in_order_of_arrival(records: RunRecords, follows: IntArray) -> RunRecords:
    """The records of a run with requests that followed others, as of requests that arrived by themselves.

    Those that were never sent, as the one before them did not end, are left out.
    """
    requests = records.requests
    ended = np.where(follows >= 0, records.finish_s[follows], 0.0)
    arrival = requests.arrival_s + ended
    came = np.flatnonzero(arrival < records.horizon_s)  # not that of one that never ended, which is nan
    order = came[np.argsort(arrival[came], kind="stable")]
    of = {name: getattr(records, name)[order] for name in _PER_REQUEST}
    kept = Requests(
        arrival_s=arrival[order],
        prompt_tokens=requests.prompt_tokens[order],
        output_tokens=requests.output_tokens[order],
        adapter=requests.adapter[order],
        n_adapters=requests.n_adapters,
    )
    cached = None if records.cached_tokens is None else records.cached_tokens[order]
    return replace(records, requests=kept, cached_tokens=cached, **of)
