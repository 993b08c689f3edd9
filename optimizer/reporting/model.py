"""A scenario as the linear rows see it, without a word from the twin: for other loads and other GPUs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import twin
from learn import Regions
from optimizer.search.dedicated import slot_rank
from optimizer.search.instance import Instance, build_instance
from optimizer.search.level_rows import RowVariant, known_regions_of, known_variants
from optimizer.search.params import SolveParams
from optimizer.search.preparation import may_group
from optimizer.search.splitting import COLD, InfeasibleError, ReplicaSplit, called, fewest_parts, least_fills
from scenarios import AdapterClass, Deadline, Scenario
from twin import EngineProfile, TwinJudge


@dataclass(frozen=True)
class KnownRows:
    """The linear rows of a scenario, as far as they are known without learning.

    Parameters
    ----------
    scenario
        The scenario.
    profiles, regions
        Engine profile and regions of each device.
    variants
        The rows of GPUs with adapters that have levels of their own.
    """

    scenario: Scenario
    profiles: Mapping[str, EngineProfile]
    regions: Mapping[str, Regions]
    variants: tuple[RowVariant, ...]

    @property
    def starts(self) -> bool:
        """Whether any engine starts on any of the devices."""
        return any(one.inner.options for one in self.regions.values())


def known_rows(scenario: Scenario, params: SolveParams, deadline: Deadline, workers: int) -> KnownRows | None:
    """The rows of a scenario that are shipped or cached; None where some would have to be learned.

    Where step costs are derived, the twin says how far rows of the expected costs are to be scaled.

    Raises
    ------
    LorapackError
        If an engine profile is not to be had.
    Stopped
        If the deadline passes.
    """
    judge = TwinJudge(scenario, twin.profiles_of(scenario), workers)
    regions = known_regions_of(judge, deadline, params)
    variants = None if regions is None else known_variants(judge, regions, deadline, params)
    if regions is None or variants is None:
        return None
    return KnownRows(scenario, judge.profiles, regions, variants)


def model_instance(rows: KnownRows, scenario: Scenario, params: SolveParams) -> Instance:
    """The packing problems of a scenario by rows alone: hot adapters are in as few parts as fit the rows.

    Parameters
    ----------
    rows
        Rows of the same scenario, at whatever rates.
    scenario
        What is to be served.
    params
        Parameters.

    Raises
    ------
    InfeasibleError
        If an adapter fits no GPU.
    """
    fills, splits = least_fills(scenario, rows.regions), list[ReplicaSplit]()
    for members, fill in zip(scenario.classes, fills, strict=True):
        splits += _split(rows, scenario, members, float(fill), params)
    apart = any(one.min_replicas > 1 for one in scenario.classes)
    grouping = params.grouping if not apart and may_group(scenario, params) else None
    return build_instance(
        scenario,
        rows.profiles,
        rows.regions,
        splits,
        None,
        params.splitting,
        grouping,
        () if grouping else rows.variants,
    )


def _split(
    rows: KnownRows, scenario: Scenario, members: AdapterClass, fill: float, params: SolveParams
) -> list[ReplicaSplit]:
    """In how many equal parts a class's adapters fit the rows; the base model in small ones.

    Parameters
    ----------
    fill
        Share of a GPU that one of the adapters fills, to rounding.
    """
    rank, least = slot_rank(scenario, members.rank), members.min_replicas
    if not math.isfinite(fill):
        raise InfeasibleError(f"{called(members)} fits no engine configuration")
    most = params.splitting.max_replicas
    if members.rank == 0 and scenario.allow_replicas:
        parts = min(max(math.ceil(fill / params.splitting.base_part), 1), most)
        parts = least * math.ceil(parts / least)
        if parts > 1:
            return [ReplicaSplit(replace(members, names=(name,)), rank, parts) for name in members.names]
        return [ReplicaSplit(members, rank)]
    parts = 1 if fill <= COLD else fewest_parts(scenario, members, rows.regions, "inner", most)
    if parts > 1 and not scenario.allow_replicas:
        raise InfeasibleError(f"{called(members)} fills {fill:.2f} GPUs, and allow_replicas is off")
    return [ReplicaSplit(members, rank, max(parts, least))]
