"""What whole runs say of the cost of a step: mean step time, with the steps as the engine must have had them.

A run's mean gap between tokens is a sum over its steps, linear in the coefficients of the step cost, but
which steps there were depends on the cost: slower steps hold more requests. So every run is simulated with
the step cost scaled until its mean time per output token is the measured one. Its steps are then those of
the real run as far as the scheduler decides them, and the fit of the coefficients is a linear regression.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace

import numpy as np

from twin.calibration.cost_terms import Steps, features
from twin.calibration.params import MatchingParams
from twin.engine.records import RunRecords
from twin.engine.requests import FloatArray
from twin.engine.run import simulate_requests
from twin.engine.setup import EngineSetup, StepTables
from twin.measured.client_view import admissions, client_view, decodes
from twin.measured.replayed import reads_again, run_requests, run_setup
from twin.measured.runs import MeasuredRun
from twin.profile import EngineProfile
from twin.step_cost import CostTerm


@dataclass(frozen=True)
class RunEvidence:
    """One run for the fit.

    Parameters
    ----------
    group, quality
        Of the run.
    features
        Mean over decoding requests of the terms' factors, shape (n_terms,).
    load_s
        Seconds of adapter copies, and of reads for want of room, in such a step, in the mean.
    seconds
        Mean gap between tokens when matched.
    scale
        Factor on the step cost at which it came so close.
    """

    group: str
    quality: str
    features: FloatArray
    load_s: float
    seconds: float
    scale: float


@dataclass(frozen=True)
class Match:
    """A run, simulated with the step cost scaled until its mean time per output token is the measured one.

    Parameters
    ----------
    steps
        The simulated steps, each weighted by the requests that decode in it.
    load_s
        Seconds of adapter copies, and of reads for want of room, in such a step, in the mean.
    seconds
        Mean gap between tokens.
    scale
        Factor on the step cost at which it came so close.
    mismatch
        Logarithm of measured over simulated time per output token that is left.
    """

    steps: Steps
    load_s: float
    seconds: float
    scale: float
    mismatch: float


def matched(run: MeasuredRun, profile: EngineProfile, seed: int, params: MatchingParams) -> Match | None:
    """The nearest match of a run, however near; None where nothing was served.

    Parameters
    ----------
    run
        The run, with its mean time per output token and its KV capacity.
    profile
        Profile whose step cost is scaled.
    seed
        Seed of the run's requests.
    params
        How often and how near.
    """
    requests, setup = run_requests(run, profile, seed), run_setup(run, profile)
    tpot_s = (run.tpot_mean_ms or math.nan) / 1e3
    trials: list[tuple[float, float]] = []
    log_scale = 0.0
    best: tuple[float, float, RunRecords, float] | None = None
    for _ in range(params.max_trials):
        scaled = replace(setup, tables=_scaled(setup.tables, math.exp(log_scale)))
        records = simulate_requests(requests, scaled, run.horizon_s, record_steps=True)
        view = client_view(records, profile.frontend)
        if not view.tpot_s > 0:
            return None
        error = math.log(tpot_s / view.tpot_s)
        trials.append((log_scale, error))
        if best is None or abs(error) < abs(best[0]):
            best = (error, log_scale, records, view.itl_s)
        if abs(error) < params.tolerance:
            break
        log_scale += max(-0.3, min(0.3, error / _elasticity(trials)))
    if best is None:
        return None
    error, log_scale, records, itl_s = best
    return Match(
        steps=decode_steps(records, run, setup.async_scheduling),
        load_s=_load_s(records, setup, reads_again(run)),
        seconds=itl_s,
        scale=math.exp(log_scale),
        mismatch=error,
    )


def match(
    run: MeasuredRun, profile: EngineProfile, seed: int, terms: tuple[CostTerm, ...], params: MatchingParams
) -> RunEvidence | None:
    """Evidence of one run for the fit of some terms, or None where no trial came near what was measured."""
    found = matched(run, profile, seed, params)
    if found is None or abs(found.mismatch) >= params.max_mismatch:
        return None
    return RunEvidence(
        group=run.group,
        quality=run.quality,
        features=features(terms, found.steps),
        load_s=found.load_s,
        seconds=found.seconds,
        scale=found.scale,
    )


def _elasticity(trials: list[tuple[float, float]]) -> float:
    """How strongly the time per token follows the scale, in logarithms: from the last two trials.

    Slower steps hold more requests, which make them slower again, so it is above 1; near saturation several
    times as much, and bounded so that no step is wild.
    """
    if len(trials) < 2:
        return 1.2
    (s0, e0), (s1, e1) = trials[-2:]
    return max(0.4, min(8.0, (e0 - e1) / (s1 - s0))) if abs(s1 - s0) > 1e-6 else 1.0


def _scaled(tables: StepTables, factor: float) -> StepTables:
    return StepTables(**{field.name: getattr(tables, field.name) * factor for field in fields(tables)})


def decode_steps(records: RunRecords, run: MeasuredRun, ahead: bool) -> Steps:
    """The run's steps, each weighted by the requests that decode in it."""
    assert records.steps is not None
    _, decoding = decodes(records, ahead)
    rows = records.steps[:-1]
    done = records.finished
    prompt = records.requests.prompt_tokens[done].astype(np.float64)
    output = records.requests.output_tokens[done].astype(np.float64)
    context = float((prompt * output + output**2 / 2).sum() / output.sum())
    return Steps(
        weight=decoding,
        tokens=rows[:, 1],
        decodes=decoding,
        context=context * decoding,
        adapters=rows[:, 2],
        waiting=rows[:, 4],
        max_loras=run.max_loras,
        max_lora_rank=run.max_lora_rank,
        served=len(run.rate),
    )


def _load_s(records: RunRecords, setup: EngineSetup, reads: bool) -> float:
    """Seconds of loads per step, weighted by decoding requests; spread evenly over the admissions.

    First reads are none of them: they are over before most requests come.
    """
    end, decoding = decodes(records, setup.async_scheduling)
    fresh = admissions(records, setup.async_scheduling)[:-1].astype(np.float64)
    if not len(end) or fresh.sum() == 0:
        return 0.0
    seconds = float((records.gpu_loads * setup.gpu_load_s).sum())
    if reads:
        seconds += float((records.disk_loads * setup.disk_load_s).sum())
    return seconds * float((fresh * decoding).sum()) / float(fresh.sum() * decoding.sum())
