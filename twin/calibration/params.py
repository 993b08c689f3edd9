"""Parameters of the calibration; with the defaults the shipped profiles were made."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from scenarios import Params
from scenarios.reading.findings import Finding
from twin.measured.params import FidelityParams

Share = Annotated[float, Field(gt=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
PositiveCount = Annotated[int, Field(ge=1)]


class MatchingParams(Params):
    """Scaling the step cost of a simulated run until its time per output token is the measured one."""

    cold_rounds: PositiveCount = 2
    """Times that every run is matched and the costs are fitted anew, from probes alone."""
    warm_rounds: PositiveCount = 1
    """The same, from a profile."""
    max_trials: PositiveCount = 6
    """Most simulations of a run."""
    tolerance: Positive = 0.004
    """Logarithm of measured over simulated time at which a run is matched."""
    max_mismatch: Positive = 0.02
    """Logarithm above which a run is left out of the fit."""
    min_runs: PositiveCount = 5
    """Fewest runs from which a profile is fitted."""


class FitParams(Params):
    """The regression of the step cost."""

    token_knots: tuple[Annotated[int, Field(ge=0)], ...] = (1, 2, 16, 64, 128, 256, 512, 1024)
    """Tokens, ascending, at which the cost of a token may change: small matrix shapes, and CUDA graphs up to
    512."""
    saturated_weight: Annotated[float, Field(ge=0)] = 0.7
    """Weight of a run whose client held as many requests open as it could; a clean one has 1."""
    robust_residual: Positive = 0.05
    """Relative residual from which an observation loses weight (Cauchy)."""
    reweightings: PositiveCount = 6
    """Times that the weights are set anew and the costs fitted with them."""
    few_observations: Annotated[int, Field(ge=0)] = 300
    """Runs and probes, together, below which a term is kept only if Schwarz's criterion asks for it."""
    ridge: Annotated[float, Field(ge=0)] = 1e-6
    """Penalty on the coefficients, per observation, which decides between terms that the data cannot tell
    apart."""

    def findings(self) -> Iterator[Finding]:
        """Yield knots that do not ascend."""
        if list(self.token_knots) != sorted(set(self.token_knots)):
            yield Finding(("token_knots",), f"is {list(self.token_knots)}", "give ascending numbers")


class ReplayParams(Params):
    """Which runs are simulated again for the numbers that are read off whole runs."""

    max_runs: PositiveCount = 8
    """Most runs that are simulated for one number."""
    full_kv_share: Share = 0.9
    """Share of the KV cache in use from which it decides how many requests run."""
    many_adapters: PositiveCount = 160
    """Adapters from which their first reads are seen in the mean time to first token; half as many slots."""
    eased_waiting: Positive = 0.1
    """Mean waiting requests below which a run shows first reads."""
    slowest_read_s: Positive = 1.0
    """Longest first read of an adapter that is looked for."""
    calm_running: Positive = 20.0
    """Mean running requests below which the server's constant part of the time to first token is read off."""
    calm_waiting: Positive = 0.01
    """Mean waiting requests below which it is."""


class StallParams(Params):
    """The server's stalls while its metrics are read."""

    first_stall_s: Annotated[float, Field(ge=0)] = 0.01
    """Stall at the first reading."""
    longest_stall_s: Positive = 1.6
    """Longest stall at the end of a run that is looked for."""
    exponents: Annotated[tuple[Positive, ...], Field(min_length=1)] = (0.85, 1.0, 1.15)
    """Growth of the stall with time to these powers is tried; most runs are near 1."""
    longest_gap_s: Positive = 30.0
    """Longer gaps are readings that failed."""
    min_gaps: PositiveCount = 50
    """Fewest gaps in which a stall is looked for."""
    min_score: Share = 0.9
    """Score from which a run's stall is believed; 1 if every gap is a whole number of periods."""
    min_runs: PositiveCount = 10
    """Fewest runs with a known stall from which its cost is fitted."""


class UpdateParams(Params):
    """Correcting a profile with a few runs: factors on groups of terms, with a prior."""

    prior_share: Positive = 0.10
    """Standard deviation of the logarithm of each factor before, where the profile states none."""
    run_share: Positive = 0.03
    """Standard deviation of log(measured/fitted) mean step time of a run, before any is seen."""
    pooled_runs: Positive = 5.0
    """Runs that ``run_share`` counts as, beside those that are seen."""
    freedom: Annotated[float, Field(gt=2)] = 4.0
    """Degrees of freedom of Student's t of a run's error: the fewer, the less an absurd run counts."""
    max_mismatch: Positive = 0.05
    """Logarithm of measured over simulated time per output token, at the best scale, above which a run is
    left out."""


class CalibrationParams(Params):
    """Parameters of every part of a calibration."""

    matching: MatchingParams = MatchingParams()
    """Scaling the step cost of a simulated run until its time per output token is the measured one."""
    fit: FitParams = FitParams()
    """The regression of the step cost."""
    replays: ReplayParams = ReplayParams()
    """Which runs are simulated again for the numbers that are read off whole runs."""
    stalls: StallParams = StallParams()
    """The server's stalls while its metrics are read."""
    fidelity: FidelityParams = FidelityParams()
    """How measured runs are simulated again and judged."""
    update: UpdateParams = UpdateParams()
    """Correcting a profile with a few runs: factors on groups of terms, with a prior."""
