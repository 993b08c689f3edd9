"""The most probable factors of three groups of terms, given a prior and what some runs say."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from twin.calibration.params import UpdateParams
from twin.engine.requests import FloatArray

MAX_STEPS = 200
CONVERGED = 1e-10


@dataclass(frozen=True)
class Posterior:
    """Logarithms of the factors: mode, and a normal approximation around it.

    Parameters
    ----------
    mean
        Shape (n_groups,).
    covariance
        Shape (n_groups, n_groups).
    run_share
        Standard deviation of log(measured/fitted) mean step time of a run.
    weights
        How much each run counts: 1 near the mode, towards 0 far away, shape (n_runs,).
    """

    mean: FloatArray
    covariance: FloatArray
    run_share: float
    weights: FloatArray

    @property
    def factors(self) -> FloatArray:
        """Factor of each group."""
        found: FloatArray = np.exp(self.mean)
        return found

    @property
    def shares(self) -> FloatArray:
        """Standard deviation of the logarithm of each factor."""
        found: FloatArray = np.sqrt(np.diag(self.covariance))
        return found


def posterior(
    shares: FloatArray, log_scales: FloatArray, prior_shares: FloatArray, params: UpdateParams
) -> Posterior:
    """Maximum a posteriori, with the curvature there.

    The prior of each factor is log-normal around 1. A run's log scale is that of the mean of the factors,
    weighted by what its steps are made of, with an error of Student's t: a run that lies far from what prior
    and other runs say loses its weight, and one absurd point cannot throw the factors off. The width of that
    error begins at ``run_share`` and is pooled with the residuals, as if so many runs had shown it.

    Parameters
    ----------
    shares
        Share of each group in each run's steps, shape (n_runs, n_groups).
    log_scales
        Shape (n_runs,).
    prior_shares
        Standard deviation of the logarithm of each factor before, shape (n_groups,).
    params
        Parameters of the update.
    """
    precision = np.diag(1 / prior_shares**2)
    spread = math.sqrt(params.freedom / (params.freedom - 2))  # Student's t: standard deviation over width
    least = params.run_share / spread
    mean, width, weights = np.zeros(len(prior_shares)), least, np.ones(len(log_scales))
    for _ in range(MAX_STEPS):
        residual, slopes = _linearised(shares, log_scales, mean)
        weights = (params.freedom + 1) / (params.freedom + (residual / width) ** 2)
        pooled = params.pooled_runs * least**2 + float((weights * residual**2).sum())
        width = float(np.sqrt(pooled / (params.pooled_runs + len(log_scales))))
        curvature = precision + _weighted(slopes, slopes, weights / width**2)
        pull = (slopes * (weights * residual / width**2)[:, None]).sum(axis=0) - mean / prior_shares**2
        step = np.linalg.solve(curvature, pull)
        mean = mean + step
        if float(np.abs(step).max()) < CONVERGED:
            break
    covariance: FloatArray = np.linalg.inv(curvature).astype(np.float64)
    return Posterior(mean, covariance, width * spread, np.minimum(weights, 1.0))


def _linearised(
    shares: FloatArray, log_scales: FloatArray, mean: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Residual of each run, and its slope in each group's logarithm."""
    parts = shares * np.exp(mean)
    total = parts.sum(axis=1)
    return log_scales - np.log(total), parts / total[:, None]


def _weighted(left: FloatArray, right: FloatArray, weights: FloatArray) -> FloatArray:
    # No matrix product: its rounding depends on the threads that the process has.
    summed: FloatArray = (left[:, :, None] * right[:, None, :] * weights[:, None, None]).sum(axis=0)
    return summed
