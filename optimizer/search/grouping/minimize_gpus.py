"""The fewest (or cheapest) GPUs of adapters in groups: plans of groups, dealt, judged, repaired item by item.

A rejection says something of the members that it met, and nothing of their groups. So no cut follows: a GPU
that the twin rejects is relieved of a few of its adapters, and all others stay as they were judged. Bounds
are proven for the adapters themselves, by prices of rows that the programme of the groups gives.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from optimizer.packing.bounds.price_bounds import bound_by_row_prices, price_bound
from optimizer.packing.model.problem import Packing, PackingOption, PackingProblem
from optimizer.search.cut_loop import AcceptedPlan
from optimizer.search.grouping.dealing import Dealer
from optimizer.search.instance import Instance
from optimizer.search.minimize_gpus import GPUMinimum, OpenGap, Search, first_plans, minimize_gpus
from scenarios import Deadline


def cheapest_plan(search: Search, deadline: Deadline) -> GPUMinimum:
    """Search for the cheapest plan, in groups or without, until bound and plan meet or the time is over."""
    if search.instance.groups is None or search.placer.spreads:
        return minimize_gpus(search, deadline)
    minimizer = GroupedMinimizer(search, Dealer(search.instance), deadline)
    if not search.placer.exact:
        held = minimizer.proposed(GPUMinimum(), search.placer.name)
        return replace(held, finished=not deadline.reached)
    held, inner = minimizer.proposed(GPUMinimum(), search.params.gpus.first_methods[0]), 0.0
    if not deadline.reached:
        held = minimizer.bounded(held)
        inner = minimizer.bound("inner")
    if not (minimizer.near(held, inner) or held.infeasible or deadline.reached):
        held = minimizer.proposed(held, search.placer.name)
    if held.best is not None:
        held = minimizer.filled_up(held, held.best)
    if held.proven:
        return replace(held, finished=True)
    return replace(held, finished=not deadline.reached, gap=OpenGap("groups" if inner > 0.0 else "cut_short"))


def any_plan(search: Search, deadline: Deadline) -> GPUMinimum:
    """A plan on the GPUs there are, where it need not be the cheapest."""
    if search.instance.groups is None and search.placer.exact:
        held = first_plans(search, deadline)
        if held.best is not None:
            return held
    return cheapest_plan(search, deadline)


@dataclass(frozen=True)
class GroupedMinimizer:
    """The steps of the search; each returns what is known after it."""

    search: Search
    dealer: Dealer
    deadline: Deadline

    @property
    def instance(self) -> Instance:
        return self.search.instance

    def proposed(self, held: GPUMinimum, method: str) -> GPUMinimum:
        """With a plan of a method, dealt and repaired, where it is cheaper."""
        params = self.search.params.grouping
        problem, share = self.instance.inner, self.search.params.gpus.attempt_time_share
        solver = self.search.solver(method, None, 1.0 if held.best is None else share, self.search.gap_limit)
        packed = solver(problem, self.deadline.left_s, 0.0)
        held = replace(held, last=packed)
        if packed.packing is None:
            return held
        packing = self.dealer.pack(problem, packed.packing, self.deadline, params.closing_tries)
        if packing is None or not self._cheaper(held, problem, packing):
            return held
        return held.offered(self._repaired(held, problem, packing))

    def near(self, held: GPUMinimum, inner: float) -> bool:
        """Whether what the placer packed last, before the twin saw it, can hardly be better.

        Parameters
        ----------
        inner
            A bound on the plans of the inner region, from which the packing comes.
        """
        packed = None if held.last is None else held.last.objective
        return packed is not None and packed <= inner * (1 + self.search.params.grouping.near_bound)

    def _cheaper(self, held: GPUMinimum, problem: PackingProblem, packing: Packing) -> bool:
        return held.best is None or problem.price(packing) < held.best.value * (1 - 1e-9)

    def _repaired(self, held: GPUMinimum, problem: PackingProblem, packing: Packing) -> AcceptedPlan | None:
        """The packing after the GPUs that the twin rejects were relieved; None if that helps not."""
        params, loop = self.search.params.grouping, self.search.loop
        for k in range(params.repairs):
            verdicts = loop.verdicts(problem, packing, self.deadline)
            if verdicts is None:
                return None
            loop.rounds += 1
            loop.progress("solve, validate, relieve", loop.rounds, 0)
            rejected = np.array([not verdict.accepted for verdict in verdicts])
            if not rejected.any():
                return AcceptedPlan(packing, verdicts, problem, None)
            # What is rejected again and again is relieved of ever more, so that it comes to an end.
            share = min(0.5, params.relieved_share * 2 ** (k // 2))
            repaired = self.dealer.relieve(problem, packing, rejected, share)
            if repaired is None or not self._cheaper(held, problem, repaired):
                return None
            packing = repaired
        return None

    def filled_up(self, held: GPUMinimum, plan: AcceptedPlan) -> GPUMinimum:
        """With the lightest GPUs emptied into others beyond the rows, as far as the twin accepts these.

        Every state on the way is a plan. A GPU whose filling the twin rejects is left as it was.
        """
        params, problem = self.search.params.grouping, plan.problem
        opened = self.dealer.opened(problem, plan.packing)
        ceiling = opened.load.max(axis=1) + params.filled_share
        prices, least = problem.prices[np.array(opened.rows.options)], held.outer_bound or 0.0
        while not self.deadline.reached:
            filled = np.bincount(opened.where, opened.rows.weight[opened.where], len(opened.option))
            ceiling[filled == 0.0] = -1.0
            used = np.flatnonzero(filled > 0.0)
            if prices[opened.option[used]].sum() <= least * (1 + 1e-9):
                break
            number = max(1, round(params.emptied_share * len(used)))
            targets = used[np.argsort(filled[used], kind="stable")[:number]]
            moved, home = opened.move_out(
                targets, np.where(np.isin(np.arange(len(ceiling)), targets), -1.0, ceiling)
            )
            if not len(moved):
                break
            changed = np.unique(opened.where[moved])
            verdicts = self.search.loop.verdicts(
                problem, Packing(tuple(opened.bin(int(g)) for g in changed)), self.deadline
            )
            if verdicts is None:
                break
            accepted = np.array([verdict.accepted for verdict in verdicts])
            back = np.isin(opened.where[moved], changed[~accepted])
            opened.move(moved[back], home[back])
            ceiling[changed[~accepted]] = -1.0
            ceiling[changed[accepted]] += params.filled_share
            self.search.loop.rounds += 1
            self.search.loop.progress("fill GPUs up", len(used), 0)
        return held.offered(self._repaired(held, problem, opened.packing))

    def bounded(self, held: GPUMinimum) -> GPUMinimum:
        """With the bound on the outer region."""
        outer = self.bound("outer")
        infeasible = bool(np.isinf(outer)) and held.best is None
        return replace(held, outer_bound=None if np.isinf(outer) else outer, infeasible=infeasible)

    def bound(self, kind: str) -> float:
        """A bound on one region: by prices of rows for every adapter, and by the least of each group."""
        served, groups = self.dealer.served, self.dealer.groups
        seconds = self.search.params.gpus.outer_time_share * self.deadline.left_s
        problem = self.instance.inner if kind == "inner" else self._of_groups(kind)
        least = self.instance.outer if kind == "outer" else self._of_groups("inner", least=True)
        bound = price_bound(least, seconds)
        if np.isinf(bound):
            return bound
        options = (served.by_item(served.option(*one), one[1], kind) for one in served.rows(kind))
        return max(bound, bound_by_row_prices(problem, options, groups.counts, seconds))

    def _of_groups(self, kind: str, *, least: bool = False) -> PackingProblem:
        """The groups' problem on a region, by their averages or their least."""
        served, groups = self.dealer.served, self.dealer.groups
        reduce = groups.least if least else groups.averaged
        options = tuple(
            self._priced(reduce(served.by_item(served.option(*one), one[1], kind)))
            for one in served.rows(kind)
        )
        return replace(self.instance.inner, options=options)

    def _priced(self, option: PackingOption) -> PackingOption:
        """An option at the price that the objective gives it."""
        known = {one.key: one.price for one in self.instance.inner.options}
        return replace(option, price=known[option.key])
