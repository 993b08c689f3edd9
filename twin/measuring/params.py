"""Parameters of a measurement: how long, how many requests, how far into overload."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from scenarios import Params
from scenarios.reading.findings import Finding

Seconds = Annotated[float, Field(gt=0, le=86_400)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Factor = Annotated[float, Field(gt=0, le=4)]


class MeasureParams(Params):
    """What a live server is sent."""

    load_factors: Annotated[tuple[Factor, ...], Field(min_length=1, max_length=32)] = (
        0.3,
        0.85,
        1.3,
        0.6,
        1.0,
        0.75,
        0.15,
    )
    """Loads of the runs, as shares of what the server can do by the batches before; in the order of sending,
    so that a measurement that is cut short has seen both ends."""
    runs_share: Annotated[float, Field(gt=0, lt=1)] = 0.6
    """Share of the time that the runs get."""
    batch_sizes: Count = 5
    """Batches of different sizes, from 1 to what the server takes."""
    batch_s: Seconds = 10.0
    """Most seconds of a batch of fixed size, but for two answers of each of its requests."""
    prompt_tokens: Count = 250
    """Mean prompt tokens of the runs; fewer where a run would have too few requests."""
    output_tokens: Count = 230
    """Mean answer tokens of the runs, likewise."""
    run_requests: Count = 300
    """Requests that a run at full load should have at least, for which lengths are made shorter."""
    skew: Annotated[float, Field(ge=0, le=3)] = 1.0
    """Exponent of Zipf's law of the adapters' popularity in every other run; in the others all are alike."""
    watch_s: Seconds = 5.0
    """Seconds from one reading of the server's metrics to the next during a run."""
    max_requests: Count = 20_000
    """Most requests of the whole measurement."""
    max_error_share: Annotated[float, Field(gt=0, lt=1)] = 0.02
    """Share of answers that may be failures before the measurement is broken off."""
    answer_timeout_s: Seconds = 300.0
    """Seconds that an answer may take."""

    def findings(self) -> Iterator[Finding]:
        """Yield loads of which none is below what the server can do."""
        if min(self.load_factors) >= 1:
            message = f"are {list(self.load_factors)}, all of them overloads"
            yield Finding(("load_factors",), message, "give some below 1: latencies at ease are wanted too")
