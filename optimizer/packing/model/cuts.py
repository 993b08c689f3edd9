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
    """A cut for matching: what it requires, and which items are compatible with that.

    Classes of the cut that are each as heavy as the other are one *requirement*; classes of items that are
    compatible with the same requirements are one *group*. Groups with few compatible requirements come first,
    and requirements with few compatible groups.

    Parameters
    ----------
    requirements
        Items per requirement, shape (n_requirements,).
    class_group
        Group of every class, -1 where it is compatible with nothing, shape (n_classes,).
    compatible
        Whether items of a group can be matched to a requirement, shape (n_groups, n_requirements).
    above
        Whether the first requirement is at least as heavy as the second, shape (n_requirements,) * 2.
    """

    requirements: IntArray
    class_group: IntArray
    compatible: BoolArray
    above: BoolArray

    def dominated_by(self, counts: IntArray) -> bool:
        """Whether a bin with these items dominates the cut."""
        one = CutTable(self.requirements[None], self.class_group[None], self.compatible[None])
        return one.violated(counts)

    def covers(self) -> list[tuple[int, int]]:
        """Pairs of a requirement and one heavier than it, with none between."""
        strict = self.above & ~np.eye(len(self.above), dtype=bool)
        between = strict.astype(np.int64) @ strict.astype(np.int64) > 0
        return [(int(light), int(heavy)) for heavy, light in np.argwhere(strict & ~between)]

    def highest(self, group: int) -> IntArray:
        """Compatible requirements of a group than which no other one is heavier."""
        members = np.flatnonzero(self.compatible[group])
        inner = self.above[np.ix_(members, members)]
        return np.asarray(members[inner.sum(axis=0) == 1])


def at_least(measures: FloatArray, light: IntArray) -> BoolArray:
    """Which classes are at least as heavy as some others by every measure, shape (n_classes, n_light)."""
    order: BoolArray = np.ones((len(measures), len(light)), dtype=bool)
    for measure in measures.T:
        order &= measure[:, None] >= measure[light]
    return order


def cut_shape(counts: IntArray, measures: FloatArray) -> CutShape:
    """The shape of a multiset under the order of `PackingProblem.measures`."""
    support = np.flatnonzero(counts)
    # Classes of the cut with equal columns are one requirement: the same classes are at least as heavy.
    compatible, requirement = np.unique(at_least(measures, support), axis=1, return_inverse=True)
    # The greedy matching serves requirements in this order: those that few classes can serve come first.
    few_first = np.lexsort((np.arange(compatible.shape[1]), compatible.sum(axis=0)))
    compatible = compatible[:, few_first]
    requirement = np.argsort(few_first)[requirement.ravel()]
    requirements = np.bincount(requirement, counts[support], len(few_first)).astype(np.int64)
    # Classes with equal rows are one group, and groups that can serve little come first, for the same reason.
    compatible, class_group = np.unique(compatible, axis=0, return_inverse=True)
    few_first = np.lexsort((np.arange(len(compatible)), compatible.sum(axis=1)))
    compatible, class_group = compatible[few_first], np.argsort(few_first)[class_group.ravel()]
    # A group that can serve nothing is then the first one; its classes get -1.
    if not compatible[0].any():
        compatible, class_group = compatible[1:], class_group - 1
    first = support[np.unique(requirement, return_index=True)[1]]
    above = at_least(measures, first)[first]
    return CutShape(requirements, class_group.astype(np.int64), compatible, above)


@dataclass(frozen=True, eq=False)
class CutTable:
    """The cuts of one option as arrays for compiled code, padded to the largest cut.

    Shapes (n_cuts, n_requirements), (n_cuts, n_classes) and (n_cuts, n_groups, n_requirements), as in
    `CutShape`; requirements beyond a cut's own are 0.
    """

    requirements: IntArray
    class_group: IntArray
    compatible: BoolArray

    def __len__(self) -> int:
        return len(self.requirements)

    @property
    def arrays(self) -> tuple[IntArray, IntArray, BoolArray]:
        """What compiled code takes."""
        return self.requirements, self.class_group, self.compatible

    def violated(self, counts: IntArray) -> bool:
        """Whether a bin with these items dominates some cut."""
        # A copy may be written to; to numba an array that may not is of another type, to be compiled anew.
        return len(self) > 0 and bool(dominates_one(counts.copy(), *self.arrays))


def cut_tables(problem: PackingProblem) -> tuple[CutTable, ...]:
    """The cuts of every option, in the problem's order of options."""
    cuts = needed_cuts(problem)
    shapes = [cut_shape(cut.counts, problem.measures) for cut in cuts]
    return tuple(
        _table([s for cut, s in zip(cuts, shapes, strict=True) if o in cut.options], problem.n_classes)
        for o in range(len(problem.options))
    )


def _table(shapes: list[CutShape], n_classes: int) -> CutTable:
    n_requirements = max((len(s.requirements) for s in shapes), default=0)
    n_groups = max((len(s.compatible) for s in shapes), default=0)
    requirements = np.zeros((len(shapes), n_requirements), dtype=np.int64)
    class_group = np.zeros((len(shapes), n_classes), dtype=np.int64)
    compatible = np.zeros((len(shapes), n_groups, n_requirements), dtype=bool)
    for k, shape in enumerate(shapes):
        requirements[k, : len(shape.requirements)] = shape.requirements
        class_group[k] = shape.class_group
        compatible[k, : len(shape.compatible), : len(shape.requirements)] = shape.compatible
    return CutTable(requirements, class_group, compatible)


def needed_cuts(problem: PackingProblem) -> tuple[NoGoodCut, ...]:
    """The cuts that follow from no other: a multiset that dominates another's is cut off with that."""
    kept: list[tuple[NoGoodCut, CutShape]] = []
    for cut in sorted(problem.cuts, key=lambda cut: int(cut.counts.sum())):
        if not any(
            set(cut.options) <= set(other.options) and shape.dominated_by(cut.counts) for other, shape in kept
        ):
            kept.append((cut, cut_shape(cut.counts, problem.measures)))
    return tuple(cut for cut, _ in kept)
