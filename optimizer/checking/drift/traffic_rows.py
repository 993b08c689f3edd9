"""Traffic beside the plan: rates and lengths, and what of a difference chance explains."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from scipy.stats import norm, poisson

from optimizer.checking.drift.drift_report import DriftRow
from optimizer.checking.drift.planned import TOLERANCE, PlannedGPU, Range
from optimizer.checking.readings import MetricsReading
from scenarios.text.formatting import listed

LEAST_REQUESTS = 20
"""Requests answered from which on a mean length says anything."""

NAMED = 3
"""Names that a sentence tells."""

GREW = (
    "more is asked for than planned: `lorapack import` reads the new rates, `lorapack replan` plans for them"
)
LESS = "less is asked for than planned"


class Chances(NamedTuple):
    """What may be as planned.

    Parameters
    ----------
    of_gpu
        Probability that a rate, or a length, of one GPU shows drift by chance.
    load
        How many times its rates a GPU may get.
    """

    of_gpu: float
    load: float

    def counts(self, rate: Range, seconds: float, bursts: float, share: float = 1.0) -> tuple[float, float]:
        """Between what a rate is read that is as planned, in requests per second.

        Parameters
        ----------
        rate
            As planned.
        seconds
            How long it was read.
        bursts
            By what factor counts vary more than a Poisson's: those over it are taken for Poisson.
        share
            Of the probability, where several rates are looked at.
        """
        tail = self.of_gpu * share / 2
        ends = ((tail, rate.low / self.load), (1 - tail, rate.high * self.load))
        low, high = (
            bursts * float(poisson.ppf(end, mean * seconds / bursts)) / seconds for end, mean in ends
        )
        return max(low, 0.0), high


def traffic_rows(plan: PlannedGPU, read: MetricsReading, chances: Chances) -> Iterator[DriftRow]:
    """The rate of a GPU, and the mean lengths of its prompts and answers."""
    if read.arrived is not None:
        between = chances.counts(plan.rate, read.seconds, plan.foretold.dispersion)
        rate = read.arrived / read.seconds
        yield DriftRow.of(read.gpu, "requests/s", plan.rate.high, rate, between, GREW, LESS)
    lengths = (
        ("prompt", read.prompt_tokens, plan.prompt, plan.foretold.prompt.variance),
        ("answer", read.output_tokens, plan.output, plan.foretold.output.variance),
    )
    for text, measured, planned, variance in lengths:
        if measured is not None and read.answered:
            error = math.sqrt(variance / read.answered)
            yield _length_row(read, text, measured, planned, error, chances)


def _length_row(
    read: MetricsReading, text: str, measured: float, planned: Range, error: float, chances: Chances
) -> DriftRow:
    strays = float(norm.ppf(1 - chances.of_gpu / 4)) * error  # two lengths, with two ends each
    between = planned.low * (1 - TOLERANCE) - strays, planned.high * (1 + TOLERANCE) + strays
    row = DriftRow.of(
        read.gpu,
        f"{text} tokens",
        planned.high,
        measured,
        (max(between[0], 1.0), between[1]),
        f"{text}s are longer than planned: put their lengths into the scenario, and run `lorapack replan`",
        f"{text}s are shorter than planned",
    )
    if (read.answered or 0.0) >= LEAST_REQUESTS:
        return row
    return row.model_copy(update={"verdict": "too few", "suggests": ""})


def name_rows(
    read: MetricsReading, planned: Mapping[str, Range], bursts: float, chances: Chances
) -> Iterator[DriftRow]:
    """Rates by served name where metrics tell names apart: how many, and those that are not as planned."""
    known = read.by_name.keys() & planned.keys()
    if not known:
        return  # they tell none apart, or call them by names that are not ours
    others = sorted(read.by_name.keys() - known)
    yield DriftRow(
        gpu=read.gpu,
        figure="names asked for",
        planned=len(planned),
        measured=len(known),
        verdict="note" if others else "as planned",
        suggests=f"in no plan: {listed(others, NAMED)}" if others else "",
    )
    for name, between in sorted(planned.items()):
        rate = read.by_name.get(name, 0.0) / read.seconds
        tolerated = chances.counts(between, read.seconds, bursts, 1 / len(planned))
        row = DriftRow.of(read.gpu, f"requests/s of {name}", between.high, rate, tolerated, GREW, LESS)
        if row.verdict != "as planned":
            yield row
