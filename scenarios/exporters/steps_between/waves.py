"""Waves of a change as deployments: four states of each, with addresses that stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scenarios.exporters.deployment import Deployment, Group, Route, deployment_of, engine_arguments
from scenarios.exporters.steps_between.actions import Load, Start, Stop, Unload, Wave
from scenarios.placement import Placement


@dataclass(frozen=True)
class DeployedWave:
    """A wave with the deployments that it goes through.

    Parameters
    ----------
    wave
        What is done.
    before
        What runs when the wave begins.
    load
        Every engine with all that it holds at its fullest; routes as before.
    switch
        The same engines, with the new routes.
    unload
        What is left once adapters are unloaded and engines stopped.
    """

    wave: Wave
    before: Deployment
    load: Deployment
    switch: Deployment
    unload: Deployment


def deployed_waves(running: Placement, waves: Sequence[Wave]) -> list[DeployedWave]:
    """Return the deployments of waves.

    Host, port and devices of an engine follow the number of its GPU, so that they are those of an export of
    the running placement, and of the new one under the numbers with which the steps end.

    Raises
    ------
    ExportError
        If the placements of the waves do not say what a deployment needs.
    """
    before, deployed = running, []
    fresh = set[int]()
    for wave in waves:
        fresh |= {action.gpu for action in wave.actions if isinstance(action, Start)}
        fullest = _fullest(wave, running, waves[-1].placement, fresh)
        began = {gpu.gpu: set(gpu.adapters) for gpu in wave.engines}
        left = {gpu.gpu: set(gpu.adapters) for gpu in wave.engines}
        for action in wave.actions:
            if isinstance(action, Start):
                del began[action.gpu]
            elif isinstance(action, Load):
                began.get(action.gpu, set[str]()).discard(action.adapter)
            elif isinstance(action, Unload):
                left[action.gpu].discard(action.adapter)
            elif isinstance(action, Stop):
                del left[action.gpu]
        old, new = (_routes(fullest, placement) for placement in (before, wave.placement))
        load, switch = replace(fullest, routes=old), replace(fullest, routes=new)
        deployed.append(
            DeployedWave(wave, _with_groups(load, began), load, switch, _with_groups(switch, left))
        )
        before = wave.placement
    return deployed


def _fullest(wave: Wave, running: Placement, final: Placement, fresh: set[int]) -> Deployment:
    """The deployment of the engines that run during a wave, each with all that it holds.

    Those that ran before keep the arguments with which they were started, where the running placement tells.
    """
    names = {name for gpu in wave.engines for name in gpu.adapters}
    told = {**running.adapters, **final.adapters, **wave.placement.adapters}
    adapters = {name: one for name, one in told.items() if name in names}
    whole = deployment_of(wave.placement.model_copy(update={"gpus": wave.engines, "adapters": adapters}))
    engine = running.engine
    if engine is None:
        return whole
    groups = (
        group
        if group.number in fresh
        else replace(group, arguments=engine_arguments(engine, group.gpu, served=bool(group.adapters)))
        for group in whole.groups
    )
    return replace(whole, groups=tuple(groups))


def _with_groups(whole: Deployment, held: Mapping[int, set[str]]) -> Deployment:
    """Only engines of some numbers, each with some of its adapters."""

    def kept(group: Group) -> Group:
        names = held[group.number]
        gpu = group.gpu.model_copy(
            update={"adapters": tuple(name for name in group.gpu.adapters if name in names)}
        )
        return replace(group, gpu=gpu, adapters=tuple(one for one in group.adapters if one.name in names))

    return replace(whole, groups=tuple(kept(group) for group in whole.groups if group.number in held))


def _routes(whole: Deployment, placement: Placement) -> tuple[Route, ...]:
    """The routes of a placement; those of the base model last."""
    served = {one.name: one.served_name for group in whole.groups for one in group.adapters}
    shares: dict[str, dict[int, float]] = {}
    for gpu in placement.gpus:
        for name in gpu.adapters:
            mine = shares.setdefault(served.get(name, whole.base_name), {})
            mine[gpu.gpu] = mine.get(gpu.gpu, 0.0) + gpu.share(name)
    total = {name: sum(of.values()) for name, of in shares.items()}
    routes = [Route(name, {n: s / total[name] for n, s in of.items()}) for name, of in shares.items()]
    return tuple(sorted(routes, key=lambda route: route.served_name == whole.base_name))
