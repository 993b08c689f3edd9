"""A scenario made ready for the placers: profiles, regions, classes, and the two packing problems."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

import learn
import twin
from learn import FeasibilityRegion, Regions
from optimizer.loop.objectives import price, prices_of, quality_of
from optimizer.packing.problem import PackingOption, PackingProblem
from optimizer.progress import Report, silent
from scenarios import AdapterClass, Device, LorapackError, Scenario
from twin import EngineProfile

MOST_REPLICAS = 4096
"""Most GPUs that one adapter is split over."""


class InfeasibleError(LorapackError, ArithmeticError):
    """No plan exists; the message names the adapter or the limit, and by how much it is exceeded."""


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
        Classes of identical adapters; an adapter hotter than a GPU appears as several pieces of equal
        rate, its name repeated.
    shares
        Fraction of its adapter's requests that a piece of each class stands for, shape (n_classes,).
    inner, outer
        The problem on the conservative region, which placers fill, and on the optimistic one, for bounds.
    """

    scenario: Scenario
    profiles: Mapping[str, EngineProfile]
    regions: Mapping[str, Regions]
    classes: tuple[AdapterClass, ...]
    shares: tuple[float, ...]
    inner: PackingProblem
    outer: PackingProblem

    def priced(self, objective: str, max_bins: int, budget: float | None = None) -> Instance:
        """The instance with the prices of an objective, so many GPUs at most, and at most this price."""
        prices = {device.name: price(device, objective) for device in self.scenario.devices}
        inner, outer = (
            replace(
                problem,
                options=tuple(replace(o, price=prices[o.device]) for o in problem.options),
                max_bins=max_bins,
                budget=budget,
            )
            for problem in (self.inner, self.outer)
        )
        return replace(self, inner=inner, outer=outer)


def prepare(
    scenario: Scenario, *, gpus: int | None = None, workers: int = 1, report: Report = silent
) -> Instance:
    """Profiles, regions and packing problems of a scenario.

    Parameters
    ----------
    scenario
        The scenario.
    gpus
        Most GPUs; None: as many as the scenario's devices.
    workers
        Processes for making regions that are neither shipped nor cached.
    report
        Called with progress.

    Raises
    ------
    InfeasibleError
        If no engine configuration fits the memory, or an adapter fits no GPU.
    """
    profiles = twin.profiles_of(scenario)
    regions = {
        device.name: learn.regions_for(
            scenario, device, profiles[device.name], workers=workers, progress=report
        )
        for device in scenario.devices
    }
    if not any(region.inner.options for region in regions.values()):
        raise InfeasibleError(_no_memory(scenario, profiles))
    classes, shares = _split_hot(scenario, regions)
    inner, outer = (_problem(scenario, regions, classes, kind=kind, gpus=gpus) for kind in ("inner", "outer"))
    return Instance(scenario, profiles, regions, classes, shares, inner, outer)


def _no_memory(scenario: Scenario, profiles: Mapping[str, EngineProfile]) -> str:
    device, slots = scenario.devices[0], scenario.engine.slot_choices[0]
    profile = profiles[device.name]
    rank = learn.needed_ranks(scenario)[0]
    memory = device.memory_gib or profile.gpu_memory_gib
    plan = twin.plan_memory(profile.memory, scenario.engine, memory, slots, rank)
    return (
        f"no engine configuration fits the memory of {device.name}: with {slots} slots of rank {rank}, "
        f"{plan.failure}; {plan.remedy}"
    )


# --- adapters hotter than a GPU --------------------------------------------------------------------


def _split_hot(
    scenario: Scenario, regions: Mapping[str, Regions]
) -> tuple[tuple[AdapterClass, ...], tuple[float, ...]]:
    """Classes and their shares, every class that fits no GPU split into as few equal pieces as fit."""
    classes: list[AdapterClass] = []
    shares: list[float] = []
    for one in scenario.classes:
        pieces = _pieces(one, scenario, regions)
        classes.append(replace(one, rate=one.rate / pieces, names=one.names * pieces))
        shares.append(1.0 / pieces)
    return tuple(classes), tuple(shares)


def _pieces(one: AdapterClass, scenario: Scenario, regions: Mapping[str, Regions]) -> int:
    """Fewest equal pieces of an adapter of the class that each fit a GPU."""
    whole = least_fill(one, regions, "inner")
    if whole <= 1.0:
        return 1
    if not scenario.allow_replicas:
        needed = least_fill(one, regions, "outer")
        if needed <= 1.0:
            return 1  # the twin decides: only the conservative region says no
        raise InfeasibleError(_too_hot(one, needed, "allow_replicas is off"))
    for pieces in range(max(2, int(whole)), MOST_REPLICAS + 1):
        if least_fill(replace(one, rate=one.rate / pieces), regions, "inner") <= 1.0:
            return pieces
    raise InfeasibleError(_too_hot(one, whole, f"even split over {MOST_REPLICAS} GPUs it does not fit"))


def _too_hot(one: AdapterClass, fill: float, why: str) -> str:
    if not np.isfinite(fill):
        return f'adapter "{one.names[0]}" of rank {one.rank} fits no engine configuration; lower its rank'
    return (
        f'adapter "{one.names[0]}" alone needs {fill:.2f} GPUs at {one.rate:g} requests/s, and {why}; '
        f"lower its rate below {one.rate / fill:.3g} requests/s, or set allow_replicas: true"
    )


def least_fill(one: AdapterClass, regions: Mapping[str, Regions], kind: str) -> float:
    """Smallest share of a GPU that one adapter of the class fills, over all options that hold its rank."""
    sums = learn.additive_features([one])[0]
    options = [o for r in regions.values() for o in _region(r, kind).options if o.max_lora_rank >= one.rank]
    return min((float(o.fill(sums)) for o in options), default=float("inf"))


def _region(regions: Regions, kind: str) -> FeasibilityRegion:
    return regions.inner if kind == "inner" else regions.outer


# --- packing problems ------------------------------------------------------------------------------


def _problem(
    scenario: Scenario,
    regions: Mapping[str, Regions],
    classes: Sequence[AdapterClass],
    *,
    kind: str,
    gpus: int | None,
) -> PackingProblem:
    total = sum(device.count for device in scenario.devices)
    return PackingProblem(
        counts=np.array([c.count for c in classes]),
        options=tuple(
            option
            for device in scenario.devices
            for option in _options(scenario, device, regions[device.name], classes, kind)
        ),
        device_limits={device.name: device.count for device in scenario.devices},
        max_bins=total if gpus is None else min(gpus, total),
        heavier=_heavier(classes),
        class_names=tuple(c.names[0] for c in classes),
        rates=np.array([c.rate for c in classes]),
    )


def _options(
    scenario: Scenario, device: Device, regions: Regions, classes: Sequence[AdapterClass], kind: str
) -> list[PackingOption]:
    features = learn.additive_features(classes)
    rank = np.array([c.rank for c in classes])
    quality = quality_of(scenario.objective)
    options = []
    for rows in _region(regions, kind).options:
        latency = regions.option_latency(rows.max_loras, rows.max_lora_rank, rows.regime)
        planes = latency.ttft_ms if quality is not None and quality.figure == "ttft_ms" else latency.itl_ms
        slopes = np.array([plane.coefficients for plane in planes])
        options.append(
            PackingOption(
                name=f"{device.name} with {rows.max_loras} slots of rank {rows.max_lora_rank}, {rows.regime}",
                usage=np.maximum(rows.usage(classes), 0.0),
                capacity=rows.bounds,
                allowed=rank <= rows.max_lora_rank,
                price=price(device, prices_of(scenario.objective)[0]),
                device=device.name,
                max_loras=rows.max_loras,
                max_lora_rank=rows.max_lora_rank,
                latency_usage=np.maximum(slopes @ features.T, 0.0),
                latency_offset=np.array([plane.intercept for plane in planes]),
            )
        )
    return options


def _heavier(classes: Sequence[AdapterClass]) -> NDArray[np.bool_]:
    """Which class can stand for which in a cut: rank and rate at least as large, all else equal."""
    rank = np.array([c.rank for c in classes])
    rate = np.array([c.rate for c in classes])
    others = {key: k for k, key in enumerate(dict.fromkeys((c.prompt, c.output, c.levels) for c in classes))}
    kind = np.array([others[c.prompt, c.output, c.levels] for c in classes])
    order: NDArray[np.bool_] = (rank[:, None] >= rank) & (rate[:, None] >= rate) & (kind[:, None] == kind)
    return order
