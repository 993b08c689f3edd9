"""Branch and price on how many bins there are of each option.

A packing at the run's bound has a whole number of bins of every option, and of every group of options that
admit the same classes; its relaxation hardly ever does. Each branch adds a limit on such a number to the
master, and is given up once its relaxation proves a higher price. Few sets of options are left, and dives
look for a packing in each (branch and price: Barnhart et al. 1998; branching on sums of columns:
Vanderbeck 2000).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from optimizer.packing.bounds.price_bounds import Proof
from optimizer.packing.branch_and_price.column_generation import TREE_NODES, ColumnGeneration
from optimizer.packing.branch_and_price.pricing import price_option
from optimizer.packing.branch_and_price.primal_heuristics import dive
from optimizer.packing.branch_and_price.restricted_master import MasterSolution
from optimizer.packing.model.problem import FloatArray
from optimizer.packing.model.search_state import SearchState, price_unit

LEAF_DIVES = 48
"""Dives into a branch whose numbers of bins are all whole."""

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
        excluded = tree.explore()
        tree.leave()
        run.statistics["branches"] = run.statistics.get("branches", 0.0) + tree.branches
        if not excluded:
            return
        run.raise_bound(run.bound + unit)


class BranchAndBoundTree:
    """Search for a packing at the run's bound, depth first."""

    def __init__(
        self, run: SearchState, root: ColumnGeneration, proof: Proof, until: Callable[[], bool]
    ) -> None:
        self.run, self.root, self.until = run, root, until
        self.target = run.bound
        self.branches = 0
        self._rng = np.random.default_rng(np.random.SeedSequence(run.seed).spawn(3)[2])
        idle = [o for o in root.options if not self._is_of_use(o, proof)]
        self._rows = [root.master.limit(weight) for weight in _numbers(root, idle)]
        root.master.change_limit(self._rows[0], 0.0, 0.0)

    def leave(self) -> None:
        """Free the master of all limits."""
        for row in self._rows:
            self.root.master.change_limit(row, -np.inf, np.inf)

    def explore(self) -> bool:
        """Whether it is proven that no packing at the target keeps the present limits."""
        self.branches += 1
        node = self._node()
        solved = node.solve()
        if self._beyond(node.bound):
            return True
        if solved is None or solved.uncovered > 1e-6 or self._beyond(solved.value) or self.until():
            return False
        bins = np.zeros(len(self.run.problem.options))
        np.add.at(bins, [column.option for column in node.master.columns], solved.amount)
        row = self._most_fractional(bins)
        return self._dived(node, solved) if row is None else self._branched(row, bins)

    def _is_of_use(self, option: int, proof: Proof) -> bool:
        """Whether some bin of an option may be in a packing at the target, by its reduced cost."""
        problem = self.run.problem
        least = problem.options[option].price + float(proof.limit_dual[option]) - (self.target - proof.bound)
        least *= 1 - 1e-7
        priced = price_option(self.root.filler, option, proof.duals, problem.counts, least, TREE_NODES[-1])
        return priced.upper > least * (1 + 1e-8)

    def _node(self) -> ColumnGeneration:
        """The relaxation within the present limits."""
        master = self.root.master
        closed = np.sum([limit.weight for limit in master.limits if limit.most == 0], axis=0)
        options = [o for o in self.root.options if not closed[o]]
        node = ColumnGeneration(self.root.filler, master, self.root.limit, self.until, options)
        node.until = lambda: self.until() or self._beyond(node.bound)
        return node

    def _beyond(self, price: float) -> bool:
        return price > self.target + 1e-6 * price_unit(self.run.problem)

    def _most_fractional(self, bins: FloatArray) -> int | None:
        """Row of the number furthest from a whole one, groups first; None if all are whole."""
        rows = np.array(self._rows)
        numbers = np.array([self.root.master.limits[r].weight @ bins for r in rows])
        distance = np.abs(numbers - np.rint(numbers))
        group = np.array([self.root.master.limits[r].weight.sum() > 1 for r in rows])
        for some in (group, ~group):
            if (distance[some] > WHOLE).any():
                return int(rows[some][np.argmax(distance[some])])
        return None

    def _branched(self, row: int, bins: FloatArray) -> bool:
        """Explore both sides of a number, the nearer first."""
        limit = self.root.master.limits[row]
        number = float(limit.weight @ bins)
        down, up = (limit.least, np.floor(number)), (np.ceil(number), limit.most)
        excluded = True
        for least, most in (down, up) if number - np.floor(number) < 0.5 else (up, down):
            if self.run.done or self.until():
                excluded = False
                break
            self.root.master.change_limit(row, least, most)
            excluded &= self.explore()
        self.root.master.change_limit(row, limit.least, limit.most)
        return excluded

    def _dived(self, node: ColumnGeneration, solved: MasterSolution) -> bool:
        """Dive into a branch whose numbers are whole; nothing is proven by that."""
        current: MasterSolution | None = solved
        for k in range(LEAF_DIVES):
            if current is None or self.until():
                break
            spread = 0.0 if k == 0 else 0.1 + 0.4 * self._rng.random()
            dive(self.run, node, current, self._rng, spread=spread)
            current = node.master.solve()
        return False


def _numbers(root: ColumnGeneration, idle: list[int]) -> list[FloatArray]:
    """Weights of the options whose bins are counted: idle ones, groups that admit the same classes, each."""
    problem = root.filler.problem
    ones = np.eye(len(problem.options))
    used = [o for o in root.options if o not in idle]
    groups: dict[bytes, list[int]] = {}
    for o in used:
        groups.setdefault((problem.rows[o].most > 0).tobytes(), []).append(o)
    several = [ones[group].sum(axis=0) for group in groups.values() if len(group) > 1]
    return [ones[idle].sum(axis=0), *several, *ones[used]]
