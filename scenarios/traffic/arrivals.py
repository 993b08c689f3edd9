"""When requests arrive: the arrival processes of a workload."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from scenarios.reading.findings import Finding
from scenarios.traffic.process import ArrivalProcess as _Arrivals
from scenarios.traffic.recordings import ServegenArrivals, TraceArrivals


class PoissonArrivals(_Arrivals):
    """Exponential gaps, each adapter at its own rate (the paper's predictable workload)."""

    process: Literal["poisson"] = "poisson"


class GammaArrivals(_Arrivals):
    """Gamma-distributed gaps with a given coefficient of variation, each adapter at its own rate."""

    process: Literal["gamma"] = "gamma"
    cv: Annotated[float, Field(gt=0, le=100)]
    """Coefficient of variation of the gaps; 1 is Poisson."""


class WeibullArrivals(_Arrivals):
    """Weibull-distributed gaps with a given coefficient of variation, each adapter at its own rate."""

    process: Literal["weibull"] = "weibull"
    cv: Annotated[float, Field(gt=0, le=100)]
    """Coefficient of variation of the gaps; 1 is Poisson."""


class DeterministicArrivals(_Arrivals):
    """Equal gaps of 1/rate, each adapter with a random phase."""

    process: Literal["deterministic"] = "deterministic"


class UnpredictableArrivals(_Arrivals):
    """Rates that walk: each adapter's rate is multiplied or divided by ``factor`` at every change.

    The paper's unpredictable workload (arXiv 2602.24044): every 300 s a factor of 1.5 up or down,
    clipped to [1/7.5, 7.5] of the adapter's own rate.
    """

    process: Literal["unpredictable"] = "unpredictable"
    every_s: Annotated[float, Field(gt=0)] = 300.0
    """Seconds between rate changes."""
    factor: Annotated[float, Field(gt=1, le=100)] = 1.5
    """Step of the random walk."""
    limit: Annotated[float, Field(ge=1, le=1000)] = 7.5
    """Largest ratio to the adapter's own rate."""
    gaps: Literal["exponential", "lognormal"] = "exponential"
    """Gaps at a given rate."""


class PiecewiseArrivals(_Arrivals):
    """Rates per window: in window k every adapter's rate is its own times ``factors[k]``.

    The windows repeat when the workload lasts longer (the form of ServeGen's traces).
    """

    process: Literal["piecewise"] = "piecewise"
    window_s: Annotated[float, Field(gt=0)]
    """Length of a window in seconds."""
    factors: Annotated[tuple[Annotated[float, Field(ge=0, le=10_000)], ...], Field(min_length=1)]
    """Factor on every adapter's rate, per window."""
    cv: Annotated[float, Field(gt=0, le=100)] = 1.0
    """Coefficient of variation of the (Gamma) gaps."""

    def findings(self) -> Iterator[Finding]:
        """Yield factors that never let a request arrive."""
        if not any(self.factors):
            yield Finding(("factors",), "are all 0, so that nothing ever arrives", "raise at least one")


def expand_arrivals(value: object) -> object:
    """Spell out the short form of an arrival process: its bare name."""
    return {"process": value} if isinstance(value, str) else value


_AnyArrivals = Annotated[
    PoissonArrivals
    | GammaArrivals
    | WeibullArrivals
    | DeterministicArrivals
    | UnpredictableArrivals
    | PiecewiseArrivals
    | TraceArrivals
    | ServegenArrivals,
    Field(discriminator="process"),
]

Arrivals = Annotated[
    _AnyArrivals,
    BeforeValidator(
        expand_arrivals,
        json_schema_input_type=_AnyArrivals | Literal["poisson", "deterministic", "unpredictable"],
    ),
]
