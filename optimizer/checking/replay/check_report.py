"""What a check found: foretold beside measured, of every GPU and adapter, and whether the plan holds."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd
from pydantic import BaseModel, ConfigDict, Field, computed_field

from optimizer.checking.replay.check_text import check_parts, headline_of
from scenarios import spreadsheet_cell
from scenarios.base import PlainDir
from scenarios.plots import Span, draw_spans
from scenarios.result_view import ResultView
from scenarios.text.formatting import shortened
from scenarios.text.tables import Part, render

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# What is computed from the fields is written into JSON and ignored when that is read again.
_READABLE = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

Difference = Literal["", "worse", "better"]
"""Whether a figure is beyond what was foretold, and on which side; empty: it is as foretold."""

CheckStatus = Literal["as_foretold", "not_as_foretold", "no_answer"]
"""``as_foretold``: the plan holds. ``not_as_foretold``: it does not. ``no_answer``: the check was cut short,
or its client was too late for its figures to be trusted."""


class CheckedFigure(PlainDir, BaseModel):
    """One figure, foretold and measured; null where there was nothing to measure."""

    model_config = _READABLE

    name: str
    """What it is, with its unit: ``ttft_mean_ms``."""
    foretold: float | None
    """What the twin makes of the very requests that were sent."""
    low: float | None = None
    """The least that is as foretold; null: it is not judged."""
    high: float | None = None
    """The most that is as foretold; null: it is not judged."""
    measured: float | None
    """What the client saw."""
    differs: Difference = ""
    """Whether it is beyond that."""

    @computed_field(description="Measured over foretold; null where either is null or 0 was foretold.")  # type: ignore[prop-decorator]
    @property
    def ratio(self) -> float | None:
        """Measured over foretold; None where either is none or 0 was foretold."""
        return self.measured / self.foretold if self.measured is not None and self.foretold else None


class ServerArgument(PlainDir, BaseModel):
    """An argument of an engine, as planned and as its server tells it."""

    model_config = _READABLE

    name: str
    """In vLLM's words; ``kv_cache_tokens`` and ``engine_version`` are what comes of several."""
    planned: int | float | str | bool | None
    """What the twin played."""
    told: int | float | str | bool | None = None
    """What the server says; null: it does not."""
    differs: bool = False
    """Whether they differ by more than is usual."""


class CheckedServer(PlainDir, BaseModel):
    """What a server says of itself, beside the plan."""

    model_config = _READABLE

    arguments: tuple[ServerArgument, ...] = ()
    """Arguments of its engine."""
    base: str | None = None
    """Name by which requests of the base model are sent; null: the plan sends none here."""
    missing: tuple[str, ...] = ()
    """Served names of the plan that it does not serve."""
    further: tuple[str, ...] = ()
    """Adapters that it serves beside."""

    @property
    def differing(self) -> tuple[ServerArgument, ...]:
        """Arguments that are not as planned."""
        return tuple(one for one in self.arguments if one.differs)

    @property
    def untold(self) -> tuple[str, ...]:
        """Arguments that it does not tell."""
        return tuple(one.name for one in self.arguments if one.told is None)


class CheckedAdapter(PlainDir, BaseModel):
    """One adapter on one GPU, or the base model."""

    model_config = _READABLE

    adapter: str
    """Its name in the plan."""
    served_name: str
    """Name by which it was asked for."""
    requests: int
    """Requests that came."""
    completed: int
    """Requests that were answered whole."""
    failed: int
    """Requests that failed."""
    figures: tuple[CheckedFigure, ...]
    """Its share of late requests, mean time to first token and mean inter-token latency."""


class CheckedGPU(PlainDir, BaseModel):
    """One GPU of a plan and its server."""

    model_config = _READABLE

    gpu: int
    """Number of the GPU."""
    url: str
    """Its server."""
    server: CheckedServer
    """What that says of itself."""
    requests: int = 0
    """Requests that came due; 0: nothing was sent."""
    completed: int = 0
    """Requests that were answered whole."""
    failed: dict[str, int] = {}
    """Requests that failed, by kind."""
    failure_details: dict[str, str] = {}
    """By kind, the first words of the server or the system on it."""
    client_lag_s: float | None = None
    """By how much the client was late in sending, 99th percentile."""
    preemptions_foretold: int | None = None
    """Preemptions in the twin's run."""
    preemptions: int | None = None
    """Preemptions that the server counted meanwhile; null: it does not tell."""
    foreign_requests: int | None = None
    """Requests of others that the server answered meanwhile, at least; null: it does not tell."""
    misses_foretold: tuple[str, ...] = ()
    """What the twin's run misses of the scenario's criterion, in sentences; empty: it keeps up."""
    misses: tuple[str, ...] = ()
    """What the measured run misses."""
    figures: tuple[CheckedFigure, ...] = ()
    """Figures of the GPU."""
    adapters: tuple[CheckedAdapter, ...] = ()
    """Its adapters, those that differ the most first."""
    faults: tuple[str, ...] = ()
    """Why it is not as foretold, in sentences; empty: it is."""
    suggestions: tuple[str, ...] = ()
    """What may be the cause, in sentences."""

    @computed_field(description="Whether it is as foretold, or better.")  # type: ignore[prop-decorator]
    @property
    def holds(self) -> bool:
        """Whether it is as foretold, or better."""
        return not self.faults

    @computed_field(description="Whether the measured run keeps up; null: nothing was sent.")  # type: ignore[prop-decorator]
    @property
    def keeps_up(self) -> bool | None:
        """Whether the measured run meets the scenario's criterion; None: nothing was sent."""
        return not self.misses if self.requests else None

    def figure(self, name: str) -> CheckedFigure:
        """The figure of a name.

        Raises
        ------
        LookupError
            If there is none.
        """
        found = [one for one in self.figures if one.name == name]
        if not found:
            raise LookupError(f"GPU {self.gpu} has no figure {name}")
        return found[0]


class CheckReport(ResultView, PlainDir, BaseModel):
    """What `optimizer.check` returns; prints as text.

    ``plot`` draws measured over foretold of the figures of every GPU that are judged.
    """

    model_config = _READABLE

    check_version: Literal[1] = Field(default=1, description="Version of this format.")
    scenario: str
    """Name of the scenario."""
    criterion: str
    """By what a GPU keeps up, in words."""
    gpus: tuple[CheckedGPU, ...]
    """The GPUs that were checked, by number."""
    planned_seconds: float
    """How long requests were to be sent."""
    seconds: float = 0.0
    """How long they were; 0: nothing was sent."""
    load_factor: float = 1.0
    """How many times the scenario's rates."""
    seed: int
    """Seed of the requests."""
    prompt_seed: int
    """Seed of the prompts' tokens: another one for each check, so that no cache holds them."""
    stopped: str = ""
    """Why the run ended before its time; empty: it did not."""
    trusted: bool = True
    """Whether the client sent the requests at their instants."""
    notes: tuple[str, ...] = ()
    """What else should be known."""

    @computed_field(description="as_foretold, not_as_foretold, or no_answer.")  # type: ignore[prop-decorator]
    @property
    def status(self) -> CheckStatus:
        """Whether the plan holds, as far as the check says."""
        if self.stopped in ("time limit", "interrupted"):
            return "no_answer"
        if self.holds:
            return "as_foretold"
        return "not_as_foretold" if self.trusted else "no_answer"

    @computed_field(description="Whether every GPU is as foretold, or better.")  # type: ignore[prop-decorator]
    @property
    def holds(self) -> bool:
        """Whether every GPU is as foretold, or better; of a check that was cut short as far as it went."""
        return all(one.holds for one in self.gpus)

    def to_frame(self) -> pd.DataFrame:
        """One row per figure of a GPU, or of an adapter on it."""
        return pd.DataFrame(self._rows(), columns=["gpu", "adapter", *_COLUMNS])

    def _rows(self) -> Iterator[dict[str, Any]]:
        for gpu in self.gpus:
            for figure in gpu.figures:
                yield {"gpu": gpu.gpu, "adapter": None, **_row(figure)}
            for adapter in gpu.adapters:
                for figure in adapter.figures:
                    yield {"gpu": gpu.gpu, "adapter": adapter.adapter, **_row(figure)}

    def to_csv(self) -> str:
        """The rows of `to_frame` as CSV, in which a spreadsheet finds no formula."""
        return self.to_frame().map(spreadsheet_cell).to_csv(index=False)

    def to_json(self) -> str:
        """JSON of everything."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False)

    def _draw(self, ax: Axes | None) -> Figure:
        spans = [
            _span(gpu.gpu, one)
            for gpu in self.gpus
            for one in gpu.figures
            if one.foretold and (one.low is not None or one.high is not None)
        ]
        return draw_spans(
            ax, f"{shortened(self.scenario)}: {self.headline}", spans, "measured over foretold",
            band="as foretold", good="as foretold, or better", bad="worse than foretold",
        )  # fmt: skip

    def _shown(self) -> Iterable[Part]:
        return self.parts()

    @property
    def headline(self) -> str:
        """The outcome in a line."""
        return headline_of(self).plain

    def parts(self) -> list[Part]:
        """What `summary` says, in parts that `scenarios.text.tables.render` renders, in colour too."""
        return check_parts(self)

    def summary(self) -> str:
        """The outcome, foretold beside measured of every GPU, what differs, and what that suggests."""
        return render(*self.parts())

    def __repr__(self) -> str:
        return f"<CheckReport: {self.headline}>"

    def __str__(self) -> str:
        return self.summary()


def _span(gpu: int, figure: CheckedFigure) -> Span:
    """A figure of a GPU and its limits, as shares of what was foretold."""
    assert figure.foretold
    low, high = (None if end is None else end / figure.foretold for end in (figure.low, figure.high))
    words = "not measured" if figure.ratio is None else f"{figure.ratio:.2f}"
    name = f"GPU {gpu}, {figure.name.replace('_', ' ')}"
    return Span(name, figure.ratio, low, high, figure.differs != "worse", words)


_COLUMNS = ("figure", "foretold", "low", "high", "measured", "ratio", "differs")


def _row(figure: CheckedFigure) -> dict[str, Any]:
    values = figure.model_dump()
    return {name: values["name" if name == "figure" else name] for name in _COLUMNS}
