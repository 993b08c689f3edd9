"""Cuts: multisets of items that were found to starve a bin, and everything that dominates them.

If some items starve a bin, so do heavier ones, and more of them. A bin dominates a multiset when its
items can be matched one to one to the multiset's, each at least as heavy as its partner: a maximum flow
from the bin's items to the multiset's that meets all of them (`optimizer.packing.model.matching`).

The converse certifies that a bin keeps a cut, by Hall's theorem: some set A of the multiset's classes asks
for more items than the bin has that are as heavy as one of A. The assignment model chooses such an A.
So every placer means the same bins by a cut as the checker, however many such sets there are.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from optimizer.packing.model.matching import dominates_one
from optimizer.packing.model.problem import BoolArray, FloatArray, IntArray, NoGoodCut, PackingProblem


@dataclass(frozen=True, eq=False)
class CutShape:
    """A cut for matching: what it wants, and which items can stand for it.

    Classes of the cut that stand for each other are one *want*; classes of items that stand for the same
    wants are one *group*. Groups that stand for few wants come first, and wants that few groups stand for.

    Parameters
    ----------
    wanted
        Items per want, shape (n_wants,).
    group
        Group of every class, -1 where it stands for nothing, shape (n_classes,).
    stands
        Whether items of a group can stand for a want, shape (n_groups, n_wants).
    above
        Whether the first want is at least as heavy as the second, shape (n_wants, n_wants).
    """

    wanted: IntArray
    group: IntArray
    stands: BoolArray
    above: BoolArray

    def dominated_by(self, counts: IntArray) -> bool:
        """Whether a bin with these items dominates the cut."""
        return _dominates_one(counts, self.wanted[None, :], self.group[None, :], self.stands[None, :, :])

    def covers(self) -> list[tuple[int, int]]:
        """Pairs of a want and one heavier than it, with none between."""
        strict = self.above & ~np.eye(len(self.above), dtype=bool)
        between = strict.astype(np.int64) @ strict.astype(np.int64) > 0
        return [(int(light), int(heavy)) for heavy, light in np.argwhere(strict & ~between)]

    def highest(self, group: int) -> IntArray:
        """Wants of a group with no heavier want in it."""
        members = np.flatnonzero(self.stands[group])
        inner = self.above[np.ix_(members, members)]
        return np.asarray(members[inner.sum(axis=0) == 1])


def _dominates_one(counts: IntArray, wanted: IntArray, group: IntArray, stands: BoolArray) -> bool:
    # A copy may be written to. An array that may not is of another type to numba, which would compile anew.
    return bool(dominates_one(counts.copy(), wanted, group, stands))


def at_least(measures: FloatArray, light: IntArray) -> BoolArray:
    """Which classes are at least as heavy as some others by every measure, shape (n_classes, n_light)."""
    order: BoolArray = np.ones((len(measures), len(light)), dtype=bool)
    for measure in measures.T:
        order &= measure[:, None] >= measure[light]
    return order


def cut_shape(counts: IntArray, measures: FloatArray) -> CutShape:
    """The shape of a multiset under the order of `PackingProblem.measures`."""
    support = np.flatnonzero(counts)
    reach, want = np.unique(at_least(measures, support), axis=1, return_inverse=True)
    by_reach = np.lexsort((np.arange(reach.shape[1]), reach.sum(axis=0)))
    reach = reach[:, by_reach]
    want = np.argsort(by_reach)[want.ravel()]
    wanted = np.bincount(want, counts[support], len(by_reach)).astype(np.int64)
    stands, group = np.unique(reach, axis=0, return_inverse=True)
    by_size = np.lexsort((np.arange(len(stands)), stands.sum(axis=1)))
    stands, group = stands[by_size], np.argsort(by_size)[group.ravel()]
    if not stands[0].any():
        stands, group = stands[1:], group - 1
    first = support[np.unique(want, return_index=True)[1]]
    return CutShape(wanted, group.astype(np.int64), stands, at_least(measures, first)[first])


@dataclass(frozen=True, eq=False)
class CutTable:
    """The cuts of one option as arrays for compiled code, padded to the largest cut.

    Shapes (n_cuts, n_wants), (n_cuts, n_classes) and (n_cuts, n_groups, n_wants), as in `CutShape`; wants
    beyond a cut's own are 0.
    """

    wanted: IntArray
    group: IntArray
    stands: BoolArray

    def __len__(self) -> int:
        return len(self.wanted)

    def violated(self, counts: IntArray) -> bool:
        """Whether a bin with these items dominates some cut."""
        return len(self) > 0 and _dominates_one(counts, self.wanted, self.group, self.stands)


def cut_tables(problem: PackingProblem) -> tuple[CutTable, ...]:
    """The cuts of every option, in the problem's order of options."""
    cuts = needed_cuts(problem)
    shapes = [cut_shape(cut.counts, problem.measures) for cut in cuts]
    return tuple(
        _table([s for cut, s in zip(cuts, shapes, strict=True) if o in cut.options], problem.n_classes)
        for o in range(len(problem.options))
    )


def _table(shapes: list[CutShape], n_classes: int) -> CutTable:
    wants = max((len(s.wanted) for s in shapes), default=0)
    groups = max((len(s.stands) for s in shapes), default=0)
    wanted = np.zeros((len(shapes), wants), dtype=np.int64)
    group = np.zeros((len(shapes), n_classes), dtype=np.int64)
    stands = np.zeros((len(shapes), groups, wants), dtype=bool)
    for k, shape in enumerate(shapes):
        wanted[k, : len(shape.wanted)] = shape.wanted
        group[k] = shape.group
        stands[k, : len(shape.stands), : len(shape.wanted)] = shape.stands
    return CutTable(wanted, group, stands)


def needed_cuts(problem: PackingProblem) -> tuple[NoGoodCut, ...]:
    """The cuts that follow from no other: a multiset that dominates another's is cut off with that."""
    kept: list[tuple[NoGoodCut, CutShape]] = []
    for cut in sorted(problem.cuts, key=lambda cut: int(cut.counts.sum())):
        if not any(
            set(cut.options) <= set(other.options) and shape.dominated_by(cut.counts) for other, shape in kept
        ):
            kept.append((cut, cut_shape(cut.counts, problem.measures)))
    return tuple(cut for cut, _ in kept)
