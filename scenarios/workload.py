"""A workload: what the adapters' users send, and for how long."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import Field

from scenarios.arrivals import Arrivals, PoissonArrivals
from scenarios.base import Finding, FrozenModel
from scenarios.lengths import Lengths


class Workload(FrozenModel):
    """What the adapters' users send."""

    arrivals: Arrivals = Field(default=PoissonArrivals(), description="Arrival process of every adapter.")
    prompt: Lengths = Field(description="Prompt tokens of adapters that name none of their own.")
    output: Lengths = Field(description="Output tokens of adapters that name none of their own.")
    duration_s: float = Field(default=3600.0, gt=0, le=604_800, description="Seconds of load to judge by.")
    warmup_s: float = Field(default=0.0, ge=0, description="Seconds at the start that the metrics leave out.")

    def findings(self) -> Iterator[Finding]:
        """Yield a warm-up that leaves nothing to measure."""
        if self.warmup_s >= self.duration_s:
            yield Finding(
                ("warmup_s",),
                f"is {self.warmup_s:g}, not below duration_s {self.duration_s:g}",
                "lower it or raise duration_s",
            )
