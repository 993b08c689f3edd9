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
from optimizer.packing.model.compilation import compiled
from optimizer.packing.model.problem import FloatArray, IntArray

MOST = 3
"""Exchanges out of one class: to the largest that may take its place."""


def dual_optimal_inequalities(filler: BinFiller) -> list[tuple[int, int]]:
    """Pairs (a, b) of classes with items such that b may take the place of a; none implied by two others."""
    used = np.flatnonzero(filler.problem.counts > 0)
    size = _sizes(filler)[used]
    found = _largest_below(size, np.argsort(-_number_below(size), kind="stable"), MOST)
    return [(int(used[a]), int(used[b])) for a, row in enumerate(found) for b in row[row >= 0]]


def _sizes(filler: BinFiller) -> FloatArray:
    """What an item takes, shape (n_classes, rows of all options and measures of cuts).

    In every bin a class may take the place of another if it has nothing more of any: where a class may not
    enter an option, it takes more of it than any that may.
    """
    rows = [filler.problem.rows[o] for o in filler.options]
    taken = [np.where(r.most > 0, usage, np.inf) for r in rows for usage in r.usage]
    return np.column_stack([*taken, filler.swap_measures])


@compiled
def _is_below(size: FloatArray, b: int, a: int) -> bool:
    """Whether b may take the place of a. Of two that may both, the one with the smaller number is larger."""
    same = True
    for k in range(size.shape[1]):
        if size[b, k] > size[a, k]:
            return False
        same = same and size[b, k] == size[a, k]
    return b > a if same else True


@compiled
def _number_below(size: FloatArray) -> IntArray:
    """How many may take the place of each class, shape (n,)."""
    below = np.zeros(len(size), dtype=np.int64)
    for a in range(len(size)):
        for b in range(len(size)):
            below[a] += _is_below(size, b, a)
    return below


@compiled
def _largest_below(size: FloatArray, order: IntArray, most: int) -> IntArray:
    """The first classes in an order that are below each class with none between, shape (n, most).

    The order is one of falling numbers below, in which whatever is between two classes comes between them.
    """
    n = len(size)
    found = np.full((n, most), -1)
    for i in range(n):
        a, k = order[i], 0
        for j in range(i + 1, n):
            b = order[j]
            if not _is_below(size, b, a):
                continue
            between = False
            for h in range(k):
                between = between or _is_below(size, b, found[a, h])
            if not between:
                found[a, k] = b
                k += 1
                if k == most:
                    break
    return found
