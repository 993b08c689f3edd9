"""What is known of a plan when GPUs are lost: each case of a loss, the placement after it, the verdicts."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, computed_field

from optimizer.survival.spare import Recovery, Spare
from scenarios import Acceptance, Placement
from scenarios.base import PlainDir
from scenarios.plots import Bar, draw_bars
from scenarios.result_view import ResultView
from scenarios.text.tables import Part, render
from twin import ValidationReport

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_READABLE = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


class LossCase(PlainDir, BaseModel):
    """One case of a loss: the GPUs that are lost, and how what they served is served after it."""

    model_config = _READABLE

    lost: tuple[int, ...]
    """Numbers of the GPUs that are lost."""
    alike: tuple[tuple[int, ...], ...] = ()
    """Other losses that are the same case, as GPUs of equal content and engine are lost."""
    recovery: Recovery | None = None
    """How the plan holds: live, or after engines were started again; null where no way was found."""
    placement: Placement | None = None
    """The placement after the loss, on the GPUs that are left; null where none was found."""
    validation: ValidationReport | None = None
    """The twin's verdict on every GPU of it."""
    loaded: int = 0
    """Adapters that are loaded into other GPUs than before."""
    restarted: tuple[int, ...] = ()
    """GPUs whose engines must be started again; how long that takes is not known of an engine profile."""
    why_not_live: str = ""
    """Why the running engines do not take the adapters; empty where they do, or were not asked."""
    why_not: str = ""
    """Why there is no placement after the loss."""

    @computed_field(description="Whether the twin accepts every GPU of the placement after the loss.")  # type: ignore[prop-decorator]
    @property
    def accepted(self) -> bool:
        """Whether the twin accepts every GPU of the placement after the loss."""
        return self.validation is not None and self.validation.accepted

    @computed_field(description="The smallest margin of a GPU after the loss.")  # type: ignore[prop-decorator]
    @property
    def worst_margin(self) -> float | None:
        """The smallest margin of a GPU after the loss."""
        known = [v.margin for v in (self.validation.gpus if self.validation else ()) if v.margin is not None]
        return min(known, default=None)


class Survival(ResultView, PlainDir, BaseModel):
    """Whether a plan holds after every loss of so many GPUs, or of a node.

    ``plot`` draws how far the tightest GPU is from its limit after each loss.
    """

    model_config = _READABLE

    spare: str
    """What is lost: a number of GPUs, or 1node."""
    recovery: Recovery
    """What was asked for: live, or after a restart."""
    acceptance: Acceptance
    """By what criterion the GPUs are judged after a loss."""
    losses: tuple[LossCase, ...] = ()
    """The distinct cases."""
    complete: bool = True
    """Whether all cases were looked at; not where the time was over, or a first case had failed."""
    bound: int | None = None
    """No plan on fewer GPUs holds after such losses; null where nothing is proven."""
    message: str = ""
    """One sentence on the search for the fewest GPUs; empty where a given plan was looked at."""

    @computed_field(description="Whether the plan holds after every loss, as was asked for.")  # type: ignore[prop-decorator]
    @property
    def holds(self) -> bool:
        """Whether the plan holds after every loss, as was asked for."""
        return self.live if self.recovery == "live" else self.after_restart

    @computed_field(description="Whether the engines that run take the adapters after every loss.")  # type: ignore[prop-decorator]
    @property
    def live(self) -> bool:
        """Whether the engines that run take the adapters of the lost GPUs, after every loss."""
        return self.complete and all(case.accepted and case.recovery == "live" for case in self.losses)

    @computed_field(description="Whether the plan holds after every loss once engines were started again.")  # type: ignore[prop-decorator]
    @property
    def after_restart(self) -> bool:
        """Whether the plan holds after every loss once engines were started again where need be."""
        return self.complete and all(case.accepted for case in self.losses)

    @property
    def in_words(self) -> str:
        """What is lost, for people."""
        return Spare.of(self.spare).in_words

    def to_frame(self) -> pd.DataFrame:
        """One row per case of a loss."""
        import pandas as pd

        return pd.DataFrame(
            {
                "lost": ", ".join(map(str, case.lost)),
                "alike": len(case.alike),
                "recovery": case.recovery,
                "accepted": case.accepted,
                "worst_margin": case.worst_margin,
                "loaded": case.loaded,
                "restarted": len(case.restarted),
                "why_not_live": case.why_not_live,
                "why_not": case.why_not,
            }
            for case in self.losses
        )

    def summary(self) -> str:
        """The answer, and a table of the cases, as text."""
        from optimizer.survival.text import survival_parts

        return render(*survival_parts(self))

    def __repr__(self) -> str:
        return f"<Survival: loss of {self.in_words}, {'holds' if self.holds else 'does not hold'}>"

    def __str__(self) -> str:
        return self.summary()

    def _draw(self, ax: Axes | None) -> Figure:
        title = f"Loss of {self.in_words}: the plan {'holds' if self.holds else 'DOES NOT HOLD'}"
        return draw_bars(
            ax, title, [_bar(case) for case in self.losses],
            "margin of the tightest GPU: logarithm of its limit over what the twin measured",
            line=(0.0, "the limit"), good="holds", bad="does not hold",
        )  # fmt: skip

    def _shown(self) -> Iterable[Part]:
        from optimizer.survival.text import survival_parts

        return survival_parts(self)


def _bar(case: LossCase) -> Bar:
    """The margin after a loss, with what it takes."""
    name = f"lost: GPU {', '.join(map(str, case.lost))}" + (
        f" (and {len(case.alike)} alike)" if case.alike else ""
    )
    if case.worst_margin is None:
        return Bar(name, None, "no placement was found" if case.placement is None else "not measured", False)
    words = f"{case.loaded:,} loaded" + (f", {len(case.restarted):,} restarted" if case.restarted else "")
    return Bar(name, case.worst_margin, words, case.accepted)
