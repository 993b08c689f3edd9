"""Compiled inner loops on single items, each with what it takes itself: for items that are only alike."""

from __future__ import annotations

import numpy as np

from optimizer.packing.model.compilation import cached
from optimizer.packing.model.problem import BoolArray, FloatArray, IntArray

FULL = 1.0 + 1e-9
"""Share of a row up to which a bin is not overfull."""


@cached
def deal(
    order: IntArray, group: IntArray, slots: IntArray, usage: FloatArray, mean: FloatArray, option: IntArray
) -> IntArray:
    """Items dealt to bins that want so many of each group, so that each bin's loads come near the means.

    The heaviest items come first. One above the average goes to the bin that is furthest below what its items
    should take, one below it to the bin that is furthest above.

    Parameters
    ----------
    order
        The items, group by group, the heaviest first.
    group
        Group of each item, shape (n_items,).
    slots
        Items wanted per bin and group, shape (n_bins, n_groups).
    usage, mean
        What an item, and an item of a group on average, takes of an option's rows, as shares, shapes
        (n_options, n_items, m) and (n_options, n_groups, m).
    option
        Option of each bin.

    Returns
    -------
    numpy.ndarray
        Bin of each item, -1 where no bin wants it.
    """
    place = np.full(len(group), -1)
    free, above = slots.copy(), np.zeros((len(slots), usage.shape[2]))
    for i in order:
        g, best, least = group[i], -1, np.inf
        for b in range(len(slots)):
            if free[b, g] > 0:
                more = (usage[option[b], i] - mean[option[b], g]).sum()
                value = above[b].max() if more > 0.0 else -above[b].max()
                if value < least:
                    best, least = b, value
        if best >= 0:
            place[i] = best
            free[best, g] -= 1
            above[best] += usage[option[best], i] - mean[option[best], g]
    return place


@cached
def place_items(
    items: IntArray, usage: FloatArray, option: IntArray, load: FloatArray, ceiling: FloatArray, even: bool
) -> IntArray:
    """Items put one by one into bins that take them; ``load`` is kept up to date.

    Parameters
    ----------
    items
        The items in order.
    usage
        What an item takes of an option's rows, as shares, shape (n_options, n_items, m).
    option, load
        Option, and share of each row that is taken, of each bin, shapes (n_bins,) and (n_bins, m).
    ceiling
        Share of its rows up to which each bin may be filled, shape (n_bins, m); first below 0: it is given
        nothing.
    even
        Whether an item goes to the bin that is left with most room below its ceiling, or to the fullest.

    Returns
    -------
    numpy.ndarray
        Bin of each of the items, -1 where none takes it.
    """
    place = np.full(len(items), -1)
    rows = load.shape[1]
    for k in range(len(items)):
        best, most = -1, -np.inf
        for b in range(len(option)):
            if ceiling[b, 0] < 0.0:
                continue
            fits, total, room = True, 0.0, np.inf
            for r in range(rows):
                value = load[b, r] + usage[option[b], items[k], r]
                total += value
                room = min(room, ceiling[b, r] - value)
                if value > ceiling[b, r]:
                    fits = False
                    break
            worth = room if even else total
            if fits and worth > most:
                best, most = b, worth
        if best >= 0:
            place[k] = best
            load[best] += usage[option[best], items[k]]
    return place


@cached
def fill_items(items: IntArray, usage: FloatArray, upto: float) -> BoolArray:
    """Which of some items one bin takes, tried in order; usage as shares, shape (n_items, m)."""
    taken = np.zeros(len(items), dtype=np.bool_)
    load = np.zeros(usage.shape[1])
    for k in range(len(items)):
        fits = True
        for r in range(len(load)):
            if load[r] + usage[items[k], r] > upto:
                fits = False
                break
        if fits or (not taken.any() and usage[items[k]].max() <= FULL):
            taken[k] = True
            load += usage[items[k]]
    return taken
