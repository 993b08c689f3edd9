"""What `solve` returns: why it stopped, the plan it holds, what is proven, and what the twin said."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, computed_field

from optimizer.no_plan import NoPlan
from optimizer.result_text import outcome_lines, result_parts
from optimizer.step_costs import StepCosts
from optimizer.survival.report import Survival
from scenarios import Acceptance, Placement, Problem, Scenario, ScenarioError, visible
from scenarios.base import PlainDir
from scenarios.files import RESULT_VERSION
from scenarios.result_view import ResultView
from scenarios.stopping.progress import Progress, silent
from scenarios.text.formatting import counted
from scenarios.text.tables import Part, render
from twin import ValidationReport

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from optimizer.explanation.explain import Explanation
    from optimizer.growth import GrowthReport

ResultStatus = Literal["optimal", "feasible", "infeasible", "no_plan"]
"""``optimal``: the plan meets the bound. ``feasible``: a plan, not proven optimal. ``infeasible``: proven
that no plan exists. ``no_plan``: none was found."""

ResultStop = Literal["proven", "finished", "gap_limit", "time_limit", "interrupted"]
"""Why the search stopped; ``proven``: the plan meets the bound, or there is none; ``finished``: it tried all
it had."""


class Result(ResultView, PlainDir, BaseModel):
    """A solved scenario.

    What stopped the solver (``stop_reason``), what it holds (``placement``) and what is proven
    (``status``, ``bound``, ``gap``, all of the first objective) are kept apart. The bound is that of the
    optimistic (outer) region: no plan that the twin could accept is below it, as far as that region is
    right. *Optimal* is a plan that meets it; what the twin confirmed is in ``validation``.
    ``plot`` draws load, adapters and mean TTFT of every GPU, with the twin's verdict.
    """

    # What is computed from the fields is written into JSON and ignored when that is read again.
    model_config = ConfigDict(frozen=True, extra="ignore")

    result_version: Literal[3] = Field(
        default=RESULT_VERSION, description="Version of this format; results without it are of version 1."
    )
    status: ResultStatus
    stop_reason: ResultStop
    message: str = Field(description="One sentence on the outcome.")
    no_plan: NoPlan | None = Field(
        default=None, description="Why there is no plan where status is no_plan, and what finds one."
    )
    method: str = Field(description="Name of the placer.")
    objectives: tuple[str, ...] = Field(description="Objectives, the most important first.")
    objective: float | None = Field(description="Value of the first objective for the plan.")
    objective_values: tuple[float | None, ...] = Field(
        default=(), description="Value of each objective for the plan, in their order."
    )
    objective_bounds: tuple[float | None, ...] = Field(
        default=(),
        description="Bound on each objective, in their order, for the plans that are as good in the prices "
        "before it; null where nothing is proven.",
    )
    bound: float | None = Field(
        description="No plan of the optimistic (outer) region that the twin can accept has a smaller first "
        "objective; null where nothing is proven."
    )
    no_bound: str = Field(
        default="", description="Why a latency that comes first has no bound; empty where it has one."
    )
    gap: float | None = Field(description="(objective - bound) / objective.")
    gpus: int | None = Field(description="How many GPUs the plan uses.")
    placement: Placement | None
    validation: ValidationReport | None
    survival: Survival | None = Field(
        default=None,
        description="What becomes of the plan when GPUs are lost; null where not asked.",
    )
    step_costs: StepCosts | None = Field(
        default=None,
        description="What derived step costs mean for the plan; null where all of them are measured.",
    )
    iterations: int = Field(description="Rounds of solve, validate and cut.")
    cuts: int = Field(description="GPU contents that the twin rejected on the way.")
    seconds: float = Field(description="Wall-clock time.")
    preparation_seconds: float = Field(
        default=0.0, description="Of it before the search: compiling, and learning regions."
    )
    seed: int
    params: dict[str, Any] = Field(
        default_factory=dict, description="Parameters of the search that differ from their defaults."
    )
    version: str = Field(description="Version of lorapack.")
    scenario: Scenario

    @computed_field(description="The same as bound.")  # type: ignore[prop-decorator]
    @property
    def outer_bound(self) -> float | None:
        """The same as ``bound``."""
        return self.bound

    @computed_field(description="By what its GPUs are accepted: sustained or paper.")  # type: ignore[prop-decorator]
    @property
    def acceptance(self) -> Acceptance:
        """By what its GPUs are accepted."""
        return self.scenario.acceptance

    @property
    def accepted(self) -> bool:
        """Whether there is a plan and the twin accepted every GPU of it."""
        return self.validation is not None and self.validation.accepted

    @property
    def as_asked(self) -> bool:
        """Whether the plan is accepted, and holds after losses where that was asked for."""
        return self.accepted and (self.survival is None or self.survival.holds)

    @property
    def search_seconds(self) -> float:
        """Wall-clock time of the search alone, without compiling and learning."""
        return self.seconds - self.preparation_seconds

    @property
    def cost_per_hour(self) -> float | None:
        """What the plan's GPUs cost in an hour; None without a plan, or where one of them has no price."""
        if self.placement is None:
            return None
        prices = {device.name: device.price_per_hour for device in self.scenario.devices}
        known = [price for gpu in self.placement.gpus if (price := prices[gpu.device]) is not None]
        return sum(known) if len(known) == len(self.placement.gpus) else None

    @property
    def outcome(self) -> str:
        """Status, number of GPUs and verdict in a few words."""
        if self.gpus is None:
            return self.status
        verdict = "accepted" if self.accepted else "rejected"
        return f"{self.status}, {counted(self.gpus, 'GPU')}, {verdict}"

    def to_frame(self) -> pd.DataFrame:
        """One row per GPU, by number: its configuration and the twin's verdict."""
        verdicts = {v.gpu: v.figures for v in self.validation.gpus} if self.validation else {}
        gpus = self.placement.gpus if self.placement else ()
        return pd.DataFrame(
            {
                "gpu": gpu.gpu,
                "device": gpu.device,
                "adapters": sum(name not in self.scenario.base_names for name in gpu.adapters),
                "max_loras": gpu.max_loras,
                "max_lora_rank": gpu.max_lora_rank,
                "max_cpu_loras": gpu.max_cpu_loras,
                **verdicts.get(gpu.gpu, {}),
            }
            for gpu in sorted(gpus, key=lambda gpu: gpu.gpu)
        )

    def to_json(self) -> str:
        """JSON of everything; the schema is `result_schema()`."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False)

    def parts(self) -> list[Part]:
        """What `summary` says, in parts that `scenarios.text.tables.render` renders, in colour too."""
        return result_parts(self)

    def summary(self) -> str:
        """The outcome, the twin's verdict on every GPU, and its adapters in short, as text."""
        return render(*self.parts())

    def explain(self) -> Explanation:
        """What fills each GPU, why fewer do not work, and what would save one; prints as text."""
        from optimizer.explanation.explain import explain

        return explain(self)

    def growth(self, *, workers: int = 1, progress: Progress = silent) -> GrowthReport:
        """How many times its load each GPU, and so the plan, could have; prints as text.

        It takes about a dozen verdicts of the twin for each distinct GPU.

        Parameters
        ----------
        workers
            Threads. The report does not depend on it.
        progress
            Called with progress.

        Raises
        ------
        Stopped
            If the work is interrupted.
        """
        from optimizer.growth import growth_of

        return growth_of(self, workers=workers, progress=progress)

    def survives(
        self, spare: int | str = 1, *, recovery: str = "live", time_limit_s: float = 60.0, workers: int = 1
    ) -> Survival:
        """Whether the plan holds after every loss of some GPUs, or of a node.

        Parameters
        ----------
        spare, recovery, time_limit_s, workers
            As in `optimizer.survives`.

        Raises
        ------
        ScenarioError
            If there is no plan, or an argument is out of its range.
        """
        import optimizer

        if self.placement is None:
            problem = Problem("placement", "is absent: there is no plan", "find one first: see message")
            raise ScenarioError([problem], "survives")
        return optimizer.survives(
            self.scenario,
            self.placement,
            spare,
            recovery=recovery,
            time_limit_s=time_limit_s,
            workers=workers,
        )

    def to_html(self, *, what_if: bool = True, workers: int = 1, progress: Progress = silent) -> str:
        """The result as a page for a browser, as `optimizer.report` makes it: one file, without a network.

        Parameters
        ----------
        what_if
            Whether GPUs at other loads and patiences are computed, for a minute at most.
        workers
            Threads.
        progress
            Called with progress.

        Raises
        ------
        optimizer.reporting.page.MissingExtraError
            If the packages of the extra ``report`` are not installed.
        """
        import optimizer

        return optimizer.report(self, what_if=what_if, workers=workers, progress=progress).to_html()

    @property
    def headline(self) -> str:
        """The outcome in two or three lines."""
        return "\n".join(line.plain for line in outcome_lines(self))

    def __repr__(self) -> str:
        return f"<Result: {visible(self.scenario.name)}, {self.method}, {self.outcome}>"

    def __str__(self) -> str:
        return self.summary()

    def _draw(self, ax: Axes | None) -> Figure:
        from optimizer.plots import draw_plan

        return draw_plan(self, ax)

    def _shown(self) -> Iterable[Part]:
        return self.parts()


def result_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a result, as `Result.to_json` writes it."""
    schema = Result.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
