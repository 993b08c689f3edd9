"""How sure the step costs behind a plan are: measured, or derived with a band of GPUs."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from scenarios.text.formatting import counted
from twin import End, EngineProfile

ENDS: tuple[End, ...] = ("pessimistic", "expected", "optimistic")


class StepCosts(BaseModel):
    """Step costs that nobody measured, and what that means for a plan."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    end: End = Field(description="The end of what they may be at which every GPU was judged.")
    derived: dict[str, str] = Field(description="By device, from what they are derived.")
    gpus: dict[End, int | None] = Field(
        default_factory=dict,
        description="Fewest GPUs found at each end of what they may be; null where no plan was found.",
    )

    @classmethod
    def of(cls, profiles: Mapping[str, EngineProfile]) -> StepCosts | None:
        """Those of the devices whose profiles are derived; None if all are measured."""
        derived = {name: one for name, one in profiles.items() if one.derived is not None}
        if not derived:
            return None
        words = {name: one.how_sure for name, one in derived.items()}
        return cls(end=next(iter(derived.values())).end, derived=words)

    @property
    def sentence(self) -> str:
        """What a reader must know: that they are derived, at which end they were judged, and the band.

        Rows learned at the expected costs are scaled to another end, and bounds rest on them
        (`optimizer.search.derived.ends`).
        """
        what = "; ".join(f"{device}: {words}" for device, words in self.derived.items())
        text = f"step times are derived, not measured ({what}); judged at their {self.end} end"
        if self.end != "expected":
            text += ", where bounds are approximate"
        band = [f"{end} {counted_gpus(self.gpus[end])}" for end in ENDS if end in self.gpus]
        return f"{text}; by end: {', '.join(band)}" if band else text


def counted_gpus(gpus: int | None) -> str:
    """A number of GPUs, or that there is no plan."""
    return "no plan" if gpus is None else counted(gpus, "GPU")
