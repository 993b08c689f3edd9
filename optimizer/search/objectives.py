"""The objectives by name: prices to add up over GPUs, and latencies of a plan on a given number of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import Literal

import numpy as np

from optimizer.packing.model.problem import Packing, PackingProblem
from scenarios import Device, Problem, ScenarioError
from twin import GPUVerdict

Figure = Literal["itl_ms", "ttft_ms", "ttft_p99_ms"]
"""A latency of a GPU, as its verdict names it."""

PRICES = ("gpus", "cost")
"""Objectives that are sums over the GPUs of a plan."""


@dataclass(frozen=True)
class LatencyObjective:
    """An objective on a given number of GPUs.

    Parameters
    ----------
    name, summary
        For scenario files, menus and messages.
    figure
        The latency that the twin measures; None: the share of a GPU that its adapters fill, by the
        linear rows.
    worst
        Whether the worst GPU counts, or the mean over GPUs, weighted by the tokens that they serve.
    """

    name: str
    summary: str
    figure: Figure | None
    worst: bool

    @property
    def of_first_token(self) -> bool:
        """Whether it is about the time to first token."""
        return self.figure is not None and self.figure.startswith("ttft")

    def problem(self, inner: PackingProblem, gpus: int) -> PackingProblem:
        """The problem of the least value on so many GPUs, by the estimates of the linear model."""
        if self.figure is None:
            return inner.balanced(gpus)
        return replace(inner, objective="worst" if self.worst else "mean", max_bins=gpus)

    def measure(self, inner: PackingProblem, packing: Packing, verdicts: Sequence[GPUVerdict]) -> float:
        """Value of a judged plan, in ms, or as a share; infinite where the twin measured nothing."""
        if self.figure is None:
            return inner.balanced(max(len(packing), 1)).value(packing)
        values = np.array([_number(getattr(verdict, self.figure)) for verdict in verdicts])
        weight = np.array([verdict.served_tok_per_s or 0.0 for verdict in verdicts])
        known = np.isfinite(values) & (weight > 0)
        if not known.any():
            return float("inf")
        return float(values[known].max() if self.worst else np.average(values[known], weights=weight[known]))


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


LATENCY_OBJECTIVES: dict[str, LatencyObjective] = {
    objective.name: objective
    for objective in (
        LatencyObjective("latency", "mean inter-token latency over the GPUs", "itl_ms", worst=False),
        LatencyObjective(
            "worst_latency", "mean inter-token latency of the slowest GPU", "itl_ms", worst=True
        ),
        LatencyObjective("ttft", "mean time to first token over the GPUs", "ttft_ms", worst=False),
        LatencyObjective("worst_ttft", "mean time to first token of the slowest GPU", "ttft_ms", worst=True),
        LatencyObjective(
            "worst_ttft_p99",
            "99th percentile of the time to first token of the slowest GPU",
            "ttft_p99_ms",
            worst=True,
        ),
        LatencyObjective("balance", "share of the fullest GPU that its adapters fill", None, worst=True),
    )
}


def latency_objective_of(objectives: Sequence[str]) -> LatencyObjective | None:
    """The first objective on a given number of GPUs, or None."""
    return next((LATENCY_OBJECTIVES[name] for name in objectives if name in LATENCY_OBJECTIVES), None)


def prices_of(objectives: Sequence[str]) -> tuple[str, ...]:
    """The price objectives in order; the number of GPUs where there is none."""
    return tuple(name for name in objectives if name in PRICES) or ("gpus",)


def leading_prices(objectives: Sequence[str]) -> tuple[str, ...]:
    """The price objectives before the first objective on a given number of GPUs."""
    return tuple(takewhile(lambda name: name in PRICES, objectives))


def price(device: Device, objective: str) -> float:
    """What one GPU adds to a price objective.

    Raises
    ------
    ScenarioError
        If the objective is the cost of a device without a price.
    """
    if objective != "cost":
        return 1.0
    if device.price_per_hour is None:
        remedy = "give the price of one GPU for an hour, or choose the objective gpus"
        problem = Problem(f'device "{device.name}"', "has no price_per_hour", remedy)
        raise ScenarioError([problem], "objective cost")
    return device.price_per_hour
