"""How many tokens a prompt or an answer has."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

import numpy as np
from pydantic import BeforeValidator, Field

from scenarios.base import FrozenModel
from scenarios.reading.findings import Finding
from scenarios.text.formatting import shown

MAX_TOKENS = 10_000_000
"""Longest prompt or answer in tokens."""

UNSTATED_MAX = 131_072
"""The default of `max`, which says nothing of how long the texts are: the twin cuts them to what fits."""


class FixedLengths(FrozenModel):
    """Every request has the same number of tokens; a plain number is short for it."""

    distribution: Literal["fixed"] = "fixed"
    tokens: Annotated[int, Field(ge=1, le=MAX_TOKENS)]
    """Tokens of every request."""

    @property
    def mean_tokens(self) -> float:
        """Mean number of tokens."""
        return float(self.tokens)

    @property
    def longest_tokens(self) -> int:
        """Largest number of tokens."""
        return self.tokens


class LognormalLengths(FrozenModel):
    """Lognormal lengths, rounded and clipped to [min, max].

    ``mean`` is the mean of what is drawn, after rounding and clipping; ``std`` is the standard
    deviation of the underlying lognormal before clipping.
    """

    distribution: Literal["lognormal"] = "lognormal"
    mean: Annotated[float, Field(ge=1, le=MAX_TOKENS)]
    """Mean tokens of the drawn lengths."""
    std: Annotated[float, Field(gt=0, le=MAX_TOKENS)]
    """Standard deviation in tokens before clipping."""
    min: Annotated[int, Field(ge=1, le=MAX_TOKENS)] = 1
    """Shortest length in tokens."""
    max: Annotated[int, Field(ge=1, le=MAX_TOKENS)] = UNSTATED_MAX
    """Longest length in tokens; at its default: what the engine's max_model_len admits."""

    def findings(self) -> Iterator[Finding]:
        """Yield a mean that clipping to [min, max] cannot give."""
        if self.min >= self.max:
            message = f"is {self.min}, not below max {self.max}"
            yield Finding(("min",), message, "lower min or raise max; equal: tokens")
        elif not self.min < self.mean < self.max:
            message = f"is {self.mean:g}, not between min {self.min} and max {self.max}"
            yield Finding(("mean",), message, "move the mean, or widen min and max")

    @property
    def mean_tokens(self) -> float:
        """Mean number of tokens."""
        return self.mean

    @property
    def longest_tokens(self) -> int:
        """Largest number of tokens."""
        return self.max


class HistogramLengths(FrozenModel):
    """Lengths from a histogram: bin i spans [edges[i], edges[i+1]) and has weight weights[i]."""

    distribution: Literal["histogram"] = "histogram"
    edges: Annotated[tuple[float, ...], Field(min_length=2)]
    """Bin edges in tokens, ascending."""
    weights: Annotated[tuple[float, ...], Field(min_length=1)]
    """Weight of each bin; need not sum to 1."""

    def findings(self) -> Iterator[Finding]:
        """Yield edges that do not ascend and weights that do not fit them."""
        if len(self.edges) != len(self.weights) + 1:
            message = f"has {len(self.weights)} values for {len(self.edges)} edges"
            remedy = f"give {len(self.edges) - 1} weights, one for each bin between two edges"
            yield Finding(("weights",), message, remedy)
        if self.edges[0] < 1 or self.edges[-1] > MAX_TOKENS:
            message = f"run from {self.edges[0]:g} to {self.edges[-1]:g}"
            yield Finding(("edges",), message, f"keep them between 1 and {MAX_TOKENS:,} tokens")
        for k, (a, b) in enumerate(zip(self.edges, self.edges[1:], strict=False), start=1):
            if b <= a:
                message = f"is {b:g}, not above the edge before it ({a:g})"
                yield Finding(("edges", k), message, "sort the edges")
        for k, weight in enumerate(self.weights):
            if weight < 0:
                yield Finding(("weights", k), f"is {weight:g}", "give 0 or more")
        if all(weight == 0 for weight in self.weights):
            yield Finding(("weights",), "are all 0", "give at least one bin a weight above 0")

    @property
    def mean_tokens(self) -> float:
        """Mean number of tokens, with each bin at its middle."""
        edges, weights = np.asarray(self.edges), np.asarray(self.weights)
        return float(((edges[:-1] + edges[1:]) / 2 * weights).sum() / weights.sum())

    @property
    def longest_tokens(self) -> int:
        """Largest number of tokens: the end of the last bin that has weight."""
        ends = [end for end, weight in zip(self.edges[1:], self.weights, strict=True) if weight > 0]
        return math.ceil(ends[-1])


_SIGNS = {"fixed": ("tokens",), "lognormal": ("mean", "std"), "histogram": ("edges", "weights")}
"""Keys by which a distribution is known."""


def expand_lengths(value: object) -> object:
    """Spell out the short forms of lengths: a number of tokens, or keys that tell the distribution."""
    if isinstance(value, Mapping):
        if "distribution" in value:
            return value
        for distribution, keys in _SIGNS.items():
            if any(key in value for key in keys):
                return {"distribution": distribution, **value}
        raise Finding((), "does not say how long the texts are", _LENGTHS_REMEDY).error()
    if isinstance(value, int | float) and not isinstance(value, bool):
        return {"distribution": "fixed", "tokens": value}
    if isinstance(value, FrozenModel):
        return value
    raise Finding((), f"is {shown(value)}, not a length", _LENGTHS_REMEDY).error()


_LENGTHS_REMEDY = (
    "give a number of tokens, {mean, std, min, max} for lognormal, or {edges, weights} for a histogram"
)

_AnyLengths = Annotated[
    FixedLengths | LognormalLengths | HistogramLengths, Field(discriminator="distribution")
]

Lengths = Annotated[
    _AnyLengths,
    BeforeValidator(
        expand_lengths, json_schema_input_type=_AnyLengths | Annotated[int, Field(ge=1, le=MAX_TOKENS)]
    ),
]
