"""Even out a packing: the same bins, the fullest relieved by moves and swaps, each with its best option.

Among plans with equally many GPUs the most even one leaves each GPU the most room, which costs nothing by
the linear rows: latencies fall, and the twin, which the rows only approximate, rejects fewer.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from optimizer.packing.heuristics.first_fit import BinFiller, holds
from optimizer.packing.model.problem import Bin, FloatArray, IntArray, Packing, PackingProblem
from scenarios.stopping.deadline import UNLIMITED, Deadline

MOST_MOVES = 3_000
"""Most moves and swaps."""

TRIES = 8
"""Exchanges between two bins that are tried, the best first, before others are looked for."""


def balance_load(problem: PackingProblem, packing: Packing, deadline: Deadline = UNLIMITED) -> Packing:
    """A packing of equal price whose fullest bins are less full.

    Parameters
    ----------
    problem
        Its rows, cuts and prices; the objective is not looked at.
    packing
        Where to start; every bin keeps its device and price.
    deadline
        When to leave it as it is by then.
    """
    balancer = _LoadBalancer(problem, deadline)
    bins = [balancer.best(b) for b in packing.bins]
    balancer.level(bins)
    return Packing(tuple(bins))


@dataclass(frozen=True, eq=False)
class _Side:
    """Uncertain rows of one option, as shares of its capacity, shape (m, n_classes)."""

    share: FloatArray

    def fill(self, counts: IntArray) -> float:
        return float((self.share @ counts).max())


class _LoadBalancer:
    def __init__(self, problem: PackingProblem, deadline: Deadline) -> None:
        self.filler, self.deadline = BinFiller(problem), deadline
        self.problem = problem
        self.sides = [_Side(_uncertain(problem, o)) for o in range(len(problem.options))]
        self.peers = [self._peers(o) for o in range(len(problem.options))]

    def _peers(self, option: int) -> list[int]:
        """Options that a bin may change to: the same device and price, and no limit of their own."""
        own = self.problem.options[option]
        return [
            k
            for k, other in enumerate(self.problem.options)
            if k == option
            or (other.device, other.price, other.limit, own.limit) == (own.device, own.price, None, None)
        ]

    def fill(self, b: Bin) -> float:
        return self.sides[b.option].fill(b.counts)

    def best(self, b: Bin) -> Bin:
        """The bin with the option that it fills least."""
        for o in sorted(self.peers[b.option], key=lambda k: (self.sides[k].fill(b.counts), k != b.option)):
            if o == b.option or holds(self.filler, o, b.counts):
                return replace(b, option=o)
        return b

    def level(self, bins: list[Bin]) -> None:
        """Relieve the fullest bin, then the next where it cannot be relieved, as long as there is one."""
        fills = np.array([self.fill(b) for b in bins])
        stuck: set[int] = set()
        for _ in range(MOST_MOVES):
            open_ = [g for g in range(len(bins)) if g not in stuck]
            if len(open_) < 1 or len(bins) < 2 or self.deadline.reached:
                return
            fullest = max(open_, key=lambda g: (fills[g], -g))
            partner = self._relieve(bins, fills, fullest)
            if partner is None:
                stuck.add(fullest)
                continue
            stuck.discard(partner)

    def _relieve(self, bins: list[Bin], fills: FloatArray, full: int) -> int | None:
        """One exchange that leaves both bins below what the full one was; the other bin, or None."""
        for g in np.argsort(fills, kind="stable"):
            if fills[g] >= fills[full] * (1 - 1e-6):
                return None
            pair = self._exchange(bins[full], bins[g], float(fills[full]))
            if pair is not None:
                bins[full], bins[g] = pair
                fills[full], fills[g] = self.fill(pair[0]), self.fill(pair[1])
                return int(g)
        return None

    def _exchange(self, full: Bin, other: Bin, limit: float) -> tuple[Bin, Bin] | None:
        """The exchange of one item for at most one that makes the fuller of the two least full."""
        given = np.flatnonzero((full.counts > 0) & self.problem.options[other.option].fits_class)
        taken = np.flatnonzero((other.counts > 0) & self.problem.options[full.option].fits_class)
        if not len(given):
            return None
        first, second = self.sides[full.option].share, self.sides[other.option].share
        back_first = np.hstack([np.zeros((len(first), 1)), first[:, taken]])
        back_second = np.hstack([np.zeros((len(second), 1)), second[:, taken]])
        left = (first @ full.counts)[:, None, None] - first[:, given, None] + back_first[:, None, :]
        right = (second @ other.counts)[:, None, None] + second[:, given, None] - back_second[:, None, :]
        worst = np.maximum(left.max(axis=0), right.max(axis=0))
        for flat in np.argsort(worst, axis=None, kind="stable")[:TRIES]:
            i, j = np.unravel_index(flat, worst.shape)
            if worst[i, j] >= limit * (1 - 1e-6):
                return None
            pair = self._exchanged(full, other, int(given[i]), int(taken[j - 1]) if j else None)
            if pair is not None:
                return pair
        return None

    def _exchanged(self, full: Bin, other: Bin, given: int, taken: int | None) -> tuple[Bin, Bin] | None:
        """Both bins after an exchange, with their best options; None if one may not hold its items."""
        first, second = full.counts.copy(), other.counts.copy()
        first[given] -= 1
        second[given] += 1
        if taken is not None:
            first[taken] += 1
            second[taken] -= 1
        if not (first.any() and holds(self.filler, full.option, first)):
            return None
        if not holds(self.filler, other.option, second):
            return None
        return self.best(Bin(full.option, first)), self.best(Bin(other.option, second))


def _uncertain(problem: PackingProblem, option: int) -> FloatArray:
    """Rows that may be wrong, as shares of the capacity; a limit on the number of items cannot be."""
    chosen = problem.options[option]
    share = chosen.usage / np.where(chosen.capacity > 0, chosen.capacity, 1.0)[:, None]
    counts_items = np.ptp(chosen.usage, axis=1) == 0
    return share if counts_items.all() else share[~counts_items]
