"""Parameters of the comparison with measured runs."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from scenarios import Params


class FidelityParams(Params):
    """How measured runs are simulated again and judged."""

    starved_shortfall: Annotated[float, Field(gt=0, lt=1)] = 0.10
    """Shortfall of throughput from which a run is starved (the paper's 0.9 of the ideal throughput)."""
    enough_requests: Annotated[int, Field(ge=1)] = 100_000
    """Runs with fewer requests are simulated several times, until there are as many, and averaged."""
    max_replications: Annotated[int, Field(ge=1)] = 4
    """Most simulations of one run."""
