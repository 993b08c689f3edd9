"""Cuts: multisets of items that were found to starve a bin, and everything that dominates them.

If some items starve a bin, so do heavier ones, and more of them. A bin dominates a multiset when its
items can be matched one to one to the multiset's, each at least as heavy as its partner. By Hall's theorem
that is the case exactly if for every set A of classes of the multiset the bin has at least as many items
that are as heavy as one of A as the multiset has in A. Sets closed upwards suffice. So a cut becomes a
few *conditions* "at least t items of these classes"; a bin dominates the multiset if all of them hold, and
a placer has to break at least one.

Where the order has too many closed sets, the multiset is split into chains and every class is given to
one chain at most; that recognises fewer dominating bins, never a wrong one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from optimizer.problem import BoolArray, Cut, IntArray, PackingProblem

MOST_CLOSED_SETS = 128
"""Most conditions of a cut; beyond, the cut is split into chains."""


@dataclass(frozen=True, eq=False)
class Condition:
    """At least ``threshold`` items of the classes in the mask, shape (n_classes,)."""

    classes: BoolArray
    threshold: int


def conditions(counts: IntArray, heavier: BoolArray | None) -> tuple[Condition, ...]:
    """What a bin must satisfy, all of it, to dominate the multiset.

    Parameters
    ----------
    counts
        The multiset, shape (n_classes,).
    heavier
        The order on classes (`PackingProblem.heavier`).
    """
    order = np.eye(len(counts), dtype=bool) if heavier is None else heavier
    support = np.flatnonzero(counts)
    closed = _closed_sets(support, order)
    if closed is None:
        return _chain_conditions(counts, support, order)
    found = []
    for members in closed:
        mask = np.asarray(order[:, sorted(members)].any(axis=1), dtype=bool)
        found.append(Condition(mask, int(counts[sorted(members)].sum())))
    return _needed(found)


def _closed_sets(support: NDArray[np.int64], order: BoolArray) -> list[frozenset[int]] | None:
    """Connected upward-closed subsets of the support, or None if there are too many.

    A closed set whose parts have no class above them in common needs no condition of its own: it is the
    sum of the conditions of its parts.
    """
    above = {int(c): order[:, c] for c in support}
    single = {int(c): frozenset(int(d) for d in support if order[d, c]) for c in support}
    found = set(single.values())
    queue = list(found)
    while queue:
        members = queue.pop()
        reach = np.logical_or.reduce([above[c] for c in members])
        for c, closure in single.items():
            if c in members or not (reach & above[c]).any():
                continue
            union = members | closure
            if union not in found:
                if len(found) >= MOST_CLOSED_SETS:
                    return None
                found.add(union)
                queue.append(union)
    return sorted(found, key=lambda members: (len(members), sorted(members)))


def _chain_conditions(
    counts: IntArray, support: NDArray[np.int64], order: BoolArray
) -> tuple[Condition, ...]:
    chains: list[list[int]] = []
    for c in sorted((int(c) for c in support), key=lambda c: int(order[:, c].sum())):
        for chain in chains:
            if order[chain[-1], c]:
                chain.append(c)
                break
        else:
            chains.append([c])
    owner = np.full(len(counts), -1)
    for k, chain in enumerate(chains):
        owner[chain] = k
    for k, chain in enumerate(chains):
        owner[(owner < 0) & order[:, chain].any(axis=1)] = k
    found = []
    for k, chain in enumerate(chains):
        for length in range(1, len(chain) + 1):
            mask = (owner == k) & order[:, chain[:length]].any(axis=1)
            found.append(Condition(mask, int(counts[chain[:length]].sum())))
    return _needed(found)


def _needed(found: Sequence[Condition]) -> tuple[Condition, ...]:
    """Drop conditions that follow from another: a smaller set of classes with at least the threshold."""
    kept = []
    for k, condition in enumerate(found):
        implied = any(
            other.threshold >= condition.threshold
            and not (other.classes & ~condition.classes).any()
            and (j < k or other.threshold > condition.threshold or (condition.classes & ~other.classes).any())
            for j, other in enumerate(found)
            if j != k
        )
        if not implied:
            kept.append(condition)
    return tuple(kept)


def dominates(counts: IntArray, needed: Sequence[Condition]) -> bool:
    """Whether a bin with these items satisfies every condition."""
    return all(int(counts[c.classes].sum()) >= c.threshold for c in needed)


@dataclass(frozen=True, eq=False)
class CutTable:
    """The cuts of one option as arrays, for compiled code.

    Conditions ``start[k] .. start[k + 1]`` belong to cut k; condition j asks for ``threshold[j]`` items of
    the classes ``mask[j]``.
    """

    start: IntArray
    mask: BoolArray
    threshold: IntArray

    def violated(self, counts: IntArray) -> bool:
        """Whether a bin with these items dominates some cut."""
        if len(self.start) == 1:
            return False
        unmet = (self.mask @ counts < self.threshold).astype(np.int64)
        return bool((np.add.reduceat(unmet, self.start[:-1]) == 0).any())


def cut_tables(problem: PackingProblem) -> tuple[CutTable, ...]:
    """The cuts of every option, in the problem's order of options."""
    needed = {id(cut): conditions(cut.counts, problem.heavier) for cut in problem.cuts}
    tables = []
    for o in range(len(problem.options)):
        mine = [needed[id(cut)] for cut in problem.cuts if o in cut.options]
        tables.append(_table(mine, problem.n_classes))
    return tuple(tables)


def _table(cuts: Sequence[Sequence[Condition]], n_classes: int) -> CutTable:
    flat = [condition for cut in cuts for condition in cut]
    start = np.concatenate([[0], np.cumsum([len(cut) for cut in cuts])]).astype(np.int64)
    mask = np.array([c.classes for c in flat], dtype=bool).reshape(len(flat), n_classes)
    return CutTable(start, mask, np.array([c.threshold for c in flat], dtype=np.int64))


def largest_without_cut(problem: PackingProblem, cuts: Sequence[Cut]) -> tuple[Cut, ...]:
    """Cuts that no other cut makes redundant: drop one whose multiset dominates another's."""
    kept: list[Cut] = []
    for cut in sorted(cuts, key=lambda cut: int(cut.counts.sum())):
        if not any(
            set(cut.options) <= set(other.options)
            and dominates(cut.counts, conditions(other.counts, problem.heavier))
            for other in kept
        ):
            kept.append(cut)
    return tuple(kept)
