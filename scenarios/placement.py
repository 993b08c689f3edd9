"""A placement: which GPU serves which adapters, and how each engine is configured."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scenarios.engine import MaxLoraRank


class PlacedGPU(BaseModel):
    """One GPU of a placement.

    ``shares`` names only adapters that the GPU serves in part: the fraction of the adapter's requests
    that is routed here. An adapter without a share is served here whole.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    gpu: int = Field(ge=0, description="Number of the GPU, from 0.")
    device: str = Field(min_length=1, description="Kind of GPU.")
    max_loras: int = Field(ge=1, description="Adapter slots.")
    max_lora_rank: MaxLoraRank = Field(description="Rank of every slot.")
    adapters: tuple[str, ...] = Field(min_length=1, description="Names of the adapters served here.")
    shares: dict[str, Annotated[float, Field(gt=0, lt=1)]] = Field(default_factory=dict)

    def share(self, adapter: str) -> float:
        """Fraction of the adapter's requests that is routed here."""
        return self.shares.get(adapter, 1.0)


class Placement(BaseModel):
    """GPUs with their adapters; every adapter's shares over the GPUs sum to 1."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpus: tuple[PlacedGPU, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _shares_sum_to_one(self) -> Placement:
        total: dict[str, float] = {}
        for gpu in self.gpus:
            if len(set(gpu.adapters)) != len(gpu.adapters):
                raise ValueError(f"gpus[{gpu.gpu}]: an adapter is listed twice")
            for adapter in gpu.adapters:
                total[adapter] = total.get(adapter, 0.0) + gpu.share(adapter)
        for adapter, share in total.items():
            if abs(share - 1.0) > 1e-6:
                raise ValueError(f'adapter "{adapter}" is placed {share:g} times; its shares must sum to 1')
        return self
