"""The server in front of the engine: how long each reading of its metrics stalled it, and what it adds.

A monitor read the metrics every 2 s after the end of the last reading. The recorded instants are those
readings thinned to one in about 10 s, so each gap between them is a whole number of periods of 2 s plus
a stall. The stall grows over the hour; the growth that makes all gaps whole is found by search.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from twin.engine.records import RunRecords
from twin.engine.requests import FloatArray
from twin.measured.client_view import label_sets
from twin.profile import MetricsScrape

PAUSE_S = 2.0
LEAST_S = 0.01
LONGEST_S = 1.6
"""Longest stall at the end of an hour that is looked for."""

EXPONENTS = (0.85, 1.0, 1.15)
"""Growth of the stall with time to these powers; most runs are near 1."""

LONGEST_GAP_S = 30.0
"""Longer gaps are readings that failed."""

RELIABLE = 0.9
"""Score from which a run's stall is believed; 1 if every gap is a whole number of periods."""


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


def final_stall_s(instants_s: FloatArray, seconds: float) -> float | None:
    """Stall at the end of a run, above the first, from the instants of the readings; None if unclear."""
    instants = instants_s[np.isfinite(instants_s)]
    gaps, middles = np.diff(instants), (instants[1:] + instants[:-1]) / 2 / seconds
    usable = (gaps > 0) & (gaps < LONGEST_GAP_S) & (middles < 1)
    if usable.sum() < 50:
        return None
    gaps, middles = gaps[usable], middles[usable]
    lengths = np.linspace(0.0, LONGEST_S, 801)
    best, stall = 0.0, 0.0
    for exponent in EXPONENTS:
        periods = PAUSE_S + LEAST_S + lengths[:, None] * middles[None, :] ** exponent
        scores = np.cos(2 * np.pi * gaps[None, :] / periods).mean(axis=1)
        at = int(scores.argmax())
        if scores[at] > best:
            best, stall = float(scores[at]), float(lengths[at])
    return stall if best >= RELIABLE else None


def stall_evidence(records: RunRecords, stall_s: float) -> StallEvidence:
    """Evidence of a simulated run whose measured stall is known."""
    _, names = label_sets(records)
    tokens = float(records.requests.output_tokens[records.finished].sum(dtype=np.int64))
    return StallEvidence(stall_s, float(len(names)), float(names.sum()), tokens / records.end_s)


def fit_scrape(evidence: Sequence[StallEvidence]) -> MetricsScrape | None:
    """Cost of a reading, from the stalls of many runs; None without evidence.

    ``stall = (a·pairs + b·names) / (1 − c·tokens/s)`` is linear in a, b and c when multiplied out.
    """
    if len(evidence) < 10:
        return None
    stall = np.array([e.stall_s for e in evidence])
    design = np.array([[e.pairs, e.names, e.stall_s * e.output_tok_per_s] for e in evidence])
    weight = 1 / (0.05 + stall)
    size = np.abs(design * weight[:, None]).max(axis=0)
    size[size == 0] = 1.0
    a, b, c = nnls(design * weight[:, None] / size, stall * weight)[0] / size
    return MetricsScrape(
        pause_s=PAUSE_S,
        least_s=LEAST_S,
        label_set_s=float(a),
        label_name_s=float(b),
        busy_s_per_token=float(c),
    )
