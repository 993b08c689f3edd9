"""Verdicts: whether the twin accepts a GPU, or a whole placement, and why not."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    computed_field,
    model_serializer,
)

from scenarios import Acceptance, Placement, Scenario, criterion_in_words, visible
from scenarios.base import PlainDir
from scenarios.result_view import ResultView
from scenarios.text.formatting import listed
from scenarios.text.tables import Part, render
from twin.corners import Corner
from twin.engine.rules import unread_in_words
from twin.gpu_table import gpu_table, limits_note, only_device
from twin.violations import NAMED, STARVED, AdapterLatency, Criterion, Violation

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What is computed from the fields is written into JSON and ignored when that is read again.
_READABLE = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)


REJECTED_MARGIN = 1e-3
"""Margin, below 0, of a GPU that is rejected for what has no smooth measure."""


class SustainedFigures(PlainDir, BaseModel):
    """What the criterion *sustained* looks at, over the requests of all runs that count."""

    model_config = _READABLE

    headroom: float
    """How much more than its rates the GPU was given, as a share of them."""
    due: int
    """Requests that count."""
    late_share: float | None = None
    """Share of them that waited longer than their patience; null where nothing ran."""
    late_share_low: float | None = None
    """Lower end of its 95 % confidence interval."""
    late_share_high: float | None = None
    """Upper end."""
    close: bool = False
    """Whether the limit lies in that interval: other seeds might decide otherwise."""
    worst_class: str | None = None
    """An adapter of the class of alike adapters that is nearest to its limit, or farthest beyond."""
    worst_class_size: int = 0
    """Adapters of that class on the GPU."""
    worst_class_late_share: float | None = None
    """Share of its requests that are late; null where no class has enough requests to be judged."""
    latest_adapter: str | None = None
    """The adapter whose late requests are the least likely by chance."""
    latest_adapter_late_share: float | None = None
    """Share of its requests that are late."""
    growth_per_h: float | None = None
    """By how many the unfinished requests become more in an hour."""
    growth_limit_per_h: float | None = None
    """By how many they may."""
    not_judged: int = 0
    """Adapters of which no request was due."""

    def renamed(self, names: Mapping[str, str]) -> SustainedFigures:
        """The same of adapters of other names."""
        worst, latest = (None if n is None else names[n] for n in (self.worst_class, self.latest_adapter))
        return self.model_copy(update={"worst_class": worst, "latest_adapter": latest})


class LatencyFigures(PlainDir, BaseModel):
    """Mean and percentiles of a latency of a GPU in ms; null where there was nothing to measure."""

    model_config = _READABLE

    mean: float | None = None
    """Mean."""
    p50: float | None = None
    """Median."""
    p90: float | None = None
    """90th percentile."""
    p95: float | None = None
    """95th percentile."""
    p99: float | None = None
    """99th percentile."""


class LatencyTable(PlainDir, BaseModel):
    """The latencies of a GPU that can be limited; under *paper* each figure is of the worst replication."""

    model_config = _READABLE

    itl: LatencyFigures = LatencyFigures()
    """Inter-token latency, over the gaps between tokens."""
    ttft: LatencyFigures = LatencyFigures()
    """Time to first token."""
    tpot: LatencyFigures = LatencyFigures()
    """Time per output token of a request after its first."""
    e2e: LatencyFigures = LatencyFigures()
    """Time from a request's arrival to its last token."""

    @property
    def flat(self) -> dict[str, float | None]:
        """The figures by name, such as ttft_p99_ms."""
        return {
            f"{metric}_{statistic}_ms": value
            for metric, figures in self.model_dump().items()
            for statistic, value in figures.items()
        }


class GPUVerdict(ResultView, PlainDir, BaseModel):
    """The twin's verdict on one GPU, over its replications.

    ``plot`` draws how far it is from each of its limits.
    """

    model_config = _READABLE

    gpu: int = 0
    """Number of the GPU in the placement; 0 when it was judged alone."""
    accepted: bool
    """Whether every replication met every service level."""
    offered_tok_per_s: float
    """Tokens of the requests that arrived, per second; mean of the replications."""
    served_tok_per_s: float
    """Tokens of the requests that completed, per second; mean of the replications."""
    served_share: float
    """Smallest served over offered tokens of a replication."""
    worst_adapter: str | None
    """The adapter with the smallest share of its due tokens served in a replication."""
    worst_served_share: float
    """Its share."""
    itl_ms: float | None
    """Mean inter-token latency in ms; null where no request completed."""
    ttft_ms: float | None
    """Mean time to first token of completed requests in ms; null where there is none."""
    itl_p99_ms: float | None
    """Largest 99th percentile of the inter-token latency of a replication, in ms."""
    ttft_p99_ms: float | None
    """99th percentile of the time to first token in ms; the largest of a replication, or of all requests."""
    ttft_p50_ms: float | None = None
    """Median of the time to first token in ms; the largest of a replication, or of all requests."""
    latencies: LatencyTable = LatencyTable()
    """Every latency that can be limited, as it is held against a limit."""
    adapter_latencies: tuple[AdapterLatency, ...] = ()
    """Latencies that the levels of single entries of adapters limit."""
    kv_cache_tokens: int
    """Tokens that the KV cache holds; 0 if the engine does not start."""
    violations: tuple[Violation, ...] = ()
    """What it was rejected for; empty when accepted."""
    margins: Mapping[Criterion, float | None] = {}
    """By service level, how far the worst replication is from the limit, as a share of the limit; negative
    where it is violated, null where nothing was measured."""
    margin: float | None = None
    """The smallest logarithm of a limit over what was measured: above 0 as accepted, and how far, below 0 as
    rejected; growth, single adapters and single hours have no part in it."""
    growth_factor: float | None = None
    """How many times its load the GPU could have, to 1 %, and be accepted; null where that was not asked."""
    first_to_suffer: str | None = None
    """The adapter that is nearest to being served too late, or too little: what the GPU's load may grow by is
    felt by it first. Null where nothing ran, or under *paper* every adapter got all of its tokens."""
    corner: Corner | None = None
    """At which of its adapters' uncertain rates the GPU fares worst, which all figures are of; null where all
    rates are known."""
    sustained: SustainedFigures | None = None
    """What the criterion *sustained* looks at; null under the criterion *paper*."""
    replications: int = 0
    """Runs behind the verdict; 0 if the engine does not start."""
    cut_requests: int = 0
    """Simulated requests cut to the tokens that the engine's max_model_len admits."""

    @computed_field(description="Why it was rejected, one sentence each.")  # type: ignore[prop-decorator]
    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it was rejected, one sentence each."""
        where = "" if self.corner is None else f"{self.corner.words}, "
        return tuple(f"{where}{violation.sentence}" for violation in self.violations)

    @computed_field(description="Adapters served too little or too late, the worst first.")  # type: ignore[prop-decorator]
    @property
    def starved(self) -> tuple[str, ...]:
        """Adapters that are served too little or too late, the worst first; parts of one are one."""
        shares = [v for v in self.violations if v.code in STARVED]
        return tuple(dict.fromkeys(adapter.name for v in shares for adapter in v.adapters))

    @computed_field(description="Which start-up failure of vLLM's occurs; null if the engine starts.")  # type: ignore[prop-decorator]
    @property
    def memory_failure(self) -> str | None:
        """Which start-up failure of vLLM's occurs, or None."""
        return next((v.code.value for v in self.violations if v.code.stops_the_engine), None)

    @property
    def acceptance(self) -> Acceptance:
        """By what it was accepted, or rejected."""
        return "paper" if self.sustained is None else "sustained"

    @property
    def signed_margin(self) -> float:
        """The margin with the sign of the verdict; minus infinity where nothing ran that could be measured.

        Growth of the queue, a single adapter or an hour, which have no smooth measure, may reject what all
        else accepts.
        """
        if self.margin is None:
            return 0.0 if self.accepted else -math.inf
        return max(self.margin, 0.0) if self.accepted else min(self.margin, -REJECTED_MARGIN)

    @property
    def least_margin(self) -> float:
        """The smallest of the margins that were measured, those of single entries included."""
        margins = [*self.margins.values(), *(one.margin for one in self.adapter_latencies)]
        return min(margin for margin in margins if margin is not None)

    @property
    def figures(self) -> dict[str, Any]:
        """All that a table may show of the verdict, by name."""
        apart = {"gpu", "violations", "margins", "sustained", "latencies", "adapter_latencies"}
        sustained = {} if self.sustained is None else self.sustained.model_dump()
        flat = self.model_dump(exclude=apart)
        flat["corner"] = None if self.corner is None else str(self.corner)
        return flat | {name: v for name, v in self.latencies.flat.items() if name not in flat} | sustained

    def __repr__(self) -> str:
        missed = f"REJECTED ({', '.join(violation.code for violation in self.violations)})"
        return f"<GPUVerdict: GPU {self.gpu} {'accepted' if self.accepted else missed}>"

    def __str__(self) -> str:
        return repr(self)

    def _draw(self, ax: Axes | None) -> Figure:
        from twin.plots.verdicts import draw_margins

        return draw_margins(self, ax)

    def _shown(self) -> Iterable[Part]:
        said = "accepted" if self.accepted else "REJECTED"
        return [f"GPU {self.gpu}: {said} ({self.acceptance})", gpu_table([self]), *self.reasons]

    def of(self, gpu: int, names: Mapping[str, str]) -> GPUVerdict:
        """The same verdict for a GPU with equal adapters of other names; parts of one share its name."""
        worst = None if self.worst_adapter is None else names[self.worst_adapter]
        violations = tuple(violation.renamed(names) for violation in self.violations)
        figures = None if self.sustained is None else self.sustained.renamed(names)
        first = None if self.first_to_suffer is None else names[self.first_to_suffer]
        update = {
            "gpu": gpu,
            "worst_adapter": worst,
            "adapter_latencies": tuple(one.renamed(names) for one in self.adapter_latencies),
            "violations": violations,
            "first_to_suffer": first,
            "corner": None if self.corner is None else self.corner.renamed(names),
            "sustained": figures,
        }
        return self.model_copy(update=update)


class ValidationReport(ResultView, PlainDir, BaseModel):
    """The twin's verdict on a placement: accepted if every GPU is.

    ``plot`` draws load and mean TTFT of every GPU.
    """

    model_config = _READABLE

    gpus: tuple[GPUVerdict, ...]
    """One verdict per GPU, in the placement's order."""
    distinct: int
    """GPUs with different adapters or engines, each of which was judged once."""
    derived: dict[str, str] = Field(default_factory=dict)
    """By device, from what its step costs are derived, and the end that was judged; empty if measured."""
    unread: dict[str, str] = Field(default_factory=dict)
    """By device, its release of vLLM if it is newer than all whose scheduler was read; left out if empty."""

    @model_serializer(mode="wrap")
    def _without_unread(self, content: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = content(self)
        return values if self.unread else {name: value for name, value in values.items() if name != "unread"}

    @computed_field(description="Whether every GPU is accepted.")  # type: ignore[prop-decorator]
    @property
    def accepted(self) -> bool:
        """Whether every GPU is accepted."""
        return all(verdict.accepted for verdict in self.gpus)

    @property
    def acceptance(self) -> Acceptance:
        """By what its GPUs were accepted, or rejected."""
        return self.gpus[0].acceptance

    @property
    def rejected(self) -> tuple[GPUVerdict, ...]:
        """The verdicts on the GPUs that are not accepted."""
        return tuple(verdict for verdict in self.gpus if not verdict.accepted)

    @property
    def itl_ms(self) -> float | None:
        """Mean inter-token latency over the GPUs, weighted by their served tokens, in ms."""
        return self._weighted([verdict.itl_ms for verdict in self.gpus])

    @property
    def ttft_ms(self) -> float | None:
        """Mean time to first token over the GPUs, weighted by their served tokens, in ms."""
        return self._weighted([verdict.ttft_ms for verdict in self.gpus])

    def _weighted(self, values: list[float | None]) -> float | None:
        weights = [verdict.served_tok_per_s for verdict in self.gpus]
        known = [(value, w) for value, w in zip(values, weights, strict=True) if value is not None and w]
        total = sum(weight for _, weight in known)
        return sum(value * weight for value, weight in known) / total if total else None

    def to_frame(self) -> pd.DataFrame:
        """One row per GPU."""
        import pandas as pd

        return pd.DataFrame(
            {
                "gpu": verdict.gpu,
                **verdict.figures,
                "reasons": "; ".join(verdict.reasons),
                "starved": len(verdict.starved),
                **{f"margin_{criterion}": margin for criterion, margin in verdict.margins.items()},
            }
            for verdict in self.gpus
        )

    def to_dict(self) -> dict[str, Any]:
        """The report as plain values."""
        return self.model_dump(mode="json")

    def to_json(self, indent: int | None = 2) -> str:
        """The same as JSON text."""
        return json.dumps(self.to_dict(), indent=indent, allow_nan=False)

    @property
    def headline(self) -> str:
        """The verdict, with how many GPUs it is about."""
        named = self.gpus if self.accepted else self.rejected
        return f"{'accepted' if self.accepted else 'REJECTED'}: {len(named)} of {len(self.gpus)} GPUs"

    def summary(self, placement: Placement | None = None, scenario: Scenario | None = None) -> str:
        """The verdict, the figures of every GPU, and why GPUs are rejected, as text.

        Parameters
        ----------
        placement
            What was judged, whose engines are then shown beside their figures.
        scenario
            What it was held to; the criterion, and the latencies that it limits, are then shown, and which
            GPUs serve the base model.
        """
        levels = None if scenario is None else scenario.service_levels
        criterion = [] if scenario is None else [criterion_in_words(scenario)]
        base = frozenset() if scenario is None else scenario.base_names
        verdict = self.headline + only_device(placement)
        table = gpu_table(self.gpus, placement, levels, base=base)
        return render(
            verdict, table, *criterion, *limits_note(levels, self.gpus), *self._reasons(), *self.notes
        )

    def _reasons(self) -> list[str]:
        return [f"GPU {v.gpu}: {visible(reason)}" for v in self.rejected for reason in v.reasons]

    def __repr__(self) -> str:
        return f"<ValidationReport: {self.headline}>"

    def __str__(self) -> str:
        return self.summary()

    @property
    def notes(self) -> list[str]:
        """What should be known besides the verdicts: that requests were cut, or that a limit is close."""
        cut = sum(verdict.cut_requests for verdict in self.gpus)
        admitted = f"{cut:,} simulated requests were cut to the tokens that engine.max_model_len admits"
        derived = [f"step times of {device} are derived: {words}" for device, words in self.derived.items()]
        unread = [unread_in_words(device, version) for device, version in self.unread.items()]
        return [*([admitted] if cut else []), *self._close(), *derived, *unread]

    def _close(self) -> list[str]:
        close = [str(v.gpu) for v in self.gpus if v.sustained is not None and v.sustained.close]
        if not close:
            return []
        gpus = f"GPU {close[0]} is" if len(close) == 1 else f"GPUs {listed(close, NAMED)} are"
        return [f"{gpus} so close to the limit on late requests that other seeds might decide otherwise"]

    def _draw(self, ax: Axes | None) -> Figure:
        from twin.plots.verdicts import draw_verdicts

        return draw_verdicts(self, ax)

    def _shown(self) -> Iterable[Part]:
        return [
            f"{self.headline} ({self.acceptance})", gpu_table(self.gpus), *self._reasons(), *self.notes
        ]  # fmt: skip
