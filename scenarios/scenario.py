"""A scenario: the adapters to serve, their workload, the GPUs at hand and what is wanted of them."""

from __future__ import annotations

from functools import cached_property
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from scenarios.adapters import MAX_ADAPTERS, Adapter, AdapterClass, group
from scenarios.arrivals import Arrivals, PoissonArrivals
from scenarios.engine import EngineConfig
from scenarios.lengths import Lengths

ObjectiveName = Literal["gpus", "latency", "cost", "balance"]


class _Noun(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Workload(_Noun):
    """What the adapters' users send."""

    arrivals: Arrivals = Field(default=PoissonArrivals(), description="Arrival process of every adapter.")
    prompt: Lengths = Field(description="Prompt tokens of adapters that name none of their own.")
    output: Lengths = Field(description="Output tokens of adapters that name none of their own.")
    duration_s: float = Field(default=3600.0, gt=0, le=604_800, description="Seconds of load to judge by.")
    warmup_s: float = Field(default=0.0, ge=0, description="Seconds at the start that the metrics leave out.")

    @model_validator(mode="after")
    def _warmup_inside(self) -> Workload:
        if self.warmup_s >= self.duration_s:
            raise ValueError(f"warmup_s {self.warmup_s:g} must be below duration_s {self.duration_s:g}")
        return self


class Device(_Noun):
    """A kind of GPU (or group of GPUs under one engine) and how many of them there are at most."""

    name: str = Field(min_length=1, max_length=100, description="Name as in the engine profile: H100-64GB.")
    count: int = Field(default=1024, ge=1, le=1_000_000, description="How many there are at most.")
    memory_gib: float | None = Field(
        default=None, gt=0, le=10_000, description="GPU memory in GiB; absent: the profile's."
    )
    price_per_hour: float = Field(default=1.0, gt=0, le=1_000_000, description="Price of one for an hour.")


class Limits(_Noun):
    """Upper limits on a latency, each optional, in milliseconds."""

    mean: float | None = Field(default=None, gt=0)
    p50: float | None = Field(default=None, gt=0)
    p90: float | None = Field(default=None, gt=0)
    p99: float | None = Field(default=None, gt=0)


class ServiceLevels(_Noun):
    """What every GPU and every adapter must get for a plan to be accepted."""

    served_share: float = Field(
        default=0.9, gt=0, le=1, description="Least served/offered tokens of a GPU (the paper's 0.9)."
    )
    adapter_served_share: float = Field(
        default=0.9, gt=0, le=1, description="Least served/offered tokens of each adapter."
    )
    itl_ms: Limits = Field(default=Limits(), description="Limits on inter-token latency per GPU.")
    ttft_ms: Limits = Field(default=Limits(), description="Limits on time to first token per GPU.")


class Scenario(_Noun):
    """Everything that `optimizer.solve` needs to know; read from YAML by `scenarios.read`."""

    name: str = Field(min_length=1, max_length=200, description="Short name.")
    description: str = Field(default="", description="What the scenario shows.")
    model: str = Field(min_length=1, description="Base model, as in the engine profile.")
    profile: str | None = Field(
        default=None, description="Engine profile file, relative to the scenario; absent: the shipped one."
    )
    adapters: tuple[Adapter, ...] = Field(min_length=1, description="The adapters to serve.")
    workload: Workload
    devices: tuple[Device, ...] = Field(min_length=1, description="Kinds of GPU to choose from.")
    engine: EngineConfig = Field(default=EngineConfig())
    objective: tuple[ObjectiveName, ...] = Field(
        default=("gpus",), min_length=1, description="Objectives, the most important first."
    )
    service_levels: ServiceLevels = Field(default=ServiceLevels())
    allow_replicas: bool = Field(
        default=True, description="Whether an adapter hotter than a GPU may be split over several."
    )
    seed: int = Field(default=0, ge=0, le=2**63 - 1, description="Seed of everything random.")
    replications: int = Field(
        default=3, ge=1, le=1000, description="Twin runs, with seeds of their own, per verdict."
    )

    @field_validator("objective", mode="before")
    @classmethod
    def _one_or_many(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _adapters_distinct(self) -> Scenario:
        total = sum(entry.count for entry in self.adapters)
        if total > MAX_ADAPTERS:
            raise ValueError(f"adapters: {total:,} adapters are above the limit of {MAX_ADAPTERS:,}")
        seen: set[str] = set()
        for index, entry in enumerate(self.adapters):
            repeated = seen.intersection(entry.names())
            if repeated:
                raise ValueError(f'adapters[{index}]: name "{min(repeated)}" is used twice; rename one')
            seen.update(entry.names())
        return self

    @cached_property
    def classes(self) -> tuple[AdapterClass, ...]:
        """Classes of identical adapters, in order of first appearance."""
        return group(self.adapters, self.workload.prompt, self.workload.output)

    @property
    def n_adapters(self) -> int:
        """How many adapters there are."""
        return sum(entry.count for entry in self.adapters)
