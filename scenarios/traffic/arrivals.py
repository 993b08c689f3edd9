"""When requests arrive: the arrival processes of a workload."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from scenarios.reading.findings import Finding
from scenarios.traffic.process import ArrivalProcess as _Arrivals
from scenarios.traffic.recordings import ServegenArrivals, TraceArrivals

MAX_RATE = 100_000
"""Most requests per second of one adapter."""

GroupName = Annotated[str, Field(min_length=1, max_length=100)]


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


class HyperexponentialArrivals(_Arrivals):
    """Gaps of two kinds, many short and few long, each adapter at its own rate: bursts.

    A gap is exponential, of one of two means that have equal parts in the time (balanced means).
    """

    process: Literal["hyperexponential"] = "hyperexponential"
    cv: Annotated[float, Field(gt=1, le=100)]
    """Coefficient of variation of the gaps, above 1."""


class OnOffArrivals(_Arrivals):
    """Requests only while an adapter is on, at ``rate`` times (on_s + off_s) / on_s; none while it is off.

    Both periods are exponential, so that ``rate`` is the mean. An adapter is on or off when a run begins as
    often as later.
    """

    process: Literal["on_off"] = "on_off"
    on_s: Annotated[float, Field(gt=0, le=604_800)]
    """Mean seconds that an adapter is on."""
    off_s: Annotated[float, Field(gt=0, le=604_800)]
    """Mean seconds that it is off."""
    cv: Annotated[float, Field(gt=0, le=100)] = 1.0
    """Coefficient of variation of the (Gamma) gaps while it is on."""
    group: GroupName | None = None
    """Adapters of one group, of whatever entry, are on and off together; absent: each on its own."""

    @property
    def cycle_s(self) -> float:
        """Mean seconds from one time that an adapter is switched on to the next."""
        return self.on_s + self.off_s


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
    group: GroupName | None = None
    """The rates of one group's adapters, of whatever entry, walk together; absent: each on its own."""


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


class ClosedLoopArrivals(_Arrivals):
    """Users who wait for an answer, think, and send their next request.

    An adapter with such users has no ``rate``: it is users / think_s, the most that they can send, which is
    what they send where answers take no time.
    """

    process: Literal["closed_loop"] = "closed_loop"
    users: Annotated[int, Field(ge=1, le=1_000_000)]
    """Users of each adapter."""
    think_s: Annotated[float, Field(gt=0, le=86_400)]
    """Mean seconds from an answer's last token to the same user's next request; they are exponential."""

    @property
    def rate(self) -> float:
        """Requests per second that its users send at most."""
        return self.users / self.think_s

    def findings(self) -> Iterator[Finding]:
        """Yield users who send more than an adapter's rate may be."""
        if self.rate > MAX_RATE:
            message = f"makes users / think_s {self.rate:,.0f} requests/s, above {MAX_RATE:,}"
            yield Finding(("users",), message, "lower it or raise think_s")


def expand_arrivals(value: object) -> object:
    """Spell out the short form of an arrival process: its bare name."""
    return {"process": value} if isinstance(value, str) else value


_AnyArrivals = Annotated[
    PoissonArrivals
    | GammaArrivals
    | WeibullArrivals
    | DeterministicArrivals
    | HyperexponentialArrivals
    | OnOffArrivals
    | UnpredictableArrivals
    | PiecewiseArrivals
    | TraceArrivals
    | ServegenArrivals
    | ClosedLoopArrivals,
    Field(discriminator="process"),
]

Arrivals = Annotated[
    _AnyArrivals,
    BeforeValidator(
        expand_arrivals,
        json_schema_input_type=_AnyArrivals | Literal["poisson", "deterministic", "unpredictable"],
    ),
]
