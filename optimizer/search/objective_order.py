"""Several objectives in their order: each is looked at among the plans that are best in those before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from optimizer.packing.model.problem import PackingProblem
from optimizer.packing.model.search_state import PackingResult
from optimizer.search.cut_loop import AcceptedPlan
from optimizer.search.grouping.minimize_gpus import cheapest_plan
from optimizer.search.instance import Instance
from optimizer.search.minimize_gpus import GPUMinimum, Search
from optimizer.search.objectives import LATENCY_OBJECTIVES, PRICES, leading_prices, price
from scenarios import Deadline


@dataclass(frozen=True)
class Choice:
    """The plan that a search holds.

    Parameters
    ----------
    plan
        The plan; None if there is none.
    origin
        Where it comes from, for people; empty for the search for the fewest GPUs.
    last
        What a placer said last; None if none was asked.
    """

    plan: AcceptedPlan | None
    origin: str = ""
    last: PackingResult | None = None


def plan_value(instance: Instance, objective: str, plan: AcceptedPlan) -> float:
    """Value of an objective for a plan; infinite where the twin measured nothing."""
    if objective in LATENCY_OBJECTIVES:
        return LATENCY_OBJECTIVES[objective].measure(instance.inner, plan.packing, plan.verdicts)
    devices = {device.name: device for device in instance.scenario.devices}
    options = instance.inner.options
    return sum(price(devices[options[b.option].device], objective) for b in plan.packing.bins)


def values_of(instance: Instance, plan: AcceptedPlan) -> tuple[float | None, ...]:
    """Value of each of the scenario's objectives; None where the twin measured nothing."""
    values = (plan_value(instance, objective, plan) for objective in instance.scenario.objective)
    return tuple(value if np.isfinite(value) else None for value in values)


def minimize_second_price(search: Search, minimum: GPUMinimum, deadline: Deadline) -> Choice:
    """The best plan by the second price among those that are best by the first."""
    prices = leading_prices(search.instance.scenario.objective)
    choice, instance = Choice(minimum.best, last=minimum.last), search.instance
    if choice.plan is not None and prices == ("gpus", "cost"):
        cheaper = _cheapest(search, instance.priced("cost", len(choice.plan.packing)), deadline)
        if cheaper.plan is None or plan_value(instance, "cost", cheaper.plan) >= plan_value(
            instance, "cost", choice.plan
        ):
            return replace(choice, last=cheaper.last)
        return cheaper
    if prices == ("cost", "gpus") and len(set(instance.inner.prices)) > 1:
        while choice.plan is not None and len(choice.plan.packing) > 1 and not deadline.reached:
            budget = choice.plan.value * (1 + 1e-9)
            fewer = _cheapest(search, instance.priced("cost", len(choice.plan.packing) - 1, budget), deadline)
            if fewer.plan is None:
                return replace(choice, last=fewer.last)
            choice = fewer
    return choice


def _cheapest(search: Search, instance: Instance, deadline: Deadline) -> Choice:
    """The plan of least price of an instance."""
    minimum = cheapest_plan(replace(search, instance=instance), deadline)
    return Choice(minimum.best, last=minimum.last)


def as_good(instance: Instance, plan: AcceptedPlan | None, gpus: int | None) -> PackingProblem | None:
    """The problem of the plans that are as good as the one held in the prices before the first latency.

    Where a latency comes first, the GPUs that were asked for, as far as they exist, are allowed. None
    where that needs a plan and there is none.
    """
    objectives = instance.scenario.objective
    before = leading_prices(objectives)
    max_bins = min(instance.inner.max_bins or instance.inner.n_items, instance.inner.n_items)
    budget = None
    if before or gpus is None:
        if plan is None:
            return None
        if before != ("cost",):
            max_bins = len(plan.packing)
        if "cost" in before:
            budget = plan_value(instance, "cost", plan) * (1 + 1e-9)
    inner = instance.priced("cost" if "cost" in objectives else "gpus", max_bins, budget).inner
    if budget is not None:
        inner = replace(inner, max_bins=min(max_bins, int(budget / inner.prices.min())))
    return inner


def best_in_order(search: Search, choices: Sequence[Choice], otherwise: Choice) -> Choice:
    """The choice that is best in the order of the scenario's objectives; another where there is none."""
    if not choices:
        return otherwise
    objectives = search.instance.scenario.objective
    values = [
        tuple(plan_value(search.instance, name, choice.plan) for name in objectives)
        for choice in choices
        if choice.plan is not None
    ]
    return choices[first_in_order(objectives, values, search.params.latency.indifference)]


def first_in_order(
    objectives: Sequence[str], values: Sequence[tuple[float, ...]], indifference: float
) -> int:
    """Index of the values that are least in the first objective, then in the next, and so on.

    Latencies that differ by no more than a relative ``indifference`` are equal, save in the last objective.
    """
    kept = list(range(len(values)))
    for k, name in enumerate(objectives[:-1]):
        least = min(values[i][k] for i in kept)
        limit = least * (1 + (1e-9 if name in PRICES else indifference))
        kept = [i for i in kept if values[i][k] <= limit]
    return min(kept, key=lambda i: values[i][-1])
