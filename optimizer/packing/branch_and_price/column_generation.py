"""Column generation: the linear relaxation of the pattern model, and its bound.

The master's duals price the bins of every option; the most valuable ones enter the master. Duals are
smoothed towards those of the best bound (Wentges 1997). With u(o) an upper bound on the value of a bin of
option o, duals scaled by min_o price(o) / u(o) are feasible for the dual of the pattern model, so their
value bounds every packing from below at any time (Farley 1990); optimality of the pricing is not needed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.packing.bounds.aggregate_relaxation import LinearRelaxation
from optimizer.packing.bounds.price_bounds import Proof, proof_of
from optimizer.packing.branch_and_price.dual_inequalities import dual_optimal_inequalities
from optimizer.packing.branch_and_price.pricing import PricedColumn, cover, price_option
from optimizer.packing.branch_and_price.restricted_master import Master, MasterSolution
from optimizer.packing.heuristics.first_fit import BinFiller
from optimizer.packing.model.problem import FloatArray, IntArray
from optimizer.packing.model.search_state import SearchState, price_unit, round_up

LARGE = 200
"""Classes beyond which the relaxation is not solved to the end before plans are made of it."""

STALLED = 1e-3
"""Greedy columns are given up when a round of them lowers the optimum by less than this share."""

SMOOTHING = 0.6
"""Weight of the best bound's duals."""

TREE_NODES = (0, 300, 5_000, 100_000)
"""Nodes of a pricing tree by effort; the first effort fills greedily and gives no bound."""


@dataclass
class ColumnGeneration:
    """The linear relaxation of the pattern model while it is being solved.

    Parameters
    ----------
    filler
        The problem.
    master
        The linear programme.
    limit
        Most items of a class per column.
    until
        Asked before every round, and before every option in it: whether to stop.
    options
        Options whose bins are priced.
    bounding
        Whether duals are smoothed and bounds kept; only where the demand is the problem's own.
    on_bound
        Called with every better bound.
    bound
        Best lower bound on the price so far, not rounded.
    centre
        Duals and limit duals that it was computed from.
    proof
        The duals that prove it, as far as they are known.
    close
        Relative distance of optimum and bound at which the relaxation counts as solved.
    rounding
        Whether it also counts as solved where both round up to the same price.
    """

    filler: BinFiller
    master: Master
    limit: IntArray
    until: Callable[[], bool]
    options: Sequence[int]
    bounding: bool = True
    on_bound: Callable[[float], None] | None = None
    bound: float = 0.0
    centre: tuple[FloatArray, FloatArray, float] | None = None
    proof: Proof | None = None
    close: float = 1e-7
    rounding: bool = True
    rounds: int = 0

    def of(self, left: IntArray, until: Callable[[], bool]) -> ColumnGeneration:
        """The relaxation of what is left of the items, by the same columns; it keeps no bounds."""
        return ColumnGeneration(self.filler, self.master, left, until, self.options, bounding=False)

    def solve(self, *, most_effort: int = 3, max_rounds: int = 100_000) -> MasterSolution | None:
        """Add columns until none helps, the bound cannot rise any more, or it is to stop.

        Parameters
        ----------
        most_effort
            Index of the largest pricing trees, into `TREE_NODES`.
        max_rounds
            Rounds of pricing at most.
        """
        solved = self.master.solve()
        effort = 0
        for _ in range(max_rounds):
            if solved is None or self.until() or (self.bounding and self._bound_is_final(solved)):
                return solved
            self.rounds += 1
            added = self._greedy(solved) if effort == 0 else 0
            if effort:
                smooth = SMOOTHING if self.centre is not None and effort < 3 else 0.0
                added = self._round(solved, smooth, TREE_NODES[effort])
                if not added and smooth:
                    added = self._round(solved, 0.0, TREE_NODES[effort])
            if added:
                before, solved = solved, self.master.solve()
                if effort == 0 and solved is not None and solved.value > before.value * (1 - STALLED):
                    if most_effort == 0:
                        return solved
                    effort = 1
            elif effort == most_effort and not self.master.open:
                return solved
            elif effort == most_effort:
                self.master.close_exchanges()
                solved, effort = self.master.solve(), min(1, most_effort)
            else:
                if self.bounding and effort and self._prove(solved):
                    continue
                effort += 1
        return solved

    def _greedy(self, solved: MasterSolution) -> int:
        """Add greedy columns of negative reduced cost; how many."""
        added = 0
        for o in self.options:
            worth = (self.filler.problem.options[o].price + float(solved.limit_dual[o])) * (1 + 1e-8)
            for column in cover(self.filler, o, solved.duals, self.limit, worth, self.until):
                added += self.master.add(column)
        return added

    def _bound_is_final(self, solved: MasterSolution) -> bool:
        """Whether the relaxation's optimum rounds up to the same price as the bound."""
        if solved.uncovered > 1e-6:
            return False
        problem = self.filler.problem
        gap = solved.value - self.bound
        return gap <= self.close * solved.value or (
            self.rounding
            and round_up(solved.value, problem) <= round_up(self.bound, problem) * (1 + 1e-12)
            and round_up(self.bound, problem) > self.bound
        )

    def _prove(self, solved: MasterSolution) -> bool:
        """Try to show the least bound at which the relaxation counts as solved; whether it is shown.

        Bins need not be priced to the optimum for that: if none is worth more than its price times the
        value of the relaxation over that bound, the bound holds. The slack prunes most of the search.
        """
        problem = self.filler.problem
        goal = self._goal(solved.value)
        if solved.uncovered > 1e-6 or goal <= self.bound:
            return False
        slack = solved.value / goal
        priced = []
        for o in self.options:
            if self.until():
                return False
            enough = problem.options[o].price * slack + float(solved.limit_dual[o])
            priced.append(price_option(self.filler, o, solved.duals, self.limit, enough, TREE_NODES[-1]))
            if priced[-1].upper > enough * (1 + 1e-7):
                return False
        before = self.bound
        self._farley(solved.duals, solved.limit_dual, solved.limit_dual_total, priced)
        return self.bound > before

    def _goal(self, value: float) -> float:
        """The least bound that rounds up to the same price as the relaxation, or is close enough to it."""
        unit = price_unit(self.filler.problem)
        close = value * (1 - self.close)
        if unit == 0 or not self.rounding:
            return close
        below = (np.ceil(value / unit - 1e-6) - 1) * unit
        return min(close, float(below) + 1e-5 * unit)

    def _round(self, solved: MasterSolution, smooth: float, nodes: int) -> int:
        """Price every option once; how many columns of negative reduced cost were added.

        A round that is cut short adds columns, but proves no bound.
        """
        duals, limit_dual, limit_dual_total = solved.duals, solved.limit_dual, solved.limit_dual_total
        if smooth and self.centre is not None:
            duals = smooth * self.centre[0] + (1 - smooth) * duals
            limit_dual = smooth * self.centre[1] + (1 - smooth) * limit_dual
            limit_dual_total = smooth * self.centre[2] + (1 - smooth) * limit_dual_total
        problem, priced = self.filler.problem, []
        for o in self.options:
            if self.until():
                break
            enough = problem.options[o].price + float(limit_dual[o])
            priced.append(price_option(self.filler, o, duals, self.limit, enough * (1 + 1e-8), nodes))
        if self.bounding and len(priced) == len(self.options):
            self._farley(duals, limit_dual, limit_dual_total, priced)
        added = 0
        for one in priced:
            o = one.bin.option
            worth = (problem.options[o].price + float(solved.limit_dual[o])) * (1 + 1e-8)
            if float(solved.duals @ one.bin.counts) > worth:
                added += self.master.add(one.bin)
        return added

    def _farley(
        self, duals: FloatArray, limit_dual: FloatArray, limit_dual_total: float, priced: list[PricedColumn]
    ) -> None:
        """Take the bound that priced bins prove."""
        problem = self.filler.problem
        scale = 1.0
        for one in priced:
            excess = one.upper - float(limit_dual[one.bin.option])
            if excess > 0:
                scale = min(scale, problem.options[one.bin.option].price / excess)
        bound = scale * (float(duals @ problem.counts) - limit_dual_total) * (1 - 1e-9)
        if bound > self.bound or self.centre is None:
            self.bound = max(bound, self.bound)
            self.centre = (duals, limit_dual, limit_dual_total)
            if self.proof is None or bound > self.proof.bound:
                self.proof = Proof(bound, scale * duals, scale * limit_dual)
            if self.on_bound is not None:
                self.on_bound(self.bound)


def generate_columns(
    run: SearchState, filler: BinFiller, continuous: LinearRelaxation, seconds: float
) -> tuple[ColumnGeneration, MasterSolution | None]:
    """Solve the relaxation at the root, from the continuous one; the run's bound rises as it goes."""
    until = run.until(seconds)
    master = Master(run.problem, dual_optimal_inequalities(filler))
    for o in filler.options:
        most = run.problem.rows[o].most
        for bin_ in cover(filler, o, np.ones(run.problem.n_classes), most, -1.0, until):
            master.add(bin_)
    if run.packing is not None:
        for b, _ in run.packing.patterns():
            master.add(b)
    relaxation = ColumnGeneration(
        filler, master, run.problem.counts, until, filler.options, on_bound=run.raise_bound,
        bound=continuous.bound, proof=proof_of(continuous, run.problem),
        close=1e-7 if run.problem.n_classes <= LARGE else 2e-3,
    )  # fmt: skip
    if continuous.duals.any():
        relaxation.centre = (continuous.duals, np.zeros(len(run.problem.options)), 0.0)
    solved = relaxation.solve(most_effort=3 if run.problem.n_classes <= LARGE else 1)
    run.statistics["columns"] = float(len(master.columns))
    run.statistics["pricing_rounds"] = float(relaxation.rounds)
    run.statistics["relaxation"] = float("nan") if solved is None else solved.value
    return relaxation, solved
