"""How many requests adapters get: the forms in which an entry may say it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, TypeVar

from pydantic import Discriminator, Field, Tag

from scenarios.base import FrozenModel
from scenarios.reading.findings import Finding
from scenarios.traffic.arrivals import MAX_RATE

T = TypeVar("T")

ONE, SEVERAL, ZIPF, UNCERTAIN = "one value", "several values", "by Zipf's law", "between two values"
"""Tags of the forms that a rank or a rate may have; no key is written so, which messages rely on."""

Rate = Annotated[float, Field(gt=0, le=MAX_RATE)]


class ZipfRates(FrozenModel):
    """Rates that follow Zipf's law: the k-th adapter of n gets total · k^-exponent / Σ j^-exponent."""

    zipf_total: Annotated[float, Field(gt=0, le=10_000_000)]
    """Sum of the rates in requests/s."""
    exponent: Annotated[float, Field(ge=0, le=10)] = 1.0
    """Skew; 0 is uniform."""


class UncertainRate(FrozenModel):
    """A rate that is not known: a plan must hold whether it is low or high."""

    low: Annotated[float, Field(ge=0, le=MAX_RATE)]
    """The least that it may be, in requests/s."""
    high: Rate
    """The most that it may be, in requests/s."""

    def findings(self) -> Iterator[Finding]:
        """Yield a low rate that is above the high one."""
        if self.low > self.high:
            message = f"is {self.low:g}, above high {self.high:g}"
            yield Finding(
                ("low",), message, "lower it or raise high; where the rate is known, give one number"
            )


def form_of(value: object) -> str:
    """Tell how a rank or a rate is written, so that only that form's errors are reported."""
    if isinstance(value, UncertainRate) or (
        isinstance(value, Mapping) and not value.keys().isdisjoint(UncertainRate.model_fields)
    ):
        return UNCERTAIN
    if isinstance(value, Mapping | ZipfRates):
        return ZIPF
    return SEVERAL if isinstance(value, list | tuple) else ONE


def _dealt_form(value: object) -> str:
    """Tell how a rate in a list is written."""
    return UNCERTAIN if form_of(value) == UNCERTAIN else ONE


_DealtRate = Annotated[
    Annotated[Rate, Tag(ONE)] | Annotated[UncertainRate, Tag(UNCERTAIN)], Discriminator(_dealt_form)
]

Rates = Annotated[
    Annotated[Rate, Tag(ONE)]
    | Annotated[UncertainRate, Tag(UNCERTAIN)]
    | Annotated[ZipfRates, Tag(ZIPF)]
    | Annotated[tuple[_DealtRate, ...], Field(min_length=1), Tag(SEVERAL)],
    Discriminator(form_of),
]


def rate_ranges(rate: Rates, count: int) -> tuple[tuple[float, float], ...]:
    """Lowest and highest rate of each of ``count`` adapters in requests/s."""
    if isinstance(rate, ZipfRates):
        weights = [k**-rate.exponent for k in range(1, count + 1)]
        scale = rate.zipf_total / sum(weights)
        return tuple((scale * w, scale * w) for w in weights)
    rates = rate if isinstance(rate, tuple) else (rate,)
    ranges = tuple((r.low, r.high) if isinstance(r, UncertainRate) else (r, r) for r in rates)
    return deal(ranges, count)


def deal(value: T | tuple[T, ...], count: int) -> tuple[T, ...]:
    """What each of ``count`` adapters gets of a list that is dealt round-robin, or of one value."""
    values = value if isinstance(value, tuple) else (value,)
    return tuple(values[k % len(values)] for k in range(count))
