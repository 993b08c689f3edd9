"""`rollout`: the steps from a running placement to a new one, every stage judged by the twin."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import twin
from optimizer.rollouts.check import broken_rules
from optimizer.rollouts.fleet import Fleet, Names, changed
from optimizer.rollouts.flows import flows_between, goes_on
from optimizer.rollouts.planner import Limits, Planner, Step, room_of, stopped
from optimizer.rollouts.report import Rollout, Stage
from scenarios import (
    LorapackError,
    PlacedGPU,
    Placement,
    Scenario,
    as_started,
    check_placement,
    criterion_in_words,
    noticed,
)
from scenarios.arguments import ArgumentCheck, instance_of, whole
from scenarios.exporters.steps_between.actions import Action, Load, Start, Stop, Switch, Unload
from scenarios.stopping.progress import Progress, interruptible, silent
from scenarios.text.formatting import choice, counted
from twin import GPUVerdict, PlacementJudge, TwinJudge


class UnsafeStepsError(LorapackError, RuntimeError):
    """The independent check refuses the steps that were found; a bug, never a user's fault."""


Verdicts = Callable[[Sequence[PlacedGPU]], Sequence[GPUVerdict]]
"""The twin's verdict on each of some GPUs."""


def rollout(
    scenario: Scenario,
    running: Placement,
    new: Placement,
    *,
    gpus: int | None = None,
    named_at_start: bool = False,
    workers: int = 2,
    progress: Progress = silent,
) -> Rollout:
    """Find a safe order of steps from a running placement to a new one.

    In every wave engines are started, adapters loaded, routes switched all at once, and what is routed
    nowhere any more unloaded or stopped. Requests that run when routes are switched end where they began.

    Parameters
    ----------
    scenario
        The adapters with their rates, by which every stage is judged.
    running
        What runs; a GPU that states no ``max_cpu_loras`` as vLLM starts it (`scenarios.as_started`).
    new
        What is to run.
    gpus
        Most GPUs at once, besides ``devices[].count``; None: as few more than the larger placement has
        as there must be, one at least if it serves a restart.
    named_at_start
        Whether an engine knows its adapters from its start alone, as on a command line: other adapters are
        then another engine, which starts beside those that serve.
    workers
        Threads; the steps do not depend on it.
    progress
        Called with progress.

    Returns
    -------
    Rollout
        Stages that only take load from a GPU, or leave it as the new placement has it, are gone through even
        where the twin rejects that GPU; `Rollout.accepted` then says so.

    Raises
    ------
    ScenarioError
        If an argument is of a wrong type, or the new placement is not one of the scenario, or the running one
        uses a device that the scenario does not have.
    twin.UnknownProfileError
        If no engine profile is known for the scenario's model and device.
    Stopped
        If the work is interrupted.
    """
    _check(scenario, running, new, gpus, workers)
    progress = interruptible(progress)
    with noticed():
        judge = PlacementJudge(TwinJudge(scenario, twin.profiles_of(scenario), workers, progress))
        return steps_between(
            scenario, running, new, lambda asked: judge.report(asked).gpus, gpus, named_at_start
        )


def _check(scenario: object, running: object, new: object, gpus: object, workers: object) -> None:
    given = ArgumentCheck("rollout")
    arguments = (("scenario", scenario, Scenario), ("running", running, Placement), ("new", new, Placement))
    for name, value, kind in arguments:
        message = f"is of type {type(value).__name__}"
        given.check(name, value, instance_of(kind), f"give a scenarios.{kind.__name__}", message)
    if gpus is not None:
        given.check("gpus", gpus, whole(least=1), "give a number of GPUs, at least 1, or none")
    given.check("workers", workers, whole(least=1), "give a number of threads, at least 1")
    given.refuse()
    assert isinstance(scenario, Scenario)
    assert isinstance(running, Placement)
    assert isinstance(new, Placement)
    known = [device.name for device in scenario.devices]
    for k, gpu in enumerate(running.gpus):
        message = f'is "{gpu.device}", which the scenario does not have'
        given.check(
            f"running.gpus[{k}].device", gpu.device, known.__contains__, f"use {choice(known)}", message
        )
    given.refuse()
    check_placement(new, scenario, "new placement")


def steps_between(
    scenario: Scenario,
    running: Placement,
    new: Placement,
    verdicts: Verdicts,
    gpus: int | None = None,
    named_at_start: bool = False,
) -> Rollout:
    """The steps, whoever judges."""
    running, new = as_started(running, scenario), as_started(new, scenario)
    larger = max(len(running.gpus), len(new.gpus))
    devices = {device.name: device.count for device in scenario.devices}
    names = replace(_names(scenario), named_at_start=named_at_start)
    search = _Search(running, new, names, verdicts)
    most = range(larger + 1, larger + len(new.gpus) + 1) if gpus is None else (gpus,)
    steps = next((found for n in most if (found := search.steps(Limits(devices, n))) is not None), None)
    if steps is None:
        return Rollout(
            peak_gpus=larger,
            named_at_start=named_at_start,
            criterion=criterion_in_words(scenario),
            why_not=_needed(search, devices, larger),
        )
    stages, final, renumbered = search.staged(steps)
    used = {name: max(n, sum(g.device == name for g in running.gpus)) for name, n in devices.items()}
    waves = [stage.wave for stage in stages]
    broken = broken_rules(running, waves, final, names.ranks, used, named_at_start=named_at_start)
    if broken:
        raise UnsafeStepsError(f"the steps that were found would break service: {'; '.join(broken)}")
    peak = max((len(stage.engines) for stage in stages), default=larger)
    return Rollout(
        stages=stages,
        placement=final,
        renumbered=renumbered,
        peak_gpus=peak,
        extra_gpus=max(peak - larger, 0),
        named_at_start=named_at_start,
        criterion=criterion_in_words(scenario),
    )


def _names(scenario: Scenario) -> Names:
    classes = scenario.classes
    return Names(
        ranks={name: one.rank for one in classes for name in one.names},
        demand={name: one.tokens_per_s for one in classes for name in one.names},
        replicas={name: one.min_replicas for one in classes if one.min_replicas > 1 for name in one.names},
    )


def _needed(search: _Search, devices: Mapping[str, int], larger: int) -> str:
    """What is missing where there are no safe steps: the fewest GPUs beside those that there are."""
    fixed = search.names.named_at_start
    why = (
        "no order of steps was found that keeps every adapter served, as the twin accepts, on engines that "
        "must be started anew for other adapters"
        if fixed
        else "no order of steps was found that keeps every adapter served within max_cpu_loras as the twin "
        "accepts"
    )
    for spare in range(1, len(search.new.gpus) + 1):
        more = {name: number + spare for name, number in devices.items()}
        steps = search.steps(Limits(more, larger + spare))
        if steps is not None:
            starts = sum(len(step.begun.engines.keys() - step.before.engines.keys()) for step in steps)
            waves = f"{counted(len(steps), 'wave')} and {counted(starts, 'engine start')}"
            needed = "one spare GPU is needed" if spare == 1 else f"{spare} spare GPUs are needed"
            return f"{why}, on the GPUs that there are; {needed}, with which it takes {waves}"
    remedy = "" if fixed else "raise max_cpu_loras, or "
    return f"{why}; {remedy}interrupt the service for the change"


@dataclass(eq=False)
class _Search:
    """Steps between two placements.

    Parameters
    ----------
    running, new
        From where to where; every GPU states its ``max_cpu_loras``.
    names
        What is known of the adapters.
    verdicts
        The twin.
    """

    running: Placement
    new: Placement
    names: Names
    verdicts: Verdicts

    def steps(self, limits: Limits) -> list[Step] | None:
        """The waves within some limits; None if there is no way."""
        fleet = self._beginning()
        devices_of = {gpu.gpu: gpu.device for gpu in (*self.new.gpus, *self.running.gpus)}
        judge = lambda gpus: [verdict.accepted for verdict in self.verdicts(gpus)]  # noqa: E731
        steps = list(Planner(self.new, self.names, limits, judge, devices_of).waves(fleet))
        end = stopped(steps[-1].after) if steps else fleet
        return steps if end.done else None

    def _beginning(self) -> Fleet:
        stay = [
            goes_on(
                self.running,
                self.new,
                goal,
                self.names.loaded,
                named_at_start=self.names.named_at_start,
            )
            for goal in range(len(self.new.gpus))
        ]
        homes = tuple(gpu.gpu if on else None for gpu, on in zip(self.new.gpus, stay, strict=True))
        room = {gpu.gpu: room_of(gpu, self.names) for gpu in self.running.gpus}
        for gpu, on in zip(self.new.gpus, stay, strict=True):
            if on:
                room[gpu.gpu] = max(room[gpu.gpu], room_of(gpu, self.names))
        engines = {gpu.gpu: gpu for gpu in self.running.gpus}
        return Fleet(engines, flows_between(self.running, self.new, stay), homes, room)

    def staged(self, steps: Sequence[Step]) -> tuple[tuple[Stage, ...], Placement, dict[int, int]]:
        """The stages with their verdicts, what runs in the end, and which GPUs get other numbers."""
        stages = tuple(self._stage(step) for step in steps)
        homes = steps[-1].after.homes if steps else [gpu.gpu for gpu in self.new.gpus]
        pairs = [(gpu, home) for gpu, home in zip(self.new.gpus, homes, strict=True) if home is not None]
        nodes = {gpu.gpu: gpu.node for gpu in (*self.running.gpus, *self.new.gpus)}
        renumbered = {gpu.gpu: home for gpu, home in pairs if gpu.gpu != home}
        final = (
            gpu if gpu.gpu == home else gpu.model_copy(update={"gpu": home, "node": nodes.get(home)})
            for gpu, home in pairs
        )
        return stages, self.new.with_gpus(sorted(final, key=lambda gpu: gpu.gpu)), renumbered

    def _stage(self, step: Step) -> Stage:
        placed = [gpu for n in sorted(step.after.engines) if (gpu := step.after.placed(n)) is not None]
        asked = set(changed(step.before, step.after))
        return Stage(
            actions=tuple(_actions(step, self.names)),
            engines=tuple(_fullest(step, self.names)),
            placement=self.new.with_gpus(placed),
            verdicts=tuple(self.verdicts([gpu for gpu in placed if gpu.gpu in asked])),
        )


def _fullest(step: Step, names: Names) -> Iterator[PlacedGPU]:
    """The engines of a wave with what they hold before it and after it."""
    for number, gpu in sorted(step.begun.engines.items()):
        served = (*step.begun.shares(number), *step.after.shares(number))
        held = gpu.adapters if names.named_at_start else tuple(dict.fromkeys(served))
        yield gpu.model_copy(update={"adapters": held, "shares": {}})


def _actions(step: Step, names: Names) -> Iterator[Action]:
    """What is done in a wave, in its order."""
    before, after = step.begun, step.after
    numbers = sorted(before.engines)
    held = {number: (before.held(number, names), after.held(number, names)) for number in numbers}
    gone = before.engines.keys() - stopped(after).engines.keys()
    yield from (Start(number) for number in numbers if number not in step.before.engines)
    yield from (
        Load(number, name) for number in numbers for name in sorted(held[number][1] - held[number][0])
    )
    old, new = before.routes(), after.routes()
    for name in dict.fromkeys((*old, *new)):
        if old.get(name) != new.get(name):
            yield Switch(name, new.get(name, {}))
    yield from (
        Unload(number, name)
        for number in numbers
        if number not in gone
        for name in sorted(held[number][0] - held[number][1])
    )
    yield from (Stop(number) for number in sorted(gone))
