"""What is told of a fleet beside its plan: figures, verdicts, and what they suggest."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, computed_field

from scenarios import visible
from scenarios.base import PlainDir
from scenarios.plots import Span, draw_spans
from scenarios.result_view import ResultView
from scenarios.text.formatting import counted, listed
from scenarios.text.tables import Column, Listing, Mark, Part, cell_text, item, marked, render, table

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_READABLE = ConfigDict(frozen=True, extra="ignore", use_attribute_docstrings=True)

MOST_ROWS = 60
"""Rows up to which all are shown; of more, those that differ from the plan."""

NAMED = 4
"""GPUs that a sentence names."""

DriftVerdict = Literal["as planned", "note", "drift", "too few"]
"""``drift`` endangers the plan; ``note`` differs from it and does no harm; ``too few``: requests to tell."""

_MARKS: dict[str, Mark] = {"note": "close", "drift": "bad"}


class DriftRow(PlainDir, BaseModel):
    """One figure of one GPU, or of a gateway in front of all."""

    model_config = _READABLE

    gpu: int | None
    """Number of the GPU; null: a gateway."""
    figure: str
    """Its name: ``requests/s``."""
    planned: float | None = None
    """What is planned, or what the twin shows on average; null: nothing is."""
    low: float | None = None
    """The least that is as planned; null: anything."""
    high: float | None = None
    """The most that is as planned; null: anything."""
    measured: float
    """What the metrics say."""
    verdict: DriftVerdict
    """Whether it is as planned."""
    suggests: str = ""
    """What that suggests, in a sentence without a full stop; empty where it is as planned."""

    @classmethod
    def of(
        cls,
        gpu: int | None,
        figure: str,
        planned: float,
        measured: float,
        between: tuple[float | None, float | None],
        above: str,
        below: str = "",
        *,
        less_endangers: bool = False,
    ) -> DriftRow:
        """A figure of which more endangers the plan and less is noted, or the other way round.

        Parameters
        ----------
        gpu, figure, planned, measured
            As the fields.
        between
            The least and the most that is as planned.
        above, below
            What more, and less, suggests.
        less_endangers
            Whether it is less that endangers the plan.
        """
        low, high = between
        more = high is not None and measured > high
        less = low is not None and measured < low
        verdict: DriftVerdict = "as planned"
        if more or less:
            verdict = "drift" if less == less_endangers else "note"
        return cls(
            gpu=gpu,
            figure=figure,
            planned=planned,
            low=low,
            high=high,
            measured=measured,
            verdict=verdict,
            suggests=above if more else below if less else "",
        )


class DriftReport(ResultView, PlainDir, BaseModel):
    """What `optimizer.check_drift` returns; prints as text.

    ``plot`` draws measured over planned of every figure; of many those that differ.
    """

    model_config = _READABLE

    rows: tuple[DriftRow, ...]
    """Figures that metrics say, by GPU."""
    seconds: dict[int, float]
    """How long each GPU was read."""
    unread: tuple[int, ...] = ()
    """GPUs of the plan of which nothing was read."""
    notes: tuple[str, ...] = ()
    """What else must be known, such as that a server was started again."""
    criterion: str
    """By what a figure is held to be as planned."""

    @computed_field(description="Whether nothing that was read endangers the plan.")  # type: ignore[prop-decorator]
    @property
    def as_planned(self) -> bool:
        """Whether nothing that was read endangers the plan."""
        return all(row.verdict != "drift" for row in self.rows)

    @property
    def drifted(self) -> tuple[DriftRow, ...]:
        """The figures that endanger the plan."""
        return tuple(row for row in self.rows if row.verdict == "drift")

    def to_frame(self) -> pd.DataFrame:
        """One row per GPU and figure."""
        import pandas as pd

        return pd.DataFrame([row.model_dump() for row in self.rows], columns=list(DriftRow.model_fields))

    def to_json(self) -> str:
        """JSON of everything."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False)

    @property
    def headline(self) -> str:
        """Whether the fleet is as planned, in a line."""
        read = f"{counted(len(self.seconds), 'GPU')} read"
        if self.as_planned:
            return f"as planned: {read}"
        gpus = sorted({row.gpu for row in self.drifted if row.gpu is not None})
        where = f" on GPU {listed([str(gpu) for gpu in gpus], NAMED)}" if gpus else ""
        return f"NOT AS PLANNED: {counted(len(self.drifted), 'figure')}{where}; {read}"

    @property
    def _rows_shown(self) -> list[DriftRow]:
        """All of few rows; of many those that differ."""
        return [row for row in self.rows if len(self.rows) <= MOST_ROWS or row.verdict in _MARKS]

    def _draw(self, ax: Axes | None) -> Figure:
        spans = [_span(row) for row in self._rows_shown if row.planned]
        return draw_spans(
            ax, self.headline, spans, "measured over planned",
            band="as planned", good="no danger to the plan", bad="endangers the plan",
        )  # fmt: skip

    def _shown(self) -> Iterable[Part]:
        return self.parts()

    def parts(self) -> list[Part]:
        """What `summary` says, in parts that `scenarios.text.tables.render` renders, in colour too."""
        shown = self._rows_shown
        parts: list[Part] = [marked(self.headline, "good" if self.as_planned else "bad")]
        if shown:
            parts.append(table(_COLUMNS, [_cells(row) for row in shown]))
        if len(shown) < len(self.rows):
            parts.append(f"{len(self.rows) - len(shown):,} more figures are as planned")
        parts += [item(sentence) for sentence in self._suggestions()]
        parts += [item(note) for note in self.notes]
        if self.unread:
            parts.append(Listing("- not read: GPU", [str(gpu) for gpu in self.unread]))
        return [*parts, "", self.criterion]

    def _suggestions(self) -> Iterator[str]:
        """What figures suggest, the same of several GPUs once."""
        alike: dict[tuple[str, str], list[int | None]] = {}
        for row in self.rows:
            if row.suggests:
                alike.setdefault((row.figure, row.suggests), []).append(row.gpu)
        for (figure, suggests), gpus in alike.items():
            numbers = [str(gpu) for gpu in gpus if gpu is not None]
            where = f"GPU {listed(numbers, NAMED)}" if numbers else "the gateway"
            yield f"{figure} of {where}: {visible(suggests)}"

    def summary(self) -> str:
        """The figures as a table, what differs and what that suggests, as text."""
        return render(*self.parts())

    def __repr__(self) -> str:
        return f"<DriftReport: {self.headline}>"

    def __str__(self) -> str:
        return self.summary()


_COLUMNS = (
    Column(">GPU"),
    Column("figure"),
    Column(">planned"),
    Column(">as planned", 1),
    Column(">measured"),
    Column("verdict"),
)


def _span(row: DriftRow) -> Span:
    """A figure and its limits, as shares of what was planned."""
    assert row.planned
    low, high = (None if end is None else end / row.planned for end in (row.low, row.high))
    where = "gateway" if row.gpu is None else f"GPU {row.gpu}"
    value = row.measured / row.planned
    words = f"{value:.2f}" + (f", {row.verdict}" if row.verdict != "as planned" else "")
    return Span(f"{where}, {row.figure}", value, low, high, row.verdict != "drift", words)


def _cells(row: DriftRow) -> list[object]:
    return [
        "all" if row.gpu is None else row.gpu,
        row.figure,
        row.planned,
        _between(row.low, row.high),
        row.measured,
        marked(row.verdict, _MARKS.get(row.verdict)),
    ]


def _between(low: float | None, high: float | None) -> str | None:
    """A range in a cell: ``0.8 to 1.2``, ``up to 3``, ``from 0.5``."""
    if low == high and low is not None:
        return cell_text(low)
    if low is None:
        return None if high is None else f"up to {cell_text(high)}"
    return f"from {cell_text(low)}" if high is None else f"{cell_text(low)} to {cell_text(high)}"
