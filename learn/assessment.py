"""How good regions and surrogates are, against twin runs and measured runs that shaped none of them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.metrics import f1_score

from learn.bisection import bisect
from learn.boundaries.boundary import boundary_points
from learn.design import Composition, compositions
from learn.estimators import Method, one_thread
from learn.features import ADDITIVE, REGIMES, BoolArray, FloatArray, IntArray, Regime
from learn.params import DEFAULTS, LearnParams
from learn.region import FeasibilityRegion, Quality, Regions
from learn.space import DesignSpace
from learn.storage.dataset import Dataset
from learn.surrogate import Surrogate
from scenarios.plots import Bar, draw_bars
from scenarios.result_view import ResultView
from scenarios.text.tables import Part, Table, render, table
from twin.measured.report import smape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BATCH = 1000
"""Candidates in the batch that prediction is timed with."""

REPEATS = 20
"""Batches timed; the fastest counts."""


@dataclass(frozen=True)
class Rates:
    """How often a region errs on some runs.

    Parameters
    ----------
    runs, starved
        Twin runs, and how many of them starve.
    false_feasible
        Share of the starved runs inside; nan without any.
    false_infeasible
        Share of the accepted runs outside; nan without any.
    """

    runs: int
    starved: int
    false_feasible: float
    false_infeasible: float


@dataclass(frozen=True)
class RegionQuality:
    """How one region fares against twin runs.

    Parameters
    ----------
    kind
        "inner" or "outer".
    scattered
        Errors on runs at random loads.
    near
        Errors on runs that search the boundary, most of them within a few percent of it.
    capacity_given_away
        How much further the load can be scaled from the region's boundary before the twin starves,
        relative, mean over options; below 0 for the outer region.
    by_regime
        One row per regime: starved, false_feasible and false_infeasible of the runs that search the boundary,
        capacity_given_away (mean over boundaries).
    by_option
        One row per option and regime: runs, starved, false_feasible, false_infeasible (all runs),
        capacity_given_away.
    us_per_candidate
        Microseconds per candidate to ask whether a batch of a thousand is inside.
    """

    kind: str
    scattered: Rates
    near: Rates
    capacity_given_away: float
    by_regime: pd.DataFrame
    by_option: pd.DataFrame
    us_per_candidate: float


@dataclass(frozen=True)
class LatencyQuality:
    """How the upper estimates of a latency fare against accepted twin runs inside the inner region.

    Parameters
    ----------
    quality, regime
        "itl_ms" or "ttft_ms"; "resident" or "shared".
    runs
        Twin runs.
    covered
        Share of them that lie below the estimate; nan without any.
    median_ratio
        Median of estimate over latency; nan without any.
    """

    quality: str
    regime: str
    runs: int
    covered: float
    median_ratio: float


@dataclass(frozen=True)
class SurrogateQuality:
    """How one surrogate fares against twin runs.

    Parameters
    ----------
    method
        Its method.
    macro_f1, near_macro_f1
        Mean F1 of starved and healthy, on runs at random loads, and on those that search the boundary.
    smape
        Usual SMAPE in percent (factor 2) by target, over runs at random loads in which the twin has it.
    share_error
        Mean absolute error of the smallest served share of an adapter.
    us_per_candidate, starved_us_per_candidate
        Microseconds per candidate in batches of a thousand: all targets, and starvation alone.
    ms_alone
        Milliseconds of processor time to be asked about one candidate alone, all targets.
    """

    method: Method
    macro_f1: float
    near_macro_f1: float
    smape: Mapping[str, float]
    share_error: float
    us_per_candidate: float
    starved_us_per_candidate: float
    ms_alone: float


@dataclass(frozen=True)
class Assessment(ResultView):
    """Regions and surrogates against twin runs.

    ``plot`` draws by how much each region, and each surrogate, is off.
    """

    regions: tuple[RegionQuality, ...]
    latencies: tuple[LatencyQuality, ...]
    surrogates: tuple[SurrogateQuality, ...]

    def __repr__(self) -> str:
        methods = ", ".join(s.method for s in self.surrogates) or "none"
        return f"<Assessment: of {len(self.regions)} regions, and surrogates {methods}>"

    def __str__(self) -> str:
        return self.text()

    def text(self) -> str:
        """Tables for a terminal."""
        return render(*self._tables())

    def _draw(self, ax: Axes | None) -> Figure:
        title = "Regions and surrogates against twin runs that shaped none of them"
        return draw_bars(
            ax, title, [*_region_bars(self.regions), *_surrogate_bars(self.surrogates)], "percent"
        )

    def _shown(self) -> Iterable[Part]:
        return [repr(self).strip("<>"), *self._tables()]

    def _tables(self) -> tuple[Table, ...]:
        return (
            table(
                ("region", "runs", ">number", ">starved", ">false-feasible", ">false-infeasible"),
                [
                    (r.kind, where, rates.runs, rates.starved, *_percents(rates))
                    for r in self.regions
                    for where, rates in (("random loads", r.scattered), ("boundary", r.near))
                ],
            ),
            table(
                ("region", ">capacity given away, mean over options", ">µs per candidate"),
                [
                    (r.kind, percent(100 * r.capacity_given_away, 1), f"{r.us_per_candidate:.3f}")
                    for r in self.regions
                ],
            ),
            table(
                ("region", "regime", ">starved at the boundary", ">false-feasible", ">false-infeasible",
                 ">given away"),
                [
                    (r.kind, regime, *_regime_row(row))
                    for r in self.regions
                    for regime, row in r.by_regime.iterrows()
                ],
            ),
            table(
                ("upper estimate", "regime", ">runs", ">below it", ">estimate / run, median"),
                [
                    (e.quality, e.regime, e.runs, percent(100 * e.covered, 1), e.median_ratio)
                    for e in self.latencies
                ],
            ),
            table(
                (
                    "surrogate", ">macro-F1", ">at boundary", ">throughput", ">ITL", ">TTFT", ">worst share",
                    ">µs", ">µs starved",
                ),
                [_surrogate_row(s) for s in self.surrogates],
            ),
        )  # fmt: skip


def _region_bars(regions: Sequence[RegionQuality]) -> list[Bar]:
    """What each region gives away at the boundary, by regime."""
    return [
        _bar(f"{one.kind} region, {regime}: capacity given away", 100 * row["capacity_given_away"])
        for one in regions
        for regime, row in one.by_regime.iterrows()
    ]


def _surrogate_bars(surrogates: Sequence[SurrogateQuality]) -> list[Bar]:
    """Errors of each surrogate: of starvation at the boundary, and of its targets."""
    bars = []
    for one in surrogates:
        bars.append(_bar(f"{one.method}: 1 - macro-F1 at the boundary", 100 * (1 - one.near_macro_f1)))
        bars += [
            _bar(f"{one.method}: SMAPE of {name.replace('_', ' ')}", value)
            for name, value in one.smape.items()
        ]
    return bars


def _bar(name: str, value: float) -> Bar:
    return Bar(name, value, f"{value:.1f} %") if math.isfinite(value) else Bar(name, None, "no run")


def percent(value: float, digits: int = 2) -> str | None:
    """A number of percent as a table shows it; None where there is none."""
    return f"{value:.{digits}f} %" if math.isfinite(value) else None


def _percents(rates: Rates) -> tuple[str | None, str | None]:
    return percent(100 * rates.false_feasible), percent(100 * rates.false_infeasible)


def _regime_row(row: pd.Series) -> list[object]:
    return [
        int(row["starved"]), percent(100 * row["false_feasible"]), percent(100 * row["false_infeasible"]),
        percent(100 * row["capacity_given_away"], 1),
    ]  # fmt: skip


def _surrogate_row(quality: SurrogateQuality) -> list[object]:
    smape = quality.smape
    return [
        quality.method, f"{quality.macro_f1:.4f}", f"{quality.near_macro_f1:.4f}",
        percent(smape["throughput_tok_per_s"]), percent(smape["itl_ms"]), percent(smape["ttft_ms"], 1),
        f"{quality.share_error:.4f}", f"{quality.us_per_candidate:.1f}",
        f"{quality.starved_us_per_candidate:.1f}",
    ]  # fmt: skip


def assess(
    regions: Regions,
    surrogates: Sequence[Surrogate],
    dataset: Dataset,
    space: DesignSpace,
    params: LearnParams = DEFAULTS,
) -> Assessment:
    """Hold regions and surrogates to a dataset that shaped none of them.

    Parameters
    ----------
    dataset
        Twin runs of the space under another seed.
    params
        What they were sampled with.
    """
    return Assessment(
        regions=tuple(region_quality(r, dataset, space, params) for r in (regions.inner, regions.outer)),
        latencies=tuple(
            latency_quality(regions, dataset, quality, regime)
            for quality in ("itl_ms", "ttft_ms")
            for regime in REGIMES
        ),
        surrogates=tuple(surrogate_quality(s, dataset) for s in surrogates),
    )


def macro_f1(truth: BoolArray, predicted: BoolArray) -> float:
    """Mean of the F1 scores of both classes; 1 for a class that neither has."""
    return float(f1_score(truth, predicted, labels=[False, True], average="macro", zero_division=1.0))


# --- regions ---------------------------------------------------------------------------------------


def region_quality(
    region: FeasibilityRegion, dataset: Dataset, space: DesignSpace, params: LearnParams = DEFAULTS
) -> RegionQuality:
    """Hold one region to twin runs."""
    inside = _inside(region, dataset)
    frame = pd.DataFrame(
        {
            "max_loras": dataset.table["max_loras"],
            "max_lora_rank": dataset.table["max_lora_rank"],
            "regime": np.array(REGIMES)[dataset.shared.astype(int)],
            "starved": dataset.starved,
            "false_feasible": np.where(dataset.starved, inside, np.nan),
            "false_infeasible": np.where(dataset.starved, np.nan, ~inside),
        }
    )
    by = ["max_loras", "max_lora_rank", "regime"]
    table = frame.groupby(by).agg(
        runs=("starved", "size"),
        starved=("starved", "sum"),
        false_feasible=("false_feasible", "mean"),
        false_infeasible=("false_infeasible", "mean"),
    )
    away = given_away(region, dataset, space, params)
    table["capacity_given_away"] = away.groupby(by)["given_away"].mean()
    return RegionQuality(
        kind=region.kind,
        scattered=_rates(frame[dataset.scattered]),
        near=_rates(frame[~dataset.scattered]),
        capacity_given_away=float(table["capacity_given_away"].groupby(by[:2]).mean().mean()),
        by_regime=_by_regime(frame[~dataset.scattered], away),
        by_option=table.reset_index(),
        us_per_candidate=_time_region(region, dataset),
    )


def _by_regime(near: pd.DataFrame, away: pd.DataFrame) -> pd.DataFrame:
    """Errors of the runs that search the boundary, and what is given away there, by regime."""
    table = near.groupby("regime")[["starved", "false_feasible", "false_infeasible"]].agg(
        {"starved": "sum", "false_feasible": "mean", "false_infeasible": "mean"}
    )
    table["capacity_given_away"] = away.groupby("regime")["given_away"].mean()
    return table


def _options(dataset: Dataset) -> Mapping[tuple[int, int], IntArray]:
    """Numbers of the runs of each option, by slots and max rank."""
    return dataset.table.groupby(["max_loras", "max_lora_rank"]).indices  # type: ignore[return-value]


def _inside(region: FeasibilityRegion, dataset: Dataset) -> BoolArray:
    inside = np.zeros(len(dataset), dtype=np.bool_)
    for key, runs in _options(dataset).items():
        inside[runs] = region.contains(*key, dataset.sums[runs])
    return inside


def _rates(frame: pd.DataFrame) -> Rates:
    return Rates(
        runs=len(frame),
        starved=int(frame["starved"].sum()),
        false_feasible=float(frame["false_feasible"].mean()),
        false_infeasible=float(frame["false_infeasible"].mean()),
    )


def given_away(
    region: FeasibilityRegion, dataset: Dataset, space: DesignSpace, params: LearnParams = DEFAULTS
) -> pd.DataFrame:
    """For each composition, how much further its load goes from the region's boundary to the twin's."""
    points = boundary_points(dataset, params.boundary)
    seed = int(dataset.metadata["plan"]["seed"])
    last = int(points.composition.max()) + 1 if len(points.composition) else 0
    design = compositions(space, 0, last, seed, params.design) if last else []
    rows = []
    for k, sums in zip(points.composition, points.middle, strict=True):
        mix = design[int(k)]
        twin_rate = float(sums[ADDITIVE.index("rate")])
        further = twin_rate / boundary_rate(region, mix, space, twin_rate) - 1.0
        rows.append((mix.option.max_loras, mix.option.max_lora_rank, REGIMES[mix.shared], further))
    return pd.DataFrame(rows, columns=["max_loras", "max_lora_rank", "regime", "given_away"])


def boundary_rate(region: FeasibilityRegion, mix: Composition, space: DesignSpace, near: float) -> float:
    """Total rate in requests/s at which a composition leaves a region, within a factor of 16 of a rate."""

    def inside(log_rate: FloatArray) -> BoolArray:
        sums = mix.sums(space, math.exp(float(log_rate)))
        return region.contains(mix.option.max_loras, mix.option.max_lora_rank, sums)

    low, _ = bisect(inside, math.log(near / 16), math.log(near * 16), halvings=30)
    return math.exp(float(low))


def latency_quality(regions: Regions, dataset: Dataset, quality: Quality, regime: Regime) -> LatencyQuality:
    """Hold the upper estimates of a latency to accepted twin runs inside the inner region."""
    truth = dataset.target(quality)
    compared = _inside(regions.inner, dataset) & ~dataset.starved & np.isfinite(truth) & (truth > 0)
    compared &= dataset.shared == (regime == "shared")
    estimate = np.ones(len(dataset))
    for key, runs in _options(dataset).items():
        estimate[runs] = regions.option_latency(*key, regime).estimate(dataset.sums[runs], quality)
    if not compared.any():
        return LatencyQuality(quality, regime, 0, math.nan, math.nan)
    ratio = estimate[compared] / truth[compared]
    covered, median = float((ratio >= 1).mean()), float(np.median(ratio))
    return LatencyQuality(quality, regime, int(compared.sum()), covered, median)


def _time_region(region: FeasibilityRegion, dataset: Dataset) -> float:
    sums = np.resize(dataset.sums, (BATCH, dataset.sums.shape[1]))
    option = region.options[0]
    return 1e6 / BATCH * _fastest_s(lambda: region.contains(option.max_loras, option.max_lora_rank, sums))


def _fastest_s(call: Callable[[], object]) -> float:
    """Seconds of processor time of the fastest of a few calls on one thread."""
    seconds = []
    with one_thread():
        for _ in range(REPEATS):
            start = time.process_time()
            call()
            seconds.append(time.process_time() - start)
    return min(seconds)


# --- surrogates ------------------------------------------------------------------------------------


def surrogate_quality(surrogate: Surrogate, dataset: Dataset) -> SurrogateQuality:
    """Hold one surrogate to twin runs."""
    far, near = dataset.where(dataset.scattered), dataset.where(~dataset.scattered)
    predicted = surrogate.predict(far.features, outside="allow")
    errors = {
        name: smape(far.table[name], pd.Series(getattr(predicted, name)))
        for name in ("throughput_tok_per_s", "itl_ms", "ttft_ms")
    }
    batch = np.resize(dataset.features, (BATCH, dataset.features.shape[1]))
    return SurrogateQuality(
        method=surrogate.method,
        macro_f1=macro_f1(far.starved, predicted.starved),
        near_macro_f1=macro_f1(near.starved, surrogate.starved(near.features, outside="allow")),
        smape=errors,
        share_error=float(np.abs(far.target("worst_served_share") - predicted.worst_served_share).mean()),
        us_per_candidate=1e6 / BATCH * _fastest_s(lambda: surrogate.predict(batch, outside="allow")),
        starved_us_per_candidate=1e6 / BATCH * _fastest_s(lambda: surrogate.starved(batch, outside="allow")),
        ms_alone=1e3 * _fastest_s(lambda: surrogate.predict(batch[:1], outside="allow")),
    )
