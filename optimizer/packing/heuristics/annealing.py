# ruff: noqa: NPY002 (compiled code has numba's own generator, seeded by the legacy call)
"""Simulated annealing towards fewer bins: items move and swap until no bin is overfull.

The aggregate model says how many bins of each option there are at a price, and which items go to them in
all. Each option's items are dealt out evenly over its bins, and annealing on the total overflow looks for a
packing without any (for one row: Alvim, Ribeiro, Glover and Aloise, "A hybrid improvement heuristic for the
one-dimensional bin packing problem", 2004; annealing: Kirkpatrick et al., 1983).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np

from optimizer.packing.bounds.aggregate_relaxation import AggregateModel, AggregateSolution, LinearRelaxation
from optimizer.packing.heuristics.first_fit import BinFiller, holds, offer
from optimizer.packing.model.compilation import cached
from optimizer.packing.model.params import CoolingSchedule
from optimizer.packing.model.problem import Bin, FloatArray, IntArray
from optimizer.packing.model.search_state import SearchState, round_up
from optimizer.packing.model.step_costs import MOVE

BARRED = 1e3
"""Share of a bin that an item takes which may not enter it."""

EMPTY = 1e-9
"""Overflow that is none; the integer rows decide in the end."""


def anneal_to_bin_count(
    run: SearchState, filler: BinFiller, continuous: LinearRelaxation, seconds: float
) -> None:
    """Look for a plan at the run's bound, a little above it, then half the way to the plan there is."""
    if not 0 < continuous.bound < np.inf:  # items of no size, or no plan at all
        return
    until, model, params = run.until(seconds), AggregateModel(run.problem), run.params.annealing

    @cache
    def division(price: float) -> AggregateSolution | None:
        bins = continuous.bins * (price / continuous.bound)
        gap = run.params.bounds.division_gap
        share = params.division_share * min(seconds, run.left_s)
        return model.divide(price, bins, run.deadline.part(share), gap)

    # Each schedule begins at the bound, where most optima are, and then halves the way to the plan. A price
    # whose division opens bins that failed already is passed over.
    for schedule in params.schedules:
        target, failed, tried = run.bound, 0.0, set[bytes]()
        while run.packing is not None and not until() and failed < target < run.value * (1 - 1e-9):
            given, found = division(target), None
            if given is not None and given.bins.tobytes() not in tried:  # prices may be close
                tried.add(given.bins.tobytes())
                found = _packed(filler, given, schedule, run, until)
            if found is None or not offer(run, found):
                failed = target
            target = _next_target(run, failed)


def _next_target(run: SearchState, failed: float) -> float:
    """The price to try after the highest that failed: near the bound, as most optima are, then half way."""
    share = run.params.annealing.first_step if failed <= run.bound else 0.5
    return round_up(failed + share * (run.value - failed), run.problem)


def _packed(
    filler: BinFiller,
    division: AggregateSolution,
    schedule: CoolingSchedule,
    run: SearchState,
    until: Callable[[], bool],
) -> list[Bin] | None:
    """The items of a division in its bins; None if no such packing was found."""
    options = np.flatnonzero(division.bins)
    size = _sizes(filler, options)
    option = np.repeat(np.arange(len(options)), division.bins[options])
    item, place = dealt(division.items[options], division.bins[options], size)
    if not _without_overflow(run, item, place, option, size, schedule, until):
        return None
    counts = np.zeros((len(option), filler.problem.n_classes), dtype=np.int64)
    np.add.at(counts, (place, item), 1)
    bins = [Bin(int(options[o]), held) for o, held in zip(option, counts, strict=True)]
    return bins if all(holds(filler, b.option, b.counts) for b in bins) else None


def _without_overflow(
    run: SearchState,
    item: IntArray,
    place: IntArray,
    option: IntArray,
    size: FloatArray,
    schedule: CoolingSchedule,
    until: Callable[[], bool],
) -> bool:
    """Anneal ``place`` until no bin overflows; whether it came to that."""
    params = run.params.annealing
    moves = schedule.length * max(params.moves_per_item * len(item), params.least_moves)
    chunks = -(-moves // params.moves_per_look)
    # Cooling is geometric, in units of a mean item, so that one schedule suits items of any size.
    mean = float(size[item, option[place]].max(axis=1).mean())
    heat = mean * np.geomspace(schedule.hot, schedule.cold, chunks + 1)
    keys = np.random.SeedSequence(run.seed).generate_state((1 + params.retries) * chunks)
    for attempt in keys.reshape(-1, chunks):
        overflow = 0.0
        for k, key in enumerate(attempt):
            if until():
                return False
            run.deadline.work.add(MOVE * size.shape[2] * (moves // chunks))
            overflow = anneal(
                item, place, option, size, int(key), moves // chunks, heat[k], heat[k + 1],
                params.harmless_share,
            )  # fmt: skip
            if overflow < EMPTY:
                return True
        if overflow > params.retry_overflow:
            return False
    return False


def _sizes(filler: BinFiller, options: IntArray) -> FloatArray:
    """Share of each row that an item takes, shape (classes + 1, options, rows); the last one is nothing."""
    rows = [filler.problem.rows[o] for o in options]
    size = np.zeros((filler.problem.n_classes + 1, len(rows), max(len(r.capacity) for r in rows)))
    for k, r in enumerate(rows):
        size[:-1, k, : len(r.capacity)] = (r.usage / np.maximum(r.capacity, 1)[:, None]).T
        size[:-1, k][r.most == 0] = BARRED
    return size


@cached
def dealt(items: IntArray, bins: IntArray, size: FloatArray) -> tuple[IntArray, IntArray]:
    """Class and bin of every item, shape (N,): each option's items, largest first, to its emptiest bin.

    ``items`` has shape (options, classes), ``bins`` (options,), ``size`` (classes + 1, options, rows).
    """
    n, rows = items.sum(), size.shape[2]
    item, place = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    k, first = 0, 0
    for o in range(len(bins)):
        largest = np.zeros(items.shape[1])
        for c in range(items.shape[1]):
            for r in range(rows):
                largest[c] = max(largest[c], size[c, o, r])
        load = np.zeros((bins[o], rows))
        for c in np.argsort(-largest):
            for _ in range(items[o, c]):
                emptiest, least = 0, np.inf
                for g in range(bins[o]):
                    fullest = 0.0
                    for r in range(rows):
                        fullest = max(fullest, load[g, r] + size[c, o, r])
                    if fullest < least:
                        emptiest, least = g, fullest
                for r in range(rows):
                    load[emptiest, r] += size[c, o, r]
                item[k], place[k] = c, first + emptiest
                k += 1
        first += bins[o]
    return item, place


@cached
def anneal(
    item: IntArray,
    place: IntArray,
    option: IntArray,
    size: FloatArray,
    seed: int,
    moves: int,
    hot: float,
    cold: float,
    harmless: float,
) -> float:
    """Move and swap items between bins until none overflows; returns the overflow that is left.

    Parameters
    ----------
    item, place
        Class and bin of every item, shape (N,); ``place`` is changed.
    option
        Option of every bin, shape (bins,).
    size
        Share of each row that an item takes, shape (classes + 1, options, rows); the last one is nothing.
    seed, moves
        Seed, and moves to try.
    hot, cold
        Temperature at the start and at the end, in shares of a bin.
    harmless
        Share of the moves between two bins without overflow that are tried.
    """
    np.random.seed(seed)
    n, bins, rows = len(item), len(option), size.shape[2]
    nothing = len(size) - 1
    load, over = np.zeros((bins, rows)), np.zeros(bins)
    for k in range(n):
        for r in range(rows):
            load[place[k], r] += size[item[k], option[place[k]], r]
    total = 0.0
    for g in range(bins):
        for r in range(rows):
            over[g] += max(0.0, load[g, r] - 1.0)
        total += over[g]
    # Geometric cooling: the same factor at every move, so that each order of magnitude gets equally many.
    cooling, temperature = (cold / hot) ** (1.0 / moves), hot
    for _ in range(moves):
        if total < EMPTY:
            return 0.0
        temperature *= cooling
        # One move in five sends an item over without another in exchange.
        i, j = np.random.randint(n), np.random.randint(n + n // 4 + 1)
        swap = j < n
        g, h = place[i], place[j] if swap else np.random.randint(bins)
        c, d = item[i], item[j] if swap else nothing
        if g == h or c == d:
            continue
        # The penalty is the total overflow, so a move between two bins without any cannot lower it. Few are
        # tried, as they let the rest of the items mix.
        if over[g] == 0.0 and over[h] == 0.0 and np.random.random() > harmless:
            continue
        a, b = option[g], option[h]
        over_g = over_h = 0.0
        for r in range(rows):
            over_g += max(0.0, load[g, r] - size[c, a, r] + size[d, a, r] - 1.0)
            over_h += max(0.0, load[h, r] + size[c, b, r] - size[d, b, r] - 1.0)
        rise = over_g + over_h - over[g] - over[h]
        if rise <= 0.0 or np.random.random() < np.exp(-rise / temperature):
            for r in range(rows):
                load[g, r] += size[d, a, r] - size[c, a, r]
                load[h, r] += size[c, b, r] - size[d, b, r]
            over[g], over[h] = over_g, over_h
            place[i] = h
            if swap:
                place[j] = g
            total += rise
    return total
