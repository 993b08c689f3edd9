"""How many tokens a prompt or an answer has."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_TOKENS = 10_000_000


class _Lengths(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FixedLengths(_Lengths):
    """Every request has the same number of tokens."""

    distribution: Literal["fixed"] = "fixed"
    tokens: int = Field(ge=1, le=MAX_TOKENS, description="Tokens of every request.")

    @property
    def mean_tokens(self) -> float:
        """Mean number of tokens."""
        return float(self.tokens)


class LognormalLengths(_Lengths):
    """Lognormal lengths, rounded and clipped to [min, max].

    ``mean`` is the mean of what is drawn, after rounding and clipping; ``std`` is the standard
    deviation of the underlying lognormal before clipping.
    """

    distribution: Literal["lognormal"] = "lognormal"
    mean: float = Field(ge=1, le=MAX_TOKENS, description="Mean tokens of the drawn lengths.")
    std: float = Field(gt=0, le=MAX_TOKENS, description="Standard deviation in tokens before clipping.")
    min: int = Field(default=1, ge=1, le=MAX_TOKENS, description="Shortest length in tokens.")
    max: int = Field(default=131_072, ge=1, le=MAX_TOKENS, description="Longest length in tokens.")

    @model_validator(mode="after")
    def _mean_inside(self) -> LognormalLengths:
        if not self.min < self.mean < self.max:
            raise ValueError(f"mean {self.mean:g} must lie between min {self.min} and max {self.max}")
        return self

    @property
    def mean_tokens(self) -> float:
        """Mean number of tokens."""
        return self.mean


class HistogramLengths(_Lengths):
    """Lengths from a histogram: bin i spans [edges[i], edges[i+1]) and has weight weights[i]."""

    distribution: Literal["histogram"] = "histogram"
    edges: tuple[float, ...] = Field(min_length=2, description="Bin edges in tokens, ascending.")
    weights: tuple[float, ...] = Field(min_length=1, description="Weight of each bin; need not sum to 1.")

    @model_validator(mode="after")
    def _consistent(self) -> HistogramLengths:
        if len(self.edges) != len(self.weights) + 1:
            raise ValueError(
                f"needs one more edge than weights, has {len(self.edges)} and {len(self.weights)}"
            )
        if any(b <= a for a, b in zip(self.edges, self.edges[1:], strict=False)) or self.edges[0] < 1:
            raise ValueError("edges must ascend and start at 1 or above")
        if any(w < 0 for w in self.weights) or sum(self.weights) <= 0:
            raise ValueError("weights must be at least 0 and not all 0")
        return self

    @property
    def mean_tokens(self) -> float:
        """Mean number of tokens, with each bin at its middle."""
        edges, weights = np.asarray(self.edges), np.asarray(self.weights)
        return float(((edges[:-1] + edges[1:]) / 2 * weights).sum() / weights.sum())


Lengths = Annotated[FixedLengths | LognormalLengths | HistogramLengths, Field(discriminator="distribution")]
