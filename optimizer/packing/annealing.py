# ruff: noqa: NPY002 (compiled code has numba's own generator, seeded by the legacy call)
"""Simulated annealing towards fewer bins: items move and swap until no bin is overfull.

Some bins are given up and their items pushed into the others, which may overflow; annealing on the total
overflow then looks for a packing without any (for one row: Alvim, Ribeiro, Glover and Aloise, "A hybrid
improvement heuristic for the one-dimensional bin packing problem", 2004; annealing: Kirkpatrick et al.,
1983). A bin may change its option for another of the same price, so its overflow is that of the option
that holds its items best.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from optimizer.packing.compiled import compiled
from optimizer.packing.firstfit import Filler, holds, offer
from optimizer.packing.outcome import Run, round_up
from optimizer.packing.problem import Bin, BoolArray, FloatArray, IntArray

MOVES_PER_ITEM = 8_000
"""Moves that one annealing tries for every item, at most."""

FEWEST, MOST = 500_000, 40_000_000
"""Bounds of moves times rows of all options."""

HOT, COLD = 0.1, 0.001
"""Overflow, in mean items, that is accepted about every third time: at the start and at the end."""

BARRED = 1e3
"""Share of a bin that an item takes which may not enter it."""

EMPTY = 1e-9
"""Overflow that is none; the integer rows decide in the end."""


def squeeze(run: Run, filler: Filler, bound: float, seconds: float) -> None:
    """Improve the run's plan by giving bins up: all beyond a bound, else half of them, and so on."""
    until = time.monotonic() + seconds
    target, failed = round_up(bound, run.problem), 0.0
    while run.packing is not None and not run.done and time.monotonic() < until:
        bins = list(run.packing.bins)
        kept = _kept(run, filler, bins, target)
        price = float(run.problem.prices[[bins[g].option for g in kept]].sum())
        if price <= failed * (1 + 1e-9) or len(kept) == len(bins):
            return
        found = _without_overflow(filler, bins, kept, run.seed)
        if found is None or not offer(run, found):
            failed = price
        target = (failed + run.value) / 2


def _kept(run: Run, filler: Filler, bins: Sequence[Bin], price: float) -> list[int]:
    """The heaviest bins of so much price in all."""
    prices = run.problem.prices[[b.option for b in bins]]
    weight = np.array([filler.weights @ b.counts for b in bins]) / prices
    order = np.argsort(-weight, kind="stable")
    within = np.cumsum(prices[order]) <= price * (1 + 1e-9)
    return sorted(order[within].tolist())


def _without_overflow(
    filler: Filler, bins: Sequence[Bin], kept: Sequence[int], seed: int
) -> list[Bin] | None:
    """The items of all bins in those that are kept; None if no such packing was found."""
    alike = {o: _alternatives(filler, o) for o in {bins[g].option for g in kept}}
    options = sorted({o for others in alike.values() for o in others})
    size = _sizes(filler, options)
    may = np.array([np.isin(options, alike[bins[g].option]) for g in kept])
    held = np.array([bins[g].counts for g in kept])
    classes = np.arange(filler.problem.n_classes)
    item = np.concatenate([np.repeat(classes, counts) for counts in held])
    place = np.repeat(np.arange(len(kept)), held.sum(axis=1))
    homeless = np.repeat(classes, filler.problem.counts - held.sum(axis=0))
    item, place = np.concatenate([item, homeless]), np.concatenate([place, np.full(len(homeless), -1)])
    largest = np.where(size < BARRED, size, 0.0).max(axis=(1, 2))
    mean = float(largest[item].mean())
    rows = size.shape[1] * size.shape[2]
    moves = int(np.clip(MOVES_PER_ITEM * len(item), FEWEST / rows, MOST / rows))
    if anneal(item, place, size, may, seed, moves, HOT * mean, COLD * mean) > 0:
        return None
    counts = np.zeros((len(kept), len(classes)), dtype=np.int64)
    np.add.at(counts, (place, item), 1)
    packed = [_settled(filler, row, alike[bins[g].option]) for g, row in zip(kept, counts, strict=True)]
    settled = [b for b in packed if b is not None]
    return settled if len(settled) == len(packed) else None


def _alternatives(filler: Filler, option: int) -> list[int]:
    """Options that a bin may change to: of the same device and price, without a limit of their own."""
    options = filler.problem.options
    mine = options[option]
    if mine.limit is not None:
        return [option]
    alike = [
        o
        for o in filler.options
        if options[o].limit is None and (options[o].device, options[o].price) == (mine.device, mine.price)
    ]
    return alike or [option]


def _sizes(filler: Filler, options: Sequence[int]) -> FloatArray:
    """Share of each row that an item takes, shape (classes + 1, options, rows); the last one is nothing."""
    rows = [filler.problem.rows[o] for o in options]
    size = np.zeros((filler.problem.n_classes + 1, len(rows), max(len(r.capacity) for r in rows)))
    for k, r in enumerate(rows):
        size[:-1, k, : len(r.capacity)] = (r.usage / np.maximum(r.capacity, 1)[:, None]).T
        size[:-1, k][r.most == 0] = BARRED
    return size


def _settled(filler: Filler, counts: IntArray, options: Sequence[int]) -> Bin | None:
    """The items as a bin of the first option that holds them; None where a cut forbids them in all."""
    fitting = (o for o in options if holds(filler, o, counts))
    chosen = next(fitting, None)
    return None if chosen is None else Bin(chosen, counts)


@compiled
def overflow_of(load: FloatArray, g: int, change: FloatArray, sign: float, may: BoolArray) -> float:
    """Overflow of bin g when ``sign * change`` is added, under the option that holds it best.

    ``load`` has shape (bins, options, rows), ``change`` (options, rows), ``may`` (bins, options).
    """
    least = np.inf
    for o in range(load.shape[1]):
        if may[g, o]:
            over = 0.0
            for r in range(load.shape[2]):
                over += max(0.0, load[g, o, r] + sign * change[o, r] - 1.0)
            least = min(least, over)
            if least == 0.0:
                break
    return least


@compiled
def add(load: FloatArray, g: int, change: FloatArray, sign: float) -> None:
    """Add ``sign * change`` to the load of bin g."""
    for o in range(load.shape[1]):
        for r in range(load.shape[2]):
            load[g, o, r] += sign * change[o, r]


@compiled
def insert(load: FloatArray, size: FloatArray, may: BoolArray) -> int:
    """The bin that overflows least, then is least full, with an item of this size; it is added there."""
    best, least = 0, np.inf
    for g in range(len(load)):
        over = overflow_of(load, g, size, 1.0, may) + 1e-3 * load[g, 0, 0]
        if over < least:
            best, least = g, over
    add(load, best, size, 1.0)
    return best


@compiled
def anneal(
    item: IntArray,
    place: IntArray,
    size: FloatArray,
    may: BoolArray,
    seed: int,
    moves: int,
    hot: float,
    cold: float,
) -> float:
    """Move and swap items between bins until none overflows; returns the overflow that is left.

    Parameters
    ----------
    item, place
        Class and bin of every item, shape (N,); a bin of -1 is chosen here. ``place`` is changed.
    size
        Share of each row that an item takes, shape (classes, options, rows); a last class of nothing.
    may
        Options that each bin may have, shape (bins, options).
    seed, moves
        Seed, and moves to try.
    hot, cold
        Temperature at the start and at the end, in shares of a bin.
    """
    np.random.seed(seed)
    n, bins = len(item), len(may)
    nothing = len(size) - 1
    load, over = np.zeros((bins, size.shape[1], size.shape[2])), np.zeros(bins)
    for k in range(n):
        if place[k] >= 0:
            add(load, place[k], size[item[k]], 1.0)
    for k in range(n):
        if place[k] < 0:
            place[k] = insert(load, size[item[k]], may)
    total = 0.0
    for g in range(bins):
        over[g] = overflow_of(load, g, size[nothing], 1.0, may)
        total += over[g]
    change = np.zeros((size.shape[1], size.shape[2]))
    cooling, temperature = (cold / hot) ** (1.0 / moves), hot
    for _ in range(moves):
        if total < EMPTY:
            return 0.0
        temperature *= cooling
        i, j = np.random.randint(n), np.random.randint(n + n // 4 + 1)
        swap = j < n
        g, h = place[i], place[j] if swap else np.random.randint(bins)
        c, d = item[i], item[j] if swap else nothing
        if g == h or c == d:
            continue
        for o in range(change.shape[0]):
            for r in range(change.shape[1]):
                change[o, r] = size[c, o, r] - size[d, o, r]
        over_g = overflow_of(load, g, change, -1.0, may)
        over_h = overflow_of(load, h, change, 1.0, may)
        rise = over_g + over_h - over[g] - over[h]
        if rise <= 0.0 or np.random.random() < np.exp(-rise / temperature):
            add(load, g, change, -1.0)
            add(load, h, change, 1.0)
            over[g], over[h] = over_g, over_h
            place[i] = h
            if swap:
                place[j] = g
            total += rise
    return total
