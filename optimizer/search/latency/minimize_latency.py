"""The best latency within given limits: plans by rule and by model, polished by what the twin says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from optimizer.packing.model.problem import Bin, Packing, PackingProblem
from optimizer.search.cut_loop import AcceptedPlan, pattern_of
from optimizer.search.latency.detail import Detail
from optimizer.search.latency.first_plan import model_plans, tight_plan
from optimizer.search.latency.polish import Candidate, Polisher
from optimizer.search.latency.screening import Screening
from optimizer.search.latency.starts import by_rule, on_cheaper, posed, spread, unlimited
from optimizer.search.minimize_gpus import Search
from optimizer.search.objective_order import Choice, as_good, best_in_order
from optimizer.search.objectives import LatencyObjective, latency_objective_of
from scenarios import Deadline, Stopped, interrupted

FEWEST = "the search for the fewest GPUs"
"""Where a plan comes from of which nothing else is said."""


def minimize_latency(search: Search, first: Choice, gpus: int | None, deadline: Deadline) -> Choice:
    """The best accepted plan in the order of the objectives, where one of them is a latency or balance.

    An exact method begins with the plan held, as it is and spread over all GPUs, with even deals of the
    adapters and with the linear model's plans, and polishes them by what the twin says. None is worse in a
    price before the latency. Objectives after it choose among these plans. A heuristic's plan is spread over
    the GPUs, those of others are left as they are, and a method that only spreads adapters over GPUs is a
    rule of its own: its plan is the only one.

    Parameters
    ----------
    first
        The plan held; its plan may be None.
    gpus
        GPUs that are allowed where the latency comes first; None: as many as that plan has.
    deadline
        When to return the best plan by then.
    """
    objective = latency_objective_of(search.instance.scenario.objective)
    inner = None if interrupted() else as_good(search.instance, first.plan, gpus)
    if objective is None or inner is None:
        return first
    if search.placer.spreads:
        return _by_model(search, objective, first, inner, deadline)
    if search.placer.published:
        return first
    minimizer = LatencyMinimizer(search, objective, first, inner, deadline)
    judged = [] if first.plan is None else [first]
    if not search.placer.exact:
        return best_in_order(search, [*judged, *minimizer.spread()], first)
    judged += minimizer.polished()
    best = best_in_order(search, judged, first)
    if best.plan is not None and not deadline.reached:
        judged += minimizer.on_cheaper(best, best.plan)
    return best_in_order(search, judged, first)


def polished_plans(search: Search, first: Choice, inner: PackingProblem, deadline: Deadline) -> list[Choice]:
    """Accepted plans of the least value of the first latency objective that were found, the best last.

    Parameters
    ----------
    first
        The plan held.
    inner
        The inner region's problem with its limits on GPUs and price.
    deadline
        When to stop.
    """
    objective = latency_objective_of(search.instance.scenario.objective)
    if objective is None or not search.placer.exact:
        return []
    return LatencyMinimizer(search, objective, first, inner, deadline).polished()


def _by_model(
    search: Search, objective: LatencyObjective, first: Choice, inner: PackingProblem, deadline: Deadline
) -> Choice:
    """The plan of a method that spreads adapters by the linear model, as far as the twin accepts it."""
    params, model = search.params.latency, posed(objective, inner)
    solver = search.solver(search.placer.name, first.plan, params.model_time_share)
    result = search.loop.run(model, solver, deadline, max_rounds=params.max_model_rounds)
    plan = first.plan if result.plan is None else result.plan
    return replace(first, plan=plan, last=result.last or first.last)


@dataclass(frozen=True)
class LatencyMinimizer:
    """The steps of the search of a method that is no rule of others.

    Parameters
    ----------
    search
        The search.
    objective
        What is minimised.
    first
        The plan held.
    inner
        The inner region's problem with its limits; its rows say how full GPUs are, no more.
    deadline
        When to stop.
    """

    search: Search
    objective: LatencyObjective
    first: Choice
    inner: PackingProblem
    deadline: Deadline

    @cached_property
    def problem(self) -> PackingProblem:
        """The options and limits, without rows: what a GPU may hold is for the twin to say."""
        return unlimited(self.inner)

    @cached_property
    def detail(self) -> Detail:
        """The same in classes of identical adapters."""
        return Detail.of(self.search, self.inner)

    @cached_property
    def polisher(self) -> Polisher:
        """What improves plans."""
        detail, seed = self.detail, self.search.instance.scenario.seed
        screening = Screening(detail.judge.screening(), self.objective, detail.problem)
        params = self.search.params.polishing
        progress = self.search.loop.progress
        return Polisher(screening, detail.problem, params, detail.weights, seed, self.deadline, progress)

    def polished(self) -> list[Choice]:
        """Accepted plans, each polished from another start, as long as the budget lasts.

        None where the verdicts on one plan would take more than that.
        """
        plans, best = list[Choice](), np.inf
        if (
            self.first.plan is not None
            and self._work(self.first.plan.packing) > self.polisher.params.requests
        ):
            return plans
        for start in self._candidates():
            if not plans:
                # What follows may be cut short at any time.
                plans += self._confirmed(start, start.origin)
            if self.polisher.spent:
                break
            found = self.polisher.polished(start)
            if found.value < best:
                confirmed = self._confirmed(found, f"{start.origin}, and exchanges between GPUs")
                best = found.value if confirmed else best
                plans += confirmed
        return plans

    def spread(self) -> list[Choice]:
        """The plan held, spread over all GPUs, if the twin accepts that."""
        plan, gpus = self.first.plan, self.problem.max_bins
        if plan is None or gpus is None or len(plan.packing) >= gpus or self.detail.groups is not None:
            return []
        packing = spread(posed(self.objective, self.problem), plan.packing, gpus)
        accepted = self.search.loop.accept(self.problem, packing, self.deadline)
        return [] if accepted is None else [Choice(accepted, "spreading the plan on fewer GPUs")]

    def _candidates(self) -> list[Candidate]:
        """The plans to begin with, the best first, of which no more than a few."""
        found = []
        for origin, bins in self._starts():
            if self.polisher.spent:
                break
            try:
                found.append(self.polisher.rated(bins, origin))
            except Stopped:
                break
        found.sort(key=lambda candidate: candidate.value)
        return found[: self.search.params.polishing.starts]

    def _starts(self) -> Iterator[tuple[str, Sequence[Bin]]]:
        detail = self.detail.problem
        held = None if self.first.plan is None else Packing(self.detail.bins(self.first.plan.packing))
        if held is not None:
            yield self.first.origin or FEWEST, held.bins
        tight = held
        if self.first.origin:  # it was spread at once, and what is even at first is not always the best start
            tight = tight_plan(self.search, detail, self.deadline)
            if tight is not None:
                yield "a plan on few GPUs", tight.bins
        yield from ((origin, packing.bins) for origin, packing in by_rule(self.objective, tight, detail))
        for origin, solved in model_plans(self.search, self.objective, detail, self.deadline):
            if solved.packing is not None:
                yield origin, solved.packing.bins

    def _confirmed(self, candidate: Candidate, origin: str) -> list[Choice]:
        """A candidate that the whole rule accepts; after what it rejects, what is found instead."""
        polisher, loop = self.polisher, self.search.loop
        for _ in range(polisher.params.confirmations):
            packing = self.detail.packing(candidate.bins)
            if not candidate.accepted:
                break
            polisher.screening.requests += self._work(packing)
            plan = loop.judged(self.problem, packing, None, self.deadline)
            if plan is None:
                break
            if isinstance(plan, AcceptedPlan):
                return [Choice(plan, origin)]
            polisher.screening.refuse(candidate.bins, plan.verdicts)
            candidate = polisher.polished(polisher.rated(candidate.bins, candidate.origin))
        return []

    def _work(self, packing: Packing) -> float:
        """Requests that verdicts by the whole rule simulate."""
        patterns = {pattern_of(self.problem, b) for b in packing.bins}
        return sum(self.search.loop.judge.requests(pattern) for pattern in patterns)

    def on_cheaper(self, best: Choice, plan: AcceptedPlan) -> list[Choice]:
        """The plan on cheaper GPUs, where that makes the objective no worse by estimate."""
        if self.detail.groups is not None:
            return []
        packing = on_cheaper(posed(self.objective, self.problem), plan.packing)
        if all(a.option == b.option for a, b in zip(packing.bins, plan.packing.bins, strict=True)):
            return []
        judged = self.search.loop.accept(self.problem, packing, self.deadline)
        return [] if judged is None else [Choice(judged, f"{best.origin or FEWEST}, on cheaper GPUs")]
