"""Why a result holds no plan, though one may exist, and what finds one: for programs and in one sentence."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from scenarios.base import PlainDir


class NoPlanReason(StrEnum):
    """What kept a method from a plan."""

    FIRST_TEST = "first_test"
    """The published greedy's smallest test point starves an empty GPU; fewer adapters are not tested."""
    NO_ENGINE = "no_engine"
    """The published greedy's fewest slots have no engine that starts."""
    GPU_OVERLOADED = "gpu_overloaded"
    """A rule dealt a GPU more than its model of the GPU admits."""
    OUTSIDE_INNER_REGION = "outside_inner_region"
    """An adapter fits no GPU of the conservative (inner) region, even alone."""
    TOO_FEW_GPUS = "too_few_gpus"
    """The method's plan needs more GPUs than there are."""
    REJECTED_BY_TWIN = "rejected_by_twin"
    """The twin rejects every plan of the method."""
    NONE_FOUND = "none_found"
    """An exact search tried all that it has, and proved nothing."""
    SPLITS_ADAPTERS = "splits_adapters"
    """The rule splits adapters over GPUs, which the scenario forbids."""
    FEW_REPLICAS = "few_replicas"
    """The rule serves adapters on fewer GPUs than they must be served on."""
    TIME_LIMIT = "time_limit"
    """The time was over."""
    INTERRUPTED = "interrupted"
    """A signal came."""


class NoPlan(PlainDir, BaseModel):
    """Why there is no plan, and what finds one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    reason: NoPlanReason
    why: str = Field(description="The reason in words.")
    remedies: tuple[str, ...] = Field(default=(), description="What may find a plan, the nearest first.")
    adapters: tuple[str, ...] = Field(default=(), description="Adapters that the reason is about, some.")

    @property
    def sentence(self) -> str:
        """Reason and remedies as one sentence."""
        return "; ".join(filter(None, (self.why, ", or ".join(self.remedies))))

    @property
    def stop_reason(self) -> Literal["finished", "time_limit", "interrupted"]:
        """Why a search that ended so stopped."""
        if self.reason is NoPlanReason.TIME_LIMIT:
            return "time_limit"
        return "interrupted" if self.reason is NoPlanReason.INTERRUPTED else "finished"
