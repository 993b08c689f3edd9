"""How far a deployed fleet may be from what the twin foretold before a check says so."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from scenarios import Params

Positive = Annotated[float, Field(gt=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
NotNegative = Annotated[float, Field(ge=0)]


class CheckParams(Params):
    """Tolerances of `optimizer.check`, and when its run is broken off.

    A latency may be longer, and a throughput smaller, by the share given here than at the slow end of what
    the engine's profile says (``deviations``).
    """

    throughput: Share = 0.05
    """Share by which tokens per second, and the share served, may be smaller."""
    itl: Positive = 0.15
    """Share by which the mean inter-token latency may be longer, and the time per output token."""
    ttft: Positive = 0.30
    """Share by which the mean time to first token may be longer, and its median."""
    p99: Positive = 1.0
    """Share by which a 99th percentile may be longer."""
    slack_ms: NotNegative = 2.0
    """Milliseconds by which every latency may be longer beside: the way from the client to the server."""
    deviations: NotNegative = 2.0
    """Standard deviations of the profile's step times between what is expected and either end of it."""
    chance: Share = 0.001
    """Probability of so many late requests, at the limit or as foretold, below which they are no chance."""
    failed_share: NotNegative = 0.001
    """Share of the requests that may fail."""
    kv_cache: NotNegative = 0.02
    """Share by which the KV cache of a server may differ from the plan's before it is told."""
    client_lag_s: Positive = 0.1
    """Seconds by which the client may be late in sending (99th percentile) for its figures to be trusted."""
    foreign_share: NotNegative = 0.01
    """Requests of others that a server may have answered meanwhile, as a share of those sent."""
    adapter_requests: Annotated[int, Field(ge=1)] = 30
    """Answered requests of an adapter from which on its latencies are compared."""
    error_share: Share = 0.1
    """Share of the answers that may be failures before the run is broken off."""
    stall_s: Positive = 600.0
    """Seconds to wait for the next piece of an answer before the request has failed; what comes later than
    its patience, but comes, is late."""
