"""Items exchanged between bins until their loads are even, and plans made in this way.

The load of a bin is the largest of some planes over its items: for `spread` the pieces of its latency, for
`balance_load` the shares of its rows. A loaded bin is relieved by the exchange of one item for at most one
of a less loaded bin. The two searches share what an exchange is, and differ in which one they take. `spread`
takes the first that helps, of all there are: with the best of a few it ended 1 % worse on a shipped scenario.
`balance_load` takes the best of a few, as the twin waits for it in every round of the cut loop.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from optimizer.packing.heuristics.first_fit import BinFiller, first_fit, holds, offer
from optimizer.packing.heuristics.open_bins import OpenBins
from optimizer.packing.model.options import BinLimits
from optimizer.packing.model.params import DEFAULTS, LocalSearchParams
from optimizer.packing.model.problem import Bin, FloatArray, IntArray, Packing, PackingOption, PackingProblem
from optimizer.packing.model.search_state import SearchState
from scenarios import UNLIMITED, Deadline


@dataclass(frozen=True, eq=False)
class Planes:
    """The load of a bin of one option: the largest of ``slopes @ counts + offset``.

    Shapes (p, n_classes) and (p,).
    """

    slopes: FloatArray
    offset: FloatArray

    def __call__(self, counts: IntArray) -> FloatArray:
        """Value of each plane."""
        return np.asarray(self.slopes @ counts + self.offset)


@dataclass(frozen=True, eq=False)
class Exchanges:
    """Exchanges of items between bins that lower their loads.

    Parameters
    ----------
    filler
        The problem; its rows and cuts are kept.
    planes
        The load of a bin, by option.
    late
        Asked before every try: whether to stop.
    total
        Whether an exchange must lower the sum of both loads, or the larger one.
    tries
        How many exchanges between the same two bins are tried, the best first; None: all, in any order.
    tolerance
        Relative improvement that is none.
    settled
        What becomes of a bin after an exchange; None where that may not be.
    """

    filler: BinFiller
    planes: Sequence[Planes]
    late: Callable[[], bool]
    total: bool = False
    tries: int | None = None
    tolerance: float = 1e-9
    settled: Callable[[Bin], Bin | None] = lambda b: b

    def load(self, b: Bin) -> float:
        """Load of a bin."""
        return float(self.planes[b.option](b.counts).max())

    def relieve(self, bins: list[Bin], loads: FloatArray, full: int) -> int | None:
        """One exchange between a bin and a less loaded one that helps; the other bin, or None."""
        for g in np.argsort(loads, kind="stable"):
            if loads[g] >= loads[full] * (1 - self.tolerance) or self.late():
                return None
            limit = loads[full] + loads[g] if self.total else loads[full]
            pair = self._exchange(bins[full], bins[g], limit * (1 - self.tolerance))
            if pair is not None:
                bins[full], bins[g] = pair
                loads[full], loads[g] = self.load(pair[0]), self.load(pair[1])
                return int(g)
        return None

    def _exchange(self, full: Bin, other: Bin, limit: float) -> tuple[Bin, Bin] | None:
        """An exchange of one item for at most one after which the loads are below a limit."""
        options = self.filler.problem.options
        given = np.flatnonzero((full.counts > 0) & options[other.option].fits_class)
        taken = np.flatnonzero((other.counts > 0) & options[full.option].fits_class)
        # All exchanges at once: axes are planes, items given, and items taken, of which the first is none.
        first, second = self.planes[full.option], self.planes[other.option]
        back_first = np.hstack([np.zeros((len(first.slopes), 1)), first.slopes[:, taken]])
        back_second = np.hstack([np.zeros((len(second.slopes), 1)), second.slopes[:, taken]])
        left = first(full.counts)[:, None, None] - first.slopes[:, given, None] + back_first[:, None, :]
        right = second(other.counts)[:, None, None] + second.slopes[:, given, None] - back_second[:, None, :]
        loads = (np.add if self.total else np.maximum)(left.max(axis=0), right.max(axis=0)).ravel()
        order = np.arange(loads.size)
        if self.tries is not None:
            order = np.argsort(loads, kind="stable")[: self.tries]
        # Whether both bins hold their new items is asked last, as it takes longest.
        for i, j in zip(*np.divmod(order[loads[order] < limit], 1 + len(taken)), strict=True):
            if self.late():
                return None
            pair = self._exchanged(full, other, int(given[i]), int(taken[j - 1]) if j else None)
            if pair is not None:
                return pair
        return None

    def _exchanged(self, full: Bin, other: Bin, given: int, taken: int | None) -> tuple[Bin, Bin] | None:
        """Both bins after an exchange; None if one may not hold its items."""
        first, second = full.counts.copy(), other.counts.copy()
        first[given] -= 1
        second[given] += 1
        if taken is not None:
            first[taken] += 1
            second[taken] -= 1
        if not (holds(self.filler, full.option, first) and holds(self.filler, other.option, second)):
            return None
        left, right = self.settled(Bin(full.option, first)), self.settled(Bin(other.option, second))
        return None if left is None or right is None else (left, right)


def balance_load(
    problem: PackingProblem,
    packing: Packing,
    deadline: Deadline = UNLIMITED,
    params: LocalSearchParams = DEFAULTS.local_search,
) -> Packing:
    """A packing of equal price whose fullest bins are less full.

    Among plans with equally many GPUs the most even one leaves each GPU the most room, which costs nothing by
    the linear rows: latencies fall, and the twin, which the rows only approximate, rejects fewer.

    Parameters
    ----------
    problem
        Its rows, cuts and prices; the objective is not looked at.
    packing
        Where to start; every bin keeps its device and price.
    deadline
        When to leave it as it is by then.
    params
        How long to search.
    """
    filler, planes = BinFiller(problem), [_shares(option) for option in problem.options]
    peers = _peers(problem)

    def best(b: Bin) -> Bin | None:
        """The bin with the option that it fills least; None if it is empty."""
        choice = sorted(peers[b.option], key=lambda o: (planes[o](b.counts).max(), o != b.option))
        chosen = next(o for o in choice if o == b.option or holds(filler, o, b.counts))
        return Bin(chosen, b.counts) if b.counts.any() else None

    exchanges = Exchanges(
        filler, planes, lambda: deadline.reached, tries=params.tries, tolerance=1e-6, settled=best
    )
    bins = [best(b) or b for b in packing.bins]
    loads = np.array([exchanges.load(b) for b in bins])
    stuck: set[int] = set()
    # The fullest bin first, then the next where that one cannot be relieved.
    for _ in range(params.exchanges):
        movable = [g for g in range(len(bins)) if g not in stuck]
        if not movable or len(bins) < 2 or deadline.reached:
            break
        fullest = max(movable, key=lambda g: (loads[g], -g))
        partner = exchanges.relieve(bins, loads, fullest)
        if partner is None:
            stuck.add(fullest)
        else:
            stuck.discard(partner)
    return Packing(tuple(bins))


def _shares(option: PackingOption) -> Planes:
    """Rows that may be wrong, as shares of the capacity; a limit on the number of items cannot be."""
    share = option.usage / np.where(option.capacity > 0, option.capacity, 1.0)[:, None]
    counts_items = option.counting_rows
    uncertain = share if counts_items.all() else share[~counts_items]
    return Planes(uncertain, np.zeros(len(uncertain)))


def _peers(problem: PackingProblem) -> list[list[int]]:
    """Options that a bin of each option may change to: same device and price, and no limit of their own."""
    kinds = [(o.device, o.price, None if o.limit is None else k) for k, o in enumerate(problem.options)]
    return [[k for k, other in enumerate(kinds) if other == kind] for kind in kinds]


def place_spread(run: SearchState) -> None:
    """`spread`: the least worst or mean latency over a number of bins, by heuristic.

    Items are dealt over the bins, or packed by first-fit where that fails, then exchanged.
    """
    filler, problem, mean = BinFiller(run.problem), run.problem, run.problem.objective == "mean"
    planes = [
        Planes(o.latency_usage, o.latency_offset)
        for o in problem.options
        if o.latency_usage is not None and o.latency_offset is not None
    ]
    exchanges, params = Exchanges(filler, planes, lambda: run.out_of_time, mean), run.params.local_search
    for order in filler.orders:
        if run.done:
            return
        bins = _deal(run, filler, order)
        if bins is None:
            bins = first_fit(filler, order, problem.counts, BinLimits(problem), late=lambda: run.out_of_time)
        if bins is not None:
            _improve(exchanges, bins, params.exchanges, params.slowest_bins if mean else 1)
            offer(run, bins)


def _improve(exchanges: Exchanges, bins: list[Bin], steps: int, slowest: int) -> None:
    """Exchange items of the slowest bins for faster ones' while the objective falls."""
    loads = np.array([exchanges.load(b) for b in bins])
    for _ in range(steps):
        slow = np.argsort(-loads, kind="stable")[:slowest]
        if all(exchanges.relieve(bins, loads, int(g)) is None for g in slow):
            return


def _deal(run: SearchState, filler: BinFiller, order: IntArray) -> list[Bin] | None:
    """Deal all items over the bins given; None if an item finds no bin, or the time is over.

    Items go, heaviest first, one class after the other to the bin where the objective rises least
    (longest-processing-time-first, Graham 1969), each bin under the option that is fastest for what it holds.
    """
    problem = filler.problem
    assert problem.max_bins is not None
    bins: list[Bin | None] = [None] * min(problem.max_bins, problem.n_items)
    opened = OpenBins(filler, filler.options)
    for c in order:
        left = int(problem.counts[c])
        piece = max(1, left // (len(bins) * run.params.local_search.dealt_pieces))
        while left > 0:
            if run.out_of_time:
                return None
            amount = min(piece, left)
            placed = _best_place(opened, bins, int(c), amount)
            if placed is None:
                if piece == 1:
                    return None
                piece = 1
                continue
            g, after = placed
            before = bins[g]
            if before is not None:
                opened.give(before.option)
            opened.take(after.option)
            bins[g] = after
            left -= amount
    return [b for b in bins if b is not None]


def _best_place(opened: OpenBins, bins: Sequence[Bin | None], c: int, amount: int) -> tuple[int, Bin] | None:
    """The bin where the objective rises least with the items; one empty bin stands for all."""
    problem = opened.problem
    best, least = None, float("inf")
    empty_seen = False
    for g, b in enumerate(bins):
        if b is None and empty_seen:
            continue
        empty_seen |= b is None
        counts = np.zeros_like(problem.counts) if b is None else b.counts.copy()
        counts[c] += amount
        if b is not None:
            opened.give(b.option)
        option = opened.fastest(counts)
        if b is not None:
            opened.take(b.option)
        if option is None:
            continue
        rise = problem.options[option].latency(counts)
        if problem.objective == "mean":
            rise -= problem.idle_latency if b is None else problem.options[b.option].latency(b.counts)
        if rise < least:
            best, least = (g, Bin(option, counts)), rise
    return best
