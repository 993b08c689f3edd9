"""A workload: what the adapters' users send, and for how long."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from scenarios.base import FrozenModel
from scenarios.reading.findings import Finding
from scenarios.traffic.arrivals import Arrivals, ClosedLoopArrivals, PoissonArrivals
from scenarios.traffic.lengths import Lengths


class Workload(FrozenModel):
    """What the adapters' users send."""

    arrivals: Arrivals = PoissonArrivals()
    """Arrival process of every adapter."""
    prompt: Lengths | None = None
    """Prompt tokens of adapters that name none of their own; needed where there are such adapters."""
    output: Lengths | None = None
    """Output tokens of adapters that name none of their own; needed where there are such adapters."""
    duration_s: Annotated[float, Field(gt=0, le=604_800)] = 3600.0
    """Seconds of load to judge by."""
    warmup_s: Annotated[float, Field(ge=0)] = 0.0
    """Seconds at the start that the metrics leave out."""

    def findings(self) -> Iterator[Finding]:
        """Yield users of no adapter, and a warm-up that leaves nothing to measure."""
        if isinstance(self.arrivals, ClosedLoopArrivals):
            message = "is closed_loop, whose users are those of an adapter"
            yield Finding(("arrivals",), message, "give it to entries of adapters, which then have no rate")
        if self.warmup_s >= self.duration_s:
            message = f"is {self.warmup_s:g}, not below duration_s {self.duration_s:g}"
            yield Finding(("warmup_s",), message, "lower it or raise duration_s")
