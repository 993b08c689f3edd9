"""What a target is given: a plan's GPUs as engines with names, arguments and adapters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scenarios.engine import EngineConfig
from scenarios.errors import InputError, Problem
from scenarios.export_settings import ExportSettings
from scenarios.exporters.locations import Location, location_of
from scenarios.placement import PlacedAdapter, PlacedGPU, Placement

LAST_PORT = 65_535


class ExportError(InputError):
    """A placement cannot be exported, or not to this target."""


@dataclass(frozen=True)
class DeployedAdapter:
    """An adapter as clients and engines know it.

    Parameters
    ----------
    name
        Its name in the plan.
    served_name
        Name by which clients ask for it.
    location
        Where its weights are; None: the plan does not say.
    """

    name: str
    served_name: str
    location: Location | None


@dataclass(frozen=True)
class Group:
    """One engine: a GPU of the plan, or the GPUs over which it shares its model.

    Parameters
    ----------
    gpu
        The GPU of the plan.
    name
        Name of the group, a label of DNS: ``lorapack-g3``.
    host, port
        Where its engine listens, without a cluster.
    devices
        Numbers of its GPUs on the host, for CUDA_VISIBLE_DEVICES.
    adapters
        The adapters that it serves, in the plan's order; the base model is none of them.
    base
        Whether requests of the base model are routed to it too.
    arguments
        What the engine is started with, in vLLM's argument names (``max_model_len``), all that the twin
        judged: None leaves an argument out, true and false switch, mappings are JSON.
    """

    gpu: PlacedGPU
    name: str
    host: str
    port: int
    devices: tuple[int, ...]
    adapters: tuple[DeployedAdapter, ...]
    base: bool
    arguments: Mapping[str, object]

    @property
    def number(self) -> int:
        """Number of the GPU in the plan."""
        return self.gpu.gpu


@dataclass(frozen=True)
class Route:
    """Where the requests of a name go.

    Parameters
    ----------
    served_name
        The name that a request asks for.
    shares
        Share of the requests by the number of a group, summing to 1.
    """

    served_name: str
    shares: Mapping[int, float]


@dataclass(frozen=True)
class Deployment:
    """A plan as something to deploy.

    Parameters
    ----------
    model
        Base model as the engine is given it.
    base_name
        Name by which clients ask for the base model.
    engine_version
        Release of vLLM that the twin played; None: it is not known.
    groups
        The engines, by number.
    routes
        Where the requests of each adapter go, by served name; of the base model last, where it has any.
    settings
        Names, images and storage.
    """

    model: str
    base_name: str
    engine_version: str | None
    groups: tuple[Group, ...]
    routes: tuple[Route, ...]
    settings: ExportSettings

    @property
    def split(self) -> tuple[Route, ...]:
        """Routes to more than one group."""
        return tuple(route for route in self.routes if len(route.shares) > 1)


def deployment_of(placement: Placement) -> Deployment:
    """The deployment of a plan.

    Raises
    ------
    ExportError
        If the plan does not say what is needed: the model, and the engine's arguments.
    """
    missing = [key for key in ("model", "engine") if getattr(placement, key) is None]
    if placement.model is None or placement.engine is None:
        problems = [
            Problem(key, "is missing, as in placements of before", "name the scenario: --scenario SCENARIO")
            for key in missing
        ]
        raise ExportError(problems)
    settings = placement.export or ExportSettings()
    model = settings.model or placement.model
    base_name = placement.base_name or model
    _check_hosts(placement, settings)
    ordered = sorted(placement.gpus, key=lambda gpu: gpu.gpu)
    groups = tuple(_group(placement, gpu, settings) for gpu in ordered)
    shares: dict[str, dict[int, float]] = {}
    for gpu in ordered:
        for name in gpu.adapters:
            mine = shares.setdefault(placement.served_name(name), {})
            mine[gpu.gpu] = mine.get(gpu.gpu, 0.0) + gpu.share(name)
    total = {name: sum(of.values()) for name, of in shares.items()}
    routes = [Route(n, {g: s / total[n] for g, s in of.items()}) for n, of in shares.items()]
    routes.sort(key=lambda route: route.served_name == base_name)
    return Deployment(model, base_name, placement.engine_version, groups, tuple(routes), settings)


def _widths(placement: Placement, settings: ExportSettings) -> tuple[int, int]:
    """GPUs of each engine, and engines of each host.

    Raises
    ------
    ExportError
        If an engine has more GPUs than a host.
    """
    assert placement.engine is not None  # deployment_of has looked
    width = placement.engine.tensor_parallel_size * placement.engine.pipeline_parallel_size
    if width > settings.gpus_per_host:
        message = f"is {settings.gpus_per_host}, and each engine shares its model over {width} GPUs of a host"
        raise ExportError([Problem("export.gpus_per_host", message, "raise it, or plan with fewer")])
    return width, settings.gpus_per_host // width


def _check_hosts(placement: Placement, settings: ExportSettings) -> None:
    """Refuse fewer hosts than the numbers of the GPUs need, and ports beyond the last one."""
    _, per_host = _widths(placement, settings)
    numbers = [gpu.gpu for gpu in placement.gpus]
    last = max(numbers)
    needed = last // per_host + 1
    if settings.hosts and len(settings.hosts) < needed:
        message = f"name {len(settings.hosts)}, and GPU {last} needs {needed:,} of {per_host} engines each"
        remedy = "name more, raise export.gpus_per_host, or number the GPUs from 0"
        raise ExportError([Problem("export.hosts", message, remedy)])
    ports = {settings.port + (number % per_host if settings.hosts else number) for number in numbers}
    if max(ports) > LAST_PORT or settings.router_port in ports:
        beyond = max(ports) > LAST_PORT
        met = "beyond the last port" if beyond else f"over the router's {settings.router_port}"
        message = f"is {settings.port}, and the engines of a host reach to {max(ports)}, {met}"
        raise ExportError([Problem("export.port", message, "choose another, or number the GPUs from 0")])


def _group(placement: Placement, gpu: PlacedGPU, settings: ExportSettings) -> Group:
    """The engine of a GPU: host, port and devices follow its number, whichever others there are."""
    assert placement.engine is not None  # deployment_of has looked
    known = placement.adapters
    told = {name: known.get(name, PlacedAdapter()) for name in gpu.adapters}
    adapters = tuple(
        DeployedAdapter(
            name, placement.served_name(name), None if one.source is None else location_of(one.source)
        )
        for name, one in told.items()
        if not one.base
    )
    width, per_host = _widths(placement, settings)
    where, slot = divmod(gpu.gpu, per_host)
    host = settings.hosts[where] if settings.hosts else "127.0.0.1"
    if not settings.hosts:
        slot = gpu.gpu
    return Group(
        gpu,
        f"{settings.name}-g{gpu.gpu}",
        host,
        settings.port + slot,
        tuple(range(slot * width, (slot + 1) * width)),
        adapters,
        any(one.base for one in told.values()),
        engine_arguments(placement.engine, gpu, served=bool(adapters)),
    )


def engine_arguments(engine: EngineConfig, gpu: PlacedGPU, *, served: bool) -> dict[str, object]:
    """What the engine of a GPU is started with: what the twin judged, and nothing else."""
    values = engine.model_dump(mode="json", exclude={"slots"})
    values = {key: value for key, value in values.items() if value is not None}
    if served:
        values |= {
            "enable_lora": True,
            "max_loras": gpu.max_loras,
            "max_lora_rank": gpu.max_lora_rank,
            "max_cpu_loras": gpu.max_cpu_loras or gpu.max_loras,
        }
    return values
