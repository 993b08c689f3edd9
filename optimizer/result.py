"""What `solve` returns: why it stopped, the plan it holds, what is proven, and what the twin said."""

from __future__ import annotations

import json
from functools import cached_property
from html import escape
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field

from scenarios import Placement, Scenario
from scenarios.files import RESULT_VERSION
from scenarios.text.display import visible
from scenarios.text.tables import Part, render, table
from twin.verdict import ValidationReport

if TYPE_CHECKING:
    from optimizer.explanation.explain import Explanation

ResultStatus = Literal["optimal", "feasible", "infeasible", "no_plan"]
"""``optimal``: the least first objective for the linearised model, proven.
``feasible``: a plan, not proven optimal. ``infeasible``: proven that no plan exists. ``no_plan``: stopped
before a plan was found."""

ResultStop = Literal["proven", "finished", "gap_limit", "time_limit", "interrupted"]
"""Why the search stopped; ``finished``: it tried all it had."""

WORTH_TELLING_S = 2.0
"""Seconds of preparation from which on a summary tells them apart from the search."""


class Result(BaseModel):
    """A solved scenario.

    What stopped the solver (``stop_reason``), what it holds (``placement``) and what is proven
    (``status``, ``bound``, ``gap``, all of the first objective) are kept apart. *Optimal* speaks of the
    linearised model; what the twin confirmed is in ``validation``. ``outer_bound`` holds for every plan
    that the twin could accept, as far as the optimistic region is right.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    result_version: Literal[2] = Field(
        default=RESULT_VERSION, description="Version of this format; results without it are of version 1."
    )
    status: ResultStatus
    stop_reason: ResultStop
    message: str = Field(description="One sentence on the outcome.")
    method: str = Field(description="Name of the placer.")
    objectives: tuple[str, ...] = Field(description="Objectives, the most important first.")
    objective: float | None = Field(description="Value of the first objective for the plan.")
    objective_values: tuple[float | None, ...] = Field(
        default=(), description="Value of each objective for the plan, in their order; empty for a baseline."
    )
    bound: float | None = Field(description="No plan of the linearised model is below this value.")
    gap: float | None = Field(description="(objective - bound) / objective.")
    outer_bound: float | None = Field(description="Bound under the optimistic (outer) region.")
    gpus: int | None = Field(description="How many GPUs the plan uses.")
    placement: Placement | None
    validation: ValidationReport | None
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

    @property
    def accepted(self) -> bool:
        """Whether there is a plan and the twin accepted every GPU of it."""
        return self.validation is not None and self.validation.accepted

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        if self.placement is None:
            return []
        verdicts = {v.gpu: v for v in self.validation.gpus} if self.validation else {}
        rows = []
        for gpu in self.placement.gpus:
            verdict = verdicts.get(gpu.gpu)
            row = {
                "gpu": gpu.gpu,
                "device": gpu.device,
                "adapters": len(gpu.adapters),
                "max_loras": gpu.max_loras,
                "max_lora_rank": gpu.max_lora_rank,
            }
            rows.append(row | (verdict.figures if verdict else {}))
        return rows

    def to_frame(self) -> pd.DataFrame:
        """One row per GPU: its configuration and the twin's verdict."""
        return pd.DataFrame(self._rows)

    def to_json(self) -> str:
        """JSON of everything; the schema is `result_schema()`."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False)

    def summary(self) -> str:
        """Status, GPUs, bound and gap, and the twin's verdict on every GPU, as text."""
        parts: list[Part] = [self.headline()]
        if self.placement is not None:
            parts.append(table(_COLUMNS, [_cells(row) for row in self._rows]))
        rejected = self.validation.rejected if self.validation else ()
        parts += [f"GPU {v.gpu} rejected: {'; '.join(v.reasons)}" for v in rejected]
        return render(*parts)

    def explain(self) -> Explanation:
        """What fills each GPU, why fewer do not work, and what would save one; prints as text."""
        from optimizer.explanation.explain import explain

        return explain(self)

    def headline(self) -> str:
        """The outcome in two or three lines."""
        lines = [visible(f"{self.scenario.name}, {self.method}: {self.message}")]
        if self.gpus is not None:
            proof = f"objective {self.objective:g}" if self.objective is not None else ""
            proof += f", bound {self.bound:g}" if self.bound is not None else ", no bound"
            proof += f", gap {self.gap:.1%}" if self.gap is not None else ""
            proof += f", outer bound {self.outer_bound:g}" if self.outer_bound is not None else ""
            later = list(zip(self.objectives, self.objective_values, strict=False))[1:]
            proof += "".join(f"; {name} {value:.6g}" for name, value in later if value is not None)
            gpus = f"{self.gpus} GPU{'s' if self.gpus != 1 else ''}"
            lines.append(f"{gpus} for {self.scenario.n_adapters} adapters; {proof}")
        said = "not asked" if self.validation is None else "accepted" if self.accepted else "REJECTED"
        searched = self.seconds - self.preparation_seconds
        took = f"{searched:.1f} s"
        if self.preparation_seconds >= WORTH_TELLING_S:
            took += f" after {self.preparation_seconds:.0f} s of compiling and learning"
        lines.append(f"twin: {said}; {self.iterations} rounds, {self.cuts} cuts, {took}")
        notes = self.validation.notes if self.validation else []
        return "\n".join([*lines, *(f"note: {note}" for note in notes)])

    def __str__(self) -> str:
        return self.summary()

    def _repr_html_(self) -> str:
        return f"<pre>{escape(self.headline())}</pre>{self.to_frame().to_html(index=False)}"


_COLUMNS = (
    ">GPU", "device", ">LoRAs", ">slots", ">rank", "twin", ">offered", ">served", ">worst",
    ">ITL ms", ">TTFT ms",
)  # fmt: skip


def _cells(row: dict[str, Any]) -> list[object]:
    accepted = row.get("accepted")
    twin = None if accepted is None else "accepted" if accepted else "REJECTED"
    share = row.get("worst_served_share")
    return [
        row["gpu"], row["device"], row["adapters"], row["max_loras"], row["max_lora_rank"], twin,
        row.get("offered_tok_per_s"), row.get("served_tok_per_s"),
        None if share is None else f"{share:.1%}", row.get("itl_ms"), row.get("ttft_ms"),
    ]  # fmt: skip


def result_schema() -> dict[str, Any]:
    """JSON schema (draft 2020-12) of a result, as `Result.to_json` writes it."""
    schema = Result.model_json_schema(mode="serialization")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema}
