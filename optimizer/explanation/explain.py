"""Why a plan is as it is: what fills each GPU, why fewer do not work, and what would save one.

Everything here is read off the linear rows and the memory formula, in figures that a reader can check; the
twin is not asked again.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from learn import FeasibilityRegion, OptionRows, scenario_features
from optimizer.explanation.sensitivity import WhatIf, what_ifs, without_limits
from optimizer.packing.bounds.price_bounds import continuous_relaxation
from optimizer.packing.model.problem import FloatArray, PackingProblem
from optimizer.search.instance import Instance
from optimizer.search.params import SolveParams
from optimizer.search.preparation import instance_of
from optimizer.search.splitting import InfeasibleError
from scenarios import PlacedGPU, params_from, visible
from scenarios.base import PlainDir
from scenarios.plots import Stack, draw_stacks
from scenarios.result_view import ResultView
from scenarios.text.formatting import counted
from scenarios.text.tables import Column, Part, item, render, table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from optimizer.result import Result
    from twin import GPUVerdict

MOST_PARTS = 3
"""Parts of a sum that are named."""


class TightRow(PlainDir, BaseModel):
    """The row of the conservative region that one GPU fills most."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    gpu: int
    row: str | None = Field(description="What the row limits; null where the region has no such engine.")
    fill: float | None = Field(description="Left-hand side over bound; above 1 only the twin says yes.")
    parts: dict[str, float] = Field(description="What each sum adds to the fill, the largest first.")
    second_row: str | None = Field(description="The row that is filled next most.")
    second_fill: float | None = Field(description="Its fill.")
    worst_served_share: float | None = Field(description="The twin's smallest served share of an adapter.")
    late_share: float | None = Field(None, description="Share of late requests (acceptance: sustained).")
    margin: float | None = Field(
        None,
        description="Logarithm of the nearest limit over what the twin measured; below 0 where rejected.",
    )
    first_to_suffer: str | None = Field(None, description="The adapter that is the nearest to its limit.")


class BoundArgument(PlainDir, BaseModel):
    """Weights that prove a bound: no GPU holds more than its price, so all adapters need their sum.

    ``weights`` are of one adapter of a class, in units of the first price; they are the dual values of
    the relaxed model, in which adapters may be split over GPUs.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    region: str
    total: float = Field(description="Weight of all adapters.")
    weights: dict[str, float] = Field(description="Weight of all adapters of a class, the largest first.")


class Explanation(ResultView, PlainDir, BaseModel):
    """What `Result.explain` returns; prints as text.

    ``plot`` draws what fills the tightest row of each GPU.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    headline: str
    gpus: tuple[TightRow, ...]
    arguments: tuple[BoundArgument, ...]
    why: tuple[str, ...] = Field(description="Why fewer GPUs do not work, one sentence each.")
    what_ifs: tuple[WhatIf, ...]

    def to_json(self) -> str:
        """JSON of everything."""
        return json.dumps(self.model_dump(mode="json"), indent=2, allow_nan=False)

    def _draw(self, ax: Axes | None) -> Figure:
        title = "What fills the tightest row of each GPU; 100 %: the edge of the conservative region"
        unit = "fill of the row, in percent"
        return draw_stacks(ax, title, [_stack(gpu) for gpu in self.gpus], unit, line=100.0)

    def _shown(self) -> Iterable[Part]:
        return [self.headline, *self.detail_parts()]

    def summary(self) -> str:
        """All of it as text, under the result's headline."""
        return render(self.headline, "", *self.detail_parts())

    def detail_parts(self) -> list[Part]:
        """All but the headline, in parts that `scenarios.text.tables.render` renders."""
        parts: list[Part] = []
        if self.gpus:
            late = any(gpu.late_share is not None for gpu in self.gpus)
            parts.append(table(_columns(late=late), [_cells(gpu) for gpu in self.gpus]))
        if any(gpu.fill is not None and gpu.fill > 1 + 1e-6 for gpu in self.gpus):
            parts.append("Above 100% a GPU is outside the conservative region; the twin alone judged it.\n")
        for title, lines in (
            ("Margins:", [_margin_line(gpu) for gpu in self.gpus if gpu.margin is not None]),
            ("Why not fewer:", self.why),
            ("What would save:", [change.text for change in self.what_ifs]),
        ):
            parts += [title, *map(item, lines)] if lines else []
        return parts

    def __repr__(self) -> str:
        gpus, reasons = counted(len(self.gpus), "GPU"), counted(len(self.why), "reason")
        return f"<Explanation: {gpus}, {reasons}, {counted(len(self.what_ifs), 'what-if')}>"

    def __str__(self) -> str:
        return self.summary()


SUMS_IN_WORDS = {
    "count": "adapters",
    "rate": "requests",
    "prompt_rate": "prompt tokens",
    "output_rate": "output tokens",
    "resident_rate": "contexts",
    "sqrt_rate": "roots of rates",
}
"""What the additive features of `learn.features` are called where they are shown."""


def _columns(*, late: bool) -> list[Column]:
    """The columns of a table of GPUs; of the criterion late requests, or the worst adapter."""
    return [
        Column(">GPU"), Column(">fill"), Column("tightest row"), Column(">next", 2),
        Column(">late" if late else ">worst", 1), Column("made of", 3),
    ]  # fmt: skip


def sum_in_words(name: str) -> str:
    """What a sum over adapters is of, in a word or two."""
    kind, _, window = name.partition("_")
    if kind == "active":
        return f"active in {window.removesuffix('s')} s"
    if kind == "held":
        return f"slots held at {window.removesuffix('ms')} ms"
    return SUMS_IN_WORDS.get(name, name)


def _cells(gpu: TightRow) -> list[object]:
    def percent(value: float | None) -> str | None:
        return None if value is None else f"{value:.0%}"

    parts = list(gpu.parts.items())[:MOST_PARTS]
    made = ", ".join(f"{sum_in_words(name)} {share:.0%}" for name, share in parts)
    return [
        gpu.gpu,
        percent(gpu.fill),
        gpu.row,
        percent(gpu.second_fill),
        percent(gpu.worst_served_share) if gpu.late_share is None else f"{gpu.late_share:.2%}",
        made,
    ]


def _stack(gpu: TightRow) -> Stack:
    """What fills a GPU's tightest row: its largest parts, and the rest."""
    named = list(gpu.parts.items())[:MOST_PARTS]
    parts = {sum_in_words(name): 100 * share for name, share in named}
    rest = (gpu.fill or 0.0) - sum(share for _, share in named)
    words = "no such engine in the region" if gpu.fill is None else f"{gpu.fill:.0%}: {gpu.row}"
    return Stack(f"GPU {gpu.gpu}", parts | ({"others": 100 * rest} if rest > 1e-6 else {}), words=words)


def _margin_line(gpu: TightRow) -> str:
    """How far a GPU is from its nearest limit, and who gets there first."""
    assert gpu.margin is not None
    first = "" if gpu.first_to_suffer is None else f"; first to suffer: {visible(gpu.first_to_suffer)}"
    # Rounded down, so that what is missed never looks met.
    return f"GPU {gpu.gpu}: {math.floor(gpu.margin * 100 + 1e-9) / 100:.2f}{first}"


def explain(result: Result, instance: Instance | None = None) -> Explanation:
    """Explain a result.

    Parameters
    ----------
    result
        Of any method.
    instance
        The scenario made ready; None: made ready here, with the regions that `solve` used.
    """
    if instance is None:
        try:
            instance = instance_of(result.scenario, params_from(result.params, SolveParams))
        except InfeasibleError as error:
            return Explanation(
                headline=result.headline, gpus=(), arguments=(), why=(str(error),), what_ifs=()
            )
    arguments = tuple(
        argument
        for region, problem in (("conservative", instance.inner), ("optimistic", instance.outer))
        if (argument := _argument(region, problem, instance)) is not None
    )
    return Explanation(
        headline=result.headline,
        gpus=_tight_rows(result, instance),
        arguments=arguments,
        why=tuple(_why(result, instance, arguments)),
        what_ifs=what_ifs(instance, result),
    )


# --- what fills each GPU ---------------------------------------------------------------------------


def _tight_rows(result: Result, instance: Instance) -> tuple[TightRow, ...]:
    if result.placement is None:
        return ()
    verdicts = {v.gpu: v for v in result.validation.gpus} if result.validation else {}
    return tuple(_tight_row(gpu, instance, verdicts.get(gpu.gpu)) for gpu in result.placement.gpus)


def _tight_row(gpu: PlacedGPU, instance: Instance, verdict: GPUVerdict | None) -> TightRow:
    figures = None if verdict is None else verdict.sustained
    share = None if verdict is None else verdict.worst_served_share
    late = None if figures is None else figures.late_share
    margin = None if verdict is None or verdict.margin is None else verdict.signed_margin
    first_to_suffer = None if verdict is None else verdict.first_to_suffer
    sums = _sums(gpu, instance)
    options = _options_of(gpu, instance)
    if not options:
        return TightRow(
            gpu=gpu.gpu, row=None, fill=None, parts={}, second_row=None, second_fill=None,
            worst_served_share=share, late_share=late, margin=margin, first_to_suffer=first_to_suffer,
        )  # fmt: skip
    rows = min(options, key=lambda option: float(option.fill(sums)))
    fills = rows.fills(sums)
    order = np.argsort(-fills, kind="stable")
    first = int(order[0])
    second = int(order[1]) if len(order) > 1 else None
    parts = rows.coefficients[first] * sums / rows.bounds[first]
    names = _region(gpu, instance).features
    return TightRow(
        gpu=gpu.gpu,
        row=rows.rows[first].meaning,
        fill=float(fills[first]),
        parts={names[k]: float(parts[k]) for k in np.argsort(-parts, kind="stable") if parts[k] > 0.005},
        second_row=None if second is None else rows.rows[second].meaning,
        second_fill=None if second is None else float(fills[second]),
        worst_served_share=share,
        late_share=late,
        margin=margin,
        first_to_suffer=first_to_suffer,
    )


def _sums(gpu: PlacedGPU, instance: Instance) -> FloatArray:
    """Sums of the additive features over a GPU's adapters, each with its share of the requests."""
    of_name = {name: members for members in instance.scenario.classes for name in members.names}
    parts = [replace(of_name[name], rate=of_name[name].rate * gpu.share(name)) for name in gpu.adapters]
    return np.asarray(scenario_features(instance.scenario, parts).sum(axis=0), dtype=np.float64)


def _region(gpu: PlacedGPU, instance: Instance) -> FeasibilityRegion:
    """The region of GPUs with adapters of such levels as this one holds."""
    held = set(gpu.adapters)
    levels = {c.levels for c in instance.scenario.classes if not held.isdisjoint(c.names)}
    return instance.regions_of(gpu.device, levels).inner


def _options_of(gpu: PlacedGPU, instance: Instance) -> Sequence[OptionRows]:
    """The rows of the region's engine that has the GPU's rank and the fewest slots that suffice."""
    region = _region(gpu, instance)
    slots = [
        option.max_loras
        for option in region.options
        if option.max_lora_rank == gpu.max_lora_rank and option.max_loras >= gpu.max_loras
    ]
    return region.of(min(slots), gpu.max_lora_rank) if slots else ()


# --- why not fewer -----------------------------------------------------------------------------------


def _argument(region: str, problem: PackingProblem, instance: Instance) -> BoundArgument | None:
    solved = continuous_relaxation(without_limits(problem))
    if not np.isfinite(solved.bound):
        return None
    weights = solved.duals * problem.counts
    order = [int(c) for c in np.argsort(-weights, kind="stable") if weights[c] > 0]
    return BoundArgument(
        region=region,
        total=float(solved.bound),
        weights={_class_name(instance, c): float(weights[c]) for c in order},
    )


def _class_name(instance: Instance, c: int) -> str:
    members = instance.classes[c]
    of = "the base model" if members.rank == 0 else f"rank {members.rank}"
    number = f"{members.count} of {of} at {members.rate:.3g}/s"
    alike = sum((other.rank, other.rate) == (members.rank, members.rate) for other in instance.classes)
    return number if alike == 1 else f"{number}, like {members.names[0]}"


def _why(result: Result, instance: Instance, arguments: Sequence[BoundArgument]) -> list[str]:
    """Sentences that lead from the weights to the number of GPUs."""
    lines = []
    unit = "GPUs" if float(np.ptp(instance.inner.prices)) < 1e-12 else "price"
    for argument in arguments:
        parts = [f"{name} {w:.2f}" for name, w in argument.weights.items()]
        largest = ", ".join([*parts[:MOST_PARTS], *(["..."] if len(parts) > MOST_PARTS else [])])
        lines.append(
            f"inside the {argument.region} region no GPU holds adapters of more weight than "
            f"{'1' if unit == 'GPUs' else 'its price'}, and all weigh {argument.total:.2f} ({largest}): "
            f"at least {_least(argument.total, unit)}"
        )
    if result.placement is None or result.gpus is None:
        return lines
    if unit == "GPUs" and arguments:
        lines += _per_gpu(result, arguments[-1].total)
    if result.bound is None:
        lines.append(f"{result.method} proves nothing, so fewer may work; --method exact gives a bound")
    elif result.objective is not None and result.bound >= result.objective * (1 - 1e-9):
        also = (
            f", after {result.cuts} GPU contents that the twin rejected were excluded" if result.cuts else ""
        )
        lines.append(
            f"the search proved that inside the optimistic region{also} {result.bound:g} is the least, which "
            "this plan meets"
        )
    else:
        lines.append(
            f"the search proved {result.bound:g} inside the optimistic region; whether less than "
            f"{result.objective:g} works is open"
        )
    return lines


def _least(total: float, unit: str) -> str:
    if unit != "GPUs":
        return f"a price of {total:.2f}"
    whole = int(np.ceil(total - 1e-6))
    return counted(whole, "GPU")


def _per_gpu(result: Result, optimistic: float) -> list[str]:
    """What each GPU would be asked for with one GPU fewer, against what one holds of this mix at most."""
    offered = [v.offered_tok_per_s for v in result.validation.gpus] if result.validation else []
    demand, fewer = sum(value for value in offered if value is not None), len(offered) - 1
    if fewer < 1 or optimistic <= 0:
        return []
    return [
        f"on {counted(fewer, 'GPU')} the average would be {demand / fewer:,.0f} tokens/s; of "
        f"this mix GPUs hold {demand / optimistic:,.0f} on average at most inside the optimistic region"
    ]
