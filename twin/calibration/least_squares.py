"""Non-negative least squares for the coefficients of the step cost, from probes and matched runs together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import nnls

from twin.calibration.cost_terms import candidate_terms, features
from twin.calibration.probes import Probe
from twin.calibration.run_evidence import USABLE, RunEvidence
from twin.engine.requests import FloatArray
from twin.step_cost import StepCost

RUN_WEIGHT = {"clean": 1.0, "client_cap_saturated": 0.7}
"""Weight of a run by its quality; others are not used."""

ROBUST = 0.05
"""Relative residual from which an observation loses weight (Cauchy)."""

RIDGE = 1e-6
REWEIGHTINGS = 6


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


def fit_costs(evidence: Sequence[RunEvidence], probes: Sequence[Probe], left_out: str | None = None) -> Fit:
    """Fit the step cost.

    Relative errors are minimised, so that a step of 13 ms counts as much as one of 300 ms; observations far
    off lose weight.

    Parameters
    ----------
    evidence, probes
        Matched runs and probes.
    left_out
        Group of runs to leave out.
    """
    terms = candidate_terms()
    used = [
        e
        for e in evidence
        if e.group != left_out and abs(e.mismatch) < USABLE and RUN_WEIGHT.get(e.quality, 0) > 0
    ]
    rows = [(e.features, e.seconds - e.load_s, e.seconds) for e in used]
    rows += [(features(terms, p.steps), p.seconds, p.seconds) for p in probes]
    design = np.array([row / scale for row, _, scale in rows])
    target = np.array([value / scale for _, value, scale in rows])
    weight = np.array([RUN_WEIGHT[e.quality] for e in used] + [p.weight for p in probes])
    solution, final = _robust(design, target, weight)
    residual = target - design @ solution
    errors = _standard_errors(design, residual, final, solution)
    names = [term.name for term in terms]
    kept = [
        term.model_copy(update={"seconds": float(x)})
        for term, x in zip(terms, solution, strict=True)
        if x > 0
    ]
    return Fit(
        step=StepCost(terms=tuple(kept)),
        standard_errors_s={
            name: error for name, x, error in zip(names, solution, errors, strict=True) if x > 0
        },
        residual_share=float(np.std(residual[: len(used)])) if used else 0.0,
    )


def _robust(design: FloatArray, target: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Coefficients and final weights of iteratively reweighted non-negative least squares."""
    size = np.abs(design * weight[:, None]).max(axis=0)
    size[size == 0] = 1.0
    ridge = np.sqrt(RIDGE * len(target)) * np.eye(design.shape[1])
    solution, current = np.zeros(design.shape[1]), weight.copy()
    for _ in range(REWEIGHTINGS):
        left = np.vstack([design * current[:, None] / size, ridge])
        right = np.concatenate([target * current, np.zeros(design.shape[1])])
        solution = nnls(left, right, maxiter=100 * design.shape[1])[0] / size
        current = weight / np.sqrt(1 + ((design @ solution - target) / ROBUST) ** 2)
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
