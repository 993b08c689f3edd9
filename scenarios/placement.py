"""A placement: which GPU serves which adapters, and how each engine is configured."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated

from pydantic import Field

from scenarios.base import Finding, FrozenModel
from scenarios.engine import EngineOption, MaxLoraRank
from scenarios.scenario import Scenario
from scenarios.text.formatting import choice, suggestion

SHARE_TOLERANCE = 1e-6
"""How far an adapter's shares may sum from 1."""

NAMED = 5
"""Most adapters that are named, where they are wrong for the same reason."""


class PlacedGPU(FrozenModel):
    """One GPU of a placement.

    ``shares`` names only adapters that the GPU serves in part: the fraction of the adapter's requests
    that is routed here. An adapter without a share is served here whole.
    """

    gpu: Annotated[int, Field(ge=0)]
    """Number of the GPU, from 0."""
    device: Annotated[str, Field(min_length=1)]
    """Kind of GPU."""
    max_loras: Annotated[int, Field(ge=1, le=4096)]
    """Adapter slots."""
    max_lora_rank: MaxLoraRank
    """Rank of every slot."""
    adapters: Annotated[tuple[str, ...], Field(min_length=1)]
    """Names of the adapters served here."""
    shares: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(default_factory=dict)
    """Fraction of an adapter's requests served here, if not all."""

    def findings(self) -> Iterator[Finding]:
        """Yield adapters listed twice and shares of adapters that are not here."""
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


class Placement(FrozenModel):
    """GPUs with their adapters; every adapter's shares over the GPUs sum to 1."""

    gpus: Annotated[tuple[PlacedGPU, ...], Field(min_length=1)]
    """The GPUs in use."""

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
        for adapter, share in total.items():
            if abs(share - 1.0) > SHARE_TOLERANCE:
                message = f'place adapter "{adapter}" {share:g} times over all GPUs'
                remedy = "list it once, or give it shares that sum to 1"
                yield Finding(("gpus", last[adapter], "adapters"), message, remedy)


def mismatches(placement: Placement, scenario: Scenario) -> Iterator[Finding]:
    """Yield where a placement does not serve a scenario's adapters on engines that can."""
    rank = {name: group.rank for group in scenario.classes for name in group.names}
    devices = [device.name for device in scenario.devices]
    unknown = sorted({name for gpu in placement.gpus for name in gpu.adapters} - rank.keys())
    if len(unknown) > NAMED:
        message = f"place {len(unknown):,} adapters unknown to the scenario, among them {_first(unknown)}"
        yield Finding(("gpus",), message, "is it a placement of this scenario?")
    for k, gpu in enumerate(placement.gpus):
        if gpu.device not in devices:
            message = f'is "{gpu.device}", unknown to the scenario'
            yield Finding(("gpus", k, "device"), message, f"use {choice(devices)}")
        for i, name in enumerate(gpu.adapters):
            if name not in rank:
                if len(unknown) <= NAMED:
                    remedy = suggestion(name, rank) or "remove it"
                    yield Finding(("gpus", k, "adapters", i), f'is "{name}", unknown to the scenario', remedy)
            elif rank[name] > gpu.max_lora_rank:
                above = f"of rank {rank[name]}, above the GPU's max_lora_rank {gpu.max_lora_rank}"
                remedy = "raise max_lora_rank or move the adapter"
                yield Finding(("gpus", k, "adapters", i), f'is "{name}" {above}', remedy)
    absent = rank.keys() - {name for gpu in placement.gpus for name in gpu.adapters}
    if absent:
        count = f"{len(absent):,} adapters, among them" if len(absent) > NAMED else "the adapters"
        yield Finding(("gpus",), f"leave out {count} {_first(absent)}", "place every adapter of the scenario")


def _first(names: Iterable[str]) -> str:
    return choice(sorted(names)[:NAMED], "and")
