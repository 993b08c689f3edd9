"""What an update of a profile says of itself: factors, how sure they are, and each run before and after."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Self

import pandas as pd

from scenarios.plots import Span, draw_spans
from scenarios.result_view import ResultView
from scenarios.text.tables import Part
from twin.engine.requests import FloatArray
from twin.measured.report import METRICS, as_text, frame_table, smape
from twin.measured.runs import MeasuredRun
from twin.profile import EngineProfile
from twin.updating.groups import Group

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

HARDLY = 0.75
"""Share of its prior width from which a factor is hardly known better than before."""

MEASURE_NEXT: Mapping[Group, str] = {
    "compute": "a saturated run at the largest batch, or long prompts with short answers",
    "memory": "a run with as many distinct adapters as slots, or with long contexts",
    "overhead": "a lightly loaded run: few requests at a time",
}
"""Which run tells most of a factor."""


@dataclass(frozen=True)
class Factor:
    """A factor on the terms of one group.

    Parameters
    ----------
    group
        Compute, memory or overhead.
    factor
        What the terms were multiplied with.
    prior_share, share
        Standard deviation of its logarithm, before and after.
    """

    group: Group
    factor: float
    prior_share: float
    share: float

    @property
    def bands(self) -> tuple[tuple[float, str], ...]:
        """Standard deviations before and now, with when they held."""
        return (self.prior_share, "before"), (self.share, "now")


@dataclass(frozen=True)
class UpdatedRun:
    """One run as measured, and as foretold before and after the update; None where a figure is not known.

    Parameters
    ----------
    run_id
        Of the run.
    weight
        How much it counted, up to 1; 0 if it was left out.
    left_out
        Why it was; empty: it was not.
    measured, before, after
        Throughput in tokens/s, and mean ITL, TPOT and TTFT in ms, by name.
    """

    run_id: str
    weight: float
    left_out: str
    measured: dict[str, float | None]
    before: dict[str, float | None]
    after: dict[str, float | None]

    @classmethod
    def of(
        cls, run: MeasuredRun, before: Mapping[Any, Any], after: Mapping[Any, Any], weight: float, why: str
    ) -> Self:
        """From a run and its two predictions."""
        measured = {name: getattr(run, columns[0]) for name, columns in METRICS.items()}
        was, now = (
            {name: _known(said[columns[1]]) for name, columns in METRICS.items()} for said in (before, after)
        )
        return cls(run.run_id, weight, why, measured, was, now)


@dataclass(frozen=True)
class UpdateReport(ResultView):
    """An updated profile, and how it came about.

    ``plot`` draws the factors with the bands in which they were, and are now, expected.

    Parameters
    ----------
    profile
        The updated profile.
    factors
        One for each group.
    covariance
        Of the factors' logarithms, shape (n_groups, n_groups).
    run_share
        Standard deviation of log(measured/fitted) mean step time of a run, in the mean.
    runs
        The runs, by name.
    """

    profile: EngineProfile
    factors: tuple[Factor, ...]
    covariance: FloatArray
    run_share: float
    runs: tuple[UpdatedRun, ...]

    def __repr__(self) -> str:
        used = sum(not run.left_out for run in self.runs)
        return f"<UpdateReport: {self.profile.name}, {used} of {len(self.runs)} runs>"

    def __str__(self) -> str:
        return self.summary()

    @property
    def advice(self) -> tuple[str, ...]:
        """What to measure next, for each factor that is hardly known better than before."""
        return tuple(
            f"{factor.group} is hardly known better than before; measure {MEASURE_NEXT[factor.group]}"
            for factor in self.factors
            if factor.share > HARDLY * factor.prior_share
        )

    def errors(self) -> pd.DataFrame:
        """SMAPE in percent of the used runs, by metric, before and after."""
        used = [run for run in self.runs if not run.left_out]
        rows = []
        for name in METRICS:
            measured, before, after = (
                pd.Series([getattr(run, part)[name] for run in used], dtype=float)
                for part in ("measured", "before", "after")
            )
            rows.append(
                {"metric": name, "before %": smape(measured, before), "after %": smape(measured, after)}
            )
        return pd.DataFrame(rows)

    def _draw(self, ax: Axes | None) -> Figure:
        spans = [_span(one, share, when) for one in self.factors for share, when in one.bands]
        return draw_spans(
            ax, self._headline, spans, "factor on the step cost",
            band="two standard deviations either way", good="factor", bad="beyond what was expected",
        )  # fmt: skip

    def _shown(self) -> Iterable[Part]:
        factors = frame_table(self._factor_frame(), 3, "factors on the step cost")
        errors = frame_table(self.errors(), title="error on the runs used, usual SMAPE in percent")
        return [self._headline, factors, errors, *self._remarks()]

    @property
    def _headline(self) -> str:
        used = sum(not run.left_out for run in self.runs)
        return (
            f"{self.profile.name}: {used} of {len(self.runs)} runs used; a run is off by "
            f"{100 * self.run_share:.1f} % (one standard deviation)"
        )

    def _factor_frame(self) -> pd.DataFrame:
        rows = [
            (one.group, one.factor, f"{100 * one.prior_share:.1f} %", f"{100 * one.share:.1f} %")
            for one in self.factors
        ]
        return pd.DataFrame(rows, columns=["terms", "factor", "sd before", "sd now"])

    def summary(self) -> str:
        """Tables for a terminal, at most 100 columns wide."""
        blocks = [
            self._headline,
            f"Factors on the step cost\n{as_text(self._factor_frame(), 3)}",
            f"Error on the runs used, usual SMAPE in percent\n{as_text(self.errors())}",
        ]
        return "\n\n".join([*blocks, *filter(None, ["\n".join(self._remarks())])])

    def _remarks(self) -> list[str]:
        """Which runs count little or not at all, and what to measure next."""
        little = [f"{run.run_id} counts {run.weight:.2f}: far from the others" for run in self._doubted()]
        left_out = [f"{run.run_id} is left out: it {run.left_out}" for run in self.runs if run.left_out]
        return [*little, *left_out, *self.advice]

    def _doubted(self) -> list[UpdatedRun]:
        return [run for run in self.runs if not run.left_out and run.weight < 0.5]

    def to_dict(self) -> dict[str, Any]:
        """The report without the profile, of plain values."""
        return {
            "profile": self.profile.name,
            "factors": [asdict(factor) for factor in self.factors],
            "covariance": self.covariance.tolist(),
            "run_share": self.run_share,
            "runs": [asdict(run) for run in self.runs],
            "advice": list(self.advice),
        }

    def to_json(self) -> str:
        """The report without the profile, as JSON."""
        return json.dumps(self.to_dict(), indent=2, allow_nan=False)


def _span(one: Factor, share: float, when: str) -> Span:
    """A factor in the band in which it is expected: around 1 before, around itself now."""
    middle, value = (1.0, None) if when == "before" else (one.factor, one.factor)
    low, high = (middle * math.exp(sign * 2 * share) for sign in (-1, 1))
    within = abs(math.log(one.factor)) <= 2 * one.prior_share
    words = "" if value is None else f"{one.factor:.3f}"
    return Span(f"{one.group}, {when}", value, low, high, within, words)


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
