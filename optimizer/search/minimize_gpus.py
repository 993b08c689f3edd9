"""The fewest (or cheapest) GPUs: a first accepted plan, bounds, then ever fewer until bound and plan meet."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace

import numpy as np

from optimizer.packing import pack
from optimizer.packing.bounds.price_bounds import price_bound
from optimizer.packing.model.problem import PackingOption, PackingProblem
from optimizer.packing.model.search_state import PackingResult, Status
from optimizer.packing.registry import Method
from optimizer.search.cut_loop import AcceptedPlan, CutLoop, Solver, fixed_method
from optimizer.search.instance import Instance
from scenarios.stopping.deadline import Stopped
from scenarios.stopping.interrupts import interrupted

FIRST_METHODS = ("greedy", "bfd")
"""Placers of the first plans of an exact search; it is never worse than what the twin accepts of them."""

FIRST_ROUNDS = 4
"""Most rounds of cuts for a first plan; what the twin still rejects then is halved."""

RELAXATIONS = (0.0, 0.25, 0.5, 0.75, 1.0)
"""How far between the inner and the outer region a plan with fewer GPUs is looked for."""

TIGHTER_ROUNDS = 12
"""How often the twin may reject such a plan; more of its kind are in wider regions too."""

MOST_REJECTED = 0.5
"""Share of its GPUs that the twin may reject, twice in a row, before such a plan is given up."""

OUTER_SHARE = 0.2
"""Share of the time left that the bound on the outer region may take."""

ATTEMPT_SHARE = 0.15
"""Share of the time left for finding one plan with fewer GPUs."""


class GPUMinimization:
    """A search for the cheapest plan that the twin accepts; what it holds is valid at any moment.

    Parameters
    ----------
    instance
        The scenario's problems on the inner and the outer region.
    method
        The placer.
    confirmation
        The loop with the twin, its cuts and its deadline.
    gap_limit
        Relative gap at which placers stop.
    workers
        Threads of the placers.

    Attributes
    ----------
    best
        The cheapest accepted plan so far, or None.
    bound
        No plan of the inner region that the twin can accept is cheaper.
    outer_bound
        No plan of the outer region that the twin can accept is cheaper; None for a heuristic.
    infeasible
        Whether the outer region is proven to hold no plan.
    finished
        Whether the search came to its own end. What was cut short has not looked between the regions, so
        the inner region's bound says nothing of its plan then.
    """

    def __init__(
        self,
        instance: Instance,
        method: Method,
        confirmation: CutLoop,
        *,
        gap_limit: float = 0.0,
        workers: int = 1,
    ) -> None:
        self.instance = instance
        self.method = method
        self.confirmation = confirmation
        self.gap_limit = gap_limit
        self.workers = workers
        self.best: AcceptedPlan | None = None
        self.bound = 0.0
        self.outer_bound: float | None = None
        self.infeasible = False
        self.finished = False

    def run(self) -> None:
        """Search until bound and plan meet, all is tried, or the time is over.

        A method that minimises no price finds no fewest GPUs either; it works on those given.
        """
        if self.method.spreads:
            return
        with suppress(Stopped):
            self._search()
            self.finished = not self.confirmation.deadline.reached

    def _search(self) -> None:
        if not self.method.exact:
            self._confirm_or_halve(self.method.name, max_rounds=50)
            return
        for name in FIRST_METHODS:
            self._confirm_or_halve(name, FIRST_ROUNDS)
        if not interrupted():
            self._bound_outer()
        if not self.proven and self.confirmation.left_s > 0:
            self._tighten()
        if not self.proven and self.confirmation.left_s > 0:
            self._bound_inner()

    @property
    def proven(self) -> bool:
        """Whether no plan can be cheaper than the one held, or there is none."""
        return self.infeasible or self._within(self.outer_bound)

    @property
    def proven_bound(self) -> float:
        """The bound that the plan held is to be compared with: that of a region that contains it."""
        inside = self.best is None or self.best.value >= self.bound * (1 - 1e-9)
        return max(self.bound if inside and self.finished else 0.0, self.outer_bound or 0.0)

    def _within(self, bound: float | None) -> bool:
        return self.best is not None and bound is not None and self.best.value <= bound * (1 + 1e-9)

    def _offer(self, plan: AcceptedPlan | None) -> None:
        if plan is not None and (self.best is None or plan.value < self.best.value * (1 - 1e-9)):
            self.best = plan

    def _solver(self, method: str, share: float = 1.0) -> Solver:
        hint = None if self.best is None else self.best.packing
        return fixed_method(
            method,
            seed=self.instance.scenario.seed,
            workers=self.workers,
            hint=hint,
            gap_limit=self.gap_limit,
            share=share,
        )

    def _confirm_or_halve(self, method: str, max_rounds: int) -> None:
        """Plans of one placer until the twin accepts one; else the last one with rejected GPUs halved."""
        inner, confirmation = self.instance.inner, self.confirmation
        even = self.method.exact  # a heuristic's own plan is judged as it is
        self._offer(confirmation.confirm(inner, self._solver(method), max_rounds=max_rounds, even=even))
        said = confirmation.last
        if self.best is None and said is not None and said.packing is not None:
            self._offer(confirmation.repair(inner, said.packing))

    def _bound_outer(self) -> None:
        """The bound on the optimistic region, which holds for every plan that the twin may accept."""
        if self.instance.divisible is not None:
            bound = price_bound(self.instance.divisible, self.confirmation.left_s * OUTER_SHARE)
            self.infeasible = np.isinf(bound) and self.best is None
            self.outer_bound = None if np.isinf(bound) else bound
            return
        solved = self._solve_outer(self.confirmation.left_s * OUTER_SHARE)
        self.outer_bound = solved.bound
        self.infeasible = solved.status is Status.INFEASIBLE and self.best is None

    def _solve_outer(self, seconds: float) -> PackingResult:
        problem = self.instance.outer
        problem = replace(problem, cuts=self.confirmation.cuts(problem))
        return pack(
            problem,
            self.method.name,
            time_limit_s=max(seconds, 0.5),
            seed=self.instance.scenario.seed,
            workers=self.workers,
            hint=None if self.best is None else self.best.packing,
        )

    def _bound_inner(self) -> None:
        """The bound on the conservative region, or a cheaper plan there after all."""
        if self._within(self.bound) or np.isinf(self.bound):
            return
        inner, confirmation = self.instance.inner, self.confirmation
        known = max(self.bound, self.outer_bound or 0.0)
        plan = confirmation.confirm(inner, self._solver(self.method.name), known_bound=known, even=True)
        said = confirmation.last
        if said is not None and said.status is Status.INFEASIBLE:
            self.bound = float("inf")
        elif said is not None:
            self.bound = max(self.bound, said.bound)
        self._offer(plan)

    def _tighten(self) -> None:
        """Ever cheaper plans, first in the conservative region, then where it refuses them.

        Between the inner and the outer region lies what the linear rows do not know. The plan is looked
        for in regions ever closer to the outer one, so that the least optimistic plan is asked first; a
        wider region is tried when the last one holds no such plan. Where not even the outer one does, the
        plan held is proven to be the cheapest.
        """
        for share in RELAXATIONS:
            said = self._tighten_within(share)
            if self.proven or self.confirmation.left_s <= 0 or said is None:
                return
            exhausted = said.status is Status.INFEASIBLE
            if exhausted and share == 0.0:
                self.bound = float("inf") if self.best is None else self.best.value
            whole = self.instance.divisible is None  # else plans with unequal shares are left
            if exhausted and share == 1.0 and whole:
                self.infeasible = self.best is None
                self.outer_bound = self.outer_bound if self.best is None else self.best.value
            if said.packing is not None:
                return  # the twin rejects what there is; wider regions hold more of its kind

    def _tighten_within(self, share: float) -> PackingResult | None:
        """Cheaper plans of one region, as long as the twin accepts them; what the placer said last."""
        while self.confirmation.left_s > 0 and not self.proven:
            problem = relaxed(self.instance, share)
            if self.best is not None:
                problem = cheaper_than(problem, self.best.value)
            plan = self.confirmation.confirm(
                problem,
                self._solver(self.method.name, ATTEMPT_SHARE),
                max_rounds=TIGHTER_ROUNDS,
                most_rejected=MOST_REJECTED,
                even=True,
            )
            if plan is None:
                break
            self._offer(plan)  # cheaper: the problem admits no other
        return self.confirmation.last


def cheaper_than(problem: PackingProblem, value: float) -> PackingProblem:
    """The problem with a budget below a plan's price: one GPU less where all prices are equal."""
    prices = problem.prices
    if np.ptp(prices) < 1e-12 and value > prices[0] * 1.5:
        bins = round(value / prices[0]) - 1
        return replace(problem, max_bins=max(1, min(bins, problem.max_bins or bins)))
    return replace(problem, budget=value * (1 - 1e-6))


def relaxed(instance: Instance, share: float) -> PackingProblem:
    """The packing problem on a region between the inner (share 0) and the outer one (share 1)."""
    outer = {option.key: option for option in instance.outer.options}
    options = tuple(_between(option, outer[option.key], share) for option in instance.inner.options)
    return replace(instance.inner, options=options)


def _between(inner: PackingOption, outer: PackingOption, share: float) -> PackingOption:
    """Rows between two options' rows; rows that only the inner one has stay as they are.

    Rows are made comparable by dividing each by its capacity.
    """
    rows = len(outer.capacity)
    usage = inner.usage / inner.capacity[:, None]
    usage[:rows] = (1 - share) * usage[:rows] + share * outer.usage / outer.capacity[:, None]
    return replace(inner, usage=usage, capacity=np.ones(len(usage)))
