"""Compiled inner loops of the heuristics: fill one bin, best-fit over many."""

from __future__ import annotations

import numpy as np

from optimizer.packing.model.compilation import cached, compiled
from optimizer.packing.model.matching import room_by_cut
from optimizer.packing.model.problem import BoolArray, FloatArray, IntArray


@compiled
def room_by_rows(c: int, usage: IntArray, residual: IntArray) -> int:
    """How many more items of class c a bin takes by its rows."""
    room = 1 << 60
    for r in range(usage.shape[0]):
        if usage[r, c] > 0:
            room = min(room, residual[r] // usage[r, c])
    return room


@compiled
def room_for(
    c: int,
    usage: IntArray,
    residual: IntArray,
    counts: IntArray,
    requirements: IntArray,
    class_group: IntArray,
    compatible: BoolArray,
) -> int:
    """How many more items of class c a bin takes, by its rows and by its cuts."""
    room = room_by_rows(c, usage, residual)
    for k in range(len(requirements)):
        if room <= 0:
            return 0
        room = room_by_cut(c, room, counts, requirements[k], class_group[k], compatible[k])
    return max(0, room)


@cached
def fill(
    order: IntArray,
    remaining: IntArray,
    most: IntArray,
    usage: IntArray,
    capacity: IntArray,
    counts: IntArray,
    requirements: IntArray,
    class_group: IntArray,
    compatible: BoolArray,
) -> IntArray:
    """Add as many items as fit to a bin, class by class in the order given; returns what was added."""
    held = counts.copy()
    added = np.zeros(len(held), dtype=np.int64)
    residual = capacity.copy()
    for c in range(len(held)):
        if held[c] > 0:
            for r in range(len(residual)):
                residual[r] -= usage[r, c] * held[c]
    for c in order:
        if remaining[c] <= 0 or most[c] <= held[c]:
            continue
        amount = min(
            remaining[c],
            most[c] - held[c],
            room_for(c, usage, residual, held, requirements, class_group, compatible),
        )
        if amount > 0:
            held[c] += amount
            added[c] += amount
            for r in range(len(residual)):
                residual[r] -= usage[r, c] * amount
    return added


@cached
def polish(
    profit: FloatArray,
    most: IntArray,
    usage: IntArray,
    capacity: IntArray,
    counts: IntArray,
    requirements: IntArray,
    class_group: IntArray,
    compatible: BoolArray,
) -> None:
    """Swap single items of a bin for more profitable ones while one fits, the best swap each time.

    Where classes are many, some swap takes up nearly exactly what the bin has left.
    """
    m, n = usage.shape
    residual = capacity.copy()
    for c in range(n):
        for r in range(m):
            residual[r] -= usage[r, c] * counts[c]
    improved = True
    while improved:
        improved = False
        gain, out, into = 1e-9, 0, 0
        for c in range(n):
            if counts[c] == 0:
                continue
            counts[c] -= 1  # cuts must see the bin without the item that goes
            for d in range(n):
                if profit[d] - profit[c] <= gain or counts[d] >= most[d]:
                    continue
                fits = True
                for r in range(m):
                    fits = fits and usage[r, d] <= residual[r] + usage[r, c]
                if not fits:  # matching is asked last, as it takes longest
                    continue
                for k in range(len(requirements)):
                    room = room_by_cut(d, 1, counts, requirements[k], class_group[k], compatible[k])
                    fits = fits and room > 0
                if fits:
                    gain, out, into = profit[d] - profit[c], c, d
                    improved = True
            counts[c] += 1
        if improved:
            counts[out] -= 1
            counts[into] += 1
            for r in range(m):
                residual[r] += usage[r, out] - usage[r, into]


@cached
def best_fit(
    order: IntArray,
    remaining: IntArray,
    most: IntArray,
    usage: IntArray,
    capacity: IntArray,
    held: IntArray,
    residual: IntArray,
    bins: int,
    requirements: IntArray,
    class_group: IntArray,
    compatible: BoolArray,
) -> tuple[IntArray, IntArray, int]:
    """Pack the items of some classes into bins of one kind, each class into the fullest that take it first.

    Parameters
    ----------
    order
        The classes.
    held, residual, bins
        Counts and room per bin, shapes (room for bins, n_classes) and (room for bins, m), and how many bins
        there are. They are written to, and returned: with more room where that was needed, and with -1 bins
        if a class does not fit an empty one.
    """
    m, n = usage.shape
    for c in order:
        left = remaining[c]
        if left == 0:
            continue
        # The fullest bins are those with the least room over all rows together, in shares of their capacity.
        # A class fills one after the other, so one sort per class is enough.
        slack = np.zeros(bins)
        for g in range(bins):
            for r in range(m):
                slack[g] += residual[g, r] / max(1, capacity[r])
        for g in np.argsort(slack):
            amount = min(
                left, most[c] - held[g, c],
                room_for(c, usage, residual[g], held[g], requirements, class_group, compatible),
            )  # fmt: skip
            if amount > 0:
                held[g, c] += amount
                left -= amount
                for r in range(m):
                    residual[g, r] -= usage[r, c] * amount
            if left == 0:
                break
        while left > 0:
            if bins == len(held):  # doubled, so that copies are few
                held = np.concatenate((held, np.zeros((bins, n), dtype=np.int64)))
                residual = np.concatenate((residual, np.zeros((bins, m), dtype=np.int64)))
            for r in range(m):
                residual[bins, r] = capacity[r]
            amount = min(
                left,
                most[c],
                room_for(c, usage, residual[bins], held[bins], requirements, class_group, compatible),
            )
            if amount <= 0:
                return held, residual, -1
            held[bins, c] = amount
            left -= amount
            for r in range(m):
                residual[bins, r] -= usage[r, c] * amount
            bins += 1
    return held, residual, bins
