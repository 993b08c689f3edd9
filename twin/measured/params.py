"""Parameters of the comparison with measured runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from scenarios.params import Params


class FidelityParams(Params):
    """How measured runs are simulated again and judged."""

    starved_shortfall: Annotated[float, Field(gt=0, lt=1)] = 0.10
    """Shortfall of throughput from which a run is starved (the paper's 0.9 of the ideal throughput)."""
    enough_requests: Annotated[int, Field(ge=1)] = 100_000
    """Runs with fewer requests are simulated several times, until there are as many, and averaged."""
    max_replications: Annotated[int, Field(ge=1)] = 4
    """Most simulations of one run."""
    max_open_requests: Annotated[int, Field(ge=1)] = 25_000
    """Requests that a client holds open where the table does not say: Linux gives it 28,232 ports to one
    server, and clients begin to fail somewhat below."""
    plausible_deviations: Annotated[float, Field(gt=0)] = 5.0
    """Standard deviations of a Poisson count within which the counted requests are believed: a client at
    its limit of open requests did not count what it never sent."""
