"""`spread`: the least worst or mean latency over a number of bins, by heuristic.

Items go, heaviest first, one class after the other to the bin where the objective rises least
(longest-processing-time-first, Graham 1969), each bin under the option that is fastest for what it holds.
Then items move and swap between slow bins and faster ones while that helps.
"""

from __future__ import annotations

import numpy as np

from optimizer.packing.heuristics.first_fit import BinFiller, first_fit, holds, offer
from optimizer.packing.model.options import BinLimits
from optimizer.packing.model.problem import Bin, FloatArray, IntArray, PackingProblem
from optimizer.packing.model.search_state import SearchState

MOVES = 2_000
"""Most improving moves of one start."""

CHUNKS = 4
"""A class is dealt in pieces of 1/CHUNKS of a bin's even share, at least one item."""


def place_spread(run: SearchState) -> None:
    """Offer even spreads and first-fit plans, improved by moves."""
    filler, problem = BinFiller(run.problem), run.problem
    for order in filler.orders:
        if run.done:
            return
        spread = _deal(run, filler, order)
        if spread is None:
            spread = first_fit(
                filler, order, problem.counts, BinLimits(problem), late=lambda: run.out_of_time
            )
        if spread is not None:
            offer(run, _improve(run, filler, spread))


def _latency(problem: PackingProblem, option: int, counts: IntArray) -> float:
    return problem.options[option].latency(counts)


def _fastest(filler: BinFiller, counts: IntArray, stock: BinLimits) -> int | None:
    """The option of least latency that holds the items and may be opened; None if there is none."""
    best, least = None, float("inf")
    for o in filler.options:
        latency = _latency(filler.problem, o, counts)
        if latency < least and stock.available(o) > 0 and holds(filler, o, counts):
            best, least = o, latency
    return best


def _deal(run: SearchState, filler: BinFiller, order: IntArray) -> list[Bin] | None:
    """Deal all items over the bins given; None if an item finds no bin, or the time is over."""
    problem = filler.problem
    assert problem.max_bins is not None
    bins: list[Bin | None] = [None] * min(problem.max_bins, problem.n_items)
    stock = BinLimits(problem)
    for c in order:
        left = int(problem.counts[c])
        piece = max(1, left // (len(bins) * CHUNKS))
        while left > 0:
            if run.out_of_time:
                return None
            amount = min(piece, left)
            placed = _best_place(filler, bins, int(c), amount, stock)
            if placed is None:
                if piece == 1:
                    return None
                piece = 1
                continue
            g, bin_ = placed
            old = bins[g]
            if old is not None:
                stock.give(old.option)
            stock.take(bin_.option)
            bins[g] = bin_
            left -= amount
    return [b for b in bins if b is not None]


def _best_place(
    filler: BinFiller, bins: list[Bin | None], c: int, amount: int, stock: BinLimits
) -> tuple[int, Bin] | None:
    """The bin where the objective rises least with the items; one empty bin stands for all."""
    problem = filler.problem
    best, least = None, float("inf")
    empty_seen = False
    for g, b in enumerate(bins):
        if b is None and empty_seen:
            continue
        counts = np.zeros_like(problem.counts) if b is None else b.counts.copy()
        counts[c] += amount
        before = problem.idle_latency
        if b is None:
            empty_seen = True
            option = _fastest(filler, counts, stock)
        else:
            before = _latency(problem, b.option, b.counts)
            stock.give(b.option)
            option = _fastest(filler, counts, stock)
            stock.take(b.option)
        if option is None:
            continue
        rise = _latency(problem, option, counts) - (before if problem.objective == "mean" else 0.0)
        if rise < least:
            best, least = (g, Bin(option, counts)), rise
    return best


def _improve(run: SearchState, filler: BinFiller, bins: list[Bin]) -> list[Bin]:
    """Move and swap single items away from slow bins while the objective falls."""
    problem = run.problem
    for _ in range(MOVES):
        latency = np.array([_latency(problem, b.option, b.counts) for b in bins])
        slowest = np.argsort(-latency, kind="stable")[: 1 if problem.objective == "worst" else 4]
        if run.out_of_time or not any(_relieve(run, filler, bins, int(g), latency) for g in slowest):
            break
    return bins


def _relieve(run: SearchState, filler: BinFiller, bins: list[Bin], slow: int, latency: FloatArray) -> bool:
    """Make the first move or swap between the slow bin and a faster one that helps; whether there was one."""
    worst = run.problem.objective == "worst"
    source = bins[slow]
    for fast in np.argsort(latency, kind="stable"):
        if latency[fast] >= latency[slow]:
            return False
        target = bins[fast]
        before = latency[slow] if worst else latency[slow] + latency[fast]
        for c in np.flatnonzero(source.counts):
            if run.out_of_time:
                return False
            for d in (-1, *np.flatnonzero(target.counts)):
                give, take = _exchanged(source.counts, target.counts, int(c), int(d))
                first = _latency(run.problem, source.option, give)
                second = _latency(run.problem, target.option, take)
                if (max(first, second) if worst else first + second) >= before * (1 - 1e-9):
                    continue
                if holds(filler, source.option, give) and holds(filler, target.option, take):
                    bins[slow], bins[int(fast)] = Bin(source.option, give), Bin(target.option, take)
                    return True
    return False


def _exchanged(source: IntArray, target: IntArray, c: int, d: int) -> tuple[IntArray, IntArray]:
    """Both bins after an item of class c went over, and one of class d (-1: none) came back."""
    give, take = source.copy(), target.copy()
    give[c] -= 1
    take[c] += 1
    if d >= 0:
        give[d] += 1
        take[d] -= 1
    return give, take
