"""Service levels: what a GPU, and the adapters on it, must get for a plan to be accepted."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Annotated

from pydantic import Field

from scenarios.base import FrozenModel
from scenarios.reading.findings import Finding


class LatencyLimits(FrozenModel):
    """Upper limits on a latency, each optional, in milliseconds."""

    mean: Annotated[float | None, Field(gt=0)] = None
    """Limit on the mean in ms."""
    p50: Annotated[float | None, Field(gt=0)] = None
    """Limit on the median in ms."""
    p90: Annotated[float | None, Field(gt=0)] = None
    """Limit on the 90th percentile in ms."""
    p95: Annotated[float | None, Field(gt=0)] = None
    """Limit on the 95th percentile in ms."""
    p99: Annotated[float | None, Field(gt=0)] = None
    """Limit on the 99th percentile in ms."""

    def findings(self) -> Iterator[Finding]:
        """Yield a limit on a higher percentile that is below that on a lower one."""
        keys = ("p50", "p90", "p95", "p99")
        limits = [(key, limit) for key in keys if (limit := getattr(self, key)) is not None]
        for (low, lower), (high, upper) in pairwise(limits):
            if upper < lower:
                yield Finding((high,), f"is {upper:g}, below {low} {lower:g}", f"raise {high} or lower {low}")


class ServiceLevelObjectives(FrozenModel):
    """What every GPU and every adapter must get for a plan to be accepted."""

    patience_s: Annotated[float, Field(gt=0, le=86_400)] = 10.0
    """Seconds that a request may wait for its first token (acceptance: sustained)."""
    late_share: Annotated[float, Field(gt=0, lt=1)] = 0.01
    """Share of the requests that may wait longer (acceptance: sustained)."""
    served_share: float = Field(
        default=0.9,
        gt=0,
        le=1,
        description="Least served/offered tokens of a GPU (acceptance: paper). Requests in flight at the end "
        "count as unserved, so that no finite duration_s gives a share of 1.",
    )
    adapter_served_share: Annotated[float, Field(gt=0, le=1)] = 0.9
    """Least served/offered tokens of each adapter (acceptance: paper)."""
    itl_ms: LatencyLimits = LatencyLimits()
    """Limits on inter-token latency per GPU."""
    ttft_ms: LatencyLimits = LatencyLimits()
    """Limits on time to first token per GPU."""
    tpot_ms: LatencyLimits = LatencyLimits()
    """Limits on the time per output token of a request after its first, per GPU."""
    e2e_ms: LatencyLimits = LatencyLimits()
    """Limits on the time from a request's arrival to its last token, per GPU."""


class AdapterSLO(FrozenModel):
    """Levels for the adapters of one entry, each optional.

    Latencies are over all requests of the entry's adapters of equal rank, rate and lengths on a GPU; ITL
    percentiles are over their requests' mean gaps, as those of TPOT.
    """

    patience_s: Annotated[float | None, Field(gt=0, le=86_400)] = None
    """Seconds that a request of its adapters may wait for its first token (acceptance: sustained)."""
    served_share: Annotated[float | None, Field(gt=0, le=1)] = None
    """Least served/offered tokens of each of its adapters; not below the scenario's adapter_served_share
    (acceptance: paper)."""
    itl_ms: LatencyLimits = LatencyLimits()
    """Limits on inter-token latency."""
    ttft_ms: LatencyLimits = LatencyLimits()
    """Limits on time to first token."""
    tpot_ms: LatencyLimits = LatencyLimits()
    """Limits on the time per output token of a request after its first."""
    e2e_ms: LatencyLimits = LatencyLimits()
    """Limits on the time from a request's arrival to its last token."""
