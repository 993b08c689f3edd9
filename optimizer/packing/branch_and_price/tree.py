"""Branch and price on how many bins there are of each option.

A packing at the run's bound has a whole number of bins of every option, and of every group of options that
admit the same classes; its relaxation hardly ever does. Each branch narrows a limit on such a number, and
is given up once its relaxation proves a higher price. Few sets of options are left, and dives
look for a packing in each (branch and price: Barnhart et al. 1998; branching on sums of columns:
Vanderbeck 2000).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from optimizer.packing.bounds.price_bounds import Proof
from optimizer.packing.branch_and_price.column_generation import ColumnGeneration
from optimizer.packing.branch_and_price.pricing import price_option
from optimizer.packing.branch_and_price.primal_heuristics import dive
from optimizer.packing.branch_and_price.restricted_master import MasterSolution, ResidualProblem
from optimizer.packing.model.problem import FloatArray
from optimizer.packing.model.search_state import SearchState, price_unit

WHOLE = 1e-5
"""Distance from a whole number that counts as none."""


def place_by_branching(run: SearchState, relaxation: ColumnGeneration, seconds: float) -> None:
    """Find a packing at the run's bound, or raise the bound.

    Parameters
    ----------
    run
        Takes plans and bounds.
    relaxation
        The root's, solved; its columns are shared and added to.
    seconds
        Time limit.
    """
    unit, until = price_unit(run.problem), run.until(seconds)
    if len(relaxation.options) == 1:
        return
    while unit > 0 and relaxation.proof is not None and not until():
        tree = BranchAndBoundTree(run, relaxation, relaxation.proof, until)
        excluded = tree.explore(tree.root_problem)
        run.statistics["branches"] = run.statistics.get("branches", 0.0) + tree.branches
        if not excluded:
            return
        run.raise_bound(run.bound + unit)


class BranchAndBoundTree:
    """Search for a packing at the run's bound, depth first; a node is its limits on numbers of bins."""

    def __init__(
        self, run: SearchState, root: ColumnGeneration, proof: Proof, until: Callable[[], bool]
    ) -> None:
        self.run, self.root, self.until = run, root, until
        self.target = run.bound
        self.cutoff = run.bound + 1e-6 * price_unit(run.problem)
        self.branches = 0
        self._rng = np.random.default_rng(np.random.SeedSequence(run.seed).spawn(3)[2])
        # An option whose best bin has a reduced cost above target less bound is in no packing at the target
        # (reduced cost fixing). One row closes them all, so that no branch is spent on their numbers.
        idle = [o for o in root.options if not self._is_of_use(o, proof)]
        first = len(root.master.weights)
        root.master.add_limits(_numbers(root, idle))
        self._rows = range(first, len(root.master.weights))
        self.root_problem = root.master.with_all_limits(root.residual)
        self.root_problem.lower[first] = self.root_problem.upper[first] = 0.0

    def explore(self, residual: ResidualProblem) -> bool:
        """Whether it is proven that no packing at the target keeps some limits."""
        self.branches += 1
        node = self._node(residual)
        solution = node.solve()
        if node.bound > self.cutoff:
            return True
        if solution is None or solution.uncovered > 1e-6 or solution.value > self.cutoff or self.until():
            return False
        bins = np.zeros(len(self.run.problem.options))
        np.add.at(bins, [column.option for column in node.master.columns], solution.amount)
        row = self._most_fractional(bins)
        if row is not None:
            return self._branch(residual, row, bins)
        self._dive(node, solution)
        return False

    def _is_of_use(self, option: int, proof: Proof) -> bool:
        """Whether some bin of an option may be in a packing at the target, by its reduced cost."""
        problem, params = self.run.problem, self.root.params
        threshold = (
            problem.options[option].price + float(proof.limit_dual[option]) - (self.target - proof.bound)
        )
        threshold *= 1 - 1e-7
        column = price_option(
            self.root.filler, option, proof.duals, problem.counts, threshold, params.tree_nodes[-1], params
        )
        return column.bound > threshold * (1 + 1e-8)

    def _node(self, residual: ResidualProblem) -> ColumnGeneration:
        """The relaxation within some limits."""
        root, closed = self.root, self.root.master.weights[residual.upper == 0].any(axis=0)
        options = [o for o in root.options if not closed[o]]
        return ColumnGeneration(
            root.filler, root.master, residual, self.until, options, root.params, cutoff=self.cutoff
        )

    def _most_fractional(self, bins: FloatArray) -> int | None:
        """Row of the number furthest from a whole one, groups first; None if all are whole."""
        # Branching on single columns would forbid a bin that pricing finds again (Vanderbeck 2000). A limit
        # on a number of bins is one more row, whose dual only shifts what a bin of an option costs, so
        # pricing stays the same knapsack. Groups come first: their numbers settle the price.
        weights = self.root.master.weights[self._rows]
        numbers = np.array([weight @ bins for weight in weights])
        distance = np.abs(numbers - np.rint(numbers))
        group = weights.sum(axis=1) > 1
        for some in (group, ~group):
            if (distance[some] > WHOLE).any():
                return self._rows[int(np.flatnonzero(some)[np.argmax(distance[some])])]
        return None

    def _branch(self, residual: ResidualProblem, row: int, bins: FloatArray) -> bool:
        """Explore both sides of a number, the nearer first."""
        number = float(self.root.master.weights[row] @ bins)
        upper, lower = residual.upper.copy(), residual.lower.copy()
        upper[row], lower[row] = np.floor(number), np.ceil(number)
        down, up = replace(residual, upper=upper), replace(residual, lower=lower)
        excluded = True
        for side in (down, up) if number - np.floor(number) < 0.5 else (up, down):
            if self.run.done or self.until():
                return False
            excluded &= self.explore(side)
        return excluded

    def _dive(self, node: ColumnGeneration, solution: MasterSolution | None) -> None:
        """Dive into a branch whose numbers are whole; nothing is proven by that."""
        for k in range(self.run.params.branch_and_price.leaf_dives):
            if solution is None or self.until():
                return
            dive(self.run, node, solution, self._rng, k)
            solution = node.solve_master()


def _numbers(root: ColumnGeneration, idle: list[int]) -> FloatArray:
    """Weights of the options whose bins are counted: idle ones, groups that admit the same classes, each."""
    problem = root.filler.problem
    ones = np.eye(len(problem.options))
    used = [o for o in root.options if o not in idle]
    groups: dict[bytes, list[int]] = {}
    for o in used:
        groups.setdefault((problem.rows[o].most > 0).tobytes(), []).append(o)
    several = [ones[group].sum(axis=0) for group in groups.values() if len(group) > 1]
    return np.array([ones[idle].sum(axis=0), *several, *ones[used]])
