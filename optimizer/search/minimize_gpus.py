"""The fewest (or cheapest) GPUs: a first accepted plan, bounds, then ever fewer until bound and plan meet."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from optimizer.packing import pack
from optimizer.packing.bounds.price_bounds import price_bound
from optimizer.packing.model.problem import PackingOption, PackingProblem
from optimizer.packing.model.search_state import PackingResult, Status
from optimizer.packing.registry import Method
from optimizer.search.cut_loop import AcceptedPlan, CutLoop, LoopResult, Solver, fixed_method
from optimizer.search.instance import Instance
from optimizer.search.params import DEFAULTS, SolveParams
from scenarios import Deadline, interrupted


@dataclass(frozen=True)
class GPUMinimum:
    """What is known of the cheapest plan.

    Parameters
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
    last
        What a placer said last; None if none was asked.
    """

    best: AcceptedPlan | None = None
    bound: float = 0.0
    outer_bound: float | None = None
    infeasible: bool = False
    finished: bool = False
    last: PackingResult | None = None

    @property
    def proven(self) -> bool:
        """Whether no plan can be cheaper than the one held, or there is none."""
        return self.infeasible or self.within(self.outer_bound)

    @property
    def proven_bound(self) -> float:
        """The bound that the plan held is to be compared with: that of a region that contains it."""
        inside = self.best is None or self.best.value >= self.bound * (1 - 1e-9)
        return max(self.bound if inside and self.finished else 0.0, self.outer_bound or 0.0)

    def within(self, bound: float | None) -> bool:
        """Whether the plan is as cheap as a bound."""
        return self.best is not None and bound is not None and self.best.value <= bound * (1 + 1e-9)

    def after(self, result: LoopResult) -> GPUMinimum:
        """With the plan of a run of the cut loop, where it is cheaper, and what the placer said last."""
        return replace(self, last=result.last or self.last).offered(result.plan)

    def offered(self, plan: AcceptedPlan | None) -> GPUMinimum:
        """With a plan, where it is cheaper."""
        better = plan is not None and (self.best is None or plan.value < self.best.value * (1 - 1e-9))
        return replace(self, best=plan) if better else self


@dataclass(frozen=True)
class Search:
    """What every step of a search needs.

    Parameters
    ----------
    instance
        The scenario's problems on the inner and the outer region.
    placer
        The placer.
    loop
        The cut loop, with what the twin has rejected so far.
    gap_limit
        Relative gap at which placers stop.
    workers
        Threads of the placers.
    params
        Parameters of the steps and of the placers.
    """

    instance: Instance
    placer: Method
    loop: CutLoop
    gap_limit: float = 0.0
    workers: int = 1
    params: SolveParams = DEFAULTS

    def solver(
        self, method: str, hint: AcceptedPlan | None, share: float = 1.0, gap_limit: float = 0.0
    ) -> Solver:
        """A solver by one method, for a share of the time that is left, that starts from a plan."""
        return fixed_method(
            method,
            seed=self.instance.scenario.seed,
            workers=self.workers,
            hint=None if hint is None else hint.packing,
            gap_limit=gap_limit,
            share=share,
            params=self.params.packing,
        )


def minimize_gpus(search: Search, deadline: Deadline) -> GPUMinimum:
    """Search until bound and plan meet, all is tried, or the time is over.

    A method that minimises no price finds no fewest GPUs either; it works on those given.
    """
    if search.placer.spreads:
        return GPUMinimum()
    minimizer = Minimizer(search, deadline)
    if not search.placer.exact:
        held = minimizer.first_plan(GPUMinimum(), search.placer.name, search.params.gpus.max_rounds)
        return replace(held, finished=not deadline.reached)
    held = GPUMinimum()
    for method in search.params.gpus.first_methods:
        if not deadline.reached:
            held = minimizer.first_plan(held, method, search.params.gpus.max_first_rounds)
    if not interrupted():
        held = minimizer.bound_outer(held)
    for step in (minimizer.tighten, minimizer.bound_inner):
        if not held.proven and not deadline.reached:
            held = step(held)
    return replace(held, finished=not deadline.reached)


@dataclass(frozen=True)
class Minimizer:
    """The steps of the search; each returns what is known after it."""

    search: Search
    deadline: Deadline

    @property
    def instance(self) -> Instance:
        return self.search.instance

    @property
    def loop(self) -> CutLoop:
        return self.search.loop

    def _solver(self, held: GPUMinimum, method: str, share: float = 1.0) -> Solver:
        return self.search.solver(method, held.best, share, self.search.gap_limit)

    def first_plan(self, held: GPUMinimum, method: str, max_rounds: int) -> GPUMinimum:
        """Plans of one placer until the twin accepts one; else the last one with rejected GPUs halved."""
        inner = self.instance.inner
        balance = self.search.placer.exact  # a heuristic's own plan is judged as it is
        solver = self._solver(held, method)
        held = held.after(self.loop.run(inner, solver, self.deadline, max_rounds=max_rounds, balance=balance))
        if held.best is not None or held.last is None or held.last.packing is None:
            return held
        return held.offered(self.loop.repair(inner, held.last.packing, self.deadline))

    def bound_outer(self, held: GPUMinimum) -> GPUMinimum:
        """The bound on the optimistic region, which holds for every plan that the twin may accept."""
        seconds = self.deadline.left_s * self.search.params.gpus.outer_time_share
        if self.instance.divisible is not None:
            bound = price_bound(self.instance.divisible, seconds)
            infeasible = bool(np.isinf(bound)) and held.best is None
            return replace(held, infeasible=infeasible, outer_bound=None if np.isinf(bound) else bound)
        outer = self.instance.outer
        solved = pack(
            replace(outer, cuts=self.loop.cuts(outer)),
            self.search.placer.name,
            time_limit_s=max(seconds, 0.5),
            seed=self.instance.scenario.seed,
            workers=self.search.workers,
            hint=None if held.best is None else held.best.packing,
            params=self.search.params.packing,
        )
        infeasible = solved.status is Status.INFEASIBLE and held.best is None
        return replace(held, outer_bound=solved.bound, infeasible=infeasible)

    def bound_inner(self, held: GPUMinimum) -> GPUMinimum:
        """The bound on the conservative region, or a cheaper plan there after all."""
        if held.within(held.bound) or np.isinf(held.bound):
            return held
        result = self.loop.run(
            self.instance.inner,
            self._solver(held, self.search.placer.name),
            self.deadline,
            max_rounds=self.search.params.gpus.max_rounds,
            known_bound=max(held.bound, held.outer_bound or 0.0),
            balance=True,
        )
        bound = held.bound
        if result.last is not None:
            infeasible = result.last.status is Status.INFEASIBLE
            bound = float("inf") if infeasible else max(bound, result.last.bound)
        return replace(held, bound=bound).after(result)

    def tighten(self, held: GPUMinimum) -> GPUMinimum:
        """Ever cheaper plans, first in the conservative region, then where it refuses them.

        Between the inner and the outer region lies what the linear rows do not know. The plan is looked
        for in regions ever closer to the outer one, so that the least optimistic plan is asked first; a
        wider region is tried when the last one holds no such plan. Where not even the outer one does, the
        plan held is proven to be the cheapest.
        """
        for share in self.search.params.gpus.relaxations:
            held = self._tighten_within(held, share)
            if held.proven or self.deadline.reached or held.last is None:
                return held
            exhausted = held.last.status is Status.INFEASIBLE
            if exhausted and share == 0.0:
                held = replace(held, bound=float("inf") if held.best is None else held.best.value)
            whole = self.instance.divisible is None  # else plans with unequal shares are left
            if exhausted and share == 1.0 and whole:
                bound = held.outer_bound if held.best is None else held.best.value
                held = replace(held, infeasible=held.best is None, outer_bound=bound)
            if held.last is not None and held.last.packing is not None:
                return held  # the twin rejects what there is; wider regions hold more of its kind
        return held

    def _tighten_within(self, held: GPUMinimum, share: float) -> GPUMinimum:
        """Cheaper plans of one region, as long as the twin accepts them."""
        params = self.search.params.gpus
        while not (self.deadline.reached or held.proven):
            problem = relaxed(self.instance, share)
            if held.best is not None:
                problem = cheaper_than(problem, held.best.value)
            result = self.loop.run(
                problem,
                self._solver(held, self.search.placer.name, params.attempt_time_share),
                self.deadline,
                max_rounds=params.max_rounds_per_relaxation,
                max_rejected_share=params.max_rejected_share,
                balance=True,
            )
            held = held.after(result)  # cheaper: the problem admits no other
            if result.plan is None:
                break
        return held


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
