"""Which class may take another's place in any bin: dual inequalities for column generation.

If an item of class b uses no more of any row than one of class a, enters every option that a enters, and
is no heavier in a cut, then some optimal duals give it no more value. An *exchange* column, which takes
one a back and covers one b at no price, keeps the duals among those from the start and so takes most of
the rounds away (Valerio de Carvalho 2005, "Using extra dual cuts to accelerate column generation";
Ben Amor, Desrosiers and Valerio de Carvalho 2006).
"""

from __future__ import annotations

import numpy as np

from optimizer.packing.firstfit import Filler
from optimizer.packing.problem import BoolArray

MOST = 3
"""Exchanges out of one class: to the largest that may take its place."""


def exchanges(filler: Filler) -> list[tuple[int, int]]:
    """Pairs (a, b) of classes with items such that b may take the place of a; none implied by two others."""
    order = _replaceable(filler)
    used = filler.problem.counts > 0
    order &= used[:, None] & used[None, :]
    # Of classes that may replace each other, the one with the smaller number counts as the larger.
    order &= ~(order.T & (np.arange(len(order))[:, None] >= np.arange(len(order))[None, :]))
    weights = order.astype(np.float32)
    direct = order & ~(weights @ weights > 0)
    below = order.sum(axis=1)
    pairs = []
    for a in range(len(order)):
        lower = np.flatnonzero(direct[a])
        largest = lower[np.argsort(-below[lower], kind="stable")[:MOST]]
        pairs += [(a, int(b)) for b in largest]
    return pairs


def _replaceable(filler: Filler) -> BoolArray:
    """``[a, b]``: in every bin an item of class b may take the place of one of class a."""
    n = filler.problem.n_classes
    order = np.ones((n, n), dtype=bool)
    for o in filler.options:
        rows = filler.problem.rows[o]
        admitted = rows.most > 0
        order &= ~admitted[:, None] | admitted[None, :]
        for usage in rows.usage:
            order &= ~admitted[:, None] | (usage[:, None] >= usage[None, :])
    return order & filler.swaps
