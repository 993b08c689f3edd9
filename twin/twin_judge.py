"""The twin asked about GPUs: each distinct content once, whoever asks."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain, groupby, repeat
from typing import Any

from joblib import delayed

from scenarios import (
    UNLIMITED,
    AdapterClass,
    AdapterKind,
    Deadline,
    EngineConfig,
    EngineOption,
    PlacedGPU,
    Placement,
    Scenario,
    Workload,
    as_started,
    check_placement,
)
from scenarios.stopping.progress import Progress, silent
from twin.corners import DRAWN, HIGH, Corner, low_and_drawn
from twin.engine.rules import is_unread
from twin.judging import judge, profiles_of, run_again
from twin.load import GPULoad
from twin.load_growth import FineSteps, load_growths
from twin.parallel import in_threads
from twin.profile import EngineProfile
from twin.result import SimulationResult
from twin.sustained import FULL, SCREEN, Effort, observation_of, patience_of
from twin.verdict import GPUVerdict, ValidationReport

REQUEST = 1.5e-7
"""Counted seconds of one simulated request: 3e-7 on one of two cores of a shared machine (Xeon, 2.1 GHz)."""

JUDGING = "the twin judges"
"""What is being done, for progress."""


@dataclass(frozen=True)
class GPUContent:
    """What one GPU is given; equal contents get equal verdicts, whatever the adapters are called.

    Parameters
    ----------
    option
        How it is run.
    held
        Kinds of adapters and how many there are of each, in the order in which requests are drawn.
    times
        Factor on all of their rates.
    max_cpu_loras
        Adapters that the engine keeps in CPU memory; None: the scenario's, or all of them.
    """

    option: EngineOption
    held: tuple[tuple[AdapterKind, int], ...]
    times: float = 1.0
    max_cpu_loras: int | None = None

    @classmethod
    def of(cls, option: EngineOption, kinds: Iterable[AdapterKind]) -> GPUContent:
        """The content of adapters one by one."""
        return cls(option, tuple((kind, len(list(alike))) for kind, alike in groupby(kinds)))

    def scaled(self, factor: float) -> GPUContent:
        """The same adapters, and corners of their rates, with so many times the requests."""
        return replace(self, times=self.times * factor)

    @property
    def demand_tok_per_s(self) -> float:
        """Tokens that are asked of it, per second."""
        return self.times * sum(n * kind.tokens_per_s for kind, n in self.held)

    @property
    def uncertain(self) -> bool:
        """Whether an adapter's rate may be lower."""
        return any(kind.uncertain for kind, _ in self.held)

    @property
    def at_high(self) -> GPUContent:
        """The same with all rates known, at their highest."""
        return replace(self, held=tuple((kind.at(high=True), n) for kind, n in self.held))

    def other_corners(self, seed: int) -> Iterator[tuple[Corner, GPUContent]]:
        """The other corners of its rates that ask for anything, and what the GPU is given in each."""
        kinds = list(chain.from_iterable(repeat(kind, n) for kind, n in self.held))
        for corner, known in low_and_drawn(kinds, seed):
            if any(kind.rate for kind in known):
                yield corner, replace(self, held=GPUContent.of(self.option, known).held)

    @property
    def load(self) -> GPULoad:
        """The adapters, called 0, 1, 2 and so on, at their high rates."""
        names = iter(range(sum(count for _, count in self.held)))
        return GPULoad.from_classes(
            [
                AdapterClass(
                    kind.rank,
                    kind.rate * self.times,
                    kind.prompt,
                    kind.output,
                    tuple(f"{next(names)}" for _ in range(count)),
                    kind.levels,
                    arrivals=kind.arrivals,
                    reuse=kind.reuse,
                )
                for kind, count in self.held
            ]
        )


@dataclass(frozen=True)
class TwinJudge:
    """Asks the twin for verdicts and remembers them.

    Parameters
    ----------
    scenario
        Workload, engine, service levels, seed and replications.
    profiles
        Engine profile of each device.
    workers
        Threads, where the work is not dealt to a cluster; verdicts do not depend on it.
    progress
        Called with progress.
    effort
        How long each run is under *sustained*.
    high_alone
        Whether uncertain rates are judged at their highest alone.
    """

    scenario: Scenario
    profiles: Mapping[str, EngineProfile]
    workers: int = 1
    progress: Progress = silent
    effort: Effort = FULL
    high_alone: bool = False
    _known: dict[GPUContent, GPUVerdict] = field(default_factory=dict, repr=False)

    def __call__(self, contents: Sequence[GPUContent], deadline: Deadline = UNLIMITED) -> list[GPUVerdict]:
        """Verdict of each content, in order; those seen before cost nothing.

        They speak of adapters 0, 1, 2 and so on; `GPUVerdict.of` gives them their names. Where rates are
        uncertain it is that at the worst corner; others than that of all high rates are only asked of what
        is accepted there.

        Raises
        ------
        Stopped
            If the deadline passes, or the work is interrupted, before there are all.
        """
        new = [c for c in dict.fromkeys(contents) if c not in self._known]
        self._ask([c.at_high if c.uncertain else c for c in new], deadline)
        corners = {c: self._corners(c) for c in new if c.uncertain}
        self._ask([known for at in corners.values() for _, known in at], deadline)
        for content, at in corners.items():
            self._known[content] = _worst((corner, self._known[known]) for corner, known in at)
        return [self._known[content] for content in contents]

    def _corners(self, content: GPUContent) -> list[tuple[Corner, GPUContent]]:
        """The corners by which a content of uncertain rates is judged."""
        first = [(HIGH, content.at_high)]
        if self.high_alone or not self._known[content.at_high].accepted:
            return first
        return [*first, *content.other_corners(self.scenario.seed)]

    def _ask(self, contents: Sequence[GPUContent], deadline: Deadline) -> None:
        """Ask about what is not known yet, all rates being known."""
        new = list(dict.fromkeys(c for c in contents if c not in self._known))
        if new:
            self.progress(JUDGING, 0, len(new))
        # Threads suffice: the twin's loop and NumPy's sorting run without the interpreter's lock.
        jobs = in_threads(map(self._call, new), self.workers, deadline=deadline, work="the twin was judging")
        for done, (content, verdict) in enumerate(zip(new, jobs, strict=True), start=1):
            self._known[content] = verdict
            deadline.work.add(REQUEST * self.requests(content))
            self.progress(JUDGING, done, len(new))

    def growth_factors(
        self, contents: Sequence[GPUContent], deadline: Deadline = UNLIMITED
    ) -> list[float | None]:
        """How many times its load each content could have and still be accepted, to 1 %, in order.

        None: not even a small part of the load is accepted.

        Raises
        ------
        Stopped
            If the deadline passes, or the work is interrupted, before there are all.
        """
        distinct = list(dict.fromkeys(contents))

        def ask(asked: Sequence[tuple[int, float]]) -> list[GPUVerdict]:
            return self([distinct[k].scaled(factor) for k, factor in asked], deadline)

        found = dict(zip(distinct, load_growths(self(distinct, deadline), ask, FineSteps()), strict=True))
        return [None if (growth := found[c]) is None else growth.accepted_factor for c in contents]

    def _call(self, content: GPUContent) -> Any:
        """joblib's call that judges a content, with what it needs of the scenario and no more."""
        scenario, option = self.scenario, content.option
        device = next(d for d in scenario.devices if d.name == option.device)
        return delayed(_judged)(
            content,
            scenario.workload,
            scenario.engine,
            self.profiles[option.device],
            service_levels=scenario.service_levels,
            acceptance=scenario.acceptance,
            headroom=scenario.headroom,
            gpu_memory_gib=device.memory_gib,
            seed=scenario.seed,
            replications=scenario.replications,
            effort=self.effort,
        )

    def run(self, content: GPUContent) -> SimulationResult:
        """The first of the runs behind the verdict on a content whose rates are known.

        It speaks of adapters 0, 1, 2 and so on, at the rates by which the content is judged.

        Raises
        ------
        MemoryFailure
            If the engine does not start.
        EngineInputError
            If an adapter's rank is above that of the slots.
        """
        option = content.option
        device = next(d for d in self.scenario.devices if d.name == option.device)
        return run_again(
            content.load,
            self.scenario,
            self.profiles[option.device],
            max_loras=option.max_loras,
            max_lora_rank=option.max_lora_rank,
            max_cpu_loras=content.max_cpu_loras,
            gpu_memory_gib=device.memory_gib,
        )

    def screening(self) -> TwinJudge:
        """The same with one short run for each verdict, and nothing known yet.

        Its verdicts tell which of two contents is better; whether one is accepted, the whole rule says.
        """
        scenario = self.scenario.model_copy(update={"replications": 1})
        return TwinJudge(scenario, self.profiles, self.workers, effort=SCREEN, high_alone=True)

    def requests(self, content: GPUContent) -> float:
        """Requests that a verdict on a content simulates, on average; the most where rates are uncertain."""
        scenario, load = self.scenario, content.load
        corners = 2 + DRAWN if content.uncertain and not self.high_alone else 1
        rate = float(load.rate.sum())
        seconds = scenario.workload.duration_s
        if scenario.acceptance == "sustained":
            rate *= 1.0 + scenario.headroom
            patience = float(patience_of(load, scenario.service_levels).max())
            processes = load.processes(scenario.workload.arrivals)
            seconds = observation_of(processes, rate, patience, self.effort).horizon_s
        return corners * rate * seconds * scenario.replications


def _judged(
    content: GPUContent, workload: Workload, engine: EngineConfig, profile: EngineProfile, **rule: Any
) -> GPUVerdict:
    """The verdict on a content; `rule` is what else `judge` is told."""
    return judge(
        content.load,
        workload,
        engine,
        profile,
        max_loras=content.option.max_loras,
        max_lora_rank=content.option.max_lora_rank,
        max_cpu_loras=content.max_cpu_loras,
        **rule,
    )


def _worst(judged: Iterable[tuple[Corner, GPUVerdict]]) -> GPUVerdict:
    """The verdict at the worst corner, the first of several."""

    def margin(verdict: GPUVerdict) -> float:
        nothing_due = verdict.accepted and verdict.margin is None
        return math.inf if nothing_due else verdict.signed_margin

    corner, worst = min(judged, key=lambda one: margin(one[1]))
    return worst.model_copy(update={"corner": corner})


@dataclass(frozen=True)
class PlacementJudge:
    """Asks the twin about the GPUs of placements: single adapters and shares of them.

    GPUs that state no ``max_cpu_loras`` are asked about with that of the scenario, or all of their adapters.

    Parameters
    ----------
    judge
        The twin, which remembers what it was asked.
    deadline
        When to stop; a question that is not answered by then ends in `Stopped`.
    """

    judge: TwinJudge
    deadline: Deadline = UNLIMITED

    @cached_property
    def _class_of(self) -> dict[str, int]:
        return {name: k for k, c in enumerate(self.judge.scenario.classes) for name in c.names}

    def content(self, gpu: PlacedGPU) -> tuple[GPUContent, dict[str, str]]:
        """The content of a GPU, its adapters by class and share, and the name of each."""
        keyed = sorted((self._class_of[name], gpu.share(name), k) for k, name in enumerate(gpu.adapters))
        kinds = [self.judge.scenario.classes[c].kind.scaled(share) for c, share, _ in keyed]
        names = {f"{n}": gpu.adapters[k] for n, (_, _, k) in enumerate(keyed)}
        return replace(GPUContent.of(gpu.option, kinds), max_cpu_loras=self._cpu_loras(gpu)), names

    def _cpu_loras(self, gpu: PlacedGPU) -> int | None:
        """The GPU's ``max_cpu_loras`` where it makes a difference, so that equal questions are one."""
        stated = gpu.max_cpu_loras
        if stated is None:
            return None
        n = sum(self.judge.scenario.classes[self._class_of[name]].rank > 0 for name in gpu.adapters)
        unstated = self.judge.scenario.engine.cpu_loras(n, gpu.max_loras)
        return None if min(stated, n) == min(unstated, n) else min(stated, max(n, gpu.max_loras))

    def report(self, gpus: Sequence[PlacedGPU], *, growth: bool = False) -> ValidationReport:
        """The verdicts on some GPUs, in order, each with its own number and its own adapters' names.

        Parameters
        ----------
        growth
            Whether they say how much more load there could be.
        """
        placed = [self.content(gpu) for gpu in gpus]
        contents = [content for content, _ in placed]
        verdicts = self.judge(contents, self.deadline)
        if growth:
            factors = self.judge.growth_factors(contents, self.deadline)
            verdicts = [
                v.model_copy(update={"growth_factor": factor})
                for v, factor in zip(verdicts, factors, strict=True)
            ]
        named = [v.of(gpu.gpu, names) for v, gpu, (_, names) in zip(verdicts, gpus, placed, strict=True)]
        profiles = self.judge.profiles.items()
        derived = {
            name: f"{one.how_sure}; judged at their {one.end} end"
            for name, one in profiles
            if one.derived is not None
        }
        unread = {name: one.engine_version for name, one in profiles if is_unread(one.engine_version)}
        return ValidationReport(
            gpus=tuple(named), distinct=len(set(contents)), derived=derived, unread=unread
        )

    def accepts(self, placement: Placement) -> bool:
        """Whether every GPU is accepted; stops at the first that is not, the busiest first."""
        busiest = sorted(placement.gpus, key=lambda gpu: -self.content(gpu)[0].demand_tok_per_s)
        step = max(1, self.judge.workers)
        return all(self.report(busiest[k : k + step]).accepted for k in range(0, len(busiest), step))


def validate(
    scenario: Scenario,
    placement: Placement,
    *,
    profiles: Mapping[str, EngineProfile] | None = None,
    growth: bool = False,
    workers: int = 1,
    progress: Progress = silent,
) -> ValidationReport:
    """Judge every GPU of a placement; GPUs with equal adapters and engines are judged once.

    Parameters
    ----------
    scenario
        Adapters, workload, engine, service levels, seed and replications.
    placement
        Which GPU serves which adapters. GPUs that state no ``max_cpu_loras`` are run as vLLM starts them
        (`scenarios.as_started`).
    profiles
        Engine profile of each device; absent: the scenario's, or the shipped ones.
    growth
        Whether to find how many times its load each GPU could have; takes a dozen verdicts for each.
    workers
        Threads. The report does not depend on it.
    progress
        Called with progress.

    Raises
    ------
    ScenarioError
        If the placement is not one of the scenario's adapters on its devices.
    UnknownProfileError, ProfileError
        If an engine profile is not to be had.
    Stopped
        If the work is interrupted.
    """
    check_placement(placement, scenario)
    judge = TwinJudge(scenario, profiles or profiles_of(scenario), workers, progress)
    return PlacementJudge(judge).report(as_started(placement, scenario).gpus, growth=growth)
