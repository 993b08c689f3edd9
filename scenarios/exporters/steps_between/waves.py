"""Waves of a change as deployments: three for each, with addresses that stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from scenarios.exporters.deployment import Deployment, Group, Route, deployment_of
from scenarios.exporters.exported import Export
from scenarios.exporters.steps_between.actions import Stop, Unload, Wave
from scenarios.placement import Placement


@dataclass(frozen=True)
class DeployedWave:
    """A wave with the deployments that it goes through.

    Parameters
    ----------
    wave
        What is done.
    load
        Every engine with all that it holds at its fullest; routes as before.
    switch
        The same engines, with the new routes.
    unload
        What is left once adapters are unloaded and engines stopped.
    """

    wave: Wave
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
    for wave in waves:
        fullest = _fullest(wave, running)
        left = {gpu.gpu: set(gpu.adapters) for gpu in wave.engines}
        for action in wave.actions:
            if isinstance(action, Unload):
                left[action.gpu].discard(action.adapter)
            elif isinstance(action, Stop):
                del left[action.gpu]
        old, new = (_routes(fullest, placement) for placement in (before, wave.placement))
        load, switch = replace(fullest, routes=old), replace(fullest, routes=new)
        deployed.append(DeployedWave(wave, load, switch, _with_groups(switch, left)))
        before = wave.placement
    return deployed


def wave_exports(
    deployed: Iterable[DeployedWave], target: Callable[[Deployment], Export]
) -> Iterator[tuple[str, Export]]:
    """Yield a target's export of every state that waves go through, with its folder: ``wave-1/2-switch``."""
    for number, one in enumerate(deployed, start=1):
        for folder, state in (("1-load", one.load), ("2-switch", one.switch), ("3-unload", one.unload)):
            yield f"wave-{number}/{folder}", target(state)


def _fullest(wave: Wave, running: Placement) -> Deployment:
    """The deployment of the engines that run during a wave, each with all that it holds."""
    names = {name for gpu in wave.engines for name in gpu.adapters}
    known = {name: one for name, one in running.adapters.items() if name in names}
    adapters = known | wave.placement.adapters
    return deployment_of(wave.placement.model_copy(update={"gpus": wave.engines, "adapters": adapters}))


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
