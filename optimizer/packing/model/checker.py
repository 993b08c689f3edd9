"""An independent check of packings: plain NumPy on the given figures, shared with no placer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import maximum_flow

from optimizer.packing.model.arrays import FloatArray, IntArray
from optimizer.packing.model.problem import TOLERANCE, Bin, NoGoodCut, Packing, PackingProblem


class ViolationKind(StrEnum):
    """What a packing violates."""

    MALFORMED = "malformed"
    """A bin is of another problem, so that nothing else can be said of the packing."""
    COUNTS = "counts"
    """An item is not packed exactly once."""
    ADMISSION = "admission"
    """A class is in a bin that it may not enter."""
    ROW = "row"
    CUT = "cut"
    LIMIT = "limit"
    """There are too many bins of an option, of a device or in all, or they cost too much."""


@dataclass(frozen=True)
class Violation:
    """One thing that is wrong with a packing, as a kind and as a sentence."""

    kind: ViolationKind
    sentence: str

    def __str__(self) -> str:
        return self.sentence


def check(problem: PackingProblem, packing: Packing) -> list[Violation]:
    """What is wrong with a packing; empty if it is right.

    Checks that every item is packed once, that classes, rows, cuts and limits are respected.
    """
    violations = [v for g, b in enumerate(packing.bins) for v in _check_bin(problem, g, b)]
    if any(v.kind is ViolationKind.MALFORMED for v in violations):
        return violations
    return [*violations, *_check_counts(problem, packing), *_check_limits(problem, packing)]


def _check_bin(problem: PackingProblem, g: int, b: Bin) -> Iterator[Violation]:
    counts = b.counts
    if counts.shape != problem.counts.shape:
        text = f"bin {g}: counts has shape {counts.shape}, not {problem.counts.shape}"
        yield Violation(ViolationKind.MALFORMED, text)
        return
    if not 0 <= b.option < len(problem.options):
        yield Violation(ViolationKind.MALFORMED, f"bin {g}: option {b.option} does not exist")
        return
    option = problem.options[b.option]
    if (counts < 0).any():
        yield Violation(ViolationKind.COUNTS, f"bin {g}: negative counts")
    for c in np.flatnonzero((counts > 0) & ~option.fits_class):
        text = f'bin {g}: class {problem.class_name(int(c))} may not enter option "{option.name}"'
        yield Violation(ViolationKind.ADMISSION, text)
    used = option.usage @ counts
    for r in np.flatnonzero(used > option.capacity * (1 + TOLERANCE)):
        text = f'bin {g}: row {r} of option "{option.name}" is {used[r]:.9g}, above {option.capacity[r]:.9g}'
        yield Violation(ViolationKind.ROW, text)
    for k, cut in enumerate(problem.cuts):
        if b.option in cut.options and matches(cut, counts, problem.dominance):
            yield Violation(ViolationKind.CUT, f"bin {g}: dominates cut {k}")


def matches(cut: NoGoodCut, counts: IntArray, dominance: FloatArray | None) -> bool:
    """Whether a bin's items can be matched to all of a cut's, each at least as heavy.

    By maximum flow, independent of the conditions that the placers use.
    """
    total = int(cut.counts.sum())
    if int(counts.sum()) < total:
        return False
    required, inside = np.flatnonzero(cut.counts), np.flatnonzero(counts)
    compatible = inside[:, None] == required
    if dominance is not None:
        compatible = (dominance[inside][:, None] >= dominance[required]).all(axis=-1)
    # Nodes: the source, a node per class of the bin, one per class of the cut, the sink.
    size, first_required = len(inside) + len(required) + 2, 1 + len(inside)
    capacity = np.zeros((size, size), dtype=np.int32)
    capacity[0, 1:first_required] = np.minimum(counts[inside], total)
    capacity[1:first_required, first_required:-1] = np.where(compatible, total, 0)
    capacity[first_required:-1, -1] = cut.counts[required]
    return bool(maximum_flow(csr_matrix(capacity), 0, size - 1).flow_value == total)


def _check_counts(problem: PackingProblem, packing: Packing) -> Iterator[Violation]:
    packed = packing.counts().sum(axis=0) if packing.bins else np.zeros_like(problem.counts)
    for c in np.flatnonzero(packed != problem.counts):
        text = f"class {problem.class_name(int(c))}: {packed[c]} items packed, there are {problem.counts[c]}"
        yield Violation(ViolationKind.COUNTS, text)


def _check_limits(problem: PackingProblem, packing: Packing) -> Iterator[Violation]:
    options = Counter(b.option for b in packing.bins)
    devices = Counter(problem.options[b.option].device for b in packing.bins)
    limited = [(f'option "{o.name}"', options[k], o.limit) for k, o in enumerate(problem.options)]
    limited += [(f'device "{device}"', devices[device], n) for device, n in problem.device_limits.items()]
    for name, bins, limit in limited:
        if limit is not None and bins > limit:
            yield Violation(ViolationKind.LIMIT, f"{name}: {bins} bins, above its limit {limit}")
    if problem.max_bins is not None and len(packing.bins) > problem.max_bins:
        text = f"{len(packing.bins)} bins, above the limit {problem.max_bins}"
        yield Violation(ViolationKind.LIMIT, text)
    if problem.budget is not None and problem.price(packing) > problem.budget * (1 + TOLERANCE):
        text = f"price {problem.price(packing):g} is above the budget {problem.budget:g}"
        yield Violation(ViolationKind.LIMIT, text)
