"""Waves of a change as deployments: three for each, with addresses that stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from scenarios.exporters.deployment import Deployment, Group, Route, deployment_of
from scenarios.exporters.exported import Export
from scenarios.exporters.steps_between.actions import Stop, Unload, Wave
from scenarios.placement import PlacedGPU, Placement


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

    Engines that run keep host and port as an export of the running placement gives them; those that start get
    the next ones.

    Raises
    ------
    ExportError
        If the placements of the waves do not say what a deployment needs.
    """
    numbers = sorted(gpu.gpu for gpu in running.gpus)
    seen = {gpu.gpu: gpu for gpu in running.gpus}
    for wave in waves:
        numbers += [gpu.gpu for gpu in wave.engines if gpu.gpu not in seen]
        seen |= {gpu.gpu: gpu for gpu in wave.engines}
    before, deployed = running, []
    for wave in waves:
        engines = seen | {gpu.gpu: gpu for gpu in wave.engines}
        whole = _numbered([engines[number] for number in numbers], running, wave.placement)
        fullest = _with_groups(whole, {gpu.gpu: set(gpu.adapters) for gpu in wave.engines})
        left = {gpu.gpu: set(gpu.adapters) for gpu in wave.engines}
        for action in wave.actions:
            if isinstance(action, Unload):
                left[action.gpu].discard(action.adapter)
            elif isinstance(action, Stop):
                del left[action.gpu]
        old, new = (_routes(whole, placement) for placement in (before, wave.placement))
        switched = replace(fullest, routes=new)
        deployed.append(
            DeployedWave(
                wave, replace(fullest, routes=old), switched, replace(_with_groups(whole, left), routes=new)
            )
        )
        before = wave.placement
    return deployed


def wave_exports(
    deployed: Iterable[DeployedWave], target: Callable[[Deployment], Export]
) -> Iterator[tuple[str, Export]]:
    """Yield a target's export of every state that waves go through, with its folder: ``wave-1/2-switch``."""
    for number, one in enumerate(deployed, start=1):
        for folder, state in (("1-load", one.load), ("2-switch", one.switch), ("3-unload", one.unload)):
            yield f"wave-{number}/{folder}", target(state)


def _numbered(gpus: Sequence[PlacedGPU], running: Placement, placement: Placement) -> Deployment:
    """The deployment of all engines, places in the order given, groups by their own numbers."""
    names = [name for gpu in gpus for name in gpu.adapters]
    shares = {name: 1 / names.count(name) for name in set(names) if names.count(name) > 1}
    ordered = tuple(
        gpu.model_copy(
            update={"gpu": k, "shares": {name: shares[name] for name in gpu.adapters if name in shares}}
        )
        for k, gpu in enumerate(gpus)
    )
    known = {name: one for name, one in running.adapters.items() if name in names}
    update = {"gpus": ordered, "adapters": known | placement.adapters}
    whole = deployment_of(placement.model_copy(update=update))
    groups = tuple(
        replace(group, gpu=gpu, name=f"{whole.settings.name}-g{gpu.gpu}")
        for group, gpu in zip(whole.groups, gpus, strict=True)
    )
    return replace(whole, groups=groups)


def _with_groups(whole: Deployment, held: Mapping[int, set[str]]) -> Deployment:
    """Only engines of some numbers, each with some of its adapters."""

    def kept(group: Group) -> Group:
        names = held[group.number]
        gpu = group.gpu.model_copy(
            update={"adapters": tuple(name for name in group.gpu.adapters if name in names)}
        )
        return replace(group, gpu=gpu, adapters=tuple(one for one in group.adapters if one.name in names))

    groups = sorted((kept(g) for g in whole.groups if g.number in held), key=lambda group: group.number)
    return replace(whole, groups=tuple(groups))


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
