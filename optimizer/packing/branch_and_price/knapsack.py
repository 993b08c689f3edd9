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
from optimizer.packing.model.compilation import cached, compiled
from optimizer.packing.model.cuts import CutTable
from optimizer.packing.model.problem import BoolArray, FloatArray, IntArray
from optimizer.packing.model.scaling import ScaledRows


class Knapsack(NamedTuple):
    """A bounded knapsack of several rows and cuts, made ready for a search; a bin is one solution.

    Searches take its arrays one by one: numba counts references to the arrays of a tuple in every loop.

    Parameters
    ----------
    order
        Classes worth taking, by profit per load, shape (k,); what follows is in this order.
    profit, load, upper
        Worth of an item, what it takes of the aggregated row of capacity 1, and most items.
    usage, capacity
        Rows of the option, shapes (m, k) and (m,).
    rivals
        Positions that go before a class (`rivals_of`), shape (k, most rivals).
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

    def search(self, enough: float, nodes: int, n: int) -> tuple[IntArray, float, float, int]:
        """`tree_knapsack` of it: counts of n classes, their value, an upper bound, and the nodes."""
        counts = np.zeros(n, dtype=np.int64)
        counts[self.order], value, bound, visited = tree_knapsack(*self[1:], enough, nodes)
        return counts, value, bound, visited


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
    profit, usage = profit[order], rows.usage.take(order, 1)
    before = rivals_of(profit, usage, measures[order], rivals)
    return Knapsack(
        order, profit, load[order], upper[order], usage, rows.capacity, before,
        cuts.requirements, cuts.class_group.take(order, 1), cuts.compatible,
    )  # fmt: skip


@cached
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


@cached
def aggregated(usage: IntArray, capacity: IntArray, weight: FloatArray) -> FloatArray:
    """Share that an item of each class takes of the weighted sum of the rows, shape (n,)."""
    load = np.zeros(usage.shape[1])
    for r in range(len(capacity)):
        for c in range(len(load)):
            load[c] += weight[r] * usage[r, c] / max(1, capacity[r])
    return load


@compiled
def _efficiency(profit: FloatArray, upper: IntArray, load: FloatArray) -> FloatArray:
    """Profit per load, shape (n,); 0 where there are no items, or none worth taking."""
    efficiency = np.zeros(len(profit))
    for c in range(len(profit)):
        if upper[c] > 0 and profit[c] > 0:
            efficiency[c] = profit[c] / max(load[c], 1e-15)
    return efficiency


@cached
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
        efficiency = _efficiency(profit, upper, load)
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
        for r in range(m):
            weight[r] /= total
    return best


@cached
def by_efficiency(profit: FloatArray, upper: IntArray, load: FloatArray) -> IntArray:
    """Classes worth taking, by profit per load."""
    efficiency, worth = _efficiency(profit, upper, load), 0
    for c in range(len(efficiency)):
        worth += efficiency[c] > 0
    return np.argsort(-efficiency)[:worth]


@cached
def rivals_of(profit: FloatArray, usage: IntArray, measures: FloatArray, number: int) -> IntArray:
    """Positions that go before each position, -1 where there are fewer, shape (n, number).

    Some optimal bin has an item of a class only if it has all items of each rival: a rival is worth at
    least as much, takes no more of any row, and is heavier by none of the ``measures``. The nearest are
    kept.
    """
    # An exchange argument: swapping an item for one of a rival keeps every row and cut and loses no value.
    # Of two classes that are alike the earlier goes before the later only, so no circle of rivals can bar
    # all optima. More rivals prune more but are asked at every node; the nearest prune nearly as much.
    rivals = np.full((len(profit), number), -1)
    for i in range(len(profit)):
        k = 0
        for j in range(i - 1, -1, -1):
            if k == number:
                break
            better = profit[j] >= profit[i]
            for w in range(measures.shape[1]):
                better = better and measures[j, w] <= measures[i, w]
            for r in range(usage.shape[0]):
                better = better and usage[r, j] <= usage[r, i]
            if better:
                rivals[i, k] = j
                k += 1
    return rivals


@compiled
def _must_wait(i: int, first: int, upper: IntArray, rivals: IntArray, counts: IntArray) -> bool:
    """Whether a rival before position ``first`` is not used up."""
    # Only positions that are decided already count. A rival that is yet to come may still be used up, so
    # the bound must not leave the class out because of it.
    for k in range(rivals.shape[1]):
        j = rivals[i, k]
        if j < 0:
            return False
        if j < first and counts[j] < upper[j]:
            return True
    return False


@compiled
def fractional(
    first: int,
    room: float,
    profit: FloatArray,
    load: FloatArray,
    upper: IntArray,
    rivals: IntArray,
    counts: IntArray,
) -> float:
    """Value of the fractional knapsack over the positions from ``first`` on."""
    # The aggregated row is a surrogate of all rows (Glover 1968): whatever keeps them keeps it, so Dantzig's
    # greedy fill of it (1957), cut at the last item, is worth at least as much as any bin.
    value = 0.0
    for i in range(first, len(profit)):
        if _must_wait(i, first, upper, rivals, counts):
            continue
        need = load[i] * upper[i]
        if need >= room:
            return float(value + profit[i] * (max(room, 0.0) / load[i] if load[i] > 0 else upper[i]))
        value += profit[i] * upper[i]
        room -= need
    return value


@compiled
def change(i: int, amount: int, usage: IntArray, counts: IntArray, residual: IntArray) -> None:
    """Put items of a class into a bin, or take them out."""
    counts[i] += amount
    for r in range(len(residual)):
        residual[r] -= usage[r, i] * amount


@compiled
def backward(
    i: int,
    room: float,
    value: float,
    goal: float,
    profit: FloatArray,
    load: FloatArray,
    upper: IntArray,
    usage: IntArray,
    rivals: IntArray,
    counts: IntArray,
    residual: IntArray,
) -> tuple[int, float, float]:
    """Give items back from position i down until the rest can pass the goal; position -1 is the end."""
    # One item less of the last class is the next sibling. Where its bound fails, those with still fewer
    # fail too: the class is the most efficient one from its position on, so each item that it gives up
    # frees room that the rest fills for no more value. The whole class goes back at once.
    while i >= 0:
        if counts[i] > 0:
            change(i, -1, usage, counts, residual)
            value -= profit[i]
            room += load[i]
            if value + fractional(i + 1, room, profit, load, upper, rivals, counts) > goal:
                return i, room, value
            value -= profit[i] * counts[i]
            room += load[i] * counts[i]
            change(i, -counts[i], usage, counts, residual)
        i -= 1
    return i, room, value


@cached
def tree_knapsack(
    profit: FloatArray,
    load: FloatArray,
    upper: IntArray,
    usage: IntArray,
    capacity: IntArray,
    rivals: IntArray,
    requirements: IntArray,
    class_group: IntArray,
    compatible: BoolArray,
    enough: float,
    nodes: int,
) -> tuple[IntArray, float, float, int]:
    """Best counts found, their value, an upper bound on the value of any bin, and how many nodes it took.

    Arguments as in `Knapsack`. Bins worth no more than ``enough`` are not searched for; the bound is then at
    least ``enough``.
    """
    n = len(upper)
    counts, best_counts = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=np.int64)
    residual = capacity.copy()
    room, value, best, i = 1.0, 0.0, 0.0, 0
    goal = -1.0  # the first descent goes to the end: it is the greedy bin, wanted whatever the bound says
    for node in range(nodes):
        while i < len(profit):
            if goal >= 0 and value + fractional(i, room, profit, load, upper, rivals, counts) <= goal:
                break
            if not _must_wait(i, i, upper, rivals, counts):
                amount = min(
                    upper[i], room_for(i, usage, residual, counts, requirements, class_group, compatible)
                )
                change(i, amount, usage, counts, residual)
                value += profit[i] * amount
                room -= load[i] * amount
            i += 1
        if value > best + 1e-12:
            best = value
            for c in range(n):
                best_counts[c] = counts[c]
        # To pass the goal a bin must be better by more than rounding, and than what is asked for: a column
        # is needed only if its reduced cost is negative, and most of the tree is cut off by that alone.
        goal = max(best, enough) * (1 + 1e-9) + 1e-12
        i, room, value = backward(
            i - 1, room, value, goal, profit, load, upper, usage, rivals, counts, residual
        )
        if i < 0:
            return best_counts, best, goal, node + 1
        i += 1
    # Cut short: the bound is the best of the subtrees that are left, gathered on the way back to the root,
    # so that a bound on the relaxation follows even from pricing that is not optimal (Farley 1990).
    bound = max(best, enough)
    while i >= 0:
        bound = max(bound, value + fractional(i, room, profit, load, upper, rivals, counts))
        i, room, value = backward(
            i - 1, room, value, bound, profit, load, upper, usage, rivals, counts, residual
        )
        i += 1 if i >= 0 else 0
    return best_counts, best, bound * (1 + 1e-9), nodes
