"""A placement: which GPU serves which adapters, and how each engine is configured."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Annotated

from pydantic import Field

from scenarios.base import FrozenModel
from scenarios.engine import MAX_SLOTS, EngineConfig, EngineOption, MaxLoraRank
from scenarios.export_settings import ExportSettings, Plain
from scenarios.reading.findings import Finding, Loc
from scenarios.scenario import Scenario
from scenarios.text.formatting import choice, listed, suggestion

_log = logging.getLogger(__name__)

SHARE_TOLERANCE = 1e-6
"""How far an adapter's shares may sum from 1."""

NAMED = 5
"""Most adapters, or GPUs, that are named, where they are wrong for the same reason."""


class PlacedGPU(FrozenModel):
    """One GPU of a placement.

    ``shares`` names only adapters that the GPU serves in part: the fraction of the adapter's requests
    that is routed here. An adapter without a share is served here whole.
    """

    gpu: Annotated[int, Field(ge=0)]
    """Number of the GPU, from 0."""
    device: Annotated[str, Field(min_length=1)]
    """Kind of GPU."""
    max_loras: Annotated[int, Field(ge=1, le=MAX_SLOTS)]
    """Adapter slots."""
    max_lora_rank: MaxLoraRank
    """Rank of every slot."""
    max_cpu_loras: Annotated[int | None, Field(ge=1)] = None
    """Adapters kept in CPU memory; absent: the scenario's, or as many as max_loras, vLLM's default."""
    adapters: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of the adapters served here."""
    shares: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(default_factory=dict)
    """Fraction of an adapter's requests served here, if not all."""
    node: Annotated[int | None, Field(ge=0)] = None
    """Number of its node, from 0; absent: by devices[].gpus_per_node, in the order of numbers."""

    def findings(self) -> Iterator[Finding]:
        """Yield too few adapters in CPU memory, adapters listed twice and shares of adapters not here."""
        if self.max_cpu_loras is not None and self.max_cpu_loras < self.max_loras:
            message = f"is {self.max_cpu_loras}, below max_loras {self.max_loras}"
            remedy = "raise it: the CPU must hold every adapter that a slot holds, or vLLM will not start"
            yield Finding(("max_cpu_loras",), message, remedy)
        seen: set[str] = set()
        for k, adapter in enumerate(self.adapters):
            if adapter in seen:
                yield Finding(("adapters", k), f'is "{adapter}", listed twice on this GPU', "remove one")
            seen.add(adapter)
        for adapter in self.shares:
            if adapter not in seen:
                message = "is a share of an adapter not listed here"
                yield Finding(("shares", adapter), message, "list it under adapters")

    @property
    def option(self) -> EngineOption:
        """How the GPU is run."""
        return EngineOption(self.device, self.max_loras, self.max_lora_rank)

    def share(self, adapter: str) -> float:
        """Fraction of the adapter's requests that is routed here."""
        return self.shares.get(adapter, 1.0)


class PlacedAdapter(FrozenModel):
    """What a deployment must know of an adapter beside where it is served."""

    base: bool = False
    """Whether it is the base model itself, under a name of the scenario's."""
    source: Plain | None = None
    """Folder or address of its weights."""
    served_name: Plain | None = None
    """Name by which clients ask for it; absent: its own."""


class Placement(FrozenModel):
    """GPUs with their adapters; every adapter's shares over the GPUs sum to 1.

    What follows the GPUs is what a deployment needs, so that a plan can be exported alone.
    """

    gpus: Annotated[tuple[PlacedGPU, ...], Field(min_length=1)]
    """The GPUs in use."""
    model: Annotated[str | None, Field(min_length=1)] = None
    """Base model, as in the scenario."""
    engine_version: Plain | None = None
    """Release of the engine as which the twin judged it."""
    engine: EngineConfig | None = None
    """Arguments of the engines with which the twin judged them."""
    adapters: dict[str, PlacedAdapter] = Field(default_factory=dict)
    """Adapters of which there is more to know than their names."""
    export: ExportSettings | None = None
    """Names, images and storage of a deployment; absent: defaults."""

    @property
    def base_name(self) -> str | None:
        """Name by which clients ask for the base model; None where no model is told."""
        settings = self.export or ExportSettings()
        return settings.served_model_name or settings.model or self.model

    def served_name(self, name: str) -> str:
        """Name by which clients ask for an adapter, or for the base model under a name of the scenario's."""
        told = self.adapters.get(name, PlacedAdapter())
        return (self.base_name if told.base else told.served_name) or name

    def with_gpus(self, gpus: Iterable[PlacedGPU]) -> Placement:
        """The same with other GPUs; what belongs to adapters that they lack is left out."""
        kept = tuple(gpus)
        names = {name for gpu in kept for name in gpu.adapters}
        adapters = {name: one for name, one in self.adapters.items() if name in names}
        return Placement(**{**dict(self), "gpus": kept, "adapters": adapters})

    def findings(self) -> Iterator[Finding]:
        """Yield GPU numbers used twice and adapters that are not placed exactly once."""
        numbers: set[int] = set()
        total: dict[str, float] = {}
        last: dict[str, int] = {}
        for k, gpu in enumerate(self.gpus):
            if gpu.gpu in numbers:
                yield Finding(("gpus", k, "gpu"), f"is {gpu.gpu}, a number used twice", "number GPUs apart")
            numbers.add(gpu.gpu)
            for adapter in gpu.adapters:
                total[adapter] = total.get(adapter, 0.0) + gpu.share(adapter)
                last[adapter] = k
        unplaced = [name for name in self.adapters if name not in total]
        if unplaced:
            message = f"tell of {listed(unplaced, NAMED)}, which no GPU serves"
            yield Finding(("adapters",), message, "place them, or leave them out")
        wrong = [adapter for adapter, share in total.items() if abs(share - 1.0) > SHARE_TOLERANCE]
        if len(wrong) > NAMED:
            remedy = "list each once, or give it shares that sum to 1"
            yield Finding(("gpus",), f"place {listed(wrong, NAMED)} not just once over all GPUs", remedy)
            return
        for adapter in wrong:
            message = f'place adapter "{adapter}" {total[adapter]:g} times over all GPUs'
            remedy = "list it once, or give it shares that sum to 1"
            yield Finding(("gpus", last[adapter], "adapters"), message, remedy)


def mismatches(placement: Placement, scenario: Scenario) -> Iterator[Finding]:
    """Yield where a placement does not serve a scenario's adapters on engines that can.

    A few adapters are named one by one, with their place; more of them together.
    """
    rank = {name: group.rank for group in scenario.classes for name in group.names}
    devices = [device.name for device in scenario.devices]
    places = [
        (("gpus", k, "adapters", i), name, gpu.max_lora_rank)
        for k, gpu in enumerate(placement.gpus)
        for i, name in enumerate(gpu.adapters)
    ]
    absent = sorted(rank.keys() - {name for _, name, _ in places})
    yield from _unknown_devices(placement, devices)
    yield from _too_few_replicas(placement, scenario)
    yield from _too_full_nodes(placement, scenario)
    yield from _unknown_adapters([(loc, name) for loc, name, _ in places if name not in rank], absent)
    yield from _too_high(
        [(loc, name, limit) for loc, name, limit in places if rank.get(name, 0) > limit], rank
    )
    if absent:
        adapters = "adapters" if len(absent) > 1 else "adapter"
        message = f"leave out the {adapters} {listed(absent, NAMED)}"
        yield Finding(("gpus",), message, "place every adapter of the scenario")


def nodes_of(placement: Placement, scenario: Scenario) -> dict[int, int]:
    """The node of each GPU, by its number: that which the placement names, or else dealt in order.

    GPUs of one device are dealt to nodes of ``gpus_per_node`` in the order of their numbers; each device has
    nodes of its own, numbered on from those of the devices before it.
    """
    nodes: dict[int, int] = {}
    first = 1 + max((gpu.node for gpu in placement.gpus if gpu.node is not None), default=-1)
    for device in scenario.devices:
        mine = sorted((gpu for gpu in placement.gpus if gpu.device == device.name), key=lambda gpu: gpu.gpu)
        nodes |= {gpu.gpu: gpu.node for gpu in mine if gpu.node is not None}
        dealt = [gpu.gpu for gpu in mine if gpu.node is None]
        nodes |= {number: first + k // device.gpus_per_node for k, number in enumerate(dealt)}
        first += -(-len(dealt) // device.gpus_per_node)
    return nodes


def with_nodes(placement: Placement, scenario: Scenario) -> Placement:
    """The placement with the node of each GPU, where a device has several GPUs in a node."""
    if all(device.gpus_per_node == 1 for device in scenario.devices):
        return placement
    nodes = nodes_of(placement, scenario)
    return placement.with_gpus(gpu.model_copy(update={"node": nodes[gpu.gpu]}) for gpu in placement.gpus)


def as_started(placement: Placement, scenario: Scenario) -> Placement:
    """The placement as vLLM starts it: GPUs without ``max_cpu_loras`` get the scenario's, or the default.

    That is ``max_loras`` (vllm/config/lora.py, ``LoRAConfig``). Where a GPU serves more adapters than
    that, those beyond are read from disk again and again, which is logged in one line.
    """
    engine = scenario.engine
    gpus = tuple(
        gpu
        if gpu.max_cpu_loras is not None
        else gpu.model_copy(update={"max_cpu_loras": engine.cpu_loras(gpu.max_loras, gpu.max_loras)})
        for gpu in placement.gpus
    )
    adapters = {g.gpu: sum(name not in scenario.base_names for name in g.adapters) for g in placement.gpus}
    few = [gpu for gpu in placement.gpus if gpu.max_cpu_loras is None and gpu.max_loras < adapters[gpu.gpu]]
    if few and engine.max_cpu_loras is None:
        one, most = len(few) == 1, max(adapters[gpu.gpu] for gpu in few)
        _log.warning(
            "%s %s no max_cpu_loras, so that the CPU keeps max_loras adapters, as vLLM does: fewer than are "
            "served there, and the others are read from disk; state max_cpu_loras in the placement, or "
            "engine.max_cpu_loras: %d",
            f"GPU {few[0].gpu}" if one else f"GPUs {listed([str(gpu.gpu) for gpu in few], NAMED)}",
            "states" if one else "state",
            most,
        )
    return placement.with_gpus(gpus)


def described(placement: Placement, scenario: Scenario, engine_version: str | None = None) -> Placement:
    """The placement with all that a deployment needs of a scenario, so that it can be exported alone.

    Parameters
    ----------
    engine_version
        Release of the engine as which the twin judges it; None: it is not known, or there are several.
    """
    placed = {name for gpu in placement.gpus for name in gpu.adapters}
    adapters = {}
    for entry in scenario.adapters:
        for name, rank in zip(entry.names(), entry.ranks(), strict=True):
            source = entry.source_of(name)
            told = PlacedAdapter(base=rank == 0, source=source, served_name=entry.served_name)
            if name in placed and told != PlacedAdapter():
                adapters[name] = told
    update = {
        "model": scenario.model,
        "engine_version": engine_version,
        "engine": scenario.engine,
        "adapters": adapters,
        "export": scenario.export,
    }
    return placement.model_copy(update=update)


def _too_few_replicas(placement: Placement, scenario: Scenario) -> Iterator[Finding]:
    """Yield adapters that are served on fewer GPUs than they must."""
    least = {n: one.min_replicas for one in scenario.classes if one.min_replicas > 1 for n in one.names}
    if not least:
        return
    served = Counter(name for gpu in placement.gpus for name in gpu.adapters)
    few = [f"{name} ({served[name]} of {number})" for name, number in least.items() if served[name] < number]
    if few:
        message = f"serve adapters on fewer GPUs than their min_replicas: {listed(few, NAMED)}"
        yield Finding(("gpus",), message, "give them shares on more GPUs, or lower min_replicas")


def _too_full_nodes(placement: Placement, scenario: Scenario) -> Iterator[Finding]:
    """Yield nodes that are said to hold more GPUs than one has, or GPUs of several devices."""
    limits = {device.name: device.gpus_per_node for device in scenario.devices}
    held: dict[int, list[str]] = {}
    for k, gpu in enumerate(placement.gpus):
        if gpu.node is None or gpu.device not in limits:
            continue
        others = held.setdefault(gpu.node, [])
        others.append(gpu.device)
        if others[0] != gpu.device:
            message = f"is {gpu.node}, which has {others[0]} GPUs"
            yield Finding(("gpus", k, "node"), message, "give each device nodes of its own")
        elif len(others) == limits[gpu.device] + 1:
            message = f"is {gpu.node}, a node of more than {limits[gpu.device]} GPUs"
            yield Finding(("gpus", k, "node"), message, "use another node, or raise devices[].gpus_per_node")


def _unknown_devices(placement: Placement, devices: Sequence[str]) -> Iterator[Finding]:
    """Yield each device that the scenario does not have, where it is named first."""
    first: dict[str, int] = {}
    for k, gpu in enumerate(placement.gpus):
        first.setdefault(gpu.device, k)
    for name, k in first.items():
        if name not in devices:
            remedy = f"use {choice(devices)}"
            yield Finding(("gpus", k, "device"), f'is "{name}", unknown to the scenario', remedy)


def _unknown_adapters(unknown: Sequence[tuple[Loc, str]], absent: Sequence[str]) -> Iterator[Finding]:
    if len(unknown) > NAMED:
        message = f"hold {listed([name for _, name in unknown], NAMED)}, unknown to the scenario"
        yield Finding(("gpus",), message, "give a placement of this scenario's adapters")
        return
    for loc, name in unknown:
        remedy = suggestion(name, absent) or "remove it"
        yield Finding(loc, f'is "{name}", unknown to the scenario', remedy)


def _too_high(places: Sequence[tuple[Loc, str, int]], rank: Mapping[str, int]) -> Iterator[Finding]:
    """Yield adapters whose rank is above that of their GPU's slots."""
    remedy = "raise max_lora_rank or move the adapter"
    if len(places) > NAMED:
        names = listed(
            [f"{name} (rank {rank[name]} in slots of {limit})" for _, name, limit in places], NAMED
        )
        yield Finding(("gpus",), f"hold adapters above their GPU's max_lora_rank: {names}", f"{remedy}s")
        return
    for loc, name, limit in places:
        above = f"of rank {rank[name]}, above the GPU's max_lora_rank {limit}"
        yield Finding(loc, f'is "{name}" {above}', remedy)
