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
from optimizer.packing.branch_and_price.restricted_master import (
    DualValues,
    Master,
    MasterSolution,
    ResidualProblem,
)
from optimizer.packing.heuristics.first_fit import BinFiller
from optimizer.packing.model.params import ColumnGenerationParams
from optimizer.packing.model.search_state import SearchState, price_unit


@dataclass
class ColumnGeneration:
    """The linear relaxation of the pattern model while it is being solved.

    Parameters
    ----------
    filler
        The problem.
    master
        The linear programme; its columns are shared by all relaxations of the problem, and added to.
    residual
        What is to be packed.
    until
        Asked before every round, and before every option in it: whether to stop.
    options
        Options whose bins are priced.
    params
        Of column generation.
    bounding
        Whether duals are smoothed and bounds kept; only where the demand is the problem's own.
    on_bound
        Called with every better bound.
    bound
        Best lower bound on the price so far, not rounded.
    centre
        Duals that it was computed from.
    proof
        The duals that prove it, as far as they are known.
    close
        Relative distance of optimum and bound at which the relaxation counts as solved.
    rounding
        Whether it also counts as solved where both round up to the same price.
    cutoff
        Bound above which the relaxation is of no interest.
    """

    filler: BinFiller
    master: Master
    residual: ResidualProblem
    until: Callable[[], bool]
    options: Sequence[int]
    params: ColumnGenerationParams
    bounding: bool = True
    on_bound: Callable[[float], None] | None = None
    bound: float = 0.0
    centre: DualValues | None = None
    proof: Proof | None = None
    close: float = 1e-7
    rounding: bool = True
    cutoff: float = np.inf
    rounds: int = 0

    def of(self, residual: ResidualProblem, until: Callable[[], bool]) -> ColumnGeneration:
        """The relaxation of what is left, by the same columns; it keeps no bounds."""
        return ColumnGeneration(
            self.filler, self.master, residual, until, self.options, self.params, bounding=False
        )

    def solve_master(self) -> MasterSolution | None:
        """Solve the master over the columns at hand; None if that fails."""
        return self.master.solve(self.residual)

    def solve(self, *, most_effort: int = 3, max_rounds: int = 100_000) -> MasterSolution | None:
        """Add columns until none helps, the bound cannot rise any more, or it is to stop.

        Parameters
        ----------
        most_effort
            0 for greedy columns only, else the largest pricing trees, counted from 1 in their parameter.
        max_rounds
            Rounds of pricing at most.
        """
        solution = self.solve_master()
        effort = 0
        for _ in range(max_rounds):
            if solution is None or self._over() or (self.bounding and self._is_solved(solution)):
                return solution
            self.rounds += 1
            added = self._add_priced(solution, effort) if effort else self._add_greedy(solution)
            if added:
                before, solution = solution, self.solve_master()
                least = before.value * (1 - self.params.greedy_gain)
                if effort == 0 and solution is not None and solution.value > least:
                    if most_effort == 0:
                        return solution
                    effort = 1
            elif effort == most_effort and not self.master.open:
                return solution
            elif effort == most_effort:
                # Exchanges ignore that no bin holds more items of a class than there are, so with them the
                # optimum may be too low for a plan. The last rounds go without.
                self.master.close_exchanges()
                solution, effort = self.solve_master(), min(1, most_effort)
            elif not (self.bounding and effort and self._prove(solution)):
                effort += 1
        return solution

    def _over(self) -> bool:
        return self.until() or self.bound > self.cutoff

    def _add_greedy(self, solution: MasterSolution) -> int:
        """Add greedy columns of negative reduced cost; how many."""
        added = 0
        for o in self.options:
            worth = self._cost(o, solution.duals) * (1 + 1e-8)
            bins = cover(self.filler, o, solution.duals.items, self.residual.counts, worth, self._over)
            added += sum(self.master.add(column) for column in bins)
        return added

    def _add_priced(self, solution: MasterSolution, effort: int) -> int:
        """Price every option once or twice; how many columns of negative reduced cost were added."""
        # The master's duals jump between extreme points, and bins priced under them are of little use later.
        # Duals on the way from the best bound's to the master's give columns nearer the final ones, and often
        # a better bound (Wentges 1997). Where they give no column that the master lacks (a mispricing, Pessoa
        # et al. 2018), the master's own duals decide. The last trees use these alone, as they prove.
        nodes = self.params.tree_nodes[effort - 1]
        if self.centre is None or effort == len(self.params.tree_nodes) or self.params.smoothing == 0:
            return self._price(solution.duals, solution.duals, nodes)
        smoothed = solution.duals.smoothed(self.centre, self.params.smoothing)
        added = self._price(smoothed, solution.duals, nodes)
        return added or self._price(solution.duals, solution.duals, nodes)

    def _cost(self, option: int, duals: DualValues) -> float:
        """What a bin of an option costs under the duals: its price, and what it takes of limits."""
        return self.filler.problem.options[option].price + float(duals.bins[option])

    def _is_solved(self, solution: MasterSolution) -> bool:
        """Whether the optimum is proven, or rounds up to the same price as the bound."""
        return solution.uncovered <= 1e-6 and self.bound >= self._goal(solution.value, 1e-6)

    def _prove(self, solution: MasterSolution) -> bool:
        """Try to show the least bound at which the relaxation counts as solved; whether it is shown.

        Bins need not be priced to the optimum for that: if none is worth more than its price times the
        value of the relaxation over that bound, the bound holds. The slack prunes most of the search.
        """
        goal = self._goal(solution.value, 1e-5)
        if solution.uncovered > 1e-6 or goal <= self.bound:
            return False
        slack = solution.value / goal
        columns = []
        for o in self.options:
            if self._over():
                return False
            enough = self.filler.problem.options[o].price * slack + float(solution.duals.bins[o])
            columns.append(self._priced(o, solution.duals, enough, self.params.tree_nodes[-1]))
            if columns[-1].bound > enough * (1 + 1e-7):
                return False
        before = self.bound
        self._raise_bound(solution.duals, columns)
        return self.bound > before

    def _goal(self, value: float, margin: float) -> float:
        """The least bound, by a margin, that rounds up to the relaxation's price, or is close to it."""
        unit = price_unit(self.filler.problem)
        close = value * (1 - self.close)
        if unit == 0 or not self.rounding:
            return close
        return min(close, float(np.ceil(value / unit - 1e-6) - 1 + margin) * unit)

    def _priced(self, option: int, duals: DualValues, enough: float, nodes: int) -> PricedColumn:
        counts = self.residual.counts
        return price_option(self.filler, option, duals.items, counts, enough, nodes, self.params)

    def _price(self, duals: DualValues, true_duals: DualValues, nodes: int) -> int:
        """Price every option once; how many columns of negative reduced cost by the true duals were added.

        A round that is cut short adds columns, but proves no bound.
        """
        columns = []
        for o in self.options:
            if self._over():
                break
            columns.append(self._priced(o, duals, self._cost(o, duals) * (1 + 1e-8), nodes))
        if self.bounding and len(columns) == len(self.options):
            self._raise_bound(duals, columns)
        added = 0
        for b in (column.bin for column in columns):
            if float(true_duals.items @ b.counts) > self._cost(b.option, true_duals) * (1 + 1e-8):
                added += self.master.add(b)
        return added

    def _raise_bound(self, duals: DualValues, columns: list[PricedColumn]) -> None:
        """Take the bound that priced bins prove."""
        # Farley (1990): duals that are shrunk until no bin is worth more than it costs are feasible for the
        # dual programme, so their value is a bound. Upper bounds on the bins' worth are enough: pricing may
        # be cut short. A Lagrangian bound would also need to know how many bins of each option there can be.
        scale = 1.0
        for column in columns:
            excess = column.bound - float(duals.bins[column.bin.option])
            if excess > 0:
                scale = min(scale, self.filler.problem.options[column.bin.option].price / excess)
        bound = scale * duals.total(self.filler.problem.counts) * (1 - 1e-9)
        if bound > self.bound or self.centre is None:
            self.bound = max(bound, self.bound)
            self.centre = duals
            if self.proof is None or bound > self.proof.bound:
                self.proof = Proof(bound, scale * duals.items, scale * duals.bins)
            if self.on_bound is not None:
                self.on_bound(self.bound)


def generate_columns(
    run: SearchState, filler: BinFiller, continuous: LinearRelaxation, seconds: float
) -> tuple[ColumnGeneration, MasterSolution | None]:
    """Solve the relaxation at the root, from the continuous one; the run's bound rises as it goes."""
    problem, params, until = run.problem, run.params.column_generation, run.until(seconds)
    master = Master(problem, params, dual_optimal_inequalities(filler, params.exchanges), run.deadline)
    for o in filler.options:
        for column in cover(filler, o, np.ones(problem.n_classes), problem.rows[o].most, -1.0, until):
            master.add(column)
    if run.packing is not None:
        for b, _ in run.packing.patterns():
            master.add(b)
    exact = problem.n_classes <= params.exact_classes
    centre = DualValues(continuous.duals, np.zeros(len(problem.options)))
    relaxation = ColumnGeneration(
        filler, master, master.root, until, filler.options, params, on_bound=run.raise_bound,
        bound=continuous.bound, centre=centre if continuous.duals.any() else None,
        proof=proof_of(continuous, problem), close=1e-7 if exact else params.early_gap,
    )  # fmt: skip
    solution = relaxation.solve(most_effort=3 if exact else 1)
    run.statistics["columns"] = float(len(master.columns))
    run.statistics["pricing_rounds"] = float(relaxation.rounds)
    run.statistics["relaxation"] = float("nan") if solution is None else solution.value
    return relaxation, solution
