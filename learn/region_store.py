"""Regions of a scenario: shipped ready-made, else from the cache on disk, else made and cached.

``python -m learn.region_store`` makes the shipped ones again, to the same numbers.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import logging
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from functools import cache
from pathlib import Path
from typing import Any

from learn.boundary import REGIMES
from learn.design import SamplingPlan
from learn.features import ADDITIVE
from learn.region import FORMAT, Regions, regions_of
from learn.region_fit import INNER_CONFIDENCE, OUTER_CONFIDENCE, linearize, no_regions
from learn.sampling import Progress, sample
from learn.space import DesignSpace, space_of, starting_options
from learn.storage.cache import cache_folder, keep, kept_text, remove_leftovers
from learn.storage.dataset import COLUMNS, Dataset, write_atomically
from scenarios import Device, Scenario, read
from scenarios.arrivals import PoissonArrivals, TraceArrivals
from scenarios.engine import padded_rank
from scenarios.files import shipped
from scenarios.stopping.deadline import UNLIMITED, Deadline
from twin.profile import EngineProfile, find_profile

_log = logging.getLogger(__name__)

PLAN = SamplingPlan()
"""How much is sampled for a region."""

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
    progress: Progress | None = None,
    cache_dir: str | Path | None = None,
    plan: SamplingPlan = PLAN,
    deadline: Deadline = UNLIMITED,
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
        How much to sample.
    deadline
        When to stop making them; what was sampled by then stays in the cache.

    Raises
    ------
    Stopped
        If the deadline passes, or the work is interrupted, before they are made.

    Notes
    -----
    The regions are empty when no option starts.

    A workload that replays a trace has the regions of Poisson arrivals: they propose, and the twin,
    which replays the trace, judges.
    """
    memory_gib = device.memory_gib or profile.gpu_memory_gib
    space = space_for(scenario, device, profile)
    wanted = starting_options(profile, scenario.engine, memory_gib, needed_ranks(scenario))
    if not wanted:
        return no_regions(space, plan)
    found = _shipped_region(space, plan) or _cached(space, plan, workers, progress, cache_dir, deadline)
    return found.restricted([(o.max_loras, o.max_lora_rank) for o in wanted])


def needed_ranks(scenario: Scenario) -> tuple[int, ...]:
    """Ranks that slots may be padded to in a scenario, ascending."""
    return tuple(sorted({padded_rank(c.rank) for c in scenario.classes}))


def space_for(scenario: Scenario, device: Device, profile: EngineProfile) -> DesignSpace:
    """The space whose regions a scenario uses: at most an hour, and Poisson arrivals for traces."""
    workload = scenario.workload
    if isinstance(workload.arrivals, TraceArrivals):
        workload = workload.model_copy(update={"arrivals": PoissonArrivals()})
    duration = min(workload.duration_s, 3600.0)
    warmup = min(workload.warmup_s, duration / 2)
    workload = workload.model_copy(update={"duration_s": duration, "warmup_s": warmup})
    memory_gib = device.memory_gib or profile.gpu_memory_gib
    return space_of(scenario.model_copy(update={"workload": workload}), profile, memory_gib, device.name)


def make_regions(
    space: DesignSpace,
    plan: SamplingPlan = PLAN,
    *,
    command: str = "learn.regions_for",
    workers: int | None = None,
    progress: Progress | None = None,
    directory: Path | None = None,
    deadline: Deadline = UNLIMITED,
) -> Regions:
    """Sample the twin over a space and linearise what it says."""
    count = os.cpu_count() or 1 if workers is None else workers
    dataset = sample(space, plan, workers=count, directory=directory, progress=progress, deadline=deadline)
    return linearize(dataset, space, command=command)


def cached_sample(
    space: DesignSpace,
    plan: SamplingPlan = PLAN,
    *,
    workers: int = 1,
    progress: Progress | None = None,
    cache_dir: str | Path | None = None,
    deadline: Deadline = UNLIMITED,
) -> Dataset:
    """Twin runs of a space from the cache; what is missing there is run, and kept if it can be.

    Raises
    ------
    Stopped
        If the deadline passes, or the work is interrupted, before the last run.
    """
    root = cache_folder(cache_dir)
    if root is None:
        return sample(space, plan, workers=workers, progress=progress, deadline=deadline)
    remove_leftovers(root)
    folder = root / "samples" / _digest({"columns": COLUMNS, **_asked(space, plan)})
    return sample(
        space, plan, workers=workers, directory=folder, cache=root, progress=progress, deadline=deadline
    )


def _cached(
    space: DesignSpace,
    plan: SamplingPlan,
    workers: int | None,
    progress: Progress | None,
    cache_dir: str | Path | None,
    deadline: Deadline,
) -> Regions:
    """Regions from the cache; made, and kept there, if they are missing or not what they should be."""
    root = cache_folder(cache_dir)
    if root is None:
        return make_regions(space, plan, workers=workers, progress=progress, deadline=deadline)
    path = root / "regions" / f"{_key(space, plan)}.json"
    known = _known(path, root, space, plan)
    if known is not None:
        return known
    count = os.cpu_count() or 1 if workers is None else workers
    dataset = cached_sample(space, plan, workers=count, progress=progress, cache_dir=root, deadline=deadline)
    regions = linearize(dataset, space, command="learn.regions_for")
    keep(path, regions.to_json(), root)
    return regions


def _known(path: Path, root: Path, space: DesignSpace, plan: SamplingPlan) -> Regions | None:
    """The regions of a file of the cache, if they are sound, and those of a space and plan."""
    try:
        text = kept_text(path, root)
        if text is None:
            return None
        regions = regions_of(text)
        _check_asked(regions, space, plan)
    except (ValueError, RecursionError) as error:
        _log.warning("%s: %s; it is made again", path, error)
        return None
    return regions


def _check_asked(regions: Regions, space: DesignSpace, plan: SamplingPlan) -> None:
    """Refuse regions that are not those of a space and plan, whatever the name of their file."""
    asked = {"space": space.describe(), "plan": asdict(plan), **_confidences()}
    made = regions.provenance.model_dump(mode="json")
    other = [name for name, value in asked.items() if _text(made[name]) != _text(value)]
    if other:
        raise ValueError(f"its regions are of another {' and '.join(other)}")
    missing = _engines(space) - _covered(regions)
    if missing:
        slots, rank, tokens = min(missing)
        raise ValueError(
            f"its regions lack the option of {slots} slots of rank {rank} and {tokens} tokens of KV cache"
        )


def _engines(space: DesignSpace) -> set[tuple[int, int, int]]:
    """Slots, rank and KV cache of the options of a space."""
    return {(o.max_loras, o.max_lora_rank, o.kv_cache_tokens) for o in space.options}


def _covered(regions: Regions) -> set[tuple[int, int, int]]:
    """Slots, rank and KV cache of the options that regions have in both regimes; the outer has the same."""
    found = [
        {
            (o.max_loras, o.max_lora_rank, o.kv_cache_tokens)
            for o in regions.inner.options
            if o.regime == regime
        }
        for regime in REGIMES
    ]
    return set.intersection(*found)


def _confidences() -> dict[str, Any]:
    return {"inner_confidence": dict(INNER_CONFIDENCE), "outer_confidence": OUTER_CONFIDENCE}


def _asked(space: DesignSpace, plan: SamplingPlan) -> dict[str, Any]:
    return {"format": FORMAT, "space": space.describe(), "plan": asdict(plan)}


def _key(space: DesignSpace, plan: SamplingPlan) -> str:
    return _digest({"features": ADDITIVE, **_asked(space, plan), **_confidences()})


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(_text(content).encode()).hexdigest()[:32]


def _text(value: object) -> str:
    """Plain values as text, which is equal where they are."""
    return json.dumps(value, sort_keys=True)


# --- shipped regions -------------------------------------------------------------------------------


@cache
def shipped_regions() -> tuple[Regions, ...]:
    """Regions that come with lorapack, by file name; those of a damaged file are left out."""
    found = []
    for path in sorted(SHIPPED.glob("*.json")):
        try:
            found.append(regions_of(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, RecursionError) as error:
            _log.warning("%s: %s; it is left out, install lorapack again", path, error)
    return tuple(found)


def _shipped_region(space: DesignSpace, plan: SamplingPlan) -> Regions | None:
    """The shipped regions that were made for this space, or for more options of it."""
    wanted, given = _identity(space.describe()), _text({"plan": asdict(plan), **_confidences()})
    for regions in shipped_regions():
        made = regions.provenance
        same = _identity(made.space) == wanted and given == _text(
            made.model_dump(mode="json", include={"plan", "inner_confidence", "outer_confidence"})
        )
        if same and _engines(space) <= _covered(regions):
            return regions
    return None


def _identity(description: Mapping[str, Any]) -> str:
    """What must be equal for regions to apply."""
    return _text({name: value for name, value in description.items() if name not in _COVERED})


def shipped_spaces(scenarios: Iterable[tuple[Scenario, EngineProfile]]) -> list[DesignSpace]:
    """Spaces that together cover these scenarios, those with equal engine and workload joined."""
    joined: dict[str, DesignSpace] = {}
    for scenario, profile in scenarios:
        for device in scenario.devices:
            space = space_for(scenario, device, profile)
            key = _identity(space.describe())
            known = joined.get(key)
            joined[key] = space if known is None else _joined(known, space)
    return list(joined.values())


def space_of_shipped(scenario: Scenario, device: Device, profile: EngineProfile) -> DesignSpace:
    """The space of a scenario, joined with those of the shipped scenarios that share its regions."""
    key = _identity(space_for(scenario, device, profile).describe())
    known = [(s, find_profile(s.model, s.devices[0].name)) for s in (read(one.path) for one in shipped())]
    return next(s for s in shipped_spaces([(scenario, profile), *known]) if _identity(s.describe()) == key)


def _joined(a: DesignSpace, b: DesignSpace) -> DesignSpace:
    options = sorted({*a.options, *b.options}, key=lambda o: (o.max_lora_rank, o.max_loras))
    return replace(a, options=tuple(options), ranks=tuple(sorted({*a.ranks, *b.ranks})))


def ship(workers: int | None = None, progress: Progress | None = None) -> list[Path]:
    """Make the regions of every shipped scenario whose profile is shipped; returns the files written."""
    found = [read(one.path) for one in shipped()]
    spaces = shipped_spaces((s, find_profile(s.model, s.devices[0].name)) for s in found)
    written = []
    for space in spaces:
        regions = make_regions(
            space, command="python -m learn.region_store", workers=workers, progress=progress
        )
        path = (
            SHIPPED / f"{space.profile.name}.{space.workload.arrivals.process}.{_key(space, PLAN)[:8]}.json"
        )
        write_atomically(path, regions.to_json())
        written.append(path)
    for stale in set(SHIPPED.glob("*.json")).difference(written):
        stale.unlink()
    return written


if __name__ == "__main__":
    argparse.ArgumentParser(prog="python -m learn.region_store", description=__doc__).parse_args()
    for path in ship(
        progress=lambda label, done, total: print(f"{label} {done}/{total}", end="\r", file=sys.stderr)
    ):
        print(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
