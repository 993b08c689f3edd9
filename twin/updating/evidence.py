"""What one run says of a profile: by how much its steps were slower or faster, and what they were made of."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from twin.calibration.cost_terms import features
from twin.calibration.params import CalibrationParams
from twin.calibration.run_evidence import matched
from twin.engine.requests import FloatArray
from twin.engine.run import UnservableRequestError
from twin.measured.predict import capacity
from twin.measured.report import CLEAN, RAN
from twin.measured.runs import SATURATED, MeasuredRun
from twin.profile import EngineProfile


@dataclass(frozen=True)
class Evidence:
    """One run, or why it says nothing.

    Parameters
    ----------
    run_id
        Of the run.
    log_scale
        Logarithm of the one factor on all terms at which the twin has the run's time per output token.
    term_shares
        Share of each term in the time of a step of that run, each step weighted by the requests that decode
        in it, shape (n_terms,).
    left_out
        Why it is not used; empty: it is.
    """

    run_id: str
    log_scale: float
    term_shares: FloatArray
    left_out: str = ""


def evidence_of(run: MeasuredRun, profile: EngineProfile, seed: int, params: CalibrationParams) -> Evidence:
    """Evidence of one run.

    Copies of adapters and stalls are not scaled and therefore do not count: the factor is on the step cost.
    """
    tpot_ms = run.tpot_mean_ms or run.itl_mean_ms
    if not tpot_ms:
        return _none(run, "has neither a mean time per output token nor one between tokens")
    if run.status not in RAN or run.quality not in (*CLEAN, SATURATED):
        return _none(run, f"is of status {run.status or 'ok'} and quality {run.quality or 'clean'}")
    tokens, _ = capacity(run, profile)
    if tokens is None:
        return _none(run, "does not start by the profile's memory: give the KV cache that the log tells")
    run = run.model_copy(update={"kv_cache_tokens": tokens, "tpot_mean_ms": tpot_ms})
    try:
        found = matched(run, profile, seed, params.matching)
    except UnservableRequestError as error:
        return _none(run, f"cannot be replayed: {error}")
    if found is None or abs(found.mismatch) >= params.update.max_mismatch:
        off = "nothing is answered" if found is None else f"{100 * math.expm1(found.mismatch):+.0f} % is left"
        return _none(run, f"fits at no scale of the step cost: {off}")
    seconds = np.array([term.seconds for term in profile.step.terms])
    parts = features(profile.step.terms, found.steps) * seconds
    total = float(parts.sum())
    if not total > 0:
        return _none(run, "has steps of no cost under this profile")
    return Evidence(run.run_id, math.log(found.scale), parts / total)


def _none(run: MeasuredRun, why: str) -> Evidence:
    return Evidence(run.run_id, math.nan, np.empty(0), why)
