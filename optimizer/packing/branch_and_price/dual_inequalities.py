"""Which class may take another's place in any bin: dual inequalities for column generation.

If an item of class b uses no more of any row than one of class a, enters every option that a enters, and
is no heavier in a cut, then some optimal duals give it no more value. An *exchange* column, which takes
one a back and covers one b at no price, keeps the duals among those from the start and so takes most of
the rounds away (Valerio de Carvalho 2005, "Using extra dual cuts to accelerate column generation";
Ben Amor, Desrosiers and Valerio de Carvalho 2006).
"""

from __future__ import annotations

import numpy as np

from optimizer.packing.heuristics.first_fit import BinFiller
from optimizer.packing.model.compilation import cached, compiled
from optimizer.packing.model.problem import FloatArray, IntArray


def dual_optimal_inequalities(filler: BinFiller, number: int) -> list[tuple[int, int]]:
    """Pairs (a, b) of classes with items such that b may take the place of a; none implied by two others.

    Parameters
    ----------
    filler
        The problem.
    number
        Most pairs out of one class: to the largest that may take its place.
    """
    # Transitive pairs add up to the rest: value(a) >= value(b) >= value(c) needs no pair (a, c). The order is
    # partial where there are several rows, so a class may have many neighbours below it; the largest few
    # hold its value up best, and every pair is a column that each solution of the master has to price.
    classes = np.flatnonzero(filler.problem.counts > 0)
    size = _sizes(filler)[classes]
    below = _largest_below(size, np.argsort(-_number_below(size), kind="stable"), number)
    return [(int(classes[a]), int(classes[b])) for a, row in enumerate(below) for b in row[row >= 0]]


def _sizes(filler: BinFiller) -> FloatArray:
    """What an item takes, shape (n_classes, rows of all options and measures of cuts).

    In every bin a class may take the place of another if it has nothing more of any: where a class may not
    enter an option, it takes more of it than any that may.
    """
    # One comparison of vectors says it for all bins: rows of every option, as a bin of any may hold the item,
    # and the measures of the cuts, as a heavier item might make the bin dominate one.
    rows = [filler.problem.rows[o] for o in filler.options]
    sizes = [np.where(r.most > 0, usage, np.inf) for r in rows for usage in r.usage]
    return np.column_stack([*sizes, filler.swap_measures])


@compiled
def _is_below(size: FloatArray, b: int, a: int) -> bool:
    """Whether b may take the place of a. Of two that may both, the one with the smaller number is larger."""
    # The tie is broken so that two alike classes are not exchanged in a circle, which would be a ray.
    same = True
    for k in range(size.shape[1]):
        if size[b, k] > size[a, k]:
            return False
        same = same and size[b, k] == size[a, k]
    return b > a if same else True


@cached
def _number_below(size: FloatArray) -> IntArray:
    """How many may take the place of each class, shape (n,)."""
    below = np.zeros(len(size), dtype=np.int64)
    for a in range(len(size)):
        for b in range(len(size)):
            below[a] += _is_below(size, b, a)
    return below


@cached
def _largest_below(size: FloatArray, order: IntArray, number: int) -> IntArray:
    """The first classes in an order that are below each class with none between, shape (n, number).

    The order is one of falling numbers below, in which whatever is between two classes comes between them.
    """
    n = len(size)
    largest = np.full((n, number), -1)
    for i in range(n):
        a, k = order[i], 0
        for j in range(i + 1, n):
            if k == number:
                break
            b = order[j]
            if not _is_below(size, b, a):
                continue
            between = False
            for h in range(k):
                between = between or _is_below(size, b, largest[a, h])
            if not between:
                largest[a, k] = b
                k += 1
    return largest
