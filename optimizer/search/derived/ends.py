"""Plans with derived step costs: at the pessimistic, the expected and the optimistic end of what they may be.

Regions are learned for the expected costs alone. At another end the rows keep their slopes, and their bounds
are scaled by what the twin says a GPU of that end can take of the same adapters, as a share of what it can
take at the expected costs: an approximation, exact where all costs are off by one factor. The share depends
on the slots most, as costs of adapters are less sure than others; so it is asked at a few numbers of them.
The twin judges every GPU at the end itself.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np

import learn
from learn import FeasibilityRegion, OptionRows, Regions
from scenarios import AdapterKind, Deadline, EngineOption, Scenario
from twin import LABEL, End, EngineProfile, GPUContent, TwinJudge
from twin.memory import kv_cache_if_started

SLACK = 0.02
"""What outer rows are wider than the most that was found: the twin's answers are to 1 % each, and between the
numbers of slots and the ranks that were tried the share is up to 1 % off."""


@dataclass(frozen=True)
class Capacity:
    """What a GPU takes at an end, as a share of what it takes at the expected costs.

    Parameters
    ----------
    slots
        The numbers of slots that were tried, ascending; empty where nothing is off.
    least, most
        Of the contents that were tried with each: for rows that are to hold, and for rows that nothing is to
        pass.
    """

    slots: tuple[int, ...] = ()
    least: tuple[float, ...] = ()
    most: tuple[float, ...] = ()

    def inner(self, slots: int) -> float:
        """The factor on the bounds of inner rows with so many slots."""
        return self._between(slots, self.least) if self.slots else 1.0

    def outer(self, slots: int) -> float:
        """The factor on the bounds of outer rows with so many slots."""
        return (1 + SLACK) * self._between(slots, self.most) if self.slots else 1.0

    def _between(self, slots: int, shares: tuple[float, ...]) -> float:
        return float(np.interp(math.log(slots), np.log(self.slots), shares))


def at_end(profiles: Mapping[str, EngineProfile], end: End) -> dict[str, EngineProfile]:
    """The profiles at an end; measured ones stay."""
    return {name: one if one.derived is None else one.at(end) for name, one in profiles.items()}


def expected_of(judge: TwinJudge) -> TwinJudge:
    """A judge at the expected costs, which shares nothing with the one at an end; the same if that is it."""
    profiles = at_end(judge.profiles, "expected")
    return judge if profiles == judge.profiles else replace(judge, profiles=profiles, _known={})


def capacities(expected: TwinJudge, judge: TwinJudge, deadline: Deadline) -> dict[str, Capacity]:
    """What GPUs take at the end that a judge is of; 1 for devices whose profiles are measured.

    Parameters
    ----------
    expected, judge
        The twin with the expected costs, and with those of the end.
    deadline
        When to stop asking.

    Raises
    ------
    Stopped
        If it passes.
    """
    if expected is judge:
        return {device.name: Capacity() for device in judge.scenario.devices}
    scenario = expected.scenario.model_copy(update={"replications": 1})
    usual, there = (TwinJudge(scenario, one.profiles, one.workers, effort=LABEL) for one in (expected, judge))
    found = {}
    for device in scenario.devices:
        contents = list(_probes(scenario, expected.profiles[device.name], device.name))
        before, after = (one.growth_factors(contents, deadline) for one in (usual, there))
        shares: dict[int, list[float]] = {}
        for content, a, b in zip(contents, before, after, strict=True):
            if a is not None and b is not None:
                shares.setdefault(content.option.max_loras, []).append(b / a)
        slots = sorted(shares)
        least, most = (tuple(of(shares[s]) for s in slots) for of in (min, max))
        found[device.name] = Capacity(tuple(slots), least, most)
    return found


def _probes(scenario: Scenario, profile: EngineProfile, device: str) -> Iterator[GPUContent]:
    """GPUs with the fewest, some and the most slots, of the least rank and of the greatest.

    Each has an adapter for every slot, and some are asked to serve twice as many too. None if the costs of
    the device were measured.
    """
    if profile.derived is None:
        return
    ranks = learn.needed_ranks(scenario)
    greatest = scenario.engine.max_lora_rank or ranks[-1]
    least = scenario.engine.max_lora_rank or ranks[0]
    for rank in (least, greatest):
        choices = [s for s in scenario.engine.slot_choices if _starts(scenario, profile, device, s, rank)]
        if not choices:
            continue
        middle, dealt = choices[len(choices) // 2], list(islice(_dealt(scenario, rank), 2 * choices[-1]))
        for slots, times in ((choices[0], 1), (middle, 1), (choices[-1], 1), (middle, 2)):
            kinds = Counter(kind.at(high=True) for kind in dealt[: times * slots])
            adapters = sum(n for kind, n in kinds.items() if not kind.is_base)
            option = EngineOption(device, min(slots, max(adapters, 1)), rank)
            yield GPUContent(option, tuple(kinds.items()))


def _dealt(scenario: Scenario, rank: int) -> Iterator[AdapterKind]:
    """The kinds of a scenario's adapters up to a rank, one of each class in turn."""
    left = {k: c.count for k, c in enumerate(scenario.classes) if c.rank <= rank}
    while left:
        for k in list(left):
            yield scenario.classes[k].kind
            left[k] -= 1
            if not left[k]:
                del left[k]


def _starts(scenario: Scenario, profile: EngineProfile, device: str, slots: int, rank: int) -> bool:
    of_device = next(one for one in scenario.devices if one.name == device)
    memory = profile.memory_of(of_device)
    return kv_cache_if_started(profile.memory, scenario.engine, memory, slots, rank) is not None


def scaled(regions: Regions, capacity: Capacity) -> Regions:
    """Regions at an end: inner rows for the least that a GPU takes there, outer ones for the most."""
    if not capacity.slots:
        return regions
    return regions.model_copy(
        update={
            "inner": _with_bounds(regions.inner, capacity.inner),
            "outer": _with_bounds(regions.outer, capacity.outer),
        }
    )


def _with_bounds(region: FeasibilityRegion, factor: Callable[[int], float]) -> FeasibilityRegion:
    def times(option: OptionRows) -> OptionRows:
        by = factor(option.max_loras)
        rows = tuple(row.model_copy(update={"bound": row.bound * by}) for row in option.rows)
        return option.model_copy(update={"rows": rows})

    return region.model_copy(update={"options": tuple(map(times, region.options))})
