"""The boundary of one way to run a GPU, over alike adapters: where regions end, and what the twin says."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from learn.bisection import bisect
from learn.features import BoolArray, FloatArray
from learn.region import FeasibilityRegion, Regions
from learn.region_store import regions_for
from learn.scenario_space import scenario_features
from scenarios import AdapterClass, EngineOption, Problem, Scenario, ScenarioError
from scenarios.result_view import ResultView
from scenarios.stopping.progress import Progress, silent
from scenarios.text.tables import Part, table
from twin import GPUContent, TwinJudge, profiles_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BELOW, BEYOND = 0.95, 1.05
"""Loads at which the twin is asked, beside that half-way between both edges: as shares of the inner and of
the outer region's."""

LEAST_RATE, MOST_RATE = 1e-4, 1e4
"""Total rates in requests/s between which edges are sought."""

HALVINGS = 40


@dataclass(frozen=True)
class Edge:
    """Total rates in requests/s at which so many alike adapters leave the inner and the outer region."""

    adapters: int
    inner: float
    outer: float


@dataclass(frozen=True)
class JudgedLoad:
    """The twin's verdict on so many alike adapters with a total rate in requests/s."""

    adapters: int
    rate: float
    accepted: bool


@dataclass(frozen=True)
class BoundaryMap(ResultView):
    """What `boundary_map` found; prints as text.

    ``plot`` draws the edges of both regions over the number of adapters, and the twin's verdicts.

    Parameters
    ----------
    option
        The way to run a GPU.
    adapter
        The adapters, in words.
    edges
        Where regions end, by number of adapters.
    runs
        What the twin says on both sides.
    """

    option: EngineOption
    adapter: str
    edges: tuple[Edge, ...]
    runs: tuple[JudgedLoad, ...]

    @property
    def headline(self) -> str:
        """What is mapped, in a line."""
        slots = f"{self.option.max_loras} slots of rank {self.option.max_lora_rank}"
        return f"{self.option.device} with {slots}: how much {self.adapter} may ask"

    def __repr__(self) -> str:
        return f"<BoundaryMap: {len(self.edges)} numbers of {self.adapter}, {len(self.runs)} verdicts>"

    def _draw(self, ax: Axes | None) -> Figure:
        from learn.plots.boundary import draw_boundary

        return draw_boundary(self, ax)

    def _shown(self) -> Iterable[Part]:
        columns = (">adapters", ">inner requests/s", ">outer requests/s", ">accepted up to", ">rejected from")
        return [self.headline, table(columns, map(self._row, self.edges))]

    def _row(self, edge: Edge) -> list[object]:
        asked = [run for run in self.runs if run.adapters == edge.adapters]
        accepted = max((run.rate for run in asked if run.accepted), default=None)
        rejected = min((run.rate for run in asked if not run.accepted), default=None)
        return [edge.adapters, edge.inner, edge.outer, accepted, rejected]


def boundary_map(
    scenario: Scenario,
    max_loras: int,
    max_lora_rank: int,
    counts: Sequence[int],
    *,
    regions: Regions | None = None,
    workers: int = 1,
    progress: Progress = silent,
) -> BoundaryMap:
    """Find where the regions of one option end, and ask the twin on both sides.

    The adapters are alike, and like the most frequent kind of the scenario that the slots take.

    Parameters
    ----------
    scenario
        Workload, engine, criterion and first device.
    max_loras, max_lora_rank
        The option: slots and their rank.
    counts
        Numbers of adapters.
    regions
        Of the scenario's first device; None: those that `regions_for` gives, which may take minutes.
    workers
        Threads of the twin, and processes where regions must be made.
    progress
        Called with progress.

    Raises
    ------
    ScenarioError
        If no adapter of the scenario has a rank that the slots take.
    RegionError
        If the regions have no such option.
    Stopped
        If the work is interrupted.
    """
    device, profiles = scenario.devices[0], profiles_of(scenario)
    kind = _kind(scenario, max_lora_rank)
    if regions is None:
        regions = regions_for(scenario, device, profiles[device.name], workers=workers, progress=progress)
    option = EngineOption(device.name, max_loras, max_lora_rank)
    edges = tuple(_edge(scenario, regions, option, kind, count) for count in counts)
    asked = [(edge.adapters, rate) for edge in edges for rate in _loads(edge)]
    contents = [
        GPUContent(option, ((kind.kind._replace(rate=rate / count), count),)) for count, rate in asked
    ]
    verdicts = TwinJudge(scenario, profiles, workers, progress)(contents)
    runs = tuple(
        JudgedLoad(count, rate, verdict.accepted)
        for (count, rate), verdict in zip(asked, verdicts, strict=True)
    )
    return BoundaryMap(option, f"adapters of rank {kind.rank}", edges, runs)


def _kind(scenario: Scenario, max_lora_rank: int) -> AdapterClass:
    """One adapter of the most frequent kind that the slots take, without levels of its own."""
    fitting = [one for one in scenario.classes if 0 < one.rank <= max_lora_rank]
    if not fitting:
        problem = Problem("max_lora_rank", f"is {max_lora_rank}", "take a rank that an adapter fits in")
        raise ScenarioError([problem], "boundary_map")
    likest = max(fitting, key=lambda one: one.count)
    return replace(likest, names=likest.names[:1], levels=None, low_share=1.0, min_replicas=1)


def _edge(scenario: Scenario, regions: Regions, option: EngineOption, kind: AdapterClass, count: int) -> Edge:
    inner, outer = (
        _edge_of(scenario, region, option, kind, count) for region in (regions.inner, regions.outer)
    )
    return Edge(count, inner, outer)


def _edge_of(
    scenario: Scenario, region: FeasibilityRegion, option: EngineOption, kind: AdapterClass, count: int
) -> float:
    """Total rate at which alike adapters leave a region."""

    def inside(log_rate: FloatArray) -> BoolArray:
        one = replace(kind, rate=math.exp(float(log_rate)) / count)
        sums = count * scenario_features(scenario, [one])[0]
        return region.contains(option.max_loras, option.max_lora_rank, sums)

    low, _ = bisect(inside, np.log(LEAST_RATE), np.log(MOST_RATE), halvings=HALVINGS)
    return math.exp(float(low))


def _loads(edge: Edge) -> Iterator[float]:
    yield BELOW * edge.inner
    yield (edge.inner + edge.outer) / 2
    yield BEYOND * edge.outer
