"""Adapters hotter than a GPU: as few equal parts as the twin accepts, each alone on a GPU."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

import learn
from learn import FeasibilityRegion, Regions
from optimizer.search.dedicated import (
    ENOUGH_REQUESTS,
    DedicatedGPUCheck,
    loosened,
    slot_rank,
    smallest_accepted,
)
from scenarios import AdapterClass, LorapackError

MOST_REPLICAS = 4096
"""Most GPUs that one adapter is split over."""

ASKED_FROM = 0.5
"""Share of a GPU that an adapter fills from which on the twin is asked whether it accepts it alone."""

RATE_STEPS = 16
"""Steps in which the largest rate of an adapter that must stay whole is looked for."""


class InfeasibleError(LorapackError, ArithmeticError):
    """No plan exists; the message names the adapter or the limit, and by how much it is exceeded."""


@dataclass(frozen=True)
class ReplicaSplit:
    """A class whose adapters are served in equal parts.

    Parameters
    ----------
    one
        The class.
    rank
        Least rank of the slots that hold it.
    number
        Parts of an adapter.
    accepted_on
        Device on which the twin accepts a part alone, with slots of that rank; None if it was not asked.
    """

    one: AdapterClass
    rank: int
    number: int = 1
    accepted_on: str | None = None

    @cached_property
    def pieces(self) -> AdapterClass:
        """The class of the parts."""
        return replace(self.one, rate=self.one.rate / self.number, names=self.one.names * self.number)


def replica_split(
    one: AdapterClass, regions: Mapping[str, Regions], alone: DedicatedGPUCheck
) -> ReplicaSplit:
    """As few equal parts of a class's adapters as the twin accepts, each alone on a GPU."""
    scenario, whole = alone.scenario, least_fill(one, regions, "inner")
    if not np.isfinite(whole):
        raise InfeasibleError(
            f'adapter "{one.names[0]}" of rank {one.rank} fits no engine configuration; lower its rank'
        )
    rank = slot_rank(scenario, one.rank)
    if whole <= ASKED_FROM and one.levels is None:
        return ReplicaSplit(one, rank)
    least, guess = (fitting(one, regions, kind) for kind in ("outer", "inner"))
    if not scenario.allow_replicas:
        device, verdict = alone.verdict(one) if least == 1 else ("", None)
        if verdict is not None and verdict.accepted:
            return ReplicaSplit(one, rank, 1, device)
        raise InfeasibleError(_too_hot(one, max(1.0, least_fill(one, regions, "outer")), alone))
    parts = max(guess, int(min(MOST_REPLICAS, one.rate * scenario.workload.duration_s / ENOUGH_REQUESTS)))
    number = smallest_accepted(least, guess, parts, lambda n: alone.verdict(one, 1 / n)[1].accepted)
    if number is None:
        raise InfeasibleError(_rejected(one, parts, alone))
    return ReplicaSplit(one, rank, number, alone.verdict(one, 1 / number)[0])


def fitting(one: AdapterClass, regions: Mapping[str, Regions], kind: str) -> int:
    """Fewest equal parts of an adapter that each fit a GPU by a region; at most `MOST_REPLICAS`."""

    def fits(parts: int) -> bool:
        return least_fill(replace(one, rate=one.rate / parts), regions, kind) <= 1.0

    found = smallest_accepted(1, 2, MOST_REPLICAS, fits)
    if found is None:
        raise InfeasibleError(
            f'adapter "{one.names[0]}" fits no GPU even in {MOST_REPLICAS} parts at {one.rate:g} requests/s; '
            "lower its rate"
        )
    return found


def _too_hot(one: AdapterClass, fill: float, alone: DedicatedGPUCheck) -> str:
    """Why an adapter that fills so many GPUs at least cannot be whole, with what the twin accepts of it."""
    share = next(
        (s for k in range(RATE_STEPS, 0, -1) if alone.verdict(one, s := k / RATE_STEPS / fill)[1].accepted),
        None,
    )
    if share is None:
        return _rejected(one, RATE_STEPS * int(fill), alone)
    return (
        f'adapter "{one.names[0]}" alone needs {1 / share:.2f} GPUs at {one.rate:g} requests/s, and '
        f"allow_replicas is off; lower its rate to {one.rate * share:.3g} requests/s or less, or set "
        "allow_replicas: true"
    )


def _rejected(one: AdapterClass, parts: int, alone: DedicatedGPUCheck) -> str:
    """Why not even a small part of an adapter can be served."""
    device, verdict = alone.verdict(one, 1 / parts)
    said = "; ".join(verdict.reasons)
    part = "" if parts == 1 else f", even 1/{parts} of it"
    remedy = "its service levels" if one.levels is not None else loosened(verdict)
    return f'the twin rejects adapter "{one.names[0]}" alone on {device}{part}: {said}; loosen {remedy}'


def least_fill(one: AdapterClass, regions: Mapping[str, Regions], kind: str) -> float:
    """Smallest share of a GPU that one adapter of the class fills, over all options that hold its rank."""
    sums = learn.additive_features([one])[0]
    options = [o for r in regions.values() for o in region_of(r, kind).options if o.max_lora_rank >= one.rank]
    return min((float(o.fill(sums)) for o in options), default=float("inf"))


def region_of(regions: Regions, kind: str) -> FeasibilityRegion:
    return regions.inner if kind == "inner" else regions.outer
