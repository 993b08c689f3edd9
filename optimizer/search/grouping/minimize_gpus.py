"""The fewest (or cheapest) GPUs of adapters in groups: plans of groups, dealt, judged, repaired item by item.

A rejection says something of the members that it met, and nothing of their groups. So no cut follows: a GPU
that the twin rejects is relieved of a few of its adapters, and all others stay as they were judged. Bounds
are proven for the adapters themselves, by prices of rows that the programme of the groups gives.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from optimizer.packing.bounds.price_bounds import bound_by_row_prices, price_bound
from optimizer.packing.model.problem import FloatArray, Packing, PackingOption, PackingProblem
from optimizer.packing.model.search_state import PackingResult, StopReason
from optimizer.search.corrections import Corrections
from optimizer.search.cut_loop import AcceptedPlan, pattern_of
from optimizer.search.grouping.dealing import Dealer
from optimizer.search.grouping.teaching import Teacher, all_sorts
from optimizer.search.instance import Instance
from optimizer.search.minimize_gpus import (
    GPUMinimum,
    OpenGap,
    Search,
    cheaper_than,
    disagreement,
    in_order,
    minimize_gpus,
)
from optimizer.search.params import GroupingParams
from scenarios import Deadline
from twin import GPUVerdict


def cheapest_plan(search: Search, deadline: Deadline) -> GPUMinimum:
    """Search for the cheapest plan, in groups or without, until bound and plan meet or the time is over."""
    if search.instance.groups is None or search.placer.spreads:
        return minimize_gpus(search, deadline)
    minimizer = GroupedMinimizer(search, Dealer(search.instance), deadline)
    if not search.placer.exact:
        held = minimizer.proposed(GPUMinimum(), search.placer.name)
        return replace(held, finished=not deadline.reached)
    held = minimizer.bounded(GPUMinimum())
    if not held.infeasible:
        held = minimizer.tightened(minimizer.begun(held))
    if held.best is not None:
        held = minimizer.confronted(minimizer.filled_up(held, held.best))
    if held.proven:
        return replace(held, finished=True, gap=None)
    if deadline.reached:
        return replace(held, gap=held.gap or OpenGap("cut_short"))
    return replace(held, finished=True)


@dataclass(frozen=True)
class GroupedMinimizer:
    """The steps of the search; each returns what is known after it."""

    search: Search
    dealer: Dealer
    deadline: Deadline

    @property
    def instance(self) -> Instance:
        return self.search.instance

    @property
    def params(self) -> GroupingParams:
        return self.search.params.grouping

    @cached_property
    def teacher(self) -> Teacher:
        """What the twin has said of GPUs so far, and what follows."""
        corrections = Corrections(self.instance.inner, self._of_groups("outer"), self.search.params.teaching)
        return Teacher(self.search.loop, corrections, self.params)

    def begun(self, held: GPUMinimum) -> GPUMinimum:
        """With a quick plan where GPUs are few, and with what the twin says of some where they are many."""
        bound = held.outer_bound or 0.0
        if bound < self.params.quick_below:
            for method in self.search.params.gpus.first_methods[:1]:
                held = self.proposed(held, method)
        return held if bound < self.params.probed_from else self.probed(held)

    def probed(self, held: GPUMinimum) -> GPUMinimum:
        """Ask the twin about a few GPUs of a plan of the inner region, before one is judged as a whole.

        Where these are all of its GPUs, and accepted, there is a plan.
        """
        inner, loop = self.instance.inner, self.search.loop
        packed = self._packed(self.search.placer.name, inner)
        packing = None if packed.packing is None else self._dealt(inner, packed.packing)
        held = replace(held, last=packed)
        if packing is None:
            return held
        patterns = [pattern_of(inner, b) for b in packing.bins]
        chosen = set(all_sorts(patterns, self.params.asked))
        some = Packing(tuple(b for b, p in zip(packing.bins, patterns, strict=True) if p in chosen))
        plan = loop.judged(inner, some, None, self.deadline)
        if plan is None:
            return held
        self.teacher.ask(plan.patterns, plan.verdicts, self.deadline)
        whole = len(some) == len(packing)
        return held.offered(plan) if whole and isinstance(plan, AcceptedPlan) else held

    def tightened(self, held: GPUMinimum) -> GPUMinimum:
        """With the best of some plans on rows as the twin has corrected them by then."""
        idle = 0
        for k, caution in enumerate(self.params.caution):
            if self.deadline.reached or held.proven or idle == self.params.idle_rounds:
                break
            before, seen = held.best, self.search.loop.rounds
            held = self.proposed(held, self.search.placer.name, caution)
            idle = 0 if held.best is not before else idle + 1
            if self.search.loop.rounds == seen and caution == 0.0 and k > 0:
                break  # no cheaper plan on the likely rows, and nothing was learned that could change them
        return held

    def proposed(self, held: GPUMinimum, method: str, caution: float = 0.0) -> GPUMinimum:
        """With a plan of a method on the likely rows, dealt and repaired, where it is cheaper.

        Parameters
        ----------
        held
            What is known.
        method
            The placer.
        caution
            Standard deviations of what is uncertain by which the rows are narrower than is likely.
        """
        problem = self.teacher.likely(self.instance.inner, caution)
        packed = self._packed(method, problem)
        held = replace(held, last=packed)
        if packed.packing is None:
            return held
        packing = self._dealt(problem, packed.packing)
        if packing is None or not self._cheaper(held, packing):
            return held
        return held.offered(self._repaired(held, packing))

    def _packed(self, method: str, problem: PackingProblem) -> PackingResult:
        share, gap = 1.0, self.search.gap_limit
        if self.search.placer.exact:
            share, gap = self.params.packing_time_share, max(gap, self.params.packing_gap)
        packed = self.search.solver(method, None, share, gap)(problem, self.deadline, 0.0)
        if packed.stop_reason is StopReason.GAP_LIMIT and gap > self.search.gap_limit:
            return replace(packed, stop_reason=StopReason.FINISHED)  # the gap was not asked for
        return packed

    def _dealt(self, problem: PackingProblem, packing: Packing) -> Packing | None:
        return self.dealer.pack(problem, packing, self.deadline, self.params.closing_tries)

    def _cheaper(self, held: GPUMinimum, packing: Packing) -> bool:
        return held.best is None or self.instance.inner.price(packing) < held.best.value * (1 - 1e-9)

    def _repaired(self, held: GPUMinimum, packing: Packing) -> AcceptedPlan | None:
        """The packing after the GPUs that the twin rejects were relieved; None if that helps not."""
        loop, inner = self.search.loop, self.instance.inner
        for k in range(self.params.repairs):
            verdicts = loop.verdicts(inner, packing, self.deadline)
            if verdicts is None:
                return None
            loop.rounds += 1
            loop.progress("solve, validate, relieve", loop.rounds, 0)
            self.teacher.hear([pattern_of(inner, b) for b in packing.bins], verdicts)
            if all(verdict.accepted for verdict in verdicts):
                return AcceptedPlan(packing, verdicts, inner, None)
            # What is rejected again and again is relieved of ever more, so that it comes to an end.
            room, care = self._room(packing, verdicts, 2.0 ** (k // 2))
            shed = np.where(room < 0.0, np.minimum(-room, 0.5), 0.0)
            likely = self.teacher.likely(inner)
            repaired = self.dealer.relieve(likely, packing, shed, np.maximum(room, 0.0), 1.0 - care)
            if repaired is None or not self._cheaper(held, repaired):
                return None
            packing = repaired
        return None

    def _room(
        self, packing: Packing, verdicts: Sequence[GPUVerdict], times: float = 1.0
    ) -> tuple[FloatArray, float]:
        """By what share the load of each judged GPU may grow (below 0: it must shrink), and the care taken.

        Parameters
        ----------
        packing, verdicts
            The GPUs, and what the twin says of them.
        times
            How many times the usual care is taken.
        """
        params, inner = self.params, self.instance.inner
        growths = self.teacher.growths([pattern_of(inner, b) for b in packing.bins], verdicts)
        care = min(0.5, times * (params.care if any(growths) else params.relieved_share))
        room = np.array(
            [
                (params.filled_share if verdict.accepted else -care)
                if growth is None
                else math.expm1(growth.log - growth.error - care)
                for growth, verdict in zip(growths, verdicts, strict=True)
            ]
        )
        accepted = np.array([verdict.accepted for verdict in verdicts])
        return np.where(accepted, np.maximum(room, 0.0), np.minimum(room, -care)), care

    def filled_up(self, held: GPUMinimum, plan: AcceptedPlan) -> GPUMinimum:
        """With the lightest GPUs emptied into others beyond the rows, as far as the twin accepts these.

        Every state on the way is a plan. A GPU whose filling the twin rejects is left as it was.
        """
        inner = self.instance.inner
        opened = self.dealer.opened(self.teacher.likely(inner), plan.packing, wider=True)
        room, care = self._room(plan.packing, plan.verdicts)
        ceiling = opened.ceiling(room, 1.0 - care)
        prices, least = inner.prices[np.array(opened.rows.options)], held.outer_bound or 0.0
        while not self.deadline.reached:
            filled = np.bincount(opened.where, opened.rows.weight[opened.where], len(opened.option))
            ceiling[filled == 0.0] = -1.0
            used = np.flatnonzero(filled > 0.0)
            if prices[opened.option[used]].sum() <= least * (1 + 1e-9):
                break
            number = max(1, round(self.params.emptied_share * len(used)))
            targets = used[np.argsort(filled[used], kind="stable")[:number]]
            open_to = ceiling.copy()
            open_to[targets] = -1.0
            moved, home = opened.move_out(targets, open_to)
            if not len(moved):
                break
            changed = np.unique(opened.where[moved])
            some = Packing(tuple(opened.bin(int(g)) for g in changed))
            verdicts = self.search.loop.verdicts(inner, some, self.deadline)
            if verdicts is None:
                break
            accepted = np.array([verdict.accepted for verdict in verdicts])
            back = np.isin(opened.where[moved], changed[~accepted])
            opened.move(moved[back], home[back])
            room = np.zeros(len(opened.option))
            room[changed] = np.maximum(self._room(some, verdicts)[0], 0.0)
            ceiling[changed] = opened.ceiling(room, 0.0)[changed]
            ceiling[changed[~accepted]] = -1.0
            self.search.loop.rounds += 1
            self.search.loop.progress("fill GPUs up", len(used), 0)
        return held.offered(self._repaired(held, opened.packing))

    def confronted(self, held: GPUMinimum) -> GPUMinimum:
        """The twin's word on a cheaper plan of the outer region: why the gap stays open, or a better plan."""
        if held.best is None or held.proven or self.deadline.reached:
            return held
        outer = in_order(self._of_groups("outer"), self.instance.inner)
        packed = self._packed(self.search.placer.name, cheaper_than(outer, held.best.value))
        packing = None if packed.packing is None else self._dealt(outer, packed.packing)
        if packing is None or not self._cheaper(held, packing):
            return replace(held, gap=OpenGap("undecided"))
        plan = self.search.loop.judged(self.instance.inner, packing, None, self.deadline)
        if plan is None:
            return held
        if isinstance(plan, AcceptedPlan):
            return held.offered(plan)
        return replace(held, gap=disagreement(plan))

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
        bound = price_bound(least, self.deadline, seconds)
        if np.isinf(bound):
            return bound
        options = (served.by_item(served.option(*one), one[1], kind) for one in served.rows(kind))
        return max(bound, bound_by_row_prices(problem, options, groups.counts, self.deadline, seconds))

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
