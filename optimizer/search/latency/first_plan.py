"""A plan to begin with on GPUs that are given, where a latency comes first and no GPU need be spared."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from optimizer.packing.heuristics.load_balancing import balance_load
from optimizer.packing.model.problem import Packing, PackingProblem
from optimizer.packing.model.search_state import PackingResult
from optimizer.search.cut_loop import Solver
from optimizer.search.grouping.minimize_gpus import cheapest_plan
from optimizer.search.latency.starts import posed
from optimizer.search.minimize_gpus import GPUMinimum, Search, first_plans
from optimizer.search.objective_order import Choice, as_good
from optimizer.search.objectives import LatencyObjective, latency_objective_of
from scenarios import Deadline

MODEL_METHODS = ("greedy-lat", "spread")
"""Placers of plans by the linear model's estimates, to begin with."""


def plan_on_given(search: Search, gpus: int, deadline: Deadline) -> tuple[GPUMinimum, Choice]:
    """What is known of the fewest GPUs, and a first plan on those that are given.

    One that spreads the adapters over all of them is soon found, and leaves the twin little to reject. Where
    it rejects some of that all the same, the fuller plans of the search for the fewest GPUs come next, which
    can also tell that there is none.
    """
    spread = _spread_plan(search, gpus, deadline) if search.placer.exact else None
    if spread is not None:
        return GPUMinimum(finished=True), spread
    minimum = _any_plan(search, deadline)
    return minimum, Choice(minimum.best, last=minimum.last)


def model_plans(
    search: Search, objective: LatencyObjective, problem: PackingProblem, deadline: Deadline
) -> Iterator[tuple[str, PackingResult]]:
    """Plans by the linear model's estimates, and where they come from."""
    for method in MODEL_METHODS:
        yield _origin(method), _quick(search, method)(posed(objective, problem), deadline, 0.0)


def tight_plan(search: Search, problem: PackingProblem, deadline: Deadline) -> Packing | None:
    """A plan on few GPUs by the rows alone, evened out like those that the twin is shown; or None."""
    for method in search.params.gpus.first_methods:
        packing = _quick(search, method)(problem, deadline, 0.0).packing
        if packing is not None:
            return balance_load(problem, packing, deadline, search.params.packing.local_search)
    return None


def _spread_plan(search: Search, gpus: int, deadline: Deadline) -> Choice | None:
    """A plan by the linear model's estimates; None where the twin accepts none of the first ones."""
    objective = latency_objective_of(search.instance.scenario.objective)
    inner = as_good(search.instance, None, gpus)
    if objective is None or inner is None:
        return None
    params = search.params.latency
    model, until = posed(objective, inner), deadline.part(params.model_time_share * deadline.left_s)
    for method in MODEL_METHODS:
        found = search.loop.run(model, _quick(search, method), until, max_rounds=params.max_first_rounds)
        if found.plan is not None:
            return Choice(found.plan, _origin(method), found.last)
    return None


def _quick(search: Search, method: str) -> Solver:
    """A placer of the linear model's plans, for as long as a start is worth."""
    solver, seconds = search.solver(method, None), search.params.latency.model_seconds

    def solve(problem: PackingProblem, deadline: Deadline, known_bound: float) -> PackingResult:
        return solver(problem, deadline.part(seconds), known_bound)

    return solve


def _origin(method: str) -> str:
    return f"the linear model ({method})"


def _any_plan(search: Search, deadline: Deadline) -> GPUMinimum:
    """A plan on the GPUs there are, where it need not be the cheapest."""
    if search.instance.groups is None and search.placer.exact:
        held = first_plans(search, deadline)
        if held.best is not None:
            return replace(held, finished=not deadline.reached)
    return cheapest_plan(search, deadline)
