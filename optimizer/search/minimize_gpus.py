"""The fewest (or cheapest) GPUs: a first accepted plan, the bound, then ever fewer until they meet."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import numpy as np

from optimizer.packing import pack
from optimizer.packing.bounds.price_bounds import LEAST_S, price_bound
from optimizer.packing.heuristics.load_balancing import balance_load
from optimizer.packing.model.problem import PackingOption, PackingProblem
from optimizer.packing.model.search_state import PackingResult, Status
from optimizer.packing.registry import Method
from optimizer.search.corrections import Corrections
from optimizer.search.cut_loop import AcceptedPlan, CutLoop, JudgedPlan, LoopResult, Solver, fixed_method
from optimizer.search.instance import Instance
from optimizer.search.judging import Pattern
from optimizer.search.params import DEFAULTS, SolveParams
from scenarios import Deadline, interrupted
from scenarios.text.formatting import counted
from twin import GPUVerdict

Cause = Literal["rejected", "undecided", "unequal_parts", "cut_short"]
"""Why a gap stays open: the twin rejects what the optimistic region holds; the placer found no such plan nor
that there is none; only plans with unequal parts of an adapter are left; or the search was cut short."""


@dataclass(frozen=True)
class JudgedGPU:
    """A GPU that the optimistic region holds.

    Parameters
    ----------
    pattern
        Its content and how it is run.
    verdict
        What the twin says of it.
    number
        How many GPUs of the plan are like it.
    """

    pattern: Pattern
    verdict: GPUVerdict
    number: int


@dataclass(frozen=True)
class OpenGap:
    """Why plan and bound do not meet.

    Parameters
    ----------
    cause
        The kind of reason.
    value
        Price of the cheaper plan that the optimistic region holds; None without one.
    gpus
        The distinct GPUs of that plan.
    """

    cause: Cause
    value: float | None = None
    gpus: tuple[JudgedGPU, ...] = ()

    @property
    def rejected(self) -> tuple[JudgedGPU, ...]:
        """The GPUs that the two disagree about."""
        return tuple(gpu for gpu in self.gpus if not gpu.verdict.accepted)

    def __str__(self) -> str:
        if self.cause == "rejected":
            number, of = sum(g.number for g in self.rejected), sum(g.number for g in self.gpus)
            worst = min((g.verdict for g in self.rejected), key=lambda verdict: verdict.signed_margin)
            plan = f"it holds a plan of {counted(of, 'GPU')}, {number} of which the twin rejects"
            # Of the worst what it says of the whole GPU: adapters have no names here.
            whole = [violation.sentence for violation in worst.violations if not violation.adapters]
            return "; ".join([plan, *whole[:1]])
        return {
            "undecided": "no cheaper plan of it was found, and none is excluded",
            "unequal_parts": "only plans that serve an adapter in unequal parts could be cheaper",
            "cut_short": "the search was cut short",
        }[self.cause]


@dataclass(frozen=True)
class GPUMinimum:
    """What is known of the cheapest plan.

    Parameters
    ----------
    best
        The cheapest accepted plan so far, or None.
    outer_bound
        No plan of the outer region that the twin can accept is cheaper; None for a heuristic.
    infeasible
        Whether the outer region is proven to hold no plan.
    finished
        Whether the search came to its own end.
    last
        What a placer said last; None if none was asked.
    gap
        Why the bound is below the plan; None where they meet, or a heuristic was at work.
    """

    best: AcceptedPlan | None = None
    outer_bound: float | None = None
    infeasible: bool = False
    finished: bool = False
    last: PackingResult | None = None
    gap: OpenGap | None = None

    @property
    def proven(self) -> bool:
        """Whether no plan can be cheaper than the one held, or there is none."""
        return self.infeasible or self.within(self.outer_bound)

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
    held = first_plans(search, deadline)
    if not interrupted():
        held = minimizer.bound_outer(held)
    better = True
    while better and not (held.proven or deadline.reached):
        before, held = held.best, minimizer.confront(minimizer.tighten(minimizer.cut_through(held)))
        better = held.best is not before
    if held.proven:
        return replace(held, finished=True, gap=None)
    if deadline.reached:
        return replace(held, gap=held.gap or OpenGap("cut_short"))
    return replace(held, finished=True)


def first_plans(search: Search, deadline: Deadline) -> GPUMinimum:
    """The cheapest of the plans of quick placers, as far as the twin accepts them."""
    minimizer, held = Minimizer(search, deadline), GPUMinimum()
    for method in search.params.gpus.first_methods:
        if not deadline.reached:
            held = minimizer.first_plan(held, method, search.params.gpus.max_first_rounds)
    return held


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

    @cached_property
    def corrections(self) -> Corrections:
        return Corrections(self.instance.inner, self.instance.outer, self.search.params.teaching)

    def _solver(self, held: GPUMinimum, method: str, share: float = 1.0) -> Solver:
        return self.search.solver(method, held.best, share, self.search.gap_limit)

    def first_plan(self, held: GPUMinimum, method: str, max_rounds: int) -> GPUMinimum:
        """Plans of one placer until the twin accepts one; else the last one with rejected GPUs halved."""
        inner = self.instance.inner
        balance = self.search.placer.exact  # a heuristic's own plan is judged as it is
        solver = self._solver(held, method)
        result = self.loop.run(
            inner,
            solver,
            self.deadline,
            max_rounds=max_rounds,
            corrections=self.corrections,
            balance=balance,
        )
        held = held.after(result)
        if held.best is not None or held.last is None or held.last.packing is None:
            return held
        return held.offered(self.loop.repair(inner, held.last.packing, self.deadline))

    def bound_outer(self, held: GPUMinimum) -> GPUMinimum:
        """The bound on the optimistic region, which holds for every plan that the twin may accept."""
        seconds = self.deadline.left_s * self.search.params.gpus.outer_time_share
        if self.instance.divisible is not None:
            bound = price_bound(self.instance.divisible, self.deadline, seconds)
            infeasible = bool(np.isinf(bound)) and held.best is None
            return replace(held, infeasible=infeasible, outer_bound=None if np.isinf(bound) else bound)
        outer = self.instance.outer
        solved = pack(
            replace(outer, cuts=self.loop.cuts(outer)),
            self.search.placer.name,
            time_limit_s=math.inf,
            deadline=self.deadline.part(seconds).no_sooner(LEAST_S),
            seed=self.instance.scenario.seed,
            workers=self.search.workers,
            hint=None if held.best is None else held.best.packing,
            params=self.search.params.packing,
        )
        infeasible = solved.status is Status.INFEASIBLE and held.best is None
        return replace(held, outer_bound=solved.bound, infeasible=infeasible)

    def cut_through(self, held: GPUMinimum) -> GPUMinimum:
        """Cheaper plans a little beyond the inner rows, where the twin may reject few enough to cut them off.

        Corrections say what is wrong with the rows on average. Where hardly any GPU of a plan is rejected,
        another plan that leaves out those contents is nearer than other rows.
        """
        params = self.search.params.gpus
        for share in params.relaxations:
            while not (self.deadline.reached or held.proven):
                result = self.loop.run(
                    self._cheaper(held, relaxed(self.instance, share)),
                    self._solver(held, self.search.placer.name, params.attempt_time_share),
                    self.deadline,
                    max_rounds=params.max_cut_rounds,
                    max_rejected_share=params.max_cut_share,
                    known_bound=held.outer_bound or 0.0,
                    balance=True,
                )
                held = held.after(result)  # cheaper: the problem admits no other
                if result.plan is None:
                    break
        return held

    def tighten(self, held: GPUMinimum) -> GPUMinimum:
        """Ever cheaper plans on the inner rows as the twin has corrected them.

        First on the rows as they are most likely; where these hold no cheaper plan, on rows that are wider by
        what is still uncertain of them. What the twin says of such a plan makes that less.
        """
        params = self.search.params.gpus
        news = self.loop.rounds
        for optimism in params.optimism:
            while not (self.deadline.reached or held.proven):
                left = params.max_idle_rounds - (self.loop.rounds - news)
                if left <= 0:
                    return held
                result = self.loop.run(
                    self._cheaper(held, self.instance.inner),
                    self._solver(held, self.search.placer.name, params.attempt_time_share),
                    self.deadline,
                    max_rounds=min(params.max_taught_rounds, left),
                    corrections=self.corrections,
                    optimism=optimism,
                    known_bound=held.outer_bound or 0.0,
                    balance=True,
                )
                held = held.after(result)  # cheaper: the problem admits no other
                if result.plan is None:
                    break
                news = self.loop.rounds
        return held

    def confront(self, held: GPUMinimum) -> GPUMinimum:
        """The twin's word on cheaper plans of the outer region: one that it accepts, a proof, or the reason.

        Where, with all that the twin has rejected cut off, the outer region holds no cheaper plan, the plan
        held is proven to be the cheapest.
        """
        params = self.search.params.gpus
        outer, hopeless = in_order(self.instance.outer, self.instance.inner), 0
        for k in range(params.max_outer_rounds):
            if self.deadline.reached or held.proven:
                return held
            solver = self._solver(held, self.search.placer.name, params.attempt_time_share)
            problem = self._cheaper(held, replace(outer, cuts=self.loop.cuts(outer)))
            packed = solver(problem, self.deadline, held.outer_bound or 0.0)
            held = replace(held, last=packed)
            if packed.packing is None:
                return self._without_cheaper(held, packed)
            packing = packed.packing
            if k % 2 == 0:
                packing = balance_load(problem, packing, self.deadline, self.loop.params)
            plan = self.loop.judged(problem, packing, packed, self.deadline)
            if plan is None:
                return held
            if isinstance(plan, AcceptedPlan):
                return replace(held.offered(plan), gap=None)
            held = replace(held, gap=disagreement(plan))
            gpus, rejected = len(plan.verdicts), sum(not verdict.accepted for verdict in plan.verdicts)
            # All on one GPU is soon tried out, as there is but one content.
            hopeless = hopeless + 1 if gpus > 1 and rejected > params.max_rejected_share * gpus else 0
            if hopeless == 2:
                return held
        return held

    def _without_cheaper(self, held: GPUMinimum, packed: PackingResult) -> GPUMinimum:
        """What it means that no cheaper plan of the outer region was found."""
        if packed.status is not Status.INFEASIBLE:
            return held if held.gap is not None else replace(held, gap=OpenGap("undecided"))
        if self.instance.divisible is not None:
            return replace(held, gap=OpenGap("unequal_parts"))
        bound = held.outer_bound if held.best is None else held.best.value
        return replace(held, infeasible=held.best is None, outer_bound=bound, gap=None)

    def _cheaper(self, held: GPUMinimum, problem: PackingProblem) -> PackingProblem:
        return problem if held.best is None else cheaper_than(problem, held.best.value)


def disagreement(plan: JudgedPlan) -> OpenGap:
    """The reason that a plan of the outer region gives which the twin rejects."""
    numbers = Counter(plan.patterns)
    verdicts = dict(zip(plan.patterns, plan.verdicts, strict=True))
    gpus = tuple(JudgedGPU(pattern, verdicts[pattern], n) for pattern, n in numbers.items())
    return OpenGap("rejected", plan.value, gpus)


def in_order(problem: PackingProblem, like: PackingProblem) -> PackingProblem:
    """The problem with its options in the order of another's."""
    options = {option.key: option for option in problem.options}
    return replace(problem, options=tuple(options[option.key] for option in like.options))


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
