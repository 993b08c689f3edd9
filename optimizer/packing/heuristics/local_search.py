"""Local search that empties bins: items of a bin are pushed into others, directly or by swaps.

The bin of least weight is the target. An item leaves it for another bin if it fits there, or if one
smaller item of that bin comes back in exchange, so that the target gets lighter. A bin that is emptied
is closed. Then a few bins are opened up at random and filled anew (ruin and recreate, Schrimpf et al.
2000), which leads out of plans that no swap improves.
"""

from __future__ import annotations

import numpy as np

from optimizer.packing.bounds.price_bounds import raise_bounds
from optimizer.packing.heuristics.annealing import anneal_to_bin_count
from optimizer.packing.heuristics.first_fit import (
    BinFiller,
    cheapest_options,
    first_fit,
    holds,
    offer,
    place_best_fit,
)
from optimizer.packing.model.options import BinLimits
from optimizer.packing.model.problem import Bin, IntArray
from optimizer.packing.model.search_state import SearchState


def place_local_search(run: SearchState) -> None:
    """`local`: best-fit decreasing, then local search for the time given."""
    if run.packing is None:
        place_best_fit(run)
    filler = BinFiller.of(run)
    params = run.params.local_search
    anneal_to_bin_count(run, filler, raise_bounds(run), params.annealing_share * run.left_s)
    improve(run, filler, min(run.left_s, params.longest_s))


def improve(run: SearchState, filler: BinFiller, seconds: float) -> None:
    """Improve the run's plan until time or rounds are over, or it is proven."""
    if run.packing is None:
        return
    rng = np.random.default_rng(np.random.SeedSequence(run.seed).spawn(2)[1])
    until, params = run.until(seconds), run.params.local_search
    current = list(run.packing.bins)
    for k in range(params.rounds):
        if until():
            return
        current = _refill(run, filler, current, rng)
        if len(current) <= params.swap_bins and k % params.swap_every == 0:
            current = _empty_lightest(run, filler, current)
        offer(run, current)


def _price(run: SearchState, bins: list[Bin]) -> float:
    return float(sum(run.problem.prices[b.option] for b in bins))


def _refill(run: SearchState, filler: BinFiller, bins: list[Bin], rng: np.random.Generator) -> list[Bin]:
    """Open up some bins, light ones rather, and pack their items again, first into the gaps of the others."""
    weight = np.array([filler.weights @ b.counts / run.problem.prices[b.option] for b in bins])
    params = run.params.local_search
    chance = np.exp(-params.lightness * (weight - weight.min()) / max(float(np.ptp(weight)), 1e-9))
    size = min(len(bins), params.opened_bins + int(rng.integers(params.more_opened_bins + 1)))
    opened = set(rng.choice(len(bins), size, replace=False, p=chance / chance.sum()).tolist())
    left = np.asarray(sum((bins[g].counts for g in opened), np.zeros_like(run.problem.counts)))
    noise = np.exp(rng.normal(0.0, params.noise, run.problem.n_classes))
    order = np.argsort(-filler.weights * noise, kind="stable")
    kept: list[Bin] = []
    stock = BinLimits(run.problem)
    for g, b in enumerate(bins):
        if g in opened:
            continue
        added = filler.fill(b.option, order, left, b.counts)
        if added.any():
            left = left - added
            b = Bin(b.option, b.counts + added)
        kept.append(b)
        stock.take(b.option)
    rest = first_fit(filler, order, left, stock) if left.any() else []
    if rest is None:
        return bins
    candidate = cheapest_options(filler, kept + rest, stock)
    return candidate if _price(run, candidate) <= _price(run, bins) + 1e-9 else bins


def _empty_lightest(run: SearchState, filler: BinFiller, bins: list[Bin]) -> list[Bin]:
    """Push the items of the lightest bin into the others, by moves and by swaps for lighter ones."""
    target = min(range(len(bins)), key=lambda g: float(filler.weights @ bins[g].counts))
    held = bins[target].counts.copy()
    others = [b for g, b in enumerate(bins) if g != target]
    moved = True
    while held.any() and moved:
        moved = False
        for c in sorted(np.flatnonzero(held).tolist(), key=lambda c: -filler.weights[c]):
            for g, b in enumerate(others):
                if run.out_of_time:
                    return [*others, Bin(bins[target].option, held)]
                swapped = _take_in(filler, b, c, bins[target].option, held)
                if swapped is not None:
                    others[g], held = swapped
                    moved = True
                    break
    return [*others, Bin(bins[target].option, held)] if held.any() else others


def _take_in(filler: BinFiller, b: Bin, c: int, option: int, held: IntArray) -> tuple[Bin, IntArray] | None:
    """Bin b with an item of class c out of the target, and what the target then holds; None if it cannot."""
    counts, rest = b.counts.copy(), held.copy()
    counts[c] += 1
    rest[c] -= 1
    if holds(filler, b.option, counts):
        return Bin(b.option, counts), rest
    lighter = np.flatnonzero((b.counts > 0) & (filler.weights < filler.weights[c] * (1 - 1e-9)))
    for d in lighter[np.argsort(filler.weights[lighter], kind="stable")]:
        counts[d] -= 1
        rest[d] += 1
        if holds(filler, b.option, counts) and holds(filler, option, rest):
            return Bin(b.option, counts), rest
        counts[d] += 1
        rest[d] -= 1
    return None
