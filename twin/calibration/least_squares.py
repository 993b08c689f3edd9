"""Non-negative least squares for the coefficients of the step cost, from probes and matched runs together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from twin.calibration.cost_terms import candidate_terms, features
from twin.calibration.measurements import Probe
from twin.calibration.params import FitParams
from twin.calibration.run_evidence import RunEvidence
from twin.engine.requests import FloatArray
from twin.measured.runs import SATURATED
from twin.step_cost import CostTerm, StepCost

ALIKE = 1e-9
"""Largest difference, of columns of length 1, at which two terms are the same to a fit."""


FINEST = 0.01
"""Relative residual that measurements have of themselves; what a fit gains below it is not the engine's."""


@dataclass(frozen=True)
class Fit:
    """Fitted costs.

    Parameters
    ----------
    step
        The cost, without terms that the data do not ask for.
    standard_errors_s
        Of the terms that are kept, from the weighted residuals.
    residual_share
        Standard deviation of the logarithm of measured over fitted, over the runs.
    """

    step: StepCost
    standard_errors_s: dict[str, float]
    residual_share: float


def fit_costs(
    evidence: Sequence[RunEvidence],
    probes: Sequence[Probe],
    terms: tuple[CostTerm, ...],
    params: FitParams,
    left_out: str | None = None,
) -> Fit:
    """Fit the step cost.

    Relative errors are minimised, so that a step of 13 ms counts as much as one of 300 ms; observations far
    off lose weight.

    Parameters
    ----------
    evidence, probes
        Matched runs, with their features for the same terms, and probes.
    terms
        Candidates, from `candidate_terms`.
    params
        Parameters of the regression.
    left_out
        Group of runs to leave out.
    """
    used = [e for e in evidence if e.group != left_out]
    rows = [(e.features, e.seconds - e.load_s, e.seconds) for e in used]
    rows += [(features(terms, p.steps), p.step_ms / 1e3, p.step_ms / 1e3) for p in probes]
    design = np.array([row / scale for row, _, scale in rows])
    design[:, ~told_apart(design, terms)] = 0.0
    target = np.array([value / scale for _, value, scale in rows])
    run_weights = [params.saturated_weight if e.quality == SATURATED else 1.0 for e in used]
    weight = np.array(run_weights + [p.weight for p in probes])
    solution, final = _robust(design, target, weight, params)
    if len(target) < params.few_observations:
        design[:, ~needed(design, target, final, terms)] = 0.0
        solution, final = _robust(design, target, weight, params)
    residual = target - design @ solution
    errors = _standard_errors(design, residual, final, solution)
    kept = [k for k, seconds in enumerate(solution) if seconds > 0]
    return Fit(
        step=StepCost(terms=tuple(terms[k].model_copy(update={"seconds": float(solution[k])}) for k in kept)),
        standard_errors_s={terms[k].name: errors[k] for k in kept},
        residual_share=float(np.std(residual[: len(used)])) if used else 0.0,
    )


def terms_for(runs: int, probes: Sequence[Probe], params: FitParams) -> tuple[CostTerm, ...]:
    """Candidate terms that so many runs and these probes can tell apart.

    Two are candidates only where single steps are the evidence, among few observations, of which Schwarz's
    criterion decides. What a step with prompts costs more than another asks for steps that mix prompts with
    decoding requests, and for steps without prompts; what a step with any adapter costs more, for steps of an
    engine with LoRA with and without one. Whole runs show neither. The share of their steps that hold prompts
    rises with the load, as the tokens of a step do, and hundreds of them would divide one cost between both.
    """
    few = runs + len(probes) < params.few_observations
    mixed = any(0 < probe.decodes < probe.batched_tokens for probe in probes)
    alone = any(probe.decodes >= probe.batched_tokens for probe in probes)
    adapters = {probe.n_adapters > 0 for probe in probes if probe.max_loras}
    return candidate_terms(
        params.token_knots, prompts=few and mixed and alone, any_adapter=few and len(adapters) == 2
    )


def told_apart(design: FloatArray, terms: Sequence[CostTerm]) -> NDArray[np.bool_]:
    """Which terms do not grow with an engine's arguments, or not as one before them, shape (n_terms,).

    An engine with one number of slots says nothing of what a slot costs: what grows with slots, and what does
    not, has the same share in every observation. The fit would divide the cost among such terms, and other
    slots would be foretold from an invention. The first of them, which grows with the least, has it all.
    """
    size = np.linalg.norm(design, axis=0)
    columns = design / np.where(size > 0, size, 1.0)
    apart = np.ones(design.shape[1], dtype=np.bool_)
    for k, term in enumerate(terms):
        if not (term.slots_power or term.rank_power or term.served_power):
            continue
        earlier = columns[:, :k][:, apart[:k]]
        apart[k] = bool((np.abs(earlier - columns[:, k : k + 1]).max(axis=0) > ALIKE).all())
    return apart


def needed(
    design: FloatArray,
    target: FloatArray,
    weight: FloatArray,
    terms: Sequence[CostTerm],
) -> NDArray[np.bool_]:
    """Which terms a few observations ask for, by Schwarz's criterion (BIC), shape (n_terms,).

    Twenty terms follow the noise of fifty observations, and what they make of it shows where nothing was
    measured: with other slots, or more adapters. Terms are left out one by one, those that depend on most
    first, so that of two which explain the same the simpler one stays. A term counts as so many parameters
    as it depends on things.
    """
    kept: NDArray[np.bool_] = np.abs(design).max(axis=0) > 0
    n = len(target)

    def loss(chosen: NDArray[np.bool_]) -> float:
        size = np.abs(design[:, chosen] * weight[:, None]).max(axis=0)
        residual = nnls(design[:, chosen] * weight[:, None] / size, target * weight)[1]
        return n * math.log(residual**2 / n + FINEST**2)

    now = loss(kept)
    for k in sorted(range(len(terms)), key=lambda k: (-complexity(terms[k]), -k)):
        if not kept[k]:
            continue
        tried = kept.copy()
        tried[k] = False
        if tried.any() and (then := loss(tried)) - now < complexity(terms[k]) * math.log(n):
            kept, now = tried, then
    return kept


def complexity(term: CostTerm) -> int:
    """On how many things a term depends, at least 1; a power that is no whole number counts as one."""
    powers = (term.slots_power, term.rank_power, term.served_power, term.adapters_power or 0.0)
    bent = sum(power != round(power) for power in powers)
    grows = sum(power > 0 for power in powers) + (term.tokens_above is not None)
    lora = term.lora and not any(powers)  # what grows with slots or adapters is LoRA's anyway
    return max(grows + bent + lora + (term.per != "step"), 1)


def _robust(
    design: FloatArray, target: FloatArray, weight: FloatArray, params: FitParams
) -> tuple[FloatArray, FloatArray]:
    """Coefficients and final weights of iteratively reweighted non-negative least squares.

    A few runs tip over (waiting requests make copies, which make requests wait) and are far from any smooth
    cost. With Cauchy's weights they hardly pull, while small residuals count as in plain least squares.
    """
    # Coefficients span ten orders of magnitude, from a step to a token of context; columns are scaled to 1.
    size = np.abs(design * weight[:, None]).max(axis=0)
    size[size == 0] = 1.0
    ridge = np.sqrt(params.ridge * len(target)) * np.eye(design.shape[1])
    solution, current = np.zeros(design.shape[1]), weight.copy()
    for _ in range(params.reweightings):
        left = np.vstack([design * current[:, None] / size, ridge])
        right = np.concatenate([target * current, np.zeros(design.shape[1])])
        solution = nnls(left, right, maxiter=100 * design.shape[1])[0] / size
        current = weight / np.sqrt(1 + ((design @ solution - target) / params.robust_residual) ** 2)
    return solution, current


def _standard_errors(
    design: FloatArray, residual: FloatArray, weight: FloatArray, solution: FloatArray
) -> list[float]:
    """Standard errors of the coefficients above 0, as in ordinary least squares; 0 for the others."""
    active = solution > 0
    weighted = design[:, active] * weight[:, None]
    freedom = max(len(residual) - int(active.sum()), 1)
    spread = float(((weight * residual) ** 2).sum()) / freedom
    covariance = spread * np.linalg.pinv(weighted.T @ weighted)
    errors = np.zeros(len(solution))
    errors[active] = np.sqrt(np.clip(np.diag(covariance), 0, None))
    return [float(e) for e in errors]
