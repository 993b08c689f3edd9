"""Adapters hotter than a GPU: as few equal parts as the twin accepts, each alone on a GPU."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

import learn
from learn import FeasibilityRegion, Regions
from optimizer.packing.model.problem import FloatArray
from optimizer.search.dedicated import (
    DedicatedGPUCheck,
    judged_requests,
    loosened,
    slot_rank,
    smallest_accepted,
)
from optimizer.search.params import SplittingParams
from scenarios import AdapterClass, LorapackError, Scenario

COLD = 0.99
"""Share of the threshold from which on an adapter is looked at by itself."""


class InfeasibleError(LorapackError, ArithmeticError):
    """No plan exists; the message names the adapter or the limit, and by how much it is exceeded."""


@dataclass(frozen=True)
class ReplicaSplit:
    """A class whose adapters are served in equal parts, or one entry of the base model that is.

    Parameters
    ----------
    members
        The class.
    rank
        Least rank of the slots that hold it.
    replicas
        Equal parts of an adapter.
    accepted_on
        Device on which the twin accepts a part alone, with slots of that rank; None if it was not asked.
    """

    members: AdapterClass
    rank: int
    replicas: int = 1
    accepted_on: str | None = None

    @property
    def hot(self) -> bool:
        """Whether the parts are more than were asked for, as the adapters are hotter than a GPU."""
        return self.replicas > self.members.min_replicas

    @property
    def most_together(self) -> int:
        """Most parts that one GPU may serve where the least replicas are on GPUs of their own."""
        finer = self.replicas // self.members.min_replicas if self.members.rank == 0 else 1
        return self.members.count * finer

    @cached_property
    def replica_class(self) -> AdapterClass:
        """The class of the parts."""
        return replace(
            self.members, rate=self.members.rate / self.replicas, names=self.members.names * self.replicas
        )


def split_hot_adapters(
    regions: Mapping[str, Regions], check: DedicatedGPUCheck, params: SplittingParams
) -> list[ReplicaSplit]:
    """In how many equal parts the adapters of each class of a scenario are served.

    Each entry of the base model that is served in parts is a class of its own, as its parts on one GPU are
    one share of it.

    Raises
    ------
    InfeasibleError
        If an adapter fits no GPU, or must stay whole and fills more than one.
    """
    splitter = _Splitter(regions, check, params)
    classes = check.scenario.classes
    cold = least_fills(check.scenario, regions) <= COLD * params.asked_from
    splits: list[ReplicaSplit] = []
    for members, light in zip(classes, cold, strict=True):
        if members.rank == 0 and check.scenario.allow_replicas:
            splits += splitter.split_base(members)
        elif light and members.levels is None:
            splits.append(ReplicaSplit(members, slot_rank(check.scenario, members.rank)))
        else:
            splits.append(splitter.split(members))
    return [replace(one, replicas=max(one.replicas, one.members.min_replicas)) for one in splits]


def least_fills(scenario: Scenario, regions: Mapping[str, Regions]) -> FloatArray:
    """`least_fill` of each class of a scenario on the inner region, of all at once: to rounding."""
    classes = scenario.classes
    sums, ranks = learn.scenario_features(scenario, classes), np.array([one.rank for one in classes])
    least = np.full(len(classes), np.inf)
    for option in (o for one in regions.values() for o in one.inner.options):
        fits = option.max_lora_rank >= ranks
        least[fits] = np.minimum(least[fits], option.fill(sums[fits]))
    return least


@dataclass(frozen=True)
class _Splitter:
    """Looks for the fewest equal parts that the twin accepts, each alone on a GPU."""

    regions: Mapping[str, Regions]
    check: DedicatedGPUCheck
    params: SplittingParams

    def split(self, members: AdapterClass) -> ReplicaSplit:
        """The fewest equal parts of a class's adapters."""
        scenario = self.check.scenario
        whole = least_fill(scenario, members, self.regions, "inner")
        if not np.isfinite(whole):
            raise InfeasibleError(
                f"{called(members)} of rank {members.rank} fits no engine configuration; lower its rank"
            )
        rank = slot_rank(scenario, members.rank)
        if whole <= self.params.asked_from and members.levels is None:
            return ReplicaSplit(members, rank)
        limit = self.params.max_replicas
        least, guess = (
            fewest_parts(scenario, members, self.regions, kind, limit) for kind in ("outer", "inner")
        )
        if not scenario.allow_replicas:
            return self._whole(members, rank, least)
        # A part of fewer requests than that is judged by chance.
        judged = judged_requests(scenario, members.rate, members.arrivals) / self.params.min_requests
        upper = max(guess, int(min(limit, judged)))
        number = smallest_accepted(
            least, guess, upper, lambda n: self.check.verdict(members, 1 / n)[1].accepted
        )
        if number is None:
            raise InfeasibleError(self._rejected(members, upper))
        return ReplicaSplit(members, rank, number, self.check.verdict(members, 1 / number)[0])

    def split_base(self, members: AdapterClass) -> list[ReplicaSplit]:
        """Entries of the base model in small parts, as any GPU can serve any share of their requests.

        Small ones stay whole.
        """
        scenario, params, least = self.check.scenario, self.params, members.min_replicas
        fill = least_fill(scenario, members, self.regions, "inner")
        if not np.isfinite(fill):
            raise InfeasibleError(f"{called(members)} fits no engine configuration")
        judged = judged_requests(scenario, members.rate, members.arrivals)
        finest = max(1, int(judged / params.min_requests))
        parts = min(max(math.ceil(fill / params.base_part), 1), params.max_replicas, max(finest, least))
        parts = least * math.ceil(parts / least)
        rank = slot_rank(scenario, members.rank)
        if members.levels is not None and not self.check.verdict(members, 1 / parts)[1].accepted:
            raise InfeasibleError(self._rejected(members, parts))
        if parts == 1:
            return [ReplicaSplit(members, rank)]
        return [ReplicaSplit(replace(members, names=(name,)), rank, parts) for name in members.names]

    def _whole(self, members: AdapterClass, rank: int, least: int) -> ReplicaSplit:
        """An adapter that must stay whole, on the device on which the twin accepts it."""
        if least == 1:
            device, verdict = self.check.verdict(members)
            if verdict.accepted:
                return ReplicaSplit(members, rank, 1, device)
        fill = least_fill(self.check.scenario, members, self.regions, "outer")
        raise InfeasibleError(self._too_hot(members, max(1.0, fill)))

    def _too_hot(self, members: AdapterClass, fill: float) -> str:
        """Why an adapter that fills at least so many GPUs cannot be whole, and how much of it can."""
        steps = self.params.rate_steps
        shares = (k / steps / fill for k in range(steps, 0, -1))
        share = next((s for s in shares if self.check.verdict(members, s)[1].accepted), None)
        if share is None:
            return self._rejected(members, steps * int(fill))
        return (
            f"{called(members)} alone needs {1 / share:.2f} GPUs at {members.rate:g} requests/s, "
            f"and allow_replicas is off; lower its rate to {members.rate * share:.3g} requests/s or less, "
            "or set allow_replicas: true"
        )

    def _rejected(self, members: AdapterClass, parts: int) -> str:
        """Why not even a small part of an adapter can be served."""
        device, verdict = self.check.verdict(members, 1 / parts)
        reasons = "; ".join(verdict.reasons)
        part = "" if parts == 1 else f", even 1/{parts} of it"
        remedy = "its service levels" if members.levels is not None else loosened(verdict)
        rejected = f"the twin rejects {called(members)} alone on {device}{part}"
        return f"{rejected}: {reasons}; loosen {remedy}"


def fewest_parts(
    scenario: Scenario, members: AdapterClass, regions: Mapping[str, Regions], kind: str, limit: int
) -> int:
    """Fewest equal parts of an adapter, at most ``limit``, that each fit a GPU by a region.

    Raises
    ------
    InfeasibleError
        If not even ``limit`` parts fit.
    """

    def fits(parts: int) -> bool:
        return least_fill(scenario, replace(members, rate=members.rate / parts), regions, kind) <= 1.0

    number = smallest_accepted(1, 2, limit, fits)
    if number is None:
        raise InfeasibleError(
            f"{called(members)} fits no GPU even in {limit} parts at {members.rate:g} requests/s; "
            "lower its rate"
        )
    return number


def least_fill(scenario: Scenario, members: AdapterClass, regions: Mapping[str, Regions], kind: str) -> float:
    """Smallest share of a GPU that one adapter of the class fills, over all options that hold its rank."""
    sums = learn.scenario_features(scenario, [members])[0]
    options = [
        o for r in regions.values() for o in region_of(r, kind).options if o.max_lora_rank >= members.rank
    ]
    return min((float(o.fill(sums)) for o in options), default=float("inf"))


def called(members: AdapterClass) -> str:
    """The first of a class as messages call it."""
    return f'{"the base model" if members.rank == 0 else "adapter"} "{members.names[0]}"'


def region_of(regions: Regions, kind: str) -> FeasibilityRegion:
    """The inner region, which plans fill, or the outer one as bounds need it."""
    return regions.inner if kind == "inner" else regions.outer.bounding
