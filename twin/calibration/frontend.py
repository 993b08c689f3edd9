"""The server in front of the engine: how long each reading of its metrics stalled it, and what it adds.

A monitor reads the metrics again and again, with a pause from the end of a reading to the next. The recorded
instants are those readings, some or all of them, so each gap between two is a whole number of periods of a
pause plus a stall. The stall grows over the run, since the server keeps ever more metrics (see
`twin.measured.client_view`); the growth that makes all gaps whole is found by search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from twin.calibration.params import StallParams
from twin.engine.records import RunRecords
from twin.engine.requests import FloatArray
from twin.measured.client_view import label_sets
from twin.profile import MetricsScrape

TRIED_STALLS = 801
"""Stalls that are tried, from none to the longest."""


@dataclass(frozen=True)
class StallEvidence:
    """What one run says of the stalls.

    Parameters
    ----------
    stall_s
        Stall at the end of the run, above the first.
    pairs, names
        Label sets that had occurred by then, and adapters named in them, as simulated.
    output_tok_per_s
        Output tokens of completed requests per second.
    """

    stall_s: float
    pairs: float
    names: float
    output_tok_per_s: float


def final_stall_s(
    instants_s: FloatArray, seconds: float, pause_s: float, params: StallParams
) -> float | None:
    """Stall at the end of a run, above the first, from the instants of the readings; None if unclear.

    Parameters
    ----------
    instants_s
        When the metrics were read, ascending.
    seconds
        Length of the run.
    pause_s
        Seconds from the end of a reading to the next.
    params
        Parameters of the search.
    """
    gaps, middles = np.diff(instants_s), (instants_s[1:] + instants_s[:-1]) / 2 / seconds
    usable = (gaps > 0) & (gaps < params.longest_gap_s) & (middles < 1)
    if usable.sum() < params.min_gaps:
        return None
    gaps, middles = gaps[usable], middles[usable]
    stalls = np.linspace(0.0, params.longest_stall_s, TRIED_STALLS)
    best, stall = 0.0, 0.0
    for exponent in params.exponents:
        periods = pause_s + params.first_stall_s + stalls[:, None] * middles[None, :] ** exponent
        # 1 for a gap of whole periods, -1 half a period beside: a periodogram whose period drifts.
        scores = np.cos(2 * np.pi * gaps[None, :] / periods).mean(axis=1)
        at = int(scores.argmax())
        if scores[at] > best:
            best, stall = float(scores[at]), float(stalls[at])
    return stall if best >= params.min_score else None


def stall_evidence(records: RunRecords, stall_s: float) -> StallEvidence:
    """Evidence of a simulated run whose measured stall is known."""
    _, names = label_sets(records)
    tokens = float(records.requests.output_tokens[records.finished].sum(dtype=np.int64))
    return StallEvidence(stall_s, float(len(names)), float(names.sum()), tokens / records.end_s)


def fit_scrape(
    evidence: Sequence[StallEvidence], pause_s: float, params: StallParams
) -> MetricsScrape | None:
    """Cost of a reading, from the stalls of many runs; None without evidence.

    ``stall = (a·pairs + b·names) / (1 − c·tokens/s)`` is linear in a, b and c when multiplied out.
    """
    if len(evidence) < params.min_runs:
        return None
    stall = np.array([e.stall_s for e in evidence])
    design = np.array([[e.pairs, e.names, e.stall_s * e.output_tok_per_s] for e in evidence])
    # Relative errors, but those of stalls of a few hundredths of a second are mostly noise.
    weight = 1 / (0.05 + stall)
    size = np.abs(design * weight[:, None]).max(axis=0)
    size[size == 0] = 1.0
    a, b, c = nnls(design * weight[:, None] / size, stall * weight)[0] / size
    return MetricsScrape(
        pause_s=pause_s,
        least_s=params.first_stall_s,
        label_set_s=float(a),
        label_name_s=float(b),
        busy_s_per_token=float(c),
    )
