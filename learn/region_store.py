"""Regions of a scenario: shipped ready-made, else from the cache on disk, else made and cached.

``python -m learn.region_store`` makes the shipped ones again, to the same numbers.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from pathlib import Path
from typing import Any

from learn.design import SamplingPlan, confirmation_plan, plan_values
from learn.features import ADDITIVE, REGIMES
from learn.params import DEFAULTS, LearnParams
from learn.region import FORMAT, Regions, regions_of
from learn.region_fit import linearize, no_regions, origin
from learn.sampling import add_overloads, sample
from learn.scenario_space import adapter_ranks, space_of
from learn.space import DesignSpace, starting_options
from learn.storage.cache import cache_folder, content_key, keep, kept_text
from learn.storage.dataset import Dataset, write_atomically
from scenarios import (
    ACCEPTANCES,
    UNLIMITED,
    Acceptance,
    AdapterSLO,
    Deadline,
    Device,
    PoissonArrivals,
    RecordedArrivals,
    Scenario,
    padded_rank,
    read,
    shipped,
)
from scenarios.stopping.progress import Progress, silent
from twin import EngineProfile, find_profile

_log = logging.getLogger(__name__)

PLANS: dict[Acceptance, SamplingPlan] = {
    "sustained": SamplingPlan(compositions=480, width=1.04, confirmed=32),
    "paper": SamplingPlan(),
}
"""How much is sampled for a region, by criterion."""

SHIPPED = Path(__file__).parent / "regions"
"""Where the shipped regions lie."""

_COVERED = ("options", "ranks", "device")
"""Parts of a space in which regions may cover more than is asked of them, and the device's mere name."""


def regions_for(
    scenario: Scenario,
    device: Device,
    profile: EngineProfile,
    *,
    workers: int | None = None,
    progress: Progress = silent,
    cache_dir: str | Path | None = None,
    plan: SamplingPlan | None = None,
    params: LearnParams = DEFAULTS,
    deadline: Deadline = UNLIMITED,
    levels: AdapterSLO | None = None,
) -> Regions:
    """Linear regions of every option that starts in a scenario on one device.

    Parameters
    ----------
    scenario, device, profile
        What the GPU is given, the GPU, and the engine's costs.
    workers
        Processes, if the regions must be made; absent: one per core.
    progress
        Called while they are made.
    cache_dir
        Folder of the cache; absent: ``$LORAPACK_CACHE``, ``$XDG_CACHE_HOME/lorapack`` or
        ``~/.cache/lorapack``. What cannot be kept there is made all the same.
    plan
        How much to sample; absent: what is enough for the criterion.
    params
        How to sample and to fit; the shipped regions are those of the defaults.
    deadline
        When to stop making them; what was sampled by then stays in the cache.
    levels
        Levels of some of the scenario's adapters: the regions are then those of GPUs that hold such adapters,
        on every option that they fit. Absent: of GPUs without levels of single adapters.

    Raises
    ------
    Stopped
        If the deadline passes, or the work is interrupted, before they are made.

    Notes
    -----
    The regions are empty when no option starts.

    Under the criterion *paper* a workload that replays a trace has the regions of Poisson arrivals.
    """
    asked = _Asked.of(scenario, device, profile, plan, params, levels)
    request, root = asked.request, cache_folder(cache_dir)
    regions = asked.known(root)
    if regions is None:
        _, regions = make_regions(
            request.space,
            request.plan,
            params=params,
            overloads=False,
            workers=workers,
            progress=progress,
            cache=root,
            deadline=deadline,
        )
        if root is not None:
            keep(request.file(root), regions.to_json(), root)
    return asked.restricted(regions)


def known_regions(
    scenario: Scenario,
    device: Device,
    profile: EngineProfile,
    *,
    cache_dir: str | Path | None = None,
    params: LearnParams = DEFAULTS,
    levels: AdapterSLO | None = None,
) -> Regions | None:
    """The regions that `regions_for` gives at once; None where they would have to be made."""
    asked = _Asked.of(scenario, device, profile, None, params, levels)
    regions = asked.known(cache_folder(cache_dir))
    return None if regions is None else asked.restricted(regions)


@dataclass(frozen=True)
class _Asked:
    """Regions that are asked for, and those of their options that start in the scenario."""

    request: RegionRequest
    options: tuple[tuple[int, int], ...]

    @classmethod
    def of(
        cls,
        scenario: Scenario,
        device: Device,
        profile: EngineProfile,
        plan: SamplingPlan | None,
        params: LearnParams,
        levels: AdapterSLO | None,
    ) -> _Asked:
        space = space_for(scenario, device, profile, params, levels)
        plan = PLANS[scenario.acceptance] if plan is None else plan
        # The space's own options are those for its longest request, which may be more than the scenario's.
        options = starting_options(profile, scenario.engine, device, needed_ranks(scenario))
        return cls(RegionRequest(space, plan, params), tuple((o.max_loras, o.max_lora_rank) for o in options))

    def known(self, root: Path | None) -> Regions | None:
        """Those that are shipped or cached, or none at all where no option starts."""
        request = self.request
        if not self.options:
            return no_regions(request.space, request.plan, request.params)
        return _shipped_region(request) or _cached_regions(request, root)

    def restricted(self, regions: Regions) -> Regions:
        """Those of the options that start."""
        return regions.restricted(self.options) if self.options else regions


def needed_ranks(scenario: Scenario) -> tuple[int, ...]:
    """Ranks that slots may be padded to in a scenario, ascending."""
    return tuple(sorted({padded_rank(rank) for rank in adapter_ranks(scenario)}))


def space_for(
    scenario: Scenario,
    device: Device,
    profile: EngineProfile,
    params: LearnParams = DEFAULTS,
    levels: AdapterSLO | None = None,
) -> DesignSpace:
    """The space whose regions a scenario uses.

    Under the criterion *paper* it has runs of at most an hour, and Poisson arrivals for traces: regions
    propose, and the twin, which replays the trace, judges.
    """
    if scenario.acceptance == "sustained":
        return space_of(scenario, profile, device, params.design, levels)
    workload = scenario.workload
    if isinstance(workload.arrivals, RecordedArrivals):
        workload = workload.model_copy(update={"arrivals": PoissonArrivals()})
    adapters = scenario.adapters
    if any(isinstance(entry.arrivals, RecordedArrivals) for entry in adapters):
        adapters = tuple(
            entry.model_copy(update={"arrivals": PoissonArrivals()})
            if isinstance(entry.arrivals, RecordedArrivals)
            else entry
            for entry in adapters
        )
    duration = min(workload.duration_s, 3600.0)
    warmup = min(workload.warmup_s, duration / 2)
    workload = workload.model_copy(update={"duration_s": duration, "warmup_s": warmup})
    scenario = scenario.model_copy(update={"workload": workload, "adapters": adapters})
    return space_of(scenario, profile, device, params.design, levels)


def make_regions(
    space: DesignSpace,
    plan: SamplingPlan | None = None,
    *,
    params: LearnParams = DEFAULTS,
    command: str = "learn.regions_for",
    overloads: bool = True,
    workers: int | None = None,
    progress: Progress = silent,
    directory: Path | None = None,
    cache: Path | None = None,
    deadline: Deadline = UNLIMITED,
) -> tuple[Dataset, Regions]:
    """Sample the twin over a space, as `sample` does, and linearise what it says.

    Parameters
    ----------
    overloads
        Whether the runs that are returned are to have overloads: surrogates learn from them, regions do not.

    Returns
    -------
    tuple
        The runs, and the regions. Where the plan has boundaries found again by the whole rule of the
        criterion, the regions are held against them too.
    """
    plan = PLANS[space.acceptance] if plan is None else plan

    how: dict[str, Any] = {
        "params": params,
        "workers": os.cpu_count() or 1 if workers is None else workers,
        "cache": cache,
        "progress": progress,
        "deadline": deadline,
    }
    dataset, confirmed = sample(space, plan, overloads=False, directory=directory, **how), None
    if plan.confirmed:
        folder = directory and directory / "confirmed"
        again = confirmation_plan(plan)
        confirmed = sample(space.whole_rule(), again, near=dataset, directory=folder, **how)
    regions = linearize(dataset, space, confirmed=confirmed, params=params, command=command)
    if overloads:
        dataset = add_overloads(dataset, space, plan, directory=directory, **how)
    return dataset, regions


@dataclass(frozen=True)
class RegionRequest:
    """Which regions are asked for: what determines their numbers.

    Parameters
    ----------
    space, plan, params
        What is sampled, how much, and how it is sampled and fitted.
    """

    space: DesignSpace
    plan: SamplingPlan
    params: LearnParams

    @cached_property
    def origin(self) -> dict[str, Any]:
        """What the regions say of themselves, under the names of `Provenance`."""
        return {"plan": plan_values(self.plan), **origin(self.space, self.params)}

    @cached_property
    def engines(self) -> set[tuple[int, int, int]]:
        """Slots, rank and KV cache of the options."""
        return {o.numbers for o in self.space.options}

    @property
    def key(self) -> str:
        """Name of the regions in the cache. Parameters that are all defaults are no part of it."""
        stated = {name: value for name, value in self.origin.items() if name != "params" or value}
        return content_key({"features": ADDITIVE, "format": FORMAT, **stated})

    def file(self, root: Path) -> Path:
        """Where a cache keeps the regions."""
        return root / "regions" / f"{self.key}.json"

    def differences(self, regions: Regions, *, beside: tuple[str, ...] = ()) -> list[str]:
        """Names of what regions were made from otherwise; parts of the space ``beside`` it do not count."""

        def text(values: Mapping[str, Any], name: str) -> str:
            value = values[name]
            return _text(_without(value, beside) if name == "space" else value)

        made = dict(regions.provenance)
        return [name for name in self.origin if text(made, name) != text(self.origin, name)]


def _without(values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if name not in names}


def _text(value: object) -> str:
    """Plain values as text, which is equal where they are."""
    return json.dumps(value, sort_keys=True)


def _covered(regions: Regions) -> set[tuple[int, int, int]]:
    """Slots, rank and KV cache of the options that regions have in both regimes; the outer has the same."""
    options = regions.inner.options
    return set.intersection(*({o.numbers for o in options if o.regime == regime} for regime in REGIMES))


# --- cached regions --------------------------------------------------------------------------------


def _cached_regions(request: RegionRequest, root: Path | None) -> Regions | None:
    """The regions of the cache, if there are some, and they are sound and those that are asked for."""
    if root is None:
        return None
    path = request.file(root)
    try:
        text = kept_text(path, root)
        return None if text is None else _checked(regions_of(text), request)
    except (ValueError, RecursionError) as error:
        _log.warning("%s: %s; it is made again", path, error)
        return None


def _checked(regions: Regions, request: RegionRequest) -> Regions:
    """The regions, unless they are others than those asked for, whatever the name of their file."""
    other = request.differences(regions)
    if other:
        raise ValueError(f"its regions are of another {' and '.join(other)}")
    missing = request.engines - _covered(regions)
    if missing:
        slots, rank, tokens = min(missing)
        raise ValueError(
            f"its regions lack the option of {slots} slots of rank {rank} and {tokens} tokens of KV cache"
        )
    return regions


# --- shipped regions -------------------------------------------------------------------------------


@cache
def shipped_regions() -> tuple[Regions, ...]:
    """Regions that come with lorapack, by file name; those of a damaged file are left out."""
    readable = []
    for path in sorted(SHIPPED.glob("*.json")):
        try:
            readable.append(regions_of(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            _log.warning("%s: %s; it is left out, install lorapack again", path, error)
    return tuple(readable)


def _shipped_region(request: RegionRequest) -> Regions | None:
    """The shipped regions that were made for what is asked for, or for more options of it."""
    for regions in shipped_regions():
        if not request.differences(regions, beside=_COVERED) and request.engines <= _covered(regions):
            return regions
    return None


def _identity(space: DesignSpace) -> str:
    """What must be equal for regions to apply."""
    return _text(_without(space.describe(), _COVERED))


def shipped_spaces(scenarios: Iterable[tuple[Scenario, EngineProfile]]) -> list[DesignSpace]:
    """Spaces that together cover these scenarios, those with equal engine and workload joined."""
    joined: dict[str, DesignSpace] = {}
    for scenario, profile in scenarios:
        for device in scenario.devices:
            space = space_for(scenario, device, profile)
            key = _identity(space)
            joined[key] = _joined(joined[key], space) if key in joined else space
    return list(joined.values())


def space_of_shipped(scenario: Scenario, device: Device, profile: EngineProfile) -> DesignSpace:
    """The space of a scenario, joined with those of the shipped scenarios that share its regions."""
    key = _identity(space_for(scenario, device, profile))
    spaces = shipped_spaces([(scenario, profile), *_shipped_scenarios()])
    return next(joined for joined in spaces if _identity(joined) == key)


def _shipped_scenarios() -> Iterator[tuple[Scenario, EngineProfile]]:
    for scenario in (
        read(entry.path, f"acceptance={acceptance}") for entry in shipped() for acceptance in ACCEPTANCES
    ):
        yield scenario, find_profile(scenario.model, scenario.devices[0].name)


def _joined(a: DesignSpace, b: DesignSpace) -> DesignSpace:
    options = {(o.max_lora_rank, o.max_loras): o for o in (*b.options, *a.options)}
    ordered = tuple(options[key] for key in sorted(options))
    return replace(a, options=ordered, ranks=tuple(sorted({*a.ranks, *b.ranks})))


def ship(workers: int | None = None, progress: Progress = silent, *, missing: bool = False) -> list[Path]:
    """Make the regions of every shipped scenario whose profile is shipped; returns the files written.

    Parameters
    ----------
    workers, progress
        As of `regions_for`.
    missing
        Whether to make only those that are not there, and to leave all other files.
    """
    spaces, written = shipped_spaces(_shipped_scenarios()), []
    for space in spaces:
        if missing and _shipped_region(RegionRequest(space, PLANS[space.acceptance], DEFAULTS)):
            continue
        _, regions = make_regions(
            space,
            command="python -m learn.region_store",
            overloads=False,
            workers=workers,
            progress=progress,
        )
        key = RegionRequest(space, PLANS[space.acceptance], DEFAULTS).key[:8]
        arrivals = "mixed" if space.mixed else space.workload.arrivals.process
        path = SHIPPED / f"{space.profile.name}.{space.acceptance}.{arrivals}.{key}.json"
        write_atomically(path, regions.to_json())
        written.append(path)
    for stale in set() if missing else set(SHIPPED.glob("*.json")).difference(written):
        stale.unlink()
    return written


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m learn.region_store", description=__doc__)
    parser.add_argument("--missing", action="store_true", help="make only those that are not there")
    for path in ship(
        progress=lambda label, done, total: print(f"{label} {done}/{total}", end="\r", file=sys.stderr),
        missing=parser.parse_args().missing,
    ):
        print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
