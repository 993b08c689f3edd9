"""A scenario as the placers see it: classes, and the packing problems on its inner and outer region."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

import learn
from learn import OptionRows, Regions
from optimizer.packing.model.problem import PackingOption, PackingProblem
from optimizer.search.grouping.groups import Groups, grouped
from optimizer.search.level_rows import RowVariant
from optimizer.search.objectives import latency_objective_of, price, prices_of
from optimizer.search.params import GroupingParams, SplittingParams
from optimizer.search.splitting import ReplicaSplit, called, fewest_parts, region_of
from scenarios import AdapterClass, AdapterSLO, Device, EngineOption, Scenario
from twin import EngineProfile

NAMED = 3
"""Split adapters that a message names."""


@dataclass(frozen=True)
class Instance:
    """What the placers, the judge and the results need of one scenario.

    Parameters
    ----------
    scenario
        The scenario.
    profiles, regions
        Engine profile and linear regions of each device.
    classes
        Classes of identical adapters; an adapter hotter than a GPU appears as several replicas of equal
        rate, its name repeated.
    shares
        Fraction of its adapter's requests that a replica of each class stands for, shape (n_classes,).
    inner, outer
        The problem on the conservative region, which placers fill, and on the optimistic one, for bounds.
        What the twin accepts alone on a GPU fits one in both.
    divisible
        The outer problem with the adapters that are split cut wherever one likes, so that its continuous
        relaxation bounds unequal shares too; None if none is split, or all are in groups.
    groups
        What stands behind ``classes`` where those are groups of adapters that are only alike; else None. The
        inner problem counts them by their members' mean then, and the outer one by their least, which holds
        for unequal shares too.
    served
        The figures of the adapters behind the groups; None without groups.
    variants
        The rows of the options, by which adapters of levels of their own a GPU holds; the first are
        ``regions``.
    """

    scenario: Scenario
    profiles: Mapping[str, EngineProfile]
    regions: Mapping[str, Regions]
    classes: tuple[AdapterClass, ...]
    shares: tuple[float, ...]
    inner: PackingProblem
    outer: PackingProblem
    divisible: PackingProblem | None = None
    groups: Groups | None = None
    served: Served | None = None
    variants: tuple[RowVariant, ...] = ()

    def regions_of(self, device: str, levels: Iterable[AdapterSLO | None]) -> Regions:
        """The regions of GPUs that hold adapters with these levels of their own."""
        held = set(levels)
        admitting = (k for k, one in enumerate(self.variants) if all(map(one.admits, held)))
        found = next(admitting, 0)
        return self.variants[found].regions[device] if found else self.regions[device]

    @cached_property
    def merged(self) -> frozenset[int]:
        """Classes of the parts of one entry of the base model: those of a GPU are one share of it."""
        parts = zip(self.classes, self.shares, strict=True)
        return frozenset(c for c, (one, share) in enumerate(parts) if one.rank == 0 and share < 1)

    @property
    def split_in_words(self) -> str:
        """Which adapters are served in how many equal parts, for messages; empty if none is."""
        if self.served is None:
            split = [(one, round(1 / s)) for one, s in zip(self.classes, self.shares, strict=True) if s < 1]
        else:
            split = [(one.members, one.replicas) for one in self.served.splits if one.replicas > 1]
        messages = [f"{parts} equal parts of {called(one)}" for one, parts in split[:NAMED]]
        more = f" and {len(split) - NAMED} more" if len(split) > NAMED else ""
        return f" for {', '.join(messages)}{more}" if split else ""

    def priced(self, objective: str, max_bins: int, budget: float | None = None) -> Instance:
        """The instance with the prices of an objective, so many GPUs at most, and at most this price."""
        prices = {device.name: price(device, objective) for device in self.scenario.devices}

        def priced(problem: PackingProblem) -> PackingProblem:
            options = tuple(replace(o, price=prices[o.device]) for o in problem.options)
            return replace(problem, options=options, max_bins=max_bins, budget=budget)

        divisible = None if self.divisible is None else priced(self.divisible)
        return replace(self, inner=priced(self.inner), outer=priced(self.outer), divisible=divisible)


@dataclass(frozen=True, eq=False)
class Served:
    """What is to be served, as it is split, and what each class takes of a GPU by the regions.

    Parameters
    ----------
    scenario, regions
        As of `Instance`.
    splits
        In how many equal parts the adapters of each class are served.
    params
        How finely split adapters are cut for the bound on unequal shares.
    variants
        As of `Instance`; empty: the regions are those of all GPUs.
    """

    scenario: Scenario
    regions: Mapping[str, Regions]
    splits: tuple[ReplicaSplit, ...]
    params: SplittingParams
    variants: tuple[RowVariant, ...] = ()

    @cached_property
    def classes(self) -> tuple[AdapterClass, ...]:
        """The classes of what is served, of parts where an adapter is split."""
        return tuple(split.replica_class for split in self.splits)

    @cached_property
    def features(self) -> NDArray[np.float64]:
        """What one item of each class adds to a GPU, shape (n_classes, K)."""
        return learn.scenario_features(self.scenario, self.classes)

    @cached_property
    def ranks(self) -> NDArray[np.int64]:
        """Rank of each class."""
        return np.array([c.rank for c in self.classes], dtype=np.int64)

    @cached_property
    def split(self) -> dict[int, int]:
        """Fine parts of an adapter, by the classes that are split because they are hot."""
        return {c: s.replicas * self.params.fine_parts for c, s in enumerate(self.splits) if s.hot}

    def rows(self, kind: str) -> Iterator[tuple[Device, OptionRows]]:
        """The ways to run a GPU, on one region."""
        yield from self._rows(kind, self.regions)

    def _rows(self, kind: str, regions: Mapping[str, Regions]) -> Iterator[tuple[Device, OptionRows]]:
        for device in self.scenario.devices:
            for rows in region_of(regions[device.name], kind).options:
                yield device, rows

    def options(self, kind: str) -> Iterator[tuple[PackingOption, OptionRows]]:
        """The ways to run a GPU in all variants, with their rows, on one region."""
        for variant, one in enumerate(self.variants or (RowVariant(self.regions),)):
            for device, rows in self._rows(kind, one.regions):
                yield self.option(device, rows, variant), rows

    def option(self, device: Device, rows: OptionRows, variant: int = 0) -> PackingOption:
        """One way to run a GPU, and what each class takes of it."""
        objective = latency_objective_of(self.scenario.objective)
        of = self.variants[variant] if self.variants else RowVariant(self.regions)
        latency = of.regions[device.name].option_latency(rows.max_loras, rows.max_lora_rank, rows.regime)
        admitted = np.array([of.admits(one.levels) for one in self.classes])
        planes = latency.ttft_ms if objective is not None and objective.of_first_token else latency.itl_ms
        slopes = np.array([plane.coefficients for plane in planes])
        return PackingOption(
            name=f"{device.name} with {rows.max_loras} slots of rank {rows.max_lora_rank}, {rows.regime}"
            + (f", levels {variant}" if variant else ""),
            usage=self._usage(rows, device),
            capacity=rows.bounds,
            allowed=(self.ranks <= rows.max_lora_rank) & admitted,
            price=price(device, prices_of(self.scenario.objective)[0]),
            option=EngineOption(device.name, rows.max_loras, rows.max_lora_rank),
            regime=rows.regime,
            variant=variant,
            latency_usage=np.maximum(slopes @ self.features.T, 0.0),
            latency_offset=np.array([plane.intercept for plane in planes]),
        )

    @cached_property
    def _accepted(self) -> dict[tuple[str, int], list[int]]:
        """Classes of which the twin accepts an item alone, by device and rank."""
        found: dict[tuple[str, int], list[int]] = {}
        for c, split in enumerate(self.splits):
            if split.accepted_on is not None:
                found.setdefault((split.accepted_on, split.rank), []).append(c)
        return found

    def _usage(self, rows: OptionRows, device: Device) -> NDArray[np.float64]:
        """What an item of each class takes; where the twin accepts it alone, no more than there is."""
        usage = np.maximum(rows.coefficients @ self.features.T, 0.0)
        alone = self._accepted.get((device.name, rows.max_lora_rank), [])
        usage[:, alone] = np.minimum(usage[:, alone], rows.bounds[:, None])
        return usage

    def finely(self, option: PackingOption, rows: OptionRows) -> PackingOption:
        """An option by what a fine part of a split adapter takes at least, however it is cut."""
        usage, most = option.usage.copy(), self.params.max_replicas
        for c, fine in self.split.items():
            members = self.splits[c].members
            # no larger share fits
            fewest = fewest_parts(self.scenario, members, self.regions, "outer", most)
            largest = fine // max(1, fewest - 1)
            numbers = np.arange(1, largest + 1)
            shares = [replace(members, rate=members.rate * n / fine) for n in numbers]
            taken = rows.coefficients @ learn.scenario_features(self.scenario, shares).T
            usage[:, c] = np.maximum(taken / numbers, 0.0).min(axis=1)
        return replace(option, usage=usage)

    def by_item(self, option: PackingOption, rows: OptionRows, kind: str) -> PackingOption:
        """An option by what an item takes at least: on the outer region however its adapter is cut."""
        if not self.split or kind == "inner":
            return option
        usage = self.finely(option, rows).usage.copy()
        usage[:, list(self.split)] *= self.params.fine_parts
        return replace(option, usage=usage)

    def problem(
        self, classes: Sequence[AdapterClass], options: Iterable[PackingOption], gpus: int | None
    ) -> PackingProblem:
        """The problem of some classes on some options, within the limits of the scenario."""
        options, devices = tuple(options), self.scenario.devices
        slotless = np.array([c.rank == 0 for c in classes])
        total, used = sum(device.count for device in devices), {option.device for option in options}
        return PackingProblem(
            counts=np.array([c.count for c in classes]),
            options=options,
            device_limits={device.name: device.count for device in devices if device.name in used},
            max_bins=total if gpus is None else min(gpus, total),
            dominance=_dominance(classes),
            class_names=tuple(c.names[0] for c in classes),
            rates=np.array([c.rate for c in classes]),
            slotless=slotless if slotless.any() else None,
            fewest_slots=self.scenario.engine.fewest_slots,
        )


def build_instance(
    scenario: Scenario,
    profiles: Mapping[str, EngineProfile],
    regions: Mapping[str, Regions],
    replicas: Sequence[ReplicaSplit],
    gpus: int | None,
    params: SplittingParams,
    grouping: GroupingParams | None = None,
    variants: tuple[RowVariant, ...] = (),
) -> Instance:
    """The packing problems of a scenario whose hot adapters are split.

    Parameters
    ----------
    scenario, profiles, regions
        As of `Instance`.
    replicas
        In how many equal parts the adapters of each class are served.
    gpus
        Most GPUs; None: as many as the scenario's devices.
    params
        How finely split adapters are cut for the bound on unequal shares.
    grouping
        From how many classes on they are grouped; None: never.
    variants
        As of `Instance`; empty: the regions are those of all GPUs.
    """
    served = Served(scenario, regions, tuple(replicas), params, variants)
    if grouping is not None and len(served.classes) > grouping.ungrouped_classes:
        return _grouped_instance(served, profiles, gpus, grouping)
    inner, outer = (
        served.problem(served.classes, (option for option, _ in served.options(kind)), gpus)
        for kind in ("inner", "outer")
    )
    shares = tuple(1.0 / split.replicas for split in replicas)
    divisible = _divided(served, outer) if served.split else None
    inner, outer = (_with_replicas_apart(problem, replicas) for problem in (inner, outer))
    return Instance(
        scenario,
        profiles,
        regions,
        served.classes,
        shares,
        inner,
        outer,
        divisible,
        variants=variants,
    )


def _with_replicas_apart(problem: PackingProblem, replicas: Sequence[ReplicaSplit]) -> PackingProblem:
    """The problem with rows that keep the replicas of an adapter that must have several on distinct GPUs.

    Of a class of m adapters no GPU holds more than m parts: dealt in turn, they are of m adapters then. Of
    the base model, which is cut finer, no GPU has more than one of the least replicas' shares. The rows come
    first, where those of both regions are in the same places.
    """
    apart = [c for c, one in enumerate(replicas) if one.members.min_replicas > 1]
    if not apart:
        return problem
    usage = np.zeros((len(apart), problem.n_classes))
    usage[range(len(apart)), apart] = 1.0
    capacity = np.array([float(replicas[c].most_together) for c in apart])
    options = tuple(
        replace(
            o,
            usage=np.vstack([usage, o.usage]),
            capacity=np.concatenate([capacity, o.capacity]),
            strict_rows=len(apart),
        )
        for o in problem.options
    )
    return replace(problem, options=options)


def _grouped_instance(
    served: Served, profiles: Mapping[str, EngineProfile], gpus: int | None, params: GroupingParams
) -> Instance:
    """The problems of groups of adapters."""
    counts = np.array([one.count for one in served.classes], dtype=np.int64)
    groups = grouped(served.ranks, counts, served.features, params.groups)
    classes = groups.representatives(served.classes, served.features)
    inner, outer = (
        served.problem(classes, options, gpus)
        for options in (
            (groups.averaged(served.option(*one)) for one in served.rows("inner")),
            (
                groups.least(served.by_item(served.option(*one), one[1], "outer"))
                for one in served.rows("outer")
            ),
        )
    )
    shares = (1.0,) * len(classes)
    return Instance(
        served.scenario, profiles, served.regions, classes, shares, inner, outer, None, groups, served
    )


def _divided(served: Served, outer: PackingProblem) -> PackingProblem:
    """The outer problem with split adapters in fine parts: so many as a share has take no more than it."""
    options = tuple(served.finely(option, rows) for option, rows in served.options("outer"))
    counts = outer.counts.copy()
    for c, fine in served.split.items():
        counts[c] = served.splits[c].members.count * fine
    return replace(outer, counts=counts, options=options, dominance=None)


def _dominance(classes: Sequence[AdapterClass]) -> NDArray[np.float64]:
    """By what a class can stand for another in a cut: rank and rate at least as large, all else equal.

    An adapter stands for no traffic of the base model, as it takes a slot.

    Equality is an order both ways: the number of all else, and its opposite. A class of uncertain rates
    stands for none but itself: corners of other rates are drawn otherwise, and few high adapters may do
    what more of them do not.
    """
    alike = [
        (c.prompt, c.output, c.levels, c.arrivals, c.reuse, c.rank == 0, c.kind if c.kind.uncertain else None)
        for c in classes
    ]
    number = {key: k for k, key in enumerate(dict.fromkeys(alike))}
    kind = [number[key] for key in alike]
    measures = [(c.rank, c.rate, k, -k) for c, k in zip(classes, kind, strict=True)]
    return np.array(measures, dtype=np.float64)
