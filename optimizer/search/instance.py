"""A scenario as the placers see it: classes, and the packing problems on its inner and outer region."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

import learn
from learn import OptionRows, Regions
from optimizer.packing.model.problem import PackingOption, PackingProblem
from optimizer.search.objectives import latency_objective_of, price, prices_of
from optimizer.search.params import SplittingParams
from optimizer.search.splitting import ReplicaSplit, fewest_parts, region_of
from scenarios import AdapterClass, Device, EngineOption, Scenario
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
        relaxation bounds unequal shares too; None if none is split.
    """

    scenario: Scenario
    profiles: Mapping[str, EngineProfile]
    regions: Mapping[str, Regions]
    classes: tuple[AdapterClass, ...]
    shares: tuple[float, ...]
    inner: PackingProblem
    outer: PackingProblem
    divisible: PackingProblem | None = None

    @property
    def split_in_words(self) -> str:
        """Which adapters are served in how many equal parts, for messages; empty if none is."""
        split = [(one, round(1 / s)) for one, s in zip(self.classes, self.shares, strict=True) if s < 1]
        messages = [f'{parts} equal parts of adapter "{one.names[0]}"' for one, parts in split[:NAMED]]
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


def build_instance(
    scenario: Scenario,
    profiles: Mapping[str, EngineProfile],
    regions: Mapping[str, Regions],
    replicas: Sequence[ReplicaSplit],
    gpus: int | None,
    params: SplittingParams,
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
    """
    inner, outer = (
        _problem(scenario, regions, replicas, kind=kind, gpus=gpus) for kind in ("inner", "outer")
    )
    divisible = None
    if any(split.replicas > 1 for split in replicas):
        divisible = _divided(scenario, regions, replicas, outer, params)
    return Instance(
        scenario,
        profiles,
        regions,
        tuple(split.replica_class for split in replicas),
        tuple(1.0 / split.replicas for split in replicas),
        inner,
        outer,
        divisible,
    )


def _problem(
    scenario: Scenario,
    regions: Mapping[str, Regions],
    splits: Sequence[ReplicaSplit],
    kind: str,
    gpus: int | None,
) -> PackingProblem:
    classes = [split.replica_class for split in splits]
    total = sum(device.count for device in scenario.devices)
    options = [
        option
        for device in scenario.devices
        for option in _options(scenario, device, regions[device.name], splits, kind)
    ]
    used = {option.device for option in options}
    return PackingProblem(
        counts=np.array([c.count for c in classes]),
        options=tuple(options),
        device_limits={device.name: device.count for device in scenario.devices if device.name in used},
        max_bins=total if gpus is None else min(gpus, total),
        dominance=_dominance(classes),
        class_names=tuple(c.names[0] for c in classes),
        rates=np.array([c.rate for c in classes]),
    )


def _options(
    scenario: Scenario, device: Device, regions: Regions, splits: Sequence[ReplicaSplit], kind: str
) -> list[PackingOption]:
    classes = [split.replica_class for split in splits]
    features = learn.scenario_features(scenario, classes)
    rank = np.array([c.rank for c in classes])
    objective = latency_objective_of(scenario.objective)
    options = []
    for rows in region_of(regions, kind).options:
        latency = regions.option_latency(rows.max_loras, rows.max_lora_rank, rows.regime)
        planes = (
            latency.ttft_ms if objective is not None and objective.figure == "ttft_ms" else latency.itl_ms
        )
        slopes = np.array([plane.coefficients for plane in planes])
        options.append(
            PackingOption(
                name=f"{device.name} with {rows.max_loras} slots of rank {rows.max_lora_rank}, {rows.regime}",
                usage=_usage(rows, features, splits, device),
                capacity=rows.bounds,
                allowed=rank <= rows.max_lora_rank,
                price=price(device, prices_of(scenario.objective)[0]),
                option=EngineOption(device.name, rows.max_loras, rows.max_lora_rank),
                regime=rows.regime,
                latency_usage=np.maximum(slopes @ features.T, 0.0),
                latency_offset=np.array([plane.intercept for plane in planes]),
            )
        )
    return options


def _usage(
    rows: OptionRows, features: NDArray[np.float64], splits: Sequence[ReplicaSplit], device: Device
) -> NDArray[np.float64]:
    """What a part of each class takes; where the twin accepts it alone, no more than there is."""
    usage = np.maximum(rows.coefficients @ features.T, 0.0)
    for c, split in enumerate(splits):
        if split.accepted_on == device.name and split.rank == rows.max_lora_rank:
            usage[:, c] = np.minimum(usage[:, c], rows.bounds)
    return usage


def _divided(
    scenario: Scenario,
    regions: Mapping[str, Regions],
    splits: Sequence[ReplicaSplit],
    outer: PackingProblem,
    params: SplittingParams,
) -> PackingProblem:
    """The outer problem with split adapters in fine parts: so many as a share has take no more than it."""
    fine_parts = {c: s.replicas * params.fine_parts for c, s in enumerate(splits) if s.replicas > 1}
    found = [rows for d in scenario.devices for rows in region_of(regions[d.name], "outer").options]
    options = []
    for option, rows in zip(outer.options, found, strict=True):
        usage = option.usage.copy()
        for c, fine in fine_parts.items():
            largest = fine // max(
                1, fewest_parts(scenario, splits[c].members, regions, "outer", params.max_replicas) - 1
            )  # no larger share fits
            numbers = np.arange(1, largest + 1)
            shares = [replace(splits[c].members, rate=splits[c].members.rate * n / fine) for n in numbers]
            taken = rows.coefficients @ learn.scenario_features(scenario, shares).T
            usage[:, c] = np.maximum(taken / numbers, 0.0).min(axis=1)
        options.append(replace(option, usage=usage))
    counts = outer.counts.copy()
    for c, fine in fine_parts.items():
        counts[c] = splits[c].members.count * fine
    return replace(outer, counts=counts, options=tuple(options), dominance=None)


def _dominance(classes: Sequence[AdapterClass]) -> NDArray[np.float64]:
    """By what a class can stand for another in a cut: rank and rate at least as large, all else equal.

    Equality is an order both ways: the number of all else, and its opposite.
    """
    others = {key: k for k, key in enumerate(dict.fromkeys((c.prompt, c.output, c.levels) for c in classes))}
    kind = [others[c.prompt, c.output, c.levels] for c in classes]
    measures = [(c.rank, c.rate, k, -k) for c, k in zip(classes, kind, strict=True)]
    return np.array(measures, dtype=np.float64)
