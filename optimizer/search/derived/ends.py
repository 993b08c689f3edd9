"""Plans with derived step costs: at the pessimistic, the expected and the optimistic end of what they may be.

Regions are learned for the expected costs alone. At another end the rows keep their slopes, and their bounds
are scaled by what the twin says a GPU of that end can take of the same adapters, as a share of what it can
take at the expected costs: an approximation, exact where all costs are off by one factor. The twin judges
every GPU at the end itself.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import islice

import twin
from learn import FeasibilityRegion, OptionRows, Regions
from scenarios import AdapterKind, Deadline, EngineOption, Scenario, padded_rank
from twin import LABEL, End, EngineProfile, GPUContent, TwinJudge


@dataclass(frozen=True)
class Capacity:
    """What a GPU takes at an end, as a share of what it takes at the expected costs.

    Parameters
    ----------
    least, most
        Of the contents that were tried: for rows that are to hold, and for rows that nothing is to pass.
    """

    least: float
    most: float


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
        return {device.name: Capacity(1.0, 1.0) for device in judge.scenario.devices}
    scenario = expected.scenario.model_copy(update={"replications": 1})
    usual, there = (TwinJudge(scenario, one.profiles, one.workers, effort=LABEL) for one in (expected, judge))
    found = {}
    for device in scenario.devices:
        if expected.profiles[device.name].derived is None:
            found[device.name] = Capacity(1.0, 1.0)
            continue
        contents = list(_probes(scenario, expected.profiles[device.name], device.name))
        before, after = (one.growth_factors(contents, deadline) for one in (usual, there))
        shares = [b / a for a, b in zip(before, after, strict=True) if a is not None and b is not None]
        found[device.name] = Capacity(min(shares, default=1.0), max(shares, default=1.0))
    return found


def _probes(scenario: Scenario, profile: EngineProfile, device: str) -> Iterator[GPUContent]:
    """A GPU of a device with a slot for each adapter, and one with twice as many adapters as slots."""
    rank = scenario.engine.max_lora_rank or padded_rank(max(c.rank for c in scenario.classes))
    slots = [s for s in scenario.engine.slot_choices if _starts(scenario, profile, device, s, rank)]
    if not slots:
        return
    middle = slots[len(slots) // 2]
    dealt = list(islice(_dealt(scenario), 2 * middle))
    for count in dict.fromkeys((min(middle, len(dealt)), len(dealt))):
        kinds = Counter(kind.at(high=True) for kind in dealt[:count])
        yield GPUContent(EngineOption(device, middle, rank), tuple(kinds.items()))


def _dealt(scenario: Scenario) -> Iterator[AdapterKind]:
    """The kinds of a scenario's adapters, one of each class in turn."""
    left = {k: c.count for k, c in enumerate(scenario.classes)}
    while left:
        for k in list(left):
            yield scenario.classes[k].kind
            left[k] -= 1
            if not left[k]:
                del left[k]


def _starts(scenario: Scenario, profile: EngineProfile, device: str, slots: int, rank: int) -> bool:
    of_device = next(one for one in scenario.devices if one.name == device)
    memory = profile.memory_of(of_device)
    return twin.plan_memory(profile.memory, scenario.engine, memory, slots, rank).starts


def scaled(regions: Regions, capacity: Capacity) -> Regions:
    """Regions at an end: inner rows for the least that a GPU takes there, outer ones for the most."""
    if capacity == Capacity(1.0, 1.0):
        return regions
    return regions.model_copy(
        update={
            "inner": _with_bounds(regions.inner, capacity.least),
            "outer": _with_bounds(regions.outer, capacity.most),
        }
    )


def _with_bounds(region: FeasibilityRegion, factor: float) -> FeasibilityRegion:
    def times(option: OptionRows) -> OptionRows:
        rows = tuple(row.model_copy(update={"bound": row.bound * factor}) for row in option.rows)
        return option.model_copy(update={"rows": rows})

    return region.model_copy(update={"options": tuple(map(times, region.options))})
