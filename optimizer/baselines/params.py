"""Parameters of the baselines; defaults are what every documented figure was measured with."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from optimizer.packing.model.params import GreedyParams
from scenarios import Params


class BaselineParams(Params):
    """What the rules of others, and the measurement of the throughput that they ask for, can be set to."""

    saturation_s: Annotated[float, Field(gt=0)] = 900.0
    """Seconds of overload that the twin simulates to find the largest throughput of a GPU."""
    first_rate_per_s: Annotated[float, Field(gt=0)] = 16.0
    """Requests/s of the first such run; doubled from run to run."""
    saturated_share: Annotated[float, Field(gt=0, lt=1)] = 0.5
    """Served share of the offered tokens below which a GPU is overloaded for certain."""
    length_tolerance: Annotated[float, Field(ge=0)] = 0.1
    """How far mean lengths may be from those that a measured throughput holds for, relative."""
    adapters_per_gpu: Annotated[int, Field(ge=1)] = 10
    """Adapters on a GPU at most in AIBrix's bin-pack."""
    greedy: GreedyParams = GreedyParams()
    """The paper's greedy where it asks a learned model of the GPU."""


DEFAULTS = BaselineParams()
"""What a function takes that is given no parameters."""
