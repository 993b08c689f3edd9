"""Compiled knapsacks: the most valuable bin of an option, with a bound when the search is cut short.

`table_knapsack` is the dynamic programme over one row of moderate capacity, with counts split into powers
of two. `tree_knapsack` is a branch and bound over several rows and cuts: depth first by efficiency, each
class from its most items down (Gilmore and Gomory 1963), bounded by the fractional knapsack of an
aggregated row (Martello and Toth, "Knapsack problems", 1990, chapters 2 and 3). An item enters only after
all items that are worth at least as much, and take no more of any row.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from optimizer.packing.heuristics.kernels import room_for
from optimizer.packing.model.compilation import compiled
from optimizer.packing.model.cuts import CutTable
from optimizer.packing.model.problem import BoolArray, FloatArray, IntArray
from optimizer.packing.model.scaling import ScaledRows


class Knapsack(NamedTuple):
    """A bounded knapsack of several rows and cuts, made ready for a search; a bin is one solution.

    Parameters
    ----------
    order
        Classes worth taking, by profit per load, shape (k,).
    profit, load, upper
        Of every class: worth of an item, what it takes of the aggregated row of capacity 1, most items.
    usage, capacity
        Rows of the option, shapes (m, n) and (m,).
    rivals
        Positions in ``order`` of classes that go before a class (`rivals_of`), shape (k, most rivals).
    requirements, class_group, compatible
        Cuts of the option (`optimizer.packing.model.cuts.CutTable`).
    """

    order: IntArray
    profit: FloatArray
    load: FloatArray
    upper: IntArray
    usage: IntArray
    capacity: IntArray
    rivals: IntArray
    requirements: IntArray
    class_group: IntArray
    compatible: BoolArray


def bounded_knapsack(
    profit: FloatArray,
    upper: IntArray,
    rows: ScaledRows,
    cuts: CutTable,
    measures: FloatArray,
    *,
    multiplier_rounds: int,
    rivals: int,
) -> Knapsack:
    """Make a knapsack ready.

    Parameters
    ----------
    profit, upper
        Worth of an item and most items, per class.
    rows, cuts
        Of the bin's option.
    measures
        As far as cuts are concerned, b may take the place of a if none of its measures is above a's.
    multiplier_rounds
        Rounds in which the weights of the rows are fitted (`row_multipliers`).
    rivals
        Most rivals of a class (`rivals_of`); 0: every bin is as good as one that dominates it.
    """
    rounds = 1 if len(rows.capacity) == 1 else multiplier_rounds
    weights = row_multipliers(profit, upper, rows.usage, rows.capacity, rounds)
    load = aggregated(rows.usage, rows.capacity, weights)
    order = by_efficiency(profit, upper, load)
    before = rivals_of(order, profit, rows.usage, measures, rivals)
    return Knapsack(order, profit, load, upper, rows.usage, rows.capacity, before, *cuts.arrays)


@compiled
def table_knapsack(
    profit: FloatArray, upper: IntArray, usage: IntArray, capacity: int
) -> tuple[IntArray, float]:
    """Exact best counts and value for one row; usage shape (n,)."""
    # Any number of items up to the limit is a sum of the multiples 1, 2, 4, ..., rest, so a class is a few
    # 0-1 items in place of as many as it has (Martello and Toth 1990, section 3.2).
    n = len(profit)
    classes, multiples = [], []
    for c in range(n):
        if profit[c] > 0 and usage[c] <= capacity:
            rest, step = upper[c], 1
            while rest > 0:
                take = min(step, rest)
                classes.append(c)
                multiples.append(take)
                rest -= take
                step *= 2
    # Capacities from the largest down, so that every multiple is taken once at most (Bellman 1957). What is
    # taken is kept by cell: the bin is read off on the way back.
    value = np.zeros(capacity + 1)
    taken = np.zeros((len(classes), capacity + 1), dtype=np.bool_)
    for i in range(len(classes)):
        weight, worth = usage[classes[i]] * multiples[i], profit[classes[i]] * multiples[i]
        for w in range(capacity, weight - 1, -1):
            if value[w - weight] + worth > value[w] + 1e-12:
                value[w] = value[w - weight] + worth
                taken[i, w] = True
    counts = np.zeros(n, dtype=np.int64)
    w = capacity
    for i in range(len(classes) - 1, -1, -1):
        if taken[i, w]:
            counts[classes[i]] += multiples[i]
            w -= usage[classes[i]] * multiples[i]
    return counts, value[capacity]


@compiled
def aggregated(usage: IntArray, capacity: IntArray, weight: FloatArray) -> FloatArray:
    """Share that an item of each class takes of the weighted sum of the rows, shape (n,)."""
    load = np.zeros(usage.shape[1])
    for r in range(len(capacity)):
        load += weight[r] * usage[r] / max(1, capacity[r])
    return load


@compiled
def row_multipliers(
    profit: FloatArray, upper: IntArray, usage: IntArray, capacity: IntArray, rounds: int
) -> FloatArray:
    """Weights of the rows, summing to 1, whose aggregated row bounds the knapsack tightly.

    Rows that the fractional solution overfills gain weight: by bisection where there are two, else by
    multiplicative updates.
    """
    # Every choice of weights gives a valid bound, and the least of these bounds is a surrogate dual: convex,
    # with the rows' overfill as its subgradient. A few rounds are enough, as the tree repairs a loose bound
    # with nodes, while each round costs a sort.
    m = len(capacity)
    weight = np.full(m, 1.0 / m)
    best = weight.copy()
    lowest, low, high = np.inf, 0.0, 1.0
    for k in range(rounds):
        load = aggregated(usage, capacity, weight)
        efficiency = np.where(upper > 0, profit / np.maximum(load, 1e-15), 0.0)
        room, value = 1.0, 0.0
        activity = np.zeros(m)
        for c in np.argsort(-efficiency):
            if efficiency[c] <= 0 or room <= 0:
                break
            amount = float(upper[c])
            if load[c] * amount > room:
                amount = room / load[c]
            room -= load[c] * amount
            value += profit[c] * amount
            for r in range(m):
                activity[r] += usage[r, c] * amount / max(1, capacity[r])
        if value < lowest:
            lowest = value
            best = weight.copy()
        if m == 2:  # the bound is convex in the one weight that is free
            if activity[0] > activity[1]:
                low = weight[0]
            else:
                high = weight[0]
            weight[0] = (low + high) / 2
            weight[1] = 1.0 - weight[0]
            continue
        step = 1.0 / (1.0 + 0.5 * k)
        total = 0.0
        for r in range(m):
            weight[r] *= np.exp(step * (activity[r] - 1.0))
            total += weight[r]
        weight /= total
    return best


@compiled
def by_efficiency(profit: FloatArray, upper: IntArray, load: FloatArray) -> IntArray:
    """Classes worth taking, by profit per load."""
    efficiency = np.where((upper > 0) & (profit > 0), profit / np.maximum(load, 1e-15), 0.0)
    return np.argsort(-efficiency)[: (efficiency > 0).sum()]


@compiled
def rivals_of(
    order: IntArray, profit: FloatArray, usage: IntArray, measures: FloatArray, number: int
) -> IntArray:
    """Positions of classes that go before a class, -1 where there are fewer, shape (n, number).

    Some optimal bin has an item of a class only if it has all items of each rival: a rival is worth at
    least as much, takes no more of any row, and is heavier by none of the ``measures``. The nearest are
    kept.
    """
    # An exchange argument: swapping an item for one of a rival keeps every row and cut and loses no value.
    # Of two classes that are alike the earlier goes before the later only, so no circle of rivals can bar
    # all optima. More rivals prune more but are asked at every node; the nearest prune nearly as much.
    rivals = np.full((len(order), number), -1)
    for i in range(len(order)):
        c, k = order[i], 0
        for j in range(i - 1, -1, -1):
            if k == number:
                break
            d = order[j]
            better = profit[d] >= profit[c]
            for w in range(measures.shape[1]):
                better = better and measures[d, w] <= measures[c, w]
            for r in range(usage.shape[0]):
                better = better and usage[r, d] <= usage[r, c]
            if better:
                rivals[i, k] = j
                k += 1
    return rivals


@compiled
def _must_wait(i: int, first: int, items: Knapsack, counts: IntArray) -> bool:
    """Whether a rival before position ``first`` is not used up."""
    # Only positions that are decided already count. A rival that is yet to come may still be used up, so
    # the bound must not leave the class out because of it.
    for k in range(items.rivals.shape[1]):
        j = items.rivals[i, k]
        if j < 0:
            return False
        if j < first and counts[items.order[j]] < items.upper[items.order[j]]:
            return True
    return False


@compiled
def fractional(first: int, room: float, items: Knapsack, counts: IntArray) -> float:
    """Value of the fractional knapsack over the classes from position ``first`` on."""
    # The aggregated row is a surrogate of all rows (Glover 1968): whatever keeps them keeps it, so Dantzig's
    # greedy fill of it (1957), cut at the last item, is worth at least as much as any bin.
    value = 0.0
    for i in range(first, len(items.order)):
        c = items.order[i]
        if _must_wait(i, first, items, counts):
            continue
        need = items.load[c] * items.upper[c]
        if need >= room:
            part = max(room, 0.0) / items.load[c] if items.load[c] > 0 else items.upper[c]
            return float(value + items.profit[c] * part)
        value += items.profit[c] * items.upper[c]
        room -= need
    return value


@compiled
def change(c: int, amount: int, items: Knapsack, counts: IntArray, residual: IntArray) -> None:
    """Put items of a class into a bin, or take them out."""
    counts[c] += amount
    for r in range(len(residual)):
        residual[r] -= items.usage[r, c] * amount


@compiled
def room_in(c: int, items: Knapsack, counts: IntArray, residual: IntArray) -> int:
    """How many more items of a class a bin takes, by its rows and cuts."""
    cuts = (items.requirements, items.class_group, items.compatible)
    return int(room_for(c, items.usage, residual, counts, *cuts))


@compiled
def _forward(
    i: int, room: float, value: float, goal: float, items: Knapsack, counts: IntArray, residual: IntArray
) -> tuple[int, float, float]:
    """Take as many items as fit from position i on, while the goal can be passed."""
    while i < len(items.order):
        if goal >= 0 and value + fractional(i, room, items, counts) <= goal:
            break
        c = items.order[i]
        if _must_wait(i, i, items, counts):
            i += 1
            continue
        amount = min(items.upper[c], room_in(c, items, counts, residual))
        if amount > 0:
            change(c, amount, items, counts, residual)
            value += items.profit[c] * amount
            room -= items.load[c] * amount
        i += 1
    return i, room, value


@compiled
def backward(
    i: int, room: float, value: float, goal: float, items: Knapsack, counts: IntArray, residual: IntArray
) -> tuple[int, float, float]:
    """Give items back from position i down until the rest can pass the goal; position -1 is the end."""
    # One item less of the last class is the next sibling. Where its bound fails, those with still fewer
    # fail too: the class is the most efficient one from its position on, so each item that it gives up
    # frees room that the rest fills for no more value. The whole class goes back at once.
    while i >= 0:
        c = items.order[i]
        if counts[c] > 0:
            change(c, -1, items, counts, residual)
            value -= items.profit[c]
            room += items.load[c]
            if value + fractional(i + 1, room, items, counts) > goal:
                return i, room, value
            value -= items.profit[c] * counts[c]
            room += items.load[c] * counts[c]
            change(c, -counts[c], items, counts, residual)
        i -= 1
    return i, room, value


@compiled
def tree_knapsack(items: Knapsack, enough: float, nodes: int) -> tuple[IntArray, float, float]:
    """Best counts found, their value, and an upper bound on the value of any bin.

    Bins worth no more than ``enough`` are not searched for; the bound is then at least ``enough``.
    """
    counts, best_counts = np.zeros_like(items.upper), np.zeros_like(items.upper)
    residual = items.capacity.copy()
    room, value, best, i = 1.0, 0.0, 0.0, 0
    goal = -1.0  # the first descent goes to the end: it is the greedy bin, wanted whatever the bound says
    for _ in range(nodes):
        i, room, value = _forward(i, room, value, goal, items, counts, residual)
        if value > best + 1e-12:
            best = value
            best_counts[:] = counts
        # To pass the goal a bin must be better by more than rounding, and than what is asked for: a column
        # is needed only if its reduced cost is negative, and most of the tree is cut off by that alone.
        goal = max(best, enough) * (1 + 1e-9) + 1e-12
        i, room, value = backward(i - 1, room, value, goal, items, counts, residual)
        if i < 0:
            return best_counts, best, goal
        i += 1
    # Cut short: the bound is the best of the subtrees that are left, gathered on the way back to the root,
    # so that a bound on the relaxation follows even from pricing that is not optimal (Farley 1990).
    bound = max(best, enough)
    while i >= 0:
        bound = max(bound, value + fractional(i, room, items, counts))
        i, room, value = backward(i - 1, room, value, bound, items, counts, residual)
        i += 1 if i >= 0 else 0
    return best_counts, best, bound * (1 + 1e-9)
